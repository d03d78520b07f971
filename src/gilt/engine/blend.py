"""MixUp and CutMix: images blended by pairs, and their labels with them.

Shapes: images_BCHW float in [0, 1], labels_B int64, targets_BC float32 whose rows sum to 1. An image's partner is its
neighbour in the batch, whose order is drawn anew each epoch; each pair draws its own part.
"""
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from gilt.training import strength_of

BLENDS = ("mixup", "cutmix")


def blend(images_BCHW: torch.Tensor, labels_B: torch.Tensor, names: Sequence[str], generator: torch.Generator,
          classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (images, targets) after the blends among `names`; other names are left to `augment`.

    Without one, the images and labels_B as they came. Else targets_BC hold the part of each class; `classes` is 2 for a
    network with one output. Where both are named, a coin chooses one for the batch.
    """
    known = [step for step in map(strength_of, names) if step[0] in BLENDS]
    if not known:
        return images_BCHW, labels_B
    name, alpha = known[int(torch.randint(len(known), (), generator=generator))] if len(known) > 1 else known[0]
    parts_B = _beta(alpha, len(images_BCHW), generator)
    if name == "mixup":
        images_BCHW = mixup(images_BCHW, parts_B)
    else:
        images_BCHW, parts_B = cutmix(images_BCHW, parts_B, torch.rand(len(images_BCHW), 2, generator=generator))
    return images_BCHW, _targets(labels_B, parts_B, classes)


def mixup(images_BCHW: torch.Tensor, parts_B: torch.Tensor) -> torch.Tensor:
    """Return part x image + (1 - part) x its neighbour (Zhang et al. 2018, arXiv:1710.09412)."""
    parts = parts_B.to(images_BCHW.device, images_BCHW.dtype)[:, None, None, None]
    return torch.lerp(images_BCHW.roll(1, 0), images_BCHW, parts)


def cutmix(images_BCHW: torch.Tensor, parts_B: torch.Tensor, centres_B2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the images with a rectangle of their neighbour's pixels, and the part of each that is left of the image itself.

    The rectangle has the image's shape and the area 1 - part (Yun et al. 2019, arXiv:1905.04899); `centres_B2` (x, y in
    [0, 1]) is where its middle lies. What would lie beyond the border is not pasted, so more of the image may be left.
    """
    inside, left_B = [], torch.ones(len(images_BCHW), dtype=torch.float64)
    for side, centres_B in zip((images_BCHW.shape[3], images_BCHW.shape[2]), centres_B2.double().unbind(1), strict=True):
        half_B = (1 - parts_B.double()).clamp(min=0).sqrt() * side / 2
        first_B, last_B = ((centres_B * side + sign * half_B).round().clamp(0, side) for sign in (-1, 1))
        place = torch.arange(side)
        inside.append((place >= first_B[:, None]) & (place < last_B[:, None]))
        left_B = left_B * (last_B - first_B) / side
    pasted_B1HW = (inside[1][:, :, None] & inside[0][:, None, :])[:, None].to(images_BCHW.device)
    return torch.where(pasted_B1HW, images_BCHW.roll(1, 0), images_BCHW), 1 - left_B


def _beta(alpha: float, count: int, generator: torch.Generator) -> torch.Tensor:
    """Return float64 (B,) from Beta(alpha, alpha): torch cannot draw it by a generator, NumPy can."""
    seed = int(torch.randint(2 ** 62, (), generator=generator))
    return torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, count))


def _targets(labels_B: torch.Tensor, parts_B: torch.Tensor, classes: int) -> torch.Tensor:
    own_BC = F.one_hot(labels_B, classes).float()
    return torch.lerp(own_BC.roll(1, 0), own_BC, parts_B.to(labels_B.device, torch.float32)[:, None])
