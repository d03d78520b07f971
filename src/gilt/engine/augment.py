"""Augmentation: batch operations on the device, drawn anew for each image at each step.

Shapes: images_BCHW float in [0, 1].
"""
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F

SHIFT = 0.1  # of the width and height, at most


def augment(images_BCHW: torch.Tensor, names: Sequence[str], generator: torch.Generator) -> torch.Tensor:
    """Return the images with the named augmentations applied, each image drawing its own."""
    for name in names:
        images_BCHW = AUGMENTATIONS[name](images_BCHW, generator)
    return images_BCHW


def _coins(count: int, generator: torch.Generator, device: torch.device) -> torch.Tensor:
    return (torch.rand(count, generator=generator) < 0.5).to(device)[:, None, None, None]


def hflip(images_BCHW: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mirror each image left to right with probability 1/2."""
    return torch.where(_coins(len(images_BCHW), generator, images_BCHW.device), images_BCHW.flip(3), images_BCHW)


def vflip(images_BCHW: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Turn each image upside down with probability 1/2."""
    return torch.where(_coins(len(images_BCHW), generator, images_BCHW.device), images_BCHW.flip(2), images_BCHW)


def shift(images_BCHW: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Move each image by up to a tenth of its width and height; the edge is repeated."""
    offsets = (torch.rand(len(images_BCHW), 2, generator=generator) * 2 - 1) * SHIFT * 2  # the grid spans -1 to 1
    theta = torch.eye(2, 3).repeat(len(images_BCHW), 1, 1)
    theta[:, :, 2] = offsets
    grid = F.affine_grid(theta.to(images_BCHW.device), list(images_BCHW.shape), align_corners=False)
    return F.grid_sample(images_BCHW, grid, padding_mode="border", align_corners=False)


AUGMENTATIONS: dict[str, Callable[[torch.Tensor, torch.Generator], torch.Tensor]] = {
    "hflip": hflip, "vflip": vflip, "shift": shift}
