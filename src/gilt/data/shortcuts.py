"""Shortcuts: what tells the target without a look at what the image shows.

Each group of facts is given to a small random forest, judged by cross-validation: AUROC 0.5 is chance, 1 gives everything
away. Near-duplicates stay in one fold, so that the forest cannot remember a picture.
"""
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import norm, rankdata

from gilt.config import REAL
from gilt.data.checks import Evidence, SkippedError
from gilt.data.facts import LUMA
from gilt.data.findings import Finding, Severity
from gilt.data.pixels import UNREADABLE, open_image, plain_rgb
from gilt.errors import listed

ROWS = 3_000  # rows that a forest is judged on, at most
LABELS = 100  # classes that are told apart, at most: each then has 30 of those rows or more
DECODED = 1_200  # images decoded in full for their finest detail, at most
FOLDS, TREES = 5, 50
UNSURE = 0.6  # an AUROC that would be something, were there enough images to be sure of it
CROP = 128  # pixels of the middle of an image, as it stands, that its finest detail is measured on
METADATA = {"format": ("format",), "size": ("width", "height"), "aspect": ("aspect",), "mode": ("mode",),
            "JPEG quality": ("quality",), "file size": ("bytes",)}
PIXELS = {"mean colour": ("red", "green", "blue"), "light": ("brightness", "contrast", "saturation"),
          "sharpness": ("sharpness", "flat"), "finest detail": ("detail",)}


def shortcuts(evidence: Evidence, targets: Sequence[str] = ("origin", "class")) -> list[Finding]:
    """Measure how well metadata tell the origin, and the class, without any pixel.

    A detector shown JPEG photographs and PNG generations learns the codec (Grommelt et al. 2024, arXiv:2403.17608).
    """
    findings = []
    for target in targets:
        labels = _labels(evidence, target)
        if labels is None:
            continue
        facts = _metadata(evidence.frame)[labels.notna()]
        sets = {**METADATA, "all but file size": tuple(c for name, cs in METADATA.items() if name != "file size" for c in cs),
                "all metadata": tuple(c for cs in METADATA.values() for c in cs)}
        alike = bool((facts[list(sets["all but file size"])].nunique() == 1).all())
        findings.append(_metadata_finding(target, told(facts, labels[labels.notna()], sets, evidence), alike))
    if not findings:
        raise SkippedError(f"no two classes, nor real and generated, have {2 * FOLDS} different pictures each")
    return findings


def pixel_shortcuts(evidence: Evidence) -> list[Finding]:
    """Measure how well trivial statistics of the pixels tell the origin: mean colour, light, sharpness, finest detail.

    Generated images often differ in high-frequency energy (arXiv:2505.14359, 2412.17671).
    """
    labels = _labels(evidence, "origin")
    if labels is None:
        raise SkippedError(f"real and generated images do not have {2 * FOLDS} different pictures each")
    names = sorted({c for cs in PIXELS.values() for c in cs} - {"detail"})
    values = evidence.statistic(*names).astype(float)
    detail = _detail(evidence)
    scores = told(values, labels, {k: v for k, v in PIXELS.items() if "detail" not in v}, evidence)
    known = detail.notna().to_numpy()
    if known.sum() >= 40 and (labels[known].value_counts().reindex(labels.dropna().unique(), fill_value=0) >= 2 * FOLDS).all():
        both = values.assign(detail=detail)
        scores |= told(both[known], labels[known], {"finest detail": ("detail",), "all of these": (*names, "detail")}, evidence)
    return [_pixel_finding(scores, detail, labels)]


def _metadata_finding(target: str, scores: Mapping[str, Mapping[str, Any]], alike: bool) -> Finding:
    coded = scores["all but file size"]
    size = scores["file size"]
    best = max((name for name in METADATA), key=lambda name: scores[name]["auroc"])
    worst = max(coded["auroc"], size["auroc"])
    severity = _severity(coded if coded["auroc"] >= size["auroc"] else size)
    if target == "class" and severity == "high":
        severity = "medium"
    remedy = "Give all images the same encoding: gilt clean --set equalise=true. Then train and judge on those."
    if severity == "none":
        said = f"AUROC {_said(coded)} without the file's size, {_said(size)} by that alone; 0.5 is chance"
        meaning = (f"Metadata say nothing about the {target} ({said})." if worst < UNSURE else
                   f"It is not sure that metadata say anything about the {target}: too few images ({said}).")
        remedy = "Nothing to do." if worst < UNSURE else "Look again with more images."
    elif alike:
        meaning = (f"All images are encoded alike: format, size, aspect, quality and mode say nothing about the {target}. The "
                   f"size of the file still tells it with AUROC {_said(size)}; 0.5 is chance. That is content: images with "
                   "more detail need more bytes.")
        remedy = "Nothing to do about the encoding. Report this baseline beside a detector's result."
    else:
        meaning = (f"Without a look at any pixel, {best} alone tells the {target} with AUROC {_said(scores[best])}, all "
                   f"metadata together with {_said(scores['all metadata'])}; 0.5 is chance, 1 gives everything away. A model "
                   "trained on this may learn the file format in place of the picture, and fail on files saved another way.")
    return Finding("shortcuts", severity, worst, meaning, remedy,
                   details={"target": target, "n": coded["n"], "auroc": dict(scores)})


