"""Worth as a page section: the verdict, the learning curve with each arm's equivalence drawn on it, the table, the controls."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from gilt.data.controls import MEANT
from gilt.evaluation.exchange import Interval
from gilt.evaluation.metrics import spoken
from gilt.reports.pages import write_page
from gilt.reports.plots import BLUE, COLOURS, GOLD, GREY, svg
from gilt.studies.equivalents import ArmWorth, Setting
from gilt.studies.worth import Worth
from gilt.studies.worth_words import alarms, answers, notes

MODES = {"add": "added", "replace": "in place of as many", "ai": "alone"}
RED = "#b3261e"
HEADER = ("arm", "rows", "real", "generated", "test error", "as good as", "worth of one", "seeds", "verdict")
LABELLED = 4  # arms whose real equivalent is written at the axis: more would lie over one another


def worth_page(worth: Worth, *, to: Path | str, title: str, command: str = "", bought: Sequence[str] = ()) -> Path:
    """Write the worth of a study as one self-contained HTML page to `to` and return its path.

    `command` is what makes the page again, `bought` what `Worth.break_even` says.
    """
    return write_page(to, "worth.html", title=title, command=command, bought=bought, **worth_section(worth))


def worth_section(worth: Worth) -> dict[str, Any]:
    """Return what the template `worth_section.html` shows: `worth_alarms`, `worth_answers`, `worth_notes`, `worth_settings`.

    Each setting has its name, its picture (SVG) and its table's rows, controls last; `worth_header` heads the tables.
    """
    return {"worth_alarms": alarms(worth), "worth_answers": answers(worth), "worth_notes": notes(worth),
            "worth_header": HEADER, "worth_settings": [
                {"name": setting.name, "picture": worth_picture(setting, worth.metric),
                 "rows": [row(arm, worth.metric) for arm in _ordered(setting)]} for setting in worth.settings]}


def worth_rows(worth: Worth) -> list[list[Any]]:
    """Return the table of all settings, HEADER's columns; the arm's name carries its setting's where there are several."""
    return [[f"{arm.arm} ({setting.name})" if setting.name else arm.arm, *row(arm, worth.metric)[1:]]
            for setting in worth.settings for arm in _ordered(setting)]


def row(arm: ArmWorth, metric: str) -> list[str]:
    """Return one arm's cells, in HEADER's order."""
    what = f"control: {arm.control.replace('_', ' ')}" if arm.control else MODES[arm.mode]
    scale, digits, unit = (1, 3, "") if metric == "loss" else (100, 1, " %")
    return [arm.arm, what, f"{arm.n:,.0f}", f"{arm.m:,.0f}", _cell(arm.error.scaled(0, 1 / scale), digits) + unit,
            _cell(arm.n_eq, 0), _cell(arm.rho, 2), str(len(arm.seeds)), arm.verdict]


def _ordered(setting: Setting) -> list[ArmWorth]:
    return sorted(setting.arms, key=lambda arm: arm.control is not None)


def _cell(x: Interval, digits: int) -> str:
    """Return "0.25 [0.15, 0.35]", "at least 0.15", "at most 0.35", or a value alone where there is no interval."""
    if x.low is None or x.high is None:
        return "beyond the curve" if x.value is None else f"{x.value:,.{digits}f}"
    value = "" if x.value is None else f"{x.value:,.{digits}f} "
    if np.isfinite([x.low, x.high]).all():
        return f"{value}[{x.low:,.{digits}f}, {x.high:,.{digits}f}]"
    if not np.isfinite([x.low, x.high]).any():
        return f"{value or 'beyond the curve '}[no bound]"
    bound = f"at least {x.low:,.{digits}f}" if np.isfinite(x.low) else f"at most {x.high:,.{digits}f}"
    return f"{value}[{bound}]" if value else bound


def worth_picture(setting: Setting, metric: str) -> str:
    """Draw the real-only curve with every arm's equivalence on it, and beside it each arm's worth with its interval."""
    arms = _ordered(setting)
    figure = Figure(figsize=(9.4, max(3.6, 1.2 + 0.34 * len(arms))), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2) if arms else (1, 0.01))
    _draw_curve(left, setting, metric)
    colours = _arm_colours(arms)
    for arm in arms:
        _draw_equivalence(left, arm, setting, 1 if metric == "loss" else 100, colours[arm.arm])
    if sum(not arm.control for arm in arms) <= LABELLED:
        _write_equivalents(left, arms, colours)
    _draw_worths(right, arms, colours)
    return svg(figure)


def _arm_colours(arms: Sequence[ArmWorth]) -> dict[str, str]:
    bright = [colour for colour in COLOURS if colour not in (BLUE, GREY)]
    own = {arm.arm: bright[i % len(bright)] for i, arm in enumerate(a for a in arms if not a.control)}
    return {arm.arm: own.get(arm.arm, GREY) for arm in arms}


