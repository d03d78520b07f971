"""The networks by name. Importing this module enters every family into the registry."""
from typing import Any

import torch
from torch import nn

from gilt.errors import ModelError, listed, near
from gilt.models import backbones, classic, thesis  # noqa: F401 (each enters its networks when it is imported)
from gilt.models.registry import MODELS, ModelEntry


def find(name: str) -> ModelEntry:
    """Return the entry called `name`. Raises ModelError with the near name and the choices."""
    if name not in MODELS:
        raise ModelError(f"no network {name!r} (there are: {listed(MODELS, most=40)}).{near(name, MODELS)}")
    return MODELS[name]


def create(name: str, *, outputs: int = 1, input_size: int | None = None, dropout: float | None = None) -> nn.Module:
    """Return a freshly initialised network.

    `outputs` is the number of logits: one for two classes (a sigmoid), else one a class. `input_size` in pixels and
    `dropout` default to the network's own. Raises ModelError for an unknown name, a size that the network cannot take,
    or a dropout where it has none.
    """
    entry = find(name)
    settings: dict[str, Any] = {}
    if dropout is not None:
        if not entry.has_dropout:
            raise ModelError(f"network {name!r} has no dropout layer: leave train.dropout out")
        settings["dropout"] = dropout
    size = input_size or entry.input_size
    try:
        return entry.build(outputs, size, **settings)
    except ValueError as error:
        raise ModelError(f"network {name!r} cannot take {size}x{size} images: {error}") from None


def list_models() -> list[ModelEntry]:
    """Return all networks, by name."""
    return [MODELS[name] for name in sorted(MODELS)]


def parameters(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def size_of(name: str) -> int:
    """Return the number of parameters of the network as its source describes it, without filling them."""
    with torch.device("meta"):
        return parameters(create(name, outputs=find(name).outputs))
