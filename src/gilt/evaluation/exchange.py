"""Exchange: how many real rows an arm's error is worth, with an interval; what more generated rows bring; what they may cost.

An arm's error is held against the same seed's own learning curve. For a number of rows n*, the differences e_s - c_s(n*) over
seeds s are a paired comparison; the real equivalent is the n* at which their mean is nothing, its interval holds every n* at
which Student's t does not reject that ("paired"). Nothing is inverted seed by seed, so a seed beyond the curve spoils nothing,
and beyond the measured sizes there is a bound. The other way inverts every seed's curve and takes the t interval of what
comes out ("per_seed"); it needs every seed inside the measured sizes. `benchmarks/coverage_worth.py` says how often each is
right.

Shapes: S seeds, K sizes, G grid points.
"""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from gilt.evaluation.curves import Curve
from gilt.evaluation.uncertainty import LEVEL, t_interval

GRID = 400
WAYS = ("paired", "per_seed")


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval. value None: outside what was measured, and `low` or `high` is the bound.

    low is -inf and high inf where nothing measured bounds them; both are None where there is no interval (one seed).
    """

    value: float | None
    low: float | None
    high: float | None

    def scaled(self, shift: float, unit: float) -> "Interval":
        """Return (x - shift) / unit for the value and both ends."""
        return Interval(*(None if x is None else (x - shift) / unit for x in (self.value, self.low, self.high)))

    def holds(self, x: float) -> bool | None:
        """Tell whether x lies inside; None where there is no interval."""
        return None if self.low is None or self.high is None else self.low <= x <= self.high


@dataclass(frozen=True)
class Equivalent:
    """Real rows that an arm's errors are worth: n_eq with its interval, and each seed's own (None: beyond its curve)."""

    n_eq: Interval
    seeds: tuple[float | None, ...]


def equivalent(curves: Sequence[Curve], errors_S: np.ndarray, *, way: str = "paired") -> Equivalent:
    """Return the real equivalent of an arm's errors (S,), each held against its own seed's curve."""
    low, high = max(curve.sizes[0] for curve in curves), min(curve.sizes[-1] for curve in curves)
    grid = np.geomspace(low, high, GRID)
    gaps_SG = np.asarray(errors_S, float)[:, None] - np.stack([curve(grid) for curve in curves])
    own = tuple(crossing(grid, gaps) for gaps in gaps_SG)
    value = crossing(grid, gaps_SG.mean(0))
    if len(curves) < 2:
        return Equivalent(Interval(value, None, None), own)
    if way == "per_seed":
        if any(n is None for n in own):
            return Equivalent(Interval(value, None, None), own)
        return Equivalent(Interval(*t_interval(np.array(own, float))), own)
    half = stats.t.ppf((1 + LEVEL) / 2, len(curves) - 1) * gaps_SG.std(0, ddof=1) / np.sqrt(len(curves))
    return Equivalent(Interval(value, *_accepted(grid, gaps_SG.mean(0), half)), own)


def _accepted(grid: np.ndarray, mean: np.ndarray, half: np.ndarray) -> tuple[float | None, float | None]:
    """Return the first and the last n* at which |mean| <= half. The mean gap grows with n*: the curve gets better."""
    if half.max() < 1e-12:
        return None, None  # seeds without any spread give no interval
    if mean[-1] + half[-1] < 0:
        return float(grid[-1]), np.inf  # surely better than all that was measured
    if mean[0] - half[0] > 0:
        return -np.inf, float(grid[0])
    inside = np.flatnonzero(np.abs(mean) <= half)
    if not len(inside):  # narrower than the grid
        value = crossing(grid, mean)
        return value, value
    first, last = inside[0], inside[-1]
    low = -np.inf if first == 0 else _between(grid, mean + half, first - 1)
    high = np.inf if last == len(grid) - 1 else _between(grid, mean - half, last)
    return low, high


def crossing(grid: np.ndarray, values: np.ndarray) -> float | None:
    """Return where rising values (G,) pass nothing, the middle where they rest on it; None where they do not."""
    below, above = np.flatnonzero(values < 0), np.flatnonzero(values > 0)
    first = below[-1] + 1 if len(below) else 0
    last = above[above >= first][0] - 1 if (above >= first).any() else len(grid) - 1
    if last >= first:  # a curve that is level there
        return float(np.sqrt(grid[first] * grid[last]))
    return _between(grid, values, last) if len(below) and len(above) else None


def _between(grid: np.ndarray, values: np.ndarray, i: int) -> float:
    """Return where values pass nothing between grid points i and i + 1."""
    rise = values[i + 1] - values[i]
    part = min(max(-values[i] / rise, 0.0), 1.0) if rise else 0.5
    return float(grid[i] * (grid[i + 1] / grid[i]) ** part)


@dataclass(frozen=True)
class Saturation:
    """What m generated rows bring, in real rows: S (1 - exp(-rho0 m / S)); `ceiling` S is inf where they go on in a line.

    `rate` rho0 and `ceiling` have jackknife t intervals over seeds; `rows` are the m that were measured, `gains` what they
    brought. The ceiling of a line, and ends of intervals that no seed bounds, are inf.
    """

    rate: Interval
    ceiling: Interval
    rows: tuple[float, ...]
    gains: tuple[float, ...]

    def gain(self, m: np.ndarray | float) -> np.ndarray:
        """Return the real rows that m generated ones bring."""
        return _saturating(np.asarray(m, float), self.rate.value or 0.0, 1 / (self.ceiling.value or np.inf))

    def worth_buying(self, ratio: float) -> float:
        """Return how many generated rows bring more than they cost, at cost_generated / cost_real = ratio.

        The next one brings rho0 exp(-rho0 m / S) real rows: buy while that is more than the ratio. Never beyond the largest
        m that was measured.
        """
        rate, ceiling, most = self.rate.value or 0.0, self.ceiling.value or np.inf, max(self.rows)
        if ratio >= rate:
            return 0.0
        return float(min(most, ceiling / rate * np.log(rate / ratio))) if np.isfinite(ceiling) and ratio > 0 else float(most)


def _saturating(m: np.ndarray, rate: float, bend: float) -> np.ndarray:
    return rate * m if bend * abs(rate) * m.max(initial=0.0) < 1e-9 else -np.expm1(-rate * m * bend) / bend


def saturation(rows_M: np.ndarray, gains_M: np.ndarray, without_SM: np.ndarray | None = None) -> Saturation | None:
    """Return how gains (M,) in real rows grow with generated rows (M,), or None below three sizes or without any gain.

    `without_SM`: the gains found when each seed in turn is left out; the intervals are the jackknife's.
    """
    if len(rows_M) < 3 or not np.isfinite(gains_M).all() or np.mean(gains_M) <= 0:
        return None
    rate, bend = _saturating_fit(rows_M, gains_M)
    rates = bends = None
    if without_SM is not None and len(without_SM) > 1 and np.isfinite(without_SM).all():
        fits = np.array([_saturating_fit(rows_M, gains) for gains in without_SM])
        rates, bends = jackknife(rate, fits[:, 0]), jackknife(bend, fits[:, 1])
    inverse = [np.inf if x <= 0 else 1 / x for x in (bends or (0.0, 0.0))]
    return Saturation(Interval(rate, *(rates or (None, None))),
                      Interval(1 / bend if bend > 0 else np.inf, *((inverse[1], inverse[0]) if bends else (None, None))),
                      tuple(map(float, rows_M)), tuple(map(float, gains_M)))


def _saturating_fit(m: np.ndarray, gains: np.ndarray) -> tuple[float, float]:
    """Return (rho0, 1 / S) by least squares: for a given bend, the best of a few starts; a line where nothing bends."""
    line = max(float(m @ gains / (m @ m)), 1e-9)
    scale = 1 / max(float(np.max(gains)), 1e-9)
    best = min((optimize.least_squares(lambda x: _saturating(m, x[0], x[1]) - gains, (line * f, scale * f),
                                       bounds=([0, 0], [np.inf, np.inf]), x_scale=(line, scale)) for f in (1.0, 2.0, 4.0)),
               key=lambda found: found.cost)
    straight = 0.5 * float(((line * m - gains) ** 2).sum())
    return (line, 0.0) if straight <= best.cost * (1 + 1e-6) else (float(best.x[0]), float(best.x[1]))


def jackknife(whole: float, without_S: np.ndarray) -> tuple[float, float]:
    """Return the t interval of pseudo-values: `whole` from all seeds, `without_S` with each left out."""
    seeds = len(without_S)
    _, low, high = t_interval(seeds * whole - (seeds - 1) * without_S)
    return low, high
