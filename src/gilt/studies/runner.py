"""Run a study: every arm under every seed that is not finished yet. One trial's road is in `gilt.studies.trial`."""
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gilt.data.pixels import PixelCache
from gilt.data.table import ImageTable
from gilt.engine.train import Tick
from gilt.studies.executors import run_local
from gilt.studies.store import Store, TrialRecord
from gilt.studies.study import Study, Trial
from gilt.studies.trial import Bench, rehearse_trial, run_trial

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Watch:
    """What a caller wants to hear: a trial's start (trial, its number, all), its training ticks, its record."""

    start: Callable[[Trial, int, int], None] = lambda trial, number, count: None
    tick: Callable[[Tick], None] | None = None
    done: Callable[[TrialRecord], None] = lambda record: None


def run_study(study: Study, store: Path | str, *, watch: Watch | None = None,
              root: Path | str | None = None) -> list[TrialRecord]:
    """Run every trial that is not finished yet and return all records. Run again to resume.

    `root` says where the table's images are now, if they moved.

    Raises, before anything is trained, TableError or ConfigError for an arm that cannot be run, and StoreError where
    the store cannot be used.
    """
    watch = watch or Watch()
    table = ImageTable.load(study.table, root=root)
    study.check_data(table)
    table.usable.check_files()
    for arm, config in study.arms.items():
        rehearse_trial(Trial(arm, study.seeds[0], config), table, name=f"arm {arm!r}")
    place = Store(store)
    place.open(study, table)
    bench = Bench(study.name, table, place, PixelCache(place.folder / "pixels"), study.keep_models)
    trials = [(trial, trial.id(table.fingerprint)) for trial in study.trials()]
    todo = [(trial, trial_id) for trial, trial_id in trials if not place.finished(trial_id)]
    if len(todo) < len(trials):
        log.info("%d of %d trials are finished already", len(trials) - len(todo), len(trials))

    def run(trial: Trial, trial_id: str) -> TrialRecord:
        watch.start(trial, 1 + [t for t, _ in trials].index(trial), len(trials))
        return run_trial(trial, trial_id, bench, tick=watch.tick)

    run_local(todo, place, run, watch.done)
    return place.records()
