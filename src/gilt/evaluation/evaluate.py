"""Evaluate: predictions to metrics with intervals, overall, by class and by origin."""
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from gilt.config import GENERATED, REAL
from gilt.errors import TableError, listed
from gilt.evaluation.calibration import p_generated
from gilt.evaluation.detection import study_metrics
from gilt.evaluation.metrics import Metric, confusion, measure, ranked, right
from gilt.evaluation.predictions import Predictions


@dataclass(frozen=True)
class Evaluation:
    """Metrics by name; `by` holds the metrics of each class and origin; `left_out` counts rows by reason.

    Confusion rows are true classes, columns predicted ones, in the order of `classes`: a detector's are real, generated.
    """

    metrics: dict[str, Metric]
    by: dict[str, dict[str, dict[str, Metric]]]
    confusion: list[list[int]]
    classes: tuple[str, ...]
    target: str
    left_out: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """Return plain values: metrics by name, each `value, low, high, n`; then by, confusion, classes, left_out."""
        return asdict(self) | {"classes": list(self.classes)}


def evaluate(predictions: Predictions, *, by: Sequence[str] = ("class", "origin")) -> Evaluation:
    """Return how right the predictions are, with 95 % intervals over images.

    By the target itself, a group's accuracy and loss are over its own images and its other metrics one against the rest
    (each generator against the real images); by the other column, a group is judged as if it were the whole.
    Rows that cannot be judged (unreadable, or of a class that the classifier does not know) are counted in `left_out`,
    never dropped in silence. Raises TableError where no row can be judged.
    """
    if predictions.target == "origin" and predictions.classes == (GENERATED, REAL):  # adopted: others count generated first
        predictions = replace(predictions, logits=predictions.logits[:, ::-1], classes=(REAL, GENERATED))
    labels, readable = predictions.labels, predictions.readable
    known = readable & (labels >= 0)
    left_out = {"unreadable": int((~readable).sum()),
                f"{predictions.target} unknown to the classifier": int((readable & (labels < 0)).sum())}
    if not known.any():
        raise TableError(f"no row can be judged: none has a {predictions.target} that the classifier knows "
                         f"({listed(predictions.classes)})")
    labels, probabilities = labels[known], predictions.probabilities[known]
    overall, by_class = measure(labels, probabilities)
    scores = p_generated(predictions)[known] if predictions.detects else probabilities[:, 1]
    columns = {"class": predictions.class_, "origin": predictions.origin}
    groups: dict[str, dict[str, dict[str, Metric]]] = {}
    for name in by:
        values = np.array([str(v) for v in columns[name]], object)[known]
        if name == predictions.target == "class":
            found = dict(zip(predictions.classes, by_class, strict=True))
            groups[name] = {value: found[value] for value in sorted(set(values))}
        elif name == predictions.target:
            groups[name] = {value: _origin(values, value, (labels, probabilities), scores) for value in sorted(set(values))}
        else:
            groups[name] = {value: overall if (values == value).all() else
                            measure(labels[values == value], probabilities[values == value])[0]
                            for value in sorted(set(values))}
    if predictions.detects:
        overall = overall | study_metrics(predictions)
    return Evaluation(overall, groups, confusion(labels, probabilities.argmax(1), len(predictions.classes)),
                      predictions.classes, predictions.target, {k: v for k, v in left_out.items() if v})


def _origin(origins: np.ndarray, origin: str, said: tuple[np.ndarray, np.ndarray], scores: np.ndarray) -> dict[str, Metric]:
    """Return one origin's accuracy and loss, and how well a generator's images are ranked above the real ones by `scores`."""
    (labels, probabilities), own, real = said, origins == origin, origins == REAL
    found = right(labels[own], probabilities[own])
    if origin == REAL or not real.any():
        return found
    pair = own | real
    return found | ranked(own[pair], scores[pair])
