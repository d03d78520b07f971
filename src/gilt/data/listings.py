"""Listings: collections whose images are named by lists (CSV, JSON lines): ArtiFact, competitions, image folders.

A listed image that is not there stays a row, with the reason. Images that no list names, and images that are named
twice, are counted. Lists' other columns become columns of the table.
"""
import logging
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from gilt.config import REAL
from gilt.data.layouts import MEASURED, is_split, split_in
from gilt.data.sheets import Names, Sheet, joined, once, read_sheet
from gilt.data.table import COLUMNS, STATISTICS
from gilt.data.tree import Tree
from gilt.errors import LayoutError, TableError, listed

log = logging.getLogger(__name__)
MISSING = "unreadable: no such file"
_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
CLASSES = ("class", "label", "labels", "class_name", "classname", "label_name", "category", "target", "breed", "species", "y")
_PATHS = ("path", "file_name", "filename", "file", "image_path", "filepath", "file_path", "image", "image_name", "img",
          "image_id", "imageid", "id", "name")
_SAID = {"class": CLASSES, "origin": ("origin",), "split": ("split",)}


@dataclass
class Hints:
    """What the user says of a collection: `constants` for all rows, `columns` as gilt's name -> the list's name."""

    constants: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)  # columns that some list has

    def refuse_columns(self, why: str) -> None:
        """Raise LayoutError where columns were named for a layout that reads none."""
        if self.columns:
            raise LayoutError(f"{why}: it has no columns to name ({listed(f'{k}={v}' for k, v in self.columns.items())})")

    def say_astray(self, astray: Sequence[str]) -> None:
        """Count images that a layout leaves out."""
        if astray:
            log.warning("%d images fit no layout and are not in the table, such as %s", len(astray), astray[0])

    def pick(self, sheet: Sheet, name: str, guesses: Sequence[str] = ()) -> str | None:
        """Return the column of `sheet` that says `name`: the user's, else the first guess; None where it has none."""
        wanted = self.columns.get(name)
        if wanted is None:
            return sheet.first(guesses)
        if wanted in sheet.columns:
            self.used.add(name)
            return wanted
        return None

    def check_used(self, sheets: Sequence[Sheet]) -> None:
        """Raise TableError for a column that the user named and no list has; LayoutError for one that is measured."""
        for name, wanted in self.columns.items():
            if name in MEASURED and name != "path":
                raise LayoutError(f"column {name!r} is measured, not read from a list; choose another name for {wanted!r}")
            if name not in self.used and sheets:
                sheets[0].column(wanted)


def artifact(tree: Tree, hints: Hints) -> pd.DataFrame:
    """Read ArtiFact: every folder's metadata.csv; target 0 is real, else the folder's name is the generator's."""
    sheets = _named(tree, ("metadata.csv",), "artifact")
    names, frames = Names(tree.images), []
    for sheet in sheets:
        columns = {key: hints.pick(sheet, key, guesses) for key, guesses in
                   (("path", ("image_path", "filename")), ("class", ("category",)), ("origin", ("target",)))}
        for key in ("path", "origin"):
            if columns[key] is None:
                sheet.column({"path": "image_path", "origin": "target"}[key])
        collection = posixpath.basename(sheet.folder) or tree.root.name
        target = sheet.column(columns["origin"])  # type: ignore[arg-type]
        odd = next((i for i, value in enumerate(target) if value is None or not value.lstrip("-").isdigit()), None)
        if odd is not None:
            raise TableError(f"{sheet.path}, row {odd + 1}: target is {target[odd]!r}, not 0 (real) or another whole number")
        frame = _frame(tree, sheet, hints, columns, [joined(sheet.folder, name or "") for name in
                                                     sheet.column(columns["path"])])  # type: ignore[arg-type]
        frames.append(frame.assign(origin=[REAL if int(value or 0) == 0 else collection for value in target],
                                   collection=collection))
    hints.check_used(sheets)
    return _listed(tree, frames, names)


