"""The metadata baseline: a classifier that is told what a file says of itself, and never sees a pixel.

Where it does well, so can any network, without a look at the picture (Grommelt et al. 2024, arXiv:2403.17608).

Shapes: N rows, B batch, D facts.
"""
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from gilt.models.registry import register
from gilt.training import METADATA

COLUMNS = ("width", "height", "bytes", "quality", "format", "mode")  # of a scanned table, that the facts are made of
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")
MODES = ("RGB", "RGBA", "L", "LA", "P", "PA", "1", "CMYK", "YCbCr", "I;16", "I", "F")
FACTS = ("width", "height", "aspect", "bytes", "bytes per pixel", "JPEG quality", "has a quality",
         *FORMATS, "another format", *MODES, "another mode")
FARTHEST = 10.0  # deviations from the training rows' mean that a fact counts, at most


class Metadata(nn.Module):
    """One dense layer on standardised facts (B, D): logits. A fact that never differed in training says nothing."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(len(FACTS)))
        self.register_buffer("scale", torch.ones(len(FACTS)))
        self.head = nn.Linear(len(FACTS), outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def fit(self, facts_ND: np.ndarray) -> None:
        """Take mean and deviation from training rows."""
        mean, deviation = facts_ND.mean(0), facts_ND.std(0)
        known = deviation > 1e-6
        self.mean.copy_(torch.from_numpy(mean))
        self.scale.copy_(torch.from_numpy(np.where(known, 1 / np.where(known, deviation, 1), 0)))

    def standardised(self, facts_BD: torch.Tensor) -> torch.Tensor:
        """Return facts in deviations from the training rows' mean: what goes into the last layer."""
        return ((facts_BD - self.mean) * self.scale).clamp(-FARTHEST, FARTHEST)

    def forward(self, facts_BD: torch.Tensor) -> torch.Tensor:
        return self.head(self.standardised(facts_BD))


@register(METADATA, input_size=1, family="baseline", source="what files say of themselves: no pixel (Grommelt et al. 2024)")
def metadata(outputs: int, input_size: int) -> nn.Module:
    """A dense layer on 29 facts of a file: size, aspect, bytes, JPEG quality, format, colour mode. 30 parameters a logit."""
    return Metadata(outputs)


def facts(columns: Mapping[str, Sequence[Any]]) -> np.ndarray:
    """Return facts float32 (N, D) from COLUMNS, one value a file each; `quality` is None where there is none.

    Pixels and bytes are in powers of two, quality in hundredths.
    """
    width, height, size = (np.maximum(np.asarray(columns[name], np.float64), 1) for name in ("width", "height", "bytes"))
    quality = np.array([0 if value is None or value != value else value for value in columns["quality"]], np.float64)
    numbers = [np.log2(width), np.log2(height), np.log2(width / height), np.log2(size), np.log2(size / (width * height)),
               quality / 100, quality > 0]
    kinds = [_one_of(columns["format"], FORMATS), _one_of(columns["mode"], MODES)]
    return np.hstack([np.stack(numbers, 1), *kinds]).astype(np.float32)


def _one_of(values: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Return (N, names + 1): 1 at each value's name, or at the end where it is none of them."""
    places = {name: place for place, name in enumerate(names)}
    return np.eye(len(names) + 1)[[places.get(value, len(names)) for value in values]]
