"""Where networks are entered: one dict, one decorator. `zoo.py` finds them there.

A network takes images_BCHW in [0, 1] and returns logits (B, 1) for two classes or (B, C) for more. Its `l2` attribute,
where it has one, names layers whose weights are penalised, as {"conv2": 0.01}.
"""
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from gilt.errors import ModelError


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


MODELS: dict[str, ModelEntry] = {}


def register(name: str, *, input_size: int, source: str, outputs: int = 1) -> Callable[..., Any]:
    """Enter a function `(outputs, input_size, ...) -> nn.Module` under `name`. Raises ModelError for a taken name."""
    def enter(build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        if name in MODELS:
            raise ModelError(f"two networks are called {name!r}: {MODELS[name].build} and {build}")
        MODELS[name] = ModelEntry(name, build, input_size, outputs, source)
        return build

    return enter
