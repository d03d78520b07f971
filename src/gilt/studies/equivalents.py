"""Equivalents: the trials of one setting to its learning curve, and to what each arm's generated rows are worth on it.

The real-only arms of several sizes are the curve; every other arm is held against it under the seeds that both have.
"""
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gilt.data.controls import MEANT
from gilt.errors import ConfigError, counted, listed
from gilt.evaluation.curves import Choice, Curve, choose, fit
from gilt.evaluation.exchange import Equivalent, Interval, Saturation, equivalent, saturation
from gilt.evaluation.uncertainty import t_interval
from gilt.studies.store import TrialRecord

Key = tuple[str, int, str]  # mode, number of photographs, whose images
_AMOUNTS = ("generated", "share", "total", "max_generated")  # settings of a mix that say how many, not which


@dataclass(frozen=True)
class RealCurve:
    """The learning curve of the real-only arms: sizes and errors (S, K) by seed and arm, one fitted curve a seed, and one
    to the means. `why` is the form's choice."""

    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    sizes_SK: np.ndarray
    errors_SK: np.ndarray
    why: Choice
    by_seed: tuple[Curve, ...]
    mean: Curve

    @property
    def sizes(self) -> np.ndarray:
        """Float (K,): the mean numbers of photographs, rising."""
        return self.sizes_SK.mean(0)

    @property
    def falls(self) -> bool:
        """Whether more photographs surely lower the error between the smallest and the largest size (or there is one seed)."""
        gains = self.errors_SK[:, 0] - self.errors_SK[:, -1]
        return bool(t_interval(gains)[1] > 0) if len(gains) > 1 else bool(gains[0] > 0)


@dataclass(frozen=True)
class ArmWorth:
    """What an arm's generated rows are worth. Numbers of rows are means over seeds; `error` has the t interval.

    mode: add, replace or ai (generated rows alone). `control` names what poses as generated; `verdict` is then holds, fails,
    vague (the interval holds 0 and 1) or none; else it is gain, harm, unshown (the interval holds 0) or unknown.
    `seeds_n_eq` are the seeds' own real equivalents, None beyond their curve.
    """

    arm: str
    mode: str
    control: str | None
    n: float
    m: float
    seeds: tuple[int, ...]
    errors: tuple[float, ...]
    error: Interval
    n_eq: Interval
    rho: Interval
    seeds_n_eq: tuple[float | None, ...]
    verdict: str


@dataclass(frozen=True)
class Setting:
    """One way of training: its name ("" where the study has one), its curve, its arms, and what more generated rows bring.

    `saturation`: (mode, number of photographs, whose images) -> how gains grow with m, where three sizes of m or more lie on
    the curve; whose they are is "" where the study has one kind of them.
    `steps`: fixed optimiser steps, or None where epochs are fixed. `left_out`: arm -> why it has no worth.
    """

    name: str
    curve: RealCurve
    arms: tuple[ArmWorth, ...]
    saturation: Mapping[Key, Saturation]
    steps: int | None
    left_out: Mapping[str, str]


class NoCurveError(ConfigError):
    """A setting has too few real-only arms."""


def setting(name: str, records: Sequence[TrialRecord], metric: str, form: str, way: str) -> Setting:
    """Return one setting's curve and the worth of its arms. Raises NoCurveError where there are too few real-only arms."""
    by_arm: dict[str, dict[int, TrialRecord]] = {}
    for record in records:
        by_arm.setdefault(record.arm, {})[record.seed] = record
    real = {arm: trials for arm, trials in by_arm.items() if not any(r.n_generated for r in trials.values())}
    curve = _real_curve(real, metric, form, way)
    tests = {seed: real[curve.arms[0]][seed].test_rows for seed in curve.seeds}
    arms, left_out, errors, kinds = [], {}, {}, {}
    for arm, trials in by_arm.items():
        if arm in real:
            continue
        seeds = [seed for seed in curve.seeds if seed in trials and trials[seed].test_rows == tests[seed]]
        if not seeds:
            left_out[arm] = "shares no seed and test photographs with the learning curve"
            continue
        errors[arm] = (seeds, np.array([_error(trials[seed], metric) for seed in seeds]))
        kinds[arm] = _kind(trials[seeds[0]])
        arms.append(_arm_worth(arm, [trials[seed] for seed in seeds], curve, errors[arm][1], way))
    levels = _saturations(arms, kinds, curve, errors)
    return Setting(name, curve, tuple(arms), levels, records[0].config["train"]["steps"], left_out)


def _real_curve(real: Mapping[str, Mapping[int, TrialRecord]], metric: str, form: str, way: str) -> RealCurve:
    """Return the learning curve of real-only arms over the seeds that all of them have; one arm a size."""
    by_size: dict[float, str] = {}
    for arm, trials in real.items():
        by_size.setdefault(float(np.mean([record.n_real for record in trials.values()])), arm)
    arms = tuple(by_size[size] for size in sorted(by_size))
    if len(arms) < 2:
        have = "; ".join(f"{arm}: {counted(round(size), 'photograph')}" for size, arm in sorted(by_size.items())) or "none"
        raise NoCurveError(f"a learning curve needs at least 3 sizes of real-only arms (there is {have}): add arms with "
                            "mix.max_real = 100, 200, 400 ..., the largest as good as the arms with generated images")
    tests = {(arm, seed): record.test_rows for arm in arms for seed, record in real[arm].items()}
    seeds = tuple(s for s in real[arms[0]] if all(tests.get((arm, s)) == tests[arms[0], s] for arm in arms))
    if not seeds:
        raise NoCurveError(f"no seed has all {len(arms)} real-only arms finished on the same test photographs "
                            f"({listed(arms)}): run the study to its end")
    sizes = np.array([[float(real[arm][seed].n_real or 0) for arm in arms] for seed in seeds])
    errors = np.array([[_error(real[arm][seed], metric) for arm in arms] for seed in seeds])
    why = choose(sizes.mean(0), errors, form)
    return RealCurve(arms, seeds, sizes, errors, why, tuple(fit(n, e, why.form) for n, e in zip(sizes, errors, strict=True)),
                     fit(sizes.mean(0), errors.mean(0), why.form))


