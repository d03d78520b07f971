"""Detection: what a detector is worth on images it never saw, at the threshold it brought along.

The threshold and the temperature come from validation (`gilt.evaluation.calibration`). What only the judged images themselves
could have told, the oracle, is kept apart and never among the metrics. Generated is the positive side everywhere.

Shapes: N images.
"""
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from gilt.config import GENERATED, REAL
from gilt.errors import TableError
from gilt.evaluation.attribution import Attribution, attribution
from gilt.evaluation.band import Undecided, band_judged
from gilt.evaluation.calibration import ALPHA, ENOUGH, HALF, best_threshold, decide, p_generated
from gilt.evaluation.metrics import Metric, confusion, from_counts, proportion
from gilt.evaluation.operating import RANKING, ranking_of_each, rare, resampled_metric, roc
from gilt.evaluation.predictions import Predictions
from gilt.evaluation.reliability import Reliability, reliability
from gilt.evaluation.uncertainty import RESAMPLES, resampled_counts, wilson
from gilt.training import Calibration

AT_THRESHOLD = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "false_positive_rate")
BY_GENERATOR = ("recall", *RANKING)
LOWER = ("eer",)  # of these, less is better
POINTS = 200  # of a curve, at most
ORACLE = "oracle: chosen on the images judged, not reachable in use"


@dataclass(frozen=True)
class Oracle:
    """The threshold that these very images would have chosen, and the best balanced accuracy: a bound, no result."""

    threshold: float
    balanced_accuracy: float
    label: str = ORACLE


@dataclass(frozen=True)
class Detection:
    """A detector judged: metrics by name, at `threshold` where they need one; curves, generators, sources, and notes.

    `calibration` is None where the detector has no validated threshold: then 0.5 decides. `confusion` rows are real and
    generated images, columns what they are called. `generators` holds each generator's metrics against all real images, `mean`
    their mean over generators and `worst` the generator that is worst in each. `sources` holds the false-positive rate by
    source of the real images. `undecided` is what its band comes to, where it has one, `attribution` how rightly it names
    generators, where it does. `roc` holds (false-positive rate, true-positive rate, threshold), `pr` (recall, precision,
    threshold). `left_out` counts images by reason; `notes` are sentences that belong beside the numbers.
    """

    calibration: Calibration | None
    n_real: int
    n_generated: int
    metrics: dict[str, Metric]
    confusion: list[list[int]]
    reliability: Reliability | None
    oracle: Oracle | None
    generators: dict[str, dict[str, Metric]]
    mean: dict[str, Metric]
    worst: dict[str, str]
    sources: dict[str, Metric]
    source: str  # what the sources are: a column's name, or "folder"
    roc: tuple[tuple[float, float, float], ...]
    pr: tuple[tuple[float, float, float], ...]
    left_out: dict[str, int]
    notes: tuple[str, ...]
    undecided: Undecided | None
    attribution: Attribution | None

    @property
    def threshold(self) -> float:
        """The probability from which on an image is called generated."""
        return self.calibration.threshold if self.calibration else HALF

    def as_json(self) -> dict[str, Any]:
        """Return plain values; `threshold` beside the fields."""
        return asdict(self) | {"threshold": self.threshold,
                               "calibration": self.calibration.model_dump() if self.calibration else None}


