"""Which layers learn, and how quickly: `freeze`, `rates` and `layer_decay` as groups of weights."""
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from gilt.config import TrainConfig
from gilt.engine.optim import penalised
from gilt.errors import ConfigError, listed, near
from gilt.models.features import head_of

ALL_BUT_HEAD = "*"


def freeze(network: nn.Module, names: Iterable[str]) -> tuple[list[nn.Parameter], list[nn.Module]]:
    """Stop the named layers from learning; return their weights, and their norms, which the caller keeps in eval mode.

    A norm whose weights stand still would otherwise go on changing its running mean, and the frozen layers with it.
    Raises ConfigError for a name that no layer begins with, and where nothing is left to learn.
    """
    chosen = {name for given in names for name in reached(network, given, "train.freeze")}
    weights = [weight for name, weight in network.named_parameters() if name in chosen and weight.requires_grad]
    for weight in weights:
        weight.requires_grad_(False)
    if not any(weight.requires_grad for weight in network.parameters()):
        raise ConfigError("train.freeze leaves nothing to learn: name fewer layers, or '*' for all but the last")
    norms = [layer for name, layer in network.named_modules()
             if isinstance(layer, _NormBase) and any(f"{name}.{own}" in chosen for own, _ in layer.named_parameters())]
    return weights, norms


def learning_groups(network: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Return the weights that learn in groups of one learning rate, each with its `factor` of `config.learning_rate`.

    A layer's factor is the one of the longest name in `config.rates` that reaches it, times `layer_decay` once for every
    block above it. Raises ConfigError for a name that no layer begins with.
    """
    factors = dict.fromkeys((name for name, _ in network.named_parameters()), 1.0)
    for given in sorted(config.rates, key=lambda name: (name != ALL_BUT_HEAD, len(name))):  # the longest name speaks last
        factors |= dict.fromkeys(reached(network, given, "train.rates"), config.rates[given])
    if config.layer_decay != 1:
        for depth, members in enumerate(reversed(blocks(network))):
            for name in members:
                factors[name] *= config.layer_decay ** depth
    groups: dict[float, list[nn.Parameter]] = {}
    for name, weight in network.named_parameters():
        if weight.requires_grad:
            groups.setdefault(factors[name], []).append(weight)
    return [{"params": weights, "lr": config.learning_rate * factor, "factor": factor} for factor, weights in groups.items()]


def check_layers(network: nn.Module, config: TrainConfig) -> None:
    """Raise ConfigError where `l2`, `rates` or `freeze` name a layer that is not there, or nothing is left to learn."""
    penalised(network, config.l2)
    learning_groups(network, config)
    for weight in freeze(network, config.freeze)[0]:
        weight.requires_grad_(True)


def reached(network: nn.Module, given: str, setting: str) -> list[str]:
    """Return the names of the weights that `given` reaches: a layer and all inside it, or all layers that begin so.

    `*` is every layer but the last dense one. Raises ConfigError, naming `setting`, where no weight is reached.
    """
    weights = [name for name, _ in network.named_parameters()]
    if given == ALL_BUT_HEAD:
        head = head_of(network)[0]
        return [name for name in weights if not name.startswith(f"{head}.")]
    layers = {name for name, _ in network.named_modules() if name}
    exact = given in layers or given in weights
    found = [name for name in weights if (name == given or name.startswith(f"{given}.") if exact else name.startswith(given))]
    if not found:
        having = list(dict.fromkeys(name.rpartition(".")[0] or name for name in weights))
        said = "has no weights" if exact else "is no layer of this network, nor does one begin so"
        raise ConfigError(f"{setting}: {given!r} {said} (has: {listed(having)}; '*' is all but the last)."
                          f"{near(given, [*having, *layers])}")
    return found


def blocks(network: nn.Module) -> list[list[str]]:
    """Return the names of the network's weights block by block, from the image to the logits.

    Blocks are the network's parts in their order; a wrapper around one part is opened, and so is a plain list of parts
    (a ResNet's `layer1`, a transformer's `blocks`). A part of its own beside the layers (a class token) is with the first.
    """
    prefix, top = "", network
    while True:
        parts = [(name, part) for name, part in top.named_children() if any(True for _ in part.parameters())]
        if len(parts) != 1 or list(top.named_parameters(recurse=False)):
            break
        prefix, top = f"{prefix}{parts[0][0]}.", parts[0][1]
    found: list[list[str]] = []
    for name, part in parts:
        opened = part.named_children() if isinstance(part, (nn.Sequential, nn.ModuleList)) else [("", part)]
        for inner, member in opened:
            path = f"{prefix}{name}.{inner}." if inner else f"{prefix}{name}."
            found.append([path + own for own, _ in member.named_parameters()])
    found = [members for members in found if members]
    rest = {name for name, _ in network.named_parameters()} - {name for members in found for name in members}
    return [sorted(rest) + found[0], *found[1:]] if found else [sorted(rest)]
