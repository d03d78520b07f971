"""The page of a detector: what it is worth at its threshold, on which generators and real images it fails, in pictures."""
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gilt.config import REAL
from gilt.evaluation.attribution import NAMING, Attribution
from gilt.evaluation.band import OUTCOMES, PROMISED
from gilt.evaluation.calibration import ALPHA, decide, p_generated
from gilt.evaluation.detection import AT_THRESHOLD, BY_GENERATOR, Detection
from gilt.evaluation.predictions import Predictions
from gilt.reports.matrix import confusion_matrix
from gilt.reports.operating import curves, reliability_picture
from gilt.reports.pages import percent, percent_interval, write_page
from gilt.reports.thumbs import is_placeholder, thumbnail_uris

log = logging.getLogger(__name__)
SHOWN, SIDE = 10, 84  # images of each kind, and the side of one
LISTED = 50  # sources in the table
ENOUGH = 10  # real images that a source must have to stand in the verdict
KINDS = (("generated, called real", True, False), ("real, called generated", False, True),
         ("generated, called generated", True, True), ("real, called real", False, False))


def detection_page(found: Detection, predictions: Predictions, *, to: Path | str, root: Path | str = ".", name: str = "",
                   about: Mapping[str, str] | None = None, warnings: Sequence[str] = ()) -> Path:
    """Write what a detector is worth to `to`, as one HTML page that opens offline, and return its path.

    `found` is what `gilt.evaluation.detection` came to on the `predictions`, whose paths start from `root`. `warnings` stand on
    top: the shortcuts of the table. `about` says more of the detector and of what it was judged on, a line each. Images that
    are gone are shown as such.
    """
    known = predictions.traced
    p = p_generated(predictions)
    generated = np.array([origin != REAL for origin in predictions.origin])
    both = bool(found.roc)
    return write_page(
        to, "detection.html", name=name or "a detector", about=about or {}, found=found, warnings=warnings,
        verdict=detection_verdict(found), at_threshold=AT_THRESHOLD, generators=_generators(found),
        columns=[column for column in BY_GENERATOR if column in found.mean],
        sources=list(found.sources.items())[:LISTED], side=SIDE,
        matrix=confusion_matrix(np.array(found.confusion), ("real", "generated"), ""), outcomes=OUTCOMES, promised=PROMISED,
        promise=f"{100 * ALPHA:.0f} %", naming=NAMING, named=_named(found.attribution) if found.attribution else "",
        curves=curves(found) if both else "",
        reliability=reliability_picture(found, p[known], generated[known]) if both else "",
        kinds=_pictures(predictions, p, known, Path(root)))


def detection_verdict(found: Detection) -> list[str]:
    """Return what a detection says in plain sentences, the main one first."""
    m, n, lines = found.metrics, found.n_real + found.n_generated, []
    where = f"its validated threshold of {found.threshold:.2f}" if found.calibration else "0.5, for want of a better threshold"
    accuracy, recall, false = m["accuracy"], m["recall"], m["false_positive_rate"]
    parts = [f"finds {percent(recall.value)} of the {found.n_generated:,} generated images" if found.n_generated else "",
             f"calls {percent(false.value)} of the {found.n_real:,} real ones generated" if found.n_real else ""]
    lines.append(f"At {where} the detector is right on {percent(accuracy.value)} of {n:,} images (95 % interval "
                 f"{percent_interval(accuracy)}): it {' and '.join(filter(None, parts))}.")
    if found.reliability:
        lines.append(f"It ranks a generated image above a real one {percent(m['auroc'].value)} of the time (AUROC "
                     f"{m['auroc'].value:.3f}). Allowed to be wrong on 5 % of the real images, it could find "
                     f"{percent(m['tpr_at_5_fpr'].value)} of the generated ones.")
    lines += _unsure(found)
    if len(found.generators) > 1:
        worst = found.worst["recall"]
        least = found.generators[worst]["recall"]
        lines.append(f"Over {len(found.generators)} generators it finds {percent(found.mean['recall'].value)} on the mean; "
                     f"worst is {worst}, with {percent(least.value)} of {least.n:,}.")
    worst, rate = next(((name, rate) for name, rate in found.sources.items() if rate.n >= ENOUGH), ("", None))
    if rate and rate.value:
        lines.append(f"Real images are called generated most often where the {found.source} is {worst}: "
                     f"{percent(rate.value)} of {rate.n:,} (95 % interval {percent_interval(rate)}).")
    return lines


