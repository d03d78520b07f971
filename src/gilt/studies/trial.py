"""One trial: the road of a row from the table to a record. Read `run_trial` first."""
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import gilt
from gilt.config import BalanceConfig, TrainConfig, TrialConfig
from gilt.data.balance import shortfall
from gilt.data.choose import Choice
from gilt.data.mix import share_name
from gilt.data.pixels import PixelCache
from gilt.data.seen import refuse_seen
from gilt.data.split import split
from gilt.data.table import ImageTable
from gilt.engine.choose import mixed
from gilt.engine.judge import memory, warn_of_seen
from gilt.engine.predict import predict
from gilt.engine.train import Epoch, Tick, rehearse, train
from gilt.errors import GiltError, TableError
from gilt.evaluation.evaluate import evaluate
from gilt.models.classifier import Classifier
from gilt.models.features import smote_class
from gilt.models.zoo import find, parameters
from gilt.studies.heartbeat import Heart
from gilt.studies.search import Pruned
from gilt.studies.store import Store, TrialRecord, now
from gilt.studies.study import Trial


@dataclass(frozen=True)
class Bench:
    """What all trials of a study or tuning share: its name, the table, the store, the decoded images."""

    name: str
    table: ImageTable
    store: Store
    cache: PixelCache
    keep_models: bool = False


def run_trial(trial: Trial, trial_id: str, bench: Bench, *, tick: Callable[[Tick], None] | None = None,
              on_epoch: Callable[[Epoch], None] | None = None) -> TrialRecord:
    """Take one trial from the table to its record: split, mix, train, predict, evaluate.

    The test rows are read once, at the end, and by a search's trial not at all; predictions are on disk before the first
    metric is computed. A trial that was killed goes on from its last epoch. `on_epoch` may raise Pruned to give it up.
    """
    with Heart(bench.store, trial, trial_id) as heart:
        return _taken(trial, trial_id, bench, heart, tick=heart.hears(tick), on_epoch=on_epoch)


def _taken(trial: Trial, trial_id: str, bench: Bench, heart: Heart, *, tick: Callable[[Tick], None],
           on_epoch: Callable[[Epoch], None] | None) -> TrialRecord:
    config, store, started, begin = trial.config, bench.store, now(), time.perf_counter()
    dealt, rows, choice = prepared(bench.table, config, seed=trial.seed)
    if trial.search:
        rows = rows.where(split=("train", "val"))
    warn_of_seen(rows, config.train.weights, name=f"{trial.arm}, seed {trial.seed}")
    if choice and config.mix.choose:
        warn_of_seen(rows, config.mix.choose.features.weights, name=f"{trial.arm}, seed {trial.seed}",
                     setting="mix.choose.features.weights")
    rows.save(store.path(trial_id, "rows.parquet"))
    classes, epochs = logit_names(dealt, config.target), []

    def heard(epoch: Epoch) -> None:
        epochs.append(asdict(epoch))
        if on_epoch:
            on_epoch(epoch)

    known: dict[str, Any] = {
        "id": trial_id, "study": bench.name, "arm": trial.arm, "seed": trial.seed, "target": config.target,
        "config": config.model_dump(mode="json"), "drawn": dict(trial.drawn), "table": bench.table.fingerprint,
        "started": started, "gilt": gilt.__version__, "left_out": _left_out(dealt), "classes": classes,
        "choice": choice.counts() if choice else {}}
    checkpoint = store.path(trial_id, "checkpoint")
    try:
        classifier = train(rows, config.train, seed=trial.seed, cache=bench.cache, progress=tick, classes=classes,
                           log_dir=store.folder / "tensorboard" / f"{trial.arm}-seed{trial.seed}", on_epoch=heard,
                           checkpoint=checkpoint)
    except Pruned:
        checkpoint.unlink(missing_ok=True)
        total = round(time.perf_counter() - begin, 3)
        return TrialRecord(**known, state="pruned", history=epochs, seconds={"train": total, "total": total})
    trained, heart.stage = time.perf_counter(), "judging"
    evaluations = judged(classifier, rows, bench, trial_id)
    classifier.provenance |= memory(bench.table, rows, config)
    if bench.keep_models:
        classifier.save(store.path(trial_id, "safetensors"))
    ended = time.perf_counter()
    return TrialRecord(
        **known, **_counted(classifier, rows, config), state="finished", history=classifier.history, **evaluations,
        machine=classifier.provenance["machine"],
        seconds={"train": round(trained - begin, 3), "predict": round(ended - trained, 3),
                 "total": round(ended - begin, 3)})


