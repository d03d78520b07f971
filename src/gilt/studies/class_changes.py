"""Class changes: which classes an arm helped and which it hurt, against the benchmark on the same test images."""
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from gilt.errors import counted
from gilt.evaluation.significance import ALPHA, holm, mcnemar, paired_t
from gilt.evaluation.uncertainty import paired_wilson, t_interval
from gilt.studies.pairs import Pair, Pairs, benchmark_of
from gilt.studies.store import Store


@dataclass(frozen=True)
class ClassChange:
    """How an arm's recall of one class differs from the benchmark's: the part of its test images that are named rightly.

    `benchmark_recall` and `recall` are in [0, 1], means over `seeds`; `difference`, `low` and `high` in points (of 100), arm -
    benchmark. `class_` is an origin where the study's target is the origin. `images` counts the class's distinct test images.

    `kind` says what the interval and `p` speak of: `seeds` (two or more: Student's t over the seeds' differences, so other
    seeds, tested on images such as these), `images` (one seed: Wilson's interval for pairs and McNemar's exact test, so this
    network, on other images) or `none` (the seeds' differences are all equal, which gives no spread to judge by).
    `p_holm` is `p` corrected for all classes of the arm; `verdict` is helped or hurt where it is below 0.05, else unclear.
    """

    arm: str
    benchmark: str
    class_: str
    benchmark_recall: float
    recall: float
    difference: float
    low: float | None
    high: float | None
    kind: Literal["seeds", "images", "none"]
    images: int
    seeds: tuple[int, ...]
    p: float | None
    p_holm: float | None = None
    verdict: Literal["helped", "hurt", "unclear"] = "unclear"


def class_changes(store: Store | Path | str, benchmark: str | None = None) -> list[ClassChange]:
    """Return one change for each arm but the benchmark and each class, arms in the study's order, classes by name.

    Recall is over the images that both were tested on under a seed, from the stored predictions. An arm that shares no seed
    and test images with the benchmark has none; nor has any where the study has no benchmark (and none is named).
    Over seeds nothing is said of other test images: a class of ten images that moves by one under every seed is shown to move,
    on these ten. Raises ConfigError where `benchmark` is no arm, StoreError for a tuning.
    """
    store = store if isinstance(store, Store) else Store(store)
    against = benchmark_of(store, benchmark)
    if against is None:
        return []
    pairs = Pairs(store, against)
    return [change for arm in pairs.arms for change in _changes(arm, against, pairs.of(arm))]


def _changes(arm: str, benchmark: str, pairs: Sequence[Pair]) -> list[ClassChange]:
    names = sorted({str(name) for pair in pairs for name in pair.arm.names})
    found = [_change(arm, benchmark, name, pairs) for name in names]
    return [replace(change, p_holm=p, verdict=_verdict(change.difference, p))
            for change, p in zip(found, holm([change.p for change in found]), strict=True)]


def _change(arm: str, benchmark: str, name: str, pairs: Sequence[Pair]) -> ClassChange:
    """Return one class's change, not yet corrected for the other classes."""
    own = [(pair, chosen) for pair in pairs if (chosen := pair.arm.names == name).any()]
    mine = [pair.arm.right[chosen] for pair, chosen in own]
    theirs = [pair.benchmark.right[chosen] for pair, chosen in own]
    recalls_2K = np.array([[right.mean() for right in side] for side in (theirs, mine)])
    differences = 100 * (recalls_2K[1] - recalls_2K[0])
    images = len({path for pair, chosen in own for path in pair.arm.paths[chosen]})
    change = ClassChange(arm, benchmark, name, *map(float, recalls_2K.mean(1)), float(differences.mean()), None, None, "none",
                         images, tuple(pair.seed for pair, _ in own), None)
    if len(own) == 1:
        low, high = paired_wilson(mine[0], theirs[0])
        return replace(change, kind="images", low=100 * low, high=100 * high, p=mcnemar(mine[0], theirs[0]).p)
    if (p := paired_t(differences)) is None:
        return change
    _, low, high = t_interval(differences)
    return replace(change, kind="seeds", low=max(low, -100.0), high=min(high, 100.0), p=p)


def _verdict(difference: float, p_holm: float | None) -> Literal["helped", "hurt", "unclear"]:
    if p_holm is None or p_holm >= ALPHA:
        return "unclear"
    return "helped" if difference > 0 else "hurt"


def class_sentences(changes: Sequence[ClassChange]) -> list[str]:
    """Return, arm by arm, which classes it helped and which it hurt, in plain sentences."""
    return [_sentence([change for change in changes if change.arm == arm])
            for arm in dict.fromkeys(change.arm for change in changes)]


def _sentence(changes: Sequence[ClassChange]) -> str:
    first, count, most = changes[0], len(changes), 6
    parts = []
    for verdict in ("helped", "hurt"):
        own = sorted((c for c in changes if c.verdict == verdict), key=lambda c: -abs(c.difference))
        names = ", ".join(f"{c.class_} {c.difference:+.1f} (n = {c.images:,})" for c in own[:most])
        more = f" and {len(own) - most} more" if len(own) > most else ""
        parts.append(f"{verdict} {len(own)}{f': {names}{more}' if own else ''}")
    alone = sum(c.verdict == "unclear" and c.p is not None and c.p < ALPHA for c in changes)
    also = f"; {alone} more would differ if {'it were' if alone == 1 else 'each were'} looked at alone" if alone else ""
    seeds = max(len(change.seeds) for change in changes)
    over = f"over {seeds} seeds" if seeds > 1 else "under one seed, on this test set only"
    return (f"Of {counted(count, 'class')}, {first.arm} {parts[0]}; {parts[1]} (points of recall against {first.benchmark}, "
            f"n images, {over}, p corrected for {count}{also}).")