def _pixel_finding(scores: Mapping[str, Mapping[str, Any]], detail: pd.Series, labels: pd.Series) -> Finding:
    best = max(scores, key=lambda name: scores[name]["auroc"])
    severity = _severity(scores[best])
    severity = "medium" if severity == "high" else severity
    meaning = (f"Trivial statistics of the pixels tell the origin with AUROC {_said(scores[best])} ({best}; 0.5 is chance). "
               + ("That is little." if severity == "none" and scores[best]["auroc"] < UNSURE else
                  "On so few images that may be chance." if severity == "none" else
                  "A detector may use them in place of anything that generators have in common. It is a fair baseline to beat: "
                  "a detector that is no better has learnt nothing more."))
    means = detail.groupby(labels.to_numpy()).agg(["mean", "count"])
    return Finding("pixel-shortcuts", severity, scores[best]["auroc"], meaning,
                   "Report this baseline beside a detector's result, and test on other generators (gilt split --set "
                   "'hold_out=[...]').",
                   details={"target": "origin", "n": scores[best]["n"], "auroc": dict(scores), "finest_detail": {
                       str(name): {"mean": float(row["mean"]), "n": int(row["count"])} for name, row in means.iterrows()
                       if row["count"]}})


def _labels(evidence: Evidence, target: str) -> pd.Series | None:
    """Return the target of each row, or None where there is nothing to tell apart.

    A label of too few different pictures for all folds is left out, and of very many classes all but LABELS.
    """
    labels = evidence.table.usable.labels(target)
    pictures = pd.Series(evidence.picture).groupby(labels).nunique()
    names = pictures.index[pictures >= 2 * FOLDS]
    names = names[np.random.default_rng(evidence.seed).permutation(len(names))[:LABELS]]
    return labels.where(labels.isin(names)) if len(names) > 1 else None


def _metadata(frame: pd.DataFrame) -> pd.DataFrame:
    """Return metadata as numbers: formats and modes by rank of frequency, a missing quality as -1."""
    def ranks(column: str) -> pd.Series:
        return frame[column].map({name: i for i, name in enumerate(frame[column].value_counts().index)})

    number = {c: frame[c].astype("Float64").fillna(-1).astype(float) for c in ("width", "height", "quality", "bytes")}
    return pd.DataFrame({**number, "aspect": number["width"] / number["height"].clip(lower=1), "format": ranks("format"),
                         "mode": ranks("mode")}, index=frame.index).fillna(-1)


def told(facts: pd.DataFrame, labels: pd.Series, sets: Mapping[str, tuple[str, ...]],
         evidence: Evidence) -> dict[str, dict[str, Any]]:
    """Return for each named set of columns: auroc, low and high (95 %), and n, of telling `labels` by cross-validation.

    For two labels the interval is Newcombe's (2006, method 5); for more, the mean over one-against-all has none. Of ROWS
    the labels have equal parts, but a label with fewer has all of its own: an AUROC does not ask how frequent they are.
    Raises SkippedError where no fold holds two labels.
    """
    order = np.random.default_rng(evidence.seed).permutation(np.flatnonzero(labels.notna()))
    turn = labels.iloc[order].groupby(labels.iloc[order]).cumcount().to_numpy()  # of a row among those of its label
    sample = order[np.argsort(turn, kind="stable")[:ROWS]]
    truth = labels.iloc[sample].to_numpy()
    groups = evidence.picture[labels.index[sample]]
    return {name: _cross_validated(facts.iloc[sample][list(columns)].to_numpy(), truth, groups, evidence.seed)
            for name, columns in sets.items()}


