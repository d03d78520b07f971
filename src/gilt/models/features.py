"""Frozen features: what goes into a network's last layer, and new points between them.

Shapes: N rows, B batch, D features, C classes.
"""
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from gilt.errors import MissingExtraError, ModelError
from gilt.models.fitted import FittedHead

log = logging.getLogger(__name__)
NEIGHBOURS = 5  # of SMOTE, as its paper has it


def head_of(network: nn.Module) -> tuple[str, nn.Linear | FittedHead]:
    """Return the name and the layer that frozen training trains: the last dense one, or what was fitted in its place.

    Raises ModelError for none.
    """
    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, (nn.Linear, FittedHead))]
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
