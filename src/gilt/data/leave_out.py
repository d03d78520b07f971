"""Leave out: what an audit's findings mean for rows. Rows are marked with a reason, never deleted.

Of each group of copies one stays: the one of the strictest split (test, then val, then train), then the one of most
pixels, of the highest JPEG quality (a format without one counts as 100), of most bytes, then the first path.
"""
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import get_args

import numpy as np
import pandas as pd

from gilt.config import REAL, CleanConfig, Drop
from gilt.data.findings import Audit, Finding
from gilt.data.table import SPLITS, ImageTable
from gilt.errors import TableError, listed, near

STRICTNESS = {name: place for place, name in enumerate(reversed(SPLITS))}  # test 0, val 1, train 2
_NONE = len(SPLITS)  # the place of a row without a split
_LABELS = {"class-conflicts": "class", "origin-conflicts": "origin"}
ALIKE = ("exact-duplicates", "near-duplicates")


@dataclass(frozen=True)
class Change:
    """One thing done to one row, and why."""

    path: str
    done: str
    why: str
    new_path: str | Sequence[str] | None = None  # of the new file, or of the parts

    @property
    def step(self) -> str:
        """The step to count it under: what was done, and for a row left out the check that says so."""
        return f"{self.done}: {self.why.split(':')[0]}" if self.done == "left out" else self.done


@dataclass
class Marks:
    """What is decided so far: path -> reason, and path left out -> the copy that stays in its place."""

    reasons: dict[str, str] = field(default_factory=dict)
    stands_in: dict[str, str] = field(default_factory=dict)

    def stays_for(self, path: str) -> str:
        """Return the copy that stays in `path`'s place, or `path` itself."""
        seen = {path}
        while (path := self.stands_in.get(path, path)) not in seen:
            seen.add(path)
        return path


def leave_out(table: ImageTable, audit: Audit, config: CleanConfig) -> tuple[ImageTable, list[Change]]:
    """Return the table with the rows of `config.drop` marked, near-duplicates grouped and lineage kept; and the changes.

    A generated image whose source is left out as a copy is linked to the copy that stays; a copy that stays takes over
    the source of those that go. So an image made from a test photograph is known as such afterwards too.
    Raises TableError where the audit is of another table, or did not look for what the settings name.
    """
    _check(table, audit, config)
    rows = _Rows(table)
    marks = Marks()
    for check in get_args(Drop):  # conflicts before copies: what has two labels is no copy to keep
        for finding in audit.of(check) if check in config.drop else ():
            for path, reason, stays in _decide(finding, rows, marks, config):
                marks.reasons[path] = f"{check}: {reason}"
                if stays:
                    marks.stands_in[path] = stays
    frame = table.frame.copy()
    marked = frame["path"].map(marks.reasons)
    frame["excluded"] = frame["excluded"].where(frame["excluded"].notna(), marked)
    changes = [Change(path, "left out", reason) for path, reason in marks.reasons.items()]
    changes += _group(frame, audit)
    changes += _relink(frame, marks)
    if "source-leaks" in config.drop:
        changes += _leaks_by_source(frame)
    return ImageTable(frame, table.root), changes


class _Rows:
    """What the decisions ask of a row, by path."""

    def __init__(self, table: ImageTable) -> None:
        frame = table.frame
        split = frame["split"].map(STRICTNESS).fillna(_NONE)
        numbers = {name: pd.to_numeric(frame[name]).astype(float) for name in ("width", "height", "quality", "bytes")}
        order = np.lexsort((frame["path"], -numbers["bytes"].fillna(0), -numbers["quality"].fillna(100),
                            -(numbers["width"] * numbers["height"]).fillna(0), split))
        usable = frame["excluded"].isna().to_numpy()
        paths = frame["path"].to_numpy()
        self.place = {paths[i]: place for place, i in enumerate(order) if usable[i]}
        self.at = dict(zip(paths, range(len(paths)), strict=True))
        self.frame, self.split = frame, split.to_numpy(int)

    def best_first(self, paths: Iterable[str], marks: Marks) -> list[str]:
        """Return those of `paths` that nothing speaks against yet, the one to keep first."""
        left = {path for path in paths if path in self.place and path not in marks.reasons}
        return sorted(left, key=self.place.__getitem__)

    def said(self, path: str, column: str) -> str:
        return str(self.frame[column].iat[self.at[path]])

    def strictness(self, path: str) -> int:
        return self.split[self.at[path]]


Decision = tuple[str, str, str | None]  # path, reason, the copy that stays


def _decide(finding: Finding, rows: _Rows, marks: Marks, config: CleanConfig) -> Iterator[Decision]:
    """Yield what one finding means for its rows."""
    if finding.check in _LABELS:
        for group in finding.groups:
            yield from _conflict(rows.best_first(group, marks), _LABELS[finding.check], rows, config)
    elif finding.check == "leaks":
        for group in finding.groups:
            yield from _leak(rows.best_first(group, marks), rows)
    elif finding.check in ALIKE:
        for group in finding.groups:
            yield from _copies(rows.best_first(group, marks), finding.check, rows)
    elif finding.check == "source-leaks":
        for path in rows.best_first(finding.rows, marks):
            if pd.isna(rows.frame["source"].iat[rows.at[path]]):
                if rows.said(path, "origin") != REAL:
                    yield path, "looks the same as a test image", None
                continue
            source = rows.said(path, "source")
            split = rows.said(source, "split") if source in rows.at else "None"
            yield path, f"made from a {split} image ({source})" if split in SPLITS else f"made from {source}", None
    else:
        for path in rows.best_first(finding.rows, marks):
            yield path, "named by the audit", None


