"""Executors: where a study's trials run, and how one trial's failure stops no other."""
import contextlib
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from filelock import Timeout

import gilt
from gilt.errors import ConfigError, StoreError, listed, near
from gilt.studies.store import Store, TrialRecord, now
from gilt.studies.study import Trial

KINDS = ("local", "ray")
TORN = 60.0  # seconds after which no process is at a temporary file any more


@dataclass(frozen=True)
class Executor:
    """Where a study's trials run: on this machine (`local`), or on a Ray cluster (`ray`).

    `workers` is how many run at once: locally 1 is this process and more are processes of their own, which share the cores and
    the GPU; on Ray None is as many as there is room for. `address` is the cluster's (None: one of this machine alone), `gpus`
    the part of a GPU that a trial on Ray takes. Raises ConfigError for what does not go together.
    """

    kind: str = "local"
    workers: int | None = None
    address: str | None = None
    gpus: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"no executor {self.kind!r} (there are: {listed(KINDS)}).{near(self.kind, KINDS)}")
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers must be at least 1, not {self.workers}")
        if self.kind == "local" and (self.address is not None or self.gpus is not None):
            given = "an address" if self.address is not None else "a part of a GPU"
            raise ConfigError(f"{given} is for a Ray cluster: choose the executor 'ray' (local workers share the GPU)")
        if self.gpus is not None and not 0 <= self.gpus < float("inf"):
            raise ConfigError(f"gpus must be a number from 0 up, as in 0.25 for a quarter of one, not {self.gpus}")

    @property
    def here(self) -> bool:
        """Whether trials run in this process, one after the other."""
        return self.kind == "local" and self.workers in (None, 1)


def run_local(trials: Iterable[tuple[Trial, str]], store: Store, run: Callable[[Trial, str], TrialRecord],
              done: Callable[[TrialRecord], None], *, settled: Callable[[str], bool] | None = None) -> None:
    """Run (trial, id) pairs one after the other in this process; `done` hears of every record.

    A `settled` trial (by default: a finished one) is not repeated; one that another process is at is left for last. A trial
    that raises is recorded as failed, with its traceback. Only a store that cannot be written, or the user, stops the study.
    """
    queue = deque((trial, trial_id, 0.0) for trial, trial_id in trials)
    while queue:
        trial, trial_id, patience = queue.popleft()
        try:
            record = attempt(trial, trial_id, store, run, settled=settled, patience=patience)
        except Timeout:
            queue.append((trial, trial_id, 1.0))
            continue
        if record is not None:
            done(record)


def attempt(trial: Trial, trial_id: str, store: Store, run: Callable[[Trial, str], TrialRecord], *,
            settled: Callable[[str], bool] | None = None, patience: float = 0.0) -> TrialRecord | None:
    """Run one trial under its lock and return its record, written; None where it is settled (another process was faster).

    A trial that raises has a record too. Raises filelock.Timeout where another process is at it for `patience` seconds, and
    StoreError where the store cannot be written.
    """
    with store.lock(trial_id).acquire(timeout=patience):
        if (settled or store.finished)(trial_id):
            return None
        sweep(store, trial_id)
        started, begin = now(), time.perf_counter()
        try:
            record = run(trial, trial_id)
        except StoreError:
            raise
        except Exception:  # the one place that catches everything: the study goes on
            record = failed(trial, trial_id, store, error=traceback.format_exc(), started=started,
                            seconds=time.perf_counter() - begin)
        store.write(record)
        return record


def failed(trial: Trial, trial_id: str, store: Store, *, error: str, started: str, seconds: float) -> TrialRecord:
    """Return the record of a trial that came to nothing."""
    return TrialRecord(
        id=trial_id, study=store.summary["name"], arm=trial.arm, seed=trial.seed, state="failed", drawn=dict(trial.drawn),
        target=trial.config.target, config=trial.config.model_dump(mode="json"), table=store.summary["fingerprint"],
        started=started, gilt=gilt.__version__, seconds={"total": round(seconds, 3)}, error=error)


def settling(store: Store, earlier: Iterable[tuple[str, str]]) -> Callable[[str], bool]:
    """Return what tells whether a trial is settled: it is finished, or has failed in this run of the study, in any process.

    `earlier` has id and start of those that had failed before: they are tried again, once.
    """
    before = set(earlier)

    def settled(trial_id: str) -> bool:
        record = store.read(trial_id)
        return record is not None and (record.state == "finished" or (trial_id, record.started) not in before)

    return settled


def sweep(store: Store, trial_id: str) -> None:
    """Delete what a kill in the midst of a writing left of a trial (under whose lock this is), and of the study."""
    with contextlib.suppress(OSError):
        for left in store.path(trial_id, "json").parent.glob(f".{trial_id}.*.tmp"):
            left.unlink()
        for left in store.folder.glob(".study.json.*.tmp"):
            if time.time() - left.stat().st_mtime > TORN:  # else another caller may be at it
                left.unlink()
