"""Drill: an arm in detail, down to its classes and to the test images that it gets right or wrong, beside the benchmark.

Everything is read from the records and the stored predictions; pictures are the only thing that needs the images.
"""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gilt.data.containers import is_there
from gilt.data.table import ImageTable
from gilt.errors import StoreError, counted
from gilt.evaluation.metrics import from_counts
from gilt.reports.arms import anchors, differing, spread
from gilt.reports.history import history_picture
from gilt.reports.matrix import MOST, confusion_matrix
from gilt.reports.thumbs import thumbnail_uris
from gilt.studies.class_changes import ClassChange
from gilt.studies.image_changes import ImageChange, image_changes
from gilt.studies.store import Store, TrialRecord

PICTURES, SIDE = 720, 64  # pictures on the page, about, and their longer side: some 2 kB each
CLASSES, EACH = 2, 4  # classes with pictures among those helped, and among those hurt; pictures of one kind
CELLS = 240_000  # cells of all confusion matrices together: of many arms and classes, those with the lowest recall are drawn


@dataclass(frozen=True)
class Sections:
    """What every arm's section is made from: the store with its records, the arms' changes, where the images are.

    `said` holds each arm's sentences of the verdict and of its worth.
    """

    store: Store
    records: Sequence[TrialRecord]
    changes: Sequence[ClassChange]
    said: Mapping[str, Sequence[str]]
    root: Path | None


def arm_sections(given: Sections) -> list[dict[str, Any]]:
    """Return what the template shows of each arm, in the study's order; an arm without a finished trial has its trials only."""
    summary, names = given.store.summary, anchors(given.store.summary["arms"])
    arms, pictures = list(summary["arms"]), _Pictures(given)
    base = summary["benchmark"] if summary["benchmark"] in arms else None
    finished = {arm: [r for r in given.records if r.arm == arm and r.state == "finished"] for arm in arms}
    shown = max(2, int((CELLS / len(arms)) ** 0.5))
    sections = []
    for arm in arms:
        own = finished[arm]
        changes = [change for change in given.changes if change.arm == arm]
        sections.append({
            "arm": arm, "anchor": names[arm], "benchmark": arm == base, "said": given.said.get(arm, ()),
            "headline": spread([record.metric(summary["metric"]) for record in own], *_scale(summary["metric"])),
            "differs": differing(summary["arms"][arm], summary["arms"][base] if base else None),
            "trials": [record for record in given.records if record.arm == arm],
            "matrix": _matrix(own, shown), "classes": class_rows(own, changes),
            "history": history_picture(own, finished[base] if base and arm != base else []),
            "groups": pictures.of(arm, own, changes) if own and changes else []})
    uris = pictures.uris()
    for section in sections:
        for group in section["groups"]:
            for kind in ("gained", "lost", "added"):
                group[kind] = [picture | {"uri": uris.get(picture["path"], "")} for picture in group[kind]]
    return sections


def class_rows(trials: Sequence[TrialRecord], changes: Sequence[ClassChange]) -> list[dict[str, Any]]:
    """Return one dict a class: its test images, precision, recall and F1 as seed means, and its change (or None).

    The worst F1 first. A class that no test image shows has no such figures, and is left out.
    """
    tested = [record for record in trials if record.test]
    if not tested:
        return []
    names, known = tested[0].classes, {change.class_: change for change in changes}
    counts_SCC = np.array([record.test["confusion"] for record in tested if record.test])
    images_SC = counts_SCC.sum(2)
    scores_SC = [from_counts(np.array([np.diag(counts) for counts in counts_SCC]), counts_SCC.sum(1), images_SC)[i]
                 for i in range(3)]
    rows = []
    for c, name in enumerate(names):
        there = images_SC[:, c] > 0
        if there.any():
            own = {key: values[there, c] for key, values in zip(("precision", "recall", "f1"), scores_SC, strict=True)}
            texts = {key: spread(list(values), 100, 1).partition(" %")[0] for key, values in own.items()}
            low, high = int(images_SC[there, c].min()), int(images_SC[there, c].max())
            rows.append({"name": name, "n": f"{low:,}" if low == high else f"{low:,} to {high:,}",
                         "rank": float(own["f1"].mean()), **texts, "change": known.get(name)})
    return sorted(rows, key=lambda row: row["rank"])


