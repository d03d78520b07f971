"""Train: pixels and a network to a `Classifier`. Test rows are never read here.

Shapes: B batch, C classes, H W pixels.
"""
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import gilt
from gilt.config import Preprocessing, TrainConfig
from gilt.data.balance import times
from gilt.data.pixels import PixelCache, default_cache
from gilt.data.table import ImageTable
from gilt.engine.augment import augment
from gilt.engine.batches import Batches
from gilt.engine.frozen import FeatureBatches, FrozenFeatures, check_smote, smoted
from gilt.engine.optim import add_l2, loss_of, make_optimizer, penalised
from gilt.errors import ConfigError, MissingExtraError, ModelError, TableError, listed
from gilt.files import sha256
from gilt.models.classifier import Classifier
from gilt.models.device import keep_freed_memory, machine, pick_device, pick_precision, seed_everything, threads
from gilt.models.features import head_of, load_weights
from gilt.models.zoo import create, find

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tick:
    """Where a training run stands: the callback's argument. `loss` is the running mean; `left` in seconds."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    val_accuracy: float | None
    images_per_second: float
    left: float


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to: losses in nats, accuracies in [0, 1]; val is None where there are no val rows."""

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    seconds: float
    images_per_second: float


def train(table: ImageTable, config: TrainConfig | None = None, *, seed: int = 0, cache: PixelCache | None = None,
          progress: Callable[[Tick], None] | None = None, log_dir: Path | str | None = None,
          classes: Sequence[str] | None = None) -> Classifier:
    """Return a classifier trained on the table's train rows; val rows are measured after each epoch.

    `seed` draws the starting weights, the order and the augmentation; on the CPU the same seed gives the same weights.
    `log_dir` is where TensorBoard logs go when `config.tensorboard` asks for them.
    `classes` names the logits where the training rows may lack a class that another arm has.
    What `gilt.data.balance` wrote beside the rows (`times`, `loss_weight`, `smote_to`) is honoured.
    Raises TableError (no train rows, one class only), ConfigError and ModelError.
    """
    config = config or TrainConfig()
    run = _Run(table.usable, config, seed, cache or default_cache(), classes)
    writer = _writer(config, log_dir)
    start = time.perf_counter()
    try:
        with threads(1 if config.frozen else None):
            for number in range(1, run.epochs + 1):
                epoch = run.one_epoch(number, start, progress)
                run.history.append(epoch)
                if writer:
                    for name, value in asdict(epoch).items():
                        if name != "epoch" and value is not None:
                            writer.add_scalar(name, value, number)
    finally:
        if writer:
            writer.close()
    return run.classifier(time.perf_counter() - start)


def rehearse(config: TrainConfig, classes: int) -> None:
    """Raise what speaks against training with these settings, before any image is decoded."""
    pick_device(config.device)
    network = _network(config, _outputs(config, classes))
    penalised(network, config.l2)
    if config.frozen and config.weights is None:
        log.warning("train.frozen without train.weights: the features are those of a network that has learnt nothing")
    if config.tensorboard:
        _writer_class()


