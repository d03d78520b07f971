"""Controls: training rows that pose as generated ones and whose worth is known, so that a study of worth can be checked.

    held_back    photographs of the training split that the arm does not use      worth 1
    duplicates   exact copies of the arm's own photographs                        worth 0, under fixed steps
    shuffled     generated rows (held-back ones, where there are none) whose       worth 0 at most
                 classes are permuted among them

Posing rows count as generated; their origin is "control:held_back" and so on. Only training rows pose: never a val or test row.
Under one seed the arm's own photographs are those of every other arm.
"""
import numpy as np
import pandas as pd

from gilt.config import REAL, MixConfig
from gilt.data.table import ImageTable
from gilt.errors import TableError

PREFIX = "control:"
MEANT = {"held_back": 1.0, "duplicates": 0.0, "shuffled": 0.0}  # control -> the worth that it must, or may at most, have


def candidates(real: ImageTable, generated: ImageTable, config: MixConfig) -> ImageTable:
    """Return the rows that may pose as generated in an arm, in the order in which they are taken.

    `real` and `generated` are the training rows in their seeded order, not yet limited. Held-back photographs are taken
    from the order's end: other ones than an arm of more photographs takes, while there are enough. Every stretch of that order
    holds the classes in the same parts. Duplicates go round as often as rows are asked for.
    Raises TableError where nothing is left to pose.
    """
    if config.control == "shuffled" and len(generated):
        return generated
    if config.control == "duplicates":
        own = real.take(slice(0, config.max_real))
        wanted = max(config.generated or 0, config.total or 0, len(own))
        return own.take(np.arange(wanted if len(own) else 0) % max(len(own), 1))
    spare = real.take(slice(config.max_real, None)) if config.max_real is not None else real.take(slice(0, 0))
    if not len(spare):
        limit = "mix.max_real is not set" if config.max_real is None else f"mix.max_real={config.max_real} takes all"
        raise TableError(f"mix.control={config.control!r} needs photographs that the arm leaves over, and {limit} of the "
                         f"{len(real):,} real training rows: set mix.max_real lower")
    return spare.take(slice(None, None, -1))


def posed(real: ImageTable, chosen: ImageTable, config: MixConfig, *, count: int, seed: int) -> ImageTable:
    """Return an arm's photographs `real`, and after them `count` rows that pose as generated, of `chosen` candidates.

    Duplicates are of those photographs; beyond one copy of each, a second one follows.
    """
    if config.control == "duplicates":
        chosen = real
    places = np.arange(count) % max(len(chosen), 1)
    rows = chosen.take(places).frame.assign(origin=f"{PREFIX}{config.control}", source=None)
    if config.control == "shuffled":
        rows = rows.assign(**{"class": np.random.default_rng(seed).permutation(rows["class"].to_numpy(object))})
    return ImageTable(pd.concat([real.frame, rows], ignore_index=True), real.root)


def joined(table: ImageTable, train: ImageTable) -> ImageTable:
    """Return the rows of both; a photograph and its copies stand under one path."""
    return ImageTable(pd.concat([table.frame, train.frame], ignore_index=True), table.root)


def own_only(generated: ImageTable, real: ImageTable) -> ImageTable:
    """Return the generated rows that were made from one of the photographs `real`, or from none that is known."""
    paths = set(real.frame["path"])
    return generated.where(lambda frame: frame["source"].isna() | frame["source"].isin(paths))


def control_of(origin: str) -> str | None:
    """Return the control that an origin names, or None."""
    return origin.removeprefix(PREFIX) if origin.startswith(PREFIX) and origin != REAL else None
