"""Regret: what is lost by validating on generated or mixed images, when new photographs are what counts.

The thesis chose a mix, and what its networks were validated on, by eye. Validation acts in two places, so there are two
regrets, in test points (nats for the loss); above 0 is lost:

    training     L_x = M(real val) - M(val x)        one network, trained alike; val rows choose its epoch
    selection    S_x = max_a M_a - M_a*,  a* = argmax_a V_a     arms validated on x; their val metric V chooses one of them

M is the metric on the test photographs (its negative for the loss). Both are taken seed by seed, and the interval is Student's
t over seeds.
"""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gilt.config import TrialConfig
from gilt.evaluation.metrics import LESS, spoken
from gilt.evaluation.uncertainty import t_interval
from gilt.files import fingerprint
from gilt.studies.compare import check_metric, judged_on, taken
from gilt.studies.store import Store, TrialRecord

Arms = Mapping[str, Mapping[int, TrialRecord]]


@dataclass(frozen=True)
class Regret:
    """Test metric lost by validating on `val` ("real", "generated", "mix", or "mix 0.5" with its generated part).

    `lost` is the mean of `by_seed`, in points (of 100; nats for the loss); above 0 is worse. `low` and `high` are None below
    two seeds and where all seeds lose the same.

    kind "training": `arms` against the arms in `against`, which differ from them in nothing but validating on `reference`
    ("real"; "mix" where the target is the origin). Several arms: the mean over them. `acts` is False where validation chooses
    nothing in training (the last epoch is kept, nothing stops early, no plateau): nothing can be lost then.

    kind "selection": of `arms`, all validated on `val`, the one with the best val metric was taken (`chosen`, one a seed; of
    ties the mean, "a or b") instead of the best on test (`against`, one a seed). `choice` has the best mean val metric over
    all seeds, and `choice_lost` is what it loses on mean test to the best mean. Nobody can reach 0 but by luck: the best on
    test is picked knowing the test. So hold kinds of validation against each other, not against 0.
    """

    kind: Literal["training", "selection"]
    val: str
    metric: str
    arms: tuple[str, ...]
    against: tuple[str, ...]
    seeds: tuple[int, ...]
    by_seed: tuple[float, ...]
    lost: float
    low: float | None
    high: float | None
    reference: str | None = None
    acts: bool = True
    chosen: tuple[str, ...] = ()
    choice: str | None = None
    choice_lost: float | None = None


def regrets(store: Store | Path | str, *, metric: str | None = None) -> list[Regret]:
    """Return what validating on generated or mixed images cost a study: training regrets first, then selection regrets.

    A training regret needs arms that differ in `mix.val` (or its share) only; a selection regret two arms or more with one
    kind of validation and the same test images. Controls are no candidates. `metric` is the study's by default. [] where there
    is neither. Raises ConfigError for an unknown metric, StoreError for a tuning.
    """
    store = store if isinstance(store, Store) else Store(store)
    records, _ = taken(store)
    metric = metric or store.summary["metric"]
    check_metric(metric)
    trials: dict[str, dict[int, TrialRecord]] = {}
    configs: dict[str, TrialConfig] = {}
    for record in records:
        if record.state == "finished" and record.metric(metric) is not None:
            configs.setdefault(record.arm, TrialConfig.model_validate(record.config))
            if configs[record.arm].mix.control is None:
                trials.setdefault(record.arm, {})[record.seed] = record
    configs = {arm: configs[arm] for arm in trials}
    return [*_training(trials, configs, metric), *_selection(trials, configs, metric)]


def _kind_of_val(config: TrialConfig) -> str:
    """Return what an arm validates on."""
    kind = config.mix.val or ("real" if config.target == "class" else "mix")
    return kind if config.mix.val_share is None else f"{kind} {config.mix.val_share:g}"


def _rest(config: TrialConfig) -> str:
    """Return what names all of an arm's settings but what it validates on."""
    plain = config.model_dump(mode="json")
    plain["mix"] = {name: value for name, value in plain["mix"].items() if name not in ("val", "val_share")}
    return fingerprint(plain)


def _acts(config: TrialConfig) -> bool:
    train = config.train
    return train.keep != "last" or train.early_stopping is not None or train.schedule == "plateau"


