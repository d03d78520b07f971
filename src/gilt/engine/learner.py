"""A network that learns: batches to a loss, a loss to a step, and what it has come to, measured.

Shapes: B batch, C classes, H W pixels.
"""
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from gilt.config import TrainConfig
from gilt.engine.average import Average
from gilt.engine.batches import Batches
from gilt.engine.best import State
from gilt.engine.groups import freeze, learning_groups
from gilt.engine.optim import add_l2, hits, loss_of, make_optimizer
from gilt.engine.schedule import Schedule
from gilt.errors import ModelError


class Learner:
    """A network with its optimiser, schedule and running mean. `steps` and `per_epoch` are those of the schedule, `l2` the
    penalties on weights (`optim.penalised`).

    `network` may be a part of a larger one: the last layer, where the rest is frozen. No step waits for the device, so a GPU
    is never idle between two.
    """

    def __init__(self, network: nn.Module, config: TrainConfig, *, precision: torch.dtype, steps: int, per_epoch: int,
                 weights_C: torch.Tensor | None = None, l2: Sequence[tuple[nn.Parameter, float]] = ()) -> None:
        self.network, self.config, self.precision, self.weights_C = network, config, precision, weights_C
        self.device = next(network.parameters()).device
        self.still, self.norms = freeze(network, config.freeze) if config.freeze else ([], [])
        self.optimizer = make_optimizer(learning_groups(network, config), config)
        self.schedule = Schedule(self.optimizer, config, steps=steps, per_epoch=per_epoch)
        self.weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        self.l2 = l2
        self.average = Average(network, config.ema) if config.ema is not None else None
        self.penalties: list[nn.Module] | None = None

    @property
    def judged(self) -> nn.Module:
        """The network that is measured and kept: the running mean, where there is one."""
        return self.average.network if self.average else self.network

    def ready(self) -> None:
        """Make the network ready to learn; what is frozen stays as in prediction."""
        self.network.train()
        for norm in self.norms:
            norm.eval()

    def step(self, images_BCHW: torch.Tensor, targets: torch.Tensor, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Take step `number`; return the loss in nats, without penalties, and how many rows were right before it."""
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            out = self._out(images_BCHW)
        loss = loss_of(out, targets, self.weights_C, smoothing=self.config.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        self._with_penalties(loss).backward()
        add_l2(self.l2)
        if self.config.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.weights, self.config.gradient_clip)
        self.optimizer.step()
        self.schedule.after_step(number)
        if self.average:
            self.average.update()
        return loss.detach(), hits(out.detach(), targets)

    def _out(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        try:
            return self.network(images_BCHW)
        except ValueError as error:
            if len(images_BCHW) > 1:
                raise
            raise ModelError(f"a step of one image, and this network's batch norm needs two at this size ({error}): choose a "
                             f"train.batch_size other than {self.config.batch_size}, or a larger train.image_size") from None

    def _with_penalties(self, loss: torch.Tensor) -> torch.Tensor:
        if self.penalties is None:  # a forward pass sets them: activity that costs something
            self.penalties = [layer for layer in self.network.modules()
                              if isinstance(getattr(layer, "penalty", None), torch.Tensor)]
        for layer in self.penalties:
            loss = loss + layer.penalty
        return loss

    def snapshot(self) -> State:
        """Return a copy of the weights that are kept."""
        return {name: value.detach().clone() for name, value in self.judged.state_dict().items()}

    def finish(self, weights: State | None) -> None:
        """Fill the network with `weights`, or with its running mean; let all its layers learn again."""
        if weights is not None or self.average:
            self.network.load_state_dict(weights or self.judged.state_dict())
        for weight in self.still:
            weight.requires_grad_(True)
        for layer in self.penalties or ():
            layer.penalty = None  # it holds the last step's graph

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state(), "average": self.average and self.average.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.restore(state["schedule"])
        if self.average:
            self.average.restore(state["average"])


@torch.inference_mode()
def measure(network: nn.Module, batches: Batches, size: int, precision: torch.dtype) -> tuple[float, float]:
    """Return (mean loss in nats, accuracy) over all rows, `size` at a time, without any weights of classes or smoothing."""
    network.eval()
    sums = torch.zeros(2, dtype=torch.float64, device=batches.device)
    for images_BCHW, labels_B in batches.epoch(size):
        with torch.autocast(batches.device.type, precision, enabled=precision != torch.float32):
            out = network(images_BCHW)
        sums += torch.stack([loss_of(out, labels_B) * len(labels_B), hits(out, labels_B)])
    loss, right = (sums / len(batches)).tolist()
    return loss, right
