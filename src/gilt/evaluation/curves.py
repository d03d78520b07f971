"""Learning curves: test error against the number of real training rows.

    power3          e = c + a n^-b, c and a not negative        Hestness et al. 2017, arXiv:1712.00409
    power2          e = a n^-b
    interpolation   isotonic, then PCHIP, in log n and log e: through what was measured, falling, nothing else assumed

A curve is used between its smallest and its largest size only. About one curve in seven is ill-behaved (LCDB 1.1,
arXiv:2505.15657): `choose` looks for one that rises, and for laws that miss what was measured.

Shapes: S seeds, K sizes, G points.
"""
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import interpolate, optimize, stats

from gilt.errors import ConfigError, listed, near

FORMS = ("power3", "power2", "interpolation")
PARAMETERS = {"power3": 3, "power2": 2, "interpolation": 1}
EXPONENTS = (0.02, 4.0)  # measured ones lie between 0.07 and 0.5 (Hestness et al.), with c between 0.1 and 2
SMALLEST = 1e-4  # an error of nothing has no logarithm
P_RISE, P_MISFIT = 0.05, 0.01


@dataclass(frozen=True)
class Curve:
    """One curve: its form, the sizes and errors that it was fitted to (K,), and for a law its parameters (c, a, b)."""

    form: str
    sizes: np.ndarray
    errors: np.ndarray
    parameters: tuple[float, float, float] | None = None

    def __call__(self, n: np.ndarray | float) -> np.ndarray:
        """Return the error at n rows; beyond the measured sizes that at the nearest one: nothing is extrapolated."""
        n = np.clip(np.asarray(n, float), self.sizes[0], self.sizes[-1])
        return _law(self.parameters, n) if self.parameters else _interpolated(self.sizes, self.errors)(n)

    def beyond(self, n: float) -> float:
        """Return what the curve foretells outside its sizes: to compare forms with, never to report."""
        if self.parameters:
            return float(_law(self.parameters, n))
        end, inner = self.sizes[-1], self.sizes[-1] * 0.999
        errors = self(np.array([inner, end]))
        slope = np.log(errors[1] / errors[0]) / np.log(end / inner)
        return float(errors[1] * (n / end) ** slope)


@dataclass(frozen=True)
class Choice:
    """Which form is used and why, and how the forms compare.

    `left_out`: form -> how far it lay from the mean error at the largest size when fitted to the others; `best`: the form that
    was nearest. `rises`: the two neighbouring sizes between which the error grows, and more than noise explains, or None.
    `misfit`: law -> p of the F test that it misses the means by noise alone. `best` and `left_out` are None and empty below
    three sizes.
    """

    form: str
    why: str
    best: str | None
    left_out: dict[str, float]
    rises: tuple[float, float] | None
    misfit: dict[str, float]

    @property
    def missing(self) -> list[str]:
        """The laws that miss what was measured by more than noise explains."""
        return [name for name, p in self.misfit.items() if p < P_MISFIT]


def fit(sizes: Sequence[float] | np.ndarray, errors: Sequence[float] | np.ndarray, form: str) -> Curve:
    """Return the curve of a form through errors (K,) at sizes (K,), both by least squares of the errors.

    Deterministic: for a given exponent a law is linear, so the best exponent is looked for on a grid and refined. Raises
    ConfigError for an unknown form, or fewer than two sizes.
    """
    if form not in FORMS:
        raise ConfigError(f"no learning curve {form!r} (there are: {listed(FORMS)}).{near(form, FORMS)}")
    order = np.argsort(sizes)
    n, e = np.asarray(sizes, float)[order], np.asarray(errors, float)[order]
    if len(n) < 2 or n[0] <= 0 or (np.diff(n) <= 0).any():
        raise ConfigError(f"a learning curve needs at least two different sizes above 0, not {listed(n)}")
    if form == "interpolation":
        return Curve(form, n, np.exp(optimize.isotonic_regression(np.log(np.maximum(e, SMALLEST)), increasing=False).x))
    free = form == "power3"

    def loss(log_b: float) -> float:
        return _linear(n, e, np.exp(log_b), free)[0]

    grid = np.linspace(*np.log(EXPONENTS), 41)
    losses = [loss(x) for x in grid]
    best = int(np.argmin(losses))
    found = optimize.minimize_scalar(loss, bounds=(grid[max(best - 1, 0)], grid[min(best + 1, 40)]), method="bounded",
                                     options={"xatol": 1e-6})
    log_b = found.x if found.fun < losses[best] else grid[best]
    _, c, a = _linear(n, e, np.exp(log_b), free)
    return Curve(form, n, e, (c, a, float(np.exp(log_b))))