def _training(trials: Arms, configs: Mapping[str, TrialConfig], metric: str) -> list[Regret]:
    """Return each kind of validation against the reference: all its arms together where there are several, then each."""
    alike: dict[str, dict[str, str]] = {}
    for arm, config in configs.items():
        alike.setdefault(_rest(config), {}).setdefault(_kind_of_val(config), arm)
    pairs: dict[str, list[tuple[str, str]]] = {}
    for arms in alike.values():
        reference = "real" if configs[next(iter(arms.values()))].target == "class" else "mix"
        for val, arm in arms.items():
            if val != reference and reference in arms:
                pairs.setdefault(val, []).append((arm, arms[reference]))
    found = []
    for val, members in pairs.items():
        groups = [members, *([pair] for pair in members)] if len(members) > 1 else [members]
        found += [regret for group in groups if (regret := _trained(val, group, trials, configs, metric)) is not None]
    return found


def _trained(val: str, pairs: Sequence[tuple[str, str]], trials: Arms, configs: Mapping[str, TrialConfig], metric: str
             ) -> Regret | None:
    """Return the regret of pairs (arm, the same arm with the reference), over the seeds that all of them share."""
    shared = [{seed for seed in trials[arm].keys() & trials[other].keys()
               if judged_on(trials[arm][seed], "test") == judged_on(trials[other][seed], "test")} for arm, other in pairs]
    seeds = sorted(set.intersection(*shared))
    if not seeds:
        return None
    lost = [float(np.mean([_test(trials[other][seed], metric) - _test(trials[arm][seed], metric) for arm, other in pairs]))
            for seed in seeds]
    arms, against = zip(*pairs, strict=True)
    return Regret("training", val, metric, arms, against, tuple(seeds), tuple(lost), *_interval(lost),
                  reference=_kind_of_val(configs[against[0]]), acts=any(_acts(configs[arm]) for arm in arms + against))


def _selection(trials: Arms, configs: Mapping[str, TrialConfig], metric: str) -> list[Regret]:
    groups: dict[str, dict[str, Mapping[int, TrialRecord]]] = {}
    for arm, own in trials.items():
        known = {seed: record for seed, record in own.items() if record.metric(metric, "val") is not None}
        if known:
            groups.setdefault(_kind_of_val(configs[arm]), {})[arm] = known
    found = [_selected(val, arms, metric) for val, members in groups.items() for arms in _tested_alike(members)]
    return [regret for regret in found if regret is not None]


def _tested_alike(trials: Arms) -> list[Arms]:
    """Return groups of two arms or more that were tested on the same images under every seed that they share."""
    groups: list[dict[str, Mapping[int, TrialRecord]]] = []
    for arm, own in trials.items():
        for group in groups:
            first = next(iter(group.values()))
            shared = own.keys() & first.keys()
            if shared and all(judged_on(own[seed], "test") == judged_on(first[seed], "test") for seed in shared):
                group[arm] = own
                break
        else:
            groups.append({arm: own})
    return [group for group in groups if len(group) > 1]


def _selected(val: str, trials: Arms, metric: str) -> Regret | None:
    """Return the selection regret of arms validated alike, over the seeds that all of them have; None without such a seed."""
    seeds = sorted(set.intersection(*(set(own) for own in trials.values())))
    if not seeds:
        return None
    arms = list(trials)
    tests_AK, vals_AK = (np.array([[_value(trials[arm][seed], metric, part) for seed in seeds] for arm in arms])
                         for part in ("test", "val"))
    chosen = [_best(column) for column in vals_AK.T]
    lost = [float(column.max() - column[picked].mean()) for column, picked in zip(tests_AK.T, chosen, strict=True)]
    means, (choice, *_) = tests_AK.mean(1), _best(vals_AK.mean(1))
    mean, low, high = _interval(lost)
    return Regret("selection", val, metric, tuple(arms), _named(arms, [_best(column) for column in tests_AK.T]), tuple(seeds),
                  tuple(lost), mean, None if low is None else max(low, 0.0), high, chosen=_named(arms, chosen),
                  choice=arms[choice], choice_lost=float(means.max() - means[choice]))


