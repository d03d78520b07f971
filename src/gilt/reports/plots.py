"""Pictures for reports: each function returns one picture as text that HTML can hold (inline SVG, or a data address)."""
import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
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


def svg(figure: Figure) -> str:
    """Return a figure as inline SVG, the same bytes for the same figure."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "gilt"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg"):]


def learning_curves(records: Sequence[TrialRecord]) -> str:
    """Draw training loss and validation accuracy: a thin line a seed, a thick one for an arm's mean.

    Over epochs; over optimiser steps where the study fixes those, since an epoch's length then differs between arms.
    """
    figure = Figure(figsize=(8.6, 3.1))
    left, right = figure.subplots(1, 2)
    arms = list(dict.fromkeys(record.arm for record in records))
    fixed = any(record.config["train"]["steps"] for record in records)
    for (colour, style), arm in zip(_pens(len(arms)), arms, strict=True):
        for axis, name, scale in ((left, "train_loss", 1), (right, "val_accuracy", 100)):
            chosen = [record for record in records if record.arm == arm and record.history[0][name] is not None]
            lines = [[epoch[name] for epoch in record.history] for record in chosen]
            places = [_steps(record) if fixed else np.arange(1, len(record.history) + 1) for record in chosen]
            for place, line in zip(places, lines, strict=True):
                axis.plot(place, scale * np.array(line), color=colour, ls=style, lw=0.7, alpha=0.4)
            if lines:  # seeds may differ in rows, so in an epoch's steps: the mean stands where the fewest epochs end
                ends = min(places, key=len)
                mean = np.mean([np.interp(ends, place, line) for place, line in zip(places, lines, strict=True)], 0)
                axis.plot(ends, scale * mean, color=colour, ls=style, lw=2, label=arm,
                          marker="o" if len(ends) == 1 else None)  # a fitted head has one epoch, and a point no line
    unit = "optimiser step" if fixed else "epoch"
    left.set(xlabel=unit, ylabel="training loss (nats)", yscale="log")
    right.set(xlabel=unit, ylabel="validation accuracy (%)")
    figure.tight_layout(w_pad=2)
    # below the axes, where it covers no line, however many arms there are
    longest = max(map(len, arms))
    figure.legend(*left.get_legend_handles_labels(), loc="upper center", bbox_to_anchor=(0.5, 0), frameon=False, fontsize=8,
                  ncols=max(1, min(len(arms), 120 // (longest + 8))), handlelength=3)
    return svg(figure)


def _steps(record: TrialRecord) -> np.ndarray:
    """Return the optimiser step at which each epoch of a trial ended."""
    train = record.config["train"]
    rows = record.n_drawn or (record.n_real or 0) + (record.n_generated or 0)
    ends = np.arange(1, len(record.history) + 1) * -(-rows // train["batch_size"])
    return np.minimum(ends, train["steps"] or ends[-1])


def effects_forest(effects: Sequence[Effect], benchmark: str) -> str:
    """Draw each arm's difference from the benchmark with its interval, and one dot a seed."""
    figure = Figure(figsize=(8.6, 0.7 + 0.45 * len(effects)))
    axis = figure.subplots()
    for row, effect in enumerate(reversed(effects)):
        if effect.low is not None:
            axis.plot([effect.low, effect.high], [row, row], color=BLUE, lw=2)
        axis.plot(effect.differences, [row] * len(effect.differences), "o", color=GREY, ms=4, alpha=0.8)
        axis.plot(effect.mean, row, "D", color=GOLD, ms=7)
    axis.axvline(0, color="black", lw=0.8)
    axis.set_yticks(range(len(effects)), [effect.arm for effect in reversed(effects)])
    axis.set_ylim(-0.6, len(effects) - 0.4)
    unit = "nats" if effects[0].metric == "loss" else "points"
    axis.set_xlabel(f"{unit} of test {spoken(effects[0].metric)} against {benchmark!r} (diamond: mean; bar: 95 % interval; "
                    "dots: seeds)")
    return svg(figure)


def sample_sheet(rows: Mapping[str, Mapping[str, Sequence[Path]]], *, tile: int = 72) -> str:
    """Return a PNG data address: one row a class, its images of each origin side by side (missing files stay grey)."""
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
    sheet.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _tile(path: Path, size: int) -> Image.Image:
    """Return an image fitted into size x size pixels on grey; a plain grey tile where it cannot be read."""
    image = thumbnail(path, size) or Image.new("RGB", (size, size), "#e2e2e2")
    return ImageOps.pad(image, (size, size), color="#e2e2e2")


def _pens(count: int) -> list[tuple[str, str]]:
    """Return colours and line styles: all colours drawn through, then dashed, dotted and both, so that 32 lines differ."""
    return [(COLOURS[i % len(COLOURS)], STYLES[i // len(COLOURS) % len(STYLES)]) for i in range(count)]
