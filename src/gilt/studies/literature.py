"""The literature's tables: networks x data sets as a heat map, and training and testing on real and synthetic images."""
import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from gilt.errors import ConfigError, StoreError, listed, near
from gilt.evaluation.metrics import LESS, NAMES
from gilt.studies.store import Store, TrialRecord


@dataclass(frozen=True)
class HeatTable:
    """Networks x data sets: `means` of a metric over seeds, their `sds` (None for one seed) and numbers of `seeds`.

    `columns` are studies, each with its training set where a study has several; a network that a study did not run is None.
    """

    metric: str
    networks: tuple[str, ...]
    columns: tuple[str, ...]
    means: tuple[tuple[float | None, ...], ...]
    sds: tuple[tuple[float | None, ...], ...]
    seeds: tuple[tuple[int, ...], ...]


def heat_table(stores: Sequence[Store | Path | str], *, metric: str = "auroc", arms: Sequence[str] = ("*",),
               part: Literal["test", "val"] = "test") -> HeatTable:
    """Return networks x data sets in a metric, as Orzechowski and Moore 2022 show algorithms x data sets (by AUROC).

    `arms` are names or patterns of them. Networks come best first (against the others on the same data sets), and data sets
    easiest first. Raises
    ConfigError for an unknown metric, and StoreError where no finished trial has it, or where two arms of a study have the
    same network and training set: which of them a cell would show is for `arms` to say.
    """
    if metric not in NAMES:
        raise ConfigError(f"no metric {metric!r} (there are: {listed(NAMES, most=20)}).{near(metric, NAMES)}")
    cells: dict[tuple[str, str], tuple[str, list[float]]] = {}
    for store in [store if isinstance(store, Store) else Store(store) for store in stores]:
        for place, (arm, values) in _cells(store, metric, arms, part).items():
            if place in cells:
                raise StoreError(f"{store.address}: {place[0]} is there twice for {place[1]} (arms {cells[place][0]!r} and "
                                 f"{arm!r}): choose one with --arms, or give each study its own name")
            cells[place] = (arm, values)
    if not cells:
        raise StoreError(f"no finished trial with a {part} {metric} and an arm like {listed(arms)} in {listed(stores)}")
    return _table(metric, {place: values for place, (_, values) in cells.items()})


def _cells(store: Store, metric: str, patterns: Sequence[str], part: Literal["test", "val"]
           ) -> dict[tuple[str, str], tuple[str, list[float]]]:
    """Return (network, column) -> (arm, values over seeds) of one store."""
    summary = store.summary
    records = [record for record in store.records() if record.state == "finished" and record.metric(metric, part) is not None
               and any(fnmatch.fnmatchcase(record.arm, pattern) for pattern in patterns)]
    several = len({_trained_on(summary["arms"][record.arm]) for record in records}) > 1
    found: dict[tuple[str, str], tuple[str, list[float]]] = {}
    sets: dict[str, str] = {}  # a share may come out a little otherwise under another seed: the arm's first counts
    for record in records:
        name = sets.setdefault(record.arm, _set_of(record))
        place = (record.config["train"]["model"], f"{summary['name']} {name}" if several else summary["name"])
        arm, values = found.setdefault(place, (record.arm, []))
        if arm != record.arm:
            raise StoreError(f"{store.address}: the arms {arm!r} and {record.arm!r} both train {place[0]} on "
                             f"{name}: choose one with --arms, as in --arms {arm!r}")
        values.append(float(record.metric(metric, part)))  # type: ignore[arg-type]
    return found


def _trained_on(config: dict) -> str:
    return str({name: value for name, value in config["mix"].items() if name != "val"})


def _set_of(record: TrialRecord) -> str:
    tested = "" if record.config["mix"].get("test", "real") == "real" else ", tested on GENERATED"
    return f"{record.train_set}{tested}"


def _table(metric: str, cells: dict[tuple[str, str], list[float]]) -> HeatTable:
    means = {place: float(np.mean(values)) for place, values in cells.items()}
    networks, columns = (_ranked(means, axis, less_is_better=metric in LESS) for axis in (0, 1))
    grid = [[cells.get((network, column), []) for column in columns] for network in networks]
    return HeatTable(metric, networks, columns,
                     tuple(tuple(float(np.mean(v)) if v else None for v in row) for row in grid),
                     tuple(tuple(float(np.std(v, ddof=1)) if len(v) > 1 else None for v in row) for row in grid),
                     tuple(tuple(len(v) for v in row) for row in grid))


def _ranked(means: dict[tuple[str, str], float], axis: int, *, less_is_better: bool) -> tuple[str, ...]:
    """Return the networks (axis 0) or columns (1), best first, by how far their cells lie above the mean of the other axis.

    So a network that ran on easy data sets only is not ranked above one that beat it where both ran.
    """
    usual = {name: np.mean([v for place, v in means.items() if place[1 - axis] == name])
             for name in {place[1 - axis] for place in means}}
    above = {name: float(np.mean([v - usual[place[1 - axis]] for place, v in means.items() if place[axis] == name]))
             for name in {place[axis] for place in means}}
    return tuple(sorted(above, key=lambda name: (above[name] if less_is_better else -above[name], name)))
