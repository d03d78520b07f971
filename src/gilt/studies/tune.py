"""Tune: search for settings on val rows, then train the best for the test. Read `tune` first.

The search is a row of trials in a store, each with its number: what is drawn is written down before it is trained, and a
finished trial is never trained again. Test rows are read by the final training alone, when nothing is left to choose.
"""
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gilt.data.pixels import PixelCache
from gilt.data.table import ImageTable
from gilt.errors import ConfigError, GiltError, TableError
from gilt.studies.executors import run_local
from gilt.studies.outcome import best_of, settings_text
from gilt.studies.runner import Watch
from gilt.studies.search import epochs_of, optuna_package, propose, watcher
from gilt.studies.space import spelled, written
from gilt.studies.store import Store, TrialRecord
from gilt.studies.study import Trial
from gilt.studies.trial import Bench, rehearse_trial, run_trial
from gilt.studies.tuning import Tuning

log = logging.getLogger(__name__)


def tune(plan: Tuning, store: Path | str, *, watch: Watch | None = None, root: Path | str | None = None,
         final: bool = True, retry: bool = False) -> list[TrialRecord]:
    """Run the search and the final training of its best settings, as far as they are not done; return all records.

    Run again to resume; with more `trials` the search goes on. `final=False` leaves the test alone. A failed trial is not
    tried again unless `retry`: what was drawn after it took it for failed. `root` says where the table's images are now.

    Raises, before anything is trained, TableError or ConfigError for a value that cannot be run, StoreError where the store
    cannot be used, and MissingExtraError without Optuna.
    """
    watch = watch or Watch()
    optuna_package()
    table = ImageTable.load(plan.table, root=root)
    table.usable.check_files()
    plan.check_data(table)
    place = Store(store)
    place.check(plan)
    rehearsal = Rehearsal(plan, table)
    rehearsal.run()
    bench = Bench(plan.name, table, place, PixelCache(place.pixels), plan.keep_models)
    search = _Searching(rehearsal, bench, watch, retry)
    search.open()
    search.run()
    best = best_of(search.records(), plan.tune.metric)
    if best is None:
        log.warning("no trial of the search is finished, so there are no settings to train for the test")
    elif final:
        _train_best(plan, bench, watch, best, search.entries)
    return place.records()


class Rehearsal:
    """Checks of a tuning's trials before any is trained. Rows are dealt once for all settings that deal them alike."""

    def __init__(self, plan: Tuning, table: ImageTable) -> None:
        self.plan, self.table = plan, table
        self.dealt: dict[str, tuple[ImageTable, ImageTable]] = {}

    def check(self, trial: Trial, name: str) -> ImageTable:
        """Return a trial's rows. Raises the GiltError that speaks against them or its network, with `name`."""
        config = trial.config
        key = written(config.model_dump(mode="json", exclude={"train"}) | {"target": config.target, "seed": trial.seed})
        self.dealt[key] = rehearse_trial(trial, self.table, name=name, dealt=self.dealt.get(key))
        return self.dealt[key][1]

    def run(self) -> None:
        """Check every listed value, the ends of every range, and every combination of a grid.

        Raises the GiltError that speaks against one, with its dimension; ConfigError for a value that changes the val rows,
        since figures on different rows cannot be compared, and TableError where there are no val rows.
        """
        first, source = None, self.plan.source
        for name, value, drawn in self.plan.space.rehearsals():
            what = f"{source}, dimension {name!r}, value {spelled(value)}"
            try:
                trial = self.plan.searched(0, drawn)
            except GiltError as error:
                raise type(error)(f"{what}: {str(error).removeprefix(f'{source}, trial 0: ')}") from None
            val = self.check(trial, what).where(split="val")
            if not len(val):
                raise TableError(f"{source}: there is no val row to choose settings by: give split.val a share above 0, or "
                                 "scan with a layout that says {split}")
            first = first or val.fingerprint
            if val.fingerprint != first:
                raise ConfigError(f"{what} changes the val rows, and figures on different rows cannot be compared: leave it "
                                  "fixed")
        if self.plan.tune.sampler == "grid":
            for number, drawn in enumerate(self.plan.space.grid(), 1):
                self.plan.searched(number, drawn)


