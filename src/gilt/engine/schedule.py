"""How the learning rate goes: constant, cosine, one cycle, or down where val no longer gets better; each with a warm-up."""
import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from gilt.config import TrainConfig
from gilt.errors import ConfigError

SWING = 0.05  # one cycle moves the momentum by so much: torch's 0.85 to 0.95 for the usual 0.9


class Schedule:
    """Sets an optimiser's learning rates after each step and each epoch, by torch's schedulers.

    `steps` are those of the whole training, `per_epoch` those of one epoch: a warm-up of 0.5 epochs is half of these.
    Raises ConfigError where the warm-up takes the whole training.
    """

    def __init__(self, optimizer: Optimizer, config: TrainConfig, *, steps: int, per_epoch: int) -> None:
        self.optimizer, self.steps = optimizer, steps
        self.warm = round(config.warmup * per_epoch)
        if self.warm >= steps:
            raise ConfigError(f"train.warmup={config.warmup:g} epochs are {self.warm} steps, and the whole training has "
                              f"{steps}: give less")
        self.by_step: LRScheduler | None = None
        self.plateau: ReduceLROnPlateau | None = None
        if config.schedule == "one_cycle":
            self.by_step = _one_cycle(optimizer, config, steps)
        elif config.schedule == "cosine" or self.warm:
            self.by_step = LambdaLR(optimizer, lambda step: self._factor(step, config.schedule == "cosine"))
        if config.schedule == "plateau":
            # Keras counts the epochs up to the one that lowers the rate, torch those before it
            self.plateau = ReduceLROnPlateau(optimizer, "min" if config.monitor == "val_loss" else "max",
                                             factor=config.plateau_factor, patience=config.plateau_patience - 1,
                                             threshold_mode="abs")

    @property
    def rate(self) -> float:
        """The learning rate that the next step takes, of weights with factor 1."""
        group = self.optimizer.param_groups[0]
        return group["lr"] / group["factor"]

    def after_step(self, step: int) -> None:
        """Set the rate for the step that follows number `step` (counted from 1)."""
        over = self.plateau is not None and step > self.warm  # from then on the plateau has the rate
        if self.by_step is not None and step < self.steps and not over:
            self.by_step.step()

    def after_epoch(self, step: int, value: float | None) -> None:
        """Tell the plateau what the monitored figure came to."""
        if self.plateau is not None and value is not None and step >= self.warm:
            self.plateau.step(value)

    def _factor(self, step: int, cosine: bool) -> float:
        if step < self.warm:
            return (step + 1) / self.warm
        return (1 + math.cos(math.pi * (step - self.warm) / (self.steps - self.warm))) / 2 if cosine else 1.0

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"by_step": self.by_step and self.by_step.state_dict(), "plateau": self.plateau and self.plateau.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`; the rates themselves are the optimiser's."""
        for name in ("by_step", "plateau"):
            if state[name] is not None:
                getattr(self, name).load_state_dict(state[name])


def _one_cycle(optimizer: Optimizer, config: TrainConfig, steps: int) -> OneCycleLR:
    """Return Smith's one cycle (arXiv:1708.07120) as torch has it; its peak is `learning_rate`, at 30 % of the steps."""
    peaks = [group["lr"] for group in optimizer.param_groups]
    if config.optimizer != "sgd":
        return OneCycleLR(optimizer, peaks, total_steps=steps)
    high, low = min(config.momentum + SWING, 0.99), max(config.momentum - SWING, 0)
    return OneCycleLR(optimizer, peaks, total_steps=steps, cycle_momentum=config.momentum > 0, base_momentum=low,
                      max_momentum=high)
