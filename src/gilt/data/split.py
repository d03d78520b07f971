"""Split: deal rows into train, val and test, so that nothing a model was shown comes back in its exam.

Content that stands twice never straddles splits, and a generated image follows the photograph it was made from.
"""
import logging

import numpy as np
import pandas as pd

from gilt.config import REAL, SplitConfig
from gilt.data.table import SPLITS, ImageTable
from gilt.errors import TableError, listed

log = logging.getLogger(__name__)
_STRICTEST = {"test": 0, "val": 1, "train": 2}


def split(table: ImageTable, config: SplitConfig | None = None, *, target: str = "class", seed: int = 0,
          **ratios: float) -> ImageTable:
    """Return the table with a split for every usable row; existing splits are kept unless `config.keep` is false.

    Rows are dealt by class and origin (stratified), seeded by `config.seed` or `seed`; `ratios` are SplitConfig's
    fields by name: `split(table, train=0.8, val=0.1, test=0.1)`. For target `class`, generated rows are dealt to
    train and val only: the test is on photographs. Rows that would leak are marked as left out, with the reason.
    Raises TableError where no training row comes out; warns where no test row does.
    """
    config = config or SplitConfig(**ratios)  # type: ignore[arg-type]
    seed = seed if config.seed is None else config.seed
    frame = table.frame.copy()
    if not config.keep:
        frame["split"] = None
    usable = frame["excluded"].isna()
    real = frame["origin"] == REAL
    if target == "class":
        had_val = (frame.loc[usable & real, "split"] == "val").any()
        _deal(frame, usable & real, config, seed)
        _follow_source(frame, usable & ~real)
        _deal(frame, usable & ~real, config, seed, test=False, carve=not had_val)
    else:  # each origin by itself: which generators are there changes nothing for the photographs
        free = frame["source"].isna() | ~frame["source"].isin(frame["path"])
        for origin in table.origins:
            _deal(frame, usable & free & (frame["origin"] == origin), config, seed)
        _follow_source(frame, usable & ~free)
        _deal(frame, usable & ~free, config, seed, carve=False)  # where even the source has no split
    result = keep_apart(ImageTable(frame, table.root))
    _check(result, target)
    return result


def keep_apart(table: ImageTable) -> ImageTable:
    """Return the table with leaking rows left out: content that a stricter split holds, and its generated offspring.

    Test is stricter than val, val than train. A generated image made from an image of another split is left out, where
    an image's split is the strictest that its content has.
    """
    frame = table.frame.copy()
    usable = frame["excluded"].isna() & frame["split"].notna()
    rank = frame["split"].map(_STRICTEST)
    strictest = rank[usable].groupby(frame["sha256"][usable]).transform("min").reindex(frame.index)
    for name, place in (("test", 0), ("val", 1)):
        leaks = usable & frame["sha256"].notna() & (strictest == place) & (rank > place)
        frame.loc[leaks, "excluded"] = f"same content as a {name} image"
    by_path = strictest.fillna(rank).groupby(frame["path"]).min()
    source_rank = frame["source"].map(by_path)
    for name, place in _STRICTEST.items():
        leaks = frame["excluded"].isna() & rank.notna() & (source_rank == place) & (rank != place)
        frame.loc[leaks, "excluded"] = f"made from a {name} image"
    return ImageTable(frame, table.root)


def _follow_source(frame: pd.DataFrame, mask: pd.Series) -> None:
    """Give each masked row without a split the split of the image it was made from, where that is known."""
    splits = frame.drop_duplicates("path").set_index("path")["split"]
    followed = frame["source"].map(splits)
    rows = mask & frame["split"].isna() & followed.notna()
    frame.loc[rows, "split"] = followed[rows]


def _deal(frame: pd.DataFrame, mask: pd.Series, config: SplitConfig, seed: int, *,
          test: bool = True, carve: bool = True) -> None:
    """Deal the masked rows without a split, in place; then `carve` val rows from train or test where none came out."""
    had = set(frame.loc[mask, "split"].dropna())
    ratios = {"train": config.train, "val": config.val, "test": config.test if test else 0.0}
    if config.val_from_test and test and "val" not in had:  # the thesis's way: val is a part of the test rows
        ratios = {"train": config.train, "val": 0.0, "test": config.val + config.test}
    _assign(frame, mask & frame["split"].isna(), ratios, seed)
    now = set(frame.loc[mask, "split"].dropna())
    if "val" in now or not config.val or not carve:
        return
    if config.val_from_test and "test" in now:
        part = config.val_from_test
        _assign(frame, mask & (frame["split"] == "test"), {"test": 1 - part, "val": part}, seed + 1)
    elif "train" in now and had:
        free = mask & (frame["split"] == "train") & frame["source"].isna()  # the others follow their source
        _assign(frame, free, {"train": config.train, "val": config.val}, seed + 1)


def _assign(frame: pd.DataFrame, mask: pd.Series, ratios: dict[str, float], seed: int) -> None:
    """Set the masked rows' split by `ratios`: stratified by class and origin, equal content together."""
    rows = frame.index[mask]
    if not len(rows) or not sum(ratios.values()):
        return
    origins = "\x1f".join(sorted(frame.loc[rows, "origin"].unique()))
    rng = np.random.default_rng([seed, *origins.encode()])  # what another origin's rows draw is no concern of these
    content = frame.loc[rows, "sha256"].fillna(frame.loc[rows, "path"])
    first = ~content.duplicated()
    strata = (frame.loc[rows, "class"].fillna("").astype(str) + "\x1f" + frame.loc[rows, "origin"])[first]
    names = {name: rng.random() for name in sorted(strata.unique())}  # strata in random order: small ones take turns
    order = np.lexsort((rng.random(len(strata)), strata.map(names).to_numpy()))
    dealt = pd.Series(index=content[first].to_numpy()[order], data=deal_out(len(order), ratios), dtype=object)
    frame.loc[rows, "split"] = content.map(dealt)


def deal_out(count: int, ratios: dict[str, float]) -> list[str]:
    """Return `count` names so that every stretch of the list holds them in about these ratios.

    Each place goes to the name that is furthest behind its due, so ratios are exact over all and close in each part.
    """
    total = sum(ratios.values())
    names = [name for name in SPLITS if ratios.get(name)]
    due = np.array([ratios[name] / total for name in names])
    given = np.zeros(len(names))
    out = []
    for i in range(count):
        k = int(np.argmax(due * (i + 1) - given))
        given[k] += 1
        out.append(names[k])
    return out


def _check(table: ImageTable, target: str) -> None:
    """Raise where there is nothing to train on; warn where there is nothing to test on."""
    rows = table.usable if target == "origin" else table.usable.real
    counts = listed(f"{name} {count}" for name, count in rows.counts("split").items()) or "none"
    remedy = "Scan with a layout that says {split}, or deal them anew with split.keep=false"
    if not len(table.usable.where(split="train")):
        raise TableError(f"no train rows (splits: {counts}). {remedy}")
    if not len(rows.where(split="test")):
        kind = "real " if target == "class" else ""
        log.warning("no %stest rows (splits: %s). %s", kind, counts, remedy)
