"""Metrics by name, from scikit-learn, each with its interval and n.

Shapes: N images, C classes, R resamples. For two classes, precision, recall, F1, AUROC and average precision are those of
the second one (`generated`, for a detector); for more, the unweighted mean over the classes that the images show (macro, one
against the rest). For classes of very different size: macro F1 and balanced accuracy (the mean recall) are such means however
many classes there are, and minority F1 is that of the rarer of two classes; weighted F1 counts a class by its images. Top-k
accuracy, with more than k classes, is the part of the images whose class is among the k likeliest. Those of detectors
alone (DETECTED) are in `gilt.evaluation.detection`.
"""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn import metrics as sk

from gilt.evaluation.uncertainty import percentiles, resampled_counts, resampled_weights, t_interval, weighted_ranks, wilson

DECIDED = ("precision", "recall", "f1")  # by the likeliest class
RANKED = ("auroc", "average_precision")  # by the probabilities' order
EVEN = ("macro_f1", "balanced_accuracy")  # every class counts alike
TOP = {f"top{k}_accuracy": k for k in (3, 5)}
DETECTED = ("eer", "tpr_at_1_fpr", "tpr_at_5_fpr", "brier", "ece", "validated_accuracy", "false_positive_rate")  # a detector's
NAMES = ("accuracy", "loss", *DECIDED, *RANKED, *EVEN, "weighted_f1", "minority_f1", *TOP, *DETECTED)
LESS = ("loss", "eer", "brier", "ece", "false_positive_rate")  # the metrics of which less is better
_SPOKEN = {"f1": "F1", "auroc": "AUROC", "macro_f1": "macro F1", "weighted_f1": "weighted F1", "minority_f1": "minority F1",
           "eer": "equal error rate", "tpr_at_1_fpr": "TPR at 1 % FPR", "tpr_at_5_fpr": "TPR at 5 % FPR",
           "brier": "Brier score", "ece": "calibration error (ECE)", "accuracy_at_half": "accuracy at an uncalibrated 0.5",
           "validated_accuracy": "accuracy at the validated threshold", "false_positive_rate": "false-positive rate"} | {
    name: f"top-{k} accuracy" for name, k in TOP.items()}


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


@dataclass(frozen=True)
class _Score:
    """A score of one class against the rest: its value and its values on R resamples."""

    value: float
    resampled_R: np.ndarray


def measure(labels: np.ndarray, probabilities: np.ndarray) -> tuple[dict[str, Metric], list[dict[str, Metric]]]:
    """Return (overall, by class): every metric by name for true labels int (N,) and probabilities (N, C).

    By class, accuracy and loss are over the class's own images, the others one against the rest. A metric that these
    labels leave undefined (AUROC without a positive or a negative) has the value None.
    """
    n, classes = probabilities.shape
    shown = np.bincount(labels, minlength=classes)  # images of each class
    ranks = _ranked([labels == c for c in range(classes)], probabilities.T, strata=labels)
    scores = [{**decided, **ranks[c]} if shown[c] else {} for c, decided in enumerate(_decided(labels, probabilities))]
    counted = scores[1:] if classes == 2 else scores
    names = (*DECIDED, *RANKED)
    overall = right(labels, probabilities) | {name: _mean([s[name] for s in counted if name in s], n) for name in names}
    overall |= {name: _mean([s[of] for s in scores if of in s], n) for name, of in zip(EVEN, ("f1", "recall"), strict=True)}
    overall["weighted_f1"] = _mean([s["f1"] for s in scores if s], n, weights=shown[shown > 0])
    if classes == 2 and all(scores):
        overall["minority_f1"] = _mean([scores[0 if shown[0] < shown[1] else 1]["f1"]], n)  # as frequent: the second, as for F1
    overall |= {name: _top(labels, probabilities, k) for name, k in TOP.items() if classes > k}
    by_class = [right(labels[labels == c], probabilities[labels == c])
                | {name: _mean([s[name]] if name in s else [], n) for name in names} for c, s in enumerate(scores)]
    return overall, by_class


def spoken(name: str) -> str:
    """Return a metric's name as a sentence has it: `macro_f1` is macro F1."""
    return _SPOKEN.get(name, name.replace("_", " "))