class _Run:
    """The state of one training run."""

    def __init__(self, table: ImageTable, config: TrainConfig, seed: int, cache: PixelCache,
                 classes: Sequence[str] | None) -> None:
        self.table, self.config, self.seed = table, config, seed
        self.device = pick_device(config.device)
        self.precision = torch.float32 if config.frozen else pick_precision(config.precision, self.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        else:
            torch.set_float32_matmul_precision("high")
        self.rows = {name: table.where(split=name) for name in ("train", "val")}
        check_smote(self.rows["train"], config.frozen)
        self.classes = _classes(self.rows["train"], self.rows["val"], config.target, classes)
        self.outputs = _outputs(config, len(self.classes))
        self.preprocessing = Preprocessing(size=config.image_size or find(config.model).input_size)
        seed_everything(seed)
        self.network = _network(config, self.outputs).to(self.device, memory_format=torch.channels_last)
        self.learner = head_of(self.network)[1] if config.frozen else self.network  # what is trained
        self.optimizer = make_optimizer(self.learner, config)
        self.l2 = penalised(self.network, config.l2)
        make = self._features if config.frozen else self._batches
        self.batches = {name: make(rows, cache) for name, rows in self.rows.items() if len(rows)}
        self.weights = self._class_weights()
        self.generator = torch.Generator().manual_seed(seed)
        per_epoch = math.ceil(len(self.batches["train"]) / config.batch_size)
        self.steps = config.steps or config.epochs * per_epoch
        self.epochs = math.ceil(self.steps / per_epoch)
        self.step = 0
        self.history: list[Epoch] = []

    def _labels(self, rows: ImageTable) -> np.ndarray:
        place = {name: i for i, name in enumerate(self.classes)}
        return rows.labels(self.config.target).map(place).to_numpy(np.int64)

    def _batches(self, rows: ImageTable, cache: PixelCache) -> Batches:
        pack, places = cache.pixels(rows.paths, list(rows.frame["sha256"]), self.preprocessing)
        drawn = times(rows).to_numpy() if rows is self.rows["train"] else None
        return Batches(pack, places, self._labels(rows), self.device, drawn)

    def _features(self, rows: ImageTable, cache: PixelCache) -> Batches:
        """Return the rows as features of the frozen body; training rows with the points that SMOTE adds."""
        features = FrozenFeatures(self.network, self.config.model, self.preprocessing, cache).of(rows)
        labels, drawn = self._labels(rows), None
        if rows is self.rows["train"]:
            drawn = times(rows).to_numpy()
            features, labels = smoted(np.repeat(features, drawn, 0), np.repeat(labels, drawn), rows, self.seed)
        return FeatureBatches(features, labels, self.device)

    def _class_weights(self) -> torch.Tensor | None:
        """Return float32 (C,) to weigh each class's loss with, from the column `loss_weight`; None without it."""
        rows = self.rows["train"]
        if "loss_weight" not in rows.frame:
            return None
        weights = rows.frame["loss_weight"].astype(float).groupby(self._labels(rows)).mean()
        return torch.tensor(weights.reindex(range(len(self.classes))).fillna(1).to_numpy(np.float32), device=self.device)

    def one_epoch(self, number: int, start: float, progress: Callable[[Tick], None] | None) -> Epoch:
        """Train on every training row once (or until the fixed steps are done), then measure the val rows."""
        began, seen = time.perf_counter(), 0
        loss_sum = correct = torch.zeros((), device=self.device)
        self.learner.train()
        for images_BCHW, labels_B in self.batches["train"].epoch(self.config.batch_size, shuffle=self.generator):
            loss, hits = self._step(augment(images_BCHW, self.config.augment, self.generator), labels_B)
            loss_sum, correct, seen = loss_sum + loss * len(labels_B), correct + hits, seen + len(labels_B)
            self.step += 1
            if progress:
                progress(self._tick(number, start, began, seen, loss_sum))
            if self.step == self.steps:
                break
        mean_loss = loss_sum.item() / seen
        if not math.isfinite(mean_loss):
            raise ModelError(f"the training loss became {mean_loss} in epoch {number}: lower train.learning_rate "
                             f"({self.config.learning_rate:g}), or set train.precision='float32'")
        seconds = time.perf_counter() - began
        val_loss, val_accuracy = self._measure("val") if "val" in self.batches else (None, None)
        return Epoch(number, mean_loss, correct.item() / seen, val_loss, val_accuracy, seconds, seen / seconds)

    def _step(self, images_BCHW: torch.Tensor, labels_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            out = self.learner(images_BCHW)
        loss = loss_of(out, labels_B, self.weights)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        add_l2(self.l2)
        self.optimizer.step()
        return loss.detach(), _hits(out.detach(), labels_B)

    @torch.inference_mode()
    def _measure(self, split: str) -> tuple[float, float]:
        """Return (mean loss in nats, accuracy) over a split's rows, whatever the classes' weights in training."""
        self.learner.eval()
        loss_sum, correct, batches = 0.0, 0.0, self.batches[split]
        for images_BCHW, labels_B in batches.epoch(self.config.batch_size):
            with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
                out = self.learner(images_BCHW)
            loss_sum += loss_of(out, labels_B).item() * len(labels_B)
            correct += _hits(out, labels_B).item()
        return loss_sum / len(batches), correct / len(batches)

    def _tick(self, epoch: int, start: float, began: float, seen: int, loss_sum: torch.Tensor) -> Tick:
        now = time.perf_counter()
        loss = loss_sum.item() / seen if self.device.type == "cpu" or self.step % 20 == 0 else float("nan")
        val = self.history[-1].val_accuracy if self.history else None
        return Tick(epoch, self.epochs, self.step, self.steps, loss, val, seen / (now - began),
                    (now - start) / self.step * (self.steps - self.step))

    def classifier(self, seconds: float) -> Classifier:
        """Return the trained network with its history and provenance."""
        train_rows = self.rows["train"]
        provenance: dict[str, Any] = {
            "gilt": gilt.__version__, "seed": self.seed, "train": self.config.model_dump(mode="json"),
            "table": self.table.fingerprint, "n_real": len(train_rows.real), "n_generated": len(train_rows.generated),
            "n_drawn": len(self.batches["train"]), "n_val": len(self.rows["val"]), "train_seconds": round(seconds, 3),
            "machine": machine(self.device, self.precision)}
        if self.config.weights is not None:
            provenance["weights"] = sha256(Path(self.config.weights).read_bytes())
        return Classifier(self.network.eval(), self.config.model, self.classes, self.config.target, self.preprocessing,
                          self.outputs, self.config.dropout, [asdict(epoch) for epoch in self.history], provenance)


def _network(config: TrainConfig, outputs: int) -> nn.Module:
    """Return the network to start from: drawn at random, then filled from `config.weights`."""
    network = create(config.model, outputs=outputs, input_size=config.image_size, dropout=config.dropout)
    if config.weights is not None:
        load_weights(network, config.weights, model=config.model)
    return network


def _hits(out: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
    guess_B = (out[:, 0] > 0).long() if out.shape[1] == 1 else out.argmax(1)
    return (guess_B == labels_B).sum().float()


def _classes(train_rows: ImageTable, val_rows: ImageTable, target: str,
             classes: Sequence[str] | None) -> tuple[str, ...]:
    """Return the logits' names: `classes`, or the rows' own, sorted (real before generated, so 1 is generated)."""
    if not len(train_rows):
        raise TableError("the table has no train rows: split it first (gilt split), or scan with a layout that says {split}")
    labels = train_rows.labels(target)
    if labels.isna().any():
        raise TableError(f"{int(labels.isna().sum())} training rows have no {target}, such as "
                         f"{train_rows.frame['path'][labels.isna()].iloc[0]}: scan with a layout that says {{{target}}}")
    if labels.nunique() < 2:
        raise TableError(f"the training rows hold one {target} only ({labels.iloc[0]}): there is nothing to tell apart")
    everything = {*train_rows.names(target), *val_rows.names(target)}  # a rare class may have come to val alone
    names = list(classes or sorted(everything, reverse=target == "origin"))
    strange = sorted(everything - set(names))
    if strange:
        raise TableError(f"{target} {listed(strange)} is not among the classes given")
    return tuple(names)


def _outputs(config: TrainConfig, classes: int) -> int:
    if config.loss == "binary" and classes > 2:
        raise ConfigError(f"train.loss='binary' is for two classes; there are {classes}: use 'cross_entropy' or 'auto'")
    return 1 if classes == 2 and config.loss != "cross_entropy" else classes


def _writer(config: TrainConfig, log_dir: Path | str | None) -> Any:
    if not config.tensorboard:
        return None
    return _writer_class()(str(log_dir or "tensorboard"))


def _writer_class() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtraError("tensorboard", "tensorboard") from None
    return SummaryWriter
