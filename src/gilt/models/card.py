"""The card of a file of gilt's: safetensors with what its tensors are, as JSON. Reading one executes nothing."""
import json
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
        raise ModelError(f"{path} is not a safetensors file: {error}") from None
    if not isinstance(card, dict) or card.get("format") != format_:
        raise ModelError(f"{path} is safetensors, but no {kind} of gilt's: make one with {make}")
    return card, tensors
