"""Best: the set of arms that validation cannot tell from the best one, with what they come to on test. Never one argmax.

The arm with the best mean val metric is held against every other, paired over seeds, with a one-sided t test at 5 % divided by
the number of others (Bonferroni). Whichever arm is truly best on validation, it is then left out in at most 5 % of studies:
multiple comparisons with the best (Hsu 1996). Arms are compared on the same val rows only. No test row takes part in it.
"""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from gilt.errors import counted, listed
from gilt.evaluation.metrics import LESS, spoken
from gilt.evaluation.significance import ALPHA
from gilt.evaluation.uncertainty import t_interval
from gilt.studies.compare import Trials, check_metric, judged_on, taken
from gilt.studies.outcome import figure
from gilt.studies.store import TrialRecord

Arms = Mapping[str, Mapping[int, TrialRecord]]
NAMED = 6  # arms that a sentence names with their test figures


@dataclass(frozen=True)
class Tested:
    """What an arm of the set comes to on test: the mean over seeds, in the metric's own unit, with its t interval."""

    arm: str
    name: str
    val: float
    test: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class BestSet:
    """The arms, best on validation first, that may be the best of `candidates`; all were judged on the same val rows.

    `shares`: whether the candidates differ in their mix only, so that `name` is the training set, as in Aug(20-80).
    """

    metric: str
    val_set: str
    seeds: tuple[int, ...]
    candidates: tuple[str, ...]
    arms: tuple[Tested, ...]
    shares: bool


def best_sets(records: Trials, *, metric: str = "accuracy") -> list[BestSet]:
    """Return the set of best arms, chosen on validation; one set for each kind of val rows that two arms or more share.

    Where validation type is a factor, figures on real and on generated val rows are no measure of each other: each kind has a
    set of its own. Controls are no candidates. Raises ConfigError for an unknown metric.
    """
    check_metric(metric)
    trials: dict[str, dict[int, TrialRecord]] = {}
    for record in taken(records)[0]:
        if (record.state == "finished" and record.metric(metric, "val") is not None
                and not record.config.get("mix", {}).get("control")):
            trials.setdefault(record.arm, {})[record.seed] = record
    found = (_best(group, metric) for group in _alike(trials) if len(group) > 1)
    return [best for best in found if best is not None]


def _alike(trials: Arms) -> list[Arms]:
    """Return groups of arms that were judged on the same val rows, under every seed that they share."""
    groups: list[dict[str, Mapping[int, TrialRecord]]] = []
    for arm, own in trials.items():
        for group in groups:
            first = next(iter(group.values()))
            shared = [seed for seed in own if seed in first]
            if shared and all(judged_on(own[seed], "val") == judged_on(first[seed], "val") for seed in shared):
                group[arm] = own
                break
        else:
            groups.append({arm: own})
    return list(groups)


def _best(trials: Arms, metric: str) -> BestSet | None:
    """Return the set of one group of arms, over the seeds that all of them have; None where there is no such seed."""
    seeds = sorted(set.intersection(*(set(own) for own in trials.values())))
    if not seeds:
        return None
    sign = -1 if metric in LESS else 1
    values = {arm: np.array([sign * (own[seed].metric(metric, "val") or 0.0) for seed in seeds]) for arm, own in trials.items()}
    order = sorted(values, key=lambda arm: -values[arm].mean())
    kept = [arm for arm in order if not _worse(values[order[0]] - values[arm], len(order) - 1)]
    shares = _only_mixes_differ(trials)
    tested = tuple(_tested(arm, [trials[arm][seed] for seed in seeds], metric, shares) for arm in kept)
    sets = dict.fromkeys(str(own[seeds[0]].val_set) for own in trials.values())
    return BestSet(metric, ", ".join(sets), tuple(seeds), tuple(trials), tested, shares)


