"""Where a map lies: the share of it in the middle of the image, or inside a mask, against what a flat map would have.

A map is one number a place, 0 or more: how much the place speaks for what the classifier said. "Attention" is the map
divided by its sum. A map without anything in it has no attention, and is counted apart.

Shapes: N images, H W pixels.
"""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gilt.evaluation.metrics import Metric
from gilt.evaluation.uncertainty import LEVEL

DRAWS = 2_000  # bootstrap resamples of a mean
ENOUGH = 5  # images, below which a mean has no interval
CENTRE = 0.5  # of the image's area: the middle square


@dataclass(frozen=True)
class Attention:
    """Where the maps of a group of images lie.

    `centre` is the mean share in the middle square of half the area, `inside` that inside the masks, beside `area`, the mean
    part of the image that the masks take, which is what a flat map would have; both are None without masks. `mean_map` is the
    mean attention (H, W) times H * W, so that 1 is a flat map's. `n` counts the images, `blank` those without a map.
    """

    name: str
    centre: Metric
    inside: Metric | None
    gain: Metric | None
    area: float | None
    mean_map: np.ndarray
    n: int
    blank: int


def centre_weights(height: int, width: int, area: float = CENTRE) -> np.ndarray:
    """Return (H, W) in [0, 1]: which part of each pixel lies in the middle square (or rectangle) of that part of the area.

    They add up to exactly area * H * W, whatever the size: pixels on the edge count in part.
    """
    def along(size: int) -> np.ndarray:
        half = size * area ** 0.5 / 2
        low, high = size / 2 - half, size / 2 + half
        edges = np.arange(size + 1)
        return np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, 1)

    return np.outer(along(height), along(width))


def normalised(map_HW: np.ndarray) -> np.ndarray | None:
    """Return a map divided by its sum, float64; None where there is nothing in it."""
    values = np.clip(np.nan_to_num(np.asarray(map_HW, np.float64), posinf=0), 0, None)
    total = values.sum()
    return values / total if total > 0 else None


def share(map_HW: np.ndarray, region_HW: np.ndarray) -> float:
    """Return which part of a map lies in a region, weights (H, W) in [0, 1]; NaN for a map without anything in it."""
    attention = normalised(map_HW)
    return float("nan") if attention is None else float((attention * region_HW).sum())


def mean_metric(values: Sequence[float] | np.ndarray, *, seed: int = 0) -> Metric:
    """Return the mean of one value an image with its bootstrap interval over images (percentiles); NaN does not count.

    Below 5 images there is no interval: resampling so few would promise too much.
    """
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    if not len(known):
        return Metric(None, None, None, 0)
    mean = float(known.mean())
    if len(known) < ENOUGH:
        return Metric(mean, None, None, len(known))
    rng = np.random.default_rng(seed)
    means = np.concatenate([rng.choice(known, (200, len(known))).mean(1) for _ in range(DRAWS // 200)])
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Metric(mean, float(low), float(high), len(known))


class Gatherer:
    """Adds maps up, one at a time, for one group of images: memory is that of one map."""

    def __init__(self, name: str) -> None:
        self.name, self.total, self.blank = name, None, 0
        self.centre: list[float] = []
        self.inside: list[tuple[float, float]] = []

    def add(self, map_HW: np.ndarray, mask_HW: np.ndarray | None = None) -> None:
        """Count one map, and its share inside `mask_HW`, weights in [0, 1]."""
        attention = normalised(map_HW)
        self.blank += attention is None
        self.centre.append(share(map_HW, centre_weights(*map_HW.shape)))
        if mask_HW is not None:
            self.inside.append((share(map_HW, mask_HW), float(mask_HW.mean())))
        if attention is None:
            attention = np.zeros(map_HW.shape)
        self.total = attention if self.total is None else self.total + attention

    def result(self) -> Attention:
        """Return what the maps come to. Raises ValueError without one."""
        if self.total is None:
            raise ValueError("no map was added")
        shown = len(self.centre) - self.blank
        masked = [(part, area) for part, area in self.inside if part == part]
        inside = gain = area = None
        if masked:
            parts, areas = np.array(masked).T
            inside, gain, area = mean_metric(parts), mean_metric(parts - areas), float(areas.mean())
        return Attention(self.name, mean_metric(self.centre), inside, gain, area,
                         self.total * self.total.size / max(shown, 1), len(self.centre), self.blank)
