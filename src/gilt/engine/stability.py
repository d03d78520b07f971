"""Stability: does a detector's verdict survive what happens to every image on its way: a new encoding, a resize, a crop?

Shapes: V variants (the image itself first), H W pixels, N images.
"""
from collections.abc import Callable

import numpy as np
from PIL import Image

from gilt.config import Preprocessing
from gilt.data.perturb import cropped, encoded, resized
from gilt.data.pixels import fit, plain_rgb

RESIZED, CROPPED = 0.9, 0.95  # of a side
MOST_SIDE = {"JPEG": 65_500, "WEBP": 16_383}  # pixels that the formats have room for


def _encoded(kind: str, quality: int, **options: int) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image if max(image.size) > MOST_SIDE[kind] else encoded(image, kind, quality, **options)


# mild enough that people would not see them: web pages and messengers do as much or more
CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG 90": _encoded("JPEG", 90), "JPEG 75": _encoded("JPEG", 75), "WebP 80": _encoded("WEBP", 80, method=1),
    "resize 90 %": lambda image: resized(image, RESIZED, back=True), "crop 95 %": lambda image: cropped(image, CROPPED)}


def variants(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """Return uint8 (V, H, W, 3): an upright image and each of its CHANGES, made from the one decoding, for a network.

    An image too long for a format stays as it is in that variant.
    """
    image = plain_rgb(image).copy()
    return np.stack([np.asarray(fit(one, preprocessing)) for one in (image, *(change(image) for change in CHANGES.values()))])


def flips(called_NV: np.ndarray) -> list[str]:
    """Return, for bool (N, V), the names of the changes under which an image is called other than it is, "" for none."""
    names = list(CHANGES)
    return [", ".join(names[i] for i in np.flatnonzero(row[1:] != row[0])) for row in called_NV]
