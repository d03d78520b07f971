"""Clean: act on an audit's findings, never in place. Rows are marked; images are written anew into another folder.

Everything that was done is in `Cleaned.changes`, and with a folder in its log.jsonl: one line a row that changed.
"""
import json
import logging
import os
import posixpath
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gilt.config import CleanConfig
from gilt.data.findings import Audit, Finding
from gilt.data.leave_out import Change, leave_out
from gilt.data.pixels import Progress
from gilt.data.recipes import plan
from gilt.data.rewrite import IMAGES, LOG, TABLE, Job, Outcome, check_folder, claimed, finish, rewrite
from gilt.data.table import STATISTICS, ImageTable
from gilt.errors import ConfigError, TableError, listed
from gilt.files import write_text
from gilt.settings import parse

log = logging.getLogger(__name__)
_FACTS = ("width", "height", "format", "mode", "quality", "bytes", "modified", "sha256", "phash", *STATISTICS)


@dataclass(frozen=True)
class Cleaned:
    """A cleaned table, what was done to which row, how many files were written, and what was left as it is.

    `unfixed` are the audit's findings that no step of this clean acted on.
    """

    table: ImageTable
    changes: tuple[Change, ...] = ()
    files: int = 0
    unfixed: tuple[Finding, ...] = ()

    @property
    def steps(self) -> dict[str, int]:
        """Return step -> number of rows, as in {"left out: exact-duplicates": 3, "cropped": 40}."""
        return dict(Counter(change.step for change in self.changes))


def clean(table: ImageTable, audit: Audit | None = None, config: CleanConfig | None = None, *, to: Path | str | None = None,
          progress: Progress | None = None, **settings: object) -> ImageTable:
    """Return the table with its findings acted on; nothing is changed in place.

    Rows of the audit's findings are marked as left out (`drop`), one of each group of copies stays. Settings that crop,
    cut, convert or equalise write new images under `to`/images, and the new table with a log beside them; without `to`,
    rows can only be marked. `settings` are CleanConfig's fields by name: `clean(table, equalise=True, size=256, to="equal")`.

    Raises ConfigError for a setting that is wrong or needs `to`, TableError where the audit is of another table,
    StoreError where `to` is in use for anything else, or the disk is full (run again: it goes on).
    """
    result = cleaned(table, audit, config, to=to, progress=progress, settings=settings)
    for step, count in result.steps.items():
        log.info("%s: %d rows", step, count)
    return result.table


def cleaned(table: ImageTable, audit: Audit | None = None, config: CleanConfig | None = None, *,
            to: Path | str | None = None, progress: Progress | None = None,
            settings: Mapping[str, object] | None = None) -> Cleaned:
    """Do what `clean` does and return all that is known of it: the table, the changes, and what was not fixed."""
    given = config.model_dump(exclude_unset=True) if config else {}
    config = parse(CleanConfig, {**given, **(settings or {})}, where="clean")
    _check(table, audit, config, to)
    marked, changes = leave_out(table, audit, config) if audit is not None else (table, [])
    unfixed = tuple(finding for finding in audit or () if _is_unfixed(finding, config))
    if to is None:
        result = Cleaned(marked, tuple(changes), 0, unfixed)
    else:
        check_folder(Path(to), table)
        if config.rewrites:
            _check_root(table.root)
        jobs = plan(marked, audit, config)
        with claimed(Path(to), table, config.model_dump(mode="json", exclude_unset=True)) as folder:
            outcomes = rewrite(jobs, marked.root, folder, progress=progress)
            new, more = _assembled(marked, jobs, outcomes, folder)
            files = sum(len(outcome.files) for outcome in outcomes)
            result = Cleaned(new, (*changes, *more), files, unfixed)
            _save(result, folder)
    _note_what_is_gone(table, result.table)
    return result


def _note_what_is_gone(before: ImageTable, after: ImageTable) -> None:
    for column in ("origin", "class"):
        gone = sorted(set(before.usable.frame[column].dropna()) - set(after.usable.frame[column].dropna()))
        if gone:
            log.warning("no usable image is left of %s %s", column, listed(gone))


def _check(table: ImageTable, audit: Audit | None, config: CleanConfig, to: Path | str | None) -> None:
    twice = table.frame["path"].duplicated()
    if twice.any():
        raise TableError(f"{int(twice.sum()):,} rows repeat a path, such as {table.frame['path'][twice].iloc[0]}: clean a "
                         "table before it is balanced")
    if config.rewrites and to is None:
        raise ConfigError("these settings write images anew (originals are never changed): give a folder for them, as in "
                          "clean(table, ..., to='clean')")
    if audit is None:
        for name, value in (("drop", config.drop if "drop" in config.model_fields_set else None),
                            ("crop_rows", config.crop_rows), ("grid", config.grid)):
            if (name == "drop" and value) or value == "finding":
                raise ConfigError(f"{name} acts on findings, and there is no audit: clean(table, gilt.audit(table), ...)")
        if not config.rewrites:
            raise ConfigError("nothing to clean: no audit to act on, and no setting such as equalise=true. Give one of both, "
                              "as in clean(table, gilt.audit(table))")
        return
    for check, asked in (("watermark", config.crop_rows == "finding"), ("grid", config.grid == "finding")):
        if asked and check not in audit.checks:
            raise TableError(f"the audit did not look for {check}: run gilt audit with that check")


