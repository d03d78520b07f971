"""Sheets: the lists beside images (CSV, TSV, JSON lines, Parquet) as columns, and the images that their rows name."""
import csv
import io
import json
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gilt.data.archives import BROKEN
from gilt.data.containers import read_image
from gilt.errors import ImageError, TableError, listed, near

_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")


@dataclass(frozen=True)
class Sheet:
    """One list: its path under the root, and its columns of equal length; "" and null are None."""

    path: str
    columns: dict[str, list[str | None]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    @property
    def folder(self) -> str:
        """The folder that the list lies in, "" for the root."""
        return posixpath.dirname(self.path)

    def column(self, name: str) -> list[str | None]:
        """Return a column. Raises TableError, naming the sheet and its columns, where there is none of that name."""
        if name not in self.columns:
            raise TableError(f"no column {name!r} in {self.path} (has: {listed(self.columns)}).{near(name, self.columns)}")
        return self.columns[name]

    def first(self, names: Sequence[str]) -> str | None:
        """Return the first of `names` that is a column (in any case of letters), or None."""
        spelt = {column.lower().strip(): column for column in self.columns}
        return next((spelt[name] for name in names if name in spelt), None)


def read_sheet(root: Path, path: str) -> Sheet:
    """Return a CSV (, ; or tabs), TSV, JSON-lines or Parquet list as text columns.

    Raises TableError, naming the line, for one that is empty or broken.
    """
    suffix = PurePosixPath(path).suffix.lower()
    if suffix == ".parquet":
        return Sheet(path, _parquet(root / path))
    try:
        data = read_image(root / path)
    except ImageError as error:
        raise TableError(str(error)) from None
    text = _text(data)
    if not text.strip():
        raise TableError(f"{path} is empty: its first line must name its columns")
    return Sheet(path, _json_lines(text, path) if suffix == ".jsonl" else _csv(text, path, "\t" if suffix == ".tsv" else None))


def _text(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:  # as older spreadsheets write it
        return data.decode("cp1252", "replace")


def _csv(text: str, path: str, delimiter: str | None) -> dict[str, list[str | None]]:
    if delimiter is None:
        header = text.lstrip().split("\n", 1)[0]
        delimiter = max(",;\t|", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        lines = ((reader.line_num, row) for row in reader if any(cell.strip() for cell in row))
        _, names = next(lines)
        names = [name.strip() for name in names]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise TableError(f"{path} has two columns {twice!r}: rename one")
        columns: list[list[str | None]] = [[] for _ in names]
        for number, row in lines:
            if len(row) != len(names):
                raise TableError(f"{path} line {number} has {len(row)} fields, its header {len(names)} ({listed(names)}). "
                                 f"Fields that hold {delimiter!r} must stand in quotation marks")
            for column, cell in zip(columns, row, strict=True):
                column.append(cell.strip() or None)
    except csv.Error as error:
        raise TableError(f"{path} line {reader.line_num}: {error}") from None
    return dict(zip(names, columns, strict=True))


def _json_lines(text: str, path: str) -> dict[str, list[str | None]]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TableError(f"{path} line {number} is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise TableError(f"{path} line {number} is no JSON object: a line is one, as in {{\"file_name\": \"1.jpg\"}}")
        rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [_cell(row.get(name)) for row in rows] for name in names}


def _parquet(path: Path) -> dict[str, list[str | None]]:
    try:
        table = pq.read_table(path)
    except BROKEN as error:
        raise TableError(f"{path} is not a Parquet table: {str(error).splitlines()[0]}") from None
    return {name: [_cell(value) for value in table[name].to_pylist()] for name in table.column_names
            if not pa.types.is_nested(table.schema.field(name).type)}


def _cell(value: object) -> str | None:
    if value is None or value == "":
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def numbers(values: list[str | None]) -> pd.Series:
    """Return a column of text, as numbers where each value is one, written plainly ("007" is a name)."""
    given = [value for value in values if value is not None]
    if not given or not all(_NUMBER.fullmatch(value) for value in given):
        return pd.Series(values, dtype=object)
    if all(value.lstrip("-").isdigit() and len(value) < 18 for value in given):
        return pd.Series([None if value is None else int(value) for value in values], dtype="Int64")
    return pd.Series([None if value is None else float(value) for value in values], dtype="Float64")


class Names:
    """The images of a collection, found by what a list calls them: a path, a file name, or a name without its ending."""

    def __init__(self, images: Sequence[str]) -> None:
        self.images = set(images)
        self._by_name: dict[str, list[str]] = {}
        for image in images:
            name = posixpath.basename(image)
            self._by_name.setdefault(name, []).append(image)
            self._by_name.setdefault(f"{posixpath.splitext(name)[0]}/", []).append(image)  # "/" is in no file name

    def exact(self, name: str, folder: str) -> str | None:
        """Return the image at `name` from `folder`, or None."""
        path = joined(folder, name)
        return path if path in self.images else None

    def found(self, name: str, folder: str) -> list[str]:
        """Return the images that `name` may mean, the surest kind first: a path, then a file name, then a stem."""
        for base in dict.fromkeys((folder, "")):
            exact = self.exact(name, base)
            if exact:
                return [exact]
        base = posixpath.basename(name.replace("\\", "/"))
        end = f"/{name.strip('/')}" if "/" in name else ""
        for key in (base, f"{base}/"):
            images = self._by_name.get(key, [])
            if end:
                images = [image for image in images if f"/{image}".endswith(end)
                          or f"/{posixpath.splitext(image)[0]}".endswith(end)]
            if images:
                return images
        return []


def joined(folder: str, name: str) -> str:
    """Return the path of `name` seen from `folder`, with plain "/" and no ".." left inside."""
    return posixpath.normpath(posixpath.join(folder, name.replace("\\", "/"))) if name else ""


def once(paths: Sequence[str], classes: Sequence[str | None]) -> tuple[list[int], Mapping[str, list[str]]]:
    """Return (places of the first row of every path, path -> its classes where rows of one path differ)."""
    first: dict[str, int] = {}
    said: dict[str, list[str]] = {}
    for i, (path, name) in enumerate(zip(paths, classes, strict=True)):
        if path not in first:
            first[path] = i
        elif name != classes[first[path]]:
            said.setdefault(path, [str(classes[first[path]])]).append(str(name))
    return list(first.values()), said


def sheets_of(root: Path, paths: Sequence[str]) -> Iterator[Sheet]:
    """Yield the lists at `paths`, read."""
    for path in paths:
        yield read_sheet(root, path)