def _matrix(trials: Sequence[TrialRecord], most: int) -> str:
    """Draw the confusion matrix of all seeds together; of more than `most` classes, those with the lowest recall."""
    tested = [record for record in trials if record.test]
    if not tested:
        return ""
    counts = np.sum([record.test["confusion"] for record in tested if record.test], 0)
    title = f"{counted(len(tested), 'seed')} together" if len(tested) > 1 else "1 seed"
    if most >= len(counts) or len(counts) > MOST:
        return confusion_matrix(counts, tested[0].classes, title)
    totals = counts.sum(1)
    recall = np.where(totals > 0, np.diag(counts) / np.maximum(totals, 1), 2.0)
    worst = sorted(np.argsort(recall, kind="stable")[:most].tolist())
    return confusion_matrix(counts, tested[0].classes, f"{title}: the {most} of {len(counts)} classes with the lowest recall",
                            order=worst)


class _Pictures:
    """Chooses the images that show what an arm changed, and reads each once, all together."""

    def __init__(self, given: Sections) -> None:
        self.given = given
        arms = max(1, len({change.arm for change in given.changes}))
        self.each = min(EACH, max(2, PICTURES // arms // (2 * CLASSES * 3)))
        self.wanted: dict[str, None] = {}

    def of(self, arm: str, trials: Sequence[TrialRecord], changes: Sequence[ClassChange]) -> list[dict[str, Any]]:
        """Return the arm's most changed classes, each with test images gained and lost and generated ones that were added."""
        chosen = most_changed(changes)
        images = image_changes(self.given.store, arm) if chosen else []
        added = _added(self.given.store, trials[0]) if trials[0].target == "class" else None
        groups = []
        for change in chosen:
            own = [image for image in images if image.class_ == change.class_]
            gained = [image for image in own if image.change > 0][:self.each]
            lost = [image for image in reversed(own) if image.change < 0][:self.each]
            extra = added.where(class_=change.class_).frame.head(self.each) if added is not None else None
            group = {"change": change, "gained": [self._test(image) for image in gained],
                     "lost": [self._test(image) for image in lost], "n_gained": sum(image.change > 0 for image in own),
                     "n_lost": sum(image.change < 0 for image in own), "added": [] if extra is None else [
                         self._picture(path, origin) for path, origin in zip(extra["path"], extra["origin"], strict=True)],
                     "n_added": 0 if added is None else int((added.frame["class"] == change.class_).sum())}
            groups.append(group)
        return groups

    def _test(self, image: ImageChange) -> dict[str, str]:
        def said(right: float, answer: str | None) -> str:
            return f"{round(right * image.seeds)}/{image.seeds}" + (f", else {answer}" if answer else "")

        return self._picture(image.path, said(image.right, image.answer), said(image.benchmark_right, image.benchmark_answer))

    def _picture(self, path: str, says: str, base: str = "") -> dict[str, str]:
        self.wanted[path] = None
        return {"path": path, "says": says, "base": base}

    def uris(self) -> dict[str, str]:
        """Return path -> data address of every picture that was chosen; {} where the images are not at hand."""
        root, paths = self.given.root, list(self.wanted)
        if root is None or not any(is_there(root / path) for path in paths[:5]):
            return {}
        return dict(zip(paths, thumbnail_uris([root / path for path in paths], SIDE), strict=True))


def most_changed(changes: Sequence[ClassChange]) -> list[ClassChange]:
    """Return the classes that an arm helped most and hurt most, those first whose change is sure; at most CLASSES of each."""
    ranked = sorted(changes, key=lambda change: (change.verdict == "unclear", -abs(change.difference)))
    return [change for sign in (1, -1) for change in [c for c in ranked if sign * c.difference > 0][:CLASSES]]


def _added(store: Store, record: TrialRecord) -> ImageTable | None:
    """Return the generated training rows of a trial, or None where its rows are gone."""
    try:
        return store.rows(record.id).where(split="train").generated
    except StoreError:
        return None


def _scale(metric: str) -> tuple[float, int]:
    return (1, 3) if metric == "loss" else (100, 1)
