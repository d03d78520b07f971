"""The page of an explanation: where a classifier looked, how far that can be trusted, and the spectra of what it was shown."""
import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gilt.config import REAL
from gilt.evaluation.attention import CENTRE, Attention
from gilt.evaluation.explanation import CAUTION, SPOKEN, Explanation
from gilt.evaluation.faithfulness import MAP, MIDDLE, ORDERS, RANDOM, Faithfulness
from gilt.evaluation.metrics import Metric
from gilt.evaluation.spectra import Spectrum, rings
from gilt.reports.overlays import chosen_pictures, says, triptych
from gilt.reports.pages import write_page
from gilt.reports.plots import BLUE, COLOURS, GOLD, GREY, shortened, svg

PICTURES, SIDE = 24, 112  # on the page, and a third's side in pixels
MAPS, PLANES, WIDE = 12, 6, 4  # mean maps and 2-D spectra drawn; in a row
ORDER_SAID = {MAP: "the maps", RANDOM: "random maps", MIDDLE: "the middle first"}
PENS = {MAP: (GOLD, "-"), RANDOM: (GREY, "--"), MIDDLE: (BLUE, ":")}


def explanation_page(found: Explanation, *, to: Path | str, name: str = "", images: str = "images") -> Path:
    """Write an explanation as one HTML page that opens offline, and return its path.

    `name` says which classifier it was, and `images` what it was shown ("test images of birds.parquet").
    """
    shown = chosen_pictures(found.images, PICTURES)
    spectra = list(found.spectra.values())
    return write_page(
        to, "explanation.html", found=found, name=name or found.model, images=images, sentences=found.sentences[:-1],
        caution=CAUTION, method=SPOKEN[found.method], share=_share, area=_area, orders=ORDER_SAID, order_names=ORDERS,
        pictures=[{"uri": _uri(one), "path": one.path, "says": says(one), "wrong": one.true not in (None, one.predicted)}
                  for one in shown],
        readable=sum(one.error is None for one in found.images), unreadable=[one for one in found.images if one.error],
        masked=any(one.inside for one in found.attention), mean_maps=mean_maps(found.attention) if found.attention else "",
        curves=curves(found.faithfulness) if found.faithfulness else "",
        spectra=spectra, lines=spectrum_lines(spectra, found.spectra_size) if spectra else "",
        planes=spectrum_planes(spectra) if spectra else "")


def mean_maps(groups: Sequence[Attention], *, most: int = MAPS) -> str:
    """Draw where in general the classifier looks, a picture a group: red is more than a flat map has, blue less.

    The dashed square is the middle one, of half the area.
    """
    groups = [one for one in groups if one.blank < one.n][:most]
    if not groups:
        return ""
    rows = -(-len(groups) // WIDE)
    figure = Figure(figsize=(2.3 * min(len(groups), WIDE) + 0.7, 2.5 * rows), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, min(len(groups), WIDE))).ravel()
    top = max(2.0, *(float(np.quantile(one.mean_map, 0.995)) for one in groups))
    drawn = None
    for axis, one in zip(axes, groups, strict=False):
        height, width = one.mean_map.shape
        drawn = axis.imshow(one.mean_map, cmap="RdBu_r", norm=TwoSlopeNorm(1, 0, top), interpolation="nearest")
        side = CENTRE ** 0.5
        corner = (width * (1 - side) / 2 - 0.5, height * (1 - side) / 2 - 0.5)
        axis.add_patch(Rectangle(corner, width * side, height * side, fill=False, ls="--", lw=1, ec="#1a202c"))
        axis.set_title(f"{shortened(one.name, 24)} (n = {one.n - one.blank:,})", fontsize=9)
    for axis in axes:
        axis.set_axis_off()
    bar = figure.colorbar(drawn, ax=list(axes), shrink=0.8, ticks=[0, 1, top])
    bar.ax.set_yticklabels(["0", "1 (flat)", f"{top:.1f}"])
    return svg(figure)


