"""Split: deal rows into train, val and test, so that nothing a model was shown comes back in its exam.

Content that stands twice never straddles splits, a generated image follows the photograph it was made from, and so does any
group that is asked for: near-duplicates, a patient, a camera. `ties.py` says what belongs together, `deal.py` deals it,
`ways.py` chooses the test rows.
"""
import logging
from collections.abc import Iterator
from typing import Any

from gilt.config import REAL, SplitConfig
from gilt.data.deal import Dealing, deal_out
from gilt.data.table import SPLITS, ImageTable
from gilt.data.ties import keep_apart, links, refuse_overlaps, with_groups
from gilt.data.ways import by_time, holding_out, in_folds, plain
from gilt.errors import ConfigError, TableError, listed
from gilt.settings import parse
from gilt.training import detects

__all__ = ["deal_out", "folds", "keep_apart", "leave_one_generator_out", "split"]
log = logging.getLogger(__name__)


def split(table: ImageTable, config: SplitConfig | None = None, *, target: str = "class", seed: int = 0,
          **settings: Any) -> ImageTable:
    """Return the table with a split for every usable row; existing splits are kept unless `config.keep` is false.

    Rows are dealt by class and origin (stratified), seeded by `config.seed` or `seed`; `settings` are SplitConfig's
    fields by name: `split(table, train=0.8, val=0.1, test=0.1, groups="near")`. For target `class`, generated rows are
    dealt to train and val only: the test is on photographs. Rows that would leak are marked as left out, with the reason.
    Raises TableError where no training row comes out, where splits overlap that may not (`overlap="refuse"`), and for
    columns and generators that are not there; warns where no test row comes out.
    """
    config = config or SplitConfig(**settings)
    if config.hold_out and not detects(target):
        raise ConfigError("split.hold_out is for target 'origin' or 'generator': for target 'class' the test is on photographs "
                          "only. Name the generators to train on with generators = [...]")
    table, columns = with_groups(table, config.groups)
    if not config.keep:
        table = table.with_column("split", None)
    elif config.overlap == "refuse":
        refuse_overlaps(table, columns)
    frame = table.frame.copy()
    repeat, fold = divmod(seed, config.folds) if config.folds and config.fold is None else (seed, config.fold)
    dealing = Dealing(frame, links(frame, columns), config, target, repeat if config.seed is None else config.seed)
    if config.folds:
        in_folds(dealing, fold or 0)
    elif config.hold_out:
        holding_out(dealing)
    elif config.by or config.years:
        by_time(dealing)
    else:
        plain(dealing)
    result = keep_apart(ImageTable(frame, table.root), columns)
    _check(result, target)
    return result


def folds(table: ImageTable, config: SplitConfig | None = None, *, target: str = "class", seed: int = 0,
          **settings: Any) -> Iterator[ImageTable]:
    """Yield one dealt table a fold (`folds`, 5 if nothing is said): its test is the fold, train and val come from the rest.

    Together the folds test every real row once; for a detector, every row. `settings` are SplitConfig's fields by
    name. Raises as `split`, and where a table has splits already that are to be kept.
    """
    config = config or SplitConfig(**settings)
    count = config.folds or 5
    table, columns = with_groups(table, config.groups)  # near-duplicates are looked for once
    for fold in range(count):
        yield split(table, _changed(config, folds=count, fold=fold, groups=columns), target=target, seed=seed)


def leave_one_generator_out(table: ImageTable, config: SplitConfig | None = None, *, seed: int = 0,
                            **settings: Any) -> Iterator[tuple[str, ImageTable]]:
    """Yield (generator, table) for every generator: its rows are test rows only, the others' train and val rows only.

    For a detector; photographs are dealt alike in all tables. `settings` are SplitConfig's fields by name. Raises as
    `split`, and where the table has one generator only.
    """
    config = config or SplitConfig(**settings)
    table, columns = with_groups(table, config.groups)
    generators = table.usable.generated.origins
    if not generators:
        raise TableError(f"no generated image in the table of {table.root}: there is no generator to hold out")
    for name in generators:
        yield name, split(table, _changed(config, hold_out=(name,), groups=columns), target="origin", seed=seed)


def _changed(config: SplitConfig, **changes: Any) -> SplitConfig:
    return parse(SplitConfig, {**config.model_dump(), **changes}, where="split")


def _check(table: ImageTable, target: str) -> None:
    """Raise where there is nothing to train on; warn where there is nothing to test on."""
    frame = table.frame[table.frame["excluded"].isna()]
    rows = frame if detects(target) else frame[frame["origin"] == REAL]
    found = rows["split"].value_counts()
    counts = listed(f"{name} {found[name]}" for name in SPLITS if name in found) or "none"
    remedy = "Scan with a layout that says {split}, or deal them anew with split.keep=false"
    if not (frame["split"] == "train").any():
        raise TableError(f"no train rows (splits: {counts}). {remedy}")
    if "test" not in found:
        kind = "real " if target == "class" else ""
        log.warning("no %stest rows (splits: %s). %s", kind, counts, remedy)
