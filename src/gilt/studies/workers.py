"""Workers: a study's trials in several processes of this machine, each with its share of the cores. Read `run_workers` first.

A worker is plain Python: it needs no guard in the caller's script. It ends when its caller ends or is killed, and leaves Ctrl-C
to its caller. Trials are dealt one at a time; the lock of each keeps several callers on one store out of each other's way.
"""
import contextlib
import logging
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from filelock import Timeout

import gilt
from gilt.errors import GiltError, StoreError
from gilt.studies.executors import failed
from gilt.studies.store import Store, TrialRecord, now
from gilt.studies.study import Trial
from gilt.studies.work import Job
from gilt.studies.worker import GRACE

log = logging.getLogger(__name__)
TRIES = 2  # times that a trial may take its worker with it
STARTS = 3  # workers that may end before they are ready, one after the other
START = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); from gilt.studies.worker import main; main()"


def run_workers(job: Job, todo: Sequence[tuple[Trial, str]], store: Store, done: Callable[[TrialRecord], None], *,
                workers: int, start: Callable[[Trial, str], None] = lambda trial, trial_id: None) -> None:
    """Run (trial, id) pairs in so many processes; `start` and `done` hear of each in this one.

    A trial that another caller is at is left for last. One whose worker is killed is tried once more, in a new worker, and
    then recorded as failed. Raises StoreError where the store cannot be written, GiltError where no worker can be started.
    """
    if store.address.startswith("memory:"):
        raise StoreError(f"{store.address} is in this process's memory, which no other sees: choose a folder or an address")
    pool = _Pool(job, store, threads_each(workers))
    pool.waiting.extend((*task, 0.0) for task in todo)
    try:
        for _ in range(min(workers, len(todo))):
            pool.add()
        while pool.waiting or pool.at_work:
            pool.deal()
            pool.hear(start, done)
    finally:
        pool.close()


def threads_each(workers: int) -> int:
    """Return how many threads each of so many workers computes on: what OMP_NUM_THREADS says, or its share of the cores."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(said) if said.isdecimal() and int(said) else max(1, cores // workers)


class _Worker:
    """One process, and a thread that puts what it sends into the inbox."""

    def __init__(self, job: Job, threads: int, inbox: "queue.SimpleQueue[Any]") -> None:
        self.task: tuple[Trial, str] | None = None
        self.ready, self.begun, self.started = False, 0.0, ""
        self.process = subprocess.Popen([sys.executable, "-P", "-c", START], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        env=_environment(threads))
        self.send((job, logging.getLogger("gilt").getEffectiveLevel()))
        threading.Thread(target=self._listen, args=(inbox,), daemon=True).start()

    def send(self, order: Any) -> None:
        with contextlib.suppress(OSError):  # a worker that is gone is heard of by its silence
            pickle.dump(order, self.process.stdin)
            self.process.stdin.flush()

    def _listen(self, inbox: "queue.SimpleQueue[Any]") -> None:
        with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):
            while True:
                inbox.put((self, *pickle.load(self.process.stdout)))
        inbox.put((self, "gone", None))


class _Pool:
    """Workers and the trials that wait for one. `waiting` has (trial, id, the moment before which it need not be asked for)."""

    def __init__(self, job: Job, store: Store, threads: int) -> None:
        self.job, self.store, self.threads = job, store, threads
        self.inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.workers: list[_Worker] = []
        self.waiting: deque[tuple[Trial, str, float]] = deque()
        self.lost: Counter[str] = Counter()
        self.stillborn = 0  # workers that ended before they were ready, one after the other
        self.said: set[tuple[str, int, str]] = set()

    @property
    def at_work(self) -> bool:
        return any(worker.task for worker in self.workers)

    def add(self) -> None:
        """Start one more worker."""
        self.workers.append(_Worker(self.job, self.threads, self.inbox))

    def deal(self) -> None:
        """Give every idle worker a trial."""
        for worker in self.workers:
            if worker.ready and not worker.task and self.waiting and self.waiting[0][2] <= time.monotonic():
                *task, _ = self.waiting.popleft()
                worker.task, worker.begun, worker.started = tuple(task), time.monotonic(), now()
                worker.send(worker.task)

    def hear(self, start: Callable[[Trial, str], None], done: Callable[[TrialRecord], None]) -> None:
        """Wait for the next message, a moment at most, and act on it."""
        try:
            worker, kind, value = self.inbox.get(timeout=0.2)
        except queue.Empty:
            return
        if kind == "ready":
            worker.ready, self.stillborn = True, 0
        elif kind == "log":
            self._log(*value)
        elif kind == "start":
            start(*worker.task)
        elif kind == "busy":
            self.waiting.append((*worker.task, time.monotonic() + 1.0))
            worker.task = None
        elif kind == "done":
            worker.task = None
            if value is not None:
                done(value)
        elif kind == "error":
            raise (StoreError if value[0] else GiltError)(value[1])
        elif kind == "gone":
            self._lose(worker, done)

    def close(self) -> None:
        """End all workers: they put away what they are at, or are killed."""
        for worker in self.workers:
            with contextlib.suppress(OSError):
                worker.process.stdin.close()
        end = time.monotonic() + GRACE
        for worker in self.workers:
            try:
                worker.process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            worker.process.stdout.close()

    def _log(self, name: str, level: int, text: str) -> None:
        """Log what a worker did, here, and what several say alike once."""
        if (name, level, text) not in self.said and logging.getLogger(name).isEnabledFor(level):
            logging.getLogger(name).log(level, "%s", text)
        self.said.add((name, level, text))

    def _lose(self, worker: _Worker, done: Callable[[TrialRecord], None]) -> None:
        """See to the trial of a worker that has ended, and put another in its place."""
        self.workers.remove(worker)
        code = worker.process.wait()
        self.stillborn += not worker.ready
        if self.stillborn >= STARTS:
            raise GiltError(f"no worker can be started: {self.stillborn} processes ended before they were ready, the last one "
                            f"{_ended(code)}")
        if worker.task:
            trial, trial_id = worker.task
            self.lost[trial_id] += 1
            name = f"{trial.arm}, seed {trial.seed}"
            if self.lost[trial_id] < TRIES:
                log.warning("%s: its worker %s; it is tried once more", name, _ended(code))
                self.waiting.appendleft((trial, trial_id, 0.0))
            elif record := self._given_up(worker, f"its worker {_ended(code)}, {self.lost[trial_id]} times"):
                done(record)
        if self.waiting:
            self.add()

    def _given_up(self, worker: _Worker, reason: str) -> TrialRecord | None:
        trial, trial_id = worker.task
        try:
            with self.store.lock(trial_id).acquire(timeout=0):
                if self.store.finished(trial_id):  # it was killed as it said so
                    return self.store.read(trial_id)
                record = failed(trial, trial_id, self.store, started=worker.started, seconds=time.monotonic() - worker.begun,
                                error=f"{reason}. Where memory ran short, run again with fewer workers.")
                self.store.write(record)
                self.store.quiet(trial_id)
                return record
        except Timeout:  # another caller is at it by now
            return None


def _ended(code: int) -> str:
    """Return how a process ended, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"was killed ({signal.Signals(-code).name})"
    return f"was killed (signal {-code})"


def _environment(threads: int) -> dict[str, str]:
    home = str(Path(gilt.__file__).parent.parent)
    path = os.pathsep.join([home, *(str(Path(entry).absolute()) for entry in sys.path if entry != home)])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)}