def imagefolder(tree: Tree, hints: Hints) -> pd.DataFrame:
    """Read a Hugging Face image folder: by its metadata files where there are some, else by the folders' names."""
    paths = [path for path in (*tree.sheets, *tree.parquets) if posixpath.basename(path).lower() in _METADATA]
    if not paths:
        hints.refuse_columns("there is no metadata.csv, .jsonl or .parquet")
        classes = [next((name for name in reversed(path.split("/")[:-1]) if not is_split(name)), None) for path in tree.images]
        splits = [_split_of_folder(path) for path in tree.images]
        return pd.DataFrame({"path": tree.images, "class": classes, "split": splits}, dtype=object)
    sheets, frames, names = [read_sheet(tree.root, path) for path in paths], [], Names(tree.images)
    for sheet in sheets:
        guess = next((column for column in sheet.columns if column.endswith("_file_name")), "file_name")
        column = hints.pick(sheet, "path", ("file_name", guess))
        if column is None:
            sheet.column(hints.columns.get("path", "file_name"))
        columns = {"path": column, **{name: hints.pick(sheet, name, guesses) for name, guesses in _SAID.items()}}
        frames.append(_frame(tree, sheet, hints, columns, [joined(sheet.folder, name or "") for name in
                                                           sheet.column(column)]))  # type: ignore[arg-type]
    hints.check_used(sheets)
    return _listed(tree, frames, names)


def competition(tree: Tree, hints: Hints) -> pd.DataFrame:
    """Read a competition's lists: which image each row names, by path, file name or stem, and its class."""
    names, frames, unfit = Names(tree.images), [], []
    sheets = []
    for path in tree.sheets:
        if "submission" in posixpath.basename(path).lower():
            log.warning("%s passed over: a submission's classes are no truth", path)
            continue
        sheets.append(read_sheet(tree.root, path))
    if not sheets:
        raise TableError(f"no list (.csv, .tsv, .jsonl) under {tree.root}: layout 'competition' reads images' names from one")
    for sheet in sheets:
        column = _path_column(sheet, names, hints)
        if column is None:
            unfit.append(sheet)
            continue
        split = split_in(posixpath.splitext(posixpath.basename(sheet.path))[0])
        columns = {"path": column, "class": _class_column(sheet, column, split, hints),
                   "origin": hints.pick(sheet, "origin", ("origin",)), "split": hints.pick(sheet, "split", ("split",))}
        frame = _frame(tree, sheet, hints, columns, _found(sheet, column, names, split))
        frames.append(frame.assign(split=frame["split"].fillna(split) if split else frame["split"]))
    if not frames:
        sheet = unfit[0]
        first = listed(f"{name} {values[0]!r}" for name, values in sheet.columns.items() if values)
        raise TableError(f"{sheet.path}: no column names the images under {tree.root} ({first or 'it has no rows'}; an image "
                         f"is {next(iter(tree.images), 'missing')}). Name it with --column path=COLUMN")
    for sheet in unfit:
        log.warning("%s names no image: passed over", sheet.path)
    hints.check_used(sheets)
    frame = _listed(tree, frames, names, note=False)
    unnamed = [path for path in tree.images if path not in set(frame["path"])]
    if unnamed:
        log.warning("%d images that no list names are test images without a class, such as %s", len(unnamed), unnamed[0])
    rest = pd.DataFrame({"path": unnamed, "split": [_split_of_folder(path) or "test" for path in unnamed]}, dtype=object)
    return pd.concat([frame, rest], ignore_index=True)


def _named(tree: Tree, wanted: tuple[str, ...], layout: str) -> list[Sheet]:
    """Return the lists of these names, read. Raises TableError where there is none."""
    paths = [path for path in tree.sheets if posixpath.basename(path).lower() in wanted]
    if not paths:
        raise TableError(f"no {wanted[0]} under {tree.root}: layout {layout!r} reads one a folder")
    return [read_sheet(tree.root, path) for path in paths]


def _path_column(sheet: Sheet, names: Names, hints: Hints) -> str | None:
    """Return the column whose first 200 values name images: the user's, else a usual name, else any; None for none."""
    if "path" in hints.columns:
        return hints.pick(sheet, "path")
    usual = [column for name in _PATHS for column in sheet.columns if column.lower() == name]
    for column in dict.fromkeys((*usual, *sheet.columns)):
        given = [value for value in sheet.columns[column] if value][:200]
        if given and sum(bool(names.found(value, sheet.folder)) for value in given) * 2 > len(given):
            return column
    return None


