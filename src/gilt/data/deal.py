"""Deal: rows into parts in given ratios, stratified by class and origin, what is tied together into the same part."""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gilt.config import REAL, SplitConfig
from gilt.data.table import SPLITS
from gilt.data.ties import STRICTEST, contents, inherited, units

Ratios = dict[str, float]
OVERALL = 0.25  # what a deviation over all images counts beside one in a stratum; without it small strata fill one part only


@dataclass
class Dealing:
    """A table's rows while they are dealt: `frame` is a copy, and its `split` (and `excluded`) are set in place."""

    frame: pd.DataFrame
    numbers: np.ndarray  # the rows' ties: gilt.data.ties.links
    config: SplitConfig
    target: str
    seed: int

    @property
    def usable(self) -> pd.Series:
        return self.frame["excluded"].isna()

    @property
    def real(self) -> pd.Series:
        return self.usable & (self.frame["origin"] == REAL)

    @property
    def generated(self) -> pd.Series:
        return self.usable & (self.frame["origin"] != REAL)

    def open(self, mask: pd.Series) -> pd.Series:
        """Return which of the masked rows have no split yet."""
        return mask & self.usable & self.frame["split"].isna()

    def assign(self, mask: pd.Series, ratios: Ratios, seed: int) -> None:
        """Deal the masked rows by `ratios`, whatever split they had."""
        if mask.any() and sum(ratios.values()):
            self.frame.loc[mask, "split"] = self.parts(mask, ratios, seed)

    def parts(self, mask: pd.Series, ratios: Ratios, seed: int) -> pd.Series:
        """Return the masked rows' parts, dealt by `ratios`; nothing is set."""
        return deal(self.frame[mask], self.numbers[mask.to_numpy()], ratios, seed)

    def follow(self, mask: pd.Series) -> None:
        """Give each masked row without a split that of what it is tied to; photographs follow photographs only."""
        splits = self.frame["split"]
        reals = mask & self.real
        splits = splits.where(~reals, follow(self.frame, reals, splits.where(self.real), self.numbers, list(STRICTEST)))
        self.frame["split"] = follow(self.frame, mask & ~reals, splits, self.numbers, list(STRICTEST))

    def deal(self, mask: pd.Series, *, test: bool = True, carve: bool = True) -> None:
        """Deal the masked rows without a split; then `carve` val rows from train or test where none came out."""
        config = self.config
        had = set(self.frame.loc[mask, "split"].dropna())
        ratios = {"train": config.train, "val": config.val, "test": config.test if test else 0.0}
        if config.val_from_test and test and "val" not in had:  # the thesis's way: val is a part of the test rows
            ratios = {"train": config.train, "val": 0.0, "test": config.val + config.test}
        self.assign(self.open(mask), ratios, self.seed)
        now = set(self.frame.loc[mask, "split"].dropna())
        if "val" in now or not config.val or not carve:
            return
        if config.val_from_test and "test" in now:
            part = config.val_from_test
            self.assign(mask & (self.frame["split"] == "test"), {"test": 1 - part, "val": part}, self.seed + 1)
        elif "train" in now and had:
            self.carve(mask)

    def carve(self, mask: pd.Series) -> None:
        """Take val rows from the masked train rows; those made from another image follow that."""
        free = mask & (self.frame["split"] == "train") & self.frame["source"].isna()
        self.assign(free, {"train": self.config.train, "val": self.config.val}, self.seed + 1)


def deal(rows: pd.DataFrame, numbers: np.ndarray, ratios: Ratios, seed: int) -> pd.Series:
    """Return each row's part. `numbers` are the rows' ties (see `gilt.data.ties.links`).

    Images that nothing ties to another one are dealt exactly by the ratios, stratum by stratum. Where there are groups,
    the largest are dealt first, each to the part that it brings nearest to what is due, in its strata and over all.
    """
    origins = "\x1f".join(sorted(rows["origin"].unique()))
    rng = np.random.default_rng([seed, *origins.encode()])  # what another origin's rows draw is no concern of these
    content = contents(rows)
    first = ~content.duplicated()
    strata = (rows["class"].fillna("").astype(str) + "\x1f" + rows["origin"])[first]
    names = {name: rng.random() for name in sorted(strata.unique())}  # strata in random order: small ones take turns
    order = np.lexsort((rng.random(len(strata)), strata.map(names).to_numpy()))
    unit = units(numbers)[first.to_numpy()][order]
    if len(np.unique(unit)) == len(unit):
        parts = deal_out(len(order), ratios)
    else:
        parts = deal_groups(unit, pd.factorize(strata)[0][order], ratios)
    return content.map(pd.Series(parts, index=content[first].to_numpy()[order], dtype=object))


