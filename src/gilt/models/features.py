"""Frozen features: what goes into a network's last layer, and the weights of others that make it worth having.

Shapes: N rows, B batch, D features, C classes.
"""
import json
import logging
import pickle
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from gilt.errors import MissingExtraError, ModelError, listed

log = logging.getLogger(__name__)
NEIGHBOURS = 5  # of SMOTE, as its paper has it


def head_of(network: nn.Module) -> tuple[str, nn.Linear]:
    """Return the name and the layer that frozen training trains: the last dense one. Raises ModelError for none."""
    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    if not layers:
        raise ModelError("train.frozen trains the last dense layer, and this network has none: choose another train.model")
    return layers[-1]


@torch.inference_mode()
def features_of(network: nn.Module, batches: Iterable[torch.Tensor]) -> Iterator[np.ndarray]:
    """Yield features float32 (B, D) for each batch of images: what goes into `head_of(network)`, in eval mode.

    Raises ModelError where that layer's output is not the network's own: training it alone would not train the logits.
    """
    network.eval()
    name, head = head_of(network)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    handle = head.register_forward_hook(lambda _layer, inputs, out: seen.append((inputs[0], out)))
    try:
        for images_BCHW in batches:
            seen.clear()
            out = network(images_BCHW)
            if len(seen) != 1 or seen[0][1] is not out:
                raise ModelError(f"train.frozen trains the last dense layer, and something follows {name!r} in this network: "
                                 "choose another train.model")
            yield seen[0][0].float().cpu().numpy()
    finally:
        handle.remove()


def load_weights(network: nn.Module, path: Path | str, *, model: str = "") -> None:
    """Fill every layer of `network` but the last from a file, in place; the last starts anew: its classes are others.

    The file is a classifier of gilt's, plain safetensors, or a torch state dict (read without running any of its code).
    Raises ModelError where it is missing, is none of these, or lacks or has a layer that the network has or lacks.
    """
    path = Path(path)
    head, own = head_of(network)[0], network.state_dict()
    found = _named_alike(read_weights(path), own)
    wanted = {name for name in own if not name.startswith(f"{head}.")}
    theirs = {name for name in found if not name.startswith(f"{head}.")}
    missing = sorted(name for name in wanted - theirs if not name.endswith("num_batches_tracked"))  # old files have none
    other = sorted(name for name in wanted & theirs if own[name].shape != found[name].shape)
    faults = []
    if missing:
        faults.append(f"it lacks {listed(missing, most=3)}")
    if theirs - wanted:
        faults.append(f"the network has no {listed(sorted(theirs - wanted), most=3)}")
    if other:
        name = other[0]
        faults.append(f"{name} is {_shape(found[name])}, not {_shape(own[name])}"
                      + (f" ({len(other)} such)" if len(other) > 1 else ""))
    if faults:
        raise ModelError(f"weights {path} do not fit the network {model!r}{_maker(path)}: {'; '.join(faults)}")
    network.load_state_dict({name: found[name] for name in wanted & theirs}, strict=False)


def read_weights(path: Path | str) -> dict[str, torch.Tensor]:
    """Return name -> tensor of a safetensors file or a torch state dict (a nested `state_dict` is opened).

    Raises ModelError where the file is missing, or holds anything else.
    """
    path = Path(path)
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise ModelError(f"weights {path} {kind}: train.weights names a local file (gilt downloads none)")
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


def _named_alike(state: dict[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return `state` under the network's names: without DataParallel's prefix, or with that of our backbones, as fits best."""
    plain = {name.removeprefix("module."): value for name, value in state.items()}
    ours = {f"body.{name}": value for name, value in plain.items()}
    return max((plain, ours), key=lambda names: len(names.keys() & own.keys()))


def _maker(path: Path) -> str:
    """Return which network a classifier of gilt's holds, in brackets; "" for other files."""
    if path.suffix != ".safetensors":
        return ""
    with safe_open(path, "pt") as file:
        card: dict[str, Any] = json.loads((file.metadata() or {}).get("gilt", "{}"))
    return f" (they are those of {card['model']!r}, {card['preprocessing']['size']} pixels)" if "model" in card else ""


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def smote_class() -> Any:
    """Return imbalanced-learn's SMOTE. Raises MissingExtraError where it is not installed."""
    try:
        from imblearn.over_sampling import SMOTE
    except ImportError:
        raise MissingExtraError("imbalanced-learn", "balance") from None
    return SMOTE


def smote(features_ND: np.ndarray, labels_N: np.ndarray, wanted: Mapping[int, int], *, seed: int
          ) -> tuple[np.ndarray, np.ndarray]:
    """Return features and labels with new points after the old ones, so that each label comes to `wanted` rows.

    SMOTE (Chawla et al. 2002, by imbalanced-learn): a new point lies between a row and one of its 5 nearest neighbours of
    its class. A class of 5 rows or fewer has fewer neighbours, and a single row is repeated: both are noted.
    """
    kind = smote_class()
    counts = {label: int((labels_N == label).sum()) for label in wanted}
    short = {label: size for label, size in wanted.items() if size > counts[label]}
    by_neighbours: dict[int, dict[int, int]] = {}
    for label, size in short.items():
        by_neighbours.setdefault(min(NEIGHBOURS, counts[label] - 1), {})[label] = size
    features, labels = [features_ND], [labels_N]
    for neighbours, sizes in sorted(by_neighbours.items()):
        if neighbours:
            made = kind(sampling_strategy=sizes, k_neighbors=neighbours, random_state=seed).fit_resample(features_ND, labels_N)
            features.append(made[0][len(labels_N):].astype(np.float32))
            labels.append(made[1][len(labels_N):])
        for label, size in ({} if neighbours else sizes).items():
            features.append(np.repeat(features_ND[labels_N == label], size - 1, 0))
            labels.append(np.full(size - 1, label, labels_N.dtype))
    few = [label for label in short if counts[label] <= NEIGHBOURS]
    if few:
        log.warning("SMOTE takes fewer than %d neighbours in %d classes of so few rows%s", NEIGHBOURS, len(few),
                    "; single rows are repeated" if 0 in by_neighbours else "")
    return np.concatenate(features), np.concatenate(labels)
