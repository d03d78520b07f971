"""Balance: even out classes of very different size, or make them uneven to see what that does. Training rows only.

    over        rows of small classes are drawn several times an epoch       the column `times`
    under       of large classes only some rows are kept
    weights     rows of small classes count for more in the loss             the column `loss_weight`
    smote       new points between a class's frozen features                 the column `smote_to`: the class's new size
    generated   photographs of small classes are joined by generated images: generative oversampling

The degree d in [0, 1] says how far. A class of n rows comes to n^(1-d) N^d rows, N being the largest class (for `under`,
the smallest): the ratio r of the largest class to the smallest becomes r^(1-d). Weights are n^(-d), which gives a class
the same part of the loss as that many rows would, so one degree means the same for every method.

Liu, Ghosh and Martin 2007, "Generative oversampling for mining imbalanced datasets", DMIN; SMOTE: Chawla et al. 2002.
"""
import logging
from collections.abc import Mapping

import pandas as pd

from gilt.config import BalanceConfig, MixConfig
from gilt.data.order import draw_of, ordered
from gilt.data.table import BALANCE, ImageTable
from gilt.errors import ConfigError, TableError, listed, near
from gilt.settings import parse

log = logging.getLogger(__name__)


def balance(table: ImageTable, method: str, *, degree: float = 1.0, target: str = "class", seed: int = 0) -> ImageTable:
    """Return the usable rows with the training rows balanced by `method` over the labels of `target`.

    `over`, `weights` and `smote` keep every row and set a column that training honours; `under` and `generated` keep
    some. Val and test rows stay as they are. The order is seeded: a smaller degree's rows lie inside a larger one's.
    Raises ConfigError for an unknown method, TableError where there is nothing to balance.
    """
    config = parse(BalanceConfig, {"method": method, "degree": degree}, where="balance")
    rows = table.usable
    train = rows.where(split="train")
    if not len(train):
        raise TableError("the table has no train rows to balance: split it first (gilt split)")
    return put_back(rows, balanced(train, config, target=target, seed=seed))


