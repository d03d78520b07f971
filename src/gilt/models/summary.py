"""A network layer by layer, as Keras prints it."""
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from gilt.errors import GiltError
from gilt.models.metadata import FACTS, Metadata
from gilt.models.registry import ModelEntry
from gilt.models.zoo import create


class Totals(NamedTuple):
    """How many numbers a network holds: what training changes, and what it does not (batch norm's means and variances)."""

    total: int
    trainable: int
    fixed: int


def layer_table(network: nn.Module, input_size: int) -> list[list[object]]:
    """Return [layer, kind, output shape, parameters] for every layer, in the order they run.

    A layer is what has no layers inside, or has weights of its own. As in Keras, batch norm's means and variances are
    counted; a layer that runs several times stands once. A layer whose weights another layer uses has the shape "-".
    """
    rows: dict[str, list[object]] = {}
    layers = {name: layer for name, layer in network.named_modules()
              if name and (_own(layer) or not list(layer.children()))}

    def note(name: str, layer: nn.Module):
        def hook(_layer: nn.Module, _inputs: object, out: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
            tensor = out[0] if isinstance(out, tuple) else out
            shape = "x".join(str(n) for n in tensor.shape[1:])
            rows.setdefault(name, [name, type(layer).__name__, shape, _own(layer)])

        return hook

    handles = [layer.register_forward_hook(note(name, layer)) for name, layer in layers.items()]
    try:
        with torch.inference_mode():
            network.eval()(_example(network, input_size))
    finally:
        for handle in handles:
            handle.remove()
    table = list(rows.values())
    for name, layer in layers.items():
        if name not in rows and _own(layer):
            parent = name.rpartition(".")[0]
            place = max((i for i, row in enumerate(table) if f"{row[0]}.".startswith(f"{parent}.")), default=len(table) - 1)
            table.insert(place + 1, [name, type(layer).__name__, "-", _own(layer)])
    return table


def totals(network: nn.Module) -> Totals:
    """Return the numbers that a network holds: the sum over its layers' parameters."""
    trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
    total = sum(_own(layer) for layer in network.modules())
    return Totals(total, trainable, total - trainable)


def described(entry: ModelEntry, *, outputs: int | None = None, input_size: int | None = None,
              arguments: Mapping[str, Any] | None = None) -> tuple[list[list[object]], Totals]:
    """Return the layer table and the totals of a network as its source describes it, or as the settings change it.

    The network is not filled where that can be avoided, so a large one costs no memory. Raises ModelError as `create` does.
    """
    size, given = input_size or entry.input_size, {"outputs": outputs or entry.outputs, "input_size": input_size,
                                                   "arguments": arguments}
    try:
        with torch.device("meta"):
            network = create(entry.name, **given)
            return layer_table(network, size), totals(network)
    except (GiltError, NotImplementedError, RuntimeError):  # some networks of other libraries need their numbers
        network = create(entry.name, **given)
        return layer_table(network, size), totals(network)


def _example(network: nn.Module, input_size: int) -> torch.Tensor:
    shape = (1, len(FACTS)) if isinstance(network, Metadata) else (1, 3, input_size, input_size)
    return torch.zeros(shape, device=next(network.parameters()).device)


def _own(layer: nn.Module) -> int:
    """Return how many numbers a layer itself holds and saves."""
    kept = [buffer for name, buffer in layer.named_buffers(recurse=False) if name not in layer._non_persistent_buffers_set
            and buffer.is_floating_point()]
    return sum(tensor.numel() for tensor in [*layer.parameters(recurse=False), *kept])
