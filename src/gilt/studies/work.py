"""Work: a study's trials as another process takes them to their records. What it is sent is a `Job` and a trial."""
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from gilt.data.pixels import PixelCache
from gilt.data.table import ImageTable
from gilt.engine.train import Tick
from gilt.studies.executors import run_local
from gilt.studies.store import Store, TrialRecord
from gilt.studies.study import Trial
from gilt.studies.trial import Bench, run_trial


@dataclass(frozen=True)
class Job:
    """What all trials of a study share, small enough to be sent to another process or machine.

    `table` is the table's file and `root` where its images are now; `store` the store's address; `pixels` the folder of
    decoded images on the machine that does the work.
    """

    name: str
    table: str
    root: str | None
    store: str
    pixels: str
    keep_models: bool = False


@lru_cache(maxsize=1)
def bench(job: Job) -> Bench:
    """Return what the job's trials share, loaded once a process."""
    table = ImageTable.load(job.table, root=job.root)
    return Bench(job.name, table, Store(job.store), PixelCache(Path(job.pixels)), job.keep_models)


def do(job: Job, trial: Trial, trial_id: str, tick: Callable[[Tick], None] | None = None) -> TrialRecord | None:
    """Take one trial to its record, which is written to the store; None where another process had finished it.

    Raises StoreError where the store cannot be written; a trial that fails is a record too.
    """
    mine, done = bench(job), []
    run_local([(trial, trial_id)], mine.store, lambda trial, trial_id: run_trial(trial, trial_id, mine, tick=tick), done.append)
    return done[0] if done else None
