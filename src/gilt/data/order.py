"""Order: a seeded order that depends on the rows alone, so that arms are paired and a smaller set lies inside a larger one."""
import hashlib

import numpy as np

from gilt.data.table import ImageTable


def ordered(table: ImageTable, seed: int) -> ImageTable:
    """Return the rows in a seeded random order whose every beginning holds classes and origins in the same parts."""
    frame = table.frame
    if frame.empty:
        return table
    draw = np.array([draw_of(path, seed) for path in frame["path"]])
    strata = frame["class"].fillna("").astype(str) + "\x1f" + frame["origin"]
    rank = frame.assign(draw=draw).groupby(strata)["draw"].rank(method="first").to_numpy()
    size = strata.map(strata.value_counts()).to_numpy()
    return table.take(np.lexsort((draw, (rank - 0.5) / size)))


def draw_of(name: str, seed: int) -> float:
    """Return a number in [0, 1) that depends on the name alone: the same in every arm, whatever else the arm holds."""
    return int.from_bytes(hashlib.blake2b(f"{seed}\x1f{name}".encode(), digest_size=7).digest()) / 2**56
