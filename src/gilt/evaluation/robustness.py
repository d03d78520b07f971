"""Robustness: what a detector is worth when all images, real and generated alike, went through the same change.

The threshold and the temperature are the detector's own, from its validation: nothing is fitted to the changed images.

Shapes: N images.
"""
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gilt.config import REAL
from gilt.errors import TableError
from gilt.evaluation.calibration import decide, p_generated
from gilt.evaluation.detection import at_threshold
from gilt.evaluation.metrics import Metric, metric, proportion
from gilt.evaluation.operating import ranking, rare
from gilt.evaluation.predictions import Predictions
from gilt.evaluation.uncertainty import paired_wilson
from gilt.training import Calibration

SHOWN = ("auroc", "accuracy", "false_positive_rate", "recall", "tpr_at_5_fpr")  # of a point, in tables and curves
PAIRED = ("accuracy_change", "flipped")  # against the same images unchanged


@dataclass(frozen=True)
class Point:
    """A detector under one change: `kind` and `strength` (None: as the images are), and metrics by name.

    AT_THRESHOLD and RANKING as for any detector; `accuracy_change`, the difference of the accuracy from that on the same images
    unchanged, and `flipped`, the part of them that is now called otherwise. `generators` holds each one's recall, `worst` the
    generator of which the least is found. `left_out` counts images that the change, or their file, did not allow.
    """

    kind: str
    strength: float | None
    n_real: int
    n_generated: int
    metrics: dict[str, Metric]
    generators: dict[str, Metric]
    worst: str | None
    left_out: int

    @property
    def name(self) -> str:
        """The change as it is written on the command line."""
        return self.kind if self.strength is None else f"{self.kind}={self.strength:g}"


@dataclass(frozen=True)
class Robustness:
    """A detector under every change: `plain` without any, `points` in the order asked for; and notes beside the numbers."""

    calibration: Calibration | None
    plain: Point
    points: tuple[Point, ...]
    notes: tuple[str, ...]

    @property
    def kinds(self) -> dict[str, list[Point]]:
        """The points of each kind of change, the strengths rising."""
        found: dict[str, list[Point]] = {}
        for point in self.points:
            found.setdefault(point.kind, []).append(point)
        return {kind: sorted(points, key=lambda point: point.strength or 0) for kind, points in found.items()}

    def worst(self, name: str = "accuracy") -> Point | None:
        """Return the point with the least of a metric (the most false positives); None where no point has it."""
        known = [point for point in self.points if point.metrics.get(name) and point.metrics[name].value is not None]
        sign = -1 if name == "false_positive_rate" else 1
        return min(known, key=lambda point: sign * point.metrics[name].value) if known else None

    def as_json(self) -> dict[str, Any]:
        """Return plain values; each point with its name."""
        return {"calibration": self.calibration.model_dump() if self.calibration else None, "notes": list(self.notes),
                "plain": asdict(self.plain), "points": [{"name": point.name, **asdict(point)} for point in self.points]}


def measured(plain: Predictions, changed: Sequence[tuple[tuple[str, float], Predictions]]) -> Robustness:
    """Return what a detector is worth on images as they are (`plain`), and under each (kind, strength) on the same images.

    Intervals are 95 %, over images. Raises TableError where the predictions are no detector's, are not of the same images, or
    none can be judged.
    """
    points = []
    for (kind, strength), predictions in changed:
        if list(predictions.path) != list(plain.path):
            raise TableError(f"the predictions under {kind}={strength:g} are not of the same images as those without a change")
        points.append(_point(kind, strength, predictions, plain))
    first = _point("none", None, plain, plain)
    return Robustness(plain.calibration, first, tuple(points), tuple(_notes(plain.calibration, first, points)))


def _point(kind: str, strength: float | None, predictions: Predictions, plain: Predictions) -> Point:
    known = predictions.traced & plain.readable
    if not known.any():
        why = next((error for error in predictions.error if error), "no image has a known origin")
        raise TableError(f"no image can be judged under {kind}{'' if strength is None else f'={strength:g}'}: {why}")
    p, before = p_generated(predictions)[known], p_generated(plain)[known]
    origins = np.array(predictions.origin, object)[known]
    generated = origins != REAL
    called, called_before = decide(p, predictions.calibration), decide(before, plain.calibration)
    metrics: dict[str, Metric] = at_threshold(generated, called) | ranking(generated, p, strata=origins)
    if strength is not None:
        metrics |= _against(generated, called, called_before)
    found = {name: _share(called[origins == name]) for name in sorted(set(origins[generated]))}
    return Point(kind, strength, int((~generated).sum()), int(generated.sum()), metrics, found,
                 min(found, key=lambda name: found[name].value) if found else None, int((~known).sum()))


def _against(generated: np.ndarray, called: np.ndarray, before: np.ndarray) -> Mapping[str, Metric]:
    right, was = called == generated, before == generated
    change = metric(float(right.mean() - was.mean()), paired_wilson(right, was), len(right))
    return {"accuracy_change": change, "flipped": _share(called != before)}


def _share(hits: np.ndarray) -> Metric:
    return proportion(hits.sum(), len(hits))


def _notes(calibration: Calibration | None, plain: Point, points: Sequence[Point]) -> list[str]:
    notes = []
    if calibration is None:
        notes.append("No validated threshold: the detector was saved without one, and 0.5 decides.")
    for side, count in (("real", plain.n_real), ("generated", plain.n_generated)):
        if not count:
            notes.append(f"There are no {side} images among them: nothing can be said of how the two are told apart.")
    if plain.n_real and plain.n_generated:
        notes += rare(plain.n_real, (0.05,))
    if lost := {point.name: point.left_out for point in (plain, *points) if point.left_out}:
        most = max(lost, key=lambda name: lost[name])
        notes.append(f"Not every image could be judged under every change: {lost[most]:,} not under {most}.")
    return notes
