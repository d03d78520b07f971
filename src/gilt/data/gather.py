"""Gather: the facts of many files, measured in parallel, kept in columns, and taken over where a file is as it was.

A journal beside the table-to-be keeps the facts of finished files, some thousand rows at a time, so that a scan that is
killed goes on where it stopped. It is an Arrow stream: a schema, then batches; a torn last batch is cut off.
"""
import logging
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from gilt.data.containers import read_image, reads_forward
from gilt.data.facts import FACTS, measure
from gilt.data.pixels import Progress
from gilt.data.table import ImageTable
from gilt.data.worker import SCHEMA as FACTS_SCHEMA
from gilt.data.worker import WorkerError, Workers, measured
from gilt.errors import ImageError
from gilt.files import writing

log = logging.getLogger(__name__)
SCHEMA = pa.schema([("path", pa.string()), ("modified", pa.int64()), *FACTS_SCHEMA])
MANY = 4000  # files from which on other processes are worth their start
PIECE_FILES, PIECE_BYTES = 64, 2**20  # what one thread reads at a time, at most (but for one larger file)
BATCH_ROWS, BATCH_SECONDS = 2048, 5.0  # when finished rows are put into the journal


@dataclass(frozen=True)
class Files:
    """The files to measure: paths under `root`, with int64 `bytes` (-1 unknown) and `modified` (ns; 0 unknown)."""

    root: Path
    paths: Sequence[str]
    bytes: np.ndarray
    modified: np.ndarray


def read_facts(path: Path) -> dict[str, Any]:
    """Return the FACTS of one file or member; `excluded` says why it cannot be read, or is None. Never raises."""
    try:
        return measure(read_image(path))
    except ImageError as error:
        return dict.fromkeys(FACTS) | {"excluded": _why(error)}


def _why(error: ImageError) -> str:
    return f"unreadable: {str(error).partition(' cannot be read: ')[2]}"


def gather(files: Files, *, known: ImageTable | None = None, journal: Path | None = None, progress: Progress | None = None,
           threads: int | None = None) -> pd.DataFrame:
    """Return `modified` and the FACTS of every file, in their order.

    Facts of files whose path, bytes and time are those in `known`, or in the journal of a scan that was stopped, are
    taken over; the others are read by several threads. `progress(done, all)` counts the files that are read.
    """
    book = Journal(journal, files.root) if journal else None
    old, stopped = _table_of(known), book.read() if book else SCHEMA.empty_table()
    before = pa.concat_tables([old, stopped])
    place, _ = _same(files, before)
    todo = np.flatnonzero(place < 0)
    fresh = list(_measured(files, todo, book, progress, threads))
    whole = pa.concat_tables([before.take(pa.array(place[place >= 0])), *(pa.Table.from_batches([batch]) for batch in fresh)])
    order = np.empty(len(files.paths), np.int64)
    order[np.concatenate([np.flatnonzero(place >= 0), todo])] = np.arange(len(order))
    if known is not None or len(stopped):
        _say_counts(files, old, len(todo), int((place >= len(old)).sum()))
    facts = whole.take(pa.array(order)).drop_columns(["path", "modified"])
    return facts.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)


def _table_of(known: ImageTable | None) -> pa.Table:
    """Return a table's facts in the journal's form; empty where it lacks some (an older gilt's)."""
    if known is None or not set(SCHEMA.names) <= set(known.frame.columns):
        return SCHEMA.empty_table()
    frame = known.frame[SCHEMA.names]
    unread = frame["excluded"].fillna("").str.startswith("unreadable")
    frame = frame.assign(excluded=frame["excluded"].where(unread, None))  # other reasons are no facts of the file
    return pa.Table.from_pandas(frame, schema=SCHEMA, preserve_index=False)


