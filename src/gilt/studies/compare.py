"""Compare: arms against the benchmark, paired over seeds.

The verdict is Student's paired t test, Holm-corrected for the number of arms that are held against the benchmark. Beside it
stand the t interval, the exact sign-flip permutation test (its smallest two-sided p is 2^(1-K) for K seeds), the probability
that the arm is better and, for single runs, McNemar's exact test. `docs/methods.md` has the formulae and their sources.
"""
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gilt.errors import ConfigError, StoreError, counted, listed, near
from gilt.evaluation.metrics import LESS, NAMES, spoken
from gilt.evaluation.significance import ALPHA, Better, McNemar, better, holm, paired_t, sign_flip
from gilt.evaluation.uncertainty import t_interval
from gilt.studies.answers import Answers, Part
from gilt.studies.store import Store, TrialRecord

Trials = Store | Path | str | Sequence[TrialRecord]
ENOUGH = 6  # seeds: fewer cannot reach p < 0.05 in a permutation test


@dataclass(frozen=True)
class Effect:
    """The difference arm - benchmark in a metric, over seeds that both have; in points (of 100), in nats for the loss.

    low and high are None below two seeds and where the seeds' differences are all equal, which gives no spread to judge
    by; the verdict is then unknown. Else it is beats, matches or trails: beats and trails need `p_holm` < 0.05.

    `p` is the exact sign-flip permutation test, `p_t` the paired t test, `p_holm` that (or McNemar's p, of a single run)
    corrected for the `arms` that were compared. `better` is the probability that the arm is better; `mcnemar` is there for a
    single run whose predictions are in the store, with the arm as `a`.
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
    p_t: float | None = None
    p_holm: float | None = None
    arms: int = 0
    better: Better | None = None
    mcnemar: McNemar | None = None
    part: Part = "test"


def compare(records: Trials, benchmark: str, *, metric: str = "accuracy", part: Part = "test") -> list[Effect]:
    """Return the effect of every other arm against the benchmark, by arm in the records' order.

    Given a Store or its folder, the stored predictions tell too: the probability of being better then is over test images as
    well as seeds, and single runs have McNemar's test. Only seeds under which both were judged on the same images are paired.
    For the metrics in LESS (the loss, errors), less is better. Raises ConfigError for an unknown metric.
    """
    check_metric(metric)
    found, store = taken(records)
    answers = Answers(store, part)
    trials: dict[str, dict[int, TrialRecord]] = {}
    for record in found:
        if record.state == "finished" and record.metric(metric, part) is not None:
            trials.setdefault(record.arm, {})[record.seed] = record
    base, effects = trials.get(benchmark, {}), []
    for arm, by_seed in trials.items():
        seeds = [s for s in base if s in by_seed and judged_on(by_seed[s], part) == judged_on(base[s], part)]
        if arm != benchmark and seeds:
            effects.append(_effect([(by_seed[s], base[s]) for s in seeds], metric, answers))
    return _corrected(effects)


def taken(records: Trials) -> tuple[list[TrialRecord], Store | None]:
    """Return a study's records, and its store where one was given. Raises StoreError for a tuning's."""
    if isinstance(records, (Store, str, Path)):
        store = records if isinstance(records, Store) else Store(records)
        if store.summary["kind"] != "study":
            raise StoreError(f"{store.address} holds the {store.summary['kind']} {store.summary['name']!r}: only the arms of a "
                             "study are compared")
        return store.records(), store
    return list(records), None


def check_metric(metric: str) -> None:
    """Raise ConfigError where there is no such metric."""
    if metric not in NAMES:
        raise ConfigError(f"no metric {metric!r} (there are: {listed(NAMES, most=20)}).{near(metric, NAMES)}")


def judged_on(record: TrialRecord, part: Part) -> str | None:
    """Return what names the images that a trial was judged on: trials with the same are a pair."""
    if part == "test":
        return record.test_rows
    return record.val_rows or f"{record.val_set} {record.n_val}"  # records of older versions know no more


def _effect(pairs: Sequence[tuple[TrialRecord, TrialRecord]], metric: str, answers: Answers) -> Effect:
    """Return the effect over pairs (arm's trial, benchmark's trial), one a seed; the correction comes later."""
    scale, part = 1 if metric == "loss" else 100, answers.part
    differences = [scale * (mine.metric(metric, part) - theirs.metric(metric, part))  # type: ignore[operator]
                   for mine, theirs in pairs]
    mean, low, high = t_interval(np.array(differences))
    gains = [answers.gains(*pair, metric) for pair in pairs]
    if any(own is None for own in gains):  # seeds are all that is known
        gains = [-d if metric in LESS else d for d in differences]
    effect = Effect(pairs[0][0].arm, pairs[0][1].arm, metric, mean, None, None, None, tuple(mine.seed for mine, _ in pairs),
                    tuple(differences), "unknown", better=better(gains), part=part,
                    mcnemar=answers.mcnemar(*pairs[0]) if len(pairs) == 1 else None)
    if (p := paired_t(differences)) is None:
        return effect
    return replace(effect, low=low, high=high, p=sign_flip(differences), p_t=p)


def _corrected(effects: Sequence[Effect]) -> list[Effect]:
    """Return effects with Holm's p over all of them, and the verdicts that rest on it."""
    ps = [effect.mcnemar.p if effect.mcnemar else effect.p_t for effect in effects]
    arms = sum(p is not None for p in ps)
    return [replace(effect, p_holm=p, arms=arms, verdict=_verdict(effect, p))
            for effect, p in zip(effects, holm(ps), strict=True)]


def _verdict(effect: Effect, p_holm: float | None) -> str:
    if effect.p_t is None or p_holm is None:
        return "unknown"
    return "matches" if p_holm >= ALPHA else "beats" if (effect.mean > 0) != (effect.metric in LESS) else "trails"


