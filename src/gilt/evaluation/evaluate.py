"""Evaluate: predictions to metrics with intervals, overall, by class and by origin."""
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gilt.errors import TableError, listed
from gilt.evaluation.metrics import Metric, confusion, measure
from gilt.evaluation.predictions import Predictions
from gilt.evaluation.uncertainty import wilson


@dataclass(frozen=True)
class Evaluation:
    """Metrics by name; `by` holds accuracy and n for each class and origin; `left_out` counts rows by reason."""

    metrics: dict[str, Metric]
    by: dict[str, dict[str, Metric]]
    confusion: list[list[int]]
    classes: tuple[str, ...]
    target: str
    left_out: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """Return plain values: metrics by name, each `value, low, high, n`; then by, confusion, classes, left_out."""
        return asdict(self) | {"classes": list(self.classes)}


def evaluate(predictions: Predictions, *, by: Sequence[str] = ("class", "origin")) -> Evaluation:
    """Return how right the predictions are, with 95 % intervals over images.

    Rows that cannot be judged (unreadable, or of a class that the classifier does not know) are counted in
    `left_out`, never dropped in silence. Raises TableError where no row can be judged.
    """
    labels, readable = predictions.labels, predictions.readable
    known = readable & (labels >= 0)
    left_out = {"unreadable": int((~readable).sum()),
                f"{predictions.target} unknown to the classifier": int((readable & (labels < 0)).sum())}
    if not known.any():
        raise TableError(f"no row can be judged: none has a {predictions.target} that the classifier knows "
                         f"({listed(predictions.classes)})")
    labels, probabilities = labels[known], predictions.probabilities[known]
    guesses = probabilities.argmax(1)
    groups: dict[str, dict[str, Metric]] = {}
    columns = {"class": predictions.class_, "origin": predictions.origin}
    for name in by:
        values = np.array([str(v) for v in columns[name]], object)[known]
        groups[name] = {value: _accuracy(guesses[values == value] == labels[values == value])
                        for value in sorted(Counter(values))}
    return Evaluation(measure(labels, probabilities), groups, confusion(labels, guesses, len(predictions.classes)),
                      predictions.classes, predictions.target, {k: v for k, v in left_out.items() if v})


def _accuracy(right: np.ndarray) -> Metric:
    low, high = wilson(int(right.sum()), len(right))
    return Metric(float(right.mean()), low, high, len(right))
