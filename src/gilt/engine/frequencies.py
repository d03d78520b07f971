"""From image files to mean spectra by origin: the middle of each image, at its own resolution.

Resizing would take away what is looked for, so images are cropped, not scaled.
"""
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from gilt.data.containers import reads_forward
from gilt.data.pixels import UNREADABLE, open_image, plain_rgb, upright
from gilt.errors import counted
from gilt.evaluation.spectra import Spectrum, SpectrumGatherer

LARGEST, SMALLEST = 256, 16  # pixels of the crop's side
TINY = 0.1  # of the images may be smaller than the crop, and are left out
PIECE = 64  # crops in memory


def spectra_of(paths: Sequence[Path], groups: Sequence[str]) -> tuple[dict[str, Spectrum], int, list[str]]:
    """Return (mean spectrum by group, side of the crops in pixels, notes) of images and the group that each is in.

    Images that cannot be read, or are smaller than the crop, are left out and counted in a note. No spectrum where nine
    images in ten are not at least 16 pixels wide and high.
    """
    alone = any(reads_forward(folder / "x") for folder in {path.parent for path in paths})
    with ThreadPoolExecutor(1 if alone else os.cpu_count() or 1) as pool:
        sides = [side for side in pool.map(_side, paths) if side]
        size = min(LARGEST, int(np.quantile(sides, TINY, method="lower"))) if sides else 0
        size -= size % 2
        if size < SMALLEST:
            return {}, 0, [f"no spectra: the images are not {SMALLEST} pixels wide and high"] if sides else []
        gatherers = {name: SpectrumGatherer(name, size) for name in dict.fromkeys(groups)}
        missing = 0
        for first in range(0, len(paths), PIECE):
            part = slice(first, first + PIECE)
            for name, crop in zip(groups[part], pool.map(lambda path: _crop(path, size), paths[part]), strict=True):
                if crop is None:
                    missing += 1
                else:
                    gatherers[name].add(crop)
    why = f"spectra without {counted(missing, 'image')}: unreadable, or smaller than {size} x {size} pixels"
    return {name: one.result() for name, one in gatherers.items() if one.profiles}, size, [why] if missing else []


def _side(path: Path) -> int:
    try:
        with open_image(path) as image:
            return min(image.size)
    except UNREADABLE:
        return 0


def _crop(path: Path, size: int) -> np.ndarray | None:
    """Return the middle of an image, uint8 (size, size, 3); None where it cannot be read or is smaller."""
    try:
        with open_image(path) as image:
            turned = upright(image)
            left, top = (turned.width - size) // 2, (turned.height - size) // 2
            return np.asarray(plain_rgb(turned.crop((left, top, left + size, top + size)))) if min(left, top) >= 0 else None
    except UNREADABLE:
        return None
