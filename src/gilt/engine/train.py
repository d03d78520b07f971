"""Train: pixels and a network to a `Classifier`. Read `train` first; test rows are never read.

Shapes: N rows, D features, C classes.
"""
import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch
from torch import nn

import gilt
from gilt.config import TrainConfig
from gilt.data.pixels import PixelCache, default_cache
from gilt.data.table import ImageTable
from gilt.engine.batches import Batches
from gilt.engine.checkpoint import Checkpoint
from gilt.engine.epochs import Epoch, Epochs, Tick, number_of_steps
from gilt.engine.groups import check_layers
from gilt.engine.learner import Learner, measure
from gilt.engine.material import Material, check_monitor, outputs_of
from gilt.engine.optim import penalised
from gilt.engine.predict import predict
from gilt.errors import MissingExtraError
from gilt.evaluation.calibration import ENOUGH, fit_calibration
from gilt.files import fingerprint
from gilt.models.classifier import Classifier
from gilt.models.device import keep_freed_memory, machine, pick_device, pick_precision, seed_everything, threads
from gilt.models.features import head_of
from gilt.models.weights import load_weights
from gilt.models.zoo import create
from gilt.training import METADATA, detects

log = logging.getLogger(__name__)


class Around(TypedDict, total=False):
    """What may be given to `train` beside the settings: who listens, and where files go."""

    progress: Callable[[Tick], None] | None
    on_epoch: Callable[[Epoch], None] | None
    log_dir: Path | str | None
    checkpoint: Path | str | None


def train(table: ImageTable, config: TrainConfig | None = None, *, seed: int = 0, cache: PixelCache | None = None,
          classes: Sequence[str] | None = None, **around: Unpack[Around]) -> Classifier:
    """Return a classifier trained on the table's train rows; val rows are measured after each epoch.

    `seed` draws the starting weights, the order and the augmentation; on the CPU the same seed gives the same weights.
    `classes` names the logits where the training rows may lack a class that another arm has.
    What `gilt.data.balance` wrote beside the rows (`times`, `loss_weight`, `smote_to`) is honoured.

    Around it: `progress` is called with a `Tick` after each step, `on_epoch` with an `Epoch` after each epoch; what they
    raise ends the training. `log_dir` is where TensorBoard logs go when `config.tensorboard` asks for them. `checkpoint` is
    a file that holds the training's state while it runs: a run of the same settings, seed and rows goes on from it, and on
    the CPU comes to exactly the weights of an undisturbed run; `on_epoch` hears of the epochs it holds once more.

    Raises TableError (no train rows, one class only), ConfigError and ModelError.
    """
    if unknown := set(around) - set(Around.__annotations__):
        raise TypeError(f"train() got unexpected arguments: {', '.join(sorted(unknown))}")
    config = config or TrainConfig()
    material = Material(table.usable, config, classes)
    device = pick_device(config.device)
    precision = torch.float32 if config.frozen else pick_precision(config.precision, device)
    _prepare(device)
    seed_everything(seed)
    network, origin = _network(config, material.outputs, material.preprocessing.size)
    check_layers(network, config)
    network = network.to(device, memory_format=torch.channels_last)
    checkpoint = Checkpoint(around.get("checkpoint"), _key(material, config, origin, seed, machine(device, precision)))
    with threads(1 if config.frozen else None), _heard(config, around) as on_epoch:
        batches = material.batches(network, cache or default_cache(), seed=seed)
        if config.head.kind != "linear":
            history, notes = _fit(network, batches, material, config, seed)
            on_epoch(history[0])
        else:
            epochs = _epochs(network, batches, material, config, seed, precision)
            epochs.run(checkpoint, progress=around.get("progress"), on_epoch=on_epoch)
            history, notes = epochs.history, epochs.notes
    rows = material.rows
    provenance = {
        "gilt": gilt.__version__, "seed": seed, "train": config.model_dump(mode="json"), "table": table.usable.fingerprint,
        "n_real": len(rows["train"].real), "n_generated": len(rows["train"].generated), "n_drawn": len(batches["train"]),
        "n_val": len(rows["val"]), **notes, **origin, "machine": machine(device, precision)}
    trained = Classifier(network.eval(), config.model, material.classes, _told(config.target), material.preprocessing,
                         material.outputs, config.dropout, config.arguments, [asdict(epoch) for epoch in history], provenance)
    return _calibrated(trained, rows["val"], cache or default_cache())


def rehearse(config: TrainConfig, classes: int, *, n_val: int | None = None) -> None:
    """Raise what speaks against training with these settings, before any image is decoded; None: the val rows are not known."""
    pick_device(config.device)
    network, _ = _network(config, outputs_of(config, classes), config.image_size)
    check_layers(network, config)
    if n_val is not None:
        check_monitor(config, n_val)
    if config.frozen and config.weights is None and config.model != METADATA:
        log.warning("train.frozen without train.weights: the features are those of a network that has learnt nothing")
    if config.tensorboard:
        _writer_class()


