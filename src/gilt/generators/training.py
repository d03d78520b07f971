"""Train a generator on the training rows of a table. Read `train_generator` first.

Shapes: B batch, C classes, S pixels of the side, K channels.
"""
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import gilt
from gilt.data.pixels import PixelCache, default_cache
from gilt.data.table import ImageTable
from gilt.engine.checkpoint import Checkpoint
from gilt.errors import ModelError
from gilt.files import fingerprint
from gilt.generators.adversary import Adversary
from gilt.generators.config import GeneratorConfig
from gilt.generators.diffusion import Diffusion
from gilt.generators.draws import Draws
from gilt.generators.generator import Generator
from gilt.generators.material import Material
from gilt.models.device import keep_freed_memory, machine, pick_device, pick_precision, seed_everything

log = logging.getLogger(__name__)
SHOWN, EACH = 12, 16  # classes looked at, images of each
COLLAPSED = 0.5  # of the photographs' spread: less is said
SETTLED = 0.3  # of the steps, before which a small spread says nothing yet
KINDS = {"diffusion": Diffusion, "gan": Adversary}


@dataclass(frozen=True)
class Step:
    """Where a generator's training stands: `progress` gets it. `loss` is the mean since the last look; `left` is seconds."""

    step: int
    steps: int
    loss: float
    images_per_second: float
    left: float


@dataclass(frozen=True)
class Look:
    """A look at a generator in training: `pixels` uint8 (C, n, S, S, K), of the same noise each time, and `real` beside them.

    `facts` has the step, the mean losses since the look before, the learning rate, seconds so far, and `diversity`: the mean
    distance of two made images of a class over that of two training images (coarse colours of 8 x 8 fields); far below 1, the
    generator makes the same image again and again.
    """

    facts: dict[str, float]
    classes: tuple[str, ...]
    pixels: np.ndarray
    real: np.ndarray


def train_generator(table: ImageTable, config: GeneratorConfig | None = None, *, seed: int = 0, cache: PixelCache | None = None,
                    checkpoint: Path | str | None = None, progress: Callable[[Step], None] | None = None,
                    on_look: Callable[[Look], None] | None = None) -> Generator:
    """Return a generator trained on the table's training rows: photographs, unless `config.learn` says otherwise.

    `seed` draws the starting weights and every batch, and deals rows that have no split. `checkpoint` is a file that holds the
    training's state while it runs: a run of the same settings, seed and rows goes on from it, and on the CPU comes to exactly
    the weights of an undisturbed run; `on_look` hears of the looks that it holds once more.
    Raises TableError (no training rows), ConfigError, ModelError (the loss is no number), MissingExtraError.
    """
    config = config or GeneratorConfig()
    device = pick_device(config.device)
    material = Material(table, config, seed=seed, cache=cache or default_cache())
    config, precision = material.config, pick_precision(config.precision, device)
    if device.type == "cpu":
        keep_freed_memory()
    else:
        torch.set_float32_matmul_precision("high")
    seed_everything(seed)
    learner = KINDS[config.kind](config, classes=len(material.classes), channels=material.channels, device=device,
                                 precision=precision)
    computer = machine(device, precision)
    rows = material.rows.fingerprint
    key = fingerprint({"config": config.model_dump(mode="json"), "seed": seed, "rows": rows, "gilt": gilt.__version__,
                       "computer": [computer[name] for name in ("device", "precision")]})
    lessons = Lessons(learner, material.on(device), seed=seed)
    lessons.run(Checkpoint(checkpoint, key), progress=progress, on_look=on_look)
    counts = {str(name): int(count) for name, count in material.rows.counts("class").items()}
    provenance = {"gilt": gilt.__version__, "seed": seed, "table": table.usable.fingerprint, "rows": rows,
                  "n": len(material.rows), "train_seconds": round(lessons.seconds, 3), "machine": computer}
    return Generator(learner.average.network.eval(), config, material.classes, material.mode, counts, tuple(material.seen),
                     lessons.history, provenance)


