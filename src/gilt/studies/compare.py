"""Compare: an arm against the benchmark, paired over seeds.

One comparison: t interval of the paired differences, and the exact sign-flip permutation test, whose smallest
two-sided p is 2^(1-K) for K seeds (`docs/methods.md`).
"""
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gilt.errors import ConfigError, listed, near
from gilt.evaluation.metrics import NAMES, spoken
from gilt.evaluation.uncertainty import t_interval
from gilt.studies.store import TrialRecord


@dataclass(frozen=True)
class Effect:
    """The difference arm - benchmark in a metric, over seeds that both have; in points (of 100), in nats for the loss.

    low and high are None below two seeds and where the seeds' differences are all equal, which gives no spread to judge
    by; the verdict is then unknown. Else it is beats, matches or trails.
    """

    arm: str
    benchmark: str
    metric: str
    mean: float
    low: float | None
    high: float | None
    p: float | None
    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    verdict: str


def compare(records: Sequence[TrialRecord], benchmark: str, *, metric: str = "accuracy") -> list[Effect]:
    """Return the effect of every other arm against the benchmark, by arm in the records' order.

    Only seeds under which both were tested on the same photographs are paired. For the loss, less is better.
    Raises ConfigError for an unknown metric.
    """
    if metric not in NAMES:
        raise ConfigError(f"no metric {metric!r} (there are: {listed(NAMES)}).{near(metric, NAMES)}")
    values: dict[str, dict[int, float]] = {}
    tests = {(record.arm, record.seed): record.test_rows for record in records}
    for record in records:
        value = record.metric(metric) if record.state == "finished" else None
        if value is not None:
            values.setdefault(record.arm, {})[record.seed] = value
    base, scale = values.get(benchmark, {}), 1 if metric == "loss" else 100
    effects = []
    for arm, by_seed in values.items():
        seeds = tuple(s for s in base if s in by_seed and tests[arm, s] == tests[benchmark, s])
        if arm != benchmark and seeds:
            effects.append(_effect(arm, benchmark, metric, seeds, [scale * (by_seed[s] - base[s]) for s in seeds]))
    return effects


def _effect(arm: str, benchmark: str, metric: str, seeds: tuple[int, ...], differences: list[float]) -> Effect:
    mean, low, high = t_interval(np.array(differences))
    if len(seeds) < 2 or np.ptp(differences) < 1e-9:
        return Effect(arm, benchmark, metric, mean, None, None, None, seeds, tuple(differences), "unknown")
    above, below = ("trails", "beats") if metric == "loss" else ("beats", "trails")
    verdict = above if low > 0 else below if high < 0 else "matches"
    return Effect(arm, benchmark, metric, mean, low, high, sign_flip(differences), seeds, tuple(differences), verdict)


def sign_flip(differences: Sequence[float]) -> float:
    """Return the exact two-sided p of the sign-flip permutation test on the mean; beyond 16 seeds a seeded sample."""
    values = np.asarray(differences, float)
    if len(values) <= 16:
        signs = np.array(list(itertools.product((1, -1), repeat=len(values))))
    else:
        signs = np.random.default_rng(0).choice((1, -1), (65_536, len(values)))
    means = np.abs((signs * values).mean(1))
    return float((means >= abs(values.mean()) - 1e-12).mean())


def verdicts(records: Sequence[TrialRecord], benchmark: str | None, *, metric: str = "accuracy") -> list[str]:
    """Return the study's answer in a metric, in plain sentences, the main one first."""
    finished = [record for record in records if record.state == "finished"]
    if not finished:
        return ["No trial is finished yet."]
    if benchmark is not None and not any(record.arm == benchmark for record in finished):
        return [f"No trial of the benchmark {benchmark!r} is finished: there is nothing to hold the arms against yet."]
    if benchmark is None:
        return ["There is no benchmark to hold the arms against: name one in the study file, as in "
                "benchmark = \"real\"."]
    effects = compare(finished, benchmark, metric=metric)
    if not effects and all(record.arm == benchmark for record in finished):
        return [f"Only the benchmark {benchmark!r} is finished: there is nothing to hold against it yet."]
    if not effects:
        return [f"No arm shares a seed and test photographs with the benchmark {benchmark!r}"
                f"{'' if metric == 'accuracy' else f', and has a {spoken(metric)}'}: nothing can be compared."]
    sentences = [_lead(effects, benchmark), *(_sentence(effect) for effect in effects)]
    alone = sorted({record.arm for record in finished} - {benchmark, *(effect.arm for effect in effects)})
    if alone:
        sentences.append(f"Not compared, sharing no seed or no test photographs with {benchmark}: {listed(alone)}.")
    most = max((len(effect.seeds) for effect in effects), default=0)
    if 2 <= most < 6:
        sentences.append(f"With {most} seeds no permutation test can reach p < 0.05 (the smallest possible p is "
                         f"{2 ** (1 - most):g}): the intervals rest on Student's t. Six seeds or more are better.")
    return sentences


def _lead(effects: Sequence[Effect], benchmark: str) -> str:
    """Return one sentence that says which arms beat, match or trail the benchmark."""
    parts = []
    for verdict, verb in (("beats", "beat"), ("matches", "match"), ("trails", "trail")):
        arms = [effect.arm for effect in effects if effect.verdict == verdict]
        if arms:
            parts.append(f"{' and '.join((', '.join(arms[:-1]), arms[-1])) if arms[1:] else arms[0]} "
                         f"{verb if arms[1:] else verdict} it")
        elif verdict == "beats" and any(effect.verdict != "unknown" for effect in effects):
            parts.append("no arm beats it")
    unknown = sum(effect.verdict == "unknown" for effect in effects)
    if unknown:
        parts.append(f"no verdict on {unknown} arm{'s' if unknown > 1 else ''}")
    return f"Against the benchmark {benchmark}: {'; '.join(parts)}."


def _sentence(effect: Effect) -> str:
    arm, base = effect.arm, effect.benchmark
    unit, digits = ("nats", 3) if effect.metric == "loss" else ("points", 1)
    of, by = f"{unit} of test {spoken(effect.metric)}", f"{abs(effect.mean):.{digits}f}"
    if effect.verdict == "unknown" and len(effect.seeds) > 1:
        return (f"{arm} against {base}: {effect.mean:+.{digits}f} {unit} under each of {len(effect.seeds)} seeds. Without "
                "spread there is no interval, so no verdict: more seeds or more test images are needed.")
    if effect.verdict == "unknown":
        side = "above" if effect.mean > 0 else "below" if effect.mean < 0 else "level with"
        return f"{arm}: {by} {of} {side} {base} under one seed. No interval, so no verdict: run more seeds."
    interval = f"95 % interval {effect.low:+.{digits}f} to {effect.high:+.{digits}f}, {len(effect.seeds)} seeds"
    if effect.verdict == "matches":
        return f"{arm} matches {base}: {effect.mean:+.{digits}f} {of}; the {interval}, holds zero."
    return f"{arm} {effect.verdict} {base} by {by} {of} ({interval})."
