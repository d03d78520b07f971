"""Verify a split: the files are what the table says, the rows are where the split file says, and nothing straddles."""
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gilt.config import REAL
from gilt.data.containers import read_image
from gilt.data.pixels import Progress
from gilt.data.splitfile import SplitFile, load_split, matched_lines
from gilt.data.table import ImageTable
from gilt.data.ties import NEAR, check_groups, keep_apart, with_groups
from gilt.errors import ImageError, TableError
from gilt.files import sha256

log = logging.getLogger(__name__)
SHOWN = 3  # examples in a sentence


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: `holds` is True, False, or None where it could not be looked at.

    `n` counts what was looked at, `wrong` names what disagrees (paths), `text` says it in a sentence.
    """

    name: str
    holds: bool | None
    n: int
    text: str
    wrong: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the check as JSON values."""
        return {"check": self.name, "holds": self.holds, "n": self.n, "text": self.text, "wrong": list(self.wrong)}


@dataclass(frozen=True)
class SplitCheck:
    """What `verify_split` found: every check, and whether the split `holds`."""

    checks: tuple[Check, ...]

    @property
    def holds(self) -> bool:
        """Whether no check disagrees."""
        return all(check.holds is not False for check in self.checks)

    def __iter__(self) -> Iterator[Check]:
        return iter(self.checks)

    def as_json(self) -> dict[str, Any]:
        """Return the checks as JSON values."""
        return {"holds": self.holds, "checks": [check.as_json() for check in self.checks]}


def verify_split(table: ImageTable, path: Path | str | None = None, *, quick: bool = False, groups: Sequence[str] = (),
                 progress: Progress | None = None) -> SplitCheck:
    """Hold a table's split against its files, against the split file `path`, and against itself.

    Every file in use is read again and hashed (not with `quick`); rows must lie in the splits of the split file; no content,
    no image and its offspring, and no group may lie in two splits. Groups are `groups`, those that the split file was made
    with, and the table's near-duplicates where it knows them. Raises TableError for a table without splits and a split file
    that cannot be read.
    """
    used = table.usable.where(lambda frame: frame["split"].notna())
    if not len(used):
        raise TableError(f"no row of the table of {table.root} has a split: there is nothing to verify")
    file = load_split(path) if path is not None else None
    checks = [] if quick else [_files(used, progress)]
    if file is not None:
        checks += _against(table, file)
    check_groups(table, groups)  # a slip in a name is the caller's; the file's own columns may be missing here
    made_with = file.settings.get("groups", ()) if file is not None else ()
    checks += _straddling(table, list(dict.fromkeys([*groups, *made_with])))
    held = list(file.settings.get("hold_out", ())) if file is not None else []
    if held:
        rows = used.where(origin=held)
        checks.append(_check("hold_out", len(rows), rows.where(split=["train", "val"]).frame["path"],
                             "images of held-out generators are test rows", "images of held-out generators are not test rows"))
    return SplitCheck(tuple(checks))


def _check(name: str, n: int, wrong: pd.Series, good: str, bad: str) -> Check:
    """Return a check of `n` things of which `wrong` (paths) disagree."""
    if not len(wrong):
        return Check(name, True, n, f"{n:,} {good}")
    more = ", ..." if len(wrong) > SHOWN else ""
    return Check(name, False, n, f"{len(wrong):,} of {n:,} {bad}: {', '.join(wrong[:SHOWN])}{more}", tuple(wrong))


def _files(used: ImageTable, progress: Progress | None) -> Check:
    """Read every file again and compare its hash with the table's."""
    def now(path: Path) -> str | None:
        try:
            return sha256(read_image(path))
        except ImageError as error:
            log.debug("%s", error)
            return None

    found: list[str | None] = []
    paths = used.paths
    with ThreadPoolExecutor() as pool:
        for first in range(0, len(used), 256):
            found += pool.map(now, paths[first:first + 256])
            if progress:
                progress(len(found), len(used))
    read = pd.Series(found, index=used.frame.index, dtype=object)
    gone = used.frame["path"][read.isna()]
    changed = used.frame["path"][read.notna() & (read != used.frame["sha256"])]
    bad = f"files are not what they were ({len(changed):,} changed, {len(gone):,} missing or unreadable)"
    return _check("files", len(used), pd.concat([changed, gone]), "files hold what the table says", bad)


def _against(table: ImageTable, file: SplitFile) -> list[Check]:
    """Compare a table with a split file, image by image by content."""
    frame, lines = table.frame, file.frame.reset_index(drop=True)
    found = matched_lines(frame, lines)
    said = lines.reindex(found.where(found >= 0)).set_axis(frame.index)
    here, there = _fate(frame), _fate(said)
    known = found >= 0
    strange = ~known & here.ne("")
    gone = lines[~lines["sha256"].isin(frame["sha256"]) & _fate(lines).ne("")]
    checks = [
        _check("rows", int(known.sum()), frame["path"][known & (here != there)], f"images lie in the splits of {file.path}",
               f"images do not lie in the splits of {file.path}"),
        _check("new", int(here.ne("").sum()), frame["path"][strange], "images in use are all in the file",
               "images in use are not in the file"),
        _check("missing", int(_fate(lines).ne("").sum()), gone["path"].fillna(gone["sha256"]),
               "images of the file are all here", "images of the file are missing here")]
    labelled = known & said["class"].notna() & said["origin"].notna()
    other = labelled & ((frame["class"].astype(str) != said["class"]) | (frame["origin"].astype(str) != said["origin"]))
    return [*checks, _check("labels", int(labelled.sum()), frame["path"][other], "images have the class and origin of the file",
                            "images have another class or origin than in the file")]


def _fate(frame: pd.DataFrame) -> pd.Series:
    """Return each row's split, "" where it has none or is left out."""
    return frame["split"].where(frame["excluded"].isna(), None).fillna("").astype(object)


def _straddling(table: ImageTable, groups: Sequence[str]) -> list[Check]:
    """Look for content, offspring and groups that lie in two splits."""
    there = [name for name in groups if name == NEAR or name in table.frame.columns]
    table, columns = with_groups(table, there)
    before = table.frame["excluded"].isna()
    after = keep_apart(table, columns).frame
    reason = after["excluded"].where(before, None).fillna("")
    used = before & after["split"].notna()
    made = used & after["source"].notna()

    def paths(start: str) -> pd.Series:
        return after["path"][reason.str.startswith(start)]

    checks = [_check("content", int(used.sum()), paths("same content as a "), "images: no content lies in two splits",
                     "images have a copy in a stricter split")]
    if made.any():
        checks.append(_check("sources", int(made.sum()), paths("made from "),
                             "images lie in the split of what they were made from",
                             "images lie in another split than what they were made from"))
    elif (used & (after["origin"] != REAL)).any():
        checks.append(Check("sources", None, 0, "not looked at: no generated image says what it was made from"))
    for column in columns:
        near = column == "group"
        checks.append(_check(
            "near-duplicates" if near else column, int((used & after[column].notna()).sum()),
            paths("near-duplicate of " if near else f"same {column} as a "),
            f"images with a {'near-duplicate' if near else column}: none straddles splits",
            f"images {'have a near-duplicate' if near else f'share their {column} with an image'} in a stricter split"))
    checks += [Check(name, None, 0, f"not looked at: the table has no column {name!r}") for name in groups if name not in there]
    return checks
