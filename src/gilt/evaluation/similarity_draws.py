"""Draws: generated images against photographs, each number beside what photographs against photographs give.

Shapes: N rows of one side, D features. A draw takes two disjoint sets of photographs, A and B, and one of generated images, G,
all of one size. Each number is that of G against B; its floor is that of A against B.
"""
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from gilt.evaluation.similarity import Measured
from gilt.evaluation.similarity_measures import c2st, frechet, kid, manifold

FEWEST = 10  # images a side of a draw below which nothing is measured
TOLD_APART = 1_000  # rows a side that the classifier of C2ST is judged on, at most
BY_CLASS_DRAWS = 5  # draws that a class's C2ST is taken over, at most
LEVEL = 0.95
SHARE = (0.0, 1.0)
BOUNDS = {"precision": SHARE, "recall": SHARE, "coverage": SHARE, "c2st": SHARE, "density": (0, math.inf), "fd": (0, math.inf)}


@dataclass(frozen=True)
class Side:
    """One side's images: features (N, D), each one's class, the unit it belongs to (see `data.ties`), and simple statistics."""

    features_ND: np.ndarray
    classes_N: np.ndarray
    units_N: np.ndarray
    statistics: Mapping[str, np.ndarray]

    def of(self, rows: np.ndarray) -> "Side":
        """Return the chosen rows."""
        return Side(self.features_ND[rows], self.classes_N[rows], self.units_N[rows],
                    {name: values[rows] for name, values in self.statistics.items()})


def pools(real: Side, generated: Side, *, most: int) -> dict[Any, int]:
    """Return class -> images that the draws are dealt from, on either side: as many as the rarer side has of it.

    All together, half of which is a draw's side, they are at most about 2 * `most`.
    """
    counts = [dict(zip(*np.unique(side.classes_N, return_counts=True), strict=True)) for side in (real, generated)]
    both = {name: int(min(counts[0][name], counts[1][name])) for name in counts[0] if name in counts[1]}
    scale = min(1.0, 2 * most / max(sum(both.values()), 1))
    return {name: max(1, int(size * scale)) for name, size in both.items()}


def drawn(real: Side, generated: Side, wanted: Mapping[Any, int], *, draws: int, seed: int = 0
          ) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return the rows (A, B, G) of each draw: the halves of a pool of photographs, and half of one of generated images.

    A pool holds `wanted` rows of each class, anew in each draw; no unit has rows in both A and B. The halves are dealt
    regardless of class: exact numbers of each would make an unbiased distance fall below 0.
    """
    rng = np.random.default_rng(seed)
    result = []
    for _ in range(draws):
        real_pool = _pool(real, wanted, rng)
        half = len(real_pool) // 2
        place = rng.permutation(real.units_N.max() + 1)[real.units_N[real_pool]]  # rows of one unit stay together
        ordered = real_pool[np.argsort(place, kind="stable")]
        a, b = ordered[:half], ordered[-half:]
        b = b[~np.isin(real.units_N[b], real.units_N[a])]
        result.append((a, b, rng.permutation(_pool(generated, wanted, rng))[:half]))
    return result


def _pool(side: Side, wanted: Mapping[Any, int], rng: np.random.Generator) -> np.ndarray:
    parts = [rng.permutation(np.flatnonzero(side.classes_N == name))[:size] for name, size in wanted.items()]
    return np.concatenate(parts) if parts else np.zeros(0, int)


def compare(real: Side, generated: Side, draws: Sequence[tuple[np.ndarray, ...]], *, whole: bool = True,
            done: Callable[[], object] = lambda: None) -> dict[str, Measured] | None:
    """Return every measure over the draws; None where a draw is too small. Without `whole`, what a class is told by."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    for i, (a, b, g) in enumerate(draws):
        if min(len(a), len(b), len(g)) < FEWEST:
            return None
        reference = real.of(b)
        for place, other in ((0, generated.of(g)), (1, real.of(a))):
            told = whole or i < BY_CLASS_DRAWS
            for name, value in measures(reference, other, whole=whole, told=told, seed=i).items():
                found.setdefault(name, ([], []))[place].append(value)
        done()
    return {name: over_draws(name, *values) for name, values in found.items() if np.isfinite(values[0]).any()}


def measures(real: Side, other: Side, *, whole: bool = True, told: bool = True, seed: int = 0) -> dict[str, float]:
    """Return every measure of one set against one of photographs; with `whole` also FD and the simple statistics."""
    found = {"kid": kid(real.features_ND, other.features_ND), **manifold(real.features_ND, other.features_ND)}
    if told:
        rng = np.random.default_rng(seed)
        some = [rng.permutation(len(side.units_N))[:TOLD_APART] for side in (real, other)]
        found["c2st"] = c2st(real.features_ND[some[0]], other.features_ND[some[1]],
                             np.concatenate([real.units_N[some[0]], other.units_N[some[1]]]), seed=seed)
    if whole:
        found["fd"] = frechet(real.features_ND, other.features_ND)
        found |= {f"ks_{name}": _ks(values, other.statistics[name]) for name, values in real.statistics.items()}
    return found


def _ks(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first[np.isfinite(first)], second[np.isfinite(second)]
    if min(len(first), len(second)) < FEWEST:
        return float("nan")
    return float(stats.ks_2samp(first, second, method="asymp").statistic)


def over_draws(name: str, values: Sequence[float], floors: Sequence[float]) -> Measured:
    """Return mean and interval of a measure over draws, and of its floor."""
    low, high = BOUNDS.get(name, SHARE if name.startswith("ks_") else (-math.inf, math.inf))

    def interval(numbers: Sequence[float]) -> tuple[float, float, float]:
        known = np.array(numbers, float)[np.isfinite(numbers)]
        if len(known) < 2:
            return (float(known.mean()) if len(known) else math.nan), math.nan, math.nan
        half = float(stats.t.ppf((1 + LEVEL) / 2, len(known) - 1) * known.std(ddof=1))
        mean = float(known.mean())
        return mean, max(mean - half, low), min(mean + half, high)

    return Measured(*interval(values), *interval(floors), len(values))