def _worse(gaps: np.ndarray, others: int) -> bool:
    """Tell whether an arm is surely worse than the best, by its gaps (K,); without spread nothing is sure."""
    if len(gaps) < 2 or np.ptp(gaps) < 1e-12:
        return False
    return float(stats.ttest_1samp(gaps, 0.0, alternative="greater").pvalue) < ALPHA / others


def _only_mixes_differ(trials: Arms) -> bool:
    """Tell whether arms differ in how much is generated only, and each training set's name is its own."""
    firsts = [next(iter(own.values())).config for own in trials.values()]
    configs = [{key: value for key, value in config.items() if key != "mix"} for config in firsts]
    names = {_train_set(own.values()) for own in trials.values()}
    return all(config == configs[0] for config in configs) and len(names) == len(trials) and "" not in names


def _train_set(records: Sequence[TrialRecord]) -> str:
    names = {record.train_set for record in records}
    return str(names.pop()) if len(names) == 1 else ""


def _tested(arm: str, records: Sequence[TrialRecord], metric: str, shares: bool) -> Tested:
    val = float(np.mean([record.metric(metric, "val") or 0.0 for record in records]))
    known = np.array([value for record in records if (value := record.metric(metric)) is not None])
    name = _train_set(records) if shares else arm
    if len(known) < 2 or np.ptp(known) < 1e-12:
        return Tested(arm, name, val, float(known.mean()) if len(known) else None, None, None)
    mean, low, high = t_interval(known)
    most = np.inf if metric == "loss" else 1.0  # Student's t knows no bounds
    return Tested(arm, name, val, mean, max(low, 0.0), min(high, most))


def best_sentences(records: Trials, *, metric: str = "accuracy") -> list[str]:
    """Return which arms may be the best, in plain sentences: one for each kind of val rows."""
    found = best_sets(records, metric=metric)
    trials = [record for record in taken(records)[0] if record.state == "finished"]
    if len({record.arm for record in trials}) < 2:
        return []
    if not found:
        if all(record.metric(metric, "val") is None for record in trials):
            return [f"No best arm is chosen: no trial has a val {spoken(metric)}, and test rows are not for choosing."]
        return ["No best arm is chosen: no two arms share a seed and the same val rows."]
    sentences = [_sentence(best, several=len(found) > 1) for best in found]
    lone = {record.arm for record in trials} - {arm for best in found for arm in best.candidates}
    lone -= {record.arm for record in trials if record.config.get("mix", {}).get("control")}
    if len(found) > 1 or lone:
        alone = f" Without others to choose from: {listed(sorted(lone))}." if lone else ""
        sentences.append("Arms with other val rows are no candidates for one set: figures on different val rows do not measure "
                         f"each other.{alone}")
    return sentences


def _sentence(best: BestSet, *, several: bool) -> str:
    noun, of = "share" if best.shares else "arm", len(best.candidates)
    where = f"validation ({best.val_set} val rows)" if several else "validation"
    first = best.arms[0]
    if len(best.seeds) < 2:
        return (f"Highest on {where}: {first.name}, of {of} {noun}s under one seed. Nothing tells it from the others: run more "
                "seeds.").replace("Highest", "Lowest" if best.metric in LESS else "Highest")
    on_test = listed((f"{tested.name} {_figures(tested, best.metric)}" for tested in best.arms[:NAMED]), most=NAMED)
    if len(best.arms) == of:
        said = f"Best {noun}s, chosen on {where}: none of {of} can be ruled out over {counted(len(best.seeds), 'seed')}"
    else:
        names = listed((tested.name for tested in best.arms), most=20)
        said = f"Best {noun}{'s' if best.arms[1:] else ''}, chosen on {where}: {names} (of {of})"
    more = f" (the first {NAMED} of them)" if len(best.arms) > NAMED else ""
    return f"{said}; on test{more}, {spoken(best.metric)}: {on_test}."


def _figures(tested: Tested, metric: str) -> str:
    if tested.low is None or tested.high is None:
        return figure(metric, tested.test)
    return f"{figure(metric, tested.test)} (95 % interval {figure(metric, tested.low)} to {figure(metric, tested.high)})"
