"""Ray: a study's trials on the machines of a Ray cluster, or on one of this machine's own. Read `run_ray` first.

A task is one trial, which `gilt.studies.work` takes to its record in the store; the driver hands tasks out and hears of them.
Table, images, weights and store must be where every node finds them under the same name: a shared folder, or an address.
"""
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import Timeout

import gilt
from gilt.data.pixels import default_cache
from gilt.errors import ConfigError, GiltError, MissingExtraError
from gilt.studies.executors import failed
from gilt.studies.leases import machine
from gilt.studies.store import Store, TrialRecord, now
from gilt.studies.study import Trial
from gilt.studies.work import Job, bench, do

log = logging.getLogger(__name__)
RETRIES = 3  # times that a trial whose node or process is lost starts again
LOOK = 120.0  # seconds that a node has to say what it sees
HALT = 5.0  # seconds that tasks have to come to a halt
BUSY = "busy"  # what a task says of a trial that another driver is at
Said = list[tuple[str, int, str]]  # logger, level, text


def run_ray(job: Job, todo: Sequence[tuple[Trial, str]], place: Store, done: Callable[[TrialRecord], None], *,
            workers: int | None = None, address: str | None = None, gpus: float | None = None) -> None:
    """Run (trial, id) pairs as tasks of a Ray cluster; `done` hears of every record, which its task has written.

    `address` is the cluster's (`ray://host:10001`, `host:6379`, `auto`); None: what $RAY_ADDRESS says, or a cluster of this
    machine alone. `workers` tasks run at once (None: all that there is room for), each on its part of the cores and, where the
    cluster has GPUs, on `gpus` of one (None: a whole one; 0: on cores only). A trial whose node disappears runs elsewhere.

    Raises MissingExtraError without Ray, GiltError where the cluster cannot be reached or a node does not see the table or the
    store, ConfigError for `gpus` that no node has, StoreError where the store cannot be written.
    """
    with _cluster(address) as ray:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        share = _share(nodes, workers or len(todo), gpus)
        home = (machine(), str(Path.cwd()))
        _look_around(ray, job, home, nodes, str(place.summary["opened"]))
        task = ray.remote(max_retries=RETRIES, **share)(_trial)
        _Queue(ray, task, job, home, place).run(todo, done, workers or len(todo))


class _Queue:
    """Trials that wait, and the tasks that run."""

    def __init__(self, ray: Any, task: Any, job: Job, home: tuple[str, str], place: Store) -> None:
        self.ray, self.task, self.job, self.home, self.place = ray, task, job, home, place
        self.running: dict[Any, tuple[Trial, str, str]] = {}
        self.heard: set[tuple[str, int, str]] = set()

    def run(self, todo: Sequence[tuple[Trial, str]], done: Callable[[TrialRecord], None], at_once: int) -> None:
        """Keep `at_once` tasks at work until all trials are settled; what still runs when this is stopped is cancelled."""
        waiting = [(*task, 0.0) for task in todo]
        try:
            while waiting or self.running:
                while waiting and len(self.running) < at_once and waiting[0][2] <= time.monotonic():
                    trial, trial_id, _ = waiting.pop(0)
                    self.running[self.task.remote(self.job, self.home, trial, trial_id)] = (trial, trial_id, now())
                if not self.running:
                    time.sleep(0.2)
                    continue
                over, _ = self.ray.wait(list(self.running), timeout=0.5)
                for ref in over:
                    trial, trial_id, started = self.running.pop(ref)
                    record = self._came_of(ref, trial, trial_id, started)
                    if record == BUSY:
                        waiting.append((trial, trial_id, time.monotonic() + 1.0))
                    elif record is not None:
                        done(record)
        finally:
            self._cancel()

    def _came_of(self, ref: Any, trial: Trial, trial_id: str, started: str) -> TrialRecord | str | None:
        problems = self.ray.exceptions
        try:
            record, said = self.ray.get(ref)
        except problems.RayTaskError as error:
            raise _ours(error.cause) from None
        except problems.RayError as error:  # its process or node is gone, and the next ones too
            return self._given_up(trial, trial_id, started, str(error).strip().splitlines()[0])
        for name, level, text in said:
            if (name, level, text) not in self.heard and logging.getLogger(name).isEnabledFor(level):
                logging.getLogger(name).log(level, "%s", text)
            self.heard.add((name, level, text))
        return record

    def _given_up(self, trial: Trial, trial_id: str, started: str, reason: str) -> TrialRecord | str | None:
        try:
            with self.place.lock(trial_id).acquire(timeout=0):
                if self.place.finished(trial_id):  # its end was all that was lost
                    return self.place.read(trial_id)
                said = f"{reason} Tried {1 + RETRIES} times. Where memory ran short, run again with fewer workers."
                record = failed(trial, trial_id, self.place, started=started, seconds=0.0, error=said)
                self.place.write(record)
                self.place.quiet(trial_id)
                return record
        except Timeout:
            return BUSY

    def _cancel(self) -> None:
        refs = list(self.running)
        for force in (False, True):
            for ref in refs:
                with contextlib.suppress(self.ray.exceptions.RayError, ValueError):
                    self.ray.cancel(ref, force=force)
            if refs:
                refs = self.ray.wait(refs, num_returns=len(refs), timeout=HALT)[1]


