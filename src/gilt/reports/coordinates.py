"""Pictures of a search: its history, what mattered, parallel coordinates, and the metric against each dimension."""
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from gilt.evaluation.metrics import LESS, spoken
from gilt.reports.plots import BLUE, GOLD, GREY, svg
from gilt.studies.outcome import Outcome, Searched
from gilt.studies.space import Dimension, spelled, written

ABSENT = -0.16  # where a line passes the axis of a dimension that its trial does not have
ABREAST = 4  # slices a row


def history_picture(found: Outcome) -> str:
    """Draw what each trial came to, and the best so far; a trial given up early stands at its last epoch's val figure."""
    figure = Figure(figsize=(8.6, 2.9))
    axis = figure.subplots()
    done = [(trial.number, scaled(found.metric, trial.value(found.metric))) for trial in found.trials
            if trial.value(found.metric) is not None]
    best = (np.minimum if found.metric in LESS else np.maximum).accumulate([value for _, value in done])
    axis.step([number for number, _ in done], best, where="post", color=GOLD, lw=2, label="best so far")
    axis.plot([number for number, _ in done], [value for _, value in done], "o", color=BLUE, ms=4, label="finished")
    if curve := _curve(found.metric):
        pruned = [(trial.number, scaled(found.metric, trial.record.history[-1][curve])) for trial in found.trials
                  if trial.record and trial.state == "pruned" and trial.record.history]
        if pruned:
            axis.plot(*zip(*pruned, strict=True), "x", color=GREY, ms=5, label="given up, at its last epoch")
    axis.set(xlabel="trial", ylabel=label(found.metric))
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return svg(figure)


def importance_picture(parts: Mapping[str, tuple[float, int]], names: Mapping[str, str]) -> str:
    """Draw each dimension's part of the metric's variance as a bar, the largest on top."""
    figure = Figure(figsize=(8.6, 0.6 + 0.28 * len(parts)))
    axis = figure.subplots()
    ordered = sorted(parts, key=lambda name: parts[name][0])
    axis.barh(range(len(ordered)), [100 * parts[name][0] for name in ordered], color=GOLD, height=0.6)
    for place, name in enumerate(ordered):
        axis.text(100 * parts[name][0] + 1, place, f"{100 * parts[name][0]:.0f}", va="center", fontsize=8)
    axis.set_yticks(range(len(ordered)), [names[name] for name in ordered])
    axis.set(xlim=(0, 108), xlabel="part of the variance between trials (%)")
    return svg(figure)


def parallel_picture(found: Outcome, names: Mapping[str, str]) -> str:
    """Draw every trial as a line over the dimensions, coloured by its val figure; trials given up early are grey."""
    dimensions = list(found.space.dimensions.items())
    values = [scaled(found.metric, value) for _, value in found.values]
    figure = Figure(figsize=(max(8.6, 0.95 * len(dimensions) + 2), 3.6))
    axis = figure.subplots()
    scale = Normalize(min(values), max(values) if max(values) > min(values) else min(values) + 1e-6)
    colours = colormaps["viridis"]
    for trial in sorted(found.trials, key=lambda trial: _rank(trial, found.metric)):
        heights = [_height(dimension, trial, name) for name, dimension in dimensions]
        value = trial.value(found.metric)
        if value is None:
            axis.plot(range(len(heights)), heights, color=GREY, lw=0.7, alpha=0.5, zorder=1)
        else:
            height = float(scale(scaled(found.metric, value)))
            good = 1 - height if found.metric in LESS else height
            axis.plot(range(len(heights) + 1), [*heights, height], color=colours(0.88 * good), lw=1.4, alpha=0.85, zorder=2)
    for place, (_, dimension) in enumerate(dimensions):
        _draw_axis(axis, place, *_ticks(dimension), absent=bool(dimension.when))
    ends = sorted({min(values), max(values)})
    _draw_axis(axis, len(dimensions), [float(scale(end)) for end in ends], [f"{end:.3g}" for end in ends], absent=False)
    axis.set_xticks(range(len(dimensions) + 1), [*(names[name] for name, _ in dimensions), label(found.metric)],
                    rotation=20 if len(dimensions) > 5 else 0, ha="right" if len(dimensions) > 5 else "center", fontsize=8)
    axis.tick_params(axis="x", length=0)
    axis.set(yticks=[], xlim=(-0.2, len(dimensions) + 0.5), ylim=(ABSENT - 0.06, 1.08))
    for side in ("left", "bottom"):
        axis.spines[side].set_visible(False)
    return svg(figure)


