"""Simple statistics of images, one number each: what one may look at before any network does."""
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from gilt.data.facts import LUMA, reduced
from gilt.data.pixels import UNREADABLE, open_image
from gilt.data.shortcuts import fine_energy
from gilt.data.table import ImageTable

SIMPLE = {
    "brightness": "mean light, 0 to 1",
    "contrast": "standard deviation of light",
    "saturation": "mean of the largest minus the smallest colour, 0 to 1",
    "sharpness": "standard deviation of the Laplacian, over contrast",
    "detail": "log10 of the part of energy in the finest half of frequencies, at the file's own resolution",
    "entropy": "of the 256 levels of light, bits",
    "width": "pixels",
    "height": "pixels",
    "bytes": "size of the file",
}
DECODED = 1_000  # images of an origin whose detail and entropy are measured, at most: those need the whole file


def simple_statistics(table: ImageTable, *, seed: int = 0) -> pd.DataFrame:
    """Return the statistics SIMPLE, float (one row an image, in order); NaN where not measured.

    Those that the scan measured are the table's; detail and entropy are measured here, on at most DECODED images of an origin.
    """
    frame = table.frame
    found = pd.DataFrame(index=frame.index)
    for name in SIMPLE:
        found[name] = frame[name].astype("Float64").astype(float) if name in frame else np.nan
    chosen = frame.sample(frac=1, random_state=seed).groupby("origin").head(DECODED).index
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        paths = [table.root / path for path in frame["path"][chosen]]
        found.loc[chosen, "detail"] = list(pool.map(fine_energy, paths))
        found.loc[chosen, "entropy"] = list(pool.map(entropy, paths))
    return found


def entropy(path: Path) -> float:
    """Return the entropy of an image's levels of light, bits: 0 for one colour, 8 at most; NaN where it cannot be read."""
    try:
        with open_image(path) as image:
            luma = np.asarray(reduced(image), np.float32) @ LUMA
    except UNREADABLE:
        return np.nan
    shares = np.bincount(luma.round().astype(int).ravel()) / luma.size
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum())
