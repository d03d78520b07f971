"""Reliability: whether "90 % generated" is right nine times out of ten.

The expected calibration error (ECE) is the mean distance between what probabilities say and what is so, over bins of equally
many images (Nguyen and O'Connor 2015; Nixon et al. 2019, arXiv:1904.01685). It is above zero by chance alone: the fewer images,
the more. So beside it stands its floor: what a perfectly calibrated detector with these very probabilities would show, from
drawing the truth by them (a consistency check: Broecker and Smith 2007; Widmann et al. 2019, arXiv:1910.11385).

Shapes: N images, B bins, R resamples or draws.
"""
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from gilt.evaluation.metrics import Metric, metric, proportion
from gilt.evaluation.uncertainty import percentiles, resampled_weights, t_interval

BINS, LEAST = 15, 10  # at most so many bins, each of at least so many images
DRAWS = 300


@dataclass(frozen=True)
class Bin:
    """Images of like probability: their mean probability `p`, and which part of them is generated, with Wilson's interval."""

    p: float
    generated: Metric


@dataclass(frozen=True)
class Reliability:
    """The calibration error, its mean and 95 % quantile for a perfectly calibrated detector, the Brier score, the bins."""

    ece: Metric
    floor: float
    floor_high: float
    brier: Metric
    bins: tuple[Bin, ...]

    @property
    def calibrated(self) -> bool:
        """Whether the error is one that a perfectly calibrated detector would show too."""
        return self.ece.value is not None and self.ece.value <= self.floor_high


def reliability(p: np.ndarray, generated: np.ndarray, *, seed: int = 0) -> Reliability:
    """Return how far probabilities (N,) are from the truth, bool (N,). Equal probabilities share a bin."""
    n, sums_BN = len(p), _bins(p)
    value = _error(sums_BN, (p - generated)[:, None], n)[0]
    floors = _floors(sums_BN, p, seed)
    resampled = np.concatenate([_error(sums_BN, weights * (p - generated)[:, None], n)
                                for weights in resampled_weights(generated, seed=seed)])
    counts = sums_BN.sum(1)
    bins = tuple(Bin(float(mean), proportion(hits, count))
                 for mean, hits, count in zip(sums_BN @ p / counts, sums_BN @ generated.astype(float), counts, strict=True))
    mean, low, high = t_interval((p - generated) ** 2)
    return Reliability(metric(float(value), percentiles(resampled, value), n), float(floors.mean()),
                       float(np.quantile(floors, 0.95)), metric(mean, (max(low, 0.0), high), n), bins)


def _bins(p: np.ndarray) -> sparse.csr_array:
    """Return (B, N) of ones where an image is in a bin: bins of equally many images, as far as ties allow."""
    n = len(p)
    edges = np.unique(np.quantile(p, np.linspace(0, 1, max(1, min(BINS, n // LEAST)) + 1)[1:-1], method="inverted_cdf"))
    _, place = np.unique(np.searchsorted(edges, p, "left"), return_inverse=True)
    return sparse.csr_array((np.ones(n), (place, np.arange(n))), (place.max() + 1, n))


def _error(sums_BN: sparse.csr_array, gaps_NR: np.ndarray, n: int) -> np.ndarray:
    return np.abs(sums_BN @ gaps_NR).sum(0) / n


def _floors(sums_BN: sparse.csr_array, p: np.ndarray, seed: int) -> np.ndarray:
    """Return the errors of DRAWS truths, drawn by the probabilities."""
    rng = np.random.default_rng(seed)
    return np.array([_error(sums_BN, (p - (rng.random(len(p)) < p))[:, None], len(p))[0] for _ in range(DRAWS)])