def verdicts(records: Trials, benchmark: str | None, *, metric: str = "accuracy", part: Part = "test") -> list[str]:
    """Return the study's answer in a metric, in plain sentences, the main one first."""
    found, store = taken(records)
    finished = [record for record in found if record.state == "finished"]
    if not finished:
        return ["No trial is finished yet."]
    if benchmark is not None and not any(record.arm == benchmark for record in finished):
        return [f"No trial of the benchmark {benchmark!r} is finished: there is nothing to hold the arms against yet."]
    if benchmark is None:
        return ["There is no benchmark to hold the arms against: name one in the study file, as in "
                "benchmark = \"real\"."]
    effects = compare(store or finished, benchmark, metric=metric, part=part)
    if not effects and all(record.arm == benchmark for record in finished):
        return [f"Only the benchmark {benchmark!r} is finished: there is nothing to hold against it yet."]
    if not effects:
        return [f"No arm shares a seed and test photographs with the benchmark {benchmark!r}"
                f"{'' if metric == 'accuracy' else f', and has a {spoken(metric)}'}: nothing can be compared."]
    sentences = [_lead(effects, benchmark), *(_sentence(effect) for effect in effects)]
    alone = sorted({record.arm for record in finished} - {benchmark, *(effect.arm for effect in effects)})
    if alone:
        sentences.append(f"Not compared, sharing no seed or no test photographs with {benchmark}: {listed(alone)}.")
    return [*sentences, *cautions(effects)]


def cautions(effects: Sequence[Effect]) -> list[str]:
    """Return what the verdicts allow for: the number of arms, and the number of seeds."""
    said, judged = [], [effect for effect in effects if effect.p_t is not None]
    if len(judged) > 1:
        said.append(f"The verdicts allow for {judged[0].arms} arms being held against the benchmark (Holm): an arm beats or "
                    "trails it where its corrected p is below 0.05. Each interval is that of its arm alone.")
    close = sum(effect.verdict == "matches" and effect.p_t < ALPHA for effect in judged)  # type: ignore[operator]
    if close:
        said.append(f"{counted(close, 'arm')} would differ from the benchmark if compared alone: more seeds, or fewer arms, "
                    "would tell.")
    most = max((len(effect.seeds) for effect in effects), default=0)
    if 2 <= most < ENOUGH:
        said.append(f"With {most} seeds no permutation test can reach p < 0.05 (the smallest possible p is "
                    f"{2 ** (1 - most):g}): the intervals rest on Student's t. Six seeds or more are better.")
    return said


def effect_rows(effects: Sequence[Effect]) -> tuple[list[str], list[list[str | int]]]:
    """Return (header, rows) of the table of effects as text: differences, intervals, p values, probability of being better."""
    unit, digits = ("nats", 3) if effects and effects[0].metric == "loss" else ("points", 1)
    of = f" of {effects[0].part} {spoken(effects[0].metric)}" if effects else ""
    rows: list[list[str | int]] = []
    for effect in effects:
        none = "none: one seed" if len(effect.seeds) == 1 else "none: no spread"
        interval = none if effect.low is None else f"{effect.low:+.{digits}f} to {effect.high:+.{digits}f}"
        won = effect.better
        chance = "-" if won is None else f"{won.value:.2f} [{won.low:.2f}, {won.high:.2f}]"
        verdict = "none" if effect.verdict == "unknown" else f"{effect.verdict} {effect.benchmark}"
        rows.append([effect.arm, f"{effect.mean:+.{digits}f}", interval, len(effect.seeds), verdict, _p(effect.p_holm),
                     _p(effect.p_t), _p(effect.p), chance])
    return ["arm", f"difference ({unit}{of})", "95 % interval", "seeds", "verdict", "corrected p (Holm)", "t p",
            "sign-flip p", "P(better) [95 %]"], rows


def _p(p: float | None) -> str:
    return "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


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
    of, by = f"{unit} of {effect.part} {spoken(effect.metric)}", f"{abs(effect.mean):.{digits}f}"
    if effect.low is None or effect.high is None:
        return _without_interval(effect, f"{by} {of}", f"{effect.mean:+.{digits}f} {unit}")
    interval = f"95 % interval {effect.low:+.{digits}f} to {effect.high:+.{digits}f}, {len(effect.seeds)} seeds"
    if effect.verdict != "matches":
        return f"{arm} {effect.verdict} {base} by {by} {of} ({interval})."
    if effect.low <= 0 <= effect.high:
        return f"{arm} matches {base}: {effect.mean:+.{digits}f} {of}; the {interval}, holds zero."
    return (f"{arm} matches {base}: {effect.mean:+.{digits}f} {of}; the {interval}, leaves zero out, but not once corrected "
            f"for {effect.arms} arms (p = {effect.p_holm:.2f}).")


def _without_interval(effect: Effect, by_of: str, signed: str) -> str:
    arm, base = effect.arm, effect.benchmark
    if len(effect.seeds) > 1:
        return (f"{arm} against {base}: {signed} under each of {len(effect.seeds)} seeds. Without "
                "spread there is no interval, so no verdict: more seeds or more test images are needed.")
    side = "above" if effect.mean > 0 else "below" if effect.mean < 0 else "level with"
    said = f"{arm}: {by_of} {side} {base} under one seed."
    if found := effect.mcnemar:
        also = f", {effect.p_holm:.2g} for {effect.arms} arms (Holm)" if effect.arms > 1 else ""
        said += (f" On this test set only: of {found.n:,} images {arm} alone has {found.only_a:,} right and {base} alone "
                 f"{found.only_b:,} (exact McNemar p = {found.p:.2g}{also}).")
    return f"{said} No interval, so no verdict: run more seeds."
