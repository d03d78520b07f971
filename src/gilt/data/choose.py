"""Choose: which generated rows a mix may take at all, from what was measured of them beside the trial's photographs.

    copies       nearer to a photograph than a quantile of the photographs' distances to the nearest other one
    off_class    a judge that learnt the photographs takes it for another class
    confidence   that judge gives its own class less than this probability
    keep         of what is left, a part of each class or a number of it: `nearest`, `farthest`, `typical`, `coverage`, `random`

Rows are marked with the reason, never dropped. Those kept stay in the mix's seeded order, so that arms of other sizes still lie
inside each other. `random` is the rival of equal size: the first rows of that order.

Coverage is greedy k-centre selection (Gonzalez 1985), which adds what is farthest from all that is there already: Sener and
Savarese 2018, arXiv:1708.00489.

Shapes: N candidates, R photographs, D features.
"""
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from gilt.config import ChooseConfig
from gilt.data.table import ImageTable

COPY, OFF_CLASS, UNSURE = "copy of a photograph", "off its class", "low confidence in its class"
NO_PHOTOGRAPH, NOT_KEPT = "no photograph of its class", "not chosen"


@dataclass(frozen=True)
class Scores:
    """What was measured of candidates; the judge's part is None where no setting asks for it.

    `any_N` is a candidate's distance to the nearest photograph, whose path is in `nearest_N`; `own_N` that to the nearest one
    of its class, infinite where there is none. `usual` is class -> the median distance of its photographs to the nearest other
    one. `tau` is the distance below which a candidate is a copy; `rightness` the part of the photographs that the judge gets
    right where it did not learn them.
    """

    features_ND: np.ndarray
    photographs_RD: np.ndarray
    classes_R: np.ndarray
    any_N: np.ndarray
    nearest_N: np.ndarray
    own_N: np.ndarray
    usual: Mapping[str, float]
    tau: float | None = None
    probability_N: np.ndarray | None = None
    likeliest_N: np.ndarray | None = None
    rightness: float | None = None


@dataclass(frozen=True)
class Choice:
    """All candidates in the mix's order, those left out marked with the reason, and what they were judged by."""

    candidates: ImageTable
    known: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kept(self) -> ImageTable:
        """The candidates that the mix may take."""
        return self.candidates.usable

    @property
    def out(self) -> ImageTable:
        """The candidates left out, with the reason in `excluded`."""
        return self.candidates.where(lambda frame: frame["excluded"].notna())

    def counts(self) -> dict[str, Any]:
        """Return the numbers of candidates, of kept ones, and of those left out by reason, then what they were judged by."""
        reasons = self.out.frame["excluded"].map(lambda reason: reason.split(":")[0]).value_counts()
        return {"candidates": len(self.candidates), "kept": len(self.kept),
                "left_out": {reason: int(count) for reason, count in reasons.items()}, **self.known}


def choose(candidates: ImageTable, config: ChooseConfig, scores: Scores | None = None) -> ImageTable:
    """Return the candidates, in their order, with those marked as left out that the settings speak against.

    `scores` are needed by everything but `keep="random"`. A row has one reason: the first that applies, in the order above.
    """
    rows = candidates
    if scores is not None:
        rows = rows.exclude(pd.Series(np.isinf(scores.own_N)), NO_PHOTOGRAPH)
        if scores.tau is not None:
            rows = rows.exclude(pd.Series(scores.any_N < scores.tau), COPY + ": " + pd.Series(scores.nearest_N, dtype=object))
        if config.off_class and scores.likeliest_N is not None:
            likeliest = pd.Series(scores.likeliest_N, dtype=object)
            rows = rows.exclude(likeliest != rows.frame["class"], f"{OFF_CLASS}: looks like " + likeliest)
        if config.confidence is not None and scores.probability_N is not None:
            rows = rows.exclude(pd.Series(scores.probability_N < config.confidence), UNSURE)
    if config.keep is None:
        return rows
    kept = np.zeros(len(rows), bool)
    left = rows.frame["class"].fillna("").astype(str)[rows.frame["excluded"].isna()]
    for name, places in left.groupby(left).groups.items():
        kept[_kept(np.asarray(places), str(name), config, scores)] = True
    return rows.exclude(pd.Series(~kept), f"{NOT_KEPT}: keep={config.keep}")


def _kept(places: np.ndarray, name: str, config: ChooseConfig, scores: Scores | None) -> np.ndarray:
    """Return those of one class's places that are kept. Equal distances: the first in the order."""
    size = config.count or math.ceil((config.part or 0) * len(places) - 1e-9)
    if config.keep == "random" or scores is None or size >= len(places):
        return places[:size]
    distances = scores.own_N[places]
    if config.keep == "coverage":
        known = scores.photographs_RD[scores.classes_R == name]
        return places[farthest_first(scores.features_ND[places], known, size)]
    if config.keep == "farthest":
        distances = -distances
    elif config.keep == "typical":
        distances = np.abs(distances - scores.usual[name])
    return places[np.argsort(distances, kind="stable")[:size]]


def farthest_first(features_ND: np.ndarray, known_RD: np.ndarray, count: int) -> np.ndarray:
    """Return the places (count,) of rows that cover best, beside the `known` ones: each is the farthest from all before it.

    A smaller count's rows are the first of a larger one's. Of a row and its equal, one is taken as long as others are left.
    """
    features = np.asarray(features_ND, np.float64)
    gap_N = np.full(len(features), np.inf)
    for row in np.asarray(known_RD, np.float64):
        gap_N = np.minimum(gap_N, ((features - row) ** 2).sum(1))
    chosen: list[int] = []
    for _ in range(min(count, len(features))):
        place = int(gap_N.argmax())
        chosen.append(place)
        gap_N = np.minimum(gap_N, ((features - features[place]) ** 2).sum(1))
        gap_N[place] = -1  # below any other, also below a copy of it
    return np.array(chosen, int)


def in_words(config: ChooseConfig) -> str:
    """Return the settings in a few words, as a table of arms shows them."""
    said = [f"copies {config.copies:g}"] if config.copies is not None else []
    said += ["off class"] if config.off_class else []
    said += [f"confidence {config.confidence:g}"] if config.confidence is not None else []
    if config.keep:
        said.append(f"{config.keep} {config.part:g}" if config.part is not None else f"{config.keep} {config.count} a class")
    return ", ".join(said)
