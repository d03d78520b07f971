"""Batches: pixels to float images on the device.

Shapes: N images, B batch, H W pixels. Pixels stay uint8 (N, H, W, 3) until a batch is asked for; on CUDA the whole set
is uploaded once where it fits, on the CPU it stays in the memory map.
"""
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

GPU_PART = 0.5  # of the free device memory that pixels may take


class Batches:
    """The rows of one split: a pack of pixels, the rows' places in it, their labels, and how often each is drawn.

    With `window` an image is a square part of its pixels, of so many a side: another one each time where the order is drawn.
    """

    def __init__(self, pack: np.ndarray, rows: np.ndarray, labels: np.ndarray, device: torch.device,
                 times: np.ndarray | None = None, *, upload: bool = True, window: int | None = None) -> None:
        self.pack, self.rows, self.device, self.window = pack, rows, device, window
        self.labels = torch.from_numpy(np.array(labels, np.int64)).to(device)
        self.draws = torch.from_numpy(np.repeat(np.arange(len(rows)), 1 if times is None else times))
        self.uploaded = self._upload() if upload and device.type == "cuda" else None

    def __len__(self) -> int:
        return len(self.draws)

    def epoch(self, size: int, *, shuffle: torch.Generator | None = None
              ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (images_BCHW float32 in [0, 1], channels-last; labels_B int64), all rows once (or as often as drawn).

        `shuffle` is the generator that draws the order; None keeps the rows' order.
        """
        order = torch.arange(len(self)) if shuffle is None else torch.randperm(len(self), generator=shuffle)
        chosen = self.draws[order]
        there = chosen.to(self.device)  # once an epoch: no step waits for a copy
        for rows, labels in zip((chosen if self.uploaded is None else there).split(size), there.split(size), strict=True):
            yield self.images(rows, shuffle), self.labels[labels]

    def images(self, chosen: torch.Tensor, drawn: torch.Generator | None = None) -> torch.Tensor:
        """Return the chosen rows as images_BCHW float32 in [0, 1], channels-last, on the device.

        `drawn` draws where windows lie; None: in the middle.
        """
        places = self._places(len(chosen), drawn)
        if self.uploaded is not None:
            rows = chosen.to(self.device)
            held = self.uploaded
            pixels_BHWC = held[rows] if places is None else torch.stack(self._cut(held, rows.tolist(), places))
        else:
            rows = self.rows[chosen.numpy()]
            pixels_BHWC = torch.from_numpy(self.pack[rows] if places is None else np.stack(self._cut(self.pack, rows, places)))
            if self.device.type == "cuda":  # from pinned memory the copy runs beside the computing
                pixels_BHWC = pixels_BHWC.pin_memory().to(self.device, non_blocking=True)
        return to_images(pixels_BHWC)

    def _places(self, count: int, drawn: torch.Generator | None) -> list[list[int]] | None:
        """Return (top, left) of so many windows; None where an image is seen whole."""
        if self.window is None or self.window == self.pack.shape[1]:
            return None
        spare = self.pack.shape[1] - self.window
        middle = torch.full((count, 2), spare // 2)
        return (middle if drawn is None else torch.randint(spare + 1, (count, 2), generator=drawn)).tolist()

    def _cut(self, pixels: Any, rows: Iterable[int], places: list[list[int]]) -> list[Any]:
        side = self.window
        return [pixels[row, top:top + side, left:left + side] for row, (top, left) in zip(rows, places, strict=True)]

    def _upload(self) -> torch.Tensor | None:
        size = len(self.rows) * int(np.prod(self.pack.shape[1:]))
        if size > GPU_PART * torch.cuda.mem_get_info(self.device)[0]:
            return None
        pixels = torch.empty((len(self.rows), *self.pack.shape[1:]), dtype=torch.uint8, device=self.device)
        for first in range(0, len(self.rows), 4096):  # in pieces: a copy of the whole set need not fit in memory
            piece = self.pack[self.rows[first:first + 4096]]
            pixels[first:first + len(piece)] = torch.from_numpy(piece).to(self.device)
        return pixels


def to_images(pixels_BHWC: torch.Tensor) -> torch.Tensor:
    """Return uint8 pixels (B, H, W, 3) as images_BCHW float32 in [0, 1]; the permutation is the channels-last layout."""
    return pixels_BHWC.permute(0, 3, 1, 2).float().div_(255)
