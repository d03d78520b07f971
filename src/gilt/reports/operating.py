"""Pictures of a detector, as inline SVG: its ROC and precision-recall curves, and the reliability of its probabilities."""
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gilt.evaluation.detection import Detection
from gilt.reports.plots import BLUE, GOLD, GREY, svg

CEILINGS = (0.01, 0.05)  # false-positive rates that are marked


def curves(found: Detection) -> str:
    """Draw the ROC and the precision-recall curve, with the detector's own threshold and 1 % and 5 % false positives marked."""
    figure = Figure(figsize=(8.6, 3.9))
    left, right = figure.subplots(1, 2)
    fpr, tpr, _ = np.array(found.roc).T
    left.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls=":")
    for ceiling in CEILINGS:
        left.axvline(ceiling, color=GREY, lw=0.7, ls="--")
    left.plot(fpr, tpr, color=BLUE, lw=1.8)
    recall, precision, _ = np.array(found.pr).T
    share = found.n_generated / (found.n_real + found.n_generated)
    right.axhline(share, color=GREY, lw=0.8, ls=":")
    right.plot(recall[1:], precision[1:], color=BLUE, lw=1.8)
    (_, false), (_, hits) = found.confusion
    where = "validated threshold" if found.calibration else "0.5: no validated threshold"
    here = {"marker": "D", "color": GOLD, "mec": "black", "mew": 0.6, "ms": 8, "ls": "none", "zorder": 3, "label": where}
    left.plot(false / found.n_real, hits / found.n_generated, **here)
    if false + hits:
        right.plot(hits / found.n_generated, hits / (false + hits), **here)
    left.set(xlabel="real images called generated (false-positive rate)", ylabel="generated images found (recall)",
             title=f"ROC: area {found.metrics['auroc'].value:.3f}; dashed: 1 % and 5 %")
    right.set(xlabel="generated images found (recall)", ylabel="those called generated that are (precision)",
              title=f"Precision-recall: AP {found.metrics['average_precision'].value:.3f}; dotted: chance")
    for axis in (left, right):
        axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axis.title.set_size(9)
    left.legend(loc="lower right", frameon=False, fontsize=8)
    figure.tight_layout(w_pad=3)
    return svg(figure)


def reliability_picture(found: Detection, p: np.ndarray, generated: np.ndarray) -> str:
    """Draw how often images of like probability are generated, and below how many images got which: p (N,), truth bool (N,)."""
    figure = Figure(figsize=(5.6, 5.2))
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.1))
    top.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls=":")
    for one in found.reliability.bins if found.reliability else ():
        top.plot([one.p, one.p], [one.generated.low, one.generated.high], color=BLUE, lw=1.6)
        top.plot(one.p, one.generated.value, "o", color=BLUE, ms=5)
    top.set(ylabel="of these, generated", xlim=(-0.02, 1.02), ylim=(-0.03, 1.03))
    _histogram(below, p, generated)
    for axis in (top, below):
        axis.axvline(found.threshold, color=GOLD, lw=1.4)
        if found.undecided:
            axis.axvspan(found.undecided.low, found.undecided.high, color=GREY, alpha=0.15, lw=0)
    if found.undecided:
        top.text((found.undecided.low + found.undecided.high) / 2, 0.02, "uncertain", color="#667", fontsize=8, ha="center")
    top.text(found.threshold, 1.02, " threshold", color=GOLD, fontsize=8, va="bottom",
             ha="left" if found.threshold < 0.8 else "right")
    below.set(xlabel="probability of being generated", ylabel="images")
    figure.tight_layout()
    return svg(figure)


def _histogram(axis: Axes, p: np.ndarray, generated: np.ndarray) -> None:
    edges = np.linspace(0, 1, 21)
    axis.hist([p[~generated], p[generated]], bins=edges, stacked=True, color=[BLUE, GOLD], label=["real", "generated"])
    axis.set_ylim(top=1.3 * axis.get_ylim()[1])  # room for the legend
    axis.legend(frameon=False, fontsize=8, ncols=2, loc="upper center")