def _draw_curve(axis: Axes, setting: Setting, metric: str) -> None:
    curve, scale = setting.curve, 1 if metric == "loss" else 100
    grid = np.geomspace(curve.sizes[0], curve.sizes[-1], 200)
    axis.plot(curve.sizes_SK.ravel(), scale * curve.errors_SK.ravel(), "o", color=BLUE, ms=3, alpha=0.35)
    axis.plot(grid, scale * curve.mean(grid), color=BLUE, lw=2)
    axis.plot(curve.sizes, scale * curve.errors_SK.mean(0), "o", color=BLUE, ms=6, label="photographs only")
    axis.set(xscale="log", xlabel="photographs trained on",
             ylabel="test loss (nats)" if metric == "loss" else f"test error (1 - {spoken(metric)}, %)")
    axis.set_xticks(curve.sizes, [f"{size:,.0f}" for size in curve.sizes], rotation=30 if len(curve.sizes) > 5 else 0)
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlim(curve.sizes[0] / 1.35, curve.sizes[-1] * 1.35)
    heights = [scale * e for e in (*curve.errors_SK.ravel(), *(arm.error.value or 0 for arm in setting.arms))]
    room = 0.08 * (max(heights) - min(heights))
    axis.set_ylim(min(heights) - 2 * room, max(heights) + room)


def _draw_equivalence(axis: Axes, arm: ArmWorth, setting: Setting, scale: float, colour: str) -> None:
    """Draw an arrow from an arm's own photographs and error across to the curve, and down to its real equivalent."""
    sizes, y = setting.curve.sizes, scale * (arm.error.value or 0.0)
    left, right = axis.get_xlim()
    start = arm.n if arm.n >= left else left
    end = arm.n_eq.value or (sizes[-1] * 1.3 if y < scale * setting.curve.errors_SK.mean(0)[-1] else sizes[0] / 1.3)
    thin = {"color": colour, "alpha": 0.55 if arm.control else 0.95}
    axis.plot(start, y, "D" if arm.control else "s", ms=5, zorder=4, clip_on=False, **thin)
    axis.annotate("", (end, y), (start, y), arrowprops={"arrowstyle": "-|>", "lw": 1.4, "shrinkA": 3, "shrinkB": 0, **thin})
    if arm.n_eq.value is not None:
        axis.vlines(end, axis.get_ylim()[0], y, ls=":", lw=1, zorder=0, **thin)
    low, high = arm.n_eq.low, arm.n_eq.high
    if low is not None and high is not None:
        axis.plot(np.clip([low, high], left, right), [y, y], lw=5, solid_capstyle="butt", zorder=1, color=colour, alpha=0.25)


def _write_equivalents(axis: Axes, arms: Sequence[ArmWorth], colours: dict[str, str]) -> None:
    """Write each arm's real equivalent beside its dotted line, in steps, so that near ones stay apart."""
    known = sorted((arm for arm in arms if not arm.control and arm.n_eq.value is not None), key=lambda arm: arm.n_eq.value or 0)
    for i, arm in enumerate(known):
        axis.annotate(f" {arm.n_eq.value:,.0f}", (arm.n_eq.value or 0, 0.02 + 0.05 * i), xycoords=("data", "axes fraction"),
                      color=colours[arm.arm], fontsize=8)


def _draw_worths(axis: Axes, arms: Sequence[ArmWorth], colours: dict[str, str]) -> None:
    """Draw each arm's worth of one image with its interval; open ends are arrows, a control's due is a tick."""
    ends = [x for arm in arms for x in (arm.rho.value, arm.rho.low, arm.rho.high, 0.0, 1.0) if x is not None and np.isfinite(x)]
    low, high = (min(ends, default=0.0), max(ends, default=1.0))
    edge = 0.08 * (high - low)
    for place, arm in enumerate(reversed(arms)):
        colour, rho = colours[arm.arm], arm.rho
        if rho.low is not None and rho.high is not None:
            begin = max(rho.low, -arm.n / arm.m)  # no arm is worth less than no photograph
            axis.plot([max(begin, low - edge), min(rho.high, high + edge)], [place, place], color=colour, lw=2.5)
            for x, marker, end in ((begin, "<", low - edge), (rho.high, ">", high + edge)):
                if x < low - edge or x > high + edge:
                    axis.plot(end, place, marker, color=colour, ms=7)
        if rho.value is not None:
            axis.plot(rho.value, place, "D", color=colour, ms=6)
        if arm.control:
            axis.plot(MEANT[arm.control], place, "|", color=RED if arm.verdict == "fails" else GOLD, ms=18, mew=2.5)
    axis.axvline(0, color="black", lw=0.8)
    axis.axvline(1, color=BLUE, lw=0.8, ls="--")
    axis.set_yticks(range(len(arms)), [arm.arm for arm in reversed(arms)])
    axis.set(xlim=(low - 2 * edge, high + 2 * edge), ylim=(-0.6, len(arms) - 0.4), xlabel="worth of one image, in photographs")