class _Searching:
    """The state of a search: its entries in the store, one a trial, in the order of their numbers."""

    def __init__(self, rehearsal: Rehearsal, bench: Bench, watch: Watch, retry: bool) -> None:
        self.plan, self.rehearsal, self.retry = rehearsal.plan, rehearsal, retry
        self.bench, self.store, self.watch = bench, bench.store, watch
        self.table = bench.table.fingerprint
        self.entries: list[dict[str, Any]] = []
        self.settled_now: set[str] = set()

    def open(self) -> None:
        """Take up the entries of an earlier run of the same search, and write down those that are known without any result."""
        before = self.store.held or {}
        finals = [entry for entry in before.get("trials", ()) if "number" not in entry]
        tested = {*before.get("tested", ()), *(entry["id"] for entry in finals if self.store.finished(entry["id"]))}
        if before.get("search") == self.plan.summary(self.bench.table)["search"]:
            self.entries = [entry for entry in before["trials"] if "number" in entry][:self.plan.tune.trials]
        else:
            finals = []
        if self.plan.tune.sampler == "grid":
            self.entries = [self._entry(number, drawn) for number, drawn in enumerate(self.plan.space.grid(), 1)]
        elif self.plan.tune.sampler == "random":
            while self._more() and self._draw(()):
                pass
        self.store.open(self.plan, self.bench.table, trials=[*self.entries, *finals], tested=sorted(tested))

    def run(self) -> None:
        """Run what is known and not settled; then, for a sampler that learns, one trial after the other."""
        self._run(self.entries)
        while self.plan.tune.sampler == "tpe" and self._more() and self._draw(self._known(len(self.entries))):
            self.store.note(trials=self.entries)
            self._run(self.entries[-1:])

    def records(self) -> list[TrialRecord]:
        """Return the records of the search's trials."""
        return [record.model_copy(update={"arm": entry["arm"], "drawn": entry["drawn"]})
                for entry in self.entries if (record := self.store.read(entry["id"]))]

    def _more(self) -> bool:
        return len(self.entries) < (self.plan.tune.trials or 0)

    def _draw(self, known: Sequence[tuple[Mapping[str, Any], TrialRecord | None]]) -> bool:
        """Add the next trial's entry; False (with a note) where nothing new was found."""
        number, taken = len(self.entries) + 1, {entry["id"] for entry in self.entries}

        def new(drawn: Mapping[str, Any]) -> bool:
            try:
                if self._entry(number, drawn)["id"] in taken:
                    return False
                self.rehearsal.check(self.plan.searched(number, drawn), f"{self.plan.source}, a draw for trial {number}")
                return True
            except GiltError as error:  # values that do not go together: only a draw finds them
                log.warning("not trained: %s", error)
                return False

        drawn = propose(self.plan, number, known, new)
        if drawn is None:
            log.warning("the search ends after %d of %d trials: nothing new was drawn (the space holds %s)", number - 1,
                        self.plan.tune.trials, f"{self.plan.space.size:,} settings at most" if self.plan.space.size else
                        "no more that this sampler finds")
            return False
        self.entries.append(self._entry(number, drawn))
        return True

    def _entry(self, number: int, drawn: Mapping[str, Any]) -> dict[str, Any]:
        trial = self.plan.searched(number, drawn)
        return {"arm": trial.arm, "seed": trial.seed, "id": trial.id(self.table), "number": number, "drawn": dict(drawn)}

    def _known(self, count: int) -> list[tuple[Mapping[str, Any], TrialRecord | None]]:
        return [(entry["drawn"], self.store.read(entry["id"])) for entry in self.entries[:count]]

    def _settled(self, trial_id: str) -> bool:
        record = self.store.read(trial_id)
        if record is None or (record.state == "pruned" and self.plan.tune.prune == "none"):
            return False
        return record.state != "failed" or not self.retry or trial_id in self.settled_now

    def _run(self, entries: Sequence[Mapping[str, Any]]) -> None:
        todo = [(self.plan.searched(entry["number"], entry["drawn"]), entry["id"]) for entry in entries
                if not self._settled(entry["id"])]
        if len(todo) < len(entries) and len(entries) > 1:
            log.info("%d of %d trials of the search are done already", len(entries) - len(todo), len(entries))
        numbers = {entry["id"]: entry["number"] for entry in entries}

        def run(trial: Trial, trial_id: str) -> TrialRecord:
            self.settled_now.add(trial_id)
            number = numbers[trial_id]
            self.watch.start(trial, number, self.plan.tune.trials or len(self.entries))
            epochs = epochs_of(trial.config.train.model_dump())
            hear = watcher(self.plan, epochs, trial.drawn, self._known(number - 1))
            return run_trial(trial, trial_id, self.bench, tick=self.watch.tick, on_epoch=hear)

        run_local(todo, self.store, run, self.watch.done, settled=self._settled)


def _train_best(plan: Tuning, bench: Bench, watch: Watch, best: TrialRecord, entries: Sequence[Mapping[str, Any]]) -> None:
    """Train the best settings under every seed, and judge them on the test rows."""
    trials = [(trial, trial.id(bench.table.fingerprint)) for trial in (plan.final(best.drawn, seed) for seed in plan.seeds)]
    rehearse_trial(trials[0][0], bench.table, name=f"{plan.source}, [tune.final]")
    other = set(bench.store.summary["tested"]) - {trial_id for _, trial_id in trials}
    if other:
        log.warning("the test rows have been read for %d other final trainings of this search: what they say now was not "
                    "chosen blind", len(other))
    finals = [{"arm": trial.arm, "seed": trial.seed, "id": trial_id, "drawn": dict(trial.drawn)} for trial, trial_id in trials]
    bench.store.note(trials=[*entries, *finals])
    log.info("the best of the search, %s: %s", best.arm, settings_text(best.drawn, short=True))

    def run(trial: Trial, trial_id: str) -> TrialRecord:
        watch.start(trial, 1 + plan.seeds.index(trial.seed), len(plan.seeds))
        return run_trial(trial, trial_id, bench, tick=watch.tick)

    todo = [(trial, trial_id) for trial, trial_id in trials if not bench.store.finished(trial_id)]
    run_local(todo, bench.store, run, watch.done)