def detection(predictions: Predictions, *, sources: tuple[str, Sequence[str | None]] | None = None,
              seed: int = 0) -> Detection:
    """Return how well a detector tells generated images from real ones, with 95 % intervals over images.

    `sources` says what it names ("camera") and of each prediction where it comes from: false positives are counted by it.
    A detector that names generators is judged as one that tells real from generated, on generators that it does not know too.
    Unreadable images, and those of unknown origin, are counted in `left_out`. Raises TableError where no image can be judged,
    or where the predictions are no detector's.
    """
    p_all, known, readable = p_generated(predictions), predictions.traced, predictions.readable
    if not known.any():
        raise TableError("no image can be judged: none that could be read has a known origin")
    left_out = {"unreadable": int((~readable).sum()), "origin unknown": int((readable & ~known).sum())}
    p, origins = p_all[known], np.array(predictions.origin, object)[known]
    plain = p_generated(replace(predictions, calibration=None))[known]  # what others report: the network's own 0.5
    generated, calibration = origins != REAL, predictions.calibration
    called, both = decide(p, calibration), generated.any() and not generated.all()
    own = {name: generated & (origins == name) for name in sorted(set(origins[generated]))}
    ranked, mean = ranking_of_each({name: mask | ~generated for name, mask in own.items()}, generated, p, strata=origins)
    whole = ranking_of_each({"": np.ones(len(p), bool)}, generated, p, strata=origins)[0].get("", {})
    found = {name: _share(called[mask]) for name, mask in own.items()}
    generators = {name: {"recall": found[name], **ranked.get(name, {})} for name in own}
    if own:
        mean = {"recall": _mean_share(list(found.values()), seed), **mean}
    trust = reliability(p, generated, seed=seed) if both else None
    metrics = at_threshold(generated, called) | {"accuracy_at_half": _share((plain >= HALF) == generated)} | whole
    metrics |= {"brier": trust.brier, "ece": trust.ece} if trust else {}
    unsure = band_judged(p, generated, calibration)
    kind, where = sources or ("", [None] * len(known))
    where = np.array([str(name or "unknown") for name in where], object)[known]
    return Detection(
        calibration, int((~generated).sum()), int(generated.sum()), metrics,
        confusion(generated.astype(int), called.astype(int), 2), trust,
        Oracle(*best_threshold(p, generated)) if both else None, generators, mean, _worst(generators),
        by_source(called[~generated], where[~generated]) if kind else {}, kind, *_curves(generated, p),
        {reason: count for reason, count in left_out.items() if count},
        (*_notes(calibration, generated, metrics, trust), *_promises(unsure)), unsure, attribution(predictions))


def at_threshold(generated: np.ndarray, called: np.ndarray) -> dict[str, Metric]:
    """Return AT_THRESHOLD for the truth and what images are called, bool (N,) each; undefined where a side is missing."""
    n = len(generated)
    found = {"accuracy": _share(called == generated), "recall": _share(called[generated]),
             "false_positive_rate": _share(called[~generated])}
    counts = np.array(confusion(generated.astype(int), called.astype(int), 2))
    true = counts.sum(1)
    if not true.all():
        return {name: found.get(name, Metric(None, None, None, n)) for name in AT_THRESHOLD}
    hits, predicted = resampled_counts(counts)
    resampled = dict(zip(("precision", "recall", "f1"), from_counts(hits, predicted, true), strict=True))
    values = dict(zip(("precision", "recall", "f1"), from_counts(counts.diagonal(), counts.sum(0), true), strict=True))
    for name in ("precision", "f1"):
        found[name] = resampled_metric(float(values[name][1]), resampled[name][:, 1], int(true.min()), n)
    even, drawn = float(values["recall"].mean()), resampled["recall"].mean(1)
    found["balanced_accuracy"] = resampled_metric(even, drawn, int(true.min()), n)
    return {name: found[name] for name in AT_THRESHOLD}


def by_source(called: np.ndarray, sources: np.ndarray) -> dict[str, Metric]:
    """Return source -> false-positive rate, the worst first, for real images: which are called generated, and their source."""
    found = {str(name): _share(called[sources == name]) for name in sorted(set(sources))}
    return dict(sorted(found.items(), key=lambda item: -item[1].value))


def study_metrics(predictions: Predictions) -> dict[str, Metric]:
    """Return what a detector's record has beside the metrics of any classifier; {} where real or generated images lack.

    eer, tpr_at_1_fpr, tpr_at_5_fpr, brier, ece; and where there is a validated threshold, `validated_accuracy` and
    `false_positive_rate` at it.
    """
    known = predictions.traced
    generated = np.array([origin != REAL for origin in predictions.origin], bool)[known]
    if REAL not in predictions.classes or not generated.any() or generated.all():
        return {}
    p = p_generated(predictions)[known]
    strata = np.array(predictions.origin, object)[known]
    ranks, trust = ranking_of_each({"": np.ones(len(p), bool)}, generated, p, strata=strata)[0][""], reliability(p, generated)
    found = {name: ranks[name] for name in RANKING if name not in ("auroc", "average_precision")}
    found |= {"brier": trust.brier, "ece": trust.ece}
    if predictions.calibration:
        called = decide(p, predictions.calibration)
        found |= {"validated_accuracy": _share(called == generated), "false_positive_rate": _share(called[~generated])}
    return found


