"""What a generator learns from: training rows of a table, decoded once, as batches of images in [-1, 1].

Shapes: N rows, B batch, K channels (1 where every image is grey, else 3), H W pixels. Val and test rows are never read here.
"""
import logging

import numpy as np
import pandas as pd
import torch

from gilt.config import REAL, Preprocessing
from gilt.data.pixels import PixelCache
from gilt.data.seen import seen_hashes
from gilt.data.split import split
from gilt.data.table import ImageTable
from gilt.engine.batches import Batches
from gilt.errors import ConfigError, TableError, counted, listed, near
from gilt.generators.config import GeneratorConfig
from gilt.generators.draws import Draws

log = logging.getLogger(__name__)
FEW = 50  # images of a class, below which a generator mostly learns them by heart
PIECE = 4096  # images looked at for colour at a time


class Material:
    """The rows to learn from, their classes, and the settings resolved for them.

    `mode` is Pillow's for the images to come: "L" where all are grey, else "RGB". `seen` holds the SHA-256 of every image, also
    of those that made images among them go back to. Raises TableError and ConfigError for rows that cannot be learnt from.
    """

    def __init__(self, table: ImageTable, config: GeneratorConfig, *, seed: int, cache: PixelCache) -> None:
        self.rows = learnt_rows(table, config, seed=seed)
        frame = self.rows.frame
        self.classes = tuple(self.rows.classes)
        sides = frame[["width", "height"]].min(axis=1).astype(float)
        self.config = config.resolved(images=len(frame), side=64 if np.isnan(sides.median()) else int(sides.median()))
        self.seen = sorted({*frame["sha256"].dropna(), *seen_hashes(self.rows)})
        pack, self.places = cache.pixels(self.rows.paths, list(frame["sha256"]), self.preprocessing)
        self.labels = frame["class"].map({name: i for i, name in enumerate(self.classes)}).to_numpy(np.int64)
        self.pack = pack
        self.mode = "L" if _grey(pack, self.places) else "RGB"
        self.flips = self._flipped()

    @property
    def preprocessing(self) -> Preprocessing:
        """How a file becomes pixels."""
        return Preprocessing(size=self.config.size)

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for colour."""
        return 1 if self.mode == "L" else 3

    def on(self, device: torch.device) -> "Material":
        """Put labels, and on CUDA the pixels where they fit, on the device; return self."""
        self.batches = Batches(self.pack, self.places, self.labels, device)
        self.flips_C = torch.from_numpy(self.flips).to(device)
        return self

    def batch(self, draws: Draws) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (images_BKHW in [-1, 1], labels_B) of rows drawn with replacement."""
        rows = draws.whole(len(self.labels), self.config.batch_size)
        labels_B = self.batches.labels[rows]
        images = self.batches.images(rows if self.batches.uploaded is not None else rows.cpu())[:, :self.channels] * 2 - 1
        turn = (draws.uniform(len(rows)) < 0.5) & self.flips_C[labels_B]
        return torch.where(turn[:, None, None, None], images.flip(3), images), labels_B

    def examples(self, label: int, count: int) -> np.ndarray:
        """Return the first `count` images of a class as uint8 (n, H, W, K)."""
        return self.pack[self.places[self.labels == label][:count]][..., :self.channels]

    def _flipped(self) -> np.ndarray:
        """Return for each class whether it may be mirrored."""
        flip = self.config.flip
        if isinstance(flip, bool):
            return np.full(len(self.classes), flip)
        if unknown := next((name for name in flip if name not in self.classes), None):
            raise ConfigError(f"flip names no class {unknown!r} (has: {listed(self.classes)})."
                              f"{near(unknown, self.classes)}")
        return np.isin(self.classes, flip)


def learnt_rows(table: ImageTable, config: GeneratorConfig, *, seed: int) -> ImageTable:
    """Return the training rows that a generator learns from; rows without a split are dealt first, as `gilt train` does.

    Raises TableError where there are none, or some have no class.
    """
    table = table.usable
    picked = table.pick(config.classes, config.generators)
    if (undealt := picked.frame["split"].isna()).any():
        log.warning("%s without a split dealt by seed %d. A study that deals them otherwise will be refused, for its test "
                    "would hold what this generator saw: deal them once with gilt split, and use that table for both",
                    counted(int(undealt.sum()), "row"), seed if config.split.seed is None else config.split.seed)
    rows = split(picked, config.split, target="class", seed=seed).usable.where(split="train")
    if config.learn != "all":
        rows = rows.real if config.learn == "real" else rows.generated
    if not len(rows):
        kind = {"real": "real ", "generated": "generated ", "all": ""}[config.learn]
        raise TableError(f"there is no {kind}training row to learn from (origins: {listed(picked.origins)}; "
                         f"learn={config.learn!r}; {REAL} rows are photographs)")
    if count := int(rows.frame["class"].isna().sum()):
        raise TableError(f"{counted(count, 'training row')} without a class, such as "
                         f"{rows.frame['path'][rows.frame['class'].isna()].iloc[0]}: scan with a layout that says {{class}}")
    _warn_of_few(rows.frame["class"].value_counts())
    return rows


def _warn_of_few(counts: pd.Series) -> None:
    if (low := int(counts.min())) < FEW:
        log.warning("the class %r has %s to learn from: of so few a generator mostly makes copies. gilt similarity counts them",
                    counts.idxmin(), counted(low, "image"))


def _grey(pack: np.ndarray, places: np.ndarray) -> bool:
    for first in range(0, len(places), PIECE):
        piece = pack[places[first:first + PIECE]]
        if (piece[..., :1] != piece[..., 1:]).any():
            return False
    return True
