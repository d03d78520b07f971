"""Nearest neighbours between two sets of features, exactly and in bounded memory.

Shapes: A rows that ask, B rows that are asked, D features, K neighbours. The search is one matrix product a block, in
float32; the distances of what it finds are then computed again in float64, so that a copy is at 0 and not near it.
"""
import numpy as np

BLOCK = 1 << 24  # distances held at a time: 64 MB
SPARE = 4  # more neighbours than are asked for are looked at exactly: float32 may have their order wrong


def neighbour_distances(features_AD: np.ndarray, features_BD: np.ndarray, *, k: int = 1,
                        apart: tuple[np.ndarray, np.ndarray] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return (distances float64 (A, K), indices int64 (A, K)): each row's K nearest rows of the other set, the nearest first.

    Distances are Euclidean. `apart` holds a number a row of either set: rows of the same number are no neighbours of each
    other, such as a row of itself, or a near-duplicate of its own group. Where a row has fewer than K neighbours, the rest
    are at infinity and their index is -1.
    """
    count = len(features_BD)
    distances = np.full((len(features_AD), k), np.inf)
    indices = np.full((len(features_AD), k), -1, np.int64)
    if not count or not len(features_AD):
        return distances, indices
    middle = np.asarray(features_BD, np.float64).mean(0).astype(np.float32)  # around 0, the product loses fewer digits
    asked_BD = np.asarray(features_BD, np.float32) - middle
    halves_B = np.einsum("bd,bd->b", asked_BD, asked_BD) / 2
    for rows in _blocks(len(features_AD), count):
        nearness_AB = (np.asarray(features_AD[rows], np.float32) - middle) @ asked_BD.T
        nearness_AB -= halves_B
        if apart is not None:
            nearness_AB[apart[0][rows, None] == apart[1]] = -np.inf
        found = _largest(nearness_AB, k + SPARE)
        exact = _exact(features_AD[rows], features_BD, found)
        exact[np.isneginf(np.take_along_axis(nearness_AB, found, 1))] = np.inf
        order = np.lexsort((found, exact))[:, :k]  # equal distances: the first row
        distances[rows, :order.shape[1]] = np.take_along_axis(exact, order, 1)
        indices[rows, :order.shape[1]] = np.take_along_axis(found, order, 1)
    indices[np.isinf(distances)] = -1
    return distances, indices


def radii(features_ND: np.ndarray, k: int) -> np.ndarray:
    """Return float64 (N,): the distance of each row to its K-th nearest other row; infinite where there are fewer rows."""
    places = np.arange(len(features_ND))
    return neighbour_distances(features_ND, features_ND, k=k, apart=(places, places))[0][:, -1]


def _blocks(rows: int, columns: int) -> list[slice]:
    size = max(1, BLOCK // columns)
    return [slice(first, min(first + size, rows)) for first in range(0, rows, size)]


def _largest(values_AB: np.ndarray, count: int) -> np.ndarray:
    """Return the places (A, count) of each row's largest values, in any order; all of them where there are fewer."""
    columns = values_AB.shape[1]
    if count >= columns:
        return np.broadcast_to(np.arange(columns), values_AB.shape)
    return np.argpartition(values_AB, columns - count, axis=1)[:, columns - count:]


def _exact(features_AD: np.ndarray, features_BD: np.ndarray, found_AK: np.ndarray) -> np.ndarray:
    """Return float64 (A, K): the distance of each row to those that were found for it."""
    columns = [np.linalg.norm(np.asarray(features_AD, np.float64) - features_BD[places], axis=1) for places in found_AK.T]
    return np.stack(columns, 1)
