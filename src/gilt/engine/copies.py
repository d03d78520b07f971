"""Copies and leaks among a table's rows, by their features.

Shapes: N rows, D features; T training photographs, H held-out photographs, G generated rows.
"""
import numpy as np
import pandas as pd

from gilt.config import REAL, SimilarityConfig
from gilt.data.table import ImageTable
from gilt.evaluation.neighbours import neighbour_distances
from gilt.evaluation.similarity import Copying, Leak, Measured, Pair
from gilt.evaluation.similarity_copies import authentic, cells, copy_score
from gilt.evaluation.uncertainty import wilson

NEAR = 0.05  # quantile of the held-out photographs' distances that "nearer" is counted below
TAU = 0.001
LEAK = "nearer to a test photograph than photographs are"  # the reason that `flagged_rows` writes


def copying(rows: ImageTable, features_ND: np.ndarray, units_N: np.ndarray, origin: str, config: SimilarityConfig) -> Copying:
    """Return whether one generator's images lie nearer to training photographs than val and test photographs do.

    Where no photograph is a train row, all of them stand for the training photographs, and there is no C_T.
    """
    frame = rows.frame
    real = frame["origin"] == REAL
    train = np.flatnonzero(real & (frame["split"] == "train"))
    held = np.flatnonzero(real & frame["split"].isin(["val", "test"]))
    if not len(train):
        train, held = np.flatnonzero(real), held[:0]
    made = np.flatnonzero(frame["origin"] == origin)
    known = features_ND[train]
    distances_G, nearest_G = (found[:, 0] for found in neighbour_distances(features_ND[made], known))
    distances_H, nearest_H = (found[:, 0] for found in neighbour_distances(features_ND[held], known,
                                                                           apart=(units_N[held], units_N[train])))
    score, nearer = None, float("nan")
    if len(held):
        held_cells, made_cells = cells(known, features_ND[held], features_ND[made], seed=config.seed)
        score = copy_score(distances_H, distances_G, held_cells, made_cells, seed=config.seed)
        nearer = float((distances_G < np.quantile(distances_H, NEAR)).mean())
    own = _own_source(frame, made, train, nearest_G)
    order = np.argsort(distances_G, kind="stable")[:config.pairs]
    pairs = tuple(Pair(frame["path"].iloc[made[i]], frame["path"].iloc[train[nearest_G[i]]], float(distances_G[i]), own[i])
                  for i in order)
    is_authentic = [authentic(*found, known, units_N[train]) for found in ((distances_G, nearest_G), (distances_H, nearest_H))]
    known_sources = [same for same in own if same is not None]
    return Copying(origin, len(made), len(train), len(held), score, _shares(*is_authentic), nearer, len(known_sources),
                   sum(known_sources), pairs)


def leak(rows: ImageTable, features_ND: np.ndarray, units_N: np.ndarray) -> Leak | None:
    """Return the generated rows outside test that are nearer to a test photograph than 99.9 % of training photographs are.

    Training photographs that are near-duplicates of a test photograph do not count. None without train or test photographs.
    """
    frame = rows.frame
    real = frame["origin"] == REAL
    train, test = (np.flatnonzero(real & (frame["split"] == name)) for name in ("train", "test"))
    made = np.flatnonzero(~real & (frame["split"] != "test"))
    if not len(train) or not len(test):
        return None
    usual = neighbour_distances(features_ND[train], features_ND[test], apart=(units_N[train], units_N[test]))[0][:, 0]
    tau = float(np.quantile(usual[np.isfinite(usual)], TAU)) if np.isfinite(usual).any() else 0.0
    distances_G, nearest_G = (found[:, 0] for found in neighbour_distances(features_ND[made], features_ND[test]))
    near = np.flatnonzero(distances_G < tau)
    near = near[np.argsort(distances_G[near], kind="stable")]
    paths = frame["path"]
    flagged = tuple(Pair(paths.iloc[made[i]], paths.iloc[test[nearest_G[i]]], float(distances_G[i])) for i in near)
    return Leak(tau, len(train), len(test), len(made), flagged)


def without_leaks(table: ImageTable, found: Leak) -> ImageTable:
    """Return the table with the flagged rows marked as left out."""
    return table.exclude(table.frame["path"].isin([pair.path for pair in found.flagged]), LEAK)


def _own_source(frame: pd.DataFrame, made: np.ndarray, train: np.ndarray, nearest_G: np.ndarray) -> list[bool | None]:
    """Return for each generated row whether its nearest training photograph is its source; None where that is not known."""
    held = set(frame["path"].iloc[train])
    sources, nearest = frame["source"].iloc[made], frame["path"].iloc[train[nearest_G]]
    return [source == path if source in held else None for source, path in zip(sources, nearest, strict=True)]


def _shares(made_G: np.ndarray, held_H: np.ndarray) -> Measured:
    shares = [float(part.mean()) if len(part) else float("nan") for part in (made_G, held_H)]
    return Measured(shares[0], *wilson(int(made_G.sum()), len(made_G)), shares[1], *wilson(int(held_H.sum()), len(held_H)), 1)
