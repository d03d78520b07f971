"""Worker: measuring in other processes, because reading headers and small images keeps Python's lock.

`Workers.measure(contents)` hands files' contents to a process of its own for each thread and returns their facts. A process
is plain `python -m gilt.data.worker`: it needs no guard in the caller's script, ends when its caller ends or is killed, and
leaves Ctrl-C to its caller. A file that crashes a decoder costs that file, not the scan.
"""
import contextlib
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

import gilt
from gilt.data.facts import FACTS, measure
from gilt.data.table import STATISTICS

NUMBERS = ("width", "height", "quality", "bytes")
SCHEMA = pa.schema([(name, pa.int64() if name in NUMBERS else pa.float64() if name in STATISTICS else pa.string())
                    for name in FACTS])
_READY = b"gilt"


class WorkerError(OSError):
    """A process ended before it answered."""


def measured(contents: Sequence[bytes]) -> pa.RecordBatch:
    """Return the facts of files' contents, in this process."""
    rows = [measure(content) for content in contents]
    return pa.RecordBatch.from_pydict({name: [row[name] for row in rows] for name in FACTS}, SCHEMA)


class Workers:
    """One process a thread, started when the thread first asks; `close` ends them all."""

    def __init__(self) -> None:
        self._own = threading.local()
        self._all: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()

    def measure(self, contents: Sequence[bytes]) -> pa.RecordBatch:
        """Return the facts of files' contents. Raises WorkerError where no process can be started."""
        process = getattr(self._own, "process", None) or self._start()
        try:
            return _ask(process, contents)
        except (WorkerError, BrokenPipeError):
            self._own.process = None
        if len(contents) > 1:  # which of them was it?
            batches = [self.measure([content]) for content in contents]
            return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]
        row = dict.fromkeys(FACTS) | {"excluded": "unreadable: its decoder crashed"}
        return pa.RecordBatch.from_pylist([row], SCHEMA)

    def close(self) -> None:
        """End the processes."""
        with self._lock:
            for process in self._all:
                process.kill()
                process.wait()
                for pipe in (process.stdin, process.stdout):
                    with contextlib.suppress(OSError):  # what was still to be written
                        pipe.close()  # type: ignore[union-attr]
            self._all.clear()

    def _start(self) -> "subprocess.Popen[bytes]":
        path = os.pathsep.join(filter(None, (str(Path(gilt.__file__).parent.parent), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen([sys.executable, "-P", "-m", "gilt.data.worker"], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
        with self._lock:
            self._all.append(process)
        if process.stdout.read(len(_READY)) != _READY:  # type: ignore[union-attr]
            raise WorkerError("a worker process does not start")
        self._own.process = process
        return process


def _ask(process: "subprocess.Popen[bytes]", contents: Sequence[bytes]) -> pa.RecordBatch:
    to, back = process.stdin, process.stdout
    assert to is not None
    assert back is not None
    to.write(struct.pack(f"<q{len(contents)}q", len(contents), *map(len, contents)))
    for content in contents:
        to.write(content)
    to.flush()
    size = struct.unpack("<q", _exactly(back, 8))[0]
    return pa.ipc.read_record_batch(pa.py_buffer(_exactly(back, size)), SCHEMA)


def _exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise WorkerError("a worker process ended early")
    return data


def main() -> None:
    """Answer requests on standard input, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    come, go = sys.stdin.buffer, sys.stdout.buffer
    go.write(_READY)
    go.flush()
    while len(head := come.read(8)) == 8:
        count = struct.unpack("<q", head)[0]
        sizes = struct.unpack(f"<{count}q", _exactly(come, 8 * count))
        answer = measured([_exactly(come, size) for size in sizes]).serialize()
        go.write(struct.pack("<q", answer.size))
        go.write(answer)
        go.flush()


if __name__ == "__main__":
    main()