def _share(hits: np.ndarray) -> Metric:
    return proportion(hits.sum(), len(hits))


def _mean_share(shares: Sequence[Metric], seed: int) -> Metric:
    """Return the mean of shares of different images, each counting alike."""
    if len(shares) == 1:
        return shares[0]
    rng = np.random.default_rng(seed)
    drawn = np.mean([rng.binomial(share.n, share.value, RESAMPLES) / share.n for share in shares], 0)
    value, n = float(np.mean([share.value for share in shares])), sum(share.n for share in shares)
    return resampled_metric(value, drawn, min(share.n for share in shares), n)


def _worst(generators: dict[str, dict[str, Metric]]) -> dict[str, str]:
    """Return metric -> the generator that is worst in it; the first of equal ones."""
    worst = {}
    for name in BY_GENERATOR:
        values = {g: found[name].value for g, found in generators.items() if name in found}
        if values:
            worst[name] = (max if name in LOWER else min)(values, key=lambda g: values[g])
    return worst


def _curves(generated: np.ndarray, p: np.ndarray) -> tuple[tuple, tuple]:
    """Return the points of the ROC and of the precision-recall curve, thinned; nothing where a side is missing."""
    if generated.all() or not generated.any():
        return (), ()
    thresholds, fpr, tpr = roc(generated, p)
    kept = np.unique(np.linspace(0, len(thresholds), min(len(thresholds) + 1, POINTS)).round().astype(int))
    cuts, fpr, tpr = np.concatenate([[1.0], thresholds])[kept], fpr[kept, 0], tpr[kept, 0]
    true, false = tpr * generated.sum(), fpr * (~generated).sum()
    precision = np.where(true + false > 0, true / np.maximum(true + false, 1), 1.0)
    return (tuple(zip(fpr.tolist(), tpr.tolist(), cuts.tolist(), strict=True)),
            tuple(zip(tpr.tolist(), precision.tolist(), cuts.tolist(), strict=True)))


def _apart(rate: Metric, calibration: Calibration) -> bool:
    """Tell whether a false-positive rate is another than validation's: their intervals share nothing."""
    low, high = wilson(round(calibration.false_positive_rate * calibration.n_real), calibration.n_real)
    return rate.low > high or rate.high < low


def _promises(unsure: Undecided | None) -> list[str]:
    """Return a note for each promise of the band that does not hold here."""
    return [f"{100 * unsure.metrics[name].value:.1f} % of the {one} images get the verdict {other!r}, where the band promises "
            f"{100 * ALPHA:.0f} % at most on images like the validation images: these {one} images are of another kind."
            for name in (unsure.broken if unsure else ()) for one, other in [name.split("_called_")]]


def _notes(calibration: Calibration | None, generated: np.ndarray, metrics: dict[str, Metric],
           trust: Reliability | None) -> list[str]:
    """Return what must be known beside the numbers."""
    notes, n_real = [], int((~generated).sum())
    if calibration is None:
        notes.append("No validated threshold: the detector was saved without one (it needs validation images, "
                     f"{ENOUGH} real and {ENOUGH} generated or more). 0.5 decides, and the probabilities are not calibrated.")
    if generated.all() or not generated.any():
        missing = REAL if generated.all() else GENERATED
        notes.append(f"There are no {missing} images among them: nothing can be said of how the two are told apart.")
        return notes
    notes += rare(n_real)
    rate = metrics["false_positive_rate"]
    if calibration and _apart(rate, calibration):
        notes.append(f"On its {calibration.n_real:,} real validation images the detector called "
                     f"{100 * calibration.false_positive_rate:.1f} % generated, here {100 * rate.value:.1f} %: these real "
                     "images are of another kind.")
    if trust and not trust.calibrated:
        notes.append(f"The probabilities are off: calibration error {trust.ece.value:.3f}, where a perfectly calibrated "
                     f"detector would show {trust.floor:.3f}, and {trust.floor_high:.3f} at most (95 %), on so many images.")
    return notes
