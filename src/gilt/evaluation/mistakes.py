"""Mistakes: the classes that fare worst, the ones most often taken for each other, and the images that show it.

Shapes: N images, C classes. A worst one of many is partly so by chance: its interval is that of the class alone.
"""
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from gilt.errors import TableError
from gilt.evaluation.evaluate import Evaluation
from gilt.evaluation.metrics import Metric, proportion
from gilt.evaluation.predictions import Predictions


@dataclass(frozen=True)
class Pair:
    """`count` images of the class `true` that were taken for `predicted`; `share` is their part of the class's n images."""

    true: str
    predicted: str
    count: int
    share: Metric


def worst_classes(evaluation: Evaluation, *, most: int | None = None) -> list[tuple[str, dict[str, Metric]]]:
    """Return the classes with their metrics, the worst first: by F1, then recall; a detector's by accuracy.

    `most` of them, or all. A class that no image shows is not among them. Raises TableError where the evaluation has no
    metrics by class.
    """
    if "class" not in evaluation.by:
        raise TableError("this evaluation has no metrics by class: evaluate with by=('class',)")
    names = ("f1", "recall") if evaluation.target == "class" else ("accuracy", "loss")

    def rank(item: tuple[str, dict[str, Metric]]) -> list[float]:
        values = [item[1][name].value if name in item[1] else None for name in names]
        return [2.0 if value is None else value for value in values]

    return sorted(evaluation.by["class"].items(), key=rank)[:most]


def confused_pairs(evaluation: Evaluation, *, most: int | None = 10) -> list[Pair]:
    """Return the pairs (true class, predicted class) that stand for the most wrong images, with Wilson's interval."""
    counts = np.array(evaluation.confusion)
    wrong = counts - np.diag(np.diag(counts))
    pairs = []
    for place in np.argsort(-wrong, axis=None, kind="stable")[:most]:
        i, j = divmod(int(place), len(counts))
        if not wrong[i, j]:
            break
        count, n = int(wrong[i, j]), int(counts[i].sum())
        pairs.append(Pair(evaluation.classes[i], evaluation.classes[j], count, proportion(count, n)))
    return pairs


def mistakes_json(evaluation: Evaluation, *, most: int = 10) -> dict[str, Any]:
    """Return plain values: `worst` (class and its metrics), and `confused` (true, predicted, count, share)."""
    worst = worst_classes(evaluation, most=most) if "class" in evaluation.by else []
    return {"worst": [{"class": name} | {key: asdict(value) for key, value in metrics.items()} for name, metrics in worst],
            "confused": [asdict(pair) for pair in confused_pairs(evaluation, most=most)]}


def confusion_order(counts: Sequence[Sequence[int]]) -> list[int]:
    """Return the classes' places in an order in which those taken for each other stand together.

    The order of the leaves of an average-linkage tree over 1 - (the mean part of either class that is taken for the other).
    """
    matrix = np.array(counts, float)
    if len(matrix) < 3:
        return list(range(len(matrix)))
    parts = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    distances = 1 - (parts + parts.T) / 2
    np.fill_diagonal(distances, 0)
    tree = hierarchy.linkage(squareform(distances, checks=False), "average", optimal_ordering=True)
    return [int(place) for place in hierarchy.leaves_list(tree)]


def images_of(predictions: Predictions, true: str, predicted: str) -> np.ndarray:
    """Return the places of the images of class `true` that were taken for `predicted`, the surest first."""
    place = {name: i for i, name in enumerate(predictions.classes)}
    readable = np.flatnonzero(predictions.readable)
    probabilities = predictions.probabilities[readable]
    hits = (predictions.labels[readable] == place[true]) & (probabilities.argmax(1) == place[predicted])
    return readable[hits][np.argsort(-probabilities[hits, place[predicted]], kind="stable")]
