"""From a table to its `Similarity`: features, draws, copies, leaks. Looks at the pixels of test photographs, and says so."""
import dataclasses
import logging
from collections.abc import Callable
from itertools import count

import numpy as np

from gilt.config import REAL, SimilarityConfig
from gilt.data.pixels import PixelCache
from gilt.data.statistics import simple_statistics
from gilt.data.table import ImageTable
from gilt.data.ties import links, units
from gilt.engine.copies import copying, leak
from gilt.engine.embed import embed
from gilt.errors import TableError, counted, listed
from gilt.evaluation.similarity import Comparison, Similarity, Whole
from gilt.evaluation.similarity_draws import FEWEST, Side, compare, drawn, pools
from gilt.evaluation.similarity_measures import frechet, kid_subsets
from gilt.evaluation.similarity_words import READ

log = logging.getLogger(__name__)
KID_SIZE = 1_000  # rows of a subset, as papers take them; half of the rarer side where that has fewer
Progress = Callable[[int, int], None]


def similarity(table: ImageTable, config: SimilarityConfig | None = None, *, cache: PixelCache | None = None,
               progress: Progress | None = None) -> Similarity:
    """Compare a table's generated images with its photographs, generator by generator and class by class.

    Photographs are those of train and val, or all where there are no splits; test photographs are looked at as held-out ones
    of the copying test, and for leaks. Rows that are left out are not compared. `progress` is called with (draws done, all).
    Raises TableError where there are no photographs, no generated images, or too few of them, ImageError for one that cannot
    be read, ConfigError or ModelError for features that cannot be had.
    """
    config = config or SimilarityConfig()
    rows = checked(table, config)
    features = embed(rows, config.features, cache=cache)
    tied = units(links(rows.frame, ("group",)))
    statistics = simple_statistics(rows, seed=config.seed)
    everything = Side(features.values_ND, rows.frame["class"].fillna("").to_numpy(object), tied,
                      {name: values.to_numpy() for name, values in statistics.items()})
    real = everything.of(np.flatnonzero((rows.frame["origin"] == REAL) & (rows.frame["split"] != "test")))
    origins, notes, steps = rows.generated.origins, _notes(table, rows), count(1)
    found = []
    for origin in origins:
        generated = everything.of(np.flatnonzero(rows.frame["origin"] == origin))
        log.info("comparing %s of %s with %s", counted(len(generated.units_N), "image"), origin,
                 counted(len(real.units_N), "photograph"))
        found.append((*_compared(origin, real, generated, config, notes,
                                 lambda: progress and progress(next(steps), config.draws * len(origins))),
                      _whole(origin, real, generated, config)))
    return Similarity(
        table.fingerprint, features.said, features.weak, config.model_dump(mode="json"), tuple(one for one, _, _ in found),
        tuple(own for _, classes, _ in found for own in classes), tuple(whole for _, _, whole in found),
        tuple(copying(rows, features.values_ND, tied, origin, config) for origin in origins),
        leak(rows, features.values_ND, tied), tuple(notes))


def checked(table: ImageTable, config: SimilarityConfig) -> ImageTable:
    """Return the rows that are compared. Raises TableError where a side has none, or files are gone."""
    rows = table.usable.pick(config.classes, config.generators)
    for kind, some in (("photographs", rows.real), ("generated images", rows.generated)):
        if not len(some):
            raise TableError(f"the table of {table.root} has no {kind} to compare (origins: {listed(rows.origins) or 'none'}): "
                             "similarity compares generated images with photographs")
    if (rows.real.frame["split"] == "test").all():
        raise TableError(f"all photographs of the table of {table.root} are test rows: similarity compares generated images "
                         "with those of train and val")
    rows.check_files()
    return rows


def _compared(origin: str, real: Side, generated: Side, config: SimilarityConfig, notes: list[str],
              step: Callable[[], object]) -> tuple[Comparison, list[Comparison]]:
    """Return the comparison of one generator, and those of its classes, the farthest from its floor first."""
    n = [len(side.units_N) for side in (real, generated)]
    matched = bool(config.match_classes and set(real.classes_N) & set(generated.classes_N) - {""})
    if not matched:
        real, generated = (dataclasses.replace(side, classes_N=np.full(len(side.units_N), "")) for side in (real, generated))
    wanted = pools(real, generated, most=config.rows)
    draws = drawn(real, generated, wanted, draws=config.draws, seed=config.seed)
    found = compare(real, generated, draws, done=step)
    if found is None:
        raise TableError(f"too few images to compare {origin} with the photographs: a draw takes half of the rarer side"
                         f"{', class by class' if matched else ''}, {sum(wanted.values()) // 2} here, and {FEWEST} are needed"
                         + ("; match_classes=false compares regardless of class" if matched else ""))
    own = []
    for name, size in wanted.items() if matched and len(wanted) > 1 else ():
        draws = drawn(real, generated, {name: size}, draws=config.draws, seed=config.seed)
        if measured := compare(real, generated, draws, whole=False):
            here = [int((side.classes_N == name).sum()) for side in (real, generated)]
            own.append(Comparison(origin, str(name), size // 2, *here, measured))
    own.sort(key=lambda one: one.measures["kid"].floor - one.measures["kid"].value)
    notes += _unmatched(origin, generated, wanted, own) if matched else [
        f"{origin} is compared regardless of class: a different mix of classes counts as a difference."]
    return Comparison(origin, None, sum(wanted.values()) // 2, *n, found), own


def _whole(origin: str, real: Side, generated: Side, config: SimilarityConfig) -> Whole:
    both = real.features_ND, generated.features_ND
    size = min(KID_SIZE, max(2, min(map(len, both)) // 2))
    return Whole(origin, *map(len, both), frechet(*both), *kid_subsets(*both, size=size, seed=config.seed), size)


def _unmatched(origin: str, generated: Side, wanted: dict[str, int], own: list[Comparison]) -> list[str]:
    """Return notes on images whose class is in no draw, and on classes that are too small for numbers of their own."""
    notes = []
    lost = sorted(set(generated.classes_N) - set(wanted))
    if lost:
        images = int(np.isin(generated.classes_N, lost).sum())
        notes.append(f"{counted(images, 'image')} of {origin} in no draw: there are no photographs of "
                     f"{listed(name or '(no class)' for name in lost)} to compare with.")
    few = len(wanted) - len(own)
    if few and len(wanted) > 1:
        notes.append(f"{few} of {len(wanted)} classes of {origin} have no numbers of their own: half of the rarer side is "
                     f"fewer than {FEWEST} images.")
    return notes


def _notes(table: ImageTable, rows: ImageTable) -> list[str]:
    notes = []
    if len(table.usable) < len(table):
        notes.append(f"{counted(len(table) - len(table.usable), 'row')} of the table left out: something speaks against them.")
    if len(rows.real.where(split="test")):
        notes.append(READ)
    if rows.real.frame["split"].isna().all():
        notes.append("The photographs have no splits: leaks to test photographs, and copying (C_T), cannot be looked for. Deal "
                     "them first: gilt split.")
    return notes