def _linear(n: np.ndarray, e: np.ndarray, b: float, free: bool) -> tuple[float, float, float]:
    """Return (squared error, c, a) of the best c + a n^-b for a given b, c and a not negative."""
    x = (n / n[0]) ** -b
    c = a = 0.0
    if free:
        centred = x - x.mean()
        a = float(centred @ e / (centred @ centred))
        c = float(e.mean() - a * x.mean())
        if a < 0:
            a, c = 0.0, float(e.mean())
    if not free or c < 0:
        a, c = float(x @ e / (x @ x)), 0.0
    return float(((e - c - a * x) ** 2).sum()), c, a * n[0] ** b


def _law(parameters: tuple[float, float, float], n: np.ndarray | float) -> np.ndarray:
    c, a, b = parameters
    return c + a * np.asarray(n, float) ** -b


def _interpolated(n: np.ndarray, e: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    shape = interpolate.PchipInterpolator(np.log(n), np.log(e))
    return lambda x: np.exp(shape(np.log(x)))


def choose(sizes: np.ndarray, errors_SK: np.ndarray, form: str = "auto") -> Choice:
    """Return which form to use for errors (S, K) at mean sizes (K,), which rise; `form` "auto", or the one wanted.

    "auto" interpolates. Taking the law that foretells the largest size best is up to a fifth more precise where the law is
    right; where it is not, few seeds do not show that, and intervals that claim 95 % held the truth in 86 to 95 % of simulated
    studies (interpolated: 93 to 98 %; `benchmarks/coverage_worth.py`). How the forms compare is returned all the same.
    """
    means = errors_SK.mean(0)
    enough = [name for name in FORMS if len(sizes) > max(PARAMETERS[name], 2)]
    left_out = {name: fit(sizes[:-1], means[:-1], name).beyond(sizes[-1]) - float(means[-1]) for name in enough}
    best = min(left_out, key=lambda name: abs(left_out[name])) if left_out else None
    if form != "auto":
        fit(sizes, means, form)  # an unknown form is refused here
    why = "assumes only that the error falls" if form == "auto" else "as asked for"
    return Choice("interpolation" if form == "auto" else form, why, best, left_out, rising(sizes, errors_SK),
                  misfit(sizes, errors_SK))


def rising(sizes: np.ndarray, errors_SK: np.ndarray) -> tuple[float, float] | None:
    """Return neighbouring sizes between which the error grows, by a paired t test over seeds (one-sided, Holm's level)."""
    if len(errors_SK) < 2:
        return None
    steps = np.diff(errors_SK, axis=1)
    spread = steps.std(0, ddof=1) / np.sqrt(len(steps))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = stats.t.sf(np.where(spread > 0, steps.mean(0) / spread, 0.0), len(steps) - 1)
    worst = int(np.argmin(p))  # Holm's first step decides whether any is
    return (float(sizes[worst]), float(sizes[worst + 1])) if p[worst] < P_RISE / len(p) else None


def misfit(sizes: np.ndarray, errors_SK: np.ndarray) -> dict[str, float]:
    """Return law -> p of the F test of its misses at the means against the seeds' noise (their own levels taken off).

    Only for laws with fewer parameters than sizes, and two seeds or more.
    """
    seeds, k = errors_SK.shape
    if seeds < 2:
        return {}
    means = errors_SK.mean(0)
    rest = errors_SK - means - errors_SK.mean(1, keepdims=True) + means.mean()
    noise = (rest ** 2).sum() / ((seeds - 1) * (k - 1))
    found = {}
    for name in ("power3", "power2"):
        free = k - PARAMETERS[name]
        if free > 0:
            missed = seeds * ((means - fit(sizes, means, name)(sizes)) ** 2).sum() / free
            exact = missed < 1e-9 or noise == 0  # a miss of some 0.00003 is none, however small the noise
            found[name] = 1.0 if exact else float(stats.f.sf(missed / noise, free, (seeds - 1) * (k - 1)))
    return found
