"""An arm's training as a small inline SVG, beside the benchmark's: drawn without matplotlib, so that forty take no time."""
from collections.abc import Sequence
from html import escape
from math import log10

import numpy as np

from gilt.reports.plots import BLUE, GREY, steps_of
from gilt.studies.store import TrialRecord

WIDE, HIGH, LEFT, TOP, BELOW = 340, 120, 58, 18, 22
PANELS = (("train_loss", "training loss (nats)", 1.0), ("val_accuracy", "validation accuracy (%)", 100.0))


def history_picture(own: Sequence[TrialRecord], base: Sequence[TrialRecord]) -> str:
    """Draw training loss and validation accuracy, a line a seed: blue the arm's, grey the benchmark's.

    Over epochs, or over optimiser steps where the arm fixes those, since an epoch's length then differs between arms. ""
    where no trial has a history of two epochs: a single point is no curve.
    """
    drawn, fixed = [], bool(own and own[0].config["train"]["steps"])
    for name, title, scale in PANELS:
        curves = [(colour, _line(record, name, scale, fixed)) for colour, records in ((GREY, base), (BLUE, own))
                  for record in records if len(record.history) > 1 and record.history[0][name] is not None]
        if any(colour == BLUE for colour, _ in curves):
            drawn.append(_panel(curves, title, "step" if fixed else "epoch"))
    if not drawn:
        return ""
    width, height = (WIDE + 16) * len(drawn), TOP + HIGH + BELOW
    groups = "".join(f'<g transform="translate({i * (WIDE + 16)},0)">{panel}</g>' for i, panel in enumerate(drawn))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            f'role="img" aria-label="Training loss and validation accuracy by epoch" font-family="system-ui, sans-serif" '
            f'font-size="10" fill="#667">{groups}</svg>')


def _line(record: TrialRecord, name: str, scale: float, fixed: bool) -> np.ndarray:
    """Return float (E, 2): where each of a trial's E epochs ended, and its value."""
    ends = steps_of(record) if fixed else np.arange(1, len(record.history) + 1)
    return np.column_stack([ends, [scale * epoch[name] for epoch in record.history]]).astype(float)


def _panel(curves: Sequence[tuple[str, np.ndarray]], title: str, unit: str) -> str:
    """Return one panel: its curves on one scale; that of a loss is logarithmic where all its values are above 0."""
    points = np.concatenate([line[np.isfinite(line[:, 1])] for _, line in curves])
    if not len(points):
        return ""
    (first, low), (last, high) = points.min(0), points.max(0)
    logarithmic = "loss" in title and low > 0

    def y(value: float) -> float:
        part = (_height(value, logarithmic) - _height(low, logarithmic)) / (
            (_height(high, logarithmic) - _height(low, logarithmic)) or 1.0)
        return TOP + HIGH * (1 - part)

    def line(colour: str, values: np.ndarray) -> str:
        places = LEFT + (WIDE - LEFT) * (values[:, 0] - first) / ((last - first) or 1.0)
        drawn = " ".join(f"{x:.1f},{y(value):.1f}" for x, value in zip(places, values[:, 1], strict=True) if np.isfinite(value))
        return f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="1.3" stroke-opacity="0.75"/>'

    labels = [(y(value), f"{value:.3g}") for value in dict.fromkeys((float(low), float(high)))]
    texts = "".join(f'<text x="{LEFT - 5}" y="{at + 3:.1f}" text-anchor="end">{text}</text>' for at, text in labels)
    end = TOP + HIGH
    return (f'<text x="{LEFT}" y="11">{escape(title)}</text>{texts}'
            f'<path d="M{LEFT} {TOP}V{end}H{WIDE}" fill="none" stroke="#1f2430" stroke-width="0.8"/>'
            f'<text x="{LEFT}" y="{end + 14}">{unit} {first:.0f}</text>'
            f'<text x="{WIDE}" y="{end + 14}" text-anchor="end">{last:.0f}</text>'
            + "".join(line(colour, values) for colour, values in curves))


def _height(value: float, logarithmic: bool) -> float:
    return log10(value) if logarithmic else value
