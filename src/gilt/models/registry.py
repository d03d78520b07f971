"""Where networks are entered: one dict, one decorator. `zoo.py` finds them there.

A network takes images_BCHW in [0, 1] and returns logits (B, 1) for two classes or (B, C) for more. Its `l2` attribute,
where it has one, names layers whose weights are penalised, as {"conv2": 0.01}. A module in it may have a `penalty`: a scalar
tensor that its forward sets in training mode, to be added to the loss.
"""
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import create_model
from torch import nn

from gilt.errors import ConfigError, ModelError, listed
from gilt.settings import Config, parse

COMMON = ("outputs", "input_size", "dropout")  # what a builder takes that is no argument of the network's own


@dataclass(frozen=True)
class ModelEntry:
    """A network that can be made by name.

    `input_size` is in pixels, `smallest` the least that it can take; `outputs` the logits its source describes. `family`
    is a heading to list it under. `published` names the network of a library (`torchvision:resnet50`) whose weights fit
    all its layers, "" where there are none.
    """

    name: str
    build: Callable[..., nn.Module]
    input_size: int
    outputs: int
    source: str
    smallest: int = 1
    family: str = ""
    published: str = ""

    @property
    def has_dropout(self) -> bool:
        return "dropout" in inspect.signature(self.build).parameters

    @property
    def dropout(self) -> float | None:
        parameter = inspect.signature(self.build).parameters.get("dropout")
        return None if parameter is None else parameter.default

    @functools.cached_property
    def settings(self) -> type[Config]:
        """What the network's own arguments are: its builder's other parameters, or the group of settings that it takes."""
        parameters = [p for p in inspect.signature(self.build).parameters.values() if p.name not in COMMON]
        if self.grouped:
            return parameters[0].annotation
        return create_model(f"{self.name} arguments", __base__=Config,
                            **{p.name: (p.annotation, p.default) for p in parameters})

    @property
    def grouped(self) -> bool:
        """Whether the builder takes all its arguments as one group, in a parameter called `arguments`."""
        return "arguments" in inspect.signature(self.build).parameters

    @property
    def arguments(self) -> dict[str, Any]:
        """The network's own arguments, by name, with the values that they have where nothing is said."""
        return {name: field.default for name, field in self.settings.model_fields.items()}

    def checked(self, arguments: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return what to call the builder with for these arguments. Raises ModelError for an unknown name or a bad value."""
        if arguments and not self.arguments:
            raise ModelError(f"network {self.name!r} has no arguments of its own: leave out {listed(arguments)}")
        try:
            settings = parse(self.settings, arguments or {}, where=f"arguments of the network {self.name!r}")
        except ConfigError as error:
            raise ModelError(str(error)) from None
        return {"arguments": settings} if self.grouped else dict(settings)


MODELS: dict[str, ModelEntry] = {}


def register(name: str, *, input_size: int, source: str, outputs: int = 1, smallest: int = 1, family: str = "",
             published: str = "") -> Callable[..., Any]:
    """Enter a function `(outputs, input_size, ...) -> nn.Module` under `name`. Raises ModelError for a taken name."""
    def enter(build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        if name in MODELS:
            raise ModelError(f"two networks are called {name!r}: {MODELS[name].build} and {build}")
        MODELS[name] = ModelEntry(name, build, input_size, outputs, source, smallest, family, published)
        return build

    return enter
