"""Across: the same arms over the stores of several data sets, ranked by Friedman's and Nemenyi's tests (Demsar 2006)."""
import fnmatch
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy import stats

from gilt.errors import ConfigError, StoreError, counted, listed, near
from gilt.evaluation.metrics import LESS, spoken
from gilt.evaluation.significance import ALPHA, Friedman, friedman
from gilt.studies.answers import Part
from gilt.studies.compare import check_metric, taken
from gilt.studies.store import Store

MANY = 10  # data sets: Demsar's advice for the approximations that Nemenyi's test rests on


@dataclass(frozen=True)
class Across:
    """Arms on data sets: `values` float (D, A), each a mean over the seeds that all of the data set's arms have.

    `ranking` is Friedman's and Nemenyi's result; for two arms it is None, and `wilcoxon` is the p of the signed-rank test.
    `left_out` are arms that not every store has, `alike` pairs of stores that hold the same images.
    """

    metric: str
    part: Part
    datasets: tuple[str, ...]
    arms: tuple[str, ...]
    values: np.ndarray
    seeds: tuple[int, ...]
    ranking: Friedman | None
    wilcoxon: float | None
    left_out: tuple[str, ...] = ()
    alike: tuple[tuple[str, str], ...] = ()

    @property
    def ranks(self) -> np.ndarray:
        """Float (A,): the mean rank of each arm over data sets; 1 is best, ties share."""
        sign = 1 if self.metric in LESS else -1
        return stats.rankdata(np.round(sign * self.values, 12), axis=1).mean(0)

    @property
    def sentences(self) -> list[str]:
        """What the data sets say together, the main thing first."""
        return [*(_two(self) if self.ranking is None else _many(self, self.ranking)), *_notes(self)]


def across(stores: Sequence[Store | Path | str], *, metric: str = "accuracy", arms: Sequence[str] = ("*",),
           part: Part = "test") -> Across:
    """Return how arms of the same name compare over stores, one store a data set; `arms` are names or patterns of them.

    Raises ConfigError for an unknown metric, and StoreError below two stores or two arms that all of them share.
    """
    check_metric(metric)
    if len(stores) < 2:
        raise StoreError("data sets are compared over two stores or more, one a data set")
    opened = [store if isinstance(store, Store) else Store(store) for store in stores]
    tables = [_values(store, metric, part) for store in opened]
    names = {arm for table in tables for arm in table}
    for pattern in arms:
        if not fnmatch.filter(names, pattern):
            raise ConfigError(f"no finished arm with a {part} {spoken(metric)} fits {pattern!r} (there are: "
                              f"{listed(sorted(names)) or 'none'}).{near(pattern, names)}")
    tables = [{arm: table[arm] for arm in table if any(fnmatch.fnmatchcase(arm, p) for p in arms)} for table in tables]
    shared = [arm for arm in tables[0] if all(arm in table for table in tables)]
    if len(shared) < 2:
        have = "; ".join(f"{store.address} has {listed(table) or 'none'}" for store, table in zip(opened, tables, strict=True))
        raise StoreError(f"the stores share fewer than two arms with a {part} {spoken(metric)}: {have}. Arms are the same "
                         "where they have the same name")
    blocks = [_block(store, [table[arm] for arm in shared]) for store, table in zip(opened, tables, strict=True)]
    values = np.array([block.mean(1) for block in blocks])
    lower, two = metric in LESS, len(shared) == 2
    return Across(metric, part, _names(opened), tuple(shared), values, tuple(block.shape[1] for block in blocks),
                  None if two else friedman(values, lower=lower), _wilcoxon(values[:, 0] - values[:, 1]) if two else None,
                  tuple(sorted({arm for table in tables for arm in table} - set(shared))), _alike(opened))


def _values(store: Store, metric: str, part: Part) -> dict[str, dict[int, float]]:
    """Return arm -> seed -> value of a store's finished trials."""
    found: dict[str, dict[int, float]] = {}
    for record in taken(store)[0]:
        value = record.metric(metric, part) if record.state == "finished" else None
        if value is not None:
            found.setdefault(record.arm, {})[record.seed] = value
    return found


