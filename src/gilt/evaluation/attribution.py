"""Attribution: how rightly a detector names which generator made an image, at the threshold that it brought along.

Below the threshold an image is called real, else it gets the name of the likeliest generator. What is judged is that call, not
the likeliest class of the bare network.

Shapes: N images, K origins (the known ones, then the unknown), C classes.
"""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gilt.config import GENERATED, REAL
from gilt.evaluation.calibration import calibrated, named
from gilt.evaluation.metrics import Metric, confusion, from_counts, proportion
from gilt.evaluation.operating import resampled_metric
from gilt.evaluation.predictions import Predictions
from gilt.evaluation.uncertainty import resampled_counts

NAMING = {"accuracy": "origin named rightly", "mean_recall": "mean over origins",
          "naming": "generator named rightly, where it was found"}  # metric -> what it is


@dataclass(frozen=True)
class Attribution:
    """Which origin images are called, against which they have.

    `confusion` rows are the origins `true` (those that the detector can name, then `unknown` generators), columns the names
    `called` that it can give. Metrics are over images whose origin it can name: `accuracy`; `mean_recall`, every origin
    counting alike; `naming`, the part named rightly of the generated images that it called generated. `origins` holds each
    one's recall, and the precision of its name over all images judged.
    """

    true: tuple[str, ...]
    called: tuple[str, ...]
    unknown: tuple[str, ...]
    confusion: list[list[int]]
    metrics: dict[str, Metric]
    origins: dict[str, dict[str, Metric]]


def attribution(predictions: Predictions) -> Attribution | None:
    """Return how rightly origins are named; None of a detector that tells no more than real from generated.

    Unreadable images, and those of unknown origin, do not count.
    """
    if not predictions.detects or GENERATED in predictions.classes or len(predictions.classes) < 3:
        return None
    known = predictions.traced
    origins = np.array(predictions.origin, object)[known]
    called = in_front(predictions.classes, REAL)
    unknown = tuple(sorted(set(origins) - set(called)))
    names = (*called, *unknown)
    place = {name: i for i, name in enumerate(names)}
    said = np.array([place[predictions.classes[i]] for i in named(calibrated(predictions), predictions)[known]], int)
    counts_KK = np.array(confusion(np.array([place[origin] for origin in origins], int), said, len(names)))
    return Attribution(names, called, unknown, counts_KK[:, :len(called)].tolist(), _overall(counts_KK, len(called)),
                       _by_origin(counts_KK, called))


def in_front(names: Sequence[str], first: str) -> tuple[str, ...]:
    """Return the names with one of them moved to the front."""
    return (first, *(name for name in names if name != first))


def _overall(counts_KK: np.ndarray, classes: int) -> dict[str, Metric]:
    """Return NAMING over the images of the first `classes` origins; the first of all is real."""
    known = counts_KK[:classes]
    right, found = known.diagonal(), known[1:, 1:]
    true = known.sum(1)
    there = true > 0
    mean = Metric(None, None, None, int(true.sum()))
    if there.any():
        drawn = (resampled_counts(counts_KK)[0][:, :classes] / np.maximum(true, 1))[:, there].mean(1)
        mean = resampled_metric(float((right[there] / true[there]).mean()), drawn, int(true[there].min()), int(true.sum()))
    return {"accuracy": proportion(right.sum(), true.sum()), "mean_recall": mean,
            "naming": proportion(found.diagonal().sum(), found.sum())}


def _by_origin(counts_KK: np.ndarray, called: Sequence[str]) -> dict[str, dict[str, Metric]]:
    hits, predicted = resampled_counts(counts_KK)
    true, said = counts_KK.sum(1), counts_KK.sum(0)
    precision = from_counts(hits, predicted, true)[0]
    found = {}
    for i, name in enumerate(called):
        hit = int(counts_KK[i, i])
        found[name] = {"recall": proportion(hit, true[i]), "precision": resampled_metric(
            hit / said[i], precision[:, i], int(said[i]), int(said[i])) if said[i] else proportion(0, 0)}
    return found