def _conflict(group: Sequence[str], column: str, rows: _Rows, config: CleanConfig) -> Iterator[Decision]:
    labels = {path: rows.said(path, column) for path in group}
    if len(set(labels.values())) < 2:
        return
    first = group[0]
    if config.conflicts == "keep_first":
        for path in group[1:]:
            if labels[path] != labels[first]:
                yield path, f"the same image has {column} {labels[first]!r} ({first}), which was kept", first
        return
    for path in group:
        other = next(name for name in group if labels[name] != labels[path])
        yield path, f"the same image also has {column} {labels[other]!r} ({other})", None


def _leak(group: Sequence[str], rows: _Rows) -> Iterator[Decision]:
    if not group:
        return
    kept = group[0]
    strictest = rows.strictness(kept)
    for path in group[1:]:
        if strictest < rows.strictness(path) < _NONE:
            yield path, f"the same image is in {rows.said(kept, 'split')} ({kept})", kept


def _copies(group: Sequence[str], check: str, rows: _Rows) -> Iterator[Decision]:
    """Yield all but the first; of near-duplicates all but the first of each class and origin.

    A generated image that is nearly its own source, or nearly another class's, is not the same image again.
    """
    def label(path: str) -> tuple[str, str]:
        return (rows.said(path, "class"), rows.said(path, "origin")) if check == "near-duplicates" else ("", "")

    what = "same content as" if check == "exact-duplicates" else "nearly the same as"
    for _, alike in groupby(sorted(group, key=lambda path: (label(path), rows.place[path])), key=label):
        kept, *rest = alike
        yield from ((path, f"{what} {kept}", kept) for path in rest)


def _group(frame: pd.DataFrame, audit: Audit) -> list[Change]:
    """Name the groups of near-duplicates in the column `group`, in place, where they have no name yet."""
    named = dict(zip(frame["path"], frame["group"], strict=True))
    names: dict[str, str] = {}
    for finding in audit.of("near-duplicates"):
        for group in finding.groups:
            name = next((named[path] for path in group if named.get(path)), f"near:{min(group)}")
            names |= {path: name for path in group if not named.get(path)}
    frame["group"] = frame["group"].where(frame["group"].notna(), frame["path"].map(names))
    return [Change(path, "grouped", f"near-duplicates: {name}") for path, name in names.items()]


def _relink(frame: pd.DataFrame, marks: Marks) -> list[Change]:
    """Link rows whose source is left out as a copy to the copy that stays, in place; that copy takes over a source."""
    if not marks.stands_in:
        return []
    at = dict(zip(frame["path"], frame.index, strict=True))
    split = frame["split"].map(STRICTNESS).fillna(_NONE)
    changes = []
    inherited: dict[str, str] = {}
    for path in sorted(marks.stands_in, key=lambda path: _source_split(frame, at, split, path)):
        kept, source = marks.stays_for(path), frame.at[at[path], "source"]
        heir = at[kept]
        if source and not frame.at[heir, "source"] and frame.at[heir, "origin"] == frame.at[at[path], "origin"] != REAL:
            inherited.setdefault(kept, source)
    for path, source in inherited.items():
        frame.at[at[path], "source"] = source
        changes.append(Change(path, "source taken over", f"from a copy that was left out: {source}"))
    gone = frame["source"].isin(set(marks.stands_in))
    for i in frame.index[gone]:
        path, old = frame.at[i, "path"], frame.at[i, "source"]
        kept = marks.stays_for(old)
        frame.at[i, "source"] = kept if kept != path else None
        changes.append(Change(path, "source relinked", f"{old} was left out as a copy of {kept}"))
    return changes


def _source_split(frame: pd.DataFrame, at: dict[str, int], split: pd.Series, path: str) -> int:
    place = at.get(frame.at[at[path], "source"])
    return _NONE if place is None else int(split[place])


def _leaks_by_source(frame: pd.DataFrame) -> list[Change]:
    """Mark, in place, usable rows that lie in another split than the image they were made from, as linked by now."""
    split = frame.set_index("path")["split"]
    above = frame["source"].map(split)
    leaks = frame["excluded"].isna() & frame["split"].notna() & above.notna() & (above != frame["split"])
    reasons = "source-leaks: made from a " + above[leaks] + " image (" + frame.loc[leaks, "source"] + ")"
    frame.loc[leaks, "excluded"] = reasons
    return [Change(path, "left out", why) for path, why in zip(frame.loc[leaks, "path"], reasons, strict=True)]


def _check(table: ImageTable, audit: Audit, config: CleanConfig) -> None:
    if audit.table != table.fingerprint:
        raise TableError(f"this audit is of another table ({audit.table}, not {table.fingerprint}), or the table has changed "
                         "since: run gilt audit on it again")
    if "drop" in config.model_fields_set:
        unknown = [check for check in config.drop if check not in audit.checks]
        if unknown:
            why = f": {audit.skipped[unknown[0]]}" if unknown[0] in audit.skipped else f" (ran: {listed(audit.checks)})"
            raise TableError(f"the audit did not look for {unknown[0]}{why}. Run gilt audit with that check")
    known = set(table.frame["path"])
    for finding in audit:
        for path in (*finding.rows, *(path for group in finding.groups for path in group)):
            if path not in known:
                raise TableError(f"the audit's {finding.check} names {path}, which is not in the table.{near(path, known)}")
