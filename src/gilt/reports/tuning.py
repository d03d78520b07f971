"""The page of a tuning: the verdict, a grid's tables beside the published ones, what mattered, and every trial."""
import csv
import io
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gilt.errors import MissingExtraError, StoreError
from gilt.evaluation.metrics import LESS
from gilt.files import write_text
from gilt.reports.coordinates import history_picture, importance_picture, parallel_picture, slices_picture
from gilt.reports.pages import write_page
from gilt.studies.outcome import (
    Outcome,
    Pivot,
    figure,
    outcome,
    pivots,
    settings_lines,
    short_names,
    tuning_rows,
    tuning_verdict,
)
from gilt.studies.search import ENOUGH, importances
from gilt.studies.space import spelled
from gilt.studies.store import Store, TrialRecord


def tuning_report(store: Store, *, to: Path | str | None = None) -> Path:
    """Write the page of a tuning's store to `to` (default: report.html in the store) and return its path.

    Its tables are written as CSV into the folder NAME-tables beside it. Raises StoreError where no trial is finished yet.
    """
    found = outcome(store)
    if not found.values:
        raise StoreError(f"no trial of {store.address} is finished yet: run gilt tune again")
    path = Path(to) if to else store.folder / "report.html"
    folder = path.with_name(f"{path.stem}-tables")
    names = short_names(list(found.space.dimensions))
    parts, why = _importances(found)
    tables = pivots(found)
    for name, rows in _as_csv(store, tables, parts).items():
        write_text(folder / f"{name}.csv", rows)
    write_page(
        path, "tuning.html", study=found.summary, verdicts=tuning_verdict(found), found=found, metric=found.metric,
        others=[name for name in ("accuracy", "loss", "f1") if name != found.metric],
        figure=figure, names=names, pivots=[_pivot(table) for table in tables], trials=_ranked(found),
        chosen=settings_lines(found.best.drawn) if found.best else [],
        tested=[record for record in found.finals if record.test], failed=_failed(found),
        history=history_picture(found), parallel=parallel_picture(found, names), slices=slices_picture(found, names),
        importance=importance_picture(parts, names) if parts else "", parts=parts, no_importance=why,
        machine=_machine(found), command=_command(found, store), folder=folder.name)
    if to is None:
        store.publish(folder.name)
        store.publish(path.name)
    return path


def tuning_markdown(store: Store) -> str:
    """Return the table of trials as Markdown."""
    rows = tuning_rows(store)
    if not rows:
        return "No trial yet.\n"
    lines = [list(rows[0]), ["---"] * len(rows[0]),
             *(["-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value) for value in row.values()]
               for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _failed(found: Outcome) -> list[TrialRecord]:
    records = [trial.record for trial in found.trials if trial.record]
    return [record for record in (*records, *found.finals) if record.state == "failed"]


def _importances(found: Outcome) -> tuple[dict[str, tuple[float, int]], str]:
    """Return the importances, or none and why there are none."""
    finished = len(found.values)
    if finished < ENOUGH:
        return {}, f"{finished} finished trials are too few to say which setting matters: it takes {ENOUGH}."
    try:
        parts = importances(found.space, found.values)
    except MissingExtraError as error:
        return {}, f"Not computed: {error}"
    return parts, "" if parts else "All finished trials came to the same figure: no setting can be said to matter."


def _ranked(found: Outcome) -> list[dict[str, Any]]:
    """Return one dict a trial, the best first, then those without a figure."""
    rows, names = [], list(found.space.dimensions)
    for trial in found.trials:
        value, record = trial.value(found.metric), trial.record
        rows.append({"trial": trial, "value": value, "record": record,
                     "metric": record.val["metrics"][found.metric] if record and record.val and value is not None else None,
                     "settings": [spelled(trial.drawn[name]) if name in trial.drawn else "" for name in names]})
    sign = 1 if found.metric in LESS else -1
    return sorted(rows, key=lambda row: (row["value"] is None, 0 if row["value"] is None else sign * row["value"],
                                         row["trial"].number))


def _pivot(table: Pivot) -> dict[str, Any]:
    """Return a grid's table as the template draws it: our cells, then the published ones; the best of each marked."""
    def best(cells: Sequence[Sequence[float | None]] | None) -> float | None:
        known = [cell for line in cells or () for cell in line if cell is not None]
        return (min if table.metric in LESS else max)(known) if known else None

    def text(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.2f}" if table.metric == "accuracy" else f"{value:.3f}"

    ours, theirs = best(table.cells), best(table.published)
    lines = []
    for i, row in enumerate(table.rows):
        published = table.published[i] if table.published else []
        lines.append({"row": row, "cells": [(text(value), value is not None and value == ours) for value in table.cells[i]],
                      "published": [(text(value), value is not None and value == theirs) for value in published]})
    return {"table": table, "lines": lines, "unit": " (%)" if table.metric == "accuracy" else ""}


def _as_csv(store: Store, tables: Sequence[Pivot], parts: dict[str, tuple[float, int]]) -> dict[str, str]:
    """Return name -> CSV text: all trials, a grid's tables, the importances."""
    rows = tuning_rows(store)
    found = {"trials": _csv([list(rows[0]), *(list(row.values()) for row in rows)])}
    for table in tables:
        head = [table.row, *(f"{table.column} {column}" for column in table.columns)]
        published = [f"published {column}" for column in table.columns] if table.published else []
        lines = [[row, *table.cells[i], *(table.published[i] if table.published else ())] for i, row in enumerate(table.rows)]
        found[table.metric] = _csv([[*head, *published], *lines])
    if parts:
        found["importance"] = _csv([["dimension", "part", "trials"], *([name, *part] for name, part in parts.items())])
    return found


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([["" if cell is None else cell for cell in row] for row in rows])
    return text.getvalue()


def _machine(found: Outcome) -> dict[str, Any]:
    records: list[TrialRecord | None] = [trial.record for trial in found.trials]
    return next(record.machine for record in records if record and record.machine)


def _command(found: Outcome, store: Store) -> str:
    words = ["gilt", "tune", found.summary["source"], "--store", store.address]
    if found.summary["data"]:
        words += ["--data", found.summary["data"]]
    for setting in found.summary["settings"]:
        words += ["--set", setting]
    return shlex.join(words)
