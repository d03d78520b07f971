"""The epochs of a training, one after the other: read `Epochs.run` first. Test rows are never read here."""
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from gilt.config import TrainConfig
from gilt.engine.augment import augment
from gilt.engine.batches import Batches
from gilt.engine.best import Best
from gilt.engine.blend import blend
from gilt.engine.checkpoint import Checkpoint
from gilt.engine.learner import Learner, measure
from gilt.errors import ModelError, counted

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
    """What one epoch came to: losses in nats, accuracies in [0, 1]; val is None where there are no val rows.

    `learning_rate` is that of its last step; None for a head that is fitted at one go.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    seconds: float
    images_per_second: float
    learning_rate: float | None = None


class Epochs:
    """A learner taken over its batches, epoch by epoch, until the steps are done or val no longer gets better.

    `seed` draws the order of the rows and the augmentation; `classes` is how many a soft target tells apart. `stopped` says
    why a training ended. `watched` is the best epoch by `config.monitor`, `kept` the best by what `config.keep` names.
    """

    def __init__(self, learner: Learner, batches: dict[str, Batches], *, steps: int, per_epoch: int, seed: int,
                 classes: int) -> None:
        self.learner, self.config, self.batches = learner, learner.config, batches
        self.steps, self.planned, self.classes = steps, math.ceil(steps / per_epoch), classes
        self.generator = torch.Generator().manual_seed(seed)
        self.history: list[Epoch] = []
        self.watched = Best(self.config.monitor)
        self.kept = Best(self.config.monitor if self.config.keep in ("last", "best") else self.config.keep)
        self.step, self.stopped, self.seconds = 0, "", 0.0
        self.tick: Tick | None = None

    def run(self, checkpoint: Checkpoint, *, progress: Callable[[Tick], None] | None,
            on_epoch: Callable[[Epoch], None]) -> None:
        """Train to the end, from the checkpoint where there is one; `on_epoch` hears of the epochs it holds once more.

        Then the learner's network holds the weights that `config.keep` asks for.
        """
        self._restore(checkpoint)
        for epoch in self.history:
            on_epoch(epoch)
        start, first, before = time.perf_counter(), self.step, self.seconds
        while not self.stopped:
            epoch = self._one_epoch(len(self.history) + 1, start, first, progress)
            self.history.append(epoch)
            self._judge(epoch)
            self.seconds = before + time.perf_counter() - start
            on_epoch(epoch)
            if not self.stopped:
                checkpoint.write(self._state)
        if progress and self.tick and self.step < self.steps:  # tells whoever draws it that this was the end
            progress(Tick(**{**asdict(self.tick), "step": self.steps, "left": 0.0}))
        self.learner.finish(self.kept.weights)
        checkpoint.remove()

    @property
    def notes(self) -> dict[str, Any]:
        """What a classifier's provenance says of its training: why it ended, whose weights were kept, seconds."""
        kept = len(self.history) if self.kept.weights is None else self.kept.epoch
        return {"stopped": self.stopped, "kept_epoch": kept, "train_seconds": round(self.seconds, 3)}

    def _one_epoch(self, number: int, start: float, first: int, progress: Callable[[Tick], None] | None) -> Epoch:
        """Train on every training row once (or until the fixed steps are done), then measure the val rows."""
        began, seen, learner = time.perf_counter(), 0, self.learner
        loss_sum = right = torch.zeros((), device=learner.device)
        learner.ready()
        for images_BCHW, labels_B in self.batches["train"].epoch(self.config.batch_size, shuffle=self.generator):
            rate, self.step = learner.schedule.rate, self.step + 1
            loss, hits = learner.step(*self._augmented(images_BCHW, labels_B), self.step)
            loss_sum, right, seen = loss_sum + loss * len(labels_B), right + hits, seen + len(labels_B)
            if progress:
                self.tick = self._tick(number, began, seen, loss_sum, (time.perf_counter() - start) / (self.step - first))
                progress(self.tick)
            if self.step == self.steps:
                break
        mean_loss = loss_sum.item() / seen
        if not math.isfinite(mean_loss):
            raise ModelError(f"the training loss became {mean_loss} in epoch {number}: lower train.learning_rate "
                             f"({self.config.learning_rate:g}), set train.gradient_clip, or train.precision='float32'")
        seconds = time.perf_counter() - began
        val_loss, val_accuracy = self._measured()
        return Epoch(number, mean_loss, right.item() / seen, val_loss, val_accuracy, seconds, seen / seconds, rate)

    def _measured(self) -> tuple[float, float] | tuple[None, None]:
        if "val" not in self.batches:
            return None, None
        return measure(self.learner.judged, self.batches["val"], self.config.batch_size, self.learner.precision)

    def _augmented(self, images_BCHW: torch.Tensor, labels_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.config.augment:
            return images_BCHW, labels_B
        images_BCHW = augment(images_BCHW, self.config.augment, self.generator)
        return blend(images_BCHW, labels_B, self.config.augment, self.generator, self.classes)

    def _judge(self, epoch: Epoch) -> None:
        """Note the best epoch, lower the rate on a plateau, and tell whether this was the last."""
        config, value = self.config, getattr(epoch, self.config.monitor)
        if value is not None:
            self.watched.see(epoch.epoch, value)
            if config.keep != "last" and self.kept.see(epoch.epoch, getattr(epoch, self.kept.monitor)):
                self.kept.weights = self.learner.snapshot()
        self.learner.schedule.after_epoch(self.step, value)
        waited = epoch.epoch - self.watched.epoch
        if self.step >= self.steps:
            self.stopped = f"all {counted(self.steps, 'step')} done"
        elif config.early_stopping is not None and waited >= config.early_stopping:
            self.stopped = f"no better {config.monitor} in {counted(waited, 'epoch')}"

    def _tick(self, epoch: int, began: float, seen: int, loss_sum: torch.Tensor, per_step: float) -> Tick:
        loss = loss_sum.item() / seen if self.learner.device.type == "cpu" or self.step % 20 == 0 else float("nan")
        val = self.history[-1].val_accuracy if self.history else None
        return Tick(epoch, self.planned, self.step, self.steps, loss, val,
                    seen / (time.perf_counter() - began), per_step * (self.steps - self.step))

    def _state(self) -> dict[str, Any]:
        return {"learner": self.learner.state(), "watched": vars(self.watched), "kept": vars(self.kept), "step": self.step,
                "seconds": self.seconds, "history": [asdict(epoch) for epoch in self.history],
                "generator": self.generator.get_state(), "torch": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state_all() if self.learner.device.type == "cuda" else []}

    def _restore(self, checkpoint: Checkpoint) -> None:
        state = checkpoint.read()
        if state is None:
            return
        self.learner.restore(state["learner"])
        self.watched, self.kept = Best(**state["watched"]), Best(**state["kept"])
        if self.kept.weights is not None:
            self.kept.weights = {name: value.to(self.learner.device) for name, value in self.kept.weights.items()}
        self.step, self.seconds = state["step"], state["seconds"]
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch"])
        if self.learner.device.type == "cuda":
            torch.cuda.set_rng_state_all(state["cuda"])
        log.info("going on after epoch %d of %d, from %s", len(self.history), self.planned, checkpoint.path)


def number_of_steps(config: TrainConfig, rows: int) -> tuple[int, int]:
    """Return (steps of the whole training, steps of one epoch) for so many training rows."""
    per_epoch = math.ceil(rows / config.batch_size)
    return config.steps or config.epochs * per_epoch, per_epoch
