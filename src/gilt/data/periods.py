"""Periods: read dates, years or numbers from a column, and cut them into train, val and test, oldest first."""
from typing import Any

import numpy as np
import pandas as pd

from gilt.config import REAL, SplitConfig
from gilt.data.table import SPLITS
from gilt.data.ties import values_of
from gilt.errors import TableError, listed, near


def moments(frame: pd.DataFrame, config: SplitConfig) -> tuple[pd.Series, str]:
    """Return each row's moment as a number (NaN: none) and its kind, "number" or "date" (microseconds since 1970).

    The moment is the value of the column `config.by`, or of the generator among `config.years`. Raises TableError for a
    column that is not there, a value that is neither date nor number, and a generator that `years` does not name.
    """
    if config.by:
        if config.by not in frame.columns:
            raise TableError(f"split.by: no column {config.by!r} (has: {listed(frame.columns, most=40)})."
                             f"{near(config.by, frame.columns)}")
        return _numbers(values_of(frame, config.by), f"column {config.by!r}")
    generators = sorted(frame.loc[frame["excluded"].isna() & (frame["origin"] != REAL), "origin"].unique())
    for name in generators:
        if name not in config.years:
            raise TableError(f"split.years has no year for {name!r} (has: {listed(config.years)}).{near(name, config.years)} "
                             f"Generators of the table: {listed(generators)}")
    return _numbers(frame["origin"].map(dict(config.years)).astype(object), "split.years")


def cut_points(values: pd.Series, kind: str, config: SplitConfig) -> list[float]:
    """Return where the second and the third split begin: `config.cuts`, or what comes nearest to the ratios.

    Equal values are never parted. With fewer different values than splits there is no val.
    """
    said = f"column {config.by!r}" if config.by else "split.years"
    if config.cuts:
        cuts, cut_kind = _numbers(pd.Series(list(config.cuts), dtype=object), "split.cuts", dates=kind == "date")
        if cut_kind != kind:
            raise TableError(f"split.cuts holds dates and {said} numbers: give cuts of the same kind")
        if not cuts.is_monotonic_increasing or not cuts.is_unique:
            raise TableError(f"split.cuts must rise: {listed(config.cuts)}. The first begins val (test, if it is alone), the "
                             "second test")
        return cuts.tolist()
    distinct, counts = np.unique(values.dropna(), return_counts=True)
    names = _names(config, len(distinct))
    if len(distinct) < len(names):
        there = "one value only" if len(distinct) else "no value"
        raise TableError(f"{said} holds {there}: there is nothing to cut by time")
    before = np.cumsum(counts)  # rows up to and with each value
    ratios = [getattr(config, name) for name in names]
    ends: list[int] = []  # the last value of each split but the newest
    for i in range(len(names) - 1):
        first, last = (ends[-1] + 1 if ends else 0), len(distinct) - len(names) + i
        due = sum(ratios[:i + 1]) / sum(ratios) * before[-1]
        ends.append(first + int(np.argmin(np.abs(before[first:last + 1] - due))))
    return [float(distinct[end + 1]) for end in ends]


def period_of(values: pd.Series, cuts: list[float], config: SplitConfig) -> pd.Series:
    """Return each value's split: below the first cut the oldest, and so on."""
    names = ("train", "test") if config.cuts and len(cuts) == 1 else _names(config, len(cuts) + 1)
    return pd.Series(np.array(names, dtype=object)[np.searchsorted(cuts, values, side="right")], index=values.index)


def _names(config: SplitConfig, distinct: int) -> tuple[str, ...]:
    if config.cuts:
        return SPLITS
    names = tuple(name for name in SPLITS if getattr(config, name))
    return names if distinct >= len(names) else tuple(name for name in names if name != "val")


def _numbers(values: pd.Series, said: str, *, dates: bool = False) -> tuple[pd.Series, str]:
    """Return values as numbers, or as dates where they (or, with `dates`, anyway) are no numbers."""
    there = values.dropna()
    numbers = pd.to_numeric(there.where(~there.map(_is_date), None), errors="coerce")
    if not dates and numbers.notna().all() and np.isfinite(numbers.astype(float)).all():
        return numbers.astype(float).reindex(values.index), "number"
    texts = there.map(_date_text)
    stamps = pd.to_datetime(texts, format="ISO8601", utc=True, errors="coerce")
    if stamps.isna().any():
        wrong = there[stamps.isna()].iloc[0]
        raise TableError(f"{said} holds {wrong!r}, which is neither a number nor a date: write 2022, 2022-01-31 or "
                         "2022-01-31T12:00")
    return stamps.dt.as_unit("us").astype("int64").astype(float).reindex(values.index), "date"


def _is_date(value: Any) -> bool:
    return hasattr(value, "isoformat")


def _date_text(value: Any) -> str:
    """Return a value as ISO 8601; cameras write 2021:05:04 10:11:12."""
    if _is_date(value):
        return value.isoformat()
    text = f"{value:g}" if isinstance(value, float) else str(value).strip()
    head = text[:10].replace(":", "-") if len(text) >= 10 and text[4] == ":" else text[:10]
    return head + text[10:]
