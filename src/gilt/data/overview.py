"""Overview: a table in numbers, by class, origin and split; what the terminal, the page and the JSON of `gilt show` all say.

Everything but `left_out` counts usable rows only.
"""
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gilt.config import REAL
from gilt.data.table import COLUMNS, SPLITS, STATISTICS, ImageTable

MEASURES = ("width", "height", "aspect", "bytes")
_COUNTED = ["class", "origin", "split", "width", "height", "bytes", "format", "mode", "quality", "group"]
SIZES = 100  # listed at most


def overview(table: ImageTable) -> dict[str, Any]:
    """Return the numbers of a table as JSON values.

    rows, images (usable rows), classes, no_class (images without one), left_out (reason -> rows), splits and origins
    (name -> images), by_split (origin -> split -> images; None is spelled "no split"), by_class (class or None, all, and
    origin -> images; the largest first), measures (origin -> width, height, aspect (width / height), bytes -> n, min,
    median, max; of bytes their sum), distinct_sizes, sizes (width, height, all, and origin -> images; the commonest
    SIZES), formats, modes and qualities (origin -> name -> images), groups of near-duplicates (None where none was looked
    for), columns (others of the table's).
    """
    frame = table.frame
    usable = frame.loc[frame["excluded"].isna(), _COUNTED]
    origins = _order(usable["origin"].value_counts(), (REAL,))
    splits = usable["split"].fillna("no split")
    by_split = {name: _order(splits[usable["origin"] == name].value_counts(), (*SPLITS, "no split")) for name in origins}
    reasons = frame["excluded"].dropna().map(lambda text: str(text).split(":")[0])
    sizes = _sizes(usable, list(origins))
    return {
        "root": str(table.root), "rows": len(frame), "images": len(usable), "classes": int(usable["class"].nunique()),
        "no_class": int(usable["class"].isna().sum()), "left_out": _order(reasons.value_counts()),
        "splits": _order(splits.value_counts(), (*SPLITS, "no split")), "origins": origins, "by_split": by_split,
        "by_class": _by_class(usable, list(origins)), "measures": _measures(usable, list(origins)),
        "distinct_sizes": len(sizes), "sizes": sizes[:SIZES],
        "formats": _by_origin(usable, "format", origins), "modes": _by_origin(usable, "mode", origins),
        "qualities": _by_origin(usable, "quality", origins), "groups": _groups(usable),
        "columns": [str(name) for name in frame.columns if name not in (*COLUMNS, *STATISTICS)]}


def sampled(table: ImageTable, *, samples: int, seed: int = 0, classes: list[str | None] | None = None,
            origins: list[str] | None = None) -> dict[str | None, dict[str, list[Path]]]:
    """Return class -> origin -> at most `samples` paths of usable rows, drawn at random by `seed`.

    Classes stand in the order they are named in; None takes all. The class None is that of rows without one.
    """
    frame = table.frame.loc[table.frame["excluded"].isna(), ["path", "class", "origin"]]
    if classes is not None:
        named = [name for name in classes if name is not None]
        frame = frame[frame["class"].isin(named) | (frame["class"].isna() if None in classes else False)]
    if origins is not None:
        frame = frame[frame["origin"].isin(origins)]
    frame = frame.iloc[np.random.default_rng(seed).permutation(len(frame))]
    found: dict[str | None, dict[str, list[Path]]] = {name: {} for name in classes or ()}
    for (name, origin), rows in frame.groupby(["class", "origin"], dropna=False, sort=False).head(samples).groupby(
            ["class", "origin"], dropna=False):
        found.setdefault(None if pd.isna(name) else name, {})[origin] = [table.root / path for path in rows["path"]]
    return found


def ends(rows: list[Any], most: int = 12) -> tuple[list[Any], list[Any], int]:
    """Return (first, last, passed over): all rows where at most 2 * `most`, else as many from each end."""
    return (rows, [], 0) if len(rows) <= 2 * most else (rows[:most], rows[-most:], len(rows) - 2 * most)


