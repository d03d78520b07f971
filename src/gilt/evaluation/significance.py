"""Significance: is a difference more than chance? Paired over seeds, over test images, over arms, over data sets.

Pure functions of numbers; `gilt.studies.compare`, `best`, `plan` and `across` ask them about trials. Sources: Demsar 2006
(Friedman, Nemenyi, critical difference), Holm 1979, Bouthillier et al. 2021 (probability of being better).

Shapes: K seeds, N images, D data sets, A arms.
"""
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from gilt.errors import ConfigError
from gilt.evaluation.uncertainty import LEVEL

ALPHA = 1 - LEVEL
REDRAWN = 500  # test sets drawn again for one seed's probability of being better
CLEARLY = 0.75  # Bouthillier's threshold
MOST = 1_000_000  # seeds: what asks for more has no answer that helps


def paired_t(differences: Sequence[float] | np.ndarray) -> float | None:
    """Return the two-sided p of Student's paired t test of differences (K,); None below two, and without spread."""
    values = np.asarray(differences, float)
    if len(values) < 2 or np.ptp(values) < 1e-9:
        return None
    return float(stats.ttest_1samp(values, 0.0).pvalue)


def sign_flip(differences: Sequence[float] | np.ndarray) -> float:
    """Return the exact two-sided p of the sign-flip permutation test on the mean; beyond 16 values a seeded sample.

    Its smallest value is 2^(1-K): fewer than 6 seeds cannot reach 0.05.
    """
    values = np.asarray(differences, float)
    if len(values) <= 16:
        signs = np.array(list(itertools.product((1, -1), repeat=len(values))))
        return float((np.abs((signs * values).mean(1)) >= abs(values.mean()) - 1e-12).mean())
    signs = np.random.default_rng(0).choice((1, -1), (65_536, len(values)))
    hits = int((np.abs((signs * values).mean(1)) >= abs(values.mean()) - 1e-12).sum())
    return (hits + 1) / (len(signs) + 1)  # the signs as they are count too, so that p is never 0


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Return p values adjusted for their number (Holm 1979), in the order given; a None stays None and does not count."""
    known = [(p, i) for i, p in enumerate(ps) if p is not None]
    adjusted: list[float | None] = [None] * len(ps)
    highest = 0.0
    for rank, (p, i) in enumerate(sorted(known)):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        adjusted[i] = highest
    return adjusted


@dataclass(frozen=True)
class McNemar:
    """Two classifiers on the same `n` images: how many only one of them has right, and the exact two-sided p."""

    only_a: int
    only_b: int
    n: int
    p: float


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> McNemar:
    """Return McNemar's exact test of two rows of right answers, bool (N,). It speaks of these images and these two only."""
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    p = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    return McNemar(only_a, only_b, len(right_a), float(p))


@dataclass(frozen=True)
class Better:
    """The probability that one arm beats another, with Wilson's interval over the `n` seeds.

    `images`: whether the test images were drawn again within each seed too, or the seeds alone are counted.
    """

    value: float
    low: float
    high: float
    n: int
    images: bool

    @property
    def clear(self) -> bool:
        """Whether it is surely above chance, and above 0.75: significant and meaningful (Bouthillier et al. 2021)."""
        return self.low > 0.5 and self.value > CLEARLY


def better(differences: Sequence[np.ndarray | float]) -> Better:
    """Return the probability of being better from one entry a seed: its difference, or its images' differences (N,).

    A single number wins (1), ties (1/2) or loses (0). Images are drawn again with replacement, 500 times a seed, and the part
    of those test sets that it wins counts. The mean over seeds is the probability.
    """
    wins = np.array([_won(np.atleast_1d(np.asarray(own, float)), seed) for seed, own in enumerate(differences)])
    return Better(float(wins.mean()), *_wilson(float(wins.mean()), len(wins)), len(wins),
                  any(np.ndim(own) for own in differences))


def _won(differences: np.ndarray, seed: int) -> float:
    values, counts = np.unique(differences, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(counts.sum(), counts / counts.sum(), REDRAWN) @ values
    return float(((drawn > 1e-12) + 0.5 * (np.abs(drawn) <= 1e-12)).mean())


def _wilson(part: float, n: int) -> tuple[float, float]:
    """Return Wilson's interval of a mean of n values in [0, 1]: of wins and losses exactly, of parts of wins a little wide."""
    z = float(stats.norm.ppf((1 + LEVEL) / 2))
    middle, half = part + z * z / (2 * n), z * math.sqrt(part * (1 - part) / n + z * z / (4 * n * n))
    return max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))


def seeds_needed(width: float, sd: float) -> int:
    """Return the fewest seeds whose t interval is at most `width` wide, when paired differences have this standard deviation.

    Raises ConfigError for a width that is not above 0.
    """
    if not (width > 0 and np.isfinite(width)):
        raise ConfigError(f"the wanted width of an interval is a number above 0, not {width:g}")
    if not sd > 0 or interval_width(sd, 2) <= width:
        return 2
    low, high = 2, 4  # the width falls with every seed: double, then halve the gap
    while interval_width(sd, high) > width and high < MOST:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if interval_width(sd, middle) > width else (low, middle)
    return min(high, MOST)


