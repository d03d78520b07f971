"""Run a study: every arm under every seed that is not finished yet. One trial's road is in `gilt.studies.trial`."""
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gilt.data.pixels import PixelCache
from gilt.data.table import ImageTable
from gilt.engine.train import Tick
from gilt.errors import StoreError
from gilt.studies.executors import Executor, run_local, settling
from gilt.studies.heartbeat import Beat, listening
from gilt.studies.store import Store, TrialRecord
from gilt.studies.study import Study, Trial
from gilt.studies.trial import Bench, rehearse_trial, run_trial
from gilt.studies.work import Job, own_modules
from gilt.studies.workers import run_workers

log = logging.getLogger(__name__)
Tasks = Sequence[tuple[Trial, str]]  # trials with their ids


@dataclass(frozen=True)
class Watch:
    """What a caller wants to hear: a trial's start (trial, its number, all), its training ticks, its record.

    Where trials run in other processes, their ticks are not heard: `running` hears every few seconds, from a thread, where each
    of them stands, by its id. Not every executor tells of starts.
    """

    start: Callable[[Trial, int, int], None] = lambda trial, number, count: None
    tick: Callable[[Tick], None] | None = None
    done: Callable[[TrialRecord], None] = lambda record: None
    running: Callable[[Mapping[str, Beat]], None] | None = None


def run_study(study: Study, store: Path | str, *, executor: Executor | str = "local", watch: Watch | None = None,
              root: Path | str | None = None) -> list[TrialRecord]:
    """Run every trial that is not finished yet and return all records. Run again to resume.

    `executor` says where trials run: `local`, `ray`, or an `Executor` that says more. Several processes, on several machines,
    may run one study into one store at a time: each trial is run by one of them. `root` says where the table's images are
    now, if they moved.

    Raises, before anything is trained, TableError or ConfigError for an arm that cannot be run, and StoreError where
    the store cannot be used.
    """
    watch = watch or Watch()
    executor = executor if isinstance(executor, Executor) else Executor(executor)
    table = ImageTable.load(study.table, root=root)
    study.check_data(table)
    table.usable.check_files()
    for arm, config in study.arms.items():
        rehearse_trial(Trial(arm, study.seeds[0], config), table, name=f"arm {arm!r}")
    modules = () if executor.here else own_modules(study.arms.values())
    place = Store(store)
    place.open(study, table)
    trials = [(trial, trial.id(table.fingerprint)) for trial in study.trials()]
    todo = [(trial, trial_id) for trial, trial_id in trials if not place.finished(trial_id)]
    if len(todo) < len(trials):
        log.info("%d of %d trials are finished already", len(trials) - len(todo), len(trials))
    failed = tuple((trial_id, record.started) for _, trial_id in todo if (record := place.read(trial_id)))
    numbers = {trial_id: number for number, (_, trial_id) in enumerate(trials, 1)}

    def start(trial: Trial, trial_id: str) -> None:
        watch.start(trial, numbers[trial_id], len(trials))

    if executor.here:
        bench = Bench(study.name, table, place, PixelCache(place.pixels), study.keep_models)
        _run_here(todo, bench, watch, start, failed)
    else:
        job = Job(study.name, str(study.table.absolute()), str(Path(root).absolute()) if root else None, _address(place),
                  str(place.pixels.absolute()), study.keep_models, failed, modules)
        _run_elsewhere(job, todo, place, watch, executor, start)
    return place.records()


def _run_here(todo: Tasks, bench: Bench, watch: Watch, start: Callable[[Trial, str], None],
              failed: Sequence[tuple[str, str]]) -> None:
    """Run trials one after the other in this process."""
    def run(trial: Trial, trial_id: str) -> TrialRecord:
        start(trial, trial_id)
        return run_trial(trial, trial_id, bench, tick=watch.tick)

    run_local(todo, bench.store, run, watch.done, settled=settling(bench.store, failed))


def _run_elsewhere(job: Job, todo: Tasks, place: Store, watch: Watch, executor: Executor,
                   start: Callable[[Trial, str], None]) -> None:
    """Run trials in other processes, of this machine or of a cluster."""
    if not todo:
        return
    if place.address.startswith("memory:"):
        raise StoreError(f"{place.address} is in this process's memory, which no other sees: choose a folder or an address")
    with listening(place, watch.running):
        if executor.kind == "ray":
            from gilt.studies.ray_cluster import run_ray

            run_ray(job, todo, place, watch.done, workers=executor.workers, address=executor.address, gpus=executor.gpus)
        else:
            run_workers(job, todo, place, watch.done, workers=executor.workers or 1, start=start)


def _address(place: Store) -> str:
    """Return the store's address as another process understands it, wherever it works."""
    return place.address if "://" in place.address else str(Path(place.address).absolute())