def _trial(job: Job, home: tuple[str, str], trial: Trial, trial_id: str) -> tuple[TrialRecord | str | None, Said]:
    """Take one trial to its record, on whatever node this is; return it with what was logged."""
    with _overheard() as said:
        try:
            return do(_placed(job, home), trial, trial_id, wait=False), said
        except Timeout:
            return BUSY, said


def _look(job: Job, home: tuple[str, str], opened: str) -> str:
    """Return what keeps this node from working on the job, or ""."""
    store = Store(job.store)
    try:
        if store.held is None or str(store.held.get("opened")) < opened:  # later: another driver has opened it too
            return f"does not see the store {job.store}"
        root = bench(_placed(job, home)).table.root
    except GiltError as error:
        return f"cannot work on it: {error}"
    if not root.exists():
        return f"does not see the images in {root}"
    return "" if gilt.__version__ == home[-1] else f"has gilt {gilt.__version__}, and here it is {home[-1]}"


def _placed(job: Job, home: tuple[str, ...]) -> Job:
    """Return the job as it is worked on here: in the driver's folder, if that is here too, with this machine's images."""
    with contextlib.suppress(OSError):
        os.chdir(home[1])
    return job if machine() == home[0] else replace(job, pixels=str(default_cache().folder))


def _look_around(ray: Any, job: Job, home: tuple[str, str], nodes: Sequence[dict[str, Any]], opened: str) -> None:
    """Raise GiltError where a node cannot work on the job: before anything is trained."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0, max_retries=1)(_look)
    refs = {look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
        job, (*home, gilt.__version__), opened): node["NodeManagerHostname"] for node in nodes}
    ready, _ = ray.wait(list(refs), num_returns=len(refs), timeout=LOOK)
    for ref in ready:
        try:
            problem = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            problem = f"cannot work on it: {_ours(error.cause)}"
        except ray.exceptions.RayError as error:  # a node that is gone already
            log.debug("%s: %s", refs[ref], error)
            continue
        if problem:
            raise GiltError(f"node {refs[ref]} of the Ray cluster {problem}. Table, images and store must lie in a folder that "
                            "all nodes share under one name (a store may be at an address), and each needs the same gilt.")


def _share(nodes: Sequence[dict[str, Any]], at_once: int, gpus: float | None) -> dict[str, float]:
    """Return the cores and the GPU that one task takes, so that `at_once` fit as far as the cluster has them."""
    have = [(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0)) for node in nodes]
    most = max((gpu for _, gpu in have), default=0.0)
    gpus = (1.0 if most else 0.0) if gpus is None else float(gpus)
    if gpus > most:
        raise ConfigError(f"a trial is to have {gpus:g} GPUs, and no node of the Ray cluster has more than {most:g}")
    if gpus > 1 and gpus % 1:
        raise ConfigError(f"gpus must be a part of one GPU or a whole number, not {gpus:g}")
    if gpus:
        cores = min(int(cpu * gpus / gpu) for cpu, gpu in have if gpu >= gpus)
    else:
        cpus = [cpu for cpu, _ in have if cpu >= 1] or [1.0]
        cores = min(int(min(cpus)), int(sum(cpus) // at_once))
    return {"num_cpus": max(1, cores), "num_gpus": gpus}


@contextlib.contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    """Yield Ray, connected; a cluster or connection that is made here ends here. Ray's own words are kept low."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # a task without a GPU sees none, as Ray does of old
    try:
        import ray
    except ImportError:
        raise MissingExtraError("ray", "ray") from None
    if ray.is_initialized() and address is None:
        yield ray
        return
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    own = {"include_dashboard": False} if where == "local" else {}
    try:
        _knock(where)
        ray.init(where, logging_level=logging.ERROR, log_to_driver=False, **own)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise GiltError(f"no Ray cluster at {where}: {reason}. Start one with ray start --head (and give its token with "
                        "RAY_AUTH_TOKEN), or leave --address out to run on this machine") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(where: str) -> None:
    """Raise OSError where nothing listens at `[ray://]host:port`: Ray itself would try for minutes."""
    host, _, port = where.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


@contextlib.contextmanager
def _overheard() -> Iterator[Said]:
    """Yield a list that fills with what gilt logs."""
    said: Said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append((record.name, record.levelno, record.getMessage()))  # type: ignore[method-assign]
    logger = logging.getLogger("gilt")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield said
    finally:
        logger.removeHandler(handler)


def _ours(cause: BaseException) -> GiltError:
    if isinstance(cause, GiltError):
        return cause
    return GiltError(f"a task of the Ray cluster failed: {type(cause).__name__}: {str(cause).strip().splitlines()[-1]}")
