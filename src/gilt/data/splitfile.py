"""A split is a file: one line an image, keyed by content, so that it can be shared, put back and held against the images.

    # gilt split 1
    # gilt: 0.1.0
    # table: 0f3a...                    the fingerprint of the table it was saved from
    # split: 77c1...                    names the split: content and fate, whatever the paths are
    # settings: {"groups": ["near"], "seed": 0, "target": "class", ...}
    # counts: {"train": 70, "val": 15, "test": 15}
    sha256,split,path,class,origin,excluded
    00ab...,test,real/wren/004.png,wren,real,

Lines are in the order of the hashes, so two files of one collection can be compared with `diff`. `excluded` says why an image
is in no split although it may stand there. Rows without a known content are not in the file: they are counted.
"""
import hashlib
import io
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

import gilt
from gilt.data.table import SPLITS, ImageTable
from gilt.errors import TableError, listed, near
from gilt.files import write_bytes

log = logging.getLogger(__name__)
FIRST = "# gilt split 1"
COLUMNS = ("sha256", "split", "path", "class", "origin", "excluded")
NOT_THERE = "not in the split file"


@dataclass(frozen=True)
class SplitFile:
    """A split file as read: `frame` has COLUMNS (None for nothing), `header` what the lines above them say."""

    path: Path
    header: Mapping[str, Any]
    frame: pd.DataFrame

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings that the split was made with, where the file says them."""
        found = self.header.get("settings", {})
        return found if isinstance(found, Mapping) else {}


def save_split(table: ImageTable, path: Path | str, *, settings: Mapping[str, Any] | None = None) -> str:
    """Write the table's split to `path` (CSV with a header), atomically, and return the split's fingerprint.

    `settings` says how the split was made; `verify_split` reads `groups` and `hold_out` from it. Raises TableError where a
    usable row has no content hash, no row has a split, or content lies in two splits.
    """
    frame = table.frame[list(COLUMNS)]
    used = frame["excluded"].isna()
    unknown = used & frame["sha256"].isna()
    if unknown.any():
        raise TableError(f"{int(unknown.sum()):,} images have no sha256, such as {frame['path'][unknown].iloc[0]}: make the "
                         "table with gilt scan")
    if not (used & frame["split"].notna()).any():
        raise TableError(f"no row of the table of {table.root} has a split: deal it first with gilt split")
    _refuse_overlap(frame, f"the table of {table.root}", "Run gilt split on it: of two copies, the laxer split's is left out")
    lost = int(frame["sha256"].isna().sum())
    if lost:
        log.warning("%d unreadable images without a content hash are not in %s", lost, path)
    frame = frame[frame["sha256"].notna()].sort_values(["sha256", "path"], kind="stable")
    mark = fingerprint_of(frame)
    text = io.StringIO()
    frame.to_csv(text, index=False, lineterminator="\n")
    head = {"gilt": gilt.__version__, "table": table.fingerprint, "split": mark,
            "settings": json.dumps(dict(settings or {}), sort_keys=True, ensure_ascii=False),
            "counts": json.dumps(table.usable.counts("split"))}
    lines = [FIRST, *(f"# {name}: {value}" for name, value in head.items()), text.getvalue()]
    write_bytes(path, "\n".join(lines).encode("utf-8", "surrogateescape"))
    return mark


def load_split(path: Path | str) -> SplitFile:
    """Read a split file: gilt's own, or any CSV with the columns sha256 and split.

    Raises TableError where it is missing, no such file, cut off or changed since it was written, or holds content in two
    splits: one line that names the file and the first offender.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise TableError(f"no split file {path}: gilt split TABLE -o OUT --save-split {path} writes one") from None
    except OSError as problem:
        raise TableError(f"split file {path} cannot be read: {problem.strerror}") from None
    if b"\0" in data:
        raise TableError(f"{path} is no split file: it is not text. gilt split TABLE -o OUT --save-split FILE writes one")
    lines = data.decode("utf-8-sig", "surrogateescape").splitlines(keepends=True)
    above = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    header = _header(lines[:above])
    try:
        frame = pd.read_csv(io.StringIO("".join(lines[above:])), dtype=str, keep_default_na=False)
    except (ValueError, pd.errors.ParserError) as problem:
        raise TableError(f"{path} is no split file: {problem}. Its first line without # names columns: sha256,split") from None
    frame = _checked(frame, path)
    if "split" in header and header["split"] != fingerprint_of(frame):
        raise TableError(f"{path} was cut off or changed since it was written: its header names the split {header['split']}, "
                         f"its lines are {fingerprint_of(frame)}. Take the whole file again, or, to use it as it is, delete "
                         "its line '# split: ...'")
    return SplitFile(path, header, frame)


