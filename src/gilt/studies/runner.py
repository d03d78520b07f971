"""Run a study: for each arm and seed, the road of a row from a table to a record. Read `run_trial` first."""
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gilt
from gilt.config import BalanceConfig, TrainConfig, TrialConfig
from gilt.data.balance import shortfall
from gilt.data.mix import mix, share_name
from gilt.data.pixels import PixelCache
from gilt.data.split import split
from gilt.data.table import ImageTable
from gilt.engine.judge import memory
from gilt.engine.predict import predict
from gilt.engine.train import Tick, rehearse, train
from gilt.errors import GiltError, TableError
from gilt.evaluation.evaluate import evaluate
from gilt.models.features import smote_class
from gilt.models.zoo import find, parameters
from gilt.studies.executors import run_local
from gilt.studies.store import Store, TrialRecord, now
from gilt.studies.study import Study, Trial

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
    table.usable.check_files()
    for arm, config in study.arms.items():
        _rehearse(Trial(arm, study.seeds[0], config), table)
    place = Store(store)
    place.open(study, table)
    cache = PixelCache(place.folder / "pixels")
    trials = [(trial, trial.id(table.fingerprint)) for trial in study.trials()]
    todo = [(trial, trial_id) for trial, trial_id in trials if not place.finished(trial_id)]
    if len(todo) < len(trials):
        log.info("%d of %d trials are finished already", len(trials) - len(todo), len(trials))

    def run(trial: Trial, trial_id: str) -> TrialRecord:
        watch.start(trial, 1 + [t for t, _ in trials].index(trial), len(trials))
        return run_trial(trial, trial_id, table, place, cache, study=study, tick=watch.tick)

    run_local(todo, place, run, watch.done)
    return place.records()


def run_trial(trial: Trial, trial_id: str, table: ImageTable, store: Store, cache: PixelCache, *, study: Study,
              tick: Callable[[Tick], None] | None = None) -> TrialRecord:
    """Take one trial from the table to its record: split, mix, train, predict, evaluate.

    The test rows are read once, at the end; predictions are on disk before the first metric is computed.
    """
    config, started, begin = trial.config, now(), time.perf_counter()
    dealt, rows = prepare(table, config, seed=trial.seed)
    rows.save(store.path(trial_id, "rows.parquet"))
    classes = dealt.usable.names(config.target)
    classifier = train(rows, config.train, seed=trial.seed, cache=cache, progress=tick, classes=classes,
                       log_dir=store.folder / "tensorboard" / f"{trial.arm}-seed{trial.seed}")
    trained = time.perf_counter()
    parts = {part: rows.where(split=part) for part in ("val", "test")}
    evaluations = {}
    for part in [part for part in ("val", "test") if len(parts[part])]:
        predictions = predict(classifier, parts[part], cache=cache)
        predictions.save(store.path(trial_id, f"{part}.parquet"))
        evaluations[part] = evaluate(predictions).as_json()
    classifier.provenance |= memory(table, rows, config)
    if study.keep_models:
        classifier.save(store.path(trial_id, "safetensors"))
    ended = time.perf_counter()
    counts = {name: classifier.provenance[name] for name in ("n_real", "n_generated", "n_drawn")}
    return TrialRecord(
        id=trial_id, study=study.name, arm=trial.arm, seed=trial.seed, state="finished", target=config.target,
        config=config.model_dump(mode="json"), table=table.fingerprint, started=started, **counts,
        short=_short(rows, config), n_val=len(parts["val"]), n_test=len(parts["test"]),
        train_set=share_name(counts["n_real"], counts["n_generated"]), val_set=_set_name(parts["val"]), rows=rows.fingerprint,
        test_rows=parts["test"].real.fingerprint,
        left_out=_left_out(dealt), classes=classes, parameters=parameters(classifier.network),
        dropout=_dropout(config.train),
        history=classifier.history, val=evaluations.get("val"), test=evaluations.get("test"),
        machine=classifier.provenance["machine"], gilt=gilt.__version__,
        seconds={"train": round(trained - begin, 3), "predict": round(ended - trained, 3),
                 "total": round(ended - begin, 3)})


def prepare(table: ImageTable, config: TrialConfig, *, seed: int) -> tuple[ImageTable, ImageTable]:
    """Return (all rows picked and dealt, the rows that the trial uses): classes, generators, split, mix."""
    picked = table.pick(config.classes, config.generators)
    dealt = split(picked, config.split, target=config.target, seed=seed)
    return dealt, mix(dealt, config.mix, target=config.target, seed=seed)


def _rehearse(trial: Trial, table: ImageTable) -> None:
    """Check that an arm's rows and network can be made, and raise what speaks against it with the arm's name."""
    config = trial.config
    try:
        dealt, rows = prepare(table, config, seed=trial.seed)
        train_rows = rows.where(split="train")
        labels = train_rows.labels(config.target)
        if labels.isna().any():
            raise TableError(f"{int(labels.isna().sum())} training rows have no {config.target}")
        if labels.nunique() < 2:
            raise TableError(f"the training rows hold one {config.target} only ({labels.iloc[0]}): there is nothing to "
                             "tell apart")
        if not len(rows.where(split="test")):
            kind = "real " if config.target == "class" else ""
            raise TableError(f"there is no {kind}test row: scan with a layout that says {{split}}, or deal the rows anew "
                             "with split.keep=false")
        if config.mix.balance == "smote":
            smote_class()
        rehearse(config.train, len(dealt.usable.names(config.target)))
    except GiltError as error:
        raise type(error)(f"arm {trial.arm!r}: {error}") from None


def _dropout(config: TrainConfig) -> float | None:
    """Return the part that training drops before the last layer, or None where there is no such layer, or it is frozen out."""
    return None if config.frozen else find(config.model).dropout if config.dropout is None else config.dropout


def _short(rows: ImageTable, config: TrialConfig) -> dict[str, int]:
    """Return class -> generated images that balancing wanted and did not find."""
    if config.mix.balance != "generated":
        return {}
    return shortfall(rows.where(split="train"), BalanceConfig(method="generated", degree=config.mix.degree))


def _set_name(rows: ImageTable) -> str:
    return share_name(len(rows.real), len(rows.generated)) if len(rows) else "none"


def _left_out(table: ImageTable) -> dict[str, int]:
    """Return reason -> number of rows left out, reasons of one kind together."""
    reasons = table.frame["excluded"].dropna().map(lambda reason: reason.split(":")[0])
    return {reason: int(count) for reason, count in reasons.value_counts().items()}
