"""Fit a head to frozen features at one go, with what its settings leave open chosen by cross-validation on training rows.

Shapes: N rows, D features, C classes.
"""
import itertools
import logging
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import nn
from torch.nn import functional

from gilt.errors import ConfigError
from gilt.models.features import head_of
from gilt.models.fitted import BELOW, KnnHead, SvmHead
from gilt.training import HeadConfig

log = logging.getLogger(__name__)
STEPS = 5_000  # of logistic regression's search, at most
PIECE = 512  # rows that are judged at a time
HELD = 2_000  # rows that a temperature is fitted on, or so
Rows = tuple[np.ndarray, np.ndarray]  # features float32 (N, D), labels int64 (N,)
Make = Callable[..., nn.Module]
Folds = list[tuple[np.ndarray, np.ndarray]]  # places to fit on, places to judge on
Parts = list[tuple[nn.Module, np.ndarray]]  # a layer that was fitted to the rest, places to judge it on


def fit_head(network: nn.Module, head: HeadConfig, features_ND: np.ndarray, labels_N: np.ndarray, *,
             class_weights_C: torch.Tensor | None = None, groups_N: np.ndarray | None = None, seed: int = 0) -> dict[str, Any]:
    """Put a head fitted to the features in place of the network's last layer; return notes for the provenance.

    What `head` leaves open (several values of `c`, `gamma`, `neighbours`) is chosen by cross-validated accuracy, balanced
    accuracy where classes have weights; of equal ones the first. Rows of a group (`groups_N`) stay in one fold, as equal rows
    do; rows of group -1 (SMOTE's points) are fitted to at the end and take no part in the choice. A class never has more folds
    than groups: where it has one only, it is fitted to and not judged. An SVM's margins are divided by one temperature, fitted
    on held-out rows. Raises ConfigError where there are fewer rows than neighbours.
    """
    name, layer = head_of(network)
    weights = None if class_weights_C is None else class_weights_C.double().cpu().numpy()
    make = _maker(head, layer, weights)
    rows = (features_ND, labels_N)
    folds = _folds(rows, _groups(features_ND, groups_N), head.folds, seed)
    grid = _grid(head, features_ND, folds)
    notes: dict[str, Any] = {"kind": head.kind, "folds": 0}
    best, parts = grid[0], []
    if len(grid) > 1 and not folds:
        log.warning("no class has two groups of rows to cross-validate with: the %s takes its first settings", head.kind)
    elif len(grid) > 1 or head.kind == "svm":
        best, parts, tried = _search(make, grid, rows, folds, weights)
        notes |= {"folds": len(folds), "score": "accuracy" if weights is None else "balanced accuracy", "tried": tried}
    fitted = make(*rows, **best)
    if isinstance(fitted, SvmHead) and parts:
        notes["temperature"] = _temperature(parts, rows, fitted.classes)
        fitted.temperature.fill_(notes["temperature"])
    notes |= {name: float(value) if name == "gamma" else value for name, value in best.items()}
    log.info("%s with %s%s", head.kind, ", ".join(f"{name}={value:g}" for name, value in best.items()), _said(notes, best))
    network.set_submodule(name, fitted.to(next(layer.parameters()).device))
    return {"head": notes}


def _maker(head: HeadConfig, layer: nn.Module, weights: np.ndarray | None) -> Make:
    """Return what makes a head of the kind asked for: (features, labels, **settings) -> layer."""
    kind = {"svm": _svm, "knn": _knn, "logistic": _logistic}[head.kind]
    return lambda features, labels, **settings: kind(features, labels, layer, weights, **settings)


def _svm(features_ND: np.ndarray, labels_N: np.ndarray, layer: nn.Module, weights: np.ndarray | None, *, c: float,
         gamma: float) -> SvmHead:
    from sklearn.svm import SVC

    model = SVC(C=c, gamma=gamma, class_weight=_by_label(weights, labels_N), cache_size=500)
    model.fit(features_ND.astype(np.float64), labels_N)
    made = SvmHead(layer.in_features, layer.out_features, vectors=len(model.support_), labels=len(model.classes_))
    sign = -1 if len(model.classes_) == 2 else 1  # scikit-learn turns two classes round: above 0 is the second
    made.vectors.copy_(torch.from_numpy(features_ND[model.support_]))
    made.coefficients.copy_(torch.from_numpy(sign * model.dual_coef_))
    made.intercepts.copy_(torch.from_numpy(sign * model.intercept_))
    made.counts.copy_(torch.from_numpy(model.n_support_.astype(np.int64)))
    made.labels.copy_(torch.from_numpy(model.classes_))
    made.gamma.fill_(gamma)
    return made


