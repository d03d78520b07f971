"""Colour in augmentation: each image lit, tinted or made noisy by its own amount.

Shapes: images_BCHW float in [0, 1], amounts (B,) or (B, C). Results are clamped to [0, 1]. The operations that RandAugment
and TrivialAugment draw from are Pillow's: `posterize`, `solarize` and `equalize` count in steps of 1/255.
"""
import torch
from torch.nn import functional as F

GREY = (0.2989, 0.587, 0.114)  # what red, green and blue weigh in the light of a colour (ITU-R BT.601)


def _over(amounts: torch.Tensor, images_BCHW: torch.Tensor) -> torch.Tensor:
    """Return amounts (B,) or (B, C) as float32 that broadcasts over images, on their device."""
    amounts = amounts.to(images_BCHW.device, torch.float32)
    return amounts.reshape(len(amounts), -1, 1, 1)


def _grey(images_BCHW: torch.Tensor) -> torch.Tensor:
    red, green, blue = images_BCHW.unbind(1)
    return (GREY[0] * red + GREY[1] * green + GREY[2] * blue)[:, None]


def _away(images_BCHW: torch.Tensor, plain: torch.Tensor, factors_B: torch.Tensor) -> torch.Tensor:
    """Return the way from `plain` to the images, factor 0 to 1, and beyond them, above 1."""
    return torch.lerp(plain.expand_as(images_BCHW), images_BCHW, _over(factors_B, images_BCHW)).clamp_(0, 1)


def brightness(images_BCHW: torch.Tensor, factors_B: torch.Tensor) -> torch.Tensor:
    """Multiply each image's light by its factor: 0 is black, 1 the image."""
    return (images_BCHW * _over(factors_B, images_BCHW)).clamp_(0, 1)


def channel_shift(images_BCHW: torch.Tensor, offsets_BC: torch.Tensor) -> torch.Tensor:
    """Add each colour's offset to it."""
    return (images_BCHW + _over(offsets_BC, images_BCHW)).clamp_(0, 1)


def noise(images_BCHW: torch.Tensor, deviation: float, seed: int) -> torch.Tensor:
    """Add Gaussian noise, drawn by `seed` on the images' device: a GPU's noise is not the CPU's, but its own each time."""
    own = torch.Generator(images_BCHW.device).manual_seed(seed)
    drawn_BHWC = torch.empty_like(images_BCHW.permute(0, 2, 3, 1), memory_format=torch.contiguous_format)
    drawn_BHWC.normal_(0, deviation, generator=own)
    return drawn_BHWC.permute(0, 3, 1, 2).add_(images_BCHW).clamp_(0, 1)


def saturation(images_BCHW: torch.Tensor, factors_B: torch.Tensor) -> torch.Tensor:
    """Multiply each image's colourfulness: 0 is grey, 1 the image."""
    return _away(images_BCHW, _grey(images_BCHW), factors_B)


def contrast(images_BCHW: torch.Tensor, factors_B: torch.Tensor) -> torch.Tensor:
    """Multiply each image's distance from its mean grey: 0 is that grey, 1 the image."""
    return _away(images_BCHW, _grey(images_BCHW).mean((1, 2, 3), keepdim=True), factors_B)


def sharpness(images_BCHW: torch.Tensor, factors_B: torch.Tensor) -> torch.Tensor:
    """Move each image away from a smoothed one: 0 is smooth, 1 the image, 2 sharpened. The outermost pixels stay."""
    if min(images_BCHW.shape[2:]) < 3:
        return images_BCHW
    smooth = images_BCHW.clone()
    inner = images_BCHW[:, :, 1:-1, 1:-1]
    smooth[:, :, 1:-1, 1:-1] = (9 * F.avg_pool2d(images_BCHW, 3, 1) + 4 * inner) / 13  # Pillow's kernel: 1 round a 5
    return _away(images_BCHW, smooth, factors_B)


def posterize(images_BCHW: torch.Tensor, bits_B: torch.Tensor) -> torch.Tensor:
    """Keep the highest `bits_B` of the 8 bits of each colour."""
    step = _over(2.0 ** (8 - bits_B), images_BCHW)
    return (_bytes(images_BCHW) / step).floor_() * step / 255


def solarize(images_BCHW: torch.Tensor, thresholds_B: torch.Tensor) -> torch.Tensor:
    """Invert what is at least as light as the threshold, which counts from 0 to 255."""
    return torch.where(_bytes(images_BCHW) >= _over(thresholds_B, images_BCHW), 1 - images_BCHW, images_BCHW)


def autocontrast(images_BCHW: torch.Tensor) -> torch.Tensor:
    """Stretch each colour of each image to the whole range; a colour of one value stays."""
    low, high = images_BCHW.amin((2, 3), keepdim=True), images_BCHW.amax((2, 3), keepdim=True)
    flat = high <= low
    return torch.where(flat, images_BCHW, (images_BCHW - low) / torch.where(flat, 1, high - low)).clamp_(0, 1)


def equalize(images_BCHW: torch.Tensor) -> torch.Tensor:
    """Spread each colour of each image so that every value is about equally frequent, as Pillow does."""
    count, channels, height, width = images_BCHW.shape
    values_RN = _bytes(images_BCHW).long().reshape(count * channels, height * width)  # R: one row a colour of an image
    first = torch.arange(len(values_RN), device=values_RN.device)[:, None] * 256
    histogram = torch.bincount((values_RN + first).flatten(), minlength=256 * len(values_RN)).view(-1, 256)
    lightest = values_RN.amax(1, keepdim=True)
    step = (height * width - histogram.gather(1, lightest)) // 255
    below = histogram.cumsum(1) - histogram
    table = ((below + step // 2) // step.clamp(min=1)).clamp_(max=255)
    table = torch.where(step > 0, table, torch.arange(256, device=table.device))  # too few values to spread
    return (table.gather(1, values_RN).view(images_BCHW.shape) / 255).to(images_BCHW.dtype)


def _bytes(images_BCHW: torch.Tensor) -> torch.Tensor:
    return (images_BCHW * 255).round_()
