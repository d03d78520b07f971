"""Features of a table's images, by a named network with local weights, or made by hand where there are none.

Shapes: N images, S pixels a side, D features.
"""
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gilt.config import FeaturesConfig, Preprocessing
from gilt.data.facts import LUMA
from gilt.data.pixels import PixelCache, default_cache
from gilt.data.table import ImageTable
from gilt.errors import ConfigError
from gilt.training import named_weights

CELLS, LEVELS, RINGS, SIDE = 8, 4, 16, 64  # of `pixels`: a small picture's side, levels of a colour, rings of a spectrum
CENTRES, SHARES = (0.5, 0.05, -3.5), (3, 15, 8)  # of each part: on CIFAR-10, each then makes up a third of the variance
PIECE = 256  # images at a time
WEAK = ("small pictures, colour histograms and spectra: hand-made features, which are weak. They see colour, light and layout, "
        "and know no object. Name a network with weights for more (features.model, features.weights)")


class Features(NamedTuple):
    """float32 (N, D), what they are in words, and whether they are the weak ones that need no weights."""

    values_ND: np.ndarray
    said: str
    weak: bool


def embed(table: ImageTable, config: FeaturesConfig | None = None, *, cache: PixelCache | None = None) -> Features:
    """Return the features of a table's rows, in their order. What a network computes is kept by content: see `FrozenFeatures`.

    Raises ConfigError or ModelError for a network or weights that cannot be had, ImageError for an image that cannot be read.
    """
    config, cache = config or FeaturesConfig(), cache or default_cache()
    if config.model == "pixels":
        side = config.size or SIDE
        if side % CELLS or side < 2 * CELLS:
            raise ConfigError(f"features.size={side}: the features 'pixels' take a multiple of {CELLS} pixels, 16 or more")
        return Features(_by_hand(table, side, cache), WEAK, True)
    return _by_network(table, config, cache)


def _by_network(table: ImageTable, config: FeaturesConfig, cache: PixelCache) -> Features:
    from gilt.engine.frozen import FrozenFeatures
    from gilt.models import inception
    from gilt.models.device import pick_device
    from gilt.models.weights import load_weights
    from gilt.models.zoo import create, find

    weights = str(config.weights)
    if not named_weights(weights) and not Path(weights).is_file():
        raise ConfigError(f"features.weights={weights!r} is no file: name the weights of {config.model}, or leave out "
                          "features.model ('pixels' needs none)")
    if config.model == inception.NAME:
        network, size = inception.inception(weights), config.size or _own_size(table)
    else:
        size = config.size or find(config.model).input_size
        network = create(config.model, input_size=size, arguments=config.arguments)
        load_weights(network, weights, model=config.model)
    network = network.to(pick_device(config.device))
    made = FrozenFeatures(network, config.model, Preprocessing(size=size), cache, config.arguments).of(table)
    return Features(made, f"{made.shape[1]:,} features of {config.model} ({Path(weights).name}) at {size} pixels", False)


def _own_size(table: ImageTable) -> int:
    """Return the side of the images where all are squares of one size, as standard FID sees them; else Inception's own."""
    from gilt.models.inception import SIDE as LARGEST

    sides = set(table.frame["width"].dropna()) | set(table.frame["height"].dropna())
    return min(int(sides.pop()), LARGEST) if len(sides) == 1 else LARGEST


def _by_hand(table: ImageTable, side: int, cache: PixelCache) -> np.ndarray:
    pack, places = cache.pixels(table.paths, list(table.frame["sha256"]), Preprocessing(size=side))
    pieces = [hand_made(pack[places[first:first + PIECE]]) for first in range(0, len(places), PIECE)]
    return np.concatenate(pieces) if pieces else np.zeros((0, 3 * CELLS**2 + LEVELS**3 + RINGS), np.float32)


def hand_made(pixels_NSS3: np.ndarray) -> np.ndarray:
    """Return float32 (N, 272) of uint8 pixels: 8x8 colours, a 4x4x4 histogram of colours (its root), a spectrum in 16 rings."""
    count, side = pixels_NSS3.shape[:2]
    images = pixels_NSS3.astype(np.float32) / 255
    cell = side // CELLS
    small = images.reshape(count, CELLS, cell, CELLS, cell, 3).mean((2, 4)).reshape(count, -1)
    codes = (pixels_NSS3 // (256 // LEVELS)).astype(np.int64) @ np.array([LEVELS**2, LEVELS, 1])
    codes = codes.reshape(count, -1) + LEVELS**3 * np.arange(count)[:, None]
    histogram = np.bincount(codes.ravel(), minlength=count * LEVELS**3).reshape(count, -1) / side**2
    window = np.hanning(side).astype(np.float32)
    luma = images @ LUMA
    power = np.abs(np.fft.rfft2((luma - luma.mean((1, 2), keepdims=True)) * window[:, None] * window)) ** 2
    radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    ring = np.minimum((radius * 2 * RINGS).astype(int), RINGS - 1).ravel()
    sums = np.stack([power.reshape(count, -1)[:, ring == k].mean(1) for k in range(RINGS)], 1)
    spectrum = np.log10(sums / side**2 + 1e-6)
    parts = zip((small, np.sqrt(histogram), spectrum), CENTRES, SHARES, strict=True)
    return np.concatenate([share * (part - centre) for part, centre, share in parts], 1).astype(np.float32)
