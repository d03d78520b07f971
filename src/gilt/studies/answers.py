"""Answers: what two trials said of the same images, one number an image, from their stored predictions."""
from typing import Literal

import numpy as np

from gilt.evaluation.metrics import TOP, likeliest
from gilt.evaluation.significance import McNemar, mcnemar
from gilt.studies.store import Store, TrialRecord

Part = Literal["val", "test"]
BY_IMAGE = ("accuracy", "loss", *TOP)  # metrics that are a mean over images


class Answers:
    """The predictions of a store's trials on one part, each read once. Without a store there are none."""

    def __init__(self, store: Store | None, part: Part = "test") -> None:
        self.store, self.part = store, part
        self._read: dict[tuple[str, str], tuple[list[str], np.ndarray] | None] = {}

    def gains(self, arm: TrialRecord, base: TrialRecord, metric: str) -> np.ndarray | None:
        """Return how much better the arm's trial does on each image (N,), in the metric; above 0 is better.

        None for a metric that is no mean over images, and where the predictions are gone or of other images.
        """
        if metric not in BY_IMAGE:
            return None
        mine, theirs = self._scores(arm, metric), self._scores(base, metric)
        if mine is None or theirs is None or not mine[0] or mine[0] != theirs[0]:
            return None
        return theirs[1] - mine[1] if metric == "loss" else mine[1] - theirs[1]

    def mcnemar(self, arm: TrialRecord, base: TrialRecord) -> McNemar | None:
        """Return McNemar's exact test of the two trials' right answers; None where their predictions cannot be paired."""
        mine, theirs = self._scores(arm, "accuracy"), self._scores(base, "accuracy")
        if mine is None or theirs is None or not mine[0] or mine[0] != theirs[0]:
            return None
        return mcnemar(mine[1] > 0, theirs[1] > 0)

    def _scores(self, record: TrialRecord, metric: str) -> tuple[list[str], np.ndarray] | None:
        """Return a trial's images, sorted by path, and each one's score; unreadable and unlabelled ones are left out."""
        key = (record.id, metric)
        if key not in self._read:
            there = self.store is not None and self.store.has(record.id, f"{self.part}.parquet")
            self._read[key] = self._score(record, metric) if there else None
        return self._read[key]

    def _score(self, record: TrialRecord, metric: str) -> tuple[list[str], np.ndarray]:
        found = self.store.predictions(record.id, self.part)  # type: ignore[union-attr]
        labels, paths = found.labels, np.array(list(found.path), object)
        kept = np.flatnonzero(found.readable & (labels >= 0))
        kept = kept[np.argsort(paths[kept], kind="stable")]
        labels, probabilities = labels[kept], found.probabilities[kept]
        if metric == "loss":
            scores = -np.log(np.clip(probabilities[np.arange(len(kept)), labels], 1e-15, 1))
        elif metric == "accuracy":
            scores = (probabilities.argmax(1) == labels).astype(float)
        else:
            scores = (likeliest(probabilities, TOP[metric]) == labels[:, None]).any(1).astype(float)
        return paths[kept].tolist(), scores
