"""Parts: a table of results written piece by piece beside the file that it becomes, so that a run that was killed goes on.

The pieces are Parquet files in a hidden folder, `.out.csv.parts`; each is whole or not there. When all are there, they are put
together in order and the folder goes. Memory holds one piece at a time.
"""
import logging
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from gilt.errors import ConfigError, StoreError, counted, listed
from gilt.files import atomic_path, read_json, write_json, writing

log = logging.getLogger(__name__)
KINDS = (".csv", ".parquet", ".jsonl")
_PIECE = re.compile(r"(\d{9})-([0-9a-f]{16})\.parquet")


def check_kind(output: Path) -> None:
    """Raise ConfigError where a file's ending names no kind of table that can be written."""
    if output.suffix.lower() not in KINDS:
        raise ConfigError(f"{output}: what should it be? Name it {listed(f'{output.stem}{kind}' for kind in KINDS)}")


def as_text(frame: pd.DataFrame, kind: str, *, header: bool = True) -> str:
    """Return rows as CSV, or as JSON lines; numbers with six digits, what is missing empty or null."""
    if kind == ".jsonl":
        return frame.to_json(orient="records", lines=True, force_ascii=False, double_precision=6) if len(frame) else ""
    return frame.to_csv(index=False, float_format="%.6f", header=header)


def write_table(output: Path, pieces: Iterable[pd.DataFrame]) -> None:
    """Write pieces one after the other as one file, CSV, JSON lines or Parquet by its ending, atomically."""
    kind = output.suffix.lower()
    with atomic_path(output) as temporary, writing(output):
        if kind == ".parquet":
            writer = None
            for frame in pieces:
                table = _arrow(frame)
                writer = writer or pq.ParquetWriter(temporary, table.schema)
                writer.write_table(table)
            if writer:
                writer.close()
            return
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            for i, frame in enumerate(pieces):
                file.write(as_text(frame, kind, header=i == 0))


def _arrow(frame: pd.DataFrame) -> pa.Table:
    """Return a frame as a table whose columns are numbers or texts, also where all of them are missing."""
    kinds = {name: pa.float64() if frame[name].dtype.kind == "f" else pa.string() for name in frame.columns}
    return pa.table({name: pa.array(frame[name], kind, from_pandas=True) for name, kind in kinds.items()})


class Parts:
    """The pieces of one output. `key` says what they come of: pieces of another key are taken away.

    Use as a context: it holds a lock. Raises StoreError where another process writes the same output.
    """

    def __init__(self, output: Path, key: str) -> None:
        self.output, self.key = output, key
        self.folder = output.parent / f".{output.name}.parts"
        self._lock = FileLock(self.folder / "lock", timeout=0)
        self._names: dict[int, str] = {}

    def __enter__(self) -> "Parts":
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire()
            except Timeout:
                raise StoreError(f"another process writes {self.output}: wait for it, or name another file") from None
        note = self.folder / "run.json"
        if note.exists() and read_json(note) != {"key": self.key}:
            log.warning("what an earlier run left of %s came of another model or other settings: it is begun anew", self.output)
            for piece in self._pieces():
                piece.unlink()
        write_json(note, {"key": self.key})
        self._names = {int(piece.name[:9]): piece.name for piece in self._pieces()}
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _pieces(self) -> Iterator[Path]:
        return (path for path in sorted(self.folder.iterdir()) if _PIECE.fullmatch(path.name))

    def rows(self, place: int, digest: str) -> int | None:
        """Return how many rows the piece at a place has, None where it is not there or was made of other files."""
        name = f"{place:09}-{digest}.parquet"
        if self._names.get(place) != name:
            return None
        try:
            return pq.read_metadata(self.folder / name).num_rows
        except (OSError, pa.ArrowException):
            return None

    def write(self, place: int, digest: str, frame: pd.DataFrame) -> None:
        """Keep a piece."""
        old, name = self._names.get(place), f"{place:09}-{digest}.parquet"
        with atomic_path(self.folder / name) as temporary:
            pq.write_table(_arrow(frame), temporary)
        if old not in (None, name):
            (self.folder / old).unlink(missing_ok=True)
        self._names[place] = name

    def finish(self, count: int, *, each: Callable[[pd.DataFrame], None] | None = None) -> None:
        """Put the first `count` pieces together as the output, and take the folder away. `each` sees every piece."""
        def frames() -> Iterator[pd.DataFrame]:
            for place in range(count):
                frame = pq.read_table(self.folder / self._names[place]).to_pandas()
                if each:
                    each(frame)
                yield frame

        write_table(self.output, frames())
        log.debug("%s is whole", counted(count, "piece"))
        self._lock.release()
        shutil.rmtree(self.folder, ignore_errors=True)
