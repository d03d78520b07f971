"""Augmentation: batch operations on the device, drawn anew for each image at each step.

Shapes: images_BCHW float in [0, 1], channels-last. What is drawn is drawn on the CPU, so a seed means the same on any
device (but for the pixels of `noise`, which each kind of device draws itself). The names and their strengths are
`gilt.training.AUGMENTATIONS`; `gilt augment --preview` draws them.
"""
from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np
import torch

from gilt.engine import colour, degrade, policies
from gilt.engine.batches import to_images
from gilt.engine.blend import BLENDS, blend
from gilt.engine.geometry import VIEWS, coins, either_way, transform
from gilt.training import strength_of

DEGRADED = 0.5  # of the images are blurred, or pass through a JPEG; the others stay (Wang et al. 2020)


def augment(images_BCHW: torch.Tensor, names: Sequence[str], generator: torch.Generator) -> torch.Tensor:
    """Return the images with the named augmentations applied in their order, each image drawing its own.

    Neighbours among flips, rotations, shifts, shears, zooms and crops are one sampling. `mixup` and `cutmix` change labels
    too: they are passed over here, and done by `gilt.engine.blend.blend`. Raises ValueError for an unknown name.
    """
    steps = [step for step in map(strength_of, names) if step[0] not in BLENDS]
    for is_geometry, run in groupby(steps, key=lambda step: step[0] in VIEWS):
        if is_geometry:
            images_BCHW = transform(images_BCHW, list(run), generator)
            continue
        for name, strength in run:
            images_BCHW = OPERATIONS[name](images_BCHW, strength, generator)
    return images_BCHW.contiguous(memory_format=torch.channels_last)


def augmented(pixels_BHWC: np.ndarray, labels: Sequence[int], names: Sequence[str], *, seed: int,
              classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what a training step would see of uint8 pixels: (pixels_BHWC uint8, targets_BC float32)."""
    generator = torch.Generator().manual_seed(seed)
    images_BCHW = augment(to_images(torch.from_numpy(np.array(pixels_BHWC))), names, generator)
    images_BCHW, targets = blend(images_BCHW, torch.tensor(labels), names, generator, classes)
    if targets.ndim == 1:
        targets = torch.nn.functional.one_hot(targets, classes).float()
    return (images_BCHW * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy(), targets.numpy()


def _brightness(images_BCHW: torch.Tensor, most: float, generator: torch.Generator) -> torch.Tensor:
    return colour.brightness(images_BCHW, 1 + either_way(len(images_BCHW), most, generator))


def _channel_shift(images_BCHW: torch.Tensor, most: float, generator: torch.Generator) -> torch.Tensor:
    count, channels = images_BCHW.shape[:2]
    return colour.channel_shift(images_BCHW, either_way(count * channels, most, generator).view(count, channels))


def _noise(images_BCHW: torch.Tensor, deviation: float, generator: torch.Generator) -> torch.Tensor:
    return colour.noise(images_BCHW, deviation, int(torch.randint(2 ** 62, (), generator=generator)))


def _blur(images_BCHW: torch.Tensor, most: float, generator: torch.Generator) -> torch.Tensor:
    return _degraded(images_BCHW, degrade.blur, torch.rand(len(images_BCHW), generator=generator) * most, generator)


def _jpeg(images_BCHW: torch.Tensor, lowest: float, generator: torch.Generator) -> torch.Tensor:
    qualities_B = torch.randint(int(lowest), 101, (len(images_BCHW),), generator=generator)
    return _degraded(images_BCHW, degrade.jpeg, qualities_B, generator)


def _degraded(images_BCHW: torch.Tensor, operation: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
              amounts_B: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return the images, half of them by chance after `operation`."""
    chosen = coins(len(images_BCHW), DEGRADED, generator).nonzero()[:, 0]
    if not len(chosen):
        return images_BCHW
    there = chosen.to(images_BCHW.device)
    return images_BCHW.index_copy(0, there, operation(images_BCHW[there], amounts_B[chosen]))


OPERATIONS: dict[str, Callable[[torch.Tensor, float, torch.Generator], torch.Tensor]] = {
    "brightness": _brightness, "channel_shift": _channel_shift, "noise": _noise, "blur": _blur, "jpeg": _jpeg,
    "randaugment": policies.randaugment, "trivialaugment": policies.trivialaugment}