def slices_picture(found: Outcome, names: Mapping[str, str]) -> str:
    """Draw the val figure of every finished trial against each dimension, the best trial in gold."""
    dimensions = list(found.space.dimensions.items())
    rows = math.ceil(len(dimensions) / ABREAST)
    figure = Figure(figsize=(8.6, 2.3 * rows))
    panels = figure.subplots(rows, ABREAST, squeeze=False, sharey=True)
    for axis in panels.flat[len(dimensions):]:
        axis.set_visible(False)
    best = found.best
    for axis, (name, dimension) in zip(panels.flat, dimensions, strict=False):
        for trial in found.trials:
            value = trial.value(found.metric)
            if value is not None and name in trial.drawn:
                marked = best is not None and trial.number == best.number
                axis.plot(_place(dimension, trial.drawn[name], trial.number), scaled(found.metric, value),
                          "D" if marked else "o", color=GOLD if marked else BLUE, ms=6 if marked else 3.5,
                          alpha=1 if marked else 0.7, zorder=3 if marked else 2)
        if dimension.values is not None:
            many = len(dimension.values) > 5
            axis.set_xticks(range(len(dimension.values)), [spelled(value)[:12] for value in dimension.values],
                            rotation=45 if many else 0, fontsize=8)
            axis.set_xlim(-0.5, len(dimension.values) - 0.5)
        elif dimension.log:
            axis.set_xscale("log")
        axis.set_xlabel(names[name], fontsize=8)
    for row in panels:
        row[0].set_ylabel(label(found.metric), fontsize=8)
    figure.tight_layout()
    return svg(figure)


def label(metric: str) -> str:
    """Return what stands beside an axis of the val metric, with its unit."""
    return f"val {spoken(metric)} ({'nats' if metric == 'loss' else '%'})"


def scaled(metric: str, value: float | None) -> float:
    """Return a metric as the pictures show it: the loss in nats, any other in per cent."""
    return math.nan if value is None else value if metric == "loss" else 100 * value


def _curve(metric: str) -> str | None:
    return {"loss": "val_loss", "accuracy": "val_accuracy"}.get(metric)


def _rank(trial: Searched, metric: str) -> float:
    """Return where a trial's line lies in the stack: the best on top."""
    value = trial.value(metric)
    return -math.inf if value is None else -value if metric in LESS else value


def _place(dimension: Dimension, value: Any, number: int) -> float:
    """Return a value's place on its slice's axis: categories side by side, their trials spread a little."""
    if dimension.values is None:
        return value
    texts = [written(known) for known in dimension.values]
    return texts.index(written(value)) + 0.12 * ((number * 0.618) % 1 - 0.5)


def _height(dimension: Dimension, trial: Searched, name: str) -> float:
    """Return where a trial's line crosses a dimension's axis, from 0 to 1; ABSENT where it does not have it."""
    if name not in trial.drawn:
        return ABSENT
    if dimension.values is not None:
        return (_place(dimension, trial.drawn[name], trial.number) + 0.5) / len(dimension.values)
    return _part(dimension, trial.drawn[name])


def _part(dimension: Dimension, value: float) -> float:
    low, high = float(dimension.low or 0), float(dimension.high or 0)
    if dimension.log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def _ticks(dimension: Dimension) -> tuple[list[float], list[str]]:
    if dimension.values is not None:
        count = len(dimension.values)
        return [(i + 0.5) / count for i in range(count)], [spelled(value)[:14] for value in dimension.values]
    low, high = float(dimension.low or 0), float(dimension.high or 0)
    if dimension.log:
        powers = [10.0**p for p in range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)]
        marks = powers if len(powers) > 1 else [low, high]
    else:
        marks = [low, (low + high) / 2, high]
    return [_part(dimension, mark) for mark in marks], [f"{mark:.3g}" for mark in marks]


def _draw_axis(axis: Axes, place: int, heights: Sequence[float], texts: Sequence[str], *, absent: bool) -> None:
    axis.plot([place, place], [0, 1], color="black", lw=0.8, zorder=3)
    for height, text in [*zip(heights, texts, strict=True), *([(ABSENT, "none")] if absent else [])]:
        axis.plot([place, place + 0.03], [height, height], color="black", lw=0.8, zorder=3)
        axis.text(place + 0.05, height, text, fontsize=7, va="center", zorder=4,
                  bbox={"facecolor": "#fffdf8", "edgecolor": "none", "alpha": 0.75, "pad": 0.6})
