"""Ways to choose the test rows: plain (by ratios), in folds, by holding generators out, by time."""
import logging

import pandas as pd

from gilt.config import REAL
from gilt.data.deal import Dealing, follow
from gilt.data.periods import cut_points, moments, period_of
from gilt.data.ties import units
from gilt.errors import TableError, listed, near
from gilt.training import detects

log = logging.getLogger(__name__)


def plain(dealing: Dealing) -> None:
    """Deal by the ratios; for target `class`, generated rows into train and val only, unless `config.generated_in_test`."""
    if dealing.target == "class" and not dealing.config.generated_in_test:
        had_val = (dealing.frame.loc[dealing.real, "split"] == "val").any()
        _photographs(dealing)
        dealing.follow(dealing.generated)
        dealing.deal(dealing.generated, test=False, carve=not had_val)
        return
    source = dealing.frame["source"]
    free = source.isna() | ~source.isin(dealing.frame["path"])
    for origin in _origins(dealing):  # each by itself: which generators are there changes nothing for the photographs
        mine = dealing.usable & (dealing.frame["origin"] == origin)
        waiting = dealing.open(mine)
        dealing.follow(mine)
        dealing.deal(mine & free & ~(waiting & ~dealing.open(mine)))
    dealing.follow(dealing.usable & ~free)
    dealing.deal(dealing.usable & ~free, carve=False)  # where even the source has no split


def in_folds(dealing: Dealing, fold: int) -> None:
    """Make fold `fold` of `config.folds` the test, and deal the others into train and val.

    The folds depend on the seed alone, so all of them together test every real row once (for a detector, and with
    `config.generated_in_test`, every row).
    """
    _afresh(dealing, "folds")
    names = [str(i) for i in range(dealing.config.folds or 2)]
    folds = pd.Series(None, index=dealing.frame.index, dtype=object)
    taught = dealing.target == "class" and not dealing.config.generated_in_test  # generated rows are for training only
    origins = [REAL] if taught else _origins(dealing)
    for origin in origins:
        mine = dealing.usable & (dealing.frame["origin"] == origin)
        folds = follow(dealing.frame, mine, folds, dealing.numbers, names)
        waiting = mine & folds.isna()
        if waiting.any():
            folds[waiting] = dealing.parts(waiting, dict.fromkeys(names, 1 / len(names)), dealing.seed)
    dealing.frame.loc[folds == names[fold], "split"] = "test"
    for origin in origins:
        mine = folds.notna() & (dealing.frame["origin"] == origin)
        _train_and_val(dealing, mine)
    dealing.follow(dealing.generated)
    dealing.deal(dealing.generated, test=False, carve=False)


def holding_out(dealing: Dealing) -> None:
    """Make the rows of `config.hold_out` test rows, and keep the other generators out of the test.

    Photographs are dealt as usual. Generated images that are tied to rows of both kinds (the same source, the same group)
    are dealt like photographs, and those that come out on the wrong side are left out.
    """
    frame, config = dealing.frame, dealing.config
    held = dealing.generated & frame["origin"].isin(config.hold_out)
    _known_generators(dealing)
    frame.loc[held, "split"] = None
    _photographs(dealing)
    dealing.follow(dealing.generated)
    waiting = dealing.open(dealing.generated)
    if waiting.any():
        unit = pd.Series(units(dealing.numbers[waiting.to_numpy()]), index=frame.index[waiting])
        part = held[waiting].groupby(unit).transform("mean").reindex(frame.index)  # of a unit that is held out
        dealing.assign(waiting & (part > 0) & (part < 1), {"train": config.train, "val": config.val, "test": config.test},
                       dealing.seed)
        frame.loc[waiting & (part == 1), "split"] = "test"
    dealing.deal(dealing.generated & ~held, test=config.seen_in_test)
    for name in ("train", "val"):
        wrong = held & (frame["split"] == name)
        frame.loc[wrong, "excluded"] = f"of a held-out generator, but tied to a {name} image"
    if not config.seen_in_test:
        wrong = dealing.generated & ~held & (frame["split"] == "test")
        frame.loc[wrong, "excluded"] = "of a generator that is not held out, but a test row"


def by_time(dealing: Dealing) -> None:
    """Deal by the column `config.by`, or by the generators' `config.years`: oldest rows train, newest rows test.

    Photographs or generated rows of which none has a value are dealt as usual; a single row without one is left out.
    """
    _afresh(dealing, "by" if dealing.config.by else "years")
    frame, config = dealing.frame, dealing.config
    values, kind = moments(frame, config)
    said = config.by or "year"
    dated = {name: bool(values[getattr(dealing, name)].notna().any()) for name in ("real", "generated")}
    cuts = cut_points(values[dealing.real if dated["real"] else dealing.generated], kind, config)
    for name in ("real", "generated"):
        mask = getattr(dealing, name)
        if dated[name]:
            frame.loc[mask & values.isna(), "excluded"] = f"no {said}"
            rows = mask & values.notna()
            frame.loc[rows, "split"] = period_of(values[rows], cuts, config)
        elif mask.any():
            log.info("no %s row has a %s: they are dealt as usual", name, said)
            dealing.follow(mask)
            dealing.deal(mask, test=name == "real" or detects(dealing.target))
        rows = getattr(dealing, name)
        if config.val and dated[name] and not (frame.loc[rows, "split"] == "val").any():
            dealing.carve(rows)
    if dealing.target == "class":  # the test is on photographs: what was made in its time may not teach
        late = dealing.generated & (frame["split"] == "test") & values.notna()
        frame.loc[late, "excluded"] = "made in the test's time"


def _photographs(dealing: Dealing) -> None:
    dealing.follow(dealing.real)
    dealing.deal(dealing.real)


def _train_and_val(dealing: Dealing, mask: pd.Series) -> None:
    """Deal the masked rows without a split into train and val; generated ones follow the train or val row they are tied to."""
    config, splits = dealing.config, dealing.frame["split"]
    mine = dealing.open(mask) & dealing.generated
    taught = follow(dealing.frame, mine, splits.where(splits != "test"), dealing.numbers, ["val", "train"])
    dealing.frame["split"] = splits.where(~mine, taught)
    dealing.assign(dealing.open(mask), {"train": config.train, "val": config.val}, dealing.seed + 1)


def _origins(dealing: Dealing) -> list[str]:
    return sorted(dealing.frame["origin"].unique(), key=lambda name: (name != REAL, name))


def _afresh(dealing: Dealing, setting: str) -> None:
    """Raise where rows have splits already, which `setting` could not keep."""
    counts = dealing.frame.loc[dealing.usable, "split"].value_counts()
    if len(counts):
        said = listed(f"{name} {count}" for name, count in counts.items())
        raise TableError(f"the table has splits already ({said}), and split.{setting} deals every row: give them up with "
                         "split.keep=false")


def _known_generators(dealing: Dealing) -> None:
    known = sorted(dealing.frame.loc[dealing.generated, "origin"].unique())
    for name in dealing.config.hold_out:
        if name not in known:
            raise TableError(f"split.hold_out: no generator {name!r} in the table (has: {listed(known) or 'none'})."
                             f"{near(name, known)}")
    if set(known) <= set(dealing.config.hold_out):
        raise TableError(f"split.hold_out leaves no generator to train on (has: {listed(known)}): hold fewer out")
