"""Copying: are generated images nearer to what a generator was trained on than fresh photographs are?

Shapes: T training photographs, H held-out photographs, G generated rows, D features. Distances are those of
`neighbours.neighbour_distances`, to the nearest training photograph.
"""
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from gilt.evaluation.neighbours import neighbour_distances

FEWEST = 20  # generated rows, and held-out ones, that a cell of C_T holds at least
MOST_CELLS = 20
SHUFFLES = 400
FITTED = 20_000  # training rows that the cells are fitted to, at most
LEVEL = 0.95


class CopyScore(NamedTuple):
    """C_T, and between which values 95 % of such scores lie where nothing is copied; cells that were used and all cells."""

    value: float
    low: float
    high: float
    cells: int
    of_cells: int


def cells(train_TD: np.ndarray, *others: np.ndarray, seed: int = 0) -> list[np.ndarray]:
    """Return for each of the other sets in which cell each of its rows lies: k-means, fitted to the training photographs."""
    from sklearn.cluster import KMeans

    count = max(1, min(MOST_CELLS, min(map(len, others)) // (2 * FEWEST), len(train_TD) // FEWEST))
    if count == 1:
        return [np.zeros(len(rows), int) for rows in others]
    some = np.random.default_rng(seed).permutation(len(train_TD))[:FITTED]
    fitted = KMeans(count, n_init=3, random_state=seed).fit(np.asarray(train_TD[some], np.float32))
    return [fitted.predict(np.asarray(rows, np.float32)) for rows in others]


def copy_score(held_out_H: np.ndarray, generated_G: np.ndarray, cells_H: np.ndarray, cells_G: np.ndarray, *, seed: int = 0
               ) -> CopyScore | None:
    """Return C_T (Meehan, Chaudhuri and Dasgupta 2020) of distances to the nearest training photograph; None without a cell.

    In each cell, the Mann-Whitney z of the generated rows' distances against the held-out photographs': below 0 they are
    nearer. C_T is their mean, weighted by the held-out rows of the cell. The range is that of shuffled distances.
    """
    every = np.union1d(cells_H, cells_G)
    chosen = [(held_out_H[cells_H == cell], generated_G[cells_G == cell]) for cell in every]
    kept = [(held, made) for held, made in chosen if min(len(held), len(made)) >= FEWEST]
    if not kept:
        return None
    weights = np.array([len(held) for held, _ in kept], float)
    rng = np.random.default_rng(seed)
    ranks = [rankdata(np.concatenate(pair)) for pair in kept]
    scores = np.zeros(SHUFFLES + 1)
    for weight, rank, (held, made) in zip(weights / weights.sum(), ranks, kept, strict=True):
        orders = [rank, *(rng.permutation(rank) for _ in range(SHUFFLES))]
        scores += weight * np.array([_z(order[len(held):].sum(), len(held), len(made)) for order in orders])
    low, high = np.quantile(scores[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return CopyScore(float(scores[0]), float(low), float(high), len(kept), len(chosen))


def _z(rank_sum: float, n: int, m: int) -> float:
    """Return the Mann-Whitney z of m rows whose ranks among all n + m add up to `rank_sum`."""
    return (rank_sum - m * (m + 1) / 2 - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12)


def authentic(distances_G: np.ndarray, nearest_G: np.ndarray, train_TD: np.ndarray, units_T: np.ndarray) -> np.ndarray:
    """Return bool (G,): rows farther from their nearest training photograph than that one is from any other (Alaa et al. 2022).

    AuthPct is their share. A photograph's near-duplicates (equal `units_T`) do not count as another.
    """
    asked, place = np.unique(nearest_G, return_inverse=True)
    own = neighbour_distances(train_TD[asked], train_TD, apart=(units_T[asked], units_T))[0][:, 0]
    return distances_G > own[place]
