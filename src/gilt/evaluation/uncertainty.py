"""Intervals: for proportions, means, and anything that can be computed again on resampled images.

All are two-sided 95 % intervals over images: what another test set of this size, from the same source, might give.
"""
from collections.abc import Iterator

import numpy as np
from scipy import sparse, stats

LEVEL = 0.95
RESAMPLES = 300


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Return Wilson's interval of a proportion (Wilson 1927); (nan, nan) for n = 0."""
    if n == 0:
        return float("nan"), float("nan")
    interval = stats.binomtest(hits, n).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def paired_wilson(right_a: np.ndarray, right_b: np.ndarray) -> tuple[float, float]:
    """Return the interval of the difference a - b of two proportions of the same images, bool (N,) each; (nan, nan) for none.

    Wilson's two intervals, joined with regard to how alike the rows are (Newcombe 1998, Statistics in Medicine 17, 2635-2650,
    method 10).
    """
    a, b = np.asarray(right_a, bool), np.asarray(right_b, bool)
    if len(a) == 0:
        return float("nan"), float("nan")
    both, only_a, only_b, neither = (int(x.sum()) for x in (a & b, a & ~b, b & ~a, ~a & ~b))
    (low_a, high_a), (low_b, high_b) = wilson(both + only_a, len(a)), wilson(both + only_b, len(a))
    product = float(a.sum()) * (~a).sum() * b.sum() * (~b).sum()
    spare = both * neither - only_a * only_b
    like = (max(spare - len(a) / 2, 0.0) if spare > 0 else spare) / product**0.5 if product else 0.0
    pa, pb = float(a.mean()), float(b.mean())
    down, up = ((x * x - 2 * like * x * y + y * y) ** 0.5 for x, y in ((pa - low_a, high_b - pb), (high_a - pa, pb - low_b)))
    return float(pa - pb - down), float(pa - pb + up)


def t_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Return (mean, low, high) of independent values by Student's t; low and high are nan below two values."""
    values = np.asarray(values, float)
    mean = float(values.mean()) if len(values) else float("nan")
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


def percentiles(values_R: np.ndarray, value: float) -> tuple[float, float]:
    """Return the percentile interval of a score in [0, 1] from R resamples of the images, moved by the bootstrap's bias.

    An image drawn twice is a rank shared, so resamples of few images score higher (average precision) or lower (F1) than the
    images themselves: over many small classes that alone would push the interval off the value.
    """
    low, high = np.nanquantile(values_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) - (np.nanmean(values_R) - value)
    return float(np.clip(low, 0, 1)), float(np.clip(high, 0, 1))


def resampled_counts(confusion_CC: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES) -> tuple[np.ndarray, np.ndarray]:
    """Return (hits, predicted), each int (R, C): how many images of each class were named rightly, and how many were named it.

    Of images resampled within each true class (rows of the confusion matrix), the bootstrap, exactly. How many images a
    class has stays as it is. Only cells that hold an image are drawn, so a thousand classes cost no more than their images.
    """
    rng = np.random.default_rng(seed)
    counts_CC = np.asarray(confusion_CC)
    hits, predicted = np.zeros((2, resamples, len(counts_CC)), int)
    for c, counts in enumerate(counts_CC):
        named = np.flatnonzero(counts)
        if len(named):
            n = int(counts.sum())
            drawn = rng.multinomial(n, counts[named] / n, resamples)
            predicted[:, named] += drawn
            hits[:, c] = drawn[:, named == c].sum(1)
    return hits, predicted


def resampled_weights(strata_N: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES) -> Iterator[np.ndarray]:
    """Yield float32 (N, r) in pieces, R columns in all: how often each image is drawn, resampled within each stratum."""
    rng = np.random.default_rng(seed)
    strata_N = np.asarray(strata_N)
    members = [np.flatnonzero(strata_N == stratum) for stratum in np.unique(strata_N)]
    for size in _pieces(resamples, len(strata_N)):
        weights_Nr = np.empty((len(strata_N), size), np.float32)
        for own in members:
            weights_Nr[own] = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), size).T
        yield weights_Nr


def weighted_ranks(positive_N: np.ndarray, scores_N: np.ndarray, weights_NR: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (AUROC, average precision), each (R,), of scores under R columns of image weights: scikit-learn's values.

    Both depend only on the weight at each positive's score and on that of the negatives above, at and below it. So images
    are summed into those bins, and R resamples cost little more than one.
    """
    thresholds = np.unique(-scores_N[positive_N])  # P of them; the highest score is first
    below, upto = (np.searchsorted(thresholds, -scores_N, side) for side in ("left", "right"))
    p_PR = _summed(below[positive_N], weights_NR[positive_N], len(thresholds))
    # bin 2k + 1 is at threshold k, 2k just above it
    n_BR = _summed((below + upto)[~positive_N], weights_NR[~positive_N], 2 * len(thresholds) + 1)
    all_p, all_n = p_PR.sum(0), n_BR.sum(0)
    above_p, above_n = p_PR.cumsum(0), n_BR.cumsum(0)[1::2]
    auroc = (p_PR * (all_n - above_n + n_BR[1::2] / 2)).sum(0) / (all_p * all_n)
    return auroc, (p_PR * above_p / np.maximum(above_p + above_n, 1)).sum(0) / all_p


def _summed(bins_N: np.ndarray, weights_NR: np.ndarray, count: int) -> np.ndarray:
    """Return float64 (count, R): the sum of the weights in each bin."""
    chosen = sparse.csr_array((np.ones(len(bins_N), np.float32), (bins_N, np.arange(len(bins_N)))), (count, len(bins_N)))
    return (chosen @ weights_NR).astype(float)


def _pieces(resamples: int, n: int) -> list[int]:
    size = max(1, min(resamples, 8_000_000 // max(n, 1)))  # some 32 MB of weights at a time
    return [size] * (resamples // size) + ([resamples % size] if resamples % size else [])
