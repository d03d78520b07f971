"""`Classifier`: a trained network with all that a prediction depends on, in one safetensors file.

A *detector* is a classifier whose target is `origin`. Loading executes nothing: the file holds tensors and JSON.
"""
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from gilt.config import Preprocessing
from gilt.errors import GiltError, ModelError, listed
from gilt.files import atomic_path
from gilt.models.zoo import create, parameters

FORMAT = "gilt classifier 1"


@dataclass
class Classifier:
    """A network and its classes (in the order of its logits), target, preprocessing, history and provenance.

    `outputs` is 1 for two classes behind a sigmoid, else the number of classes.

    `history` has one dict an epoch; `provenance` says what it was trained on and with: configuration, seed, the
    table's fingerprint, numbers of rows, versions, machine; what it learnt from, where `gilt.engine.judge.memory` was added.
    """

    network: nn.Module
    model: str
    classes: Sequence[str]
    target: str
    preprocessing: Preprocessing
    outputs: int
    dropout: float | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        size = self.preprocessing.size
        return (f"<Classifier {self.model} {size}x{size}, {parameters(self.network):,} parameters, "
                f"target {self.target}: {listed(self.classes)}>")

    @torch.inference_mode()
    def logits(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Return logits (B, C) for images in [0, 1]; a single sigmoid output z stands as the pair (0, z)."""
        self.network.eval()
        return pairs(self.network(images_BCHW).float())

    def save(self, path: Path | str) -> None:
        """Write the classifier to `path` (safetensors), atomically."""
        card = {"format": FORMAT, "model": self.model, "classes": list(self.classes), "target": self.target,
                "preprocessing": self.preprocessing.model_dump(), "dropout": self.dropout,
                "outputs": self.outputs,
                "history": self.history, "provenance": self.provenance}
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata={"gilt": json.dumps(card)})


def pairs(out: torch.Tensor) -> torch.Tensor:
    """Return a network's output (B, C) as it is, and a single sigmoid output z (B, 1) as the pair (0, z)."""
    return torch.cat([torch.zeros_like(out), out], 1) if out.shape[1] == 1 else out


def load_classifier(path: Path | str, *, device: torch.device | str = "cpu") -> Classifier:
    """Return the classifier in `path`, ready to predict on `device`.

    Raises ModelError where the file is missing, is no classifier of gilt's, or holds weights that do not fit.
    """
    if not Path(path).is_file():
        kind = "is a folder, not a classifier" if Path(path).exists() else "does not exist: make it with gilt train"
        raise ModelError(f"classifier {path} {kind}")
    try:
        with safe_open(path, "pt") as file:
            card = json.loads((file.metadata() or {}).get("gilt", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} is not a safetensors file: {error}") from None
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise ModelError(f"{path} is safetensors, but no classifier of gilt's: make one with gilt train")
    try:
        preprocessing = Preprocessing.model_validate(card["preprocessing"])
        network = create(card["model"], outputs=card["outputs"], input_size=preprocessing.size,
                         dropout=card["dropout"])
        network.load_state_dict(tensors)
    except (KeyError, RuntimeError, ValueError, TypeError, GiltError) as error:
        raise ModelError(f"{path} does not fit the network it names: {str(error).splitlines()[0]}") from None
    network = network.to(device, memory_format=torch.channels_last).eval()
    return Classifier(network, card["model"], tuple(card["classes"]), card["target"], preprocessing, card["outputs"],
                      card["dropout"], card["history"], card["provenance"])