def _unsure(found: Detection) -> list[str]:
    """Return what the band costs and brings, and how rightly generators are named, where there are such."""
    lines = []
    if found.undecided:
        said, sure = found.undecided.metrics, found.undecided.metrics["accuracy"]
        rest = f"; of the {sure.n:,} others it is right on {percent(sure.value)} (95 % interval {percent_interval(sure)})"
        sides = [f"{percent(said[f'uncertain_{side}'].value)} of the {side}" for side in ("real", "generated")
                 if said[f"uncertain_{side}"].n]
        lines.append(f"Between {found.undecided.low:.2f} and {found.undecided.high:.2f} it says \"uncertain\": of "
                     f"{' and '.join(sides)} images{rest if sure.n else ''}.")
    right = found.attribution.metrics["naming"] if found.attribution else None
    if found.attribution and right and right.n:
        lines.append(f"Of {right.n:,} images of its {len(found.attribution.called) - 1} generators that it called generated, "
                     f"it names the right one for {percent(right.value)} (95 % interval {percent_interval(right)}).")
    return lines


def _named(found: Attribution) -> str:
    """Draw what each origin's images are called; generators that the detector cannot name have a column that stays empty."""
    counts = np.zeros((len(found.true), len(found.true)), int)
    counts[:, :len(found.called)] = found.confusion
    return confusion_matrix(counts, [f"{name} (unknown to it)" if name in found.unknown else name for name in found.true], "")


def _generators(found: Detection) -> list[dict[str, Any]]:
    """Return one dict a generator, those that are found least first; then the mean over several."""
    rows = [{"name": name, "metrics": metrics, "n": metrics["recall"].n,
             "worst": {key for key, worst in found.worst.items() if worst == name and len(found.generators) > 1}}
            for name, metrics in sorted(found.generators.items(), key=lambda item: item[1]["recall"].value)]
    if len(rows) > 1:
        rows.append({"name": f"mean of {len(rows)}", "metrics": found.mean, "n": None, "worst": set()})
    return rows


def _pictures(predictions: Predictions, p: np.ndarray, known: np.ndarray, root: Path) -> list[dict[str, Any]]:
    """Return CIFAKE's accounting: of each kind of right and wrong verdict, how many, and some with their probability.

    Mistakes are the surest ones, what is right is drawn at random.
    """
    generated, called = np.array([origin != REAL for origin in predictions.origin]), decide(p, predictions.calibration)
    chosen = []
    for title, truth, said in KINDS:
        places = np.flatnonzero(known & (generated == truth) & (called == said))
        order = np.random.default_rng(0).permutation(places) if truth == said else places[np.argsort(
            -p[places] if said else p[places], kind="stable")]
        chosen.append((title, truth == said, len(places), int((known & (generated == truth)).sum()), order[:SHOWN]))
    uris = iter(thumbnail_uris([root / predictions.path[i] for *_, places in chosen for i in places], SIDE))
    kinds = [{"title": title, "right": right, "count": count, "n": n,
              "images": [{"uri": next(uris), "path": predictions.path[i], "says": f"{100 * p[i]:.1f} %",
                          "origin": predictions.origin[i]} for i in places]}
             for title, right, count, n, places in chosen]
    missing = sum(is_placeholder(image["uri"]) for kind in kinds for image in kind["images"])
    if missing:
        log.warning("%d of the page's pictures are missing: the images are not under %s, or cannot be read", missing, root)
    return kinds