def _check_root(root: Path) -> None:
    if not root.exists() and not any(path.is_file() for path in root.parents):  # a file: the root lies in an archive
        raise TableError(f"the table's folder {root} is not there. If it moved, say where it is: --root FOLDER, or "
                         "ImageTable.load(path, root=...)")


def _is_unfixed(finding: Finding, config: CleanConfig) -> bool:
    mended = {"watermark": config.crop, "grid": config.grid, "shortcuts": config.equalise}.get(finding.check)
    return finding.severity != "none" and finding.check not in config.drop and not mended


def _assembled(table: ImageTable, jobs: Sequence[Job], outcomes: Sequence[Outcome],
               folder: Path) -> tuple[ImageTable, list[Change]]:
    """Return the table with what came of the images, and the changes.

    Where a file was written, folder/images is the new root, and the path of a row whose file stays where it was leads
    there from the new root. A cut image stays as a row that is left out, followed by its parts.
    """
    came = {job.path: outcome for job, outcome in zip(jobs, outcomes, strict=True)}
    changes = [change for path, outcome in came.items() for change in _said(path, outcome)]
    frame = table.frame.copy()
    refused = frame["path"].map({path: outcome.refused for path, outcome in came.items() if outcome.refused})
    frame["excluded"] = frame["excluded"].where(frame["excluded"].notna(), refused)
    if not any(outcome.files for outcome in outcomes):
        return ImageTable(frame, table.root), changes
    root = folder / IMAGES
    way = os.path.relpath(os.path.realpath(table.root), root)
    now = {path: outcome.files[0]["path"] if len(outcome.files) == 1 else _moved(path, way)
           for path, outcome in ((path, came.get(path, Outcome())) for path in frame["path"])}
    frame["source"] = _texts(path and (now.get(path) or _moved(path, way)) for path in frame["source"])
    return ImageTable(_new_rows(frame, came, now), root), changes


def _moved(path: str, way: str) -> str:
    return posixpath.normpath(posixpath.join(way.replace(os.sep, "/"), path))


def _new_rows(frame: pd.DataFrame, came: Mapping[str, Outcome], now: Mapping[str, str]) -> pd.DataFrame:
    """Return the rows with the facts of their new files; a cut image is left out and followed by its parts."""
    rows: list[int] = []
    files: list[dict[str, Any] | None] = []
    parts: list[bool] = []
    for i, path in enumerate(frame["path"]):
        made = came[path].files if path in came else ()
        whole = len(made) < 2
        rows.append(i)
        files.append(made[0] if made and whole else None)
        parts.append(False)
        if not whole:
            rows += [i] * len(made)
            files += made
            parts += [True] * len(made)
    new = frame.iloc[rows].reset_index(drop=True)
    old = list(new["path"])
    for name in _FACTS:
        before = new[name] if name in new else [None] * len(new)
        values = pd.Series([file[name] if file else value for file, value in zip(files, before, strict=True)], dtype=object)
        new[name] = pd.to_numeric(values) if name in STATISTICS else values
    new["path"] = [file["path"] if file else now[path] for file, path in zip(files, old, strict=True)]
    cut = {path: len(outcome.files) for path, outcome in came.items() if len(outcome.files) > 1}
    new["excluded"] = [f"grid: cut into {cut[path]} parts" if path in cut and not part else reason
                       for path, part, reason in zip(old, parts, new["excluded"], strict=True)]
    new["cleaned_from"] = _texts(path if file else value for path, file, value in zip(old, files, _had(new, "cleaned_from"),
                                                                                       strict=True))
    if cut:  # parts of one image have one source: no split may part them
        whole = [now[path] if part else None for path, part in zip(old, parts, strict=True)]
        new["parent"] = _texts(path or value for path, value in zip(whole, _had(new, "parent"), strict=True))
        new["source"] = _texts(value or path for path, value in zip(whole, new["source"], strict=True))
    return new


def _had(frame: pd.DataFrame, name: str) -> list[str | None]:
    """Return a text column's values, None where there is none, or no such column."""
    return [None] * len(frame) if name not in frame else [None if pd.isna(value) else value for value in frame[name]]


def _texts(values: Iterable[str | None]) -> pd.Series:
    return pd.Series(list(values), dtype=object)  # else pandas makes of None a number that is none


def _said(path: str, outcome: Outcome) -> list[Change]:
    """Return what was done to one image, as changes of its row."""
    if outcome.refused:
        return [Change(path, "left out", outcome.refused)]
    names = [file["path"] for file in outcome.files]
    new_path = names[0] if len(names) == 1 else names
    return [Change(path, done, f"setting {_SETTING.get(done.split()[0], done)}", new_path) for done in outcome.done]


_SETTING = {"turned": "upright", "cropped": "crop", "cut": "grid", "made": "mode", "equalised": "equalise",
            "copied": "copy_all"}


def _save(result: Cleaned, folder: Path) -> None:
    """Write the log, the table, and that all is done."""
    lines: dict[str, dict[str, Any]] = {}
    for change in result.changes:
        line = lines.setdefault(change.path, {"path": change.path, "new_path": None, "done": [], "why": []})
        line["new_path"] = change.new_path or line["new_path"]
        line["done"].append(change.done)
        line["why"].append(change.why)
    write_text(folder / LOG, "".join(json.dumps(line) + "\n" for line in lines.values()))
    result.table.save(folder / TABLE)
    finish(folder, {"rows": len(result.table), "usable": len(result.table.usable), "images": result.files,
                    "steps": result.steps, "fingerprint": result.table.fingerprint})
