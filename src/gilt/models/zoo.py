"""The networks by name. Importing this module enters every family into the registry; other libraries load when asked for."""
import fnmatch
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from gilt.errors import ModelError, listed, near
from gilt.models import backbones, cifake, classic, competition, forensic, metadata, recurrent, resnet, thesis  # noqa: F401
from gilt.models.libraries import LIBRARIES, names_in
from gilt.models.registry import MODELS, ModelEntry


def find(name: str) -> ModelEntry:
    """Return the entry called `name`: one of gilt's, or `timm:NAME`, `torchvision:NAME`, `open_clip:NAME`.

    Raises ModelError with the near name and the choices, MissingExtraError where the library is not installed.
    """
    if name in MODELS:
        return MODELS[name]
    library, colon, rest = name.partition(":")
    if colon and library in LIBRARIES:
        return LIBRARIES[library].entry(rest)
    raise ModelError(f"no network {name!r} (there are: {listed(MODELS, most=40)}; and any of "
                     f"{listed(f'{library}:NAME' for library in LIBRARIES)}).{near(name, MODELS)}")


def create(name: str, *, outputs: int = 1, input_size: int | None = None, dropout: float | None = None,
           arguments: Mapping[str, Any] | None = None) -> nn.Module:
    """Return a freshly initialised network.

    `outputs` is the number of logits: one for two classes (a sigmoid), else one a class. `input_size` in pixels,
    `dropout` and the network's own `arguments` default to what `find(name)` says of them. Raises ModelError for an
    unknown name, a size that the network cannot take, a dropout where it has none, or arguments that are not its own.
    """
    entry = find(name)
    settings = entry.checked(arguments)
    if dropout is not None:
        if not entry.has_dropout:
            raise ModelError(f"network {name!r} has no dropout layer that train.dropout sets: leave it out"
                             + (f" (its arguments: {listed(entry.arguments, most=30)})" if entry.arguments else ""))
        settings["dropout"] = dropout
    size = input_size or entry.input_size
    try:
        if size < entry.smallest:
            raise ValueError(f"it needs {entry.smallest} pixels or more")
        return entry.build(outputs, size, **settings)
    except ValueError as error:
        raise ModelError(f"network {name!r} cannot take {size}x{size} images: {error}") from None


def list_models() -> list[ModelEntry]:
    """Return all networks of gilt's own, by name."""
    return [MODELS[name] for name in sorted(MODELS)]


def matching(pattern: str) -> list[str]:
    """Return the names that fit a pattern such as `thesis*` or `timm:*convnext*`, sorted.

    Raises ModelError where the library is unknown, MissingExtraError where it is not installed.
    """
    library, colon, rest = pattern.partition(":")
    if not colon:
        return sorted(fnmatch.filter(MODELS, pattern))
    if library not in LIBRARIES:
        raise ModelError(f"no library {library!r} (there are: {listed(LIBRARIES)}).{near(library, LIBRARIES)}")
    return [f"{library}:{name}" for name in names_in(library, rest)]


def parameters(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def size_of(name: str) -> int:
    """Return the number of parameters of the network as its source describes it, without filling them."""
    with torch.device("meta"):
        return parameters(create(name, outputs=find(name).outputs))