def balanced(train: ImageTable, config: BalanceConfig, *, target: str, seed: int) -> ImageTable:
    """Return training rows balanced: `balance` without the rest of the table, in the seeded order."""
    labels = train.labels(target)
    if labels.isna().any():
        raise TableError(f"{int(labels.isna().sum())} training rows have no {target}, such as "
                         f"{train.frame['path'][labels.isna()].iloc[0]}: classes cannot be balanced")
    if done := balanced_by(train):
        raise TableError(f"the training rows are balanced already (column {done!r}): start from the table before that, "
                         "or leave balance out")
    if config.method == "generated":
        return _filled_up(train, config, target, seed)
    rows = ordered(train, seed)
    labels = rows.labels(target)
    counts = labels.value_counts().to_dict()
    wanted = labels.map(sizes(counts, config))
    place, size = labels.groupby(labels).cumcount(), labels.map(counts)
    if config.method == "under":
        return rows.where(lambda frame: place < wanted)
    if config.method == "weights":
        weight = size.astype(float) ** -config.degree
        return rows.with_column("loss_weight", weight / weight.mean())
    if config.method == "smote":
        return rows.with_column("smote_to", wanted)
    return rows.with_column("times", wanted // size + (place < wanted % size))


def sizes(counts: Mapping[str, int], config: BalanceConfig) -> dict[str, int]:
    """Return label -> rows after balancing, for the rows there are: n^(1-d) N^d, rounded."""
    goal = min(counts.values()) if config.method == "under" else max(counts.values())
    return {label: round(n ** (1 - config.degree) * goal**config.degree) for label, n in counts.items()}


def _filled_up(train: ImageTable, config: BalanceConfig, target: str, seed: int) -> ImageTable:
    """Return all photographs, and as many generated rows of each class as it lacks."""
    if target != "class":
        raise ConfigError("balance 'generated' fills classes up, and the target is the origin: choose another method")
    if not len(train.real):
        raise TableError("balance 'generated' fills up classes of photographs, and there is no real training row")
    generated = ordered(train.generated, seed)
    lack = _lack(train, config)
    if sum(lack.values()) and not len(generated):
        raise TableError(f"balance 'generated' lacks {sum(lack.values()):,} rows and there is no generated training row. "
                         "Generated images follow their source's split; are they left out, or is mix.max_generated 0?")
    classes = generated.frame["class"]
    chosen = generated.where(lambda frame: classes.groupby(classes).cumcount() < classes.map(lack).fillna(0))
    paths = {*train.real.frame["path"], *chosen.frame["path"]}
    result = ordered(train.where(lambda frame: frame["path"].isin(paths)), seed)
    short = shortfall(result, config)
    if short:
        there = chosen.frame["class"].value_counts()
        log.warning("balance 'generated': %s of %s generated rows that are wanted are not there: %s",
                    f"{sum(short.values()):,}", f"{sum(lack.values()):,}",
                    listed((f"{name} has {there.get(name, 0)} of {lack[name]}" for name in short), most=4))
    return result


def _lack(train: ImageTable, config: BalanceConfig) -> dict[str, int]:
    counts = train.real.counts("class")
    return {name: size - counts[name] for name, size in sizes(counts, config).items()}


def shortfall(train: ImageTable, config: BalanceConfig) -> dict[str, int]:
    """Return class -> generated rows that `generated` wanted and did not find, for the training rows it made."""
    there = train.generated.counts("class")
    return {name: n - there.get(name, 0) for name, n in _lack(train, config).items() if n > there.get(name, 0)}


def put_back(table: ImageTable, train: ImageTable) -> ImageTable:
    """Return `table` with `train` in place of its training rows, its order kept; elsewhere nothing is balanced."""
    paths = set(train.frame["path"])
    result = table.where(lambda frame: (frame["split"] != "train") | frame["path"].isin(paths))
    for name, plain in BALANCE.items():
        if name in train.frame:
            values = result.frame["path"].map(train.frame.drop_duplicates("path").set_index("path")[name])
            result = result.with_column(name, values.astype(float).fillna(plain).astype(type(plain)))
    return result


def balanced_by(train: ImageTable) -> str | None:
    """Return the column by which training rows are balanced already, or None."""
    return next((name for name, plain in BALANCE.items() if name in train.frame and (train.frame[name] != plain).any()), None)


def times(train: ImageTable) -> pd.Series:
    """Return how often each row is drawn an epoch: 1 without the column `times`. Raises TableError for other than 1, 2, ..."""
    if "times" not in train.frame:
        return pd.Series(1, index=train.frame.index)
    values = pd.to_numeric(train.frame["times"], errors="coerce")
    bad = ~(values >= 1) | (values % 1 != 0)
    if bad.any():
        path, value = train.frame.loc[bad, ["path", "times"]].iloc[0]
        raise TableError(f"the column 'times' says how often a training row is drawn, 1, 2, 3 ..., and {path} has {value!r}: "
                         "if the column is yours, give it another name")
    return values.astype(int)


def thinned(real: ImageTable, config: MixConfig, seed: int) -> ImageTable:
    """Return the photographs that `imbalance` or `max_real_by_class` leave: the first of each class in the seeded order.

    Raises TableError for a class that no photograph has.
    """
    if config.imbalance is None and config.max_real_by_class is None:
        return real
    counts = real.counts("class")
    most = config.max_real_by_class if config.imbalance is None else long_tail(counts, config.imbalance, seed)
    strange = sorted(set(most) - set(counts))
    if strange:
        raise TableError(f"mix.max_real_by_class: no training photograph of a class {strange[0]!r} (there are: "
                         f"{listed(counts)}).{near(strange[0], counts)}")
    rows = ordered(real, seed)
    classes = rows.frame["class"]
    return rows.where(lambda frame: classes.groupby(classes).cumcount() < classes.map(most).fillna(len(rows)))


def long_tail(counts: Mapping[str, int], ratio: float, seed: int) -> dict[str, int]:
    """Return class -> photographs that fall off exponentially, from the largest class to `ratio` times fewer.

    The classes' order is drawn by the seed alone; the profile is as high as the photographs at hand (`counts`) allow, and
    every class keeps one (the long-tailed sets of Cui et al. 2019, arXiv:1901.05555).
    """
    names = sorted(counts, key=lambda name: draw_of(name, seed))
    parts = {name: ratio ** (-i / max(len(names) - 1, 1)) for i, name in enumerate(names)}
    top = min((counts[name] / part for name, part in parts.items()), default=0)
    return {name: max(1, round(top * part)) for name, part in parts.items()}


def part_in_training(train: ImageTable, target: str) -> dict[str, float]:
    """Return label -> how many rows its rows count as in an epoch: drawn ones, SMOTE's points and weights taken together."""
    frame, labels = train.frame, train.labels(target)
    drawn = times(train).groupby(labels).sum().astype(float)
    if "loss_weight" in frame:
        drawn = frame["loss_weight"].groupby(labels).sum()
    if "smote_to" in frame:
        drawn = pd.concat([drawn, frame["smote_to"].groupby(labels).max()], axis=1).max(axis=1)
    return {name: float(drawn.get(name, 0)) for name in train.names(target)}
