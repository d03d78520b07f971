"""The page of a detector under changes: a curve for each kind of change, every number with its interval, what falls first."""
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gilt.data.perturb import KINDS
from gilt.evaluation.metrics import spoken
from gilt.evaluation.robustness import SHOWN, Point, Robustness
from gilt.reports.pages import percent, write_page
from gilt.reports.plots import COLOURS, svg

DRAWN = {"auroc": COLOURS[0], "accuracy": COLOURS[1], "recall": COLOURS[2], "false_positive_rate": COLOURS[3]}
ABREAST = 3  # pictures a row
FALLING = ("jpeg", "webp", "resize-back", "crop")  # a smaller number is more of it, so it comes later


def robustness_page(found: Robustness, *, to: Path | str, name: str = "", about: str = "",
                    warnings: Sequence[str] = ()) -> Path:
    """Write what a detector is worth under each change to `to`, as one HTML page that opens offline, and return its path.

    `about` says what it was judged on; `warnings` stand on top: the shortcuts of the table.
    """
    return write_page(
        to, "robustness.html", name=name or "a detector", about=about, found=found, warnings=warnings,
        verdict=robustness_verdict(found), curves=robustness_curves(found) if found.points else "", shown=_shown(found),
        points=in_order(found), meanings={kind: KINDS[kind].meaning for kind in found.kinds})


def robustness_verdict(found: Robustness) -> list[str]:
    """Return what came of it in plain sentences, the main one first."""
    plain, lines = found.plain.metrics, []
    start = f"As they are, {percent(plain['accuracy'].value)} of {plain['accuracy'].n:,} images are called rightly"
    low = found.worst("accuracy")
    if low is None:
        return [f"{start}."]
    change = low.metrics["accuracy_change"]
    lines.append(f"{start}; under the worst of {len(found.points)} changes, {low.name}, "
                 f"{percent(low.metrics['accuracy'].value)} ({100 * change.value:+.1f} points, 95 % interval "
                 f"{100 * change.low:+.1f} to {100 * change.high:+.1f}).")
    false = found.worst("false_positive_rate")
    if false:
        lines.append(f"Real images are called generated most often under {false.name}: "
                     f"{percent(false.metrics['false_positive_rate'].value)} of {false.n_real:,}, as they are "
                     f"{percent(plain['false_positive_rate'].value)}.")
    least = found.worst("recall")
    if least:
        lines.append(f"Generated images are found least under {least.name}: {percent(least.metrics['recall'].value)} of "
                     f"{least.n_generated:,}, as they are {percent(plain['recall'].value)}.")
    held = [point.name for point in found.points if point.metrics["accuracy_change"].high >= 0]
    lines.append(f"Under {len(held)} of {len(found.points)} changes the accuracy is not below what it is without, as far as so "
                 "many images can tell.")
    return lines


def in_order(found: Robustness) -> list[Point]:
    """Return the images as they are, then each kind's points, from the weakest change to the strongest."""
    return [found.plain, *(point for kind, points in found.kinds.items() for point in _weakest_first(kind, points))]


def robustness_curves(found: Robustness) -> str:
    """Draw one picture a kind of change: AUROC, and accuracy, recall and false positives at the threshold, over the strength.

    The unchanged images stand left, each later place is a stronger change; bars are 95 % intervals over images.
    """
    kinds = found.kinds
    rows = -(-len(kinds) // ABREAST)
    figure = Figure(figsize=(10.4, 0.5 + 2.45 * rows))
    axes = figure.subplots(rows, ABREAST, squeeze=False, sharey=True).ravel()
    names = [name for name in DRAWN if name in found.plain.metrics and found.plain.metrics[name].value is not None]
    for axis, (kind, points) in zip(axes, kinds.items(), strict=False):
        _draw(axis, kind, [found.plain, *_weakest_first(kind, points)], names)
    for axis in axes[len(kinds):]:
        axis.set_axis_off()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="upper center", ncols=len(names), frameon=False, fontsize=9,
                  bbox_to_anchor=(0.5, 0.03))
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    return svg(figure)


def _draw(axis: Axes, kind: str, points: Sequence[Point], names: Sequence[str]) -> None:
    places = range(len(points))
    for shift, name in enumerate(names):
        metrics = [point.metrics[name] for point in points]
        x = [place + 0.05 * (shift - (len(names) - 1) / 2) for place in places]
        axis.plot(x, [m.value for m in metrics], color=DRAWN[name], marker="o", ms=3.5, lw=1.4, label=spoken(name))
        axis.vlines(x, [m.low for m in metrics], [m.high for m in metrics], color=DRAWN[name], lw=1.1, alpha=0.6)
    axis.axvline(0.5, color="#d8d4c8", lw=0.8)
    axis.set_xticks(list(places), ["as is", *(f"{point.strength:g}" for point in points[1:])])
    axis.set(title=kind, ylim=(-0.03, 1.03))
    axis.title.set_size(10)


def _weakest_first(kind: str, points: Sequence[Point]) -> list[Point]:
    return list(reversed(points) if kind in FALLING else points)


def _shown(found: Robustness) -> list[str]:
    return [name for name in SHOWN if name in found.plain.metrics]
