"""Pictures for reports: each function returns one picture as text that HTML can hold (inline SVG, or a data address)."""
import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw, ImageFont, ImageOps

from gilt.evaluation.metrics import spoken
from gilt.reports.thumbs import thumbnail
from gilt.studies.compare import Effect
from gilt.studies.store import TrialRecord

matplotlib.rcParams.update({"font.size": 9, "svg.fonttype": "none", "font.family": "sans-serif",
                            "axes.spines.top": False, "axes.spines.right": False})
GOLD, BLUE, GREY = "#b8860b", "#2b6cb0", "#8a8f98"
COLOURS = ("#2b6cb0", "#b8860b", "#2f855a", "#c05621", "#6b46c1", "#b83280", "#4a5568", "#0987a0")
STYLES = ("-", "--", ":", "-.")
APART = 16  # lines of one picture that can be told apart: of more arms, the others are grey
OTHERS = "other arms"


def svg(figure: Figure) -> str:
    """Return a figure as inline SVG, the same bytes for the same figure."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "gilt"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg"):]


def learning_curves(records: Sequence[TrialRecord], *, strong: Sequence[str] = ()) -> str:
    """Draw training loss and validation accuracy: a thin line a seed, a thick one for an arm's mean.

    Over epochs; over optimiser steps where the study fixes those, since an epoch's length then differs between arms. Of more
    than APART arms only the first `strong` ones (else the first few) have a colour of their own; the others are grey.
    """
    figure = Figure(figsize=(8.6, 3.1))
    left, right = figure.subplots(1, 2)
    arms = list(dict.fromkeys(record.arm for record in records))
    fixed = any(record.config["train"]["steps"] for record in records)
    named = arms if len(arms) <= APART else [arm for arm in arms if arm in strong[:APART]] or arms[:APART]
    pens = dict(zip(named, pens_of(len(named)), strict=True))
    for arm in sorted(arms, key=lambda arm: arm in pens):  # grey ones lie below
        own = [record for record in records if record.arm == arm]
        for axis, name, scale in ((left, "train_loss", 1), (right, "val_accuracy", 100)):
            _draw_history(axis, own, (name, scale), fixed, pens.get(arm))
    unit = "optimiser step" if fixed else "epoch"
    left.set(xlabel=unit, ylabel="training loss (nats)", yscale="log")
    right.set(xlabel=unit, ylabel="validation accuracy (%)")
    for axis in (left, right):
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if not axis.lines:
            axis.set_axis_off()
            axis.text(0.5, 0.5, "no validation rows", transform=axis.transAxes, ha="center", color=GREY)
    figure.tight_layout(w_pad=2)
    # below the axes, where it covers no line, however many arms there are
    lines = dict(zip(*reversed(left.get_legend_handles_labels()), strict=True))
    ordered = [name for name in (*named, OTHERS) if name in lines]
    figure.legend([lines[name] for name in ordered], ordered, loc="upper center", bbox_to_anchor=(0.5, 0), frameon=False,
                  fontsize=8, ncols=max(1, min(len(ordered), 120 // (max(map(len, ordered), default=0) + 8))), handlelength=3)
    return svg(figure)


def _draw_history(axis: Axes, records: Sequence[TrialRecord], what: tuple[str, float], fixed: bool,
                  pen: tuple[str, str] | None) -> None:
    """Draw one arm's seeds and their mean in (colour, style); without a pen, its mean alone, thin and grey."""
    name, scale = what
    chosen = [record for record in records if record.history and record.history[0][name] is not None]
    lines = [scale * np.array([epoch[name] for epoch in record.history]) for record in chosen]
    places = [steps_of(record) if fixed else np.arange(1, len(record.history) + 1) for record in chosen]
    if not lines:
        return
    # seeds may differ in rows, so in an epoch's steps: the mean stands where the fewest epochs end
    ends = min(places, key=len)
    mean = np.mean([np.interp(ends, place, line) for place, line in zip(places, lines, strict=True)], 0)
    marker = "o" if len(ends) == 1 else None  # a fitted head has one epoch, and a point no line
    if pen is None:
        axis.plot(ends, mean, color=GREY, lw=0.8, alpha=0.6, marker=marker, ms=3, label=OTHERS)
        return
    colour, style = pen
    for place, line in zip(places, lines, strict=True):
        axis.plot(place, line, color=colour, ls=style, lw=0.7, alpha=0.4)
    axis.plot(ends, mean, color=colour, ls=style, lw=2, label=records[0].arm, marker=marker)