def _block(store: Store, by_arm: Sequence[dict[int, float]]) -> np.ndarray:
    """Return float (A, K) over the seeds that all arms have."""
    seeds = sorted(set.intersection(*(set(values) for values in by_arm)))
    if not seeds:
        raise StoreError(f"{store.address}: no seed is finished for all of the arms that are compared: run the study again, or "
                         "choose arms with --arms")
    return np.array([[values[seed] for seed in seeds] for values in by_arm])


def _names(stores: Sequence[Store]) -> tuple[str, ...]:
    names = [store.summary["name"] for store in stores]
    return tuple(name if names.count(name) == 1 else store.address for name, store in zip(names, stores, strict=True))


def _alike(stores: Sequence[Store]) -> tuple[tuple[str, str], ...]:
    def images(summary: dict) -> tuple[str, str]:
        return summary["fingerprint"], str([arm.get("classes") for arm in summary["arms"].values()][:1])

    pairs = combinations(zip(stores, [images(store.summary) for store in stores], strict=True), 2)
    return tuple((a.address, b.address) for (a, mine), (b, theirs) in pairs if mine == theirs)


def _wilcoxon(differences: np.ndarray) -> float:
    """Return the two-sided p of Wilcoxon's signed-rank test, exact up to 50 data sets without ties; 1 without differences."""
    rounded = np.round(differences, 12)
    return float(stats.wilcoxon(rounded).pvalue) if rounded.any() else 1.0


def _two(found: Across) -> list[str]:
    sign = -1 if found.metric in LESS else 1
    gaps, count = np.round(sign * (found.values[:, 0] - found.values[:, 1]), 12), len(found.datasets)
    (a, b), wins, losses = found.arms, int((gaps > 0).sum()), int((gaps < 0).sum())
    if losses > wins:
        a, b, wins, losses = b, a, losses, wins
    level = f", level on {count - wins - losses}" if count > wins + losses else ""
    shown = "a difference is shown" if (found.wilcoxon or 0) < ALPHA else "no difference is shown"
    said = [f"{a} has the better {found.part} {spoken(found.metric)} on {wins} of {count} data sets, {b} on {losses}{level}: "
            f"{shown} (Wilcoxon's signed-rank p = {found.wilcoxon:.2g})."]
    if 2.0 ** (1 - count) >= ALPHA:
        said.append(f"With {count} data sets that p cannot be below {2.0 ** (1 - count):.2g}, whatever the figures: 6 or more "
                    "are needed.")
    return said


def _many(found: Across, ranking: Friedman) -> list[str]:
    order = np.argsort(ranking.ranks, kind="stable")
    count = len(found.datasets)
    ranked = listed((f"{found.arms[i]} {ranking.ranks[i]:.2f}" for i in order), most=20)
    differ = "the arms differ" if ranking.p < ALPHA else "no difference between the arms is shown"
    said = [f"Over {count} data sets {differ} in {found.part} {spoken(found.metric)} (Friedman p = {ranking.p:.2g}). "
            f"Mean ranks, 1 is best: {ranked}."]
    if ranking.smallest >= ALPHA:
        need = next(n for n in range(2, 20) if math.factorial(len(order)) ** (1 - n) < ALPHA)
        said.append(f"With {count} data sets and {len(order)} arms Friedman's p cannot be below {ranking.smallest:.2g}, "
                    f"whatever the figures: {need} data sets or more are needed.")
        return said
    if ranking.p < ALPHA:
        pairs = [f"{found.arms[i]} over {found.arms[j]}" for i, j in combinations(order, 2) if ranking.nemenyi[i, j] < ALPHA]
        apart = f"shown are {listed(pairs, most=20)}" if pairs else "no single pair is that far apart"
        said.append(f"Nemenyi's test at 0.05 asks for mean ranks {ranking.cd:.2f} apart: {apart}.")
    if count <= MANY:
        said.append(f"{count} data sets show large differences only: Demsar advises more than {MANY}.")
    return said


def _notes(found: Across) -> list[str]:
    seeds = sorted(set(found.seeds))
    over = counted(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    said = [f"Each figure is the mean over {over} that all its arms have. These tests speak of data sets like these, not of "
            "one of them; gilt study compare with one store does that."]
    if found.left_out:
        said.append(f"Not compared, as not every store has them: {listed(found.left_out)}.")
    said += [f"{a} and {b} hold the same images: they are no two data sets, and the tests above take them for two."
             for a, b in found.alike]
    return said