def right(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Metric]:
    """Return accuracy and loss (cross-entropy, nats): the metrics that any set of images has."""
    n = len(labels)
    if n == 0:
        return {name: Metric(None, None, None, 0) for name in ("accuracy", "loss")}
    guesses = probabilities.argmax(1)
    mean, low, high = t_interval(-np.log(np.clip(probabilities[np.arange(n), labels], 1e-15, 1)))
    return {"accuracy": metric(float(sk.accuracy_score(labels, guesses)), wilson(int((guesses == labels).sum()), n), n),
            "loss": metric(mean, (low, high), n)}


def ranked(positive: np.ndarray, scores: np.ndarray) -> dict[str, Metric]:
    """Return AUROC and average precision of scores (N,) for telling the positives bool (N,) from the rest."""
    found = _ranked([positive], scores[None], strata=positive)[0]
    return {name: _mean([found[name]] if name in found else [], len(scores)) for name in RANKED}


def likeliest(probabilities: np.ndarray, most: int) -> np.ndarray:
    """Return int (N, most): the likeliest classes, the first first; of equally likely ones the earlier, as argmax has it."""
    return np.argsort(-probabilities, axis=1, kind="stable")[:, :most]


def confusion(labels: np.ndarray, guesses: np.ndarray, classes: int) -> list[list[int]]:
    """Return the C x C counts: rows are true classes, columns predicted ones."""
    return sk.confusion_matrix(labels, guesses, labels=range(classes)).tolist()


def metric(value: float, interval: tuple[float, float], n: int) -> Metric:
    """Return a Metric; what is not a number becomes None."""
    numbers = [None if np.isnan(x) else float(x) for x in (value, *interval)]
    return Metric(*numbers, n)


def proportion(hits: int, n: int) -> Metric:
    """Return the part that `hits` are of n images, with Wilson's interval; undefined for no image."""
    return metric(float(hits / n), wilson(int(hits), int(n)), int(n)) if n else Metric(None, None, None, 0)


def _mean(scores: Sequence[_Score], n: int, *, weights: np.ndarray | None = None) -> Metric:
    """Return the mean of per-class scores with its interval; undefined where no class has one."""
    if not scores:
        return Metric(None, None, None, n)
    resampled_R = np.average([s.resampled_R for s in scores], 0, weights)
    value = float(np.average([s.value for s in scores], 0, weights))
    return metric(value, percentiles(resampled_R, value), n)


def _top(labels: np.ndarray, probabilities: np.ndarray, k: int) -> Metric:
    hits = int((likeliest(probabilities, k) == labels[:, None]).sum())
    return proportion(hits, len(labels))


def _decided(labels: np.ndarray, probabilities: np.ndarray) -> list[Mapping[str, _Score]]:
    """Return precision, recall and F1 of each class."""
    classes, guesses = probabilities.shape[1], probabilities.argmax(1)
    values = sk.precision_recall_fscore_support(labels, guesses, labels=range(classes), zero_division=0)[:3]
    counts_CC = np.array(confusion(labels, guesses, classes))
    resampled = from_counts(*resampled_counts(counts_CC), counts_CC.sum(1))
    return [{name: _Score(float(value[c]), scores_RC[:, c])
             for name, value, scores_RC in zip(DECIDED, values, resampled, strict=True)} for c in range(classes)]


def from_counts(hits: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return precision, recall and F1 of counts a class: (R, C) named rightly and named so, (C,) that there are."""
    return hits / np.maximum(predicted, 1), hits / np.maximum(true, 1), 2 * hits / np.maximum(predicted + true, 1)


def _ranked(positives: Sequence[np.ndarray], scores_CN: np.ndarray, *, strata: np.ndarray) -> list[dict[str, _Score]]:
    """Return AUROC and average precision of each class; {} for one without a positive or a negative.

    All classes see the same resamples: an image drawn twice counts twice for each of them, so that a mean over classes
    has the interval it should have.
    """
    defined = [c for c, positive in enumerate(positives) if positive.any() and not positive.all()]
    if not defined:
        return [{} for _ in positives]
    drawn = [[weighted_ranks(positives[c], scores_CN[c], weights_Nr) for c in defined]
             for weights_Nr in resampled_weights(strata)]
    found: list[dict[str, _Score]] = [{} for _ in positives]
    for place, c in enumerate(defined):
        values = (sk.roc_auc_score(positives[c], scores_CN[c]), sk.average_precision_score(positives[c], scores_CN[c]))
        resampled = (np.concatenate([piece[place][i] for piece in drawn]) for i in range(len(RANKED)))
        found[c] = {name: _Score(float(value), scores_R)
                    for name, value, scores_R in zip(RANKED, values, resampled, strict=True)}
    return found