def _prepare(device: torch.device) -> None:
    if device.type == "cpu":
        keep_freed_memory()
    else:
        torch.set_float32_matmul_precision("high")


def _network(config: TrainConfig, outputs: int, size: int | None) -> tuple[nn.Module, dict[str, str]]:
    """Return the network to start from, drawn at random, then filled from `config.weights`, and their content hash."""
    network = create(config.model, outputs=outputs, input_size=size, dropout=config.dropout,
                     arguments=config.arguments)
    if config.weights is None:
        return network, {}
    return network, {"weights": load_weights(network, config.weights, model=config.model)}


def _epochs(network: nn.Module, batches: dict[str, Batches], material: Material, config: TrainConfig, seed: int,
            precision: torch.dtype) -> Epochs:
    """Return the epochs to come: of the whole network, or of its last layer where the rest is frozen."""
    steps, per_epoch = number_of_steps(config, len(batches["train"]))
    learner = Learner(head_of(network)[1] if config.frozen else network, config, precision=precision, steps=steps,
                      per_epoch=per_epoch, weights_C=material.class_weights(batches["train"].device),
                      l2=penalised(network, config.l2))
    return Epochs(learner, batches, steps=steps, per_epoch=per_epoch, seed=seed, classes=len(material.classes))


def _fit(network: nn.Module, batches: dict[str, Batches], material: Material, config: TrainConfig,
         seed: int) -> tuple[list[Epoch], dict[str, Any]]:
    """Fit the head at one go, in place of epochs; return what it came to as one epoch, and notes for the provenance."""
    from gilt.models.heads import fit_head  # scikit-learn takes a second to load

    start, name, rows = time.perf_counter(), head_of(network)[0], batches["train"]
    weights = material.class_weights(rows.device)
    notes = fit_head(network, config.head, rows.features.cpu().numpy(), rows.labels.cpu().numpy(),
                     class_weights_C=weights, groups_N=rows.groups, seed=seed)
    head = network.to(rows.device).get_submodule(name)
    seconds = time.perf_counter() - start
    found = {split: measure(head, held, config.batch_size, torch.float32) for split, held in batches.items()}
    epoch = Epoch(1, *found["train"], *found.get("val", (None, None)), seconds, len(rows) / seconds)
    return [epoch], {**notes, "train_seconds": round(seconds, 3)}


def _told(target: str) -> str:
    """Return the trained classifier's target: both detectors tell the origin, one in two words and one by name.

    Its classes say which of the two it is, so all that judges, predicts and explains takes them alike.
    """
    return "origin" if detects(target) else target


def _calibrated(trained: Classifier, val: ImageTable, cache: PixelCache) -> Classifier:
    """Give a detector its temperature and threshold, or say in its provenance why it has none."""
    if trained.target == "origin":
        # val only: a threshold fitted on test would leak
        trained.calibration = fit_calibration(predict(trained, val, cache=cache)) if len(val) else None
        if trained.calibration is None:
            trained.provenance["no_threshold"] = (f"{len(val.real)} real and {len(val.generated)} generated validation images: "
                                                  f"{ENOUGH} of each are needed")
    return trained


def _key(material: Material, config: TrainConfig, origin: dict[str, str], seed: int, computer: dict[str, Any]) -> str:
    """Return a hash of all that the weights of a training depend on: whose checkpoint it is."""
    said = config.model_dump(mode="json", exclude={"recipe", "tensorboard", "device", "precision"})
    return fingerprint({
        "config": said, **origin, "seed": seed, "rows": {name: rows.fingerprint for name, rows in material.rows.items()},
        "classes": list(material.classes), "gilt": gilt.__version__,
        "computer": [computer[name] for name in ("device", "precision")]})


@contextlib.contextmanager
def _heard(config: TrainConfig, around: Around) -> Iterator[Callable[[Epoch], None]]:
    """Yield what each epoch is told to: TensorBoard's logs, and the caller."""
    writer = _writer_class()(str(around.get("log_dir") or "tensorboard")) if config.tensorboard else None
    listener = around.get("on_epoch")

    def on_epoch(epoch: Epoch) -> None:
        for name, value in asdict(epoch).items() if writer else ():
            if name != "epoch" and value is not None:
                writer.add_scalar(name, value, epoch.epoch)
        if listener:
            listener(epoch)

    try:
        yield on_epoch
    finally:
        if writer:
            writer.close()


def _writer_class() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtraError("tensorboard", "tensorboard") from None
    return SummaryWriter
