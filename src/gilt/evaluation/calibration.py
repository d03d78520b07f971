"""Calibration: from a detector's logits to a probability and a verdict. Fitted on validation images only.

The temperature and the bias minimise the negative log-likelihood of real against generated (Platt 1999; with a temperature
alone, Guo et al. 2017, arXiv:1706.04599, a detector that leans to one side would stay so). Validation images that are told
apart without a mistake would send the temperature to zero, and every probability to 0 or 1; so the truth is softened, as Platt
does: with n images of a side, its probability is taken to be (n + 1) / (n + 2). The threshold has the greatest balanced
accuracy. Around it lies the band in which the honest verdict is "uncertain": split-conformal prediction for each side by itself
(Mondrian; Vovk 2013, arXiv:1209.2673).

Shapes: N images, C classes.
"""
import logging
import math

import numpy as np
from scipy import optimize
from scipy.special import expit, logsumexp, softmax

from gilt.config import REAL
from gilt.errors import TableError, listed
from gilt.evaluation.predictions import Predictions
from gilt.training import Calibration

log = logging.getLogger(__name__)
ENOUGH = 30  # validation images of either side: fewer say little of a threshold
HALF = 0.5  # the threshold of a detector that has none of its own
SLACK = 1e-9  # of what is rounded up or down: 0.05 is no binary number
ALPHA = 0.05  # of either side's images, at most so many get the wrong verdict
WIDEST = (1e-3, 1e3)  # temperatures looked at
RULE = "balanced accuracy on val"


def p_generated(predictions: Predictions, calibration: Calibration | None = None) -> np.ndarray:
    """Return float64 (N,): the calibrated probability that an image is generated, 1 - p(real); NaN where unreadable.

    By `calibration`, or else by the one that the predictions came with; without either, by the logits as they are. Of a
    detector that names generators, it is the sum over them. Raises TableError where no class is `real`.
    """
    calibration = calibration or predictions.calibration
    return _p(predictions.logits, _place(predictions),
              (calibration.temperature, calibration.bias) if calibration else (1.0, 0.0))


def calibrated(predictions: Predictions) -> np.ndarray:
    """Return float64 (N, C): every class's probability, as `p_generated` has it for a detector; NaN where unreadable.

    Of a detector, real has 1 - p_generated, and the others share p_generated as their logits at its temperature say.
    Of any other classifier they are `Predictions.probabilities`.
    """
    if not predictions.detects:
        return predictions.probabilities
    p, real, known = p_generated(predictions), predictions.classes.index(REAL), predictions.calibration
    parts = softmax(np.delete(predictions.logits.astype(float), real, axis=1) / (known.temperature if known else 1.0), axis=1)
    return np.insert(parts * p[:, None], real, 1 - p, axis=1)


def named(p_NC: np.ndarray, predictions: Predictions) -> np.ndarray:
    """Return int (N,): the class that is named where the classes have these probabilities; 0 where unreadable.

    The likeliest; of a detector, real below its validated threshold, else the likeliest of the others.
    """
    if not predictions.detects:
        return np.nan_to_num(p_NC).argmax(1)
    real, others = predictions.classes.index(REAL), np.nan_to_num(p_NC)
    generated = decide(1 - p_NC[:, real], predictions.calibration)
    others[:, real] = -1
    return np.where(np.isnan(p_NC).any(1), 0, np.where(generated, others.argmax(1), real))


def decide(p: np.ndarray, calibration: Calibration | None = None) -> np.ndarray:
    """Return bool (N,): which images are called generated, at the validated threshold, or at 0.5 where there is none."""
    return np.asarray(p) >= (calibration.threshold if calibration else HALF)


def undecided(p: np.ndarray, calibration: Calibration | None = None) -> np.ndarray:
    """Return bool (N,): which images lie in the band, where the honest verdict is "uncertain"; none where there is no band."""
    low, high = (calibration and calibration.band) or (np.inf, -np.inf)
    return (np.asarray(p) >= low) & (np.asarray(p) <= high)


def fit_band(p: np.ndarray, generated: np.ndarray, threshold: float) -> tuple[float, float] | None:
    """Return (low, high): above high an image is generated, below low it is real, and in between nobody can say.

    `high` is so high that a new real image lies above it with a probability of ALPHA at most, and `low` so low that a new
    generated one lies below it as rarely: the ends are order statistics of the validation probabilities (N,), one further
    out than the plain quantile. That holds for images that could as well have been validation images, and for no others. The
    threshold is always inside. None where both promises hold at the threshold itself.
    """
    real, made = np.sort(p[~generated]), np.sort(p[generated])
    above = math.ceil((len(real) + 1) * (1 - ALPHA) - SLACK)  # how many real ones lie at `high` or below
    under = math.floor((len(made) + 1) * ALPHA + SLACK)  # the last generated one that may lie at `low`
    high = float(real[above - 1]) if above <= len(real) else 1.0
    low = float(made[under - 1]) if under else 0.0
    low, high = min(low, threshold), max(high, threshold)
    return (low, high) if low < high else None


