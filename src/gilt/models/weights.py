"""Weights that others have trained: read without running any of their code, checked, and put into a network.

Layers are found by name, whatever wrapped the network when it was saved. What does not fit is named.
"""
import hashlib
import json
import logging
import pickle
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from gilt.errors import ModelError, listed
from gilt.models.features import head_of
from gilt.models.hub import located
from gilt.training import named_weights

log = logging.getLogger(__name__)
State = dict[str, torch.Tensor]
_DIGITS = re.compile(r"-([0-9a-f]{8,64})\.(?:pth?|th|bin|safetensors)(?:\.tar)?$")  # torchvision's names: -b0353104.pth
_DATE = re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])")
_WRAPPERS = ("", "module.", "model.", "backbone.", "encoder.", "vit.")  # that a name may begin with, and ours does not


def load_weights(network: nn.Module, weights: Path | str, *, model: str = "", whole: bool = False) -> str:
    """Fill every layer of `network` but the last, in place, and return the SHA-256 of the file that they came from.

    `weights` is a file (a classifier of gilt's, plain safetensors, or a torch state dict), `pretrained` or `hf:OWNER/NAME`
    (`gilt.models.hub`); `model` is the network's name. The last layer starts anew, since its classes are others; with `whole`
    it is filled too. Raises ModelError where there are no such weights, where they are damaged, or where they lack or have a
    layer that the network has or lacks.
    """
    path = _path_of(weights, model)
    state = read_weights(path)
    digest = check_digits(path)
    own, head = network.state_dict(), head_of(network)[0]
    skipped = () if whole else tuple(name for name in own if name.startswith(f"{head}."))
    found = _named_alike(state, own, head)
    if _faults(found, own, head, whole):
        found = _by_library(found, network)
    faults = _faults(found, own, head, whole)
    if faults:
        raise ModelError(f"weights {path} do not fit the network {model!r}{_maker(path)}: {'; '.join(faults)}")
    network.load_state_dict({name: found[name] for name in own if name in found and name not in skipped}, strict=False)
    return digest


def read_weights(path: Path | str) -> State:
    """Return name -> tensor of a safetensors file or a torch state dict (a nested `state_dict` is opened).

    Raises ModelError where the file is missing, or holds anything else.
    """
    path = _path_of(path, "")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no dict)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"weights {path} cannot be read: {error}") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError):  # whose texts advise to run the file's code
        raise ModelError(f"weights {path} cannot be read: no state dict that torch.load(weights_only=True) takes. Save the "
                         "network's state_dict(), or a .safetensors file") from None
    nested = next((state[key] for key in ("state_dict", "model_state_dict", "model")
                   if isinstance(state, Mapping) and isinstance(state.get(key), Mapping)), state)
    tensors = {str(name): value for name, value in nested.items() if isinstance(value, torch.Tensor)} \
        if isinstance(nested, Mapping) else {}
    if not tensors:
        raise ModelError(f"weights {path} hold no tensors by name: save a network's state_dict()")
    return tensors


def card_of(path: Path | str) -> dict[str, Any]:
    """Return what a classifier of gilt's says of itself; {} for any other file."""
    try:
        with safe_open(path, "pt") as file:
            card = json.loads((file.metadata() or {}).get("gilt", "{}"))
    except (SafetensorError, OSError, ValueError):
        return {}
    return card if isinstance(card, dict) else {}


def check_digits(path: Path) -> str:
    """Return a file's SHA-256. Raises ModelError where its name ends in the beginning of another, as torchvision's names do."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    said = _DIGITS.search(path.name)
    if said and not digest.startswith(said[1]) and not _DATE.fullmatch(said[1]):
        raise ModelError(f"weights {path} are damaged or another file: by the name, their SHA-256 begins with {said[1]}, but "
                         f"it begins with {digest[:len(said[1])]}. Download them again; or rename the file, where "
                         "the digits mean something else")
    return digest


def _path_of(weights: Path | str, model: str) -> Path:
    if isinstance(weights, str) and named_weights(weights):
        return located(weights, model=model)
    path = Path(weights)
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise ModelError(f"weights {path} {kind}: train.weights names a local file, 'pretrained', or 'hf:OWNER/NAME'")
    return path


def _faults(found: State, own: Mapping[str, torch.Tensor], head: str, whole: bool) -> list[str]:
    """Return what speaks against filling a network that holds `own` from `found`, in words."""
    wanted, theirs = ({name for name in names if whole or not name.startswith(f"{head}.")} for names in (own, found))
    missing = sorted(name for name in wanted - theirs if not name.endswith("num_batches_tracked"))  # old files have none
    other = sorted(name for name in wanted & theirs if own[name].shape != found[name].shape)
    faults = []
    if missing:
        faults.append(f"it lacks {listed(missing, most=3)}")
    if theirs - wanted:
        faults.append(f"the network has no {listed(sorted(theirs - wanted), most=3)}")
    if other:
        name = other[0]
        hint = ": the classes are others" if all(name.startswith(f"{head}.") for name in other) else ""
        faults.append(f"{name} is {_shape(found[name])}, not {_shape(own[name])}"
                      + (f" ({len(other)} such)" if len(other) > 1 else "") + hint)
    return faults


def _named_alike(state: State, own: Mapping[str, torch.Tensor], head: str) -> State:
    """Return `state` under the network's names: without a wrapper's prefix, or with that of our backbones, as fits best.

    Of a pair of towers (CLIP's) the one for images is taken.
    """
    towers = {name.removeprefix("visual."): value for name, value in state.items() if name.startswith("visual.")}
    choices = [{name.removeprefix(wrapper): value for name, value in state.items()} for wrapper in _WRAPPERS]
    choices += [towers] if towers else []
    body = next((name.partition(".")[0] + "." for name in own if not name.startswith(f"{head}.")), "")
    choices += [{body + name: value for name, value in choice.items()} for choice in choices]
    return max(choices, key=lambda names: len(names.keys() & own.keys()))


def _by_library(found: State, network: nn.Module) -> State:
    """Return `found` as the network's library itself would adapt it: older names, a grid of positions for other pixels."""
    for prefix, module in network.named_children():
        home = type(module).__module__
        adapt = getattr(sys.modules[home], "checkpoint_filter_fn", None) if home.startswith("timm.") else None
        adapt = _open_clip_positions if home.startswith("open_clip.") else adapt
        if adapt:
            plain = {name.removeprefix(f"{prefix}."): value for name, value in found.items()}
            try:
                return {f"{prefix}.{name}": value for name, value in adapt(plain, module).items()}
            except (KeyError, IndexError, RuntimeError, ValueError, AttributeError, AssertionError):
                return found  # weights of something else: the caller says what does not fit
    return found


def _open_clip_positions(state: State, tower: nn.Module) -> State:
    from open_clip.model import resize_pos_embed

    named = {f"visual.{name}": value for name, value in state.items()}
    resize_pos_embed(named, SimpleNamespace(visual=tower))
    return {name.removeprefix("visual."): value for name, value in named.items()}


def _maker(path: Path) -> str:
    """Return which network a classifier of gilt's holds, in brackets; "" for other files."""
    card = card_of(path)
    try:
        return f" (they are those of {card['model']!r}, {card['preprocessing']['size']} pixels)"
    except (KeyError, TypeError):
        return ""


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"
