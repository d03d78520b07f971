"""Operating points: how well scores rank generated images above real ones, and what a detector does along its ROC curve.

    auroc               chance that a generated image scores above a real one
    average_precision   mean precision over the recalls; depends on how many images of either side there are
    eer                 where as many real images are called generated as generated ones are missed
    tpr_at_1_fpr        generated images found where at most 1 % of the real ones are called generated; likewise for 5 %

The thresholds of the last three are those of the images judged: they say what a detector could do, not what it does at its own.
Intervals are bootstrapped over images, resampled within each origin.

Shapes: N images, T thresholds, R resamples.
"""
from collections.abc import Iterable

import numpy as np

from gilt.evaluation.metrics import Metric, metric
from gilt.evaluation.uncertainty import percentiles, resampled_weights, weighted_ranks, wilson

CEILINGS = {"tpr_at_1_fpr": 0.01, "tpr_at_5_fpr": 0.05}
RANKING = ("auroc", "average_precision", "eer", *CEILINGS)
_SAME = 1e-12


def roc(positive: np.ndarray, scores: np.ndarray,
        weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (thresholds (T,), false-positive rates (T + 1, R), true-positive rates (T + 1, R)), the strictest first.

    At threshold k, scores of that much or more are called positive, which gives the rates in row k + 1; row 0 calls nothing
    so. `weights` (N, R) count each image; None: once, R = 1.
    """
    if weights is None:
        weights = np.ones((len(scores), 1), np.float32)
    thresholds, place = np.unique(-scores, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(len(thresholds)))
    rates = []
    for side in (~positive, positive):
        counts = np.add.reduceat(np.where(side[order, None], weights[order], 0).astype(np.float64), starts, axis=0)
        total = counts.cumsum(0)
        rates.append(np.concatenate([np.zeros((1, total.shape[1])), total / np.maximum(total[-1], 1)]))
    return -thresholds, rates[0], rates[1]


def equal_error(fpr: np.ndarray, tpr: np.ndarray) -> np.ndarray:
    """Return (R,): the error where both sides' errors are equal, on straight lines between the points of each ROC curve."""
    gap = fpr - (1 - tpr)  # grows from -1 to 1
    after = (gap >= 0).argmax(0)
    columns = np.arange(gap.shape[1])
    high, low = gap[after, columns], gap[after - 1, columns]
    part = -low / np.maximum(high - low, _SAME)
    return fpr[after - 1, columns] + part * (fpr[after, columns] - fpr[after - 1, columns])


def found_at(fpr: np.ndarray, tpr: np.ndarray, ceiling: float) -> np.ndarray:
    """Return (R,): the greatest true-positive rate of a threshold whose false-positive rate is not above `ceiling`."""
    return np.where(fpr <= ceiling + _SAME, tpr, 0).max(0)


def scores_of(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Return each of RANKING as (R,), under R columns of image weights; None: once each, R = 1.

    It is nan where the weights leave a side without an image.
    """
    if weights is None:
        weights = np.ones((len(scores), 1), np.float32)
    found = np.full((len(RANKING), weights.shape[1]), np.nan)
    if (both := weights[positive].any(0) & weights[~positive].any(0)).any():
        _, fpr, tpr = roc(positive, scores, weights[:, both])
        found[:, both] = (*weighted_ranks(positive, scores, weights[:, both]), equal_error(fpr, tpr),
                          *(found_at(fpr, tpr, ceiling) for ceiling in CEILINGS.values()))
    return dict(zip(RANKING, found, strict=True))


def ranking(positive: np.ndarray, scores: np.ndarray, *, strata: np.ndarray) -> dict[str, Metric]:
    """Return RANKING with intervals, for scores (N,) of positives bool (N,); {} where one side is missing."""
    return ranking_of_each({"": np.ones(len(scores), bool)}, positive, scores, strata=strata)[0].get("", {})


def ranking_of_each(groups: dict[str, np.ndarray], positive: np.ndarray, scores: np.ndarray, *,
                    strata: np.ndarray) -> tuple[dict[str, dict[str, Metric]], dict[str, Metric]]:
    """Return (group -> RANKING, their mean over the groups), for groups given as masks (N,), which may share images.

    A generator's group is its images and all real ones. All groups see the same resamples, so the mean has the interval it
    should have; the groups themselves are not resampled: it says nothing of a generator that is not among them. A resample in
    which a group loses a side, as one may that is not made of whole `strata`, does not count for it, nor for the mean.
    """
    groups = {name: mask for name, mask in groups.items() if positive[mask].any() and not positive[mask].all()}
    if not groups:
        return {}, {}
    once = {name: scores_of(positive[mask], scores[mask]) for name, mask in groups.items()}
    drawn: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in groups}
    for weights_Nr in resampled_weights(strata):
        for name, mask in groups.items():
            drawn[name].append(scores_of(positive[mask], scores[mask], weights_Nr[mask]))
    resampled = {name: {key: np.concatenate([piece[key] for piece in pieces]) for key in RANKING}
                 for name, pieces in drawn.items()}
    smaller = {name: _smaller(positive[mask]) for name, mask in groups.items()}
    each = {name: {key: resampled_metric(float(once[name][key][0]), resampled[name][key], smaller[name], int(mask.sum()))
                   for key in RANKING} for name, mask in groups.items()}
    union = np.any(list(groups.values()), axis=0)
    mean = {key: resampled_metric(float(np.mean([once[name][key][0] for name in groups])),
                         np.mean([resampled[name][key] for name in groups], 0), min(smaller.values()), int(union.sum()))
            for key in RANKING}
    return each, mean


def rare(n_real: int, ceilings: Iterable[float] = tuple(CEILINGS.values())) -> list[str]:
    """Return a sentence for each false-positive rate that so few real images cannot resolve: fewer than ten at that rate."""
    return [f"TPR at {100 * ceiling:g} % FPR hangs on {'a few' if ceiling * n_real >= 1 else 'less than one'} of the "
            f"{n_real:,} real images: {10 / ceiling:,.0f} or more would say more."
            for ceiling in ceilings if ceiling * n_real < 10]


def _smaller(positive: np.ndarray) -> int:
    return int(min(positive.sum(), (~positive).sum()))


def resampled_metric(value: float, resampled: np.ndarray, smaller: int, n: int) -> Metric:
    """Return a Metric of a value and its resamples (R,).

    Where every resample gives the same, the interval is Wilson's, of as many images as the smaller side has. Resamples that are
    nan do not count; without any other there is no interval.
    """
    resampled = resampled[~np.isnan(resampled)]
    if not len(resampled):
        return metric(value, (np.nan, np.nan), n)
    same = np.ptp(resampled) < 1e-9
    return metric(value, wilson(round(value * smaller), smaller) if same else percentiles(resampled, value), n)
