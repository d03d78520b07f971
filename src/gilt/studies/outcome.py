"""Outcome: what a tuning's store says: the trials in their order, the best settings, the verdict, tables of a grid."""
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gilt.errors import StoreError, counted, listed
from gilt.evaluation.metrics import LESS, spoken
from gilt.evaluation.uncertainty import t_interval
from gilt.studies.space import Space, spelled, written
from gilt.studies.store import Store, TrialRecord

PIVOTED = ("accuracy", "loss", "precision", "recall", "f1")
WIDEST = 12  # columns of a grid's table
FEW = 6  # settings that are told in a sentence, or stand in a line of a terminal


@dataclass(frozen=True)
class Searched:
    """One trial of a search: its number, what was drawn, and its record where there is one."""

    number: int
    drawn: Mapping[str, Any]
    record: TrialRecord | None

    @property
    def state(self) -> str:
        return self.record.state if self.record else "waiting"

    def value(self, metric: str) -> float | None:
        """Return a val metric of a finished trial, else None."""
        return self.record.metric(metric, "val") if self.record and self.record.state == "finished" else None


@dataclass(frozen=True)
class Outcome:
    """All that came of a tuning so far."""

    summary: Mapping[str, Any]
    space: Space
    trials: Sequence[Searched]
    finals: Sequence[TrialRecord]

    @property
    def metric(self) -> str:
        return self.summary["metric"]

    @property
    def best(self) -> Searched | None:
        """The trial with the best val metric; of equal ones the first."""
        record = best_of([trial.record for trial in self.trials if trial.record], self.metric)
        return next((trial for trial in self.trials if record and trial.record and trial.record.id == record.id), None)

    @property
    def values(self) -> list[tuple[Mapping[str, Any], float]]:
        """What was drawn and what it came to, for the finished trials."""
        found = [(trial.drawn, trial.value(self.metric)) for trial in self.trials]
        return [(drawn, value) for drawn, value in found if value is not None]


@dataclass(frozen=True)
class Pivot:
    """A grid as a table: a metric over the first dimension (rows) and the others (columns), published figures beside."""

    metric: str
    title: str
    row: str
    column: str
    rows: Sequence[str]
    columns: Sequence[str]
    cells: Sequence[Sequence[float | None]]
    published: Sequence[Sequence[float | None]] | None


def outcome(store: Store) -> Outcome:
    """Return what a tuning's store holds. Raises StoreError where it holds a study."""
    summary = store.summary
    if summary["kind"] != "tuning":
        raise StoreError(f"{store.address} holds the study {summary['name']!r}, no tuning: report on it with gilt study report")
    trials = [Searched(entry["number"], entry["drawn"], store.read(entry["id"])) for entry in summary["trials"]
              if "number" in entry]
    best = best_of([trial.record for trial in trials if trial.record], summary["metric"])
    chosen = next((trial.drawn for trial in trials if best and trial.record and trial.record.id == best.id), None)
    finals = [record for record in store.records() if record.arm == "best" and record.drawn == chosen]  # not of an older best
    return Outcome(summary, Space.read(summary["tuning"]["space"], where=store.address), trials, finals)


def best_of(records: Sequence[TrialRecord], metric: str) -> TrialRecord | None:
    """Return the finished record with the best val metric (the least loss, the most of any other); of equal ones the first."""
    values = [(record.metric(metric, "val"), record) for record in records if record.state == "finished"]
    known = [(value if metric in LESS else -value, record) for value, record in values if value is not None]
    return min(known, key=lambda pair: pair[0])[1] if known else None


def tuning_rows(store: Store) -> list[dict[str, Any]]:
    """Return one plain dict a trial, as `gilt study show --json` prints them: state, settings, val and test metric."""
    found = outcome(store)
    metric, names = found.metric, list(found.space.dimensions)
    rows = []
    for trial in found.trials:
        record = trial.record
        rows.append({"trial": trial.number, "state": trial.state,
                     **{name: spelled(trial.drawn[name]) if name in trial.drawn else None for name in names},
                     "epochs": len(record.history) if record else None, f"val_{metric}": trial.value(metric),
                     f"test_{metric}": None, "seconds": record.seconds.get("total") if record else None})
    for record in found.finals:
        rows.append({"trial": f"best, seed {record.seed}", "state": record.state,
                     **{name: spelled(record.drawn[name]) if name in record.drawn else None for name in names},
                     "epochs": len(record.history), f"val_{metric}": record.metric(metric, "val"),
                     f"test_{metric}": record.metric(metric), "seconds": record.seconds.get("total")})
    return rows


def tuning_verdict(found: Outcome) -> list[str]:
    """Return what the tuning came to, in plain sentences, the main one first."""
    best, metric = found.best, found.metric
    if best is None or best.record is None or best.record.val is None:
        return ["No trial of the search is finished yet.", *_counts(found)]
    value = best.record.val["metrics"][metric]
    few = settings_text(best.drawn) if len(best.drawn) <= FEW else f"the settings of trial {best.number}"
    sentences = [f"Best of {counted(len(found.values), 'finished trial')}: val {spoken(metric)} "
                 f"{_with_interval(metric, value)} with {few}."]
    inside = _inside(found, value)
    if inside:
        sentences.append(f"{counted(inside, 'other trial')} came to a val figure inside this interval: the search does not "
                         f"tell {'it' if inside == 1 else 'them'} from the best.")
    tested = [record for record in found.finals if record.state == "finished"]
    if tested:
        sentences += [_tested(tested, metric), "The settings were chosen by their val figure, so that figure flatters them. "
                                               "The search read no test row."]
    else:
        sentences.append("Nothing was tested yet: the val figure flatters the settings that were chosen by it.")
    other = set(found.summary.get("tested", ())) - {record.id for record in found.finals}
    if other:
        sentences.append(f"The test rows had been read for {counted(len(other), 'other final training')} of this store before: "
                         "what they say now was not chosen blind.")
    return [*sentences, *_counts(found)]


