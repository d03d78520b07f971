"""Ties: which rows belong together, so that no split may part them, and what to do where existing splits did.

Rows are tied by equal content, by the image that they were made from, and by any column that is asked for: the `group` of
near-duplicates, a patient, a camera. A row without a value there is tied to nobody by it.
"""
import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from gilt.data.table import ImageTable
from gilt.errors import TableError, listed, near

log = logging.getLogger(__name__)
STRICTEST = {"test": 0, "val": 1, "train": 2}
NEAR = "near"  # the word for near-duplicates among SplitConfig.groups; their column is `group`


def with_groups(table: ImageTable, groups: Sequence[str]) -> tuple[ImageTable, tuple[str, ...]]:
    """Return the table and the columns that `groups` means, beside near-duplicates where the table's `group` names them.

    "near" is that column `group`; where it is empty, near-duplicates are looked for first. Raises TableError for a column
    that the table has not.
    """
    check_groups(table, groups)
    columns = ["group" if name == NEAR else name for name in groups]
    if table.frame["group"].notna().any():
        columns.append("group")
    elif NEAR in groups:
        from gilt.data.near import near_groups

        table.usable.check_files()
        log.info("looking for near-duplicates among %d images", len(table))
        table = table.with_column("group", near_groups(table))
        found = table.frame["group"].dropna()
        log.info("near-duplicates: %d images in %d groups", len(found), found.nunique())
    return table, tuple(dict.fromkeys(columns))


def check_groups(table: ImageTable, groups: Sequence[str]) -> None:
    """Raise TableError for a group that is neither "near" nor a column of the table."""
    choices = [NEAR, *table.frame.columns]
    for name in groups:
        if name not in choices:
            raise TableError(f"split.groups: no column {name!r} in the table of {table.root} (has: {listed(choices, most=40)})."
                             f"{near(name, choices)}")


def values_of(frame: pd.DataFrame, column: str) -> pd.Series:
    """Return a column's values as a key: None where there is no value, or an empty text."""
    values = frame[column].astype(object)
    return values.where(values.notna() & (values != ""), None)


def contents(frame: pd.DataFrame) -> pd.Series:
    """Return each row's content: its SHA-256, or its path where that is not known."""
    return frame["sha256"].fillna(frame["path"])


def links(frame: pd.DataFrame, columns: Sequence[str] = ()) -> np.ndarray:
    """Return (rows, keys) numbers: two rows with the same number anywhere in a column, or in two of them, are tied.

    The keys are the content; the path and the source (one space of numbers: a row is tied to what it was made from, and
    two rows to each other that were made from the same image); then `columns`. -1 is no value.
    """
    keys = [pd.factorize(contents(frame))[0]]
    source = values_of(frame, "source")
    if source.notna().any():
        both = pd.factorize(np.concatenate([frame["path"].to_numpy(object), source.to_numpy(object)]))[0]
        offset = keys[0].max(initial=-1) + 1
        keys += [both[:len(frame)] + offset, np.where(both[len(frame):] < 0, -1, both[len(frame):] + offset)]
    for column in columns:
        codes = pd.factorize(values_of(frame, column))[0]
        offset = max(key.max(initial=-1) for key in keys) + 1
        keys.append(np.where(codes < 0, -1, codes + offset))
    return np.stack(keys, axis=1).astype(np.int64)


def units(numbers: np.ndarray) -> np.ndarray:
    """Return a unit's number for each row of `links`: rows tied directly, or through other rows, have the same."""
    rows, keys = numbers.shape
    if keys == 1:
        return np.unique(numbers[:, 0], return_inverse=True)[1]
    there = numbers >= 0
    nodes = np.unique(numbers[there], return_inverse=True)[1]
    row = np.nonzero(there)[0]
    size = rows + nodes.max(initial=-1) + 1
    graph = coo_array((np.ones(len(row), np.int8), (row, rows + nodes)), shape=(size, size))
    return np.unique(connected_components(graph, directed=False)[1][:rows], return_inverse=True)[1]


