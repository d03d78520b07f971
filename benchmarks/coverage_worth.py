"""How often do worth's intervals hold the truth? Simulated studies whose curve and worth are known; one JSON line a setting.

    python benchmarks/coverage_worth.py --studies 2000

A seed has a level of its own, shared by its arms (sd 1 point), and every trial noise of its own (0.8 points). The curve has
five sizes from 250 to 4,000 (`stalled`: noise that grows to 3.9 points, as where large sets are not trained to the end). An
arm of 1,000 photographs and 1,000 generated images is worth rho. `paired` and `per_seed` are gilt's two intervals on an
interpolated curve; `law` is the paired one on the law, or the interpolation, that foretells the largest size best and misses
nothing; `bootstrap` resamples the seeds' own equivalents and takes percentiles. A study in which a seed falls off its curve has
no per-seed interval, and is left out of `per_seed` and `bootstrap`; `usable` is the part that is left.
"""
import argparse
import json

import numpy as np

from gilt.evaluation.curves import choose, fit
from gilt.evaluation.exchange import equivalent
from gilt.evaluation.uncertainty import t_interval

SIZES = np.array([250, 500, 1000, 2000, 4000.0])
N, M, LEVELS, NOISE = 1000, 1000, 0.01, 0.008
CURVES = {"power": lambda n: 0.3 + 4 * n**-0.35,  # 88 to 52 % error
          "weak": lambda n: 0.12 + 0.9 * n**-0.2,  # 42 to 29 %
          "bent": lambda n: 0.35 + 0.35 / (1 + (n / 1200) ** 1.5),  # 69 to 40 %, and no power law
          "stalled": fit(SIZES, [0.688, 0.647, 0.615, 0.565, 0.55], "interpolation")}
STALLED = np.array([0.012, 0.013, 0.018, 0.031, 0.039])  # noise


def one_study(curve: str, rho: float, seeds: int, rng: np.random.Generator) -> dict[str, tuple[float, float] | None]:
    """Return way -> the interval of n_eq in one simulated study."""
    true, noise = CURVES[curve], STALLED if curve == "stalled" else np.full(len(SIZES), NOISE)
    level = rng.normal(0, LEVELS, (seeds, 1))
    errors = true(SIZES) + level + rng.normal(0, 1, (seeds, len(SIZES))) * noise
    arm = true(N + rho * M) + level[:, 0] + rng.normal(0, np.interp(N + rho * M, SIZES, noise), seeds)
    chosen = choose(SIZES, errors)
    law = min((name for name in chosen.left_out if name not in chosen.missing), key=lambda name: abs(chosen.left_out[name]))
    by_law = equivalent([fit(SIZES, row, law) for row in errors], arm).n_eq
    found = equivalent([fit(SIZES, row, chosen.form) for row in errors], arm)
    intervals = {"paired": (found.n_eq.low, found.n_eq.high), "law": (by_law.low, by_law.high), "per_seed": None,
                 "bootstrap": None}
    if None not in found.seeds:
        own = np.array(found.seeds)
        intervals["per_seed"] = t_interval(own)[1:]
        intervals["bootstrap"] = tuple(np.quantile(rng.choice(own, (1000, seeds)).mean(1), [0.025, 0.975]))
    return intervals


def setting(curve: str, rho: float, seeds: int, studies: int) -> dict[str, object]:
    """Return coverage, in per cent, and the median width in rho of each way over many studies."""
    rng, due = np.random.default_rng([seeds, round(100 * rho)]), N + rho * M
    runs = [one_study(curve, rho, seeds, rng) for _ in range(studies)]
    line: dict[str, object] = {"curve": curve, "rho": rho, "seeds": seeds, "studies": studies}
    for way in ("paired", "law", "per_seed", "bootstrap"):
        known = [run[way] for run in runs if run[way] is not None]
        line[way] = round(100 * float(np.mean([low <= due <= high for low, high in known])), 1) if known else None
        wide = float(np.median([(high - low) / M for low, high in known])) if known else np.inf
        line[f"{way}_width"] = round(wide, 2) if np.isfinite(wide) else None  # None: more than half of them are bounds
    return line | {"usable": round(sum(run["per_seed"] is not None for run in runs) / studies, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5, 6, 10])
    parser.add_argument("--curves", nargs="+", default=list(CURVES), choices=CURVES)
    arguments = parser.parse_args()
    for curve in arguments.curves:
        for seeds in arguments.seeds:
            for rho in (0.0, 0.3, 1.0):
                print(json.dumps(setting(curve, rho, seeds, arguments.studies)), flush=True)


if __name__ == "__main__":
    main()