def _arm_worth(arm: str, trials: Sequence[TrialRecord], curve: RealCurve, errors: np.ndarray, way: str) -> ArmWorth:
    mix = trials[0].config["mix"]
    n = float(np.mean([record.n_real for record in trials]))
    m = float(np.mean([record.n_generated for record in trials]))
    seeds = tuple(record.seed for record in trials)
    found = _equivalent(curve, seeds, errors, way)
    rho = found.n_eq.scaled(n, m)
    control, steps = mix.get("control"), trials[0].config["train"]["steps"]
    mode = "ai" if n == 0 else "replace" if mix.get("mode") == "replace" else "add"
    mean, low, high = t_interval(errors)
    return ArmWorth(arm, mode, control, n, m, seeds, tuple(map(float, errors)),
                    Interval(mean, *((low, high) if len(seeds) > 1 else (None, None))), found.n_eq, rho, found.seeds,
                    _checked(control, rho, steps) if control else _verdict(found.n_eq, n))


def _equivalent(curve: RealCurve, seeds: Sequence[int], errors: np.ndarray, way: str = "paired") -> Equivalent:
    place = {seed: i for i, seed in enumerate(curve.seeds)}
    return equivalent([curve.by_seed[place[seed]] for seed in seeds], errors, way=way)


def _verdict(n_eq: Interval, n: float) -> str:
    """Return what an interval shows. One that ends at n because the curve ends there lies wholly beyond n."""
    if n_eq.low is None or n_eq.high is None:
        return "unknown"
    beyond = n_eq.value is None
    return "gain" if n_eq.low > n or (beyond and n_eq.low == n) else "harm" if n_eq.high < n or (beyond and n_eq.high == n) \
        else "unshown"


def _checked(control: str, rho: Interval, steps: int | None) -> str:
    """Return whether a control holds: held-back photographs must be worth 1, copies 0, shuffled ones 0 at most."""
    if control == "duplicates" and steps is None:
        return "none"  # under fixed epochs copies also mean more steps
    if rho.low is None or rho.high is None:
        return "none"
    meant = MEANT[control]
    if rho.low > meant or (control != "shuffled" and rho.high < meant):
        return "fails"
    return "vague" if rho.low <= 0 and rho.high >= 1 else "holds"


def _kind(record: TrialRecord) -> tuple[str, str]:
    """Return which generated rows an arm takes, whatever their number: the generators' names, and all settings but numbers."""
    mix = {name: value for name, value in record.config["mix"].items() if name not in _AMOUNTS}
    return ", ".join(record.config.get("generators") or []), json.dumps({**record.config, "mix": mix}, sort_keys=True)


def _saturations(arms: Sequence[ArmWorth], kinds: Mapping[str, tuple[str, str]], curve: RealCurve,
                 errors: Mapping[str, tuple[list[int], np.ndarray]]) -> dict[Key, Saturation]:
    """Return how gains grow with m, where one number of photographs was joined by three numbers of rows of one kind or more."""
    groups: dict[tuple[str, int, tuple[str, str]], list[ArmWorth]] = {}
    for arm in arms:
        if not arm.control and arm.n_eq.value is not None and arm.mode != "replace":  # there n falls as m grows
            groups.setdefault((arm.mode, round(arm.n), kinds[arm.arm]), []).append(arm)
    found: dict[Key, Saturation] = {}
    for (mode, n, (names, settings)), members in groups.items():
        members = sorted(members, key=lambda arm: arm.m)
        rows, gains = np.array([arm.m for arm in members]), np.array([(arm.n_eq.value or 0) - arm.n for arm in members])
        made = saturation(rows, gains, _without(members, curve, errors))
        alone = all(other == (names, settings) for *key, other in groups if key == [mode, n])
        if made:
            found[mode, n, "" if alone else names or members[0].arm] = made
    return found


def _without(arms: Sequence[ArmWorth], curve: RealCurve, errors: Mapping[str, tuple[list[int], np.ndarray]]
             ) -> np.ndarray | None:
    """Return the arms' gains (S, M) with each seed in turn left out; None where seeds differ or one falls off the curve."""
    seeds = arms[0].seeds
    if len(seeds) < 3 or any(arm.seeds != seeds for arm in arms):
        return None
    rows = []
    for left in range(len(seeds)):
        kept = [seed for i, seed in enumerate(seeds) if i != left]
        values = [_equivalent(curve, kept, np.delete(errors[arm.arm][1], left)).n_eq.value for arm in arms]
        rows.append([np.nan if value is None else value - arm.n for value, arm in zip(values, arms, strict=True)])
    return np.array(rows)


def _error(record: TrialRecord, metric: str) -> float:
    value = record.metric(metric)
    assert value is not None
    return value if metric == "loss" else 1 - value