def judged(classifier: Classifier, rows: ImageTable, bench: Bench, trial_id: str) -> dict[str, dict[str, Any]]:
    """Return the evaluations on the val and test rows, as far as there are such; predictions are saved before."""
    found = {}
    for part in ("val", "test"):
        if len(held := rows.where(split=part)):
            predictions = predict(classifier, held, cache=bench.cache)
            predictions.save(bench.store.path(trial_id, f"{part}.parquet"))
            found[part] = evaluate(predictions).as_json()
    return found


def _counted(classifier: Classifier, rows: ImageTable, config: TrialConfig) -> dict[str, Any]:
    """Return what a record says of a trial's rows and network, in numbers."""
    counts = {name: classifier.provenance[name] for name in ("n_real", "n_generated", "n_drawn")}
    parts = {part: rows.where(split=part) for part in ("val", "test")}
    return {
        **counts, "short": _short(rows, config), "n_val": len(parts["val"]), "n_test": len(parts["test"]),
        "train_set": share_name(counts["n_real"], counts["n_generated"]), "val_set": _set_name(parts["val"]),
        "rows": rows.fingerprint, "val_rows": parts["val"].fingerprint if len(parts["val"]) else None,
        "test_rows": _paired_by(parts["test"], config), "test_set": _set_name(parts["test"]),
        "parameters": parameters(classifier.network), "dropout": _dropout(config.train)}


def prepare(table: ImageTable, config: TrialConfig, *, seed: int) -> tuple[ImageTable, ImageTable]:
    """Return (all rows picked and dealt, the rows that the trial uses): classes, generators, split, mix."""
    return prepared(table, config, seed=seed)[:2]


def prepared(table: ImageTable, config: TrialConfig, *, seed: int) -> tuple[ImageTable, ImageTable, Choice | None]:
    """Return what `prepare` does, and which generated rows `mix.choose` left out, where it is set.

    What is looked at to choose is decoded into the user's cache, not the study's: it is the same for every store.
    """
    picked = table.pick(config.classes, config.generators)
    dealt = split(picked, config.split, target=config.target, seed=seed)
    rows, choice = mixed(dealt, config.mix, target=config.target, seed=seed)
    return dealt, rows, choice


def logit_names(dealt: ImageTable, target: str) -> list[str]:
    """Return the classes that every arm's network has an output for: all in the table; of generators, all but held-out ones.

    A generator that stands in the test alone cannot be learnt, so it cannot be named: it is judged as generated, no more.
    """
    rows = dealt.usable
    return (rows.where(split=["train", "val"]) if target == "generator" else rows).names(target)


def rehearse_trial(trial: Trial, table: ImageTable, *, name: str,
                   dealt: tuple[ImageTable, ImageTable] | None = None) -> tuple[ImageTable, ImageTable]:
    """Return what `prepare` gives (or gave: `dealt`), after checking that it and the trial's network will do.

    What speaks against the trial is raised with `name`.
    """
    config = trial.config
    try:
        whole, rows = dealt or prepare(table, config, seed=trial.seed)
        labels = rows.where(split="train").labels(config.target)
        if labels.isna().any():
            raise TableError(f"{int(labels.isna().sum())} training rows have no {config.target}")
        if labels.nunique() < 2:
            raise TableError(f"the training rows hold one {config.target} only ({labels.iloc[0]}): there is nothing to "
                             "tell apart")
        if not len(rows.where(split="test")):
            kind = "real " if config.target == "class" else ""
            raise TableError(f"there is no {kind}test row: scan with a layout that says {{split}}, or deal the rows anew "
                             "with split.keep=false")
        if rows.where(split="test").labels(config.target).isna().all():
            raise TableError(f"no test row has a {config.target}, so nothing could be judged: pick the rows that have one with "
                             "classes = [...], and deal them anew with split.keep=false")
        refuse_seen(rows)
        if config.mix.balance == "smote":
            smote_class()
        rehearse(config.train, len(logit_names(whole, config.target)), n_val=len(rows.where(split="val")))
    except GiltError as error:
        raise type(error)(f"{name}: {error}") from None
    return whole, rows


def _dropout(config: TrainConfig) -> float | None:
    """Return the part that training drops before the last layer, or None where there is no such layer, or it is frozen out."""
    return None if config.frozen else find(config.model).dropout if config.dropout is None else config.dropout


def _paired_by(test: ImageTable, config: TrialConfig) -> str | None:
    """Return the fingerprint of the test rows that a pair shares: the photographs, unless generated rows are tested."""
    rows = test if config.mix.test == "generated" else test.real
    return rows.fingerprint if len(test) else None


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
