"""Intervals: for proportions, means, and anything that can be computed again on resampled images.

All are two-sided 95 % intervals over images: what another test set of this size, from the same source, might give.
"""
import numpy as np
from scipy import stats

LEVEL = 0.95
RESAMPLES = 300


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Return Wilson's interval of a proportion (Wilson 1927); (nan, nan) for n = 0."""
    if n == 0:
        return float("nan"), float("nan")
    interval = stats.binomtest(hits, n).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def t_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Return (mean, low, high) of independent values by Student's t; low and high are nan below two values."""
    values = np.asarray(values, float)
    mean = float(values.mean()) if len(values) else float("nan")
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


def percentiles(values_R: np.ndarray) -> tuple[float, float]:
    """Return the percentile interval of a score computed on R resamples of the images."""
    low, high = np.nanquantile(values_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def resampled_confusions(confusion_CC: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES) -> np.ndarray:
    """Return (R, C, C) confusion matrices of images resampled within each true class (rows): the bootstrap, exactly."""
    rng = np.random.default_rng(seed)
    rows = []
    for counts in np.asarray(confusion_CC):
        n = int(counts.sum())
        rows.append(rng.multinomial(n, counts / n, resamples) if n else np.zeros((resamples, len(counts)), int))
    return np.stack(rows, 1)


def resampled_ranks(positive_N: np.ndarray, scores_N: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES
                    ) -> tuple[np.ndarray, np.ndarray]:
    """Return (AUROC, average precision), each (R,), over images resampled within the positives and the negatives.

    scikit-learn's values under integer sample weights, for all resamples at once.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(-scores_N, kind="stable")
    positive, scores = positive_N[order].astype(bool), scores_N[order]
    starts = np.flatnonzero(np.r_[True, np.diff(scores) != 0])  # equal scores are one threshold
    aurocs, precisions = [], []
    for size in _pieces(resamples, len(order)):
        weights = np.zeros((size, len(order)))
        for mask in (positive, ~positive):
            weights[:, mask] = rng.multinomial(mask.sum(), np.full(mask.sum(), 1 / mask.sum()), size)
        p = np.add.reduceat(weights * positive, starts, 1)
        n = np.add.reduceat(weights * ~positive, starts, 1)
        above_p, above_n = p.cumsum(1), n.cumsum(1)
        all_p, all_n = above_p[:, -1:], above_n[:, -1:]
        aurocs.append((p * (all_n - above_n + n / 2) / (all_p * all_n)).sum(1))
        precisions.append((p / all_p * above_p / np.maximum(above_p + above_n, 1)).sum(1))
    return np.concatenate(aurocs), np.concatenate(precisions)


def _pieces(resamples: int, n: int) -> list[int]:
    size = max(1, min(resamples, 4_000_000 // max(n, 1)))  # some 32 MB of weights at a time
    return [size] * (resamples // size) + ([resamples % size] if resamples % size else [])