def largest(by_class: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """Return the rows of the `most` largest classes; the row of images without a class, where there is one, is the last."""
    named, none = [row for row in by_class if row["class"] is not None], [row for row in by_class if row["class"] is None]
    return [*named[:most - len(none)], *none]


def _order(counts: pd.Series, first: tuple[str, ...] = ()) -> dict[str, int]:
    """Return name -> count: the names of `first` before the others, then the most frequent first, then by name."""
    place = {name: i for i, name in enumerate(first)}
    names = sorted(counts.index, key=lambda name: (place.get(name, len(place)), -counts[name], str(name)))
    return {str(name): int(counts[name]) for name in names}


def _by_class(usable: pd.DataFrame, origins: list[str]) -> list[dict[str, Any]]:
    counts = usable.groupby(["class", "origin"], dropna=False, sort=False).size().unstack(fill_value=0)
    counts = counts.reindex(columns=origins, fill_value=0)
    rows = [{"class": None if pd.isna(name) else str(name), "all": sum(line), "origins": dict(zip(origins, line, strict=True))}
            for name, line in zip(counts.index, counts.to_numpy().tolist(), strict=True)]
    return sorted(rows, key=lambda row: (row["class"] is None, -row["all"], row["class"]))


def _measures(usable: pd.DataFrame, origins: list[str]) -> dict[str, dict[str, dict[str, Any] | None]]:
    """Return origin -> measure -> n, min, median, max, sum; None where no row has been measured."""
    values = pd.DataFrame({name: usable[name].to_numpy(float, na_value=np.nan) for name in ("width", "height", "bytes")})
    values["aspect"] = values["width"] / values["height"]
    names = usable["origin"].to_numpy()
    result: dict[str, dict[str, dict[str, Any] | None]] = {}
    for origin in origins:
        own = values[names == origin]
        result[origin] = {name: _spread(own[name].dropna().to_numpy(), name) for name in MEASURES}
    return result


def _spread(values: np.ndarray, measure: str) -> dict[str, Any] | None:
    if not len(values):
        return None
    number = (lambda value: round(float(value), 4)) if measure == "aspect" else round
    said = {name: number(how(values)) for name, how in (("min", np.min), ("median", np.median), ("max", np.max))}
    return {"n": len(values)} | said | ({"sum": round(values.sum())} if measure == "bytes" else {})


def _sizes(usable: pd.DataFrame, origins: list[str]) -> list[dict[str, Any]]:
    known = usable[usable["width"].notna() & usable["height"].notna()]
    keys = pd.DataFrame({name: known[name].astype("int64") for name in ("width", "height")} | {"origin": known["origin"]})
    counts = keys.groupby(["width", "height", "origin"], sort=False).size().unstack(fill_value=0)
    counts = counts.reindex(columns=origins, fill_value=0)
    rows = [{"width": width, "height": height, "all": sum(line), "origins": dict(zip(origins, line, strict=True))}
            for (width, height), line in zip(counts.index.tolist(), counts.to_numpy().tolist(), strict=True)]
    return sorted(rows, key=lambda row: (-row["all"], row["width"], row["height"]))


def _by_origin(usable: pd.DataFrame, column: str, origins: dict[str, int]) -> dict[str, dict[str, int]]:
    known = usable[column].dropna()
    names = usable["origin"].loc[known.index]
    return {origin: _order(known[names == origin].value_counts()) for origin in origins}


def _groups(usable: pd.DataFrame) -> dict[str, int] | None:
    """Return how many groups of near-duplicates there are, of how many rows, and how many lie across others; or None."""
    rows = usable[usable["group"].notna()]
    if rows.empty:
        return None
    size = rows["group"].map(rows["group"].value_counts())
    rows, size = rows[size > 1], size[size > 1]
    across = {f"across_{plural}": int((rows.groupby("group")[name].nunique() > 1).sum())
              for plural, name in (("splits", "split"), ("classes", "class"), ("origins", "origin"))}
    largest = int(size.max()) if len(size) else 0
    return {"groups": int(rows["group"].nunique()), "images": len(rows), "largest": largest} | across
