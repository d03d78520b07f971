"""Over seeds: a metric that several trainings came to, as one number with its spread; and a detector on groups of images.

Shapes: N images.
"""
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from gilt.config import REAL
from gilt.evaluation.calibration import decide, p_generated
from gilt.evaluation.detection import at_threshold
from gilt.evaluation.metrics import Metric
from gilt.evaluation.operating import ranking_of_each
from gilt.evaluation.predictions import Predictions
from gilt.evaluation.uncertainty import t_interval

G = TypeVar("G", bound=Hashable)


@dataclass(frozen=True)
class Cell:
    """A metric over seeds: their mean, 95 % interval (low, high), standard deviation, each seed's value, and n images.

    `over_seeds` is Student's t interval over the seeds' values, None below two seeds or without spread; `over_images` the mean
    ends of the seeds' own intervals over images. `low` and `high` are the wider of both, as far as they are there: seeds say
    nothing of which images were to be judged, and images nothing of the training's luck. `n` is that of the seed with the
    fewest images.
    """

    value: float | None
    low: float | None
    high: float | None
    sd: float | None
    seeds: tuple[float, ...]
    n: int
    over_seeds: tuple[float, float] | None = None
    over_images: tuple[float, float] | None = None


def over_seeds(metrics: Sequence[Metric], *, least: float = 0.0) -> Cell:
    """Return one metric of several seeds as a Cell; seeds that leave it undefined do not count. `least` is its lower bound."""
    known = [one for one in metrics if one.value is not None]
    n = min((one.n for one in known or metrics), default=0)
    if not known:
        return Cell(None, None, None, None, (), n)
    values = np.array([one.value for one in known])
    mean, low, high = t_interval(values)
    by_seed = (max(low, least), min(high, 1.0)) if len(values) > 1 and np.ptp(values) > 1e-9 else None
    ends = [(one.low, one.high) for one in known if one.low is not None and one.high is not None]
    by_image = (float(np.mean([low for low, _ in ends])), float(np.mean([high for _, high in ends]))) if ends else None
    there = [pair for pair in (by_seed, by_image) if pair]
    return Cell(mean, min((pair[0] for pair in there), default=None), max((pair[1] for pair in there), default=None),
                float(values.std(ddof=1)) if len(values) > 1 else None, tuple(values.tolist()), n, by_seed, by_image)


def mean_of(metrics: Sequence[Metric]) -> Metric:
    """Return the mean of metrics of one seed, each counting alike; its interval is as wide as theirs are on the mean."""
    known = [one for one in metrics if one.value is not None]
    if not known:
        return Metric(None, None, None, 0)
    ends = [(one.low, one.high) for one in known if one.low is not None and one.high is not None]
    low, high = np.mean(ends, 0).tolist() if ends else (None, None)
    return Metric(float(np.mean([one.value for one in known])), low, high, min(one.n for one in known))


def difference(new: Mapping[int, Metric], known: Mapping[int, Metric]) -> Cell:
    """Return new - known, paired by seed: the interval is over seeds alone."""
    pairs = [(new[seed].value, known[seed].value) for seed in new if seed in known]
    apart = [Metric(a - b, None, None, 0) for a, b in pairs if a is not None and b is not None]
    return over_seeds(apart, least=-1.0)


def group_metrics(predictions: Predictions, groups: Mapping[G, np.ndarray]) -> dict[G, dict[str, Metric]]:
    """Return what a detector is worth on groups of images, given as masks (N,) that may share images (the real ones, say).

    Metrics at its own threshold, and of ranking where a group has both sides; all groups see the same resamples. A group
    without a readable image is left out.
    """
    known = predictions.traced
    p, origins = p_generated(predictions)[known], np.array(predictions.origin, object)[known]
    generated, called = origins != REAL, decide(p, predictions.calibration)
    masks = {str(i): mask[known] for i, mask in enumerate(groups.values())}
    if not masks:
        return {}
    # resampled by origin and group, so that every resample of a group has both sides
    member = np.unique(np.column_stack(list(masks.values())), axis=0, return_inverse=True)[1].ravel()
    strata = np.array([f"{code}\x1f{origin}" for code, origin in zip(member, origins, strict=True)], object)
    ranked, _ = ranking_of_each(masks, generated, p, strata=strata)
    return {name: at_threshold(generated[mask], called[mask]) | ranked.get(i, {})
            for name, (i, mask) in zip(groups, masks.items(), strict=True) if mask.any()}
