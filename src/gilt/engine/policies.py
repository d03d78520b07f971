"""RandAugment and TrivialAugment: operations drawn by chance, so that nobody has to choose them.

Shapes: images_BCHW float in [0, 1]. Images that drew the same operation go through it together; all that is geometry is
one sampling. Both draw from the same list (Cubuk et al. 2020, arXiv:1909.13719, table 6; Müller & Hutter 2021,
arXiv:2103.10158) and differ in how strong an operation is. Where the authors fill what lies beyond the border with grey,
it is repeated here.
"""
from collections.abc import Callable, Mapping

import torch

from gilt.engine import colour, geometry

COLOURS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "autocontrast": lambda images_BCHW, _: colour.autocontrast(images_BCHW),
    "equalize": lambda images_BCHW, _: colour.equalize(images_BCHW),
    "solarize": colour.solarize, "color": colour.saturation, "posterize": colour.posterize, "contrast": colour.contrast,
    "brightness": colour.brightness, "sharpness": colour.sharpness}
VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "rotate": geometry.turned,
    "shear_x": lambda values_B: geometry.sheared(values_B, torch.zeros_like(values_B)),
    "shear_y": lambda values_B: geometry.sheared(torch.zeros_like(values_B), values_B),
    "translate_x": lambda values_B: geometry.moved(values_B, torch.zeros_like(values_B)),
    "translate_y": lambda values_B: geometry.moved(torch.zeros_like(values_B), values_B)}
OPERATIONS = ("identity", *COLOURS, *VIEWS)
MOST = 30  # the largest magnitude
# the strongest of TrivialAugment Wide: degrees, pixels a pixel, pixels, a part, bits taken away
TRIVIAL = {"rotate": 135, "shear_x": 0.99, "shear_y": 0.99, "translate_x": 32, "translate_y": 32, "enhance": 0.99,
           "posterize": 6}


def randaugment_most(height: int, width: int) -> dict[str, float]:
    """Return the strongest of RandAugment's operations, as TRIVIAL does, for images of a size."""
    return {"rotate": 30, "shear_x": 0.3, "shear_y": 0.3, "translate_x": 150 / 331 * width, "translate_y": 150 / 331 * height,
            "enhance": 0.9, "posterize": 4}


def randaugment(images_BCHW: torch.Tensor, magnitude: float, generator: torch.Generator) -> torch.Tensor:
    """Put each image through two operations, drawn anew, of `magnitude` 0 to 30."""
    most = randaugment_most(*images_BCHW.shape[2:])
    for _ in range(2):
        images_BCHW = _draw(images_BCHW, torch.full((len(images_BCHW),), magnitude / MOST), most, generator)
    return images_BCHW


def trivialaugment(images_BCHW: torch.Tensor, magnitude: float, generator: torch.Generator) -> torch.Tensor:
    """Put each image through one operation of a magnitude drawn from 0 to `magnitude` (30 is TrivialAugment Wide's)."""
    levels_B = torch.randint(int(magnitude) + 1, (len(images_BCHW),), generator=generator) / MOST
    return _draw(images_BCHW, levels_B, TRIVIAL, generator)


def _draw(images_BCHW: torch.Tensor, levels_B: torch.Tensor, most: Mapping[str, float],
          generator: torch.Generator) -> torch.Tensor:
    """Draw an operation for each image, and which way it goes; a level is a part of the strongest."""
    drawn_B = torch.randint(len(OPERATIONS), (len(images_BCHW),), generator=generator)
    signed_B = torch.where(geometry.coins(len(images_BCHW), 0.5, generator), -1, 1) * levels_B.double()
    values_B = torch.zeros(len(images_BCHW), dtype=torch.float64)
    for place, name in enumerate(OPERATIONS):
        values_B = torch.where(drawn_B == place, value_of(name, signed_B, most), values_B)
    return operate(images_BCHW, drawn_B, values_B)


def value_of(name: str, levels_B: torch.Tensor, most: Mapping[str, float]) -> torch.Tensor:
    """Return what levels from -1 to 1 mean to an operation: degrees, pixels, a factor, bits or a threshold."""
    if name in VIEWS:
        return levels_B * most[name]
    if name == "posterize":
        return 8 - (levels_B.abs() * most[name]).round()
    if name == "solarize":
        return 255 * (1 - levels_B.abs())
    return 1 + levels_B * most["enhance"]


def operate(images_BCHW: torch.Tensor, drawn_B: torch.Tensor, values_B: torch.Tensor) -> torch.Tensor:
    """Put each image through the operation OPERATIONS[drawn_B] with its value."""
    result = images_BCHW.clone()
    views_B33 = torch.eye(3, dtype=torch.float64).repeat(len(drawn_B), 1, 1)
    warped_B = torch.zeros(len(drawn_B), dtype=torch.bool)
    for place, name in enumerate(OPERATIONS):
        chosen = (drawn_B == place).nonzero()[:, 0]
        if name in VIEWS:
            views_B33[chosen], warped_B[chosen] = VIEWS[name](values_B[chosen]), True
        elif name in COLOURS and len(chosen):
            there = chosen.to(images_BCHW.device)
            result[there] = COLOURS[name](images_BCHW[there], values_B[chosen])
    if warped_B.any():
        there = warped_B.nonzero()[:, 0].to(images_BCHW.device)
        result[there] = geometry.warp(images_BCHW[there], views_B33[warped_B])
    return result
