"""Stability: does a detector's verdict survive what happens to every image on its way: a new encoding, a resize, a crop?

Shapes: V variants (the image itself first), H W pixels, N images.
"""
import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from gilt.config import Preprocessing
from gilt.data.pixels import fit, plain_rgb

RESIZED, CROPPED = 0.9, 0.95  # of a side
MOST_SIDE = {"JPEG": 65_500, "WEBP": 16_383}  # pixels that the formats have room for


def _encoded(format: str, quality: int) -> Callable[[Image.Image], Image.Image]:
    def change(image: Image.Image) -> Image.Image:
        if max(image.size) > MOST_SIDE[format]:
            return image
        buffer = io.BytesIO()
        image.save(buffer, format, quality=quality, **({"method": 1} if format == "WEBP" else {}))
        with Image.open(buffer, formats=[format]) as again:
            return again.convert("RGB")
    return change


def _resized(image: Image.Image) -> Image.Image:
    small = tuple(max(1, round(RESIZED * side)) for side in image.size)
    return image.resize(small, Image.Resampling.BICUBIC).resize(image.size, Image.Resampling.BICUBIC)


def _cropped(image: Image.Image) -> Image.Image:
    width, height = (max(1, round(CROPPED * side)) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


# mild enough that people would not see them: web pages and messengers do as much or more
CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG 90": _encoded("JPEG", 90), "JPEG 75": _encoded("JPEG", 75), "WebP 80": _encoded("WEBP", 80),
    "resize 90 %": _resized, "crop 95 %": _cropped}


def variants(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """Return uint8 (V, H, W, 3): an upright image and each of its CHANGES, made from the one decoding, for a network.

    An image too long for a format stays as it is in that variant.
    """
    image = plain_rgb(image).copy()
    image.info = {}  # an encoder would write a colour profile along, and refuse the image for an odd one
    return np.stack([np.asarray(fit(one, preprocessing)) for one in (image, *(change(image) for change in CHANGES.values()))])


def flips(called_NV: np.ndarray) -> list[str]:
    """Return, for bool (N, V), the names of the changes under which an image is called other than it is, "" for none."""
    names = list(CHANGES)
    return [", ".join(names[i] for i in np.flatnonzero(row[1:] != row[0])) for row in called_NV]
