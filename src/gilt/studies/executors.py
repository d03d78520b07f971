"""Executors: run trials, and let one trial's failure stop no other."""
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable

from filelock import Timeout

import gilt
from gilt.errors import StoreError
from gilt.studies.store import Store, TrialRecord, now
from gilt.studies.study import Trial


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
            lock = store.lock(trial_id).acquire(timeout=patience)
        except Timeout:
            queue.append((trial, trial_id, 1.0))
            continue
        with lock:
            if (settled or store.finished)(trial_id):  # another process was faster
                continue
            started, begin = now(), time.perf_counter()
            try:
                record = run(trial, trial_id)
            except StoreError:
                raise
            except Exception:  # the one place that catches everything: the study goes on
                record = TrialRecord(
                    id=trial_id, study=store.summary["name"], arm=trial.arm, seed=trial.seed, state="failed",
                    drawn=dict(trial.drawn), target=trial.config.target, config=trial.config.model_dump(mode="json"),
                    table=store.summary["fingerprint"], started=started, gilt=gilt.__version__,
                    seconds={"total": round(time.perf_counter() - begin, 3)}, error=traceback.format_exc())
            store.write(record)
        done(record)
