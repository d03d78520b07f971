"""The page of a collection: its numbers and random samples by class and origin, in one HTML file that opens offline."""
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from gilt.data.overview import largest, overview, sampled
from gilt.data.table import ImageTable
from gilt.reports.pages import write_page
from gilt.reports.plots import COLOURS, svg
from gilt.reports.sections import class_name, headline, sections, size_text
from gilt.reports.thumbs import is_placeholder, thumbnail_uris

log = logging.getLogger(__name__)
CLASSES, ORIGINS, PICTURES = 30, 12, 480  # shown at most; 480 thumbnails of 96 pixels stay below 5 MB, noise included
SIDE = 96


def show(table: ImageTable, *, to: Path | str, samples: int = 6, seed: int = 0, every: bool = False) -> Path:
    """Write what a table holds to `to`, as one HTML page, and return its path.

    Counts by class, origin and split, sizes and encodings, and at most `samples` random pictures (drawn by `seed`) of each
    class and origin. `every` lists all classes, not only the largest and smallest. Images that are gone are shown as such.
    """
    numbers = overview(table)
    origins = list(numbers["origins"])[:len(COLOURS)]
    return write_page(
        to, "collection.html", numbers=numbers, name=table.root.name or str(table.root), seed=seed,
        headline=headline(numbers), sections=sections(numbers, every=every), **_samples(table, numbers, samples, seed),
        histograms=_histograms(table, origins), key=list(zip(origins, COLOURS, strict=False)))


def _samples(table: ImageTable, numbers: Mapping[str, Any], samples: int, seed: int) -> dict[str, Any]:
    """Return what the template shows as pictures: rows of classes, cells of origins, each a list of (uri, path)."""
    origins, classes = list(numbers["origins"])[:ORIGINS], largest(numbers["by_class"], CLASSES)
    each = max(1, min(samples, PICTURES // max(1, len(origins) * len(classes)))) if samples else 0
    drawn = sampled(table, samples=each, seed=seed, classes=[row["class"] for row in classes], origins=origins) if each else {}
    paths = [path for by in drawn.values() for origin in origins for path in by.get(origin, ())]
    pictures = [{"uri": uri, "path": Path(os.path.relpath(path, table.root)).as_posix()}
                for uri, path in zip(thumbnail_uris(paths, SIDE), paths, strict=True)]
    waiting = iter(pictures)
    rows = [{"name": class_name(row["class"]), "all": row["all"],
             "cells": [[next(waiting) for _ in drawn[row["class"]].get(origin, ())] for origin in origins]}
            for row in classes] if each else []
    side = max(SIDE // 2, min(SIDE, 800 // max(1, each * len(origins)) - 4))  # all of a class stand on one line if they can
    missing = sum(is_placeholder(picture["uri"]) for picture in pictures)
    if missing:
        log.warning("%d of the page's %d pictures are missing: the images are not under %s, or cannot be read", missing,
                    len(pictures), table.root)
    return {"rows": rows, "origins": origins, "each": each, "side": side, "drawn": len(pictures), "missing": missing}


def _histograms(table: ImageTable, origins: list[str]) -> list[str]:
    """Return a picture each of sizes, files and brightness by origin, where there is anything to compare."""
    frame = table.frame.loc[table.frame["excluded"].isna()]
    names = frame["origin"].to_numpy()
    known = {name: frame[name].to_numpy(float, na_value=np.nan) for name in ("width", "height", "bytes", "brightness")
             if name in frame}
    quantities = [("longer side (pixels)", np.fmax(known["width"], known["height"]), True), ("file", known["bytes"], True)]
    if "brightness" in known:
        quantities.append(("brightness (0 black, 1 white)", known["brightness"], False))
    pictures = [_histogram(title, [values[(names == origin) & ~np.isnan(values)] for origin in origins], logarithmic)
                for title, values, logarithmic in quantities]
    return [picture for picture in pictures if picture]


def _histogram(title: str, values: list[np.ndarray], logarithmic: bool) -> str:
    """Draw one quantity, an origin a line in the order of COLOURS; "" where all values are the same or none is known."""
    every = np.concatenate(values) if values else np.empty(0)
    low, high = (every.min(), every.max()) if len(every) else (0, 0)
    if not low < high:
        return ""
    logarithmic = logarithmic and low > 0 and high / low > 4
    edges = np.geomspace(low, high, 41) if logarithmic else np.linspace(low, high, 41)
    figure = Figure(figsize=(4.4, 2.3))
    axis = figure.subplots()
    for colour, own in zip(COLOURS, values, strict=False):
        if len(own):
            parts = 100 * np.histogram(own, edges)[0] / len(own)
            axis.stairs(parts, edges, color=colour, lw=1.5, fill=False)
            axis.stairs(parts, edges, color=colour, alpha=0.15, fill=True)
    axis.set(xlabel="size of the file" if title == "file" else title, ylabel="% of the origin's images")
    if logarithmic:
        axis.set_xscale("log")
        ticks = np.geomspace(low, high, 5)
        axis.set_xticks(ticks)
        axis.xaxis.set_minor_locator(NullLocator())
    else:
        axis.xaxis.set_major_locator(MaxNLocator(5))
    if title == "file" or logarithmic:
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: size_text(value) if title == "file" else f"{value:,.0f}"))
    return svg(figure)