def fit_calibration(predictions: Predictions) -> Calibration | None:
    """Return the calibration that predictions on validation images give; None, with a note, where they are too few.

    Unreadable images, and those of unknown origin, do not count. Raises TableError where the target is not `origin`.
    """
    place = _place(predictions)
    known = predictions.readable & np.array([origin is not None for origin in predictions.origin], bool)
    logits = predictions.logits[known].astype(float)
    generated = np.array([origin != REAL for origin in predictions.origin], bool)[known]
    n, n_real = len(generated), int((~generated).sum())
    if min(n_real, n - n_real) < ENOUGH:
        log.warning("no threshold is fitted: the validation images hold %d real and %d generated ones, and %d of each are "
                    "needed; without one, 0.5 decides", n_real, n - n_real, ENOUGH)
        return None
    temperature, bias = _fitted(logits, place, generated)
    p = _p(logits, place, (temperature, bias))
    threshold, balanced = best_threshold(p, generated)
    rule = RULE
    if balanced <= 0.5:
        threshold, rule = HALF, f"{HALF}: no threshold is better than chance on val"
        log.warning("the detector is no better than chance on its %d validation images: its threshold stays at 0.5", n)
    called = p >= threshold
    false, found = float(called[~generated].mean()), float(called[generated].mean())
    return Calibration(temperature=temperature, bias=bias, threshold=threshold, rule=rule, n=n, n_real=n_real,
                       accuracy=float((called == generated).mean()), balanced_accuracy=(1 - false + found) / 2,
                       false_positive_rate=false, band=fit_band(p, generated, threshold))


def best_threshold(p: np.ndarray, generated: np.ndarray) -> tuple[float, float]:
    """Return (threshold, balanced accuracy): the cut of probabilities (N,) that serves both sides best.

    Between two neighbouring probabilities the middle is taken; of cuts that are equally good, the one nearest to 0.5.
    """
    values, place = np.unique(p, return_inverse=True)
    real, own = (np.bincount(place, weights=side, minlength=len(values)) for side in (~generated, generated))
    below = np.concatenate([[0.0], real.cumsum()[:-1]]) / real.sum()  # of the real ones, were the cut just under each value
    above = own[::-1].cumsum()[::-1] / own.sum()
    balanced = (below + above) / 2
    middle = np.concatenate([[values[0]], (values[:-1] + values[1:]) / 2])
    cuts = np.where(middle > np.concatenate([[-1.0], values[:-1]]), middle, values)  # where no number lies between two
    best = np.flatnonzero(balanced >= balanced.max() - 1e-12)
    chosen = best[np.abs(cuts[best] - HALF).argmin()]
    return float(cuts[chosen]), float(balanced[chosen])


def _fitted(logits: np.ndarray, real: int, generated: np.ndarray) -> tuple[float, float]:
    """Return (temperature, bias) of least negative log-likelihood for logits (N, C), the truth softened."""
    n_real, n = int((~generated).sum()), len(generated)
    wanted = np.where(generated, (n - n_real + 1) / (n - n_real + 2), 1 / (n_real + 2))

    def loss(x: np.ndarray) -> float:
        said = _odds(logits, real, np.exp(x[0])) + x[1]
        return float((np.logaddexp(0, said) - wanted * said).mean())

    odds = _odds(logits, real, 1.0)
    scale = float(np.clip(odds.std(), *WIDEST))
    found = optimize.minimize(loss, [np.log(scale), -odds.mean() / scale], method="L-BFGS-B",
                              bounds=[tuple(np.log(WIDEST)), (None, None)])
    return float(np.exp(found.x[0])), float(found.x[1])


def _odds(logits: np.ndarray, real: int, temperature: float) -> np.ndarray:
    """Return float64 (N,): the log-odds of generated against real."""
    scaled = logits.astype(float) / temperature
    return logsumexp(np.delete(scaled, real, axis=1), axis=1) - scaled[:, real]


def _p(logits: np.ndarray, real: int, calibrated: tuple[float, float]) -> np.ndarray:
    temperature, bias = calibrated
    return expit(_odds(logits, real, temperature) + bias)


def _place(predictions: Predictions) -> int:
    """Return where the class `real` stands among the logits."""
    if not predictions.detects:
        raise TableError(f"these are no detector's predictions: their target is {predictions.target!r} and their classes are "
                         f"{listed(predictions.classes)}; a detector tells {REAL!r} from what is generated")
    return predictions.classes.index(REAL)
