"""The card of a file of gilt's: safetensors with what its tensors are, as JSON. Reading one executes nothing."""
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from gilt.errors import ModelError


def read_card(path: Path | str, format_: str, *, kind: str, make: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return the card and the tensors of a `kind` of file ("classifier"), which the command `make` makes.

    Raises ModelError where the file is missing, is no safetensors file, or none of this format.
    """
    if not Path(path).is_file():
        raise ModelError(f"{kind} {path} " + (f"is a folder, not a {kind}" if Path(path).exists() else
                                              f"does not exist: make it with {make}"))
    try:
        with safe_open(path, "pt") as file:
            card = json.loads((file.metadata() or {}).get("gilt", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} is not a safetensors file ({error}), as a {kind} is: make one with {make}") from None
    if not isinstance(card, dict) or card.get("format") != format_:
        raise ModelError(f"{path} is safetensors, but no {kind} of gilt's: make one with {make}")
    return card, tensors


@dataclass(frozen=True)
class Facts:
    """What a file of gilt's says of itself, its tensors left where they are: `shapes` by name, and the file's own facts."""

    path: Path
    card: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    bytes: int
    sha256: str

    @property
    def kind(self) -> str:
        """`classifier` or `generator`."""
        return str(self.card["format"]).split()[1]


def read_facts(path: Path | str) -> Facts:
    """Return what a classifier or a generator says of itself. Nothing is run, and no tensor is read.

    Raises ModelError where the file is missing or none of gilt's.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"model {path} {'is a folder, not a file' if path.is_dir() else 'does not exist'}")
    try:
        with safe_open(path, "pt") as file:
            card = json.loads((file.metadata() or {}).get("gilt", "null"))
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} is not a safetensors file ({error}), as models of gilt's are") from None
    format_ = card.get("format") if isinstance(card, dict) else None
    if format_ not in ("gilt classifier 1", "gilt generator 1"):
        raise ModelError(f"{path} is safetensors, but no model of gilt's: gilt train, gilt adopt and gilt generate train make "
                         "one")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Facts(path, card, shapes, path.stat().st_size, digest)
