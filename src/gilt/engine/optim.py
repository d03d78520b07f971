"""Optimisers, the loss and the L2 penalty."""
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F

from gilt.config import TrainConfig
from gilt.errors import ConfigError, listed, near

ADAM_EPSILON = 1e-7  # Keras's: the reference systems were trained with it


def make_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return the optimiser that `config` names, over all trainable weights."""
    weights = [p for p in network.parameters() if p.requires_grad]
    if config.optimizer == "sgd":
        return torch.optim.SGD(weights, config.learning_rate, momentum=0.9, nesterov=True)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(weights, config.learning_rate, eps=ADAM_EPSILON, fused=True)


def loss_of(out: torch.Tensor, labels_B: torch.Tensor, weights_C: torch.Tensor | None = None) -> torch.Tensor:
    """Return the mean loss in nats: binary cross-entropy for one output (B, 1), else cross-entropy for (B, C).

    `weights_C` multiplies each row's loss by its class's weight; the mean is over rows, so weights should average 1.
    """
    reduction = "mean" if weights_C is None else "none"
    if out.shape[1] == 1:
        loss = F.binary_cross_entropy_with_logits(out.float()[:, 0], labels_B.float(), reduction=reduction)
    else:
        loss = F.cross_entropy(out.float(), labels_B, reduction=reduction)
    return loss if weights_C is None else (loss * weights_C[labels_B]).mean()


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
def add_l2(weights: list[tuple[nn.Parameter, float]]) -> None:
    """Add the gradient of penalty * sum(w^2) to each weight's: Keras's L2, part of the loss and not a weight decay."""
    for weight, penalty in weights:
        if weight.grad is not None:
            weight.grad.add_(weight, alpha=2 * penalty)
