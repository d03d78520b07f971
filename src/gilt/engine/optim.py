"""Optimisers, the loss and the L2 penalty.

Shapes: B batch, C classes. Targets are labels int64 (B,), or soft float (B, C), where C is 2 for a single output.
"""
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from gilt.config import TrainConfig
from gilt.errors import ConfigError, listed, near

ADAM_EPSILON = 1e-7  # Keras's: the reference systems were trained with it


def make_optimizer(groups: Sequence[dict[str, Any]], config: TrainConfig) -> torch.optim.Optimizer:
    """Return the optimiser that `config` names, over groups of weights with a learning rate each (`engine.groups`).

    Adam's weight decay is added to the gradient, AdamW's taken from the weights; both reach every weight that learns.
    """
    if config.optimizer == "sgd":
        fused = groups[0]["params"][0].is_cuda or None
        return torch.optim.SGD(groups, config.learning_rate, momentum=config.momentum, nesterov=config.momentum > 0,
                               weight_decay=config.weight_decay or 0, fused=fused)
    kind, decay = (torch.optim.AdamW, 0.01) if config.optimizer == "adamw" else (torch.optim.Adam, 0.0)
    decay = decay if config.weight_decay is None else config.weight_decay
    return kind(groups, config.learning_rate, eps=ADAM_EPSILON, weight_decay=decay, fused=True)


def loss_of(out: torch.Tensor, targets: torch.Tensor, weights_C: torch.Tensor | None = None, *,
            smoothing: float = 0.0) -> torch.Tensor:
    """Return the mean loss in nats: binary cross-entropy for one output (B, 1), else cross-entropy for (B, C).

    `weights_C` multiplies each row's loss by its class's weight (of soft targets: by their mean); the mean is over rows, so
    weights should average 1. `smoothing` s gives the label 1 - s + s/C and every other class s/C, for one output too.
    """
    reduction, soft = "mean" if weights_C is None else "none", targets.is_floating_point()
    if out.shape[1] == 1:
        wanted_B = targets[:, 1] if soft else targets.float()
        if smoothing:
            wanted_B = wanted_B * (1 - smoothing) + smoothing / 2
        loss = F.binary_cross_entropy_with_logits(out.float()[:, 0], wanted_B, reduction=reduction)
    else:
        loss = F.cross_entropy(out.float(), targets, reduction=reduction, label_smoothing=smoothing)
    if weights_C is None:
        return loss
    return (loss * (targets @ weights_C if soft else weights_C[targets])).mean()


def hits(out: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return how many rows the network gets right, on the device; a soft target's label is its greatest part."""
    guess_B = (out[:, 0] > 0).long() if out.shape[1] == 1 else out.argmax(1)
    labels_B = targets.argmax(1) if targets.is_floating_point() else targets
    return (guess_B == labels_B).sum().float()


def penalised(network: nn.Module, l2: Mapping[str, float] | None) -> list[tuple[nn.Parameter, float]]:
    """Return (weight, penalty) for the layers that `l2` names, or that the network itself does where `l2` is None.

    Raises ConfigError for a name that the network does not have.
    """
    if l2 is None:
        l2 = getattr(network, "l2", {})
    layers = {name: layer for name, layer in network.named_modules()
              if isinstance(getattr(layer, "weight", None), nn.Parameter)}
    for name in l2:
        if name not in layers:
            raise ConfigError(f"train.l2: the network has no layer {name!r} (has: {listed(layers)}).{near(name, layers)}")
    return [(layers[name].weight, penalty) for name, penalty in l2.items()]


@torch.no_grad()
def add_l2(weights: Sequence[tuple[nn.Parameter, float]]) -> None:
    """Add the gradient of penalty * sum(w^2) to each weight's: Keras's L2, part of the loss and not a weight decay."""
    for weight, penalty in weights:
        if weight.grad is not None:
            weight.grad.add_(weight, alpha=2 * penalty)
