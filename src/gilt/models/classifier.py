"""`Classifier`: a trained network with all that a prediction depends on, in one safetensors file.

A *detector* is a classifier whose target is `origin`. Loading executes nothing: the file holds tensors and JSON.
"""
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import model_validator
from safetensors.torch import save_file
from torch import nn

from gilt.config import REAL, Preprocessing
from gilt.errors import GiltError, ModelError, listed
from gilt.files import atomic_path
from gilt.models.card import read_card
from gilt.models.features import head_of
from gilt.models.fitted import FittedHead, rebuilt
from gilt.models.onnx_network import ONNX, OnnxNetwork, onnx_network, read_exported
from gilt.models.zoo import create, parameters
from gilt.settings import Config, Size, parse
from gilt.training import METADATA, Calibration

FORMAT = "gilt classifier 1"


class _Card(Config):
    """What a file says of its network, beside the tensors. Older files have no `arguments`, `head` or `calibration`."""

    format: str
    model: str
    classes: list[str]
    target: Literal["class", "origin"]
    preprocessing: Preprocessing
    outputs: Size
    dropout: float | None
    arguments: dict[str, Any] = {}
    head: dict[str, Any] = {}
    calibration: Calibration | None = None
    history: list[dict[str, Any]]
    provenance: dict[str, Any]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.classes) < 2 or (self.outputs != len(self.classes) and (self.outputs, len(self.classes)) != (1, 2)):
            raise ValueError(f"{self.outputs} logits are not those of {len(self.classes)} classes")
        return self


@dataclass
class Classifier:
    """A network and its classes (in the order of its logits), target, preprocessing, history, provenance and calibration.

    `outputs` is 1 for two classes behind a sigmoid, else the number of classes. `arguments` are the network's own.

    `history` has one dict an epoch; `provenance` says what it was trained on and with: configuration, seed, the
    table's fingerprint, numbers of rows, versions, machine; what it learnt from, where `gilt.engine.judge.memory` was added.
    `calibration` is a detector's temperature and threshold; None where it was given too few validation images.
    """

    network: nn.Module
    model: str
    classes: Sequence[str]
    target: str
    preprocessing: Preprocessing
    outputs: int
    dropout: float | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None

    def __repr__(self) -> str:
        size = f"{self.preprocessing.size}x{self.preprocessing.size}" if self.model != METADATA else "(sees no pixels)"
        head = f" + {self.head['kind']}" if self.head else ""
        held = f"{parameters(self.network):,} parameters"
        if isinstance(self.network, OnnxNetwork):
            held = f"a graph of {len(self.network.graph):,} bytes"
        return (f"<Classifier {self.model}{head} {size}, {held}, "
                f"target {self.target}: {listed(self.classes)}>")

    @property
    def detects(self) -> bool:
        """Whether it is a detector: one that tells real images from generated ones."""
        return self.target == "origin" and REAL in self.classes

    @property
    def head(self) -> dict[str, Any]:
        """What was fitted in place of the network's last layer ({"kind": "svm", ...}); empty where that is as it was made."""
        if isinstance(self.network, OnnxNetwork):
            return {}
        layer = head_of(self.network)[1]
        return layer.card() if isinstance(layer, FittedHead) else {}

    @property
    def frozen(self) -> bool:
        """Whether the training left all layers but the last as they were: their features may be at hand already."""
        settings = self.provenance.get("train")
        return bool(self.head) or (isinstance(settings, dict) and bool(settings.get("frozen")))

    @torch.inference_mode()
    def logits(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Return logits (B, C) for images in [0, 1]; a single sigmoid output z stands as the pair (0, z)."""
        self.network.eval()
        return pairs(self.network(images_BCHW).float())

    @property
    def card(self) -> dict[str, Any]:
        """All that its file says beside the tensors, as JSON has it."""
        return {"format": FORMAT, "model": self.model, "classes": list(self.classes), "target": self.target,
                "preprocessing": self.preprocessing.model_dump(), "dropout": self.dropout,
                "outputs": self.outputs, "arguments": self.arguments, "head": self.head,
                "calibration": self.calibration and self.calibration.model_dump(),
                "history": self.history, "provenance": self.provenance}

    def save(self, path: Path | str) -> None:
        """Write the classifier to `path` (safetensors), atomically."""
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata={"gilt": json.dumps(self.card)})


def pairs(out: torch.Tensor) -> torch.Tensor:
    """Return a network's output (B, C) as it is, and a single sigmoid output z (B, 1) as the pair (0, z)."""
    return torch.cat([torch.zeros_like(out), out], 1) if out.shape[1] == 1 else out


def load_classifier(path: Path | str, *, device: torch.device | str = "cpu") -> Classifier:
    """Return the classifier in `path`, ready to predict on `device`: a file of gilt's, or ONNX that `gilt export` wrote.

    Raises ModelError where the file is missing, is no classifier of gilt's, or holds weights that do not fit.
    """
    if Path(path).suffix == ".onnx":
        card, tensors = read_exported(path, FORMAT)
    else:
        card, tensors = read_card(path, FORMAT, kind="classifier", make="gilt train")
    try:
        known = parse(_Card, card, where="its card")
        network = _network(known, tensors)
    except (KeyError, RuntimeError, ValueError, TypeError, GiltError) as error:
        raise ModelError(f"{path} does not fit the network it names: {str(error).splitlines()[0]}") from None
    network = network.to(device, memory_format=torch.channels_last).eval()
    return Classifier(network, known.model, tuple(known.classes), known.target, known.preprocessing, known.outputs,
                      known.dropout, known.arguments, known.history, known.provenance, known.calibration)


def _network(card: _Card, tensors: dict[str, torch.Tensor]) -> nn.Module:
    """Return the network that a card describes, filled. Raises what `load_classifier` words, where the two do not fit."""
    if card.model == ONNX:
        network = onnx_network(card.arguments, tensors, outputs=card.outputs, size=card.preprocessing.size)
        network.load_state_dict(tensors)
        return network
    network = create(card.model, outputs=card.outputs, input_size=card.preprocessing.size, dropout=card.dropout,
                     arguments=card.arguments)
    name, layer = head_of(network)
    held = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
    head = rebuilt(card.head, held, layer)
    if head:
        network.set_submodule(name, head)
    network.load_state_dict(tensors)
    if head:
        head.check()
    return network