def _knn(features_ND: np.ndarray, labels_N: np.ndarray, layer: nn.Module, weights: np.ndarray | None, *,
         neighbours: int) -> KnnHead:
    made = KnnHead(layer.in_features, layer.out_features, points=len(labels_N))
    made.points.copy_(functional.normalize(torch.from_numpy(features_ND)))
    made.labels.copy_(torch.from_numpy(labels_N))
    made.neighbours.fill_(neighbours)
    if weights is not None:
        made.weights.copy_(torch.from_numpy(weights))
    return made


def _logistic(features_ND: np.ndarray, labels_N: np.ndarray, layer: nn.Module, weights: np.ndarray | None, *,
              c: float) -> nn.Linear:
    """Return a dense layer with the weights of scikit-learn's LogisticRegression (L2 penalty 1 / c, multinomial)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=c, class_weight=_by_label(weights, labels_N), max_iter=STEPS)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(features_ND.astype(np.float64), labels_N)
    if any(issubclass(warning.category, ConvergenceWarning) for warning in said):
        log.warning("logistic regression with c=%g had not settled after %d steps: a smaller train.head.c may do", c, STEPS)
    classes = max(2, layer.out_features)
    weight, bias = np.zeros((classes, layer.in_features)), np.full(classes, -3 * BELOW)  # of classes without training rows
    two = len(model.classes_) == 2  # scikit-learn then has one logit, that of the second
    weight[model.classes_] = np.vstack([-model.coef_ / 2, model.coef_ / 2]) if two else model.coef_
    bias[model.classes_] = np.concatenate([-model.intercept_ / 2, model.intercept_ / 2]) if two else model.intercept_
    if layer.out_features == 1:
        weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
    made = nn.Linear(layer.in_features, layer.out_features)
    made.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    return made


def _by_label(weights: np.ndarray | None, labels_N: np.ndarray) -> dict[int, float] | None:
    return None if weights is None else {int(label): float(weights[label]) for label in np.unique(labels_N)}


def _grid(head: HeadConfig, features_ND: np.ndarray, folds: Folds) -> list[dict[str, Any]]:
    """Return every setting to try, in the order given; `scale` and `auto` as numbers, as scikit-learn's SVC has them."""
    if head.kind == "knn":
        smallest = min((len(fit) for fit, _ in folds), default=len(features_ND))
        most = max(head.neighbours)
        if most > (smallest if len(head.neighbours) > 1 else len(features_ND)):
            raise ConfigError(f"train.head.neighbours={most} is more than the {smallest} training rows to ask: give fewer")
        return [{"neighbours": count} for count in head.neighbours]
    if head.kind == "logistic":
        return [{"c": c} for c in head.c]
    width, spread = features_ND.shape[1], float(features_ND.astype(np.float64).var())
    named = {"auto": 1 / width, "scale": 1 / (width * spread) if spread else 1.0}
    gammas = dict.fromkeys(named[gamma] if isinstance(gamma, str) else float(gamma) for gamma in head.gamma)
    return [{"c": c, "gamma": gamma} for c, gamma in itertools.product(head.c, gammas)]


def _groups(features_ND: np.ndarray, groups_N: np.ndarray | None) -> np.ndarray:
    """Return int64 (N,): which rows belong together; without `groups_N` those that are equal, as over-sampling leaves them."""
    if groups_N is not None:
        return groups_N
    seen: dict[bytes, int] = {}
    return np.array([seen.setdefault(row.tobytes(), len(seen)) for row in features_ND])