def _same(files: Files, before: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Return (place in `before` of each file that is as it was, else -1; whether its path stands there at all)."""
    nothing = np.full(len(files.paths), -1, np.int64)
    if not len(before):
        return nothing, nothing >= 0
    last = pd.Series(np.arange(len(before)), index=before["path"].to_pandas())
    last = last[~last.index.duplicated(keep="last")]
    place = last.index.get_indexer(pd.Index(files.paths))
    place = np.where(place >= 0, last.to_numpy()[place], -1)
    column = {name: before[name].to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get) for name in
              ("modified", "bytes", "sha256", "phash", "excluded")}
    whole = (column["sha256"].notna() & (column["phash"].notna() | column["excluded"].notna())).to_numpy()
    modified, size = (column[name].fillna(-2).to_numpy(np.int64) for name in ("modified", "bytes"))
    same = (place >= 0) & whole[place] & (modified[place] == files.modified) & (files.modified != 0)
    same &= (files.bytes == -1) | (size[place] == files.bytes)
    return np.where(same, place, -1), place >= 0


def _say_counts(files: Files, old: pa.Table, read: int, resumed: int) -> None:
    same, there = _same(files, old)
    gone = len(set(old["path"].to_pylist()) - set(files.paths)) if len(old) else 0
    log.info("read %d of %d images: %d new, %d changed, %d unchanged, %d gone%s", read, len(files.paths), int((~there).sum()),
             int((there & (same < 0)).sum()), int((same >= 0).sum()), gone,
             f"; {resumed} taken over from the scan that was stopped" if resumed else "")


def _measured(files: Files, todo: np.ndarray, book: "Journal | None", progress: Progress | None,
              threads: int | None) -> Iterator[pa.RecordBatch]:
    """Yield the facts of the files at `todo`, in that order, in batches that are in the journal by then."""
    pending: list[pa.RecordBatch] = []
    done, since = 0, time.monotonic()
    try:
        for batch in _read_in_parallel(files, todo, threads or min(16, os.cpu_count() or 1)):
            pending.append(batch)
            done += len(batch)
            if progress:
                progress(done, len(todo))
            if sum(map(len, pending)) >= BATCH_ROWS or time.monotonic() - since > BATCH_SECONDS:
                yield _journalled(pending, book)
                since = time.monotonic()
    except BaseException:
        if pending and book:
            _journalled(pending, book)
        raise
    if pending:
        yield _journalled(pending, None)


def _journalled(pending: list[pa.RecordBatch], book: "Journal | None") -> pa.RecordBatch:
    """Return the pending batches as one, written to the journal; none is pending then."""
    whole = pa.Table.from_batches(pending).combine_chunks().to_batches()[0]
    pending.clear()
    if book:
        book.append(whole)
    return whole


def _read_in_parallel(files: Files, todo: np.ndarray, threads: int) -> Iterator[pa.RecordBatch]:
    pieces = iter(_pieces(files, todo))
    workers = Workers() if len(todo) >= MANY and threads > 1 else None
    with ThreadPoolExecutor(threads) as pool:
        queue: deque[Future[pa.RecordBatch]] = deque()
        try:
            while True:
                while len(queue) < 4 * threads and (piece := next(pieces, None)) is not None:
                    alone = reads_forward(files.root / files.paths[piece[0]])
                    queue.append(pool.submit(_facts, files, piece, _contents(files, piece), workers) if alone else
                                 pool.submit(_read, files, piece, workers))
                if not queue:
                    return
                yield queue.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            if workers:
                workers.close()


def _pieces(files: Files, todo: np.ndarray) -> Iterator[list[int]]:
    """Yield the places of some files at a time: small ones together, large ones alone, so that threads stay abreast."""
    piece: list[int] = []
    weight = 0
    for place in todo.tolist():
        piece.append(place)
        weight += max(int(files.bytes[place]), PIECE_BYTES // PIECE_FILES)
        if weight >= PIECE_BYTES:
            yield piece
            piece, weight = [], 0
    if piece:
        yield piece


def _read(files: Files, piece: Sequence[int], workers: Workers | None = None) -> pa.RecordBatch:
    """Return the rows of some files: read by this thread, measured by its worker where there is one."""
    return _facts(files, piece, _contents(files, piece), workers)


def _contents(files: Files, piece: Sequence[int]) -> list[bytes | str]:
    """Return what each file holds, or the reason why it cannot be read."""
    contents: list[bytes | str] = []
    for place in piece:
        try:
            contents.append(read_image(files.root / files.paths[place]))
        except ImageError as error:
            contents.append(_why(error))
    return contents


def _facts(files: Files, piece: Sequence[int], found: Sequence[bytes | str], workers: Workers | None) -> pa.RecordBatch:
    """Return the rows of some files from their contents, or the reasons in their place."""
    contents = [content for content in found if isinstance(content, bytes)]
    unread = {i: reason for i, reason in enumerate(found) if isinstance(reason, str)}
    try:
        facts = workers.measure(contents) if workers else measured(contents)
    except WorkerError:  # no other process can be started here
        facts = measured(contents)
    if unread:
        rows = [dict.fromkeys(FACTS) | {"excluded": why} for why in unread.values()]
        reasons = pa.RecordBatch.from_pylist(rows, FACTS_SCHEMA)
        order = np.argsort([i for i in range(len(piece)) if i not in unread] + list(unread))
        facts = pa.Table.from_batches([facts, reasons]).take(pa.array(order)).combine_chunks().to_batches()[0]
    own = [pa.array([files.paths[place] for place in piece], pa.string()), pa.array(files.modified[list(piece)])]
    return pa.RecordBatch.from_arrays([*own, *facts.columns], schema=SCHEMA)


class Journal:
    """The finished rows of one scan, on disk. Each batch is one write at the file's end."""

    def __init__(self, path: Path, root: Path) -> None:
        self.path = path
        self.schema = SCHEMA.with_metadata({b"gilt-scan-of": str(root.absolute()).encode("utf-8", "replace")})

    def read(self) -> pa.Table:
        """Return the whole batches and cut off what a killed scan left after them; nothing for another folder's journal."""
        batches: list[pa.RecordBatch] = []
        end = 0
        try:
            with pa.OSFile(str(self.path)) as file:
                reader = pa.ipc.open_stream(file)
                if not reader.schema.equals(self.schema, check_metadata=True):
                    raise pa.ArrowInvalid("another scan's journal")
                end = file.tell()
                for batch in reader:
                    batch.validate(full=True)
                    batches.append(batch)
                    end = file.tell()
        except (pa.ArrowException, OSError, EOFError):
            pass
        if self.path.exists():
            with writing(self.path):
                os.truncate(self.path, end)
        return pa.Table.from_batches(batches, SCHEMA) if batches else SCHEMA.empty_table()

    def append(self, batch: pa.RecordBatch) -> None:
        """Add a batch. Raises StoreError where it cannot be written."""
        new = not self.path.exists() or not self.path.stat().st_size
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab", buffering=0) as file:
                file.write((self.schema.serialize().to_pybytes() if new else b"") + batch.serialize().to_pybytes())
