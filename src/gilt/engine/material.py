"""What a training learns from: the rows of a table as batches, labels and class weights. Test rows are never read here.

Shapes: N rows, D features, C classes.
"""
import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from gilt.config import Preprocessing, TrainConfig
from gilt.data.balance import times
from gilt.data.pixels import PixelCache
from gilt.data.table import ImageTable, in_order
from gilt.engine.batches import Batches
from gilt.engine.frozen import FeatureBatches, FrozenFeatures, check_smote, learn_scales, smoted, tied
from gilt.errors import ConfigError, TableError, listed
from gilt.models.zoo import find
from gilt.training import Encoding

log = logging.getLogger(__name__)
AROUND = 2  # times the side of a crop: what is kept of each training image, for crops to be taken from
SMALL = 0.05  # of the images may be smaller than what all are brought to
MOST_SIDE = 512  # pixels of the side that `equalise` chooses by itself, at most
HALF_FROM = 64  # pixels that half of a side must have


class Material:
    """The train and val rows of a table, and the names of the logits.

    `classes` names the logits where the training rows may lack a class that another arm has.
    Raises TableError (no train rows, one class only) and ConfigError (settings that these rows do not go with).
    """

    def __init__(self, table: ImageTable, config: TrainConfig, classes: Sequence[str] | None) -> None:
        self.config = config
        self.rows = {name: table.where(split=name) for name in ("train", "val")}
        check_smote(self.rows["train"], config.frozen)
        self.classes = _classes(self.rows["train"], self.rows["val"], config.target, classes)
        self.outputs = outputs_of(config, len(self.classes))
        check_monitor(config, len(self.rows["val"]))
        self.preprocessing = preprocessing_of(config, table.where(split=["train", "val"]))

    def batches(self, network: nn.Module, cache: PixelCache, *, seed: int) -> dict[str, Batches]:
        """Return the batches of train, and of val where it has rows, on the network's device.

        With `train.frozen` they hold features of the network's body, the training rows' with the points that SMOTE adds.
        """
        make = self._features if self.config.frozen else self._pixels
        return {name: make(name, network, cache, seed) for name, rows in self.rows.items() if len(rows)}

    def class_weights(self, device: torch.device) -> torch.Tensor | None:
        """Return float32 (C,) to weigh each class's loss with, from the column `loss_weight`; None without it."""
        rows = self.rows["train"]
        if "loss_weight" not in rows.frame:
            return None
        weights = rows.frame["loss_weight"].astype(float).groupby(self._labels(rows)).mean()
        return torch.tensor(weights.reindex(range(len(self.classes))).fillna(1).to_numpy(np.float32), device=device)

    def _labels(self, rows: ImageTable) -> np.ndarray:
        place = {name: i for i, name in enumerate(self.classes)}
        return rows.labels(self.config.target).map(place).to_numpy(np.int64)

    def _pixels(self, split: str, network: nn.Module, cache: PixelCache, _seed: int) -> Batches:
        rows, seen = self.rows[split], self.preprocessing
        window = seen.size if split == "train" and seen.fit == "crop" else None
        if window:  # more of each image than is seen at a time: every epoch takes another part of it
            seen = seen.model_copy(update={"size": min(AROUND * window, max(window, _side(rows, seen.equal)))})
        pack, places = cache.pixels(rows.paths, list(rows.frame["sha256"]), seen)
        drawn = times(rows).to_numpy() if split == "train" else None
        return Batches(pack, places, self._labels(rows), next(network.parameters()).device, drawn, window=window)

    def _features(self, split: str, network: nn.Module, cache: PixelCache, seed: int) -> Batches:
        rows = self.rows[split]
        if split == "train":
            learn_scales(network, rows)
        features = FrozenFeatures(network, self.config.model, self.preprocessing, cache, self.config.arguments).of(rows)
        labels, groups = self._labels(rows), tied(rows)
        if split == "train":
            drawn = times(rows).to_numpy()
            features, labels = smoted(np.repeat(features, drawn, 0), np.repeat(labels, drawn), rows, seed)
            groups = np.repeat(groups, drawn)
        return FeatureBatches(features, labels, next(network.parameters()).device, groups)