class Lessons:
    """The steps of a training, one after the other, from the checkpoint where there is one."""

    def __init__(self, learner: Diffusion | Adversary, material: Material, *, seed: int) -> None:
        self.learner, self.material, self.config, self.seed = learner, material, material.config, seed
        self.steps, self.step, self.seconds = self.config.steps, 0, 0.0
        self.sums: dict[str, torch.Tensor] = {}
        self.since = 0  # the step of the last look
        self.history: list[dict[str, Any]] = []
        self.looks: list[torch.Tensor] = []
        self.shown = range(min(SHOWN, len(material.classes)))
        self.real = [material.examples(label, 4 * EACH) for label in self.shown]
        self.peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in learner.optimizers]
        self.warned = False

    def run(self, checkpoint: Checkpoint, *, progress: Callable[[Step], None] | None,
            on_look: Callable[[Look], None] | None) -> None:
        """Train to the end."""
        self._restore(checkpoint)
        for facts, pixels in zip(self.history, self.looks, strict=True):
            if on_look:
                on_look(self._look(facts, pixels.numpy()))
        start, first, before = time.perf_counter(), self.step, self.seconds
        marks = {round(self.steps * (i + 1) / self.config.looks) for i in range(self.config.looks)}
        while self.step < self.steps:
            self._one_step()
            self.seconds = before + time.perf_counter() - start
            if progress and self._told():
                each = (time.perf_counter() - start) / (self.step - first)
                progress(Step(self.step, self.steps, self._means()["loss"], self.config.batch_size / each,
                              each * (self.steps - self.step)))
            if self.step in marks:
                look = self._looked()
                if on_look:
                    on_look(look)
            if self.step < self.steps:
                checkpoint.write(self._state)
        checkpoint.remove()

    def _one_step(self) -> None:
        draws = Draws(self.seed, self.step, self.learner.device)
        for optimizer, peaks in zip(self.learner.optimizers, self.peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * self._factor(self.step)
        losses = self.learner.step(*self.material.batch(draws), draws, self.step)
        self.sums = {name: self.sums.get(name, 0) + loss for name, loss in losses.items()}
        self.step += 1
        if self._told() or self.step == self.steps:
            for name, mean in self._means().items():
                if not math.isfinite(mean):
                    raise ModelError(f"the {name} became {mean} in step {self.step}: lower rate ({self.config.rate:g}), or set "
                                     "precision='float32'")

    def _told(self) -> bool:
        """Whether this step's loss is fetched: on the CPU always, from a GPU rarely, for that waits."""
        return self.learner.device.type == "cpu" or self.step % 20 == 0

    def _factor(self, step: int) -> float:
        """Return the part of the highest learning rate that a step takes."""
        warm = self.config.warmup
        if step < warm:
            return (step + 1) / warm
        cosine = self.config.schedule == "cosine"
        return (1 + math.cos(math.pi * (step - warm) / (self.steps - warm))) / 2 if cosine else 1.0

    def _means(self) -> dict[str, float]:
        return {name: float(value) / max(1, self.step - self.since) for name, value in self.sums.items()}

    def _looked(self) -> Look:
        """Make images, measure their spread, note both."""
        material = self.material
        generator = Generator(self.learner.average.network.eval(), self.config, material.classes, material.mode, {}, ())
        wanted = [(material.classes[label], number) for label in self.shown for number in range(EACH)]
        pixels = generator.images(wanted, seed=self.seed).reshape(len(self.shown), EACH, *self.real[0].shape[1:])
        facts = {"step": self.step, **self._means(), "diversity": diversity(pixels, self.real),
                 "rate": self.config.rate * self._factor(self.step - 1), "seconds": round(self.seconds, 1)}
        facts = {name: round(value, 6) for name, value in facts.items()}
        self.history.append(facts)
        self.looks.append(torch.from_numpy(pixels[:, :EACH // 2].copy()))
        self.sums, self.since = {}, self.step
        if facts["diversity"] < COLLAPSED and self.step >= SETTLED * self.steps and not self.warned:
            self.warned = True
            log.warning("step %d: the made images of a class differ %.2f times as much as its training images: the generator "
                        "may have collapsed to few images. Look at the report; train longer, or with kind='diffusion'",
                        self.step, facts["diversity"])
        return self._look(facts, self.looks[-1].numpy())

    def _look(self, facts: dict[str, float], pixels: np.ndarray) -> Look:
        names = tuple(self.material.classes[label] for label in self.shown)
        count = min(pixels.shape[1], min(map(len, self.real)))
        return Look(facts, names, pixels, np.stack([images[:count] for images in self.real]))

    def _state(self) -> dict[str, Any]:
        return {"learner": self.learner.state(), "step": self.step, "seconds": self.seconds, "since": self.since,
                "sums": self.sums, "history": self.history, "looks": self.looks, "warned": self.warned}

    def _restore(self, checkpoint: Checkpoint) -> None:
        state = checkpoint.read()
        if state is None:
            return
        self.learner.restore(state["learner"])
        for name in ("step", "seconds", "since", "history", "looks", "warned"):
            setattr(self, name, state[name])
        self.sums = {name: value.to(self.learner.device) for name, value in state["sums"].items()}
        log.info("going on after step %d of %d, from %s", self.step, self.steps, checkpoint.path)


def diversity(made: np.ndarray, real: list[np.ndarray]) -> float:
    """Return how far two made images of a class lie apart, over how far two real ones do: the mean over the classes.

    `made` is uint8 (C, n, S, S, K), `real` one array (m, S, S, K) a class. Images are reduced to 8 x 8 fields first: noise
    is no variety. Classes whose real images are all alike are left out; 1.0 where none is left.
    """
    ratios = [_apart(ours) / far for ours, theirs in zip(made, real, strict=True) if (far := _apart(theirs)) > 0]
    return float(np.mean(ratios)) if ratios else 1.0


def _apart(images: np.ndarray) -> float:
    """Return the mean distance of two images."""
    if len(images) < 2:
        return 0.0
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    return float(torch.pdist(torch.nn.functional.adaptive_avg_pool2d(x, 8).flatten(1)).mean())
