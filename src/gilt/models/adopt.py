"""Adopt a network that others have trained, its last layer too: published weights become a classifier without training."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

import gilt
from gilt.config import Preprocessing
from gilt.errors import ModelError, listed
from gilt.models.classifier import Classifier
from gilt.models.weights import load_weights
from gilt.models.zoo import create, find


@dataclass(frozen=True)
class Design:
    """Which network: its name, input size in pixels (None: its own), and own arguments."""

    model: str
    input_size: int | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)


def adopt(design: Design, weights: Path | str, classes: Sequence[str], *, target: str = "class") -> Classifier:
    """Return the network of `design` with all of the `weights`, as a classifier of `classes` in the order of its logits.

    Two classes fit one logit (a sigmoid, whose 1 is the second class) or two. Raises ModelError where the weights do not fit
    the network and this number of classes, or where a detector's classes are not real and generated.
    """
    names = tuple(classes)
    if len(names) < 2 or len(set(names)) < len(names):
        raise ModelError(f"a classifier needs two or more different classes, in the order of its logits, not: {listed(names)}")
    if target == "origin" and set(names) != {"real", "generated"}:
        raise ModelError(f"a detector's classes are real and generated, in the order of its logits, not: {listed(names)}")
    network, outputs, digest = _filled(design, weights, len(names))
    known = {"gilt": gilt.__version__, "weights": digest, "weights_from": _name(weights), "trained": "elsewhere"}
    return Classifier(network.eval(), design.model, names, target,
                      Preprocessing(size=design.input_size or find(design.model).input_size), outputs,
                      arguments=dict(design.arguments), provenance=known)


def _filled(design: Design, weights: Path | str, classes: int) -> tuple[nn.Module, int, str]:
    """Return the network, how many logits it has, and the SHA-256 of its weights."""
    problems = []
    for outputs in (2, 1) if classes == 2 else (classes,):
        network = create(design.model, outputs=outputs, input_size=design.input_size, arguments=design.arguments)
        try:
            return network, outputs, load_weights(network, weights, model=design.model, whole=True)
        except ModelError as error:
            problems.append(error)
    raise problems[0]


def _name(weights: Path | str) -> str:
    """Return what the weights were called: a file's name without its folder, or the name on a hub."""
    return Path(weights).name if Path(weights).is_file() else str(weights)
