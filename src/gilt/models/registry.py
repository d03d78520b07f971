"""The networks by name: one dict, one decorator.

A network takes images_BCHW in [0, 1] and returns logits (B, 1) for two classes or (B, C) for more. Its `l2` attribute,
where it has one, names layers whose weights are penalised, as {"conv2": 0.01}.
"""
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from gilt.errors import ModelError, listed, near


@dataclass(frozen=True)
class ModelEntry:
    """A network that can be made by name. `input_size` is in pixels; `outputs` the logits its source describes."""

    name: str
    build: Callable[..., nn.Module]
    input_size: int
    outputs: int
    source: str

    @property
    def has_dropout(self) -> bool:
        return "dropout" in inspect.signature(self.build).parameters

    @property
    def dropout(self) -> float | None:
        parameter = inspect.signature(self.build).parameters.get("dropout")
        return None if parameter is None else parameter.default


_MODELS: dict[str, ModelEntry] = {}


def register(name: str, *, input_size: int, source: str, outputs: int = 1) -> Callable[..., Any]:
    """Enter a function `(outputs, input_size, ...) -> nn.Module` under `name`. Raises ModelError for a taken name."""
    def enter(build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        if name in _MODELS:
            raise ModelError(f"two networks are called {name!r}: {_MODELS[name].build} and {build}")
        _MODELS[name] = ModelEntry(name, build, input_size, outputs, source)
        return build

    return enter


def find(name: str) -> ModelEntry:
    """Return the entry called `name`. Raises ModelError with the near name and the choices."""
    _load()
    if name not in _MODELS:
        raise ModelError(f"no network {name!r} (there are: {listed(_MODELS, most=40)}).{near(name, _MODELS)}")
    return _MODELS[name]


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
    _load()
    return [_MODELS[name] for name in sorted(_MODELS)]


def parameters(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def _load() -> None:
    import gilt.models.classic
    import gilt.models.thesis  # noqa: F401 (entering the networks is the point)