def _folds(rows: Rows, groups: np.ndarray, most: int, seed: int) -> Folds:
    """Return stratified folds, at most `most`, and at most as many as the rarest class that can be judged has groups."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    labels, known = rows[1], groups >= 0
    sizes = {label: len(np.unique(groups[known & (labels == label)])) for label in np.unique(labels[known])}
    several = [label for label, size in sizes.items() if size > 1]
    if not several:
        return []
    judged = np.flatnonzero(known & np.isin(labels, several))
    always = np.flatnonzero(known & ~np.isin(labels, several))
    count = min(most, *(sizes[label] for label in several))
    grouped = len(np.unique(groups[judged])) < len(judged)
    dealer = (StratifiedGroupKFold if grouped else StratifiedKFold)(count, shuffle=True, random_state=seed)
    folds = [(np.concatenate([judged[fit], always]), judged[test])
             for fit, test in dealer.split(np.zeros(len(judged)), labels[judged], groups[judged] if grouped else None)]
    return [(fit, test) for fit, test in folds if len(test) and len(np.unique(labels[fit])) > 1]


def _search(make: Make, grid: list[dict[str, Any]], rows: Rows, folds: Folds, weights: np.ndarray | None
            ) -> tuple[dict[str, Any], Parts, list[dict[str, Any]]]:
    """Return the best setting, its layers with the places that each was judged on, and what each setting came to."""
    features, labels = rows
    best, best_parts, tried = grid[0], [], []
    for settings in grid:
        parts = [(make(features[fit], labels[fit], **settings), test) for fit, test in folds]
        scores = [_score(layer, features[test], labels[test], balanced=weights is not None) for layer, test in parts]
        mean = float(np.mean(scores)) if scores else None
        tried.append({**settings, "mean": mean, "sd": float(np.std(scores, ddof=1)) if len(scores) > 1 else None})
        if mean is not None and all(mean > other["mean"] for other in tried[:-1]):
            best, best_parts = settings, parts
    return best, best_parts, tried


@torch.inference_mode()
def _score(layer: nn.Module, features_ND: np.ndarray, labels_N: np.ndarray, *, balanced: bool) -> float:
    """Return a layer's accuracy; `balanced`: the mean of the classes' own."""
    out = torch.cat([layer(part) for part in torch.from_numpy(features_ND).split(PIECE)])
    told = (out[:, 0] > 0).long() if out.shape[1] == 1 else out.argmax(1)
    right = told.numpy() == labels_N
    return float(np.mean([right[labels_N == label].mean() for label in np.unique(labels_N)]) if balanced else right.mean())


@torch.inference_mode()
def _temperature(parts: Parts, rows: Rows, classes: int) -> float:
    """Return what to divide an SVM's margins by, so that its chances have the least loss on rows that it was not fitted to.

    The truth counts (N + 1) / (N + 2), not 1, as in Platt 1999: where all rows are right, chances stay short of certainty.
    """
    held = []
    for layer, places in parts:
        places = places[::math.ceil(len(places) * len(parts) / HELD)]
        held.append((layer, layer.margins(torch.from_numpy(rows[0][places])), torch.from_numpy(rows[1][places])))
    count = sum(len(labels) for *_, labels in held)
    smoothing = classes / (classes - 1) / (count + 2)  # cross_entropy gives the truth 1 - smoothing + smoothing / classes

    def loss(log_temperature: float) -> float:
        return sum(functional.cross_entropy(_two(layer.tell(margins, math.exp(log_temperature))), labels, reduction="sum",
                                            label_smoothing=smoothing).item() for layer, margins, labels in held)

    return math.exp(minimize_scalar(loss, bounds=(-7, 7), method="bounded").x)


def _two(out: torch.Tensor) -> torch.Tensor:
    """Return logits (N, C); a single logit z as the pair (0, z)."""
    return torch.cat([torch.zeros_like(out), out], 1) if out.shape[1] == 1 else out


def _said(notes: Mapping[str, Any], best: Mapping[str, Any]) -> str:
    """Return ", the best of 20 settings: accuracy 0.780 ± 0.010 in 5 folds", or "" where nothing was cross-validated."""
    mine = next((tried for tried in notes.get("tried", ()) if all(tried[name] == value for name, value in best.items())), None)
    if mine is None or mine["mean"] is None:
        return ""
    spread = "" if mine["sd"] is None else f" ± {mine['sd']:.3f}"
    best_of = f", the best of {len(notes['tried'])} settings" if len(notes["tried"]) > 1 else ""
    return f"{best_of}: {notes['score']} {mine['mean']:.3f}{spread} in {notes['folds']} folds"