def steps_of(record: TrialRecord) -> np.ndarray:
    """Return the optimiser step at which each epoch of a trial ended."""
    train = record.config["train"]
    rows = record.n_drawn or (record.n_real or 0) + (record.n_generated or 0)
    ends = np.arange(1, len(record.history) + 1) * -(-rows // train["batch_size"])
    return np.minimum(ends, train["steps"] or ends[-1])


def effects_forest(effects: Sequence[Effect], benchmark: str, *, links: Mapping[str, str] | None = None) -> str:
    """Draw each arm's difference from the benchmark with its interval and p values, and one dot a seed.

    Gold diamonds are arms that differ by the corrected p, grey ones do not; an arm's name leads to its anchor in `links`.
    """
    high = 0.45 if len(effects) <= 12 else 0.27
    figure = Figure(figsize=(8.0, 0.9 + high * len(effects)))
    axis = figure.subplots()
    places = list(reversed(range(len(effects))))
    for row, effect in zip(places, effects, strict=True):
        sure = effect.verdict in ("beats", "trails")
        if effect.low is not None:
            axis.plot([effect.low, effect.high], [row, row], color=BLUE, lw=2)
        axis.plot(effect.differences, [row] * len(effect.differences), "o", color=GREY, ms=4, alpha=0.8)
        axis.plot(effect.mean, row, "D", color=GOLD if sure else GREY, mec="black", mew=0.5, ms=7)
    axis.axvline(0, color="black", lw=0.8)
    axis.set_yticks(places, [shortened(effect.arm) for effect in effects])
    for label, effect in zip(axis.get_yticklabels(), effects, strict=True):
        label.set_url(f"#{links[effect.arm]}" if links and effect.arm in links else None)
    axis.set_ylim(-0.6, len(effects) - 0.4)
    _write_ps(axis, effects, places)
    unit = "nats" if effects[0].metric == "loss" else "points"
    axis.set_xlabel(f"{unit} of test {spoken(effects[0].metric)} against {shortened(benchmark)!r}\n(diamond: mean, gold where "
                    "the corrected p is below 0.05; bar: 95 % interval; dots: seeds)")
    return svg(figure)


def _write_ps(axis: Axes, effects: Sequence[Effect], places: Sequence[int]) -> None:
    """Write each arm's p, alone and corrected, in two columns right of the axes."""
    text = {"transform": axis.get_yaxis_transform(), "va": "center", "ha": "right", "fontsize": 8, "clip_on": False}
    for x, head, values in (
            (1.09, "p alone", [effect.mcnemar.p if effect.mcnemar else effect.p_t for effect in effects]),
            (1.20, "corrected", [effect.p_holm for effect in effects])):
        axis.text(x, 1.0, head, color=GREY, **text | {"transform": axis.transAxes, "va": "bottom"})
        for row, value in zip(places, values, strict=True):
            axis.text(x, row, p_text(value), **text)


def p_text(p: float | None) -> str:
    """Return a p value with three digits, or "-" where there is none."""
    return "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def shortened(name: str, most: int = 28) -> str:
    """Return a name that fits beside a picture: its middle left out where it is longer than `most` letters."""
    return name if len(name) <= most else f"{name[:most - 10]}…{name[-9:]}"


def sample_sheet(rows: Mapping[str, Mapping[str, Sequence[Path]]], *, tile: int = 72) -> str:
    """Return a JPEG data address: one row a class, its images of each origin side by side (missing files stay grey)."""
    origins = list(dict.fromkeys(origin for by_origin in rows.values() for origin in by_origin))
    wide = {origin: max(len(by.get(origin, ())) for by in rows.values()) for origin in origins}
    gap, label = 14, 96
    width = label + sum(wide.values()) * (tile + 2) + gap * len(origins)
    sheet = Image.new("RGB", (width, 18 + len(rows) * (tile + 2)), "#fffdf8")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    x = label
    for origin in origins:
        draw.text((x, 2), origin, fill="black", font=font)
        for row, (name, by_origin) in enumerate(rows.items()):
            y = 18 + row * (tile + 2)
            draw.text((2, y + tile // 2 - 6), name[:14], fill="black", font=font)
            for column, path in enumerate(by_origin.get(origin, ())):
                sheet.paste(_tile(path, tile), (x + column * (tile + 2), y))
        x += wide[origin] * (tile + 2) + gap
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=88)  # a tenth of a PNG
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _tile(path: Path, size: int) -> Image.Image:
    """Return an image fitted into size x size pixels on grey; a plain grey tile where it cannot be read."""
    image = thumbnail(path, size) or Image.new("RGB", (size, size), "#e2e2e2")
    return ImageOps.pad(image, (size, size), color="#e2e2e2")


def pens_of(count: int) -> list[tuple[str, str]]:
    """Return colours and line styles: all colours drawn through, then dashed, dotted and both, so that 32 lines differ."""
    return [(COLOURS[i % len(COLOURS)], STYLES[i // len(COLOURS) % len(STYLES)]) for i in range(count)]
