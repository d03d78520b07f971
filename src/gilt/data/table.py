"""`ImageTable`: rows of images under one root, the one thing that every question starts from."""
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gilt.config import GENERATED, REAL
from gilt.data.containers import absent
from gilt.errors import TableError, listed, near
from gilt.files import atomic_path
from gilt.training import detects

SPLITS = ("train", "val", "test")
COLUMNS = ("path", "class", "origin", "split", "width", "height", "format", "mode", "quality", "bytes", "modified", "sha256",
           "phash", "source", "group", "excluded")
_NUMBERS = ("width", "height", "quality", "bytes", "modified")
# measured by `gilt.data.facts` on a reduced picture; part of a scanned table, not of every table
STATISTICS = ("brightness", "contrast", "red", "green", "blue", "saturation", "sharpness", "flat", "seam")
BALANCE = {"times": 1, "loss_weight": 1.0, "smote_to": 0}  # set by `gilt.data.balance`; name -> the value that changes nothing


def in_order(names: Iterable[str], target: str) -> list[str]:
    """Return the names of a target sorted; of a detector's, real first, so that 1 means generated."""
    return sorted(names, key=lambda name: (detects(target) and name != REAL, name))


class ImageTable:
    """Images, one row each: `frame` (pandas) and the `root` folder that its paths start from.

    Columns: path (under root, with "/"), class, origin ("real" or a generator's name), split (train, val, test or
    None), width and height in pixels, format, mode (Pillow's colour mode), quality (of a JPEG, estimated, 1 to 100),
    bytes, modified (the file's time, ns), sha256 of the file, phash (perceptual hash, hexadecimal), source (path of the
    image that a generated one was made from, or None), group (name of its group of near-duplicates, or None), excluded
    (why the row is left out, or None); where scanned, STATISTICS of the pixels; and any column of yours.
    A table is never changed in place: every method returns a new one.
    """

    def __init__(self, frame: pd.DataFrame, root: Path | str) -> None:
        missing = {"path", "class", "origin"} - set(frame.columns)
        if missing:
            raise TableError(f"a table needs the columns path, class and origin; missing: {listed(sorted(missing))}")
        frame = frame.reindex(columns=[*COLUMNS, *(c for c in frame.columns if c not in COLUMNS)])
        for column in COLUMNS:
            kind = "Int64" if column in _NUMBERS else object
            values = frame[column].astype(kind)
            frame[column] = values if kind == "Int64" else values.where(values.notna(), None)
        self.frame = frame.reset_index(drop=True)
        self.root = Path(root).absolute()

    def __len__(self) -> int:
        return len(self.frame)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ImageTable) and self.fingerprint == other.fingerprint

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        usable = self.usable
        parts = [f"{len(self):,} images", f"{len(usable.classes)} classes"]
        parts += [f"{name} {count:,}" for name, count in usable.counts("origin").items()]
        parts += [f"{name} {count:,}" for name, count in usable.counts("split").items()]
        if len(usable) < len(self):
            parts.append(f"{len(self) - len(usable):,} left out")
        return f"<ImageTable {self.root}: {', '.join(parts)}>"

    @property
    def usable(self) -> "ImageTable":
        """The rows that nothing speaks against."""
        return self._of(self.frame[self.frame["excluded"].isna()])

    @property
    def real(self) -> "ImageTable":
        """The photographs."""
        return self._of(self.frame[self.frame["origin"] == REAL])

    @property
    def generated(self) -> "ImageTable":
        """The images of every generator."""
        return self._of(self.frame[self.frame["origin"] != REAL])

    @property
    def classes(self) -> list[str]:
        """The class names, sorted."""
        return sorted(self.frame["class"].dropna().unique())

    @property
    def origins(self) -> list[str]:
        """`real` first where there are photographs, then the generators, sorted."""
        return sorted(self.frame["origin"].unique(), key=lambda name: (name != REAL, name))

    def labels(self, target: str) -> pd.Series:
        """Return each row's target as a name: its class; for `origin` "real" or "generated"; for `generator` its origin.

        Raises TableError for a `generator` that is named "generated" beside others: that word stands for all of them.
        """
        if target == "class":
            return self.frame["class"]
        origins = self.frame["origin"]
        if target == "generator":
            named = set(origins) - {REAL}
            if GENERATED in named and len(named) > 1:
                raise TableError(f"a generator is named {GENERATED!r}, which stands for all of them ({listed(sorted(named))}): "
                                 "give it another name, or leave it out with generators = [...]")
            return origins
        return origins.where(origins == REAL, GENERATED)

    def names(self, target: str) -> list[str]:
        """Return the names that `labels` takes, in the order of a classifier's logits (`in_order`)."""
        return in_order(self.labels(target).dropna().unique(), target)

    @property
    def paths(self) -> list[Path]:
        """The absolute paths, row by row."""
        return [self.root / path for path in self.frame["path"]]

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change when a row's content, class, origin, split, fate or part in training does,
        not when files move."""
        names = ["path", "class", "origin", "split", "sha256", "source", "excluded"]
        names += [name for name, plain in BALANCE.items() if name in self.frame and (self.frame[name] != plain).any()]
        rows = self.frame[names].fillna("").astype(str)
        digest = hashlib.sha256()
        for line in sorted("\x1f".join(row) for row in rows.itertuples(index=False, name=None)):
            digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
        return digest.hexdigest()[:16]

    def counts(self, column: str) -> dict[str, int]:
        """Return value -> number of rows, in the order train, val, test or real first, else by name."""
        counts = self._column(column).value_counts()
        order = {name: i for i, name in enumerate((REAL, *SPLITS))}
        return {name: int(counts[name]) for name in sorted(counts.index, key=lambda n: (order.get(n, 9), str(n)))}

    def where(self, condition: Callable[[pd.DataFrame], Any] | None = None, **equal: Any) -> "ImageTable":
        """Return the rows where every named column equals its value, or is one of a list of values.

        `class` is a Python keyword: write `class_="Apple"`. `condition` takes the frame and returns a mask.
        Raises TableError for an unknown column.
        """
        keep = pd.Series(True, index=self.frame.index)
        for name, value in equal.items():
            column = self._column("class" if name == "class_" else name)
            wanted = list(value) if isinstance(value, (list, tuple, set)) else [value]
            keep &= column.isin([v for v in wanted if v is not None]) | (column.isna() if None in wanted else False)
        if condition is not None:
            keep &= condition(self.frame)
        return self._of(self.frame[keep])

    def with_column(self, name: str, values: Any) -> "ImageTable":
        """Return the table with the column `name` set to `values` (one value, or one a row)."""
        frame = self.frame.copy()
        frame[name] = values
        return self._of(frame)

    def exclude(self, mask: Any, reason: str) -> "ImageTable":
        """Return the table with the masked rows marked as left out, unless something already speaks against them."""
        return self.with_column("excluded", self.frame["excluded"].mask(mask & self.frame["excluded"].isna(), reason))

    def take(self, rows: Any) -> "ImageTable":
        """Return the rows at the integer positions `rows`, in that order."""
        return self._of(self.frame.iloc[rows])

    def pick(self, classes: Mapping[str, list[str]] | list[str] | None, generators: list[str] | None) -> "ImageTable":
        """Return the rows of the named classes (or groups of them) and generators; None keeps all. Real rows stay.

        Raises TableError for a name that no row has.
        """
        table = self
        if generators is not None:
            known = self.generated.origins
            unknown = sorted(set(generators) - set(known))
            if unknown:
                raise TableError(f"no generator {unknown[0]!r} in {self.root} (has: {listed(known) or 'none'})."
                                 f"{near(unknown[0], known)}")
            table = self.where(origin=[REAL, *generators])
        return table if classes is None else table.merge_classes(classes)

    def merge_classes(self, classes: Mapping[str, list[str]] | list[str]) -> "ImageTable":
        """Return only the picked classes, or groups of classes under new names: {"Fruit": ["Apple", "Banana"]}.

        Raises TableError for a class that no row has, or that stands in two groups.
        """
        groups = classes if isinstance(classes, Mapping) else {name: [name] for name in classes}
        names: dict[str, str] = {}
        for group, members in groups.items():
            for member in members:
                if member in names:
                    raise TableError(f"class {member!r} is in two groups: {names[member]!r} and {group!r}")
                names[member] = group
        unknown = sorted(set(names) - set(self.classes))
        if unknown:
            raise TableError(f"no class {unknown[0]!r} in {self.root} (has: {listed(self.classes)})."
                             f"{near(unknown[0], self.classes)}")
        merged = self.where(class_=list(names))
        return merged.with_column("class", merged.frame["class"].map(names).astype(object))

    def save(self, path: Path | str) -> None:
        """Write the table to `path` as Parquet, with its root, atomically."""
        path = Path(path).absolute()
        relative = os.path.relpath(self.root, path.parent)
        frame = pa.Table.from_pandas(self.frame, preserve_index=False)
        text = [c for c in frame.column_names if pa.types.is_null(frame.schema.field(c).type)]
        for column in text:  # a column of only None has no type of its own
            frame = frame.set_column(frame.column_names.index(column), column, frame[column].cast(pa.string()))
        notes = {"root": str(self.root), "root_beside": relative}
        frame = frame.replace_schema_metadata({**(frame.schema.metadata or {}), b"gilt": json.dumps(notes).encode()})
        with atomic_path(path) as temporary:
            pq.write_table(frame, temporary)

    @classmethod
    def load(cls, path: Path | str, *, root: Path | str | None = None) -> "ImageTable":
        """Read a table that `save` wrote; `root` says where its images are now, if they moved.

        Raises TableError where the file is missing or no table of gilt's.
        """
        path = Path(path)
        if not path.is_file():
            kind = "is a folder: scan it first (gilt scan)" if path.is_dir() else "does not exist"
            raise TableError(f"table {path} {kind}")
        try:
            frame = pq.read_table(path)
            notes = json.loads((frame.schema.metadata or {}).get(b"gilt", b"null"))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise TableError(f"{path} is not a Parquet table: {error}") from None
        if notes is None:
            raise TableError(f"{path} is Parquet, but no table of gilt's: make one with gilt scan")
        table = cls(frame.to_pandas(), root or notes["root"])
        beside = Path(os.path.normpath(path.absolute().parent / notes["root_beside"]))
        if root is None and not table.root.exists() and beside.exists():
            table.root = beside  # the table moved together with its images
        return table

    def check_files(self) -> None:
        """Raise TableError where the table's images are no longer where it says: names one, and the remedy."""
        read = self.frame["path"][~self.frame["excluded"].fillna("").str.startswith("unreadable")]
        gone = absent(self.root, list(read))
        if gone:
            raise TableError(f"{len(gone):,} of {len(self):,} images are not where the table says, such as "
                             f"{self.root / gone[0]}. If they moved, give their folder with --root; if gone, scan again.")

    def _column(self, name: str) -> pd.Series:
        if name not in self.frame.columns:
            raise TableError(f"no column {name!r} (has: {listed(self.frame.columns)}).{near(name, self.frame.columns)}")
        return self.frame[name]

    def _of(self, frame: pd.DataFrame) -> "ImageTable":
        return ImageTable(frame, self.root)
