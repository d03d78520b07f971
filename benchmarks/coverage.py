"""How often are the intervals and verdicts of a study right? Simulated studies whose truth is known; one JSON line a setting.

    python benchmarks/coverage.py --studies 1000

A study has a benchmark and five arms (or one), K seeds, and 1,000 test images, the same for all arms of a seed. A seed makes
all arms better or worse together (sd 1 point), every training has noise of its own (sd 0.8), and an image is about as hard for
every arm: right or wrong is drawn through a latent normal variable of which half is shared by the arms. Arms of `effect` 0 are
all as good as the benchmark; else the first is that much better and the others are not.

    coverage          per cent of 95 % intervals of one arm's difference that hold the truth: `t` Student's t over seeds,
                      `bootstrap` percentiles of resampled seeds (what gilt does not use), `images` the interval that one seed's
                      test images give (which knows nothing of training)
    width             the median width of the t interval, in points
    false             per cent of studies with a wrong verdict on an arm that is as good as the benchmark: `alone` by each arm's
                      own interval, `holm` as gilt decides, `flips` by the sign-flip test
    found             per cent of studies that call the better arm better: `alone`, `holm`
    best_holds        per cent of studies whose best set, chosen on 500 val images, holds the truly best arm; `best_size` its
                      mean size of six, `argmax_right` how often the arm with the highest val figure is the best
    better_holds      per cent of intervals of the probability of being better that hold 1/2 where no arm is better

Intervals of a worth have a benchmark of their own: `coverage_worth.py`.
"""
import argparse
import json

import numpy as np
from scipy import stats

from gilt.evaluation.significance import better, holm, paired_t, sign_flip
from gilt.evaluation.uncertainty import t_interval
from gilt.studies.best import _worse

LEVEL, NOISE, TEST, VAL, START = 0.01, 0.008, 1000, 500, 0.7
SHARED = 0.5  # of an image's hardness


def one_study(effect: float, seeds: int, arms: int, rng: np.random.Generator) -> dict[str, list[float]]:
    """Return what one simulated study says, by name."""
    truth = np.concatenate([[0, effect], np.zeros(arms - 1)])
    chance = START + truth + rng.normal(0, LEVEL, (seeds, 1)) + rng.normal(0, NOISE, (seeds, arms + 1))
    right_SAN, val_SA = answers(chance, TEST, rng), answers(chance, VAL, rng).mean(2)
    test_SA = right_SAN.mean(2)
    gaps = (test_SA[:, 1:] - test_SA[:, :1]).T
    found: dict[str, list[float]] = {"t": [], "bootstrap": [], "images": [], "width": []}
    for arm in range(arms):
        _, low, high = t_interval(gaps[arm])
        ends = np.quantile(rng.choice(gaps[arm], (1000, seeds)).mean(1), [0.025, 0.975])
        one = t_interval(right_SAN[0, arm + 1].astype(float) - right_SAN[0, 0])
        found["t"].append(low <= truth[arm + 1] <= high)
        found["bootstrap"].append(ends[0] <= truth[arm + 1] <= ends[1])
        found["images"].append(one[1] <= truth[arm + 1] <= one[2])
        found["width"].append(100 * (high - low))
    return found | verdicts(gaps, effect) | best(val_SA, truth)


def answers(chance_SA: np.ndarray, images: int, rng: np.random.Generator) -> np.ndarray:
    """Return bool (S, A, N): right answers with these chances, about as hard for every arm of a seed."""
    seeds, arms = chance_SA.shape
    hard = np.sqrt(SHARED) * rng.standard_normal((seeds, 1, images), np.float32)
    own = np.sqrt(1 - SHARED) * rng.standard_normal((seeds, arms, images), np.float32)
    return hard + own < stats.norm.ppf(chance_SA)[:, :, None]


def verdicts(gaps_AS: np.ndarray, effect: float) -> dict[str, list[float]]:
    """Return whether an arm without an effect is called better or worse, and whether the better one is called better."""
    ps = [paired_t(gaps) for gaps in gaps_AS]
    calls = {"alone": np.array([p is not None and p < 0.05 for p in ps]),
             "holm": np.array([p is not None and p < 0.05 for p in holm(ps)]),
             "flips": np.array([sign_flip(gaps) < 0.05 for gaps in gaps_AS])}
    none = slice(1, None) if effect else slice(None)
    found = {f"false_{name}": [call[none].any()] for name, call in calls.items() if len(call[none])}
    if effect:
        found |= {f"found_{name}": [calls[name][0] and gaps_AS[0].mean() > 0] for name in ("alone", "holm")}
    else:
        likely = better(list(gaps_AS[0]))
        found["better_holds"] = [likely.low <= 0.5 <= likely.high]
    return found


def best(val_SA: np.ndarray, truth: np.ndarray) -> dict[str, list[float]]:
    """Return whether the best set holds the truly best arm, its size, and whether the highest val figure is the best's."""
    top = int(val_SA.mean(0).argmax())
    kept = [not _worse(val_SA[:, top] - val_SA[:, arm], len(truth) - 1) for arm in range(len(truth))]
    right = int(truth.argmax())
    return {"best_holds": [kept[right]], "best_size": [sum(kept)], "argmax_right": [top == right or not truth.any()]}


def setting(effect: float, seeds: int, arms: int, studies: int) -> dict[str, object]:
    """Return the shares, in per cent, of many studies of one kind; widths and sizes as they are."""
    rng = np.random.default_rng([seeds, arms, round(1000 * effect)])
    runs = [one_study(effect, seeds, arms, rng) for _ in range(studies)]
    line: dict[str, object] = {"seeds": seeds, "arms": arms, "effect_points": 100 * effect, "studies": studies}
    for name in runs[0]:
        values = np.concatenate([run[name] for run in runs])
        line[name] = round(float(np.median(values)), 2) if name == "width" else round(float(values.mean()), 2) \
            if name == "best_size" else round(100 * float(values.mean()), 1)
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5, 6, 10])
    parser.add_argument("--arms", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--effects", type=float, nargs="+", default=[0.0, 0.02], help="parts of 1")
    arguments = parser.parse_args()
    for arms in arguments.arms:
        for effect in arguments.effects:
            for seeds in arguments.seeds:
                print(json.dumps(setting(effect, seeds, arms, arguments.studies)), flush=True)


if __name__ == "__main__":
    main()