def interval_width(sd: float, seeds: int) -> float:
    """Return how wide Student's t interval of the mean of so many differences is."""
    return 2 * float(stats.t.ppf((1 + LEVEL) / 2, seeds - 1)) * sd / math.sqrt(seeds)


def sd_interval(sd: float, seeds: int) -> tuple[float, float]:
    """Return the 95 % interval of a standard deviation that was measured over so many seeds (chi square)."""
    low, high = (seeds - 1) * sd**2 / stats.chi2.ppf([(1 + LEVEL) / 2, (1 - LEVEL) / 2], seeds - 1)
    return math.sqrt(low), math.sqrt(high)


@dataclass(frozen=True)
class Friedman:
    """Arms ranked within each data set (1 is best, ties share): mean `ranks` (A,), Friedman's `statistic` and its `p`.

    `p` is exact, from all orders that chance may give, or from 20,000 of them; `smallest` is the least it can be with so few
    data sets. `nemenyi` (A, A) are the p values of Nemenyi's test of each pair, `cd` the difference of mean ranks that is
    significant at 0.05, and `groups` the places of arms, best first, that it does not tell apart.
    """

    ranks: np.ndarray
    statistic: float
    p: float
    smallest: float
    nemenyi: np.ndarray
    cd: float
    groups: tuple[tuple[int, ...], ...]


def friedman(values_DA: np.ndarray, *, lower: bool = False) -> Friedman:
    """Return Friedman's and Nemenyi's tests of A arms on D data sets; `lower`: less is better, as for the loss.

    Raises ConfigError below two data sets or three arms: for two arms there is `sign_flip`.
    """
    values_DA = np.asarray(values_DA, float)
    datasets, arms = values_DA.shape
    if datasets < 2 or arms < 3:
        raise ConfigError(f"Friedman's test ranks 3 arms or more on 2 data sets or more, not {arms} on {datasets}")
    # rounded: means over seeds of equal values differ in the last digit
    ranks_DA = stats.rankdata(np.round(values_DA if lower else -values_DA, 12), axis=1)
    ranks = ranks_DA.mean(0)
    statistic = _chi_square(ranks_DA, ranks[None])[0]
    error = math.sqrt(arms * (arms + 1) / (6 * datasets))
    pairs = np.abs(ranks[:, None] - ranks[None]) / error * math.sqrt(2)
    cd = critical_difference(arms, datasets)
    return Friedman(ranks, statistic, _permuted(ranks_DA, statistic), float(math.factorial(arms)) ** (1 - datasets),
                    np.asarray(stats.studentized_range.sf(pairs, arms, np.inf)).clip(0, 1), cd, _groups(ranks, cd))


def critical_difference(arms: int, datasets: int) -> float:
    """Return Nemenyi's critical difference of mean ranks at 0.05 (Demsar 2006, section 3.2.2)."""
    q = float(stats.studentized_range.ppf(LEVEL, arms, np.inf)) / math.sqrt(2)
    return q * math.sqrt(arms * (arms + 1) / (6 * datasets))


def _chi_square(ranks_DA: np.ndarray, means_RA: np.ndarray) -> np.ndarray:
    """Return Friedman's statistic, corrected for ties, of R sets of mean ranks; 0 where every data set ties all arms."""
    datasets, arms = ranks_DA.shape
    spread = float(((ranks_DA - (arms + 1) / 2) ** 2).sum()) / (datasets * (arms - 1))
    between = datasets * ((means_RA - (arms + 1) / 2) ** 2).sum(1)
    return between / spread if spread else np.zeros(len(means_RA))


def _permuted(ranks_DA: np.ndarray, statistic: float, *, draws: int = 20_000) -> float:
    """Return the part of orders within data sets that give a statistic as large. The first data set's order may stay."""
    datasets, arms = ranks_DA.shape
    if math.factorial(arms) ** (datasets - 1) <= draws:
        orders = np.array(list(itertools.permutations(range(arms))))
        sums_RA = ranks_DA[:1]
        for ranks_A in ranks_DA[1:]:
            sums_RA = (sums_RA[:, None] + ranks_A[orders][None]).reshape(-1, arms)
        return float((_chi_square(ranks_DA, sums_RA / datasets) >= statistic - 1e-9).mean())
    rng = np.random.default_rng(0)
    sums_RA = sum(rng.permuted(np.tile(ranks_A, (draws, 1)), axis=1) for ranks_A in ranks_DA)
    hits = int((_chi_square(ranks_DA, np.asarray(sums_RA) / datasets) >= statistic - 1e-9).sum())
    return (hits + 1) / (draws + 1)


def _groups(ranks: np.ndarray, cd: float) -> tuple[tuple[int, ...], ...]:
    """Return the longest runs of arms whose mean ranks lie within the critical difference, each best first."""
    order = np.argsort(ranks, kind="stable")
    runs = [tuple(int(i) for i in order[start:] if ranks[i] - ranks[order[start]] <= cd) for start in range(len(order))]
    return tuple(run for k, run in enumerate(runs) if len(run) > 1 and not any(set(run) <= set(other) for other in runs[:k]))
