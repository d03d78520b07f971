"""The page of one classifier on one set of rows: how right it is, class by class, and what it takes for what."""
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gilt.errors import counted
from gilt.evaluation.evaluate import Evaluation, evaluate
from gilt.evaluation.mistakes import Pair, confused_pairs, confusion_order, images_of, worst_classes
from gilt.evaluation.predictions import Predictions
from gilt.reports.matrix import confusion_matrix
from gilt.reports.pages import number, percent, percent_interval, write_page
from gilt.reports.thumbs import is_placeholder, thumbnail_uris

log = logging.getLogger(__name__)
PAIRS, WRONG, RIGHT, SIDE = 10, 5, 3, 84  # pairs with pictures; images on either side of one, and their size
LISTED = 20  # pairs in the table


def judgement(predictions: Predictions, *, to: Path | str, root: Path | str = ".", rows: str = "images", name: str = "",
              about: Mapping[str, str] | None = None) -> Path:
    """Write what predictions are worth to `to`, as one HTML page that opens offline, and return its path.

    `root` is where the predictions' paths start from. `rows` says what was judged ("test images of birds.parquet"), `name`
    which classifier it was, and `about` more of it, a line each. Images that are gone are shown as such.
    Raises TableError where no prediction can be judged.
    """
    evaluation = evaluate(predictions)
    pairs = confused_pairs(evaluation, most=LISTED)
    return write_page(
        to, "judgement.html", name=name or "a classifier", rows=rows, about=about or {}, evaluation=evaluation,
        verdict=verdict(evaluation, rows), matrices=_matrices(evaluation), classes=_classes(evaluation), pairs=pairs,
        shown=_pictures(predictions, pairs[:PAIRS], Path(root)), side=SIDE)


def verdict(evaluation: Evaluation, rows: str = "images") -> list[str]:
    """Return what an evaluation says in plain sentences, the main one first: how right, against what, and where not."""
    accuracy, counts = evaluation.metrics["accuracy"], np.sum(evaluation.confusion, 1)
    binary = evaluation.target == "origin" and len(evaluation.classes) == 2
    said = "rightly called real or generated" if binary else "named rightly"
    most = int(counts.argmax())
    lines = [f"{percent(accuracy.value)} of {accuracy.n:,} {rows} are {said} (95 % interval {percent_interval(accuracy)}).",
             f"Always naming the most frequent class here, {evaluation.classes[most]}, would be right for "
             f"{percent(counts[most] / accuracy.n)}."]
    if evaluation.target == "class" and len(evaluation.by["class"]) > 2:
        ranked = [item for item in worst_classes(evaluation) if item[1]["f1"].value is not None]
        (low, worst), (high, best) = ranked[0], ranked[-1]
        lines.append(f"F1 is lowest for {low} ({number(worst['f1'].value)}, n = {worst['accuracy'].n:,}) and highest for "
                     f"{high} ({number(best['f1'].value)}, n = {best['accuracy'].n:,}).")
    for pair in confused_pairs(evaluation, most=1):
        lines.append(f"Most often confused: {pair.true} taken for {pair.predicted}, {counted(pair.count, 'image')} of "
                     f"{pair.share.n:,} ({percent(pair.share.value)}; {percent_interval(pair.share)}).")
    return lines


def _matrices(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return (what the order is, picture): as the classes stand, and with those confused side by side."""
    counts, names = np.array(evaluation.confusion), evaluation.classes
    pictures = [("in the order of their names", confusion_matrix(counts, names, ""))]
    order = confusion_order(evaluation.confusion)
    if len(names) > 3 and order not in (sorted(order), sorted(order, reverse=True)):
        pictures.append(("confused classes side by side", confusion_matrix(counts, names, "", order=order)))
    return pictures


def _classes(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return one dict a class, the worst first: its metrics, and what it is most often taken for."""
    counts, place = np.array(evaluation.confusion), {name: i for i, name in enumerate(evaluation.classes)}
    rows = []
    for name, metrics in worst_classes(evaluation):
        taken = ""
        if evaluation.target == "class":
            wrong = counts[place[name]].copy()
            wrong[place[name]] = 0
            other = int(wrong.argmax())
            taken = f"{evaluation.classes[other]} ({wrong[other]:,})" if wrong[other] else ""
        rows.append({"name": name, "metrics": metrics, "taken": taken})
    return rows


def _pictures(predictions: Predictions, pairs: Sequence[Pair], root: Path) -> list[dict[str, Any]]:
    """Return for each pair its surest mistakes, and images of the class that they were taken for."""
    place = {name: i for i, name in enumerate(predictions.classes)}
    chosen = [(images_of(predictions, pair.true, pair.predicted)[:WRONG], _examples(predictions, pair.predicted))
              for pair in pairs]
    places = [int(i) for wrong, right in chosen for i in (*wrong, *right)]
    uris = thumbnail_uris([root / predictions.path[i] for i in places], SIDE)
    missing = sum(map(is_placeholder, uris))
    if missing:
        log.warning("%d of the page's %d pictures are missing: the images are not under %s, or cannot be read", missing,
                    len(uris), root)
    waiting, probabilities = iter(uris), predictions.probabilities

    def shown(found: Sequence[int], named: str) -> list[dict[str, str]]:
        return [{"uri": next(waiting), "path": predictions.path[i], "says": percent(probabilities[i, place[named]])}
                for i in found]

    return [{"pair": pair, "wrong": shown(wrong, pair.predicted), "right": shown(right, pair.predicted)}
            for pair, (wrong, right) in zip(pairs, chosen, strict=True)]


def _examples(predictions: Predictions, name: str) -> np.ndarray:
    """Return places of images that the class really shows, drawn at random; those named rightly where there are some."""
    right = images_of(predictions, name, name)
    if not len(right):
        right = np.flatnonzero(predictions.readable & (predictions.labels == predictions.classes.index(name)))
    return np.random.default_rng(0).permutation(right)[:RIGHT]