def _class_column(sheet: Sheet, path: str, split: str | None, hints: Hints) -> str | None:
    """Return the column that says the class. Raises TableError where it cannot be told; None in a list for the test."""
    if "class" in hints.columns:
        return hints.pick(sheet, "class")
    taken = {path, *hints.columns.values()}
    rest = [column for column in sheet.columns if column not in taken and column.lower() not in ("origin", "split")]
    usual = next((column for name in CLASSES for column in rest if column.lower() == name), None)
    if usual is not None or split == "test" or not rest:
        return usual
    if len(rest) > 1:
        raise TableError(f"{sheet.path}: which column is the class? (has: {listed(rest)}) Name it with --column class=COLUMN")
    return rest[0]


def _found(sheet: Sheet, column: str, names: Names, split: str | None) -> list[str]:
    """Return the path of each row's image, or what the row says where there is none. Raises where it may be two."""
    paths = []
    for row, name in enumerate(sheet.column(column), 1):
        choices = names.found(name, sheet.folder) if name else []
        if len(choices) > 1:
            choices = [path for path in choices if _split_of_folder(path) == split] or choices
        if len(choices) > 1:
            raise LayoutError(f"{sheet.path}, row {row}: {name!r} may be {choices[0]} or {choices[1]}. Name a column that "
                              "holds paths: --column path=COLUMN, or scan the folders one by one")
        paths.append(choices[0] if choices else joined(sheet.folder, name or ""))
    return paths


def _split_of_folder(path: str) -> str | None:
    return next((folder for folder in reversed(path.split("/")[:-1]) if is_split(folder)), None)


def _frame(tree: Tree, sheet: Sheet, hints: Hints, columns: Mapping[str, str | None], paths: list[str]) -> pd.DataFrame:
    """Return one row a line: path, class, origin, split, and the list's other columns as they are or under `given_`."""
    there = set(tree.images)
    rows: dict[str, Any] = {"path": [path if path in there else path.replace("../", "").lstrip("/") for path in paths]}
    for name in ("class", "origin", "split"):
        column = columns.get(name)
        rows[name] = sheet.columns[column] if column else [None] * len(sheet)
    if not columns.get("split"):
        rows["split"] = [_split_of_folder(path) for path in rows["path"]]
    rows["excluded"] = [None if path in there else MISSING for path in rows["path"]]
    own = {wanted: name for name, wanted in hints.columns.items() if name not in ("path", "class", "origin", "split")}
    hints.used |= {own[name] for name in own if name in sheet.columns}
    return pd.DataFrame({**rows, **extras(sheet.columns, own, [c for c in columns.values() if c], sheet.path)}, dtype=object)


def extras(columns: Mapping[str, Sequence[Any]], own: Mapping[str, str], taken: Iterable[str], where: str) -> dict[str, Any]:
    """Return the columns that are left over, under the user's names (`own`), `given_` before a name that gilt uses."""
    result: dict[str, Any] = {}
    prefixed = []
    for name, values in columns.items():
        if name in taken and name not in own:
            continue
        new = own.get(name, name)
        if name not in own and name.lower() in (*COLUMNS, *STATISTICS):
            new = f"given_{name}"
            prefixed.append(name)
        result[new] = list(values)
    if prefixed:
        log.warning("%s: columns that gilt has a use of its own for are kept under other names: %s", where,
                    listed(f"{name} as given_{name}" for name in prefixed))
    return result


def _listed(tree: Tree, frames: Sequence[pd.DataFrame], names: Names, *, note: bool = True) -> pd.DataFrame:
    """Return the lists' rows as one frame, one row an image; says what is missing, named twice, or not named."""
    frame = pd.concat(frames, ignore_index=True)
    keep, differing = once(list(frame["path"]), list(frame["class"].astype(object).where(frame["class"].notna(), None)))
    if len(keep) < len(frame):
        log.warning("%d rows name an image that a row before them names, such as %s: the first row counts",
                    len(frame) - len(keep), frame["path"][frame["path"].duplicated()].iloc[0])
        frame = frame.iloc[keep].reset_index(drop=True)
    reasons = frame["path"].map({path: f"listed under several classes: {listed(said)}" for path, said in differing.items()})
    frame["excluded"] = frame["excluded"].where(frame["excluded"].notna() | reasons.isna(), reasons)
    missing = frame["path"][frame["excluded"] == MISSING]
    if len(missing):
        log.warning("%d listed images are not there, kept as rows that are left out, such as %s", len(missing), missing.iloc[0])
    if note:
        unnamed = names.images - set(frame["path"])
        if unnamed:
            log.warning("%d images that no list names are not in the table, such as %s", len(unnamed), min(unnamed))
    return frame
