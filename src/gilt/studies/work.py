"""Work: a study's trials as another process takes them to their records. What it is sent is a `Job` and a trial."""
import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from filelock import Timeout

from gilt.config import TrialConfig
from gilt.data.pixels import PixelCache
from gilt.data.table import ImageTable
from gilt.engine.train import Tick
from gilt.errors import ConfigError, ModelError
from gilt.models.zoo import find
from gilt.studies.executors import attempt, settling
from gilt.studies.store import Store, TrialRecord
from gilt.studies.study import Trial
from gilt.studies.trial import Bench, run_trial


@dataclass(frozen=True)
class Job:
    """What all trials of a study share, small enough to be sent to another process or machine.

    `table` is the table's file and `root` where its images are now; `store` the store's address; `pixels` the folder of
    decoded images on the machine that does the work. `failed` has id and start of the trials that had failed before this run,
    which tries them again; `modules` are those that bring networks of the user's own.
    """

    name: str
    table: str
    root: str | None
    store: str
    pixels: str
    keep_models: bool = False
    failed: tuple[tuple[str, str], ...] = ()
    modules: tuple[str, ...] = ()


@lru_cache(maxsize=1)
def bench(job: Job) -> Bench:
    """Return what the job's trials share, loaded once a process."""
    for module in job.modules:
        importlib.import_module(module)
    table = ImageTable.load(job.table, root=job.root)
    return Bench(job.name, table, Store(job.store), PixelCache(Path(job.pixels)), job.keep_models)


def do(job: Job, trial: Trial, trial_id: str, tick: Callable[[Tick], None] | None = None, *,
       begin: Callable[[], None] | None = None, wait: bool = True) -> TrialRecord | None:
    """Take one trial to its record, which is written to the store; None where another process had settled it.

    `begin` is called once the trial is this process's own. Raises StoreError where the store cannot be written and, unless it
    is to `wait`, filelock.Timeout where another process is at it; a trial that fails is a record too.
    """
    mine = bench(job)

    def run(trial: Trial, trial_id: str) -> TrialRecord:
        if begin:
            begin()
        return run_trial(trial, trial_id, mine, tick=tick)

    while True:
        try:
            return attempt(trial, trial_id, mine.store, run, settled=settling(mine.store, job.failed), patience=float(wait))
        except Timeout:
            if not wait:
                raise


def own_modules(configs: Iterable[TrialConfig]) -> tuple[str, ...]:
    """Return the modules that registered the networks of these settings, other than gilt's: another process imports them.

    Raises ConfigError for a network that is registered in the script itself, which another process cannot import.
    """
    modules = {}
    for config in configs:
        try:
            build = find(config.train.model).build
        except ModelError:  # the rehearsal says it better
            continue
        modules[getattr(build, "__module__", "gilt")] = config.train.model
    if name := modules.get("__main__"):
        raise ConfigError(f"the network {name!r} is registered in the script that runs, which other processes do not see: "
                          "put it into a module of its own and import that, or run with one local worker")
    return tuple(sorted(name for name in modules if name.split(".")[0] not in ("gilt", "functools")))