def apply_split(table: ImageTable, path: Path | str, *, new: Literal["exclude", "free"] = "exclude") -> ImageTable:
    """Return the table with the split in `path`, image by image by content, wherever the files are now.

    A row that the file does not know is left out (`new="exclude"`), or stays free to be dealt ("free"); images of the file
    that the table has not are counted in a warning. A further copy of known content shares its split. Raises TableError
    where nothing fits, and as `load_split`.
    """
    file = load_split(path)
    frame = table.frame.copy()
    said = _matched(frame, file.frame)
    known = said["split"].notna() | said["excluded"].notna() | said["known"]
    if not known.any():
        raise TableError(f"no image of the table of {table.root} is in {file.path}: it is the split of another collection, or "
                         "the files were written anew (the content counts, not the name)")
    frame["split"] = said["split"]
    out = frame["excluded"].isna() & said["excluded"].notna()
    frame.loc[out, "excluded"] = said["excluded"][out]
    strange = frame["excluded"].isna() & ~known
    if new == "exclude":
        frame.loc[strange, "excluded"] = NOT_THERE
    gone = set(file.frame["sha256"]) - set(frame["sha256"])
    log.info("%d of %d images are in %s", int(known.sum()), len(frame), file.path)
    if strange.any():
        log.warning("not in %s: %d, such as %s (%s)", file.path, int(strange.sum()), frame["path"][strange].iloc[0],
                    "left out" if new == "exclude" else "without a split")
    if gone:
        first = file.frame[file.frame["sha256"].isin(gone)].iloc[0]
        log.warning("in %s, but not here: %d, such as %s", file.path, len(gone), first["path"] or first["sha256"])
    return ImageTable(frame, table.root)


def fingerprint_of(frame: pd.DataFrame) -> str:
    """Return 16 hexadecimal digits that name a split: content, split and whether it is left out, in any order of lines."""
    out = frame["excluded"].notna().map({True: "-", False: "+"})
    lines = frame["sha256"] + " " + frame["split"].fillna("") + " " + out
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]


def matched_lines(frame: pd.DataFrame, lines: pd.DataFrame) -> pd.Series:
    """Return, for each row of a table, the position of its line in a split file, -1 where there is none.

    Same content and same path first; then same content, in the order of the paths, what is in use before what is left out; a
    further copy takes the first line of its content.
    """
    rows = frame[["sha256", "path"]].assign(out=frame["excluded"].notna(), row=range(len(frame)))
    lines = lines[["sha256", "path"]].assign(out=lines["excluded"].notna(), line=range(len(lines)))
    found = np.full(len(frame), -1)
    exact = rows.drop(columns="out").merge(lines.drop_duplicates(["sha256", "path"]), on=["sha256", "path"])
    found[exact["row"]] = exact["line"]
    rest = rows[(found < 0) & rows["sha256"].notna().to_numpy()].sort_values(["out", "path"], kind="stable")
    lines = lines.sort_values(["out", "path"], kind="stable")
    free = lines[~lines["line"].isin(exact["line"])]
    moved = rest.assign(nth=rest.groupby("sha256").cumcount()).merge(
        free.assign(nth=free.groupby("sha256").cumcount()), on=["sha256", "nth"])  # columns of both sides get a suffix
    found[moved["row"]] = moved["line"]
    copies = rest[~rest["row"].isin(moved["row"])].merge(lines.drop_duplicates("sha256"), on="sha256")
    found[copies["row"]] = copies["line"]
    return pd.Series(found, index=frame.index)


def _matched(frame: pd.DataFrame, lines: pd.DataFrame) -> pd.DataFrame:
    """Return split, excluded and known (bool) of each row of a table by the lines of a split file."""
    found = matched_lines(frame, lines)
    known = found >= 0
    said = lines.reset_index(drop=True)[["split", "excluded"]].reindex(found.where(known)).set_axis(frame.index)
    said = said.astype(object).where(said.notna(), None)
    return said.assign(known=known)


def _header(lines: list[str]) -> dict[str, Any]:
    header: dict[str, Any] = {}
    for line in lines:
        name, colon, value = line.lstrip("# ").rstrip("\r\n").partition(": ")
        if colon:
            try:
                header[name] = json.loads(value) if value[:1] in "{[" else value
            except ValueError:
                header[name] = value
    return header


def _checked(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return a split file's lines with all COLUMNS, or raise what is wrong with them."""
    for name in ("sha256", "split"):
        if name not in frame.columns:
            raise TableError(f"{path} is no split file: no column {name!r} (has: {listed(frame.columns)})."
                             f"{near(name, frame.columns)}")
    frame = frame.reindex(columns=list(COLUMNS), fill_value="").fillna("").astype(object)
    wrong = frame[~frame["split"].isin([*SPLITS, ""])]
    if len(wrong):
        raise TableError(f"{path}: split {wrong['split'].iloc[0]!r} of {wrong['path'].iloc[0] or wrong['sha256'].iloc[0]} is "
                         f"unknown (known: {listed(SPLITS)}).{near(wrong['split'].iloc[0], SPLITS)}")
    frame["sha256"] = frame["sha256"].str.lower()
    wrong = frame[~frame["sha256"].str.fullmatch("[0-9a-f]{64}")]
    if len(wrong):
        raise TableError(f"{path}: {wrong['sha256'].iloc[0]!r} is no SHA-256 (64 hexadecimal digits)")
    frame = frame.where(frame != "", None)
    _refuse_overlap(frame, str(path), "A split whose parts overlap says nothing about unseen images: deal the table anew")
    return frame


def _refuse_overlap(frame: pd.DataFrame, said: str, remedy: str) -> None:
    """Raise where content in use lies in two splits: names the content, both places, how many more."""
    used = frame[frame["excluded"].isna() & frame["split"].notna()]
    several = used.groupby("sha256")["split"].nunique()
    several = several[several > 1]
    if not len(several):
        return
    digest = several.index[0]
    places = used[used["sha256"] == digest].drop_duplicates("split")
    where = " and ".join(f"{split} ({path})" for split, path in zip(places["split"], places["path"], strict=True))
    more = f", and {len(several) - 1:,} more like it" if len(several) > 1 else ""
    raise TableError(f"{said}: the content {digest} lies in {where}{more}. {remedy}")
