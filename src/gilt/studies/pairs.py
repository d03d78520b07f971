"""Pairs: an arm's and the benchmark's stored answers to the same test images, seed by seed. What drill-downs start from."""
import logging
from dataclasses import dataclass

import numpy as np

from gilt.errors import ConfigError, StoreError, listed, near
from gilt.studies.compare import judged_on, taken
from gilt.studies.store import Store, TrialRecord

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Said:
    """What one trial said of N images, sorted by path: the likeliest name, whether it is right, the true name's probability.

    `names` (N,) is what images are counted by: their class or, for target `origin`, their origin.
    """

    paths: np.ndarray
    names: np.ndarray
    answers: np.ndarray
    right: np.ndarray
    p: np.ndarray

    def only(self, paths: np.ndarray) -> "Said":
        """Return what was said of these images, each of which is there; `paths` are sorted."""
        at = np.searchsorted(self.paths, paths)
        return Said(paths, self.names[at], self.answers[at], self.right[at], self.p[at])


@dataclass(frozen=True)
class Pair:
    """What an arm and the benchmark said of the same images, in the same order, under one seed."""

    seed: int
    arm: Said
    benchmark: Said


class Pairs:
    """The pairs of a store's arms with one benchmark, whose answers are read once.

    A trial whose predictions are gone is left out, with a warning. Images that could not be read, or whose true name the
    classifier does not know, are left out, as they are of every metric.
    """

    def __init__(self, store: Store, benchmark: str) -> None:
        self.store, self._said = store, {}
        self._trials: dict[str, dict[int, TrialRecord]] = {}
        for record in taken(store)[0]:
            if record.state == "finished":
                self._trials.setdefault(record.arm, {})[record.seed] = record
        self._base = self._trials.pop(benchmark, {})

    @property
    def arms(self) -> list[str]:
        """Every arm but the benchmark with a finished trial, in the study's order."""
        return list(self._trials)

    def of(self, arm: str) -> list[Pair]:
        """Return one pair a seed under which both were judged on the same test images."""
        own, base, found = self._trials.get(arm, {}), self._base, []
        for seed in sorted(own.keys() & base.keys()):
            if judged_on(own[seed], "test") != judged_on(base[seed], "test"):
                continue
            if seed not in self._said:
                self._said[seed] = _said(self.store, base[seed])
            mine, theirs = _said(self.store, own[seed]), self._said[seed]
            if mine is not None and theirs is not None:
                shared = np.intersect1d(mine.paths, theirs.paths)
                found.append(Pair(seed, mine.only(shared), theirs.only(shared)))
        return found


def benchmark_of(store: Store, benchmark: str | None) -> str | None:
    """Return the benchmark that is named, else the study's own, None where it has none.

    Raises ConfigError where the name is no arm, StoreError for a tuning.
    """
    summary = store.summary
    if summary["kind"] != "study":
        taken(store)  # which says so
    if benchmark is not None:
        check_arm(store, benchmark)
    return benchmark or summary["benchmark"]


def check_arm(store: Store, arm: str) -> None:
    """Raise ConfigError where the study has no such arm."""
    summary = store.summary
    arms = summary["arms"]
    if arm not in arms:
        raise ConfigError(f"no arm {arm!r} in {summary['name']} (arms: {listed(arms)}).{near(arm, arms)}")


def _said(store: Store, record: TrialRecord) -> Said | None:
    try:
        found = store.predictions(record.id, "test")
    except StoreError as error:
        log.warning("%s seed %d is left out of what is said of classes and images: %s", record.arm, record.seed, error)
        return None
    labels, paths = found.labels, np.array(list(found.path), object)
    kept = np.flatnonzero(found.readable & (labels >= 0))
    kept = kept[np.argsort(paths[kept], kind="stable")]
    labels, probabilities = labels[kept], found.probabilities[kept]
    guesses = probabilities.argmax(1)
    names = np.array(list(found.class_ if found.target == "class" else found.origin), object)[kept]
    return Said(paths[kept], names, np.array(found.classes, object)[guesses], guesses == labels,
                probabilities[np.arange(len(kept)), labels])