def curves(found: Faithfulness) -> str:
    """Draw the mean deletion and insertion curves of the maps, random maps and the middle."""
    figure = Figure(figsize=(8.4, 2.9), layout="constrained")
    for axis, kind, label in zip(figure.subplots(1, 2, sharey=True), ("deletion", "insertion"),
                                 ("taken away", "put back into a blurred image"), strict=True):
        for order, (colour, style) in PENS.items():
            axis.plot(100 * found.parts, found.curves[kind, order], color=colour, ls=style, lw=2, label=ORDER_SAID[order])
        axis.set(xlabel=f"part of the image {label} (%)", ylim=(0, 1.02),
                 title=f"{kind} ({'lower' if kind == 'deletion' else 'higher'} is better)")
    figure.axes[0].set_ylabel("probability of the class explained")
    figure.axes[1].legend(frameon=False, fontsize=8)
    return svg(figure)


def spectrum_lines(spectra: Sequence[Spectrum], size: int) -> str:
    """Draw the mean log power by frequency with its 95 % interval over images, a line an origin."""
    figure = Figure(figsize=(7.4, 3.3), layout="constrained")
    axis = figure.subplots()
    others = iter([colour for colour in COLOURS if colour != BLUE] * (1 + len(spectra) // 7))
    for one in spectra:
        colour = BLUE if one.name == REAL else next(others)
        axis.plot(rings(size), one.mean, color=colour, lw=1.6, label=f"{shortened(one.name)} (n = {one.n:,})")
        if np.isfinite(one.low).all():
            axis.fill_between(rings(size), one.low, one.high, color=colour, alpha=0.2, lw=0)
    axis.set(xlabel="frequency (cycles a pixel; 0.5 is every second pixel)", ylabel="log10 of the power", xlim=(0, 0.5))
    axis.legend(frameon=False, fontsize=8)
    return svg(figure)


def spectrum_planes(spectra: Sequence[Spectrum]) -> str:
    """Draw the mean spectra in two directions, frequency 0 in the middle, and each generator's less that of the real ones."""
    spectra = spectra[:PLANES]
    base = next((one for one in spectra if one.name == REAL), None)
    differences = [(one, one.plane - base.plane) for one in spectra if base is not None and one is not base]
    columns = len(spectra) + len(differences)
    rows = -(-columns // WIDE)
    figure = Figure(figsize=(2.4 * min(columns, WIDE) + 0.4, 2.7 * rows), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, min(columns, WIDE))).ravel()
    low, high = np.quantile([one.plane for one in spectra], [0.01, 0.995])
    reach = max([0.1, *(float(np.quantile(np.abs(plane), 0.99)) for _, plane in differences)])
    for axis, one in zip(axes, spectra, strict=False):
        axis.imshow(one.plane, cmap="magma", vmin=low, vmax=high, interpolation="nearest")
        axis.set_title(shortened(one.name, 24), fontsize=9)
    for axis, (one, plane) in zip(axes[len(spectra):], differences, strict=False):
        drawn = axis.imshow(plane, cmap="RdBu_r", vmin=-reach, vmax=reach, interpolation="nearest")
        axis.set_title(f"{shortened(one.name, 16)} less {REAL}", fontsize=9)
        figure.colorbar(drawn, ax=axis, shrink=0.7, label="log10")
    for axis in axes:
        axis.set_axis_off()
    return svg(figure)


def _uri(one: Any) -> str:
    buffer = io.BytesIO()
    triptych(one, side=SIDE, caption=False).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _share(one: Metric | None, *, signed: bool = False) -> str:
    """Return "53.1 % (50.2 to 56.0)", or "-"."""
    if one is None or one.value is None:
        return "-"
    sign = "+" if signed else ""
    interval = "" if one.low is None else f" ({100 * one.low:{sign}.1f} to {100 * one.high:{sign}.1f})"
    return f"{100 * one.value:{sign}.1f}{'' if signed else ' %'}{interval}"


def _area(one: Metric | None, *, signed: bool = False) -> str:
    """Return "0.531 (0.502 to 0.560)", or "-"."""
    if one is None or one.value is None:
        return "-"
    sign = "+" if signed else ""
    return f"{one.value:{sign}.3f}" + ("" if one.low is None else f" ({one.low:{sign}.3f} to {one.high:{sign}.3f})")