def _cross_validated(values: np.ndarray, truth: np.ndarray, groups: np.ndarray, seed: int) -> dict[str, Any]:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import StratifiedGroupKFold

    names, codes = np.unique(truth, return_inverse=True)
    if (values == values[0]).all():  # nothing to tell by
        return _interval(0.5, codes)
    scores, judged = [], []
    for fit, judge in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(values, codes, groups):
        if min(len(np.unique(codes[fit])), len(np.unique(codes[judge]))) < 2:
            continue
        forest = RandomForestClassifier(TREES, min_samples_leaf=5, random_state=seed, n_jobs=-1).fit(values[fit], codes[fit])
        score = _one_against_all(forest.predict_proba(values[judge]), codes[judge], forest.classes_)
        if np.isfinite(score):
            scores.append(score)
            judged.append(codes[judge])
    if not scores:
        raise SkippedError(f"too few different pictures of {listed(names, most=3)} to judge by cross-validation")
    return _interval(float(np.mean(scores)), np.concatenate(judged))


def _one_against_all(chance: np.ndarray, codes: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean AUROC of chances (N, L) for the labels that some but not all of `codes` (N,) bear; NaN without any."""
    ranks = rankdata(chance.round(9), axis=0)  # threads add up trees in any order: the last digits are no differences
    own = codes[:, None] == labels
    ones = own.sum(0)
    some = (ones > 0) & (ones < len(codes))
    areas = ((ranks * own).sum(0) - ones * (ones + 1) / 2)[some] / (ones * (len(codes) - ones))[some]
    return float(areas.mean()) if some.any() else np.nan


def _interval(auroc: float, codes: np.ndarray) -> dict[str, Any]:
    counts = np.unique(codes, return_counts=True)[1]
    low, high = auroc_interval(auroc, *counts) if len(counts) == 2 else (None, None)
    return {"auroc": auroc, "low": low, "high": high, "n": len(codes)}


def auroc_interval(auroc: float, n_one: float, n_other: float, *, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of an AUROC on n_one + n_other rows (Newcombe 2006, Statistics in Medicine 25:559, method 5).

    Like Wilson's for a share, it is honest at 0 and 1, where bootstraps and Wald intervals have no width.
    """
    z, more = norm.ppf(0.5 + level / 2), (n_one + n_other) / 2 - 1

    def beyond(value: float) -> float:
        spread = value * (1 - value) * (1 + more * (1 - value) / (2 - value) + more * value / (1 + value)) / (n_one * n_other)
        return (value - auroc) ** 2 - z * z * spread

    tiny = 1e-9  # the bounds themselves are roots too
    low = 0.0 if auroc <= tiny else brentq(beyond, 0, min(auroc, 1 - tiny))
    high = 1.0 if auroc >= 1 - tiny else brentq(beyond, max(auroc, tiny), 1)
    return float(low), float(high)


def _severity(score: Mapping[str, Any]) -> Severity:
    sure = score["low"]
    if sure is None:  # several labels: a mean over one-against-all varies about as much as that of two halves
        sure = auroc_interval(score["auroc"], score["n"] / 2, score["n"] / 2)[0]
    return "high" if sure >= 0.9 else "medium" if sure >= 0.7 else "low" if sure >= 0.55 else "none"


def _said(score: Mapping[str, Any]) -> str:
    interval = "" if score["low"] is None else f" ({score['low']:.2f} to {score['high']:.2f})"
    return f"{score['auroc']:.2f}{interval}"


def _detail(evidence: Evidence) -> pd.Series:
    """Return the part of energy in the finest half of frequencies, as log10, of a sample of rows, at their own resolution."""
    frame = evidence.frame
    shuffled = frame.sample(frac=1, random_state=evidence.seed)
    rows = shuffled.groupby(shuffled["origin"] == REAL).head(DECODED // 2)
    paths = [evidence.table.root / path for path in rows["path"]]
    with ThreadPoolExecutor() as pool:
        values = list(pool.map(fine_energy, paths))
    return pd.Series(values, rows.index, dtype=float).reindex(frame.index)


def fine_energy(path: Path) -> float:
    """Return log10 of the part of an image's energy above half the Nyquist frequency, in its middle; NaN where unreadable."""
    try:
        with open_image(path) as image:
            side = min(CROP, *image.size)
            top, left = (image.height - side) // 2, (image.width - side) // 2
            crop = np.asarray(plain_rgb(image.crop((left, top, left + side, top + side))), np.float32) @ LUMA
    except UNREADABLE:
        return np.nan
    if side < 8 or crop.std() < 1e-3:
        return np.nan
    window = np.hanning(side)
    power = np.abs(np.fft.fft2((crop - crop.mean()) * window[:, None] * window)) ** 2
    radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side))
    return float(np.log10(power[radius > 0.25].sum() / power.sum() + 1e-9))


def summary(finding: Finding) -> str:
    """Return the AUROC of each set of facts as one line of text."""
    return listed((f"{name} {_said(score)}" for name, score in finding.details["auroc"].items()), most=20)
