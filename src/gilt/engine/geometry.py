"""Geometry of augmentation: each image mirrored, turned, moved, sheared, zoomed or cropped by its own amount.

Shapes: images_BCHW float in [0, 1]. A view, float64 (B, 3, 3), takes a place in the result to the place in the image that
it shows, in pixels from the centre, x to the right and y down. Views that follow one another are multiplied, and the
image is sampled once: each sampling blurs a little. Beyond the border the border is repeated.
"""
import math
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F

ASPECT = math.log(4 / 3)  # a crop is at most so much wider than high, or higher than wide (Szegedy et al. 2015)
Size = tuple[int, int]  # height, width


def warp(images_BCHW: torch.Tensor, views_B33: torch.Tensor) -> torch.Tensor:
    """Return each image as its view shows it, bilinear, channels-last."""
    height, width = images_BCHW.shape[2:]
    half = torch.tensor([width / 2, height / 2, 1], dtype=torch.float64)  # grid_sample counts from -1 to 1
    entries = (views_B33 * half / half[:, None])[:, :2].float().to(images_BCHW.device).permute(1, 2, 0)
    (a, b, c), (d, e, f) = entries[..., None, None]
    x, y = (((torch.arange(n, device=images_BCHW.device) * 2 + 1) / n - 1) for n in (width, height))
    y = y[:, None]
    grid_BHW2 = torch.stack((a * x + (b * y + c), d * x + (e * y + f)), -1)
    warped = F.grid_sample(images_BCHW, grid_BHW2, padding_mode="border", align_corners=False)
    return warped.contiguous(memory_format=torch.channels_last)


def mirror(images_BCHW: torch.Tensor, mirrored_B: torch.Tensor, dim: int) -> torch.Tensor:
    """Return the images with those of `mirrored_B` turned round along `dim` (3: left to right, 2: top to bottom), exactly."""
    chosen = mirrored_B.to(images_BCHW.device)[:, None, None, None]
    return torch.where(chosen, images_BCHW.flip(dim), images_BCHW)


def _view(rows: Sequence[Sequence[torch.Tensor | float]], count: int) -> torch.Tensor:
    """Return views from the two upper rows of a matrix, whose entries are numbers or tensors (B,)."""
    whole = [[torch.as_tensor(entry, dtype=torch.float64).expand(count) for entry in row] for row in (*rows, (0, 0, 1))]
    return torch.stack([torch.stack(row, -1) for row in whole], -2)


def turned(degrees_B: torch.Tensor) -> torch.Tensor:
    """Return the views of images turned counter-clockwise."""
    angles = degrees_B.double().deg2rad()
    return _view([(angles.cos(), -angles.sin(), 0), (angles.sin(), angles.cos(), 0)], len(angles))


def moved(x_B: torch.Tensor, y_B: torch.Tensor) -> torch.Tensor:
    """Return the views of images moved by pixels to the left and up."""
    return _view([(1, 0, x_B), (0, 1, y_B)], len(x_B))


def sheared(x_B: torch.Tensor, y_B: torch.Tensor) -> torch.Tensor:
    """Return the views of images whose rows move by `x_B` pixels a row, and whose columns by `y_B` pixels a column."""
    return _view([(1, x_B, 0), (y_B, 1, 0)], len(x_B))


def scaled(x_B: torch.Tensor, y_B: torch.Tensor) -> torch.Tensor:
    """Return the views that show `x_B` times the image's width and `y_B` times its height."""
    return _view([(x_B, 0, 0), (0, y_B, 0)], len(x_B))


def coins(count: int, probability: float, generator: torch.Generator) -> torch.Tensor:
    """Return bool (B,): heads with a probability."""
    return torch.rand(count, generator=generator) < probability


def either_way(count: int, most: float, generator: torch.Generator) -> torch.Tensor:
    """Return float64 (B,) drawn evenly from -most to most."""
    return (torch.rand(count, generator=generator).double() * 2 - 1) * most


def _flip(count: int, probability: float, generator: torch.Generator) -> torch.Tensor:
    return 1 - 2 * coins(count, probability, generator).double()


def _hflip(count: int, probability: float, size: Size, generator: torch.Generator) -> torch.Tensor:
    return scaled(_flip(count, probability, generator), torch.ones(count))


def _vflip(count: int, probability: float, size: Size, generator: torch.Generator) -> torch.Tensor:
    return scaled(torch.ones(count), _flip(count, probability, generator))


def _rotate(count: int, degrees: float, size: Size, generator: torch.Generator) -> torch.Tensor:
    return turned(either_way(count, degrees, generator))


def _shift(count: int, part: float, size: Size, generator: torch.Generator) -> torch.Tensor:
    x, y = ((torch.rand(count, 2, generator=generator).double() * 2 - 1) * part).unbind(1)
    return moved(x * size[1], y * size[0])


def _shear(count: int, degrees: float, size: Size, generator: torch.Generator) -> torch.Tensor:
    return sheared(either_way(count, degrees, generator).deg2rad().tan(), torch.zeros(count))


def _zoom(count: int, part: float, size: Size, generator: torch.Generator) -> torch.Tensor:
    """Draw width and height apart, as Keras's ImageDataGenerator does."""
    return scaled(*(1 + either_way(count, part, generator) for _ in range(2)))


def _crop(count: int, least: float, size: Size, generator: torch.Generator) -> torch.Tensor:
    """Draw an area from `least` to 1, then how wide it is for its height, so that it lies within the image, then where."""
    area = 1 - torch.rand(count, generator=generator).double() * (1 - least)
    aspect = (either_way(count, 1, generator) * (-area.log()).clamp(max=ASPECT)).exp()
    width, height = (area * aspect).sqrt(), (area / aspect).sqrt()
    x, y = ((1 - side) / 2 * either_way(count, 1, generator) for side in (width, height))
    return moved(x * size[1], y * size[0]) @ scaled(width, height)


VIEWS: dict[str, Callable[[int, float, Size, torch.Generator], torch.Tensor]] = {
    "hflip": _hflip, "vflip": _vflip, "rotate": _rotate, "shift": _shift, "shear": _shear, "zoom": _zoom, "crop": _crop}
FLIPS = {"hflip": 3, "vflip": 2}


def transform(images_BCHW: torch.Tensor, steps: Sequence[tuple[str, float]], generator: torch.Generator) -> torch.Tensor:
    """Return the images after `steps`, each a name of VIEWS and a strength, sampled once; flips alone move whole pixels."""
    count, size = len(images_BCHW), (images_BCHW.shape[2], images_BCHW.shape[3])
    if all(name in FLIPS for name, _ in steps):
        for name, probability in steps:
            images_BCHW = mirror(images_BCHW, coins(count, probability, generator), FLIPS[name])
        return images_BCHW
    views = torch.eye(3, dtype=torch.float64)
    for name, strength in steps:
        views = views @ VIEWS[name](count, strength, size, generator)
    return warp(images_BCHW, views)