def _best(values: np.ndarray) -> np.ndarray:
    return np.flatnonzero(values >= values.max() - 1e-9)


def _named(arms: Sequence[str], places: Sequence[np.ndarray]) -> tuple[str, ...]:
    return tuple(" or ".join(arms[i] for i in own) for own in places)


def _value(record: TrialRecord, metric: str, part: Literal["val", "test"]) -> float:
    """Return a metric in points, more being better; the loss in nats, its sign turned."""
    value = record.metric(metric, part)
    return (-1 if metric in LESS else 1) * (1 if metric == "loss" else 100) * value  # type: ignore[operator]


def _test(record: TrialRecord, metric: str) -> float:
    return _value(record, metric, "test")


def _interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Return (mean, low, high); no interval below two values, nor without spread."""
    mean, low, high = t_interval(np.array(values))
    return (mean, None, None) if len(values) < 2 or np.ptp(values) < 1e-9 else (mean, low, high)


def regret_sentences(found: Sequence[Regret]) -> list[str]:
    """Return what validation cost, in plain sentences: training regrets of all arms together, then selection regrets."""
    whole = [max((r for r in found if r.kind == "training" and r.val == val), key=lambda r: len(r.arms))
             for val in dict.fromkeys(r.val for r in found if r.kind == "training")]
    return [*map(_trained_sentence, whole), *(_selected_sentence(r) for r in found if r.kind == "selection")]


def _trained_sentence(regret: Regret) -> str:
    of = f"{'nats' if regret.metric == 'loss' else 'points'} of test {spoken(regret.metric)}"
    over = f"{len(regret.arms)} {'arm' if len(regret.arms) == 1 else 'arms'}"
    said = f"Training with {_rows(regret.val)} val rows instead of {_rows(str(regret.reference))} ones ({over})"
    if not regret.acts:
        return f"{said} changed nothing, as validation chooses nothing here: the last epoch is kept (train.keep)."
    verb = "lost" if regret.lost >= 0 else "gained"
    holds = "" if regret.low is None or regret.high is None or not regret.low <= 0 <= regret.high else ", which holds zero"
    return f"{said} {verb} {_size(regret, abs(regret.lost))} {of} ({_between(regret)}{holds})."


def _selected_sentence(regret: Regret) -> str:
    of = f"{'nats' if regret.metric == 'loss' else 'points'} of test {spoken(regret.metric)}"
    return (f"Choosing among {len(regret.arms)} arms by {_rows(regret.val)} val rows lost {_size(regret, regret.lost)} {of} "
            f"to the best on test, seed by seed ({_between(regret)}); over all seeds it chooses {regret.choice}, which lost "
            f"{_size(regret, regret.choice_lost or 0.0)}.")


def _rows(val: str) -> str:
    kind, _, share = val.partition(" ")
    return {"mix": "mixed"}.get(kind, kind) + (f" ({share} generated)" if share else "")


def _size(regret: Regret, value: float) -> str:
    return f"{value:.{3 if regret.metric == 'loss' else 1}f}"


def _between(regret: Regret) -> str:
    seeds = f"{len(regret.seeds)} seeds"
    if regret.low is None or regret.high is None:
        return "one seed, so no interval" if len(regret.seeds) == 1 else f"the same under all {seeds}, so no interval"
    return f"95 % interval {_ends(regret)}, {seeds}"


def regret_rows(found: Sequence[Regret]) -> tuple[list[str], list[list[Any]]]:
    """Return (header, rows) of the table of regrets as text."""
    header = ["regret", "validated on", "arms", "instead of", "lost", "95 % interval", "seeds"]
    return header, [[r.kind, _rows(r.val), _few(r.arms), _few(r.against) if r.kind == "training" else "the best on test",
                     _size(r, r.lost), _ends(r), len(r.seeds)] for r in found]


def _ends(regret: Regret) -> str:
    none = regret.low is None or regret.high is None
    return "none" if none else f"{_size(regret, regret.low)} to {_size(regret, regret.high)}"  # type: ignore[arg-type]


def _few(arms: Sequence[str]) -> str:
    return ", ".join(arms) if len(arms) <= 3 else f"{len(arms)} arms"