def preprocessing_of(config: TrainConfig, rows: ImageTable) -> Preprocessing:
    """Return how images are brought to the network: as the settings say, and else as large as these rows allow.

    Crops and equalised images have at most the shorter side of all but the smallest SMALL of the rows: those are mirrored
    outwards (a crop) or enlarged (equalised), so that a single tiny image does not decide for all.
    """
    equal = _equal(config.equalise, rows) if config.equalise else None
    design = find(config.model)
    size = config.image_size or design.input_size
    if config.fit == "crop":
        side = _side(rows, equal)
        if config.image_size is None:
            size = max(min(size, side), design.smallest)
        elif size > max(AROUND * side, design.smallest):
            raise ConfigError(f"train.image_size={size} asks for crops of {size} pixels, and the images have {side}: they "
                              "would be mirrored many times over. Leave train.image_size out, or set train.fit=stretch")
    return Preprocessing(size=size, fit=config.fit, equal=equal)


def _equal(asked: Encoding, rows: ImageTable) -> Encoding:
    """Return an encoding with all that it leaves open chosen from these rows.

    Images of several sizes are all shrunk to half the side or less, as far as that leaves HALF_FROM pixels: one that is shrunk
    and one that is left as it is would be told by that.
    """
    chosen: dict[str, int | None] = {}
    if asked.size is None:
        side = _side(rows)
        alike = rows.frame[["width", "height"]].drop_duplicates().shape[0] == 1
        chosen["size"] = min(side if alike or side < 2 * HALF_FROM else side // 2, MOST_SIDE)
    if asked.precompress == "auto":
        said = rows.frame["quality"][rows.frame["format"] == "JPEG"].dropna()
        chosen["precompress"] = int(said.astype(float).median()) if len(said) else None
    equal = asked.model_copy(update=chosen)
    log.info("every image is made %s", equal)
    return equal


def _side(rows: ImageTable, equal: Encoding | None = None) -> int:
    """Return the shorter side, in pixels, that all but the smallest SMALL of the images have. Raises TableError for a gap."""
    if equal:
        return equal.size
    gaps = rows.frame["width"].isna() | rows.frame["height"].isna()
    if gaps.any():
        raise TableError(f"{int(gaps.sum())} rows have no width and height, such as {rows.frame['path'][gaps].iloc[0]}: set "
                         "train.image_size (and train.equalise.size), or make the table with gilt scan")
    return int(np.quantile(rows.frame[["width", "height"]].min(axis=1).to_numpy(int), SMALL, method="lower"))


def outputs_of(config: TrainConfig, classes: int) -> int:
    """Return the number of logits for so many classes. Raises ConfigError for a binary loss of more than two."""
    if config.loss == "binary" and classes > 2:
        raise ConfigError(f"train.loss='binary' is for two classes; there are {classes}: use 'cross_entropy' or 'auto'")
    return 1 if classes == 2 and config.loss != "cross_entropy" else classes


def check_monitor(config: TrainConfig, n_val: int) -> None:
    """Raise ConfigError where a setting watches the val rows and there are none."""
    if n_val or config.head.kind != "linear":
        return
    watching = {"early_stopping": config.early_stopping is not None, f"keep='{config.keep}'": config.keep != "last",
                "schedule='plateau'": config.schedule == "plateau"}
    for setting in [name for name, watches in watching.items() if watches]:
        raise ConfigError(f"train.{setting} watches the val rows, and there are none: deal some (split.val=0.15, with "
                          "split.keep=false where the table has splits), or leave the setting out")


def _classes(train_rows: ImageTable, val_rows: ImageTable, target: str,
             classes: Sequence[str] | None) -> tuple[str, ...]:
    """Return the logits' names: `classes`, or the rows' own, sorted (real before generated, so 1 is generated)."""
    if not len(train_rows):
        raise TableError("the table has no train rows: split it first (gilt split), or scan with a layout that says {split}")
    labels = train_rows.labels(target)
    if labels.isna().any():
        raise TableError(f"{int(labels.isna().sum())} training rows have no {target}, such as "
                         f"{train_rows.frame['path'][labels.isna()].iloc[0]}: scan with a layout that says {{{target}}}")
    if labels.nunique() < 2:
        raise TableError(f"the training rows hold one {target} only ({labels.iloc[0]}): there is nothing to tell apart")
    everything = {*train_rows.names(target), *val_rows.names(target)}  # a rare class may have come to val alone
    names = list(classes or in_order(everything, target))
    strange = sorted(everything - set(names))
    if strange:
        raise TableError(f"{target} {listed(strange)} is not among the classes given")
    return tuple(names)
