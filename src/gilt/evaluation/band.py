"""Uncertain: what a detector's band is worth on images it never saw. How many get no verdict, and how right the others are.

Shapes: N images.
"""
from dataclasses import dataclass

import numpy as np

from gilt.evaluation.calibration import ALPHA, decide, undecided
from gilt.evaluation.metrics import Metric, proportion
from gilt.training import Calibration

OUTCOMES = {
    "uncertain_real": "of the real images, uncertain", "uncertain_generated": "of the generated images, uncertain",
    "accuracy": "accuracy of the verdicts", "false_positive_rate": "false-positive rate of the verdicts",
    "real_called_generated": "of all real images, called generated",
    "generated_called_real": "of all generated images, called real"}  # metric -> what it is
PROMISED = ("real_called_generated", "generated_called_real")  # at most ALPHA, on images like the validation images


@dataclass(frozen=True)
class Undecided:
    """What comes of the band from `low` to `high`: OUTCOMES by name.

    `accuracy` and `false_positive_rate` are over the images that get a verdict, the rest over all of their side. The last two,
    PROMISED, are at most ALPHA on images like the validation images.
    """

    low: float
    high: float
    metrics: dict[str, Metric]

    @property
    def broken(self) -> tuple[str, ...]:
        """Which of the promises do not hold here: their whole interval lies above ALPHA."""
        return tuple(name for name in PROMISED if (self.metrics[name].low or 0) > ALPHA)


def band_judged(p: np.ndarray, generated: np.ndarray, calibration: Calibration | None) -> Undecided | None:
    """Return what the band is worth on probabilities (N,) and truth bool (N,); None where there is no band."""
    if calibration is None or calibration.band is None:
        return None
    unsure, called = undecided(p, calibration), decide(p, calibration)
    sure = ~unsure
    values = (unsure[~generated], unsure[generated], (called == generated)[sure], called[sure & ~generated],
              (called & sure)[~generated], (~called & sure)[generated])
    return Undecided(*calibration.band, {
        name: proportion(hits.sum(), len(hits)) for name, hits in zip(OUTCOMES, values, strict=True)})
