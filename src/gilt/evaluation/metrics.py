"""Metrics by name, from scikit-learn, each with its interval and n.

Shapes: N images, C classes. For two classes, precision, recall, F1, AUROC and average precision are those of the
second one (`generated`, for a detector); for more, the unweighted mean over classes (macro, one against the rest).
"""
from dataclasses import dataclass

import numpy as np
from sklearn import metrics as sk

from gilt.evaluation.uncertainty import percentiles, resampled_confusions, resampled_ranks, t_interval, wilson

NAMES = ("accuracy", "loss", "precision", "recall", "f1", "auroc", "average_precision")


@dataclass(frozen=True)
class Metric:
    """A value with its 95 % interval over n images; low and high are None where there is none."""

    value: float | None
    low: float | None
    high: float | None
    n: int

    def __str__(self) -> str:
        if self.value is None:
            return f"undefined (n = {self.n})"
        interval = "" if self.low is None else f" [{self.low:.3f}, {self.high:.3f}]"
        return f"{self.value:.3f}{interval} (n = {self.n})"


def measure(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Metric]:
    """Return every metric by name for true labels int (N,) and probabilities (N, C).

    A metric that these labels leave undefined (AUROC with one class only) has the value None.
    """
    n, classes = probabilities.shape
    guesses = probabilities.argmax(1)
    losses = -np.log(np.clip(probabilities[np.arange(n), labels], 1e-15, 1))
    mean, low, high = t_interval(losses)
    hits = int((guesses == labels).sum())
    found = {"accuracy": _metric(sk.accuracy_score(labels, guesses), *wilson(hits, n), n),
             "loss": _metric(mean, low, high, n)}
    binary = classes == 2
    averaging = {"average": "binary"} if binary else {"average": "macro", "labels": range(classes)}
    values = sk.precision_recall_fscore_support(labels, guesses, zero_division=0, **averaging)[:3]
    resampled = _from_confusions(resampled_confusions(np.array(confusion(labels, guesses, classes))), binary=binary)
    for name, value, scores_R in zip(("precision", "recall", "f1"), values, resampled, strict=True):
        found[name] = _metric(float(value), *percentiles(scores_R), n)
    return found | _ranked(labels, probabilities)


def _from_confusions(confusions_RCC: np.ndarray, *, binary: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return precision, recall and F1, each (R,), of R confusion matrices."""
    hits = np.diagonal(confusions_RCC, axis1=1, axis2=2).astype(float)
    predicted, true = confusions_RCC.sum(1), confusions_RCC.sum(2)
    precision, recall = hits / np.maximum(predicted, 1), hits / np.maximum(true, 1)
    f1 = 2 * hits / np.maximum(predicted + true, 1)
    if binary:
        return precision[:, 1], recall[:, 1], f1[:, 1]
    return precision.mean(1), recall.mean(1), f1.mean(1)


def _ranked(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Metric]:
    """Return AUROC and average precision; undefined (None) where a class has no image."""
    n, classes = probabilities.shape
    if len(np.unique(labels)) < classes:
        return {name: Metric(None, None, None, n) for name in ("auroc", "average_precision")}
    columns = [1] if classes == 2 else range(classes)
    values, resamples = [], []
    for c in columns:
        positive, scores = labels == c, probabilities[:, c]
        values.append((sk.roc_auc_score(positive, scores), sk.average_precision_score(positive, scores)))
        resamples.append(resampled_ranks(positive, scores, seed=c))
    return {name: _metric(float(np.mean([value[i] for value in values])),
                          *percentiles(np.mean([scores_R[i] for scores_R in resamples], 0)), n)
            for i, name in enumerate(("auroc", "average_precision"))}


def confusion(labels: np.ndarray, guesses: np.ndarray, classes: int) -> list[list[int]]:
    """Return the C x C counts: rows are true classes, columns predicted ones."""
    return sk.confusion_matrix(labels, guesses, labels=range(classes)).tolist()


def _metric(value: float | None, low: float | None, high: float | None, n: int) -> Metric:
    def number(x: float | None) -> float | None:
        return None if x is None or np.isnan(x) else float(x)

    return Metric(number(value), number(low), number(high), n)