def figure(metric: str, value: float | None) -> str:
    """Return a metric's value as text: the loss in nats, any other in per cent."""
    return "-" if value is None else f"{value:.3f}" if metric == "loss" else f"{100 * value:.1f} %"


def _with_interval(metric: str, value: Mapping[str, Any]) -> str:
    low, high = (figure(metric, value[end]) for end in ("low", "high"))
    interval = "" if value["low"] is None else f", 95 % interval {low} to {high}"
    return f"{figure(metric, value['value'])} (n = {value['n']:,}{interval})"


def settings_text(drawn: Mapping[str, Any], *, short: bool = False) -> str:
    """Return "train.batch_size = 32, ..."; `short` names are without their groups."""
    names = short_names(list(drawn)) if short else {name: name for name in drawn}
    return ", ".join(f"{names[name]} = {spelled(value)}" for name, value in drawn.items())


def settings_lines(drawn: Mapping[str, Any]) -> list[str]:
    """Return drawn settings as TOML, one a line, to the last digit: what a study's [base] takes, or `--set`."""
    return [f"{name} = {written(value)}" for name, value in drawn.items()]


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Return name -> the last part of a dotted name; the whole where two would be alike."""
    last = [name.rpartition(".")[2] for name in names]
    return {name: end if last.count(end) == 1 else name for name, end in zip(names, last, strict=True)}


def pivots(found: Outcome) -> list[Pivot]:
    """Return a grid of two dimensions or more as one table a metric; [] for another search, or too wide a grid."""
    dimensions = list(found.space.dimensions.items())
    if found.summary["tuning"]["sampler"] != "grid" or len(dimensions) < 2:
        return []
    (first, head), *rest = dimensions
    columns = list(itertools.product(*(dimension.points or () for _, dimension in rest)))
    if len(columns) > WIDEST:
        return []
    others = [name for name, _ in rest]
    known = {tuple(written(trial.drawn.get(name)) for name in (first, *others)): trial for trial in found.trials}
    places = [[(row, *column) for column in columns] for row in head.points or ()]
    tables = []
    for metric in dict.fromkeys((*PIVOTED, found.metric)):
        cells = [[None if (trial := known.get(tuple(map(written, place)))) is None else trial.value(metric) for place in line]
                 for line in places]
        title = found.summary["published"]["titles"].get(metric, f"Val {spoken(metric)}")
        tables.append(Pivot(metric, title, first, ", ".join(others), [spelled(row) for row in head.points or ()],
                            [", ".join(map(spelled, column)) for column in columns], cells, _published(found, metric, places)))
    return tables


def _published(found: Outcome, metric: str, places: Sequence[Sequence[tuple[Any, ...]]]) -> list[list[float | None]] | None:
    published = found.summary["published"]
    if metric not in published["tables"] or any(len(place) != 2 for line in places for place in line):
        return None
    printed = zip(itertools.product(published["rows"], published["columns"]), itertools.chain(*published["tables"][metric]),
                  strict=True)
    known = {(written(row), written(column)): value for (row, column), value in printed}
    return [[known.get((written(row), written(column))) for row, column in line] for line in places]


def _inside(found: Outcome, value: Mapping[str, Any]) -> int:
    """Return how many other finished trials have a val figure inside the best one's interval."""
    if value["low"] is None:
        return 0
    return sum(value["low"] <= other <= value["high"] for _, other in found.values) - 1


def _tested(tested: Sequence[TrialRecord], metric: str) -> str:
    values = [value for record in tested if (value := record.metric(metric)) is not None]
    n = tested[0].n_test or 0
    start = f"Trained with these settings for the test: test {spoken(metric)} "
    if len(values) == 1 and tested[0].test:
        value = _with_interval(metric, tested[0].test["metrics"][metric])
        return f"{start}{value}; one seed, so nothing is said of its spread."
    if not values:
        return f"{start}undefined (n = {n:,})."
    mean, low, high = t_interval(np.array(values))
    if np.ptp(values) < 1e-9:
        return (f"{start}{figure(metric, mean)} under each of {len(values)} seeds (n = {n:,}); without spread there is no "
                "interval.")
    most = np.inf if metric == "loss" else 1.0  # Student's t knows no bounds, and few seeds give it wide tails
    return (f"{start}{figure(metric, mean)} (mean of {len(values)} seeds, n = {n:,}, 95 % interval over seeds "
            f"{figure(metric, max(low, 0.0))} to {figure(metric, min(high, most))}).")


def _counts(found: Outcome) -> list[str]:
    states = [trial.state for trial in found.trials]
    said = {"pruned": "given up early", "failed": "failed", "waiting": "not yet run"}
    parts = [f"{states.count(state)} {text}" for state, text in said.items() if state in states]
    return [f"Of {counted(len(states), 'trial')}, {listed(parts)}."] if parts else []