def inherited(numbers: np.ndarray, ranks: np.ndarray, waiting: np.ndarray) -> np.ndarray:
    """Return, for each `waiting` row, the lowest rank of the rows that its unit is tied to; infinite where there is none.

    `ranks` (rows,) is infinite where a row has none; `waiting` (rows,) is a mask of rows without one.
    """
    best = np.full(numbers.max(initial=-1) + 2, np.inf)  # the last place answers for -1: no value, no tie
    known = np.isfinite(ranks)
    for key in numbers[known].T:
        np.minimum.at(best, key[key >= 0], ranks[known][key >= 0])
    mine = numbers[waiting]
    unit = units(mine)
    lowest = np.full(unit.max(initial=-1) + 1, np.inf)
    np.minimum.at(lowest, unit, best[mine].min(axis=1))
    return lowest[unit]


def keep_apart(table: ImageTable, columns: Sequence[str] = ()) -> ImageTable:
    """Return the table with leaking rows left out: content that a stricter split holds, its generated offspring, its group.

    Test is stricter than val, val than train. A generated image made from an image of another split is left out, where
    an image's split is the strictest that its content has. `columns` name groups that may not straddle splits either.
    """
    frame = table.frame.copy()
    usable = frame["excluded"].isna() & frame["split"].notna()
    rank = frame["split"].map(STRICTEST)
    strictest = frame["sha256"].map(rank[usable].groupby(frame["sha256"][usable]).min())  # also of copies that are left out
    for name, place in (("test", 0), ("val", 1)):
        leaks = usable & frame["sha256"].notna() & (strictest == place) & (rank > place)
        frame.loc[leaks, "excluded"] = f"same content as a {name} image"
    by_path = strictest.fillna(rank).groupby(frame["path"]).min()
    source_rank = frame["source"].map(by_path)
    for name, place in STRICTEST.items():
        leaks = frame["excluded"].isna() & rank.notna() & (source_rank == place) & (rank != place)
        frame.loc[leaks, "excluded"] = f"made from a {name} image"
    tied = {column: values_of(frame, column) for column in ("source", *columns)}
    for name in ("test", "val"):  # what test leaves out speaks against no train row any more
        for column, values in tied.items():
            usable = frame["excluded"].isna() & values.notna()
            held = values[usable & (frame["split"] == name)].unique()
            frame.loc[usable & (rank > STRICTEST[name]) & values.isin(held), "excluded"] = _reason(column, name)
    return ImageTable(frame, table.root)


def _reason(column: str, split: str) -> str:
    if column == "group":
        return f"near-duplicate of a {split} image"
    return f"made from the same image as a {split} image" if column == "source" else f"same {column} as a {split} image"


def refuse_overlaps(table: ImageTable, columns: Sequence[str]) -> None:
    """Raise TableError where the table's splits overlap: how many rows, the first of them with its partner, the remedy."""
    frame = table.frame
    after = keep_apart(table, columns).frame
    leaks = after["excluded"].notna() & frame["excluded"].isna()
    if not leaks.any():
        return
    first = after[leaks].iloc[0]
    place = int(np.flatnonzero(leaks)[0])
    numbers = links(frame, columns)
    shared = np.isin(numbers, [number for number in numbers[place] if number >= 0]).any(axis=1)
    stricter = first["excluded"].split()[-2]
    partner = frame[shared & frame["excluded"].isna().to_numpy() & (frame["split"] == stricter).to_numpy()]["path"]
    raise TableError(f"the splits of {table.root} overlap in {int(leaks.sum()):,} of {len(frame):,} rows, such as "
                     f"{first['path']} ({first['split']}): {first['excluded']}"
                     f"{f' ({partner.iloc[0]})' if len(partner) else ''}. Leave them out with split.overlap=\"exclude\", or "
                     "deal all rows anew with split.keep=false")