def deal_out(count: int, ratios: Ratios) -> list[str]:
    """Return `count` names so that every stretch of the list holds them in about these ratios.

    Each place goes to the name that is furthest behind its due, so ratios are exact over all and close in each part.
    """
    names, due = _due(ratios)
    given = [0] * len(names)
    out = []
    for i in range(1, count + 1):
        behind = [part * i - have for part, have in zip(due, given, strict=True)]
        k = behind.index(max(behind))
        given[k] += 1
        out.append(names[k])
    return out


def deal_groups(unit: Sequence[int] | np.ndarray, strata: np.ndarray, ratios: Ratios) -> list[str]:
    """Return each image's part, whole units together; `unit` and `strata` are numbers, one an image.

    Units are taken from the largest to the smallest, equal ones in the order given. Each goes where it lowers the squared
    deviations from what is due so far most: summed over its strata, and (by OVERALL) over all images. No part stays empty
    while another has units to spare.
    """
    names, due = _due(ratios)
    code = pd.factorize(np.asarray(unit))[0]
    size = np.bincount(code)
    width = int(strata.max()) + 1
    cells, counts = np.unique(code * width + strata, return_counts=True)
    start = np.searchsorted(cells // width, np.arange(len(size) + 1)).tolist()
    stratum, count = (cells % width).tolist(), counts.tolist()
    seen, given = [0] * width, [[0] * len(names) for _ in range(width)]
    all_seen, all_given = 0, [0] * len(names)
    chosen = [0] * len(size)
    sequence = np.argsort(-size, kind="stable").tolist()
    for u in sequence:
        mine = [(stratum[i], count[i]) for i in range(start[u], start[u + 1])]
        n = int(size[u])
        all_seen += n
        behind = [OVERALL * n * (part * all_seen - have) for part, have in zip(due, all_given, strict=True)]
        for s, c in mine:
            seen[s] += c
            behind = [b + c * (part * seen[s] - have) for b, part, have in zip(behind, due, given[s], strict=True)]
        k = chosen[u] = behind.index(max(behind))
        all_given[k] += n
        for s, c in mine:
            given[s][k] += c
    _fill(chosen, sequence, [have - part * all_seen for part, have in zip(due, all_given, strict=True)])
    return [names[chosen[u]] for u in code.tolist()]


def _due(ratios: Ratios) -> tuple[list[str], list[float]]:
    """Return the names that get something, train, val and test in this order, and their parts of 1."""
    total = sum(ratios.values())
    names = [name for name in (*SPLITS, *(name for name in ratios if name not in SPLITS)) if ratios.get(name)]
    return names, [ratios[name] / total for name in names]


def _fill(chosen: list[int], sequence: list[int], ahead: list[float]) -> None:
    """Give each empty part, the last first, the smallest unit of the part that is furthest ahead and has two or more."""
    counts = np.bincount(chosen, minlength=len(ahead))
    for k in reversed(range(len(ahead))):
        if counts[k] or counts.max() < 2:
            continue
        donor = max((part for part in range(len(ahead)) if counts[part] > 1), key=lambda part: ahead[part])
        chosen[next(u for u in reversed(sequence) if chosen[u] == donor)] = k
        counts[k], counts[donor] = 1, counts[donor] - 1


def follow(frame: pd.DataFrame, mask: pd.Series, values: pd.Series, numbers: np.ndarray,
           order: Sequence[str]) -> pd.Series:
    """Return `values` (splits, or folds) where each masked row without one has that of the row it is tied to.

    First that of the image it was made from; else the first in `order` among all rows that it, or a row waiting with it,
    is tied to. Rows that are left out tie nothing.
    """
    values = values.copy()
    if frame["source"].notna().any():
        followed = frame["source"].map(values[~frame["path"].duplicated()].set_axis(frame["path"][~frame["path"].duplicated()]))
        rows = mask & values.isna() & followed.notna()
        values[rows] = followed[rows]
    waiting = mask & values.isna()
    known = values.notna() & frame["excluded"].isna()
    if waiting.any() and known.any():
        ranks = values.where(known).map({name: float(i) for i, name in enumerate(order)}).fillna(np.inf).to_numpy(float)
        best = inherited(numbers, ranks, waiting.to_numpy())
        found = np.isfinite(best)
        values[values.index[waiting][found]] = [order[int(rank)] for rank in best[found]]
    return values
