"""Where in a network a map of the image can be read: the last layer whose output still has places.

A convolution's output is a grid as it stands; a transformer's tokens are put back in their rows, without the class token.

Shapes: B batch, C channels, h w places of a layer's grid, T tokens.
"""
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from gilt.errors import ModelError, listed, near
from gilt.models.fitted import KnnHead
from gilt.models.forensic import Spectrum

OTHERS = 16  # tokens beside the image's own (class, registers), at most
FINE = 4  # places a side: a coarser map hardly says where
ATTENTION = ("norm1", "ln_1", "layernorm_before", "norm_1")  # what transformers call the layer in front of the attention


@dataclass(frozen=True)
class MapLayer:
    """A layer whose output is a map of the image: its name, itself, and how its output is laid out.

    `kind` is "BCHW", "BHWC", "BTC" or "TBC"; `grid` is (h, w), `extra` counts the tokens in front of the image's own.
    """

    name: str
    module: nn.Module
    kind: str
    grid: tuple[int, int]
    extra: int = 0

    def arranged(self, values: torch.Tensor) -> torch.Tensor:
        """Return the layer's output, or its gradient, as (B, C, h, w)."""
        if self.kind == "BCHW":
            return values.clone()  # a later layer may work in place
        if self.kind == "BHWC":
            return values.permute(0, 3, 1, 2)
        tokens_BTC = values if self.kind == "BTC" else values.transpose(0, 1)
        return tokens_BTC[:, self.extra:].transpose(1, 2).unflatten(2, self.grid)


@dataclass(frozen=True)
class MapLayers:
    """The layers of a network that have a map, in the order in which they compute.

    `why_none` says why there is none; `why_flat` why no gradient leads from the scores back to them. Both are "" where all
    is well.
    """

    layers: dict[str, MapLayer]
    why_none: str = ""
    why_flat: str = ""

    def pick(self, name: str | None = None) -> MapLayer:
        """Return the layer called `name`; without one, the last map of 4x4 places or more, where there is such a one.

        Of a transformer, that in front of its last attention: behind it only the class token counts, and no other place has a
        gradient. Raises ModelError for a layer that is not there or has no map.
        """
        if self.why_none:
            raise ModelError(f"{self.why_none}: only the method 'occlusion' can explain it")
        if name is not None and name not in self.layers:
            raise ModelError(f"no layer {name!r} with a map of the image (there are, the last first: "
                             f"{listed(reversed(self.layers), most=20)}).{near(name, self.layers)}")
        return self.layers[self._last() if name is None else name]

    def _last(self) -> str:
        names = list(self.layers)
        if self.layers[names[-1]].kind in ("BTC", "TBC"):
            return next((name for name in reversed(names) if name.rpartition(".")[2] in ATTENTION), names[-1])
        # a pool that stretches a small grid, or a layer that hands on what it was given, adds nothing
        solid = [name for name in names if not isinstance(self.layers[name].module, (nn.AdaptiveAvgPool2d, nn.Dropout,
                                                                                     nn.Dropout2d, nn.Identity))]
        fine = [name for name in solid if min(self.layers[name].grid) >= FINE]
        return (fine or solid or names)[-1]


def map_layers(network: nn.Module, size: int, device: torch.device) -> MapLayers:
    """Return which layers of a network have a map of images of `size` pixels: two images of noise are sent through it.

    Left out are layers that compute more than once an image, containers that hand on what an inner layer gave, and maps of
    something else than the image: a spectrum, rows read one after the other.
    """
    odd = {Spectrum: "its layers see a spectrum, which has no places of the image", nn.RNNBase: "it reads an image row by row"}
    why = next((words for kind, words in odd.items() if any(isinstance(layer, kind) for layer in network.modules())), "")
    seen: dict[str, list[tuple[torch.Tensor, int]]] = {}

    def keep(name: str):
        def hook(_layer: nn.Module, _inputs: object, out: object) -> None:
            if isinstance(out, torch.Tensor):
                seen.setdefault(name, []).append((out, out._version))  # what works in place hands the same tensor on, changed
        return hook

    handles = [layer.register_forward_hook(keep(name)) for name, layer in network.named_modules() if name]
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
    try:
        with torch.enable_grad():
            out = network.eval()(images)
    finally:
        for handle in handles:
            handle.remove()
    layers = {} if why else {layer.name: layer for layer in _maps(network, seen)}
    if not layers and not why:
        why = "no layer of it has a map of the image"
    return MapLayers(layers, f"the network has no map: {why}" if why else "", _why_flat(network, out))


def _why_flat(network: nn.Module, out: torch.Tensor) -> str:
    if any(isinstance(layer, KnnHead) for layer in network.modules()):
        return "the votes of nearest neighbours have no gradient"
    return "" if isinstance(out, torch.Tensor) and out.requires_grad else "its scores have no gradient"


def _maps(network: nn.Module, seen: dict[str, list[tuple[torch.Tensor, int]]]) -> Iterator[MapLayer]:
    known: set[tuple[int, int]] = set()
    for name, outs in seen.items():
        out, version = outs[0]
        found = _layout(tuple(out.shape), _prefix(network, name))
        if found and len(outs) == 1 and (id(out), version) not in known:
            yield MapLayer(name, network.get_submodule(name), *found)
        known.add((id(out), version))


def _layout(shape: tuple[int, ...], prefix: int | None) -> tuple[str, tuple[int, int], int] | None:
    """Return (kind, grid, extra tokens) of an output of two square images; None where it has no places."""
    if len(shape) == 4 and shape[0] == 2:
        if shape[2] == shape[3] > 1:
            return "BCHW", shape[2:], 0
        return ("BHWC", shape[1:3], 0) if shape[1] == shape[2] > 1 else None
    if len(shape) != 3 or 2 not in shape[:2]:
        return None
    kind, tokens = ("BTC", shape[1]) if shape[0] == 2 else ("TBC", shape[0])
    side = math.isqrt(tokens if prefix is None else max(tokens - prefix, 0))
    extra = tokens - side * side
    return (kind, (side, side), extra) if side > 1 and (extra == prefix or (prefix is None and extra <= OTHERS)) else None


def _prefix(network: nn.Module, name: str) -> int | None:
    """Return how many tokens stand in front of the image's own, where a network around the layer says so (timm's do)."""
    parts = name.split(".")
    around = [network, *(network.get_submodule(".".join(parts[:i])) for i in range(1, len(parts)))]
    told = [getattr(layer, "num_prefix_tokens", None) for layer in around]
    return next((count for count in told if isinstance(count, int)), None)
