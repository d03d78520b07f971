"""The page of a similarity: verdicts in words, numbers beside their floors, histograms, and the nearest pairs in pictures."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from gilt.config import REAL
from gilt.data.statistics import SIMPLE, simple_statistics
from gilt.data.table import ImageTable
from gilt.evaluation.similarity import Comparison, Pair, Similarity
from gilt.evaluation.similarity_words import CAUTION, MEANINGS, copied, farther, leaked, spread
from gilt.reports.pages import write_page
from gilt.reports.plots import BLUE, COLOURS, svg
from gilt.reports.thumbs import thumbnail_uris

SIDE, LEAKS, BINS = 96, 24, 40  # pixels of a picture; leaks shown; bars of a histogram
BRIGHT = [colour for colour in COLOURS if colour != BLUE]


def similarity_page(found: Similarity, table: ImageTable, *, to: Path | str, name: str = "") -> Path:
    """Write a similarity of `table` as one HTML page to `to` and return its path; it opens offline.

    `name` says which table it was. Images that are gone are shown as such.
    """
    settings = found.settings
    rows = table.usable.pick(settings["classes"], settings["generators"])
    return write_page(
        to, "similarity.html", found=found, name=name or "a table", sentences=found.sentences[:-1], caution=CAUTION,
        meanings=MEANINGS, spread=spread, farther=farther, rows_of=_rows, simple=SIMPLE,
        classes={one.origin: [own for own in found.by_class if own.origin == one.origin] for one in found.comparisons},
        whole={one.origin: one for one in found.whole}, histograms=_histograms(rows, settings["seed"]),
        copies=[{"copying": one, "lines": copied(one), "pairs": _pictures(one.pairs, table)} for one in found.copying],
        leak={"said": leaked(found.leak), "pairs": _pictures(found.leak.flagged[:LEAKS], table)} if found.leak else None,
        side=SIDE)


def _rows(one: Comparison) -> list[tuple[str, Any]]:
    """Return (name, numbers) of a comparison's measures, in the order in which they are explained."""
    return [(name, one.measures[name]) for name in MEANINGS if name in one.measures]


def _pictures(pairs: Sequence[Pair], table: ImageTable) -> list[dict[str, Any]]:
    uris = iter(thumbnail_uris([table.root / path for pair in pairs for path in (pair.path, pair.nearest)], SIDE))
    return [{"pair": pair, "made": next(uris), "real": next(uris)} for pair in pairs]


def _histograms(rows: ImageTable, seed: int) -> str:
    """Draw each simple statistic that varies: photographs filled, each generator a line."""
    values = simple_statistics(rows, seed=seed)
    origins = rows.frame["origin"].to_numpy()
    names = [name for name in SIMPLE if values[name].nunique() > 1]
    figure = Figure(figsize=(9.2, 2.1 * -(-len(names) // 3)), layout="constrained")
    axes = np.atleast_1d(figure.subplots(-(-len(names) // 3), 3)).ravel() if names else []
    for axis, name in zip(axes, names, strict=False):
        known = values[name].dropna()
        edges = np.linspace(*np.quantile(known, [0.001, 0.999]), BINS + 1)
        if edges[0] == edges[-1]:
            edges = np.linspace(known.min(), known.max(), BINS + 1)
        for i, origin in enumerate(rows.origins):
            own = np.clip(values[name].to_numpy()[origins == origin], edges[0], edges[-1])
            own = own[np.isfinite(own)]
            how = {"histtype": "stepfilled", "alpha": 0.35, "color": BLUE} if origin == REAL else {
                "histtype": "step", "lw": 1.6, "color": BRIGHT[(i - 1) % len(BRIGHT)]}
            if len(own):
                axis.hist(own, edges, weights=np.full(len(own), 1 / len(own)), label=origin, **how)
        axis.set_title(name, fontsize=9)
        axis.set_yticks([])
    for axis in axes[len(names):]:
        axis.set_visible(False)
    if len(names):
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=6, frameon=False, fontsize=9)
    return svg(figure) if names else ""
