"""Frozen training: every image goes through the network's body once, and only its last layer is trained on the features.

The baseline without pixels takes this road too: its features are what files say of themselves.

Shapes: N rows, D features. Features are kept by content beside the pixels, so all trials of a study share them.
"""
import hashlib
import json
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from safetensors.numpy import load_file, save_file
from torch import nn

from gilt.config import Preprocessing
from gilt.data.pixels import PixelCache
from gilt.data.table import ImageTable
from gilt.data.ties import links, units
from gilt.engine.batches import Batches
from gilt.errors import ConfigError, TableError
from gilt.files import atomic_path
from gilt.models.features import features_of, head_of, smote
from gilt.models.metadata import COLUMNS, Metadata, facts

log = logging.getLogger(__name__)
BATCH = 64


class FrozenFeatures:
    """The features that one body gives to images, computed once: float32 (D,) by the SHA-256 of the image's file.

    `model` and `arguments` are those that the network was made with: a body of other settings is another body.
    """

    def __init__(self, network: nn.Module, model: str, preprocessing: Preprocessing, cache: PixelCache,
                 arguments: Mapping[str, Any] | None = None) -> None:
        self.network, self.preprocessing, self.cache = network, preprocessing, cache
        self.device = device_of(network)
        said = f"{model} {preprocessing.model_dump_json()} {json.dumps(arguments or {}, sort_keys=True)}"
        self.path = cache.folder / f"features-{_body_name(network, said)}.safetensors"

    def of(self, table: ImageTable) -> np.ndarray:
        """Return features (N, D), one row an image of the table. Raises ImageError for an image that cannot be read."""
        if isinstance(self.network, Metadata):
            with torch.inference_mode():
                return self.network.standardised(torch.from_numpy(facts_of(table)).to(self.device)).cpu().numpy()
        known = self._read()
        missing = table.where(lambda frame: ~frame["sha256"].isin(known) & ~frame["sha256"].duplicated())
        if len(missing):
            known |= self._compute(missing)
            with FileLock(f"{self.path}.lock"):
                known |= self._read()  # another process may have added others
                self._write(known)
        return np.stack([known[digest] for digest in table.frame["sha256"]])

    def _compute(self, rows: ImageTable) -> dict[str, np.ndarray]:
        digests = list(rows.frame["sha256"])
        pack, places = self.cache.pixels(rows.paths, digests, self.preprocessing)
        log.info("computing the features of %s images, once", f"{len(rows):,}")
        batches = Batches(pack, places, np.zeros(len(rows)), self.device)
        made = features_of(self.network, (images for images, _ in batches.epoch(BATCH)))
        return dict(zip(digests, (row for batch in made for row in batch), strict=True))

    def _read(self) -> dict[str, np.ndarray]:
        if not self.path.is_file():
            return {}
        held = load_file(self.path)
        return {bytes(digest).hex(): row for digest, row in zip(held["sha256"], held["features"], strict=True)}

    def _write(self, known: dict[str, np.ndarray]) -> None:
        digests = np.array([np.frombuffer(bytes.fromhex(digest), np.uint8) for digest in known])
        with atomic_path(self.path) as temporary:
            save_file({"sha256": digests, "features": np.stack(list(known.values()))}, temporary)


def _body_name(network: nn.Module, said: str) -> str:
    """Return 16 hexadecimal digits that name the body's weights and what it is shown: equal bodies share their features."""
    head = head_of(network)[0]
    digest = hashlib.sha256(said.encode())
    own = {**network.state_dict(), **dict(network.named_buffers())}  # also those that no file keeps, such as a colour's mean
    for name, tensor in own.items():
        if not name.startswith(f"{head}."):
            digest.update(name.encode() + tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def device_of(network: nn.Module) -> torch.device:
    """Return the device that a network's weights are on, also of one whose weights are all fitted."""
    return next(tensor.device for tensors in (network.parameters(), network.buffers()) for tensor in tensors)


def facts_of(table: ImageTable) -> np.ndarray:
    """Return what a table says of its files, float32 (N, D), for the network `metadata`. Raises TableError for a gap."""
    for name in COLUMNS:
        gaps = table.frame[name].isna()
        if name != "quality" and gaps.any():
            raise TableError(f"{int(gaps.sum())} rows have no {name}, such as {table.frame['path'][gaps].iloc[0]}: the model "
                             "'metadata' needs what gilt scan measures")
    return facts({name: table.frame[name].to_numpy(object, na_value=None) for name in COLUMNS})


def learn_scales(network: nn.Module, rows: ImageTable) -> None:
    """Let the network `metadata` take its facts' means and deviations from training rows; nothing for other networks."""
    if isinstance(network, Metadata):
        network.fit(facts_of(rows))


def tied(rows: ImageTable) -> np.ndarray:
    """Return int64 (N,): the same number for rows of equal content, near-duplicates, and images of one source."""
    return units(links(rows.frame, ("group",)))


class FeatureBatches(Batches):
    """The rows of one split as features, in place of pixels. `groups` (N,) says which belong together: see `tied`.

    Features beyond the groups given are SMOTE's, and in group -1.
    """

    def __init__(self, features_ND: np.ndarray, labels: np.ndarray, device: torch.device,
                 groups: np.ndarray | None = None) -> None:
        super().__init__(features_ND, np.arange(len(labels)), labels, device, upload=False)
        self.features = torch.from_numpy(features_ND).to(device)
        groups = np.arange(len(labels)) if groups is None else groups
        self.groups = np.concatenate([groups, np.full(len(labels) - len(groups), -1)])

    def images(self, chosen: torch.Tensor, drawn: torch.Generator | None = None) -> torch.Tensor:
        """Return the chosen rows' features (B, D), on the device."""
        return self.features[chosen.to(self.device)]


def smoted(features_ND: np.ndarray, labels_N: np.ndarray, rows: ImageTable, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the features and labels with the points that the column `smote_to` asks for: none without it."""
    if not wants_smote(rows):
        return features_ND, labels_N
    wanted = rows.frame["smote_to"].groupby(labels_N).max()
    return smote(features_ND, labels_N, {int(label): int(size) for label, size in wanted.items()}, seed=seed)


def wants_smote(rows: ImageTable) -> bool:
    """Tell whether training rows ask for SMOTE."""
    return "smote_to" in rows.frame and bool((rows.frame["smote_to"] > 0).any())


def check_smote(rows: ImageTable, frozen: bool) -> None:
    """Raise ConfigError where training rows ask for SMOTE and there will be no features to put points between."""
    if wants_smote(rows) and not frozen:
        raise ConfigError("the training rows ask for SMOTE (balance 'smote'), which makes new points between frozen features, "
                          "not between images: set train.frozen=true (with train.weights), or choose another balance")
