"""Scan: any collection of images to an `ImageTable`, in parallel, without ever changing a file."""
import logging
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from gilt.config import REAL
from gilt.data.albums import albums, beside, link_albums
from gilt.data.containers import opened
from gilt.data.gather import Files, gather
from gilt.data.hub import fetched
from gilt.data.layouts import Layout, compile_layouts, origin_of, split_of
from gilt.data.listings import MISSING, Hints
from gilt.data.pixels import Progress
from gilt.data.presets import PRESETS, Preset, by_path, preset_of
from gilt.data.sheets import Names, numbers
from gilt.data.table import COLUMNS, ImageTable
from gilt.data.tree import Tree, facts_of_files, no_image, say_passed, tree_of
from gilt.errors import LayoutError, listed
from gilt.settings import Config, Size, parse

log = logging.getLogger(__name__)
FOLDERS = "{origin}/{class}"  # the layout where none is named
_ROW = r"(?:^|/)\d{7,}$"  # the path of a Parquet file's row: its number is no name


class ScanConfig(Config):
    """How a collection is read.

    `constants`: what nothing in the collection says, as in {"origin": "real"}. `columns`: gilt's name -> the list's, as in
    {"class": "label"}. `source`: "stem" links each generated image to the real one of its class with the same file name
    before the ending; "stem:train" says that all are training images. `containers`: whether zip and tar files in a folder
    count as folders; nothing: where the folder has no image outside them.
    """

    constants: dict[str, str] = {}
    columns: dict[str, str] = {}
    source: Literal["stem", "stem:train", "stem:val", "stem:test"] | None = None
    containers: bool | None = None
    threads: Size | None = None


def scan(folder: Path | str, layout: str | Sequence[str] | None = None, *, known: ImageTable | None = None,
         journal: Path | str | None = None, progress: Progress | None = None, **settings: Any) -> ImageTable:
    """Read the images of a collection into a table; `settings` are ScanConfig's fields by name.

    `folder` is a folder, a zip, tar or Parquet file, or `hf:owner/name` or `kaggle:owner/name` (see `gilt.data.hub`).
    `layout` is the name of a preset (`gilt.data.presets`), or patterns of what the paths say (`gilt.data.layouts`); nothing:
    "{origin}/{class}", or "huggingface" where there are only Parquet files.
    With `known`, a table of the same folder, only files that are new or changed since are read. `journal` is a file that
    keeps what is finished; a scan that finds it goes on from there (remove it once the table is saved).
    An unreadable image is a row whose `excluded` says why. `progress(done, all)` is called as files are read.
    Folders that gilt made images in are read by their manifests (`gilt.data.albums`), not by the layout.

    Raises TableError (no such folder, no image in it, a list that is broken), LayoutError (no path fits: shows one that
    failed; nothing says the origin) and ConfigError (an unknown setting).
    """
    config = parse(ScanConfig, settings, where="scan")
    root = fetched(folder)
    layouts = [layout] if isinstance(layout, str) else list(layout or ())
    preset = preset_of(layouts, lambda name: (root / name).is_dir())
    whole = tree_of(root, containers=config.containers)
    tree, made = albums(whole, config.constants)
    if not layouts and tree.parquets and not tree.images:
        preset = PRESETS["huggingface"]
    there = tree.images or (preset is not None and preset.name == "huggingface" and tree.parquets)
    if not there and made is None:
        raise no_image(whole)
    say_passed(tree, read=preset.kinds if preset else ())
    hints, rows = Hints(config.constants, config.columns), None
    if there:
        compiled = () if preset else compile_layouts(layouts or [FOLDERS], hints.constants)
        rows = _said(preset.read(tree, hints) if preset else _placed(tree, compiled, hints), hints, preset)
    rows = rows if made is None else beside(rows, made, whole)
    table = _with_facts(whole, rows, known, Path(journal) if journal else None, progress, config.threads)
    ours = frozenset() if made is None else frozenset(made["path"])
    table = link_albums(table, ours)
    _say_unreadable(table)
    _note_names(table, only_made=not there)
    if config.source:
        return link_sources(table, config.source.partition(":")[2] or None, but=ours)
    _hint_sources(table, ours)
    return table


def image_files(root: Path) -> list[str]:
    """Return the paths of the images in a folder or container, relative to it. Raises TableError for none."""
    tree = tree_of(root)
    say_passed(tree, read=() if tree.images else ("parquets",))
    images = tree.images or [posixpath.join(path, name) for path in tree.parquets
                             for name, _ in opened(root / path if path else root).members()]
    if not images:
        raise no_image(tree)
    return images


def _placed(tree: Tree, layouts: Sequence[Layout], hints: Hints) -> pd.DataFrame:
    """Return what each path says, by the first layout that fits; paths that fit none are counted in a warning."""
    def say(folders: Sequence[str], name: str) -> dict[str, str] | None:
        return next((said for said in (layout.fits(folders, name) for layout in layouts) if said is not None), None)

    hints.refuse_columns("a pattern reads paths only")
    frame, astray = by_path(tree, say, files=any(layout.file for layout in layouts))
    if frame.empty:
        patterns = listed(repr(layout.pattern) for layout in layouts)
        depth = astray[0].count("/")
        raise LayoutError(f"no path under {tree.root} fits {patterns}: {astray[0]!r} has {depth} folder"
                          f"{'' if depth == 1 else 's'} above the file. Write one part a folder, * for a part that "
                          "says nothing; --layout '{class}' --constant origin=real reads plain class folders.")
    hints.say_astray(astray)
    return frame


def _said(rows: pd.DataFrame, hints: Hints, preset: Preset | None) -> pd.DataFrame:
    """Return the rows with constants filled in, `real` and the splits under their own names. Raises LayoutError."""
    name = f"layout {preset.name!r}" if preset else "the layout"
    for column, value in hints.constants.items():
        if column in rows and rows[column].notna().any():
            if column != "split":
                raise LayoutError(f"{name} and a constant both say {column!r}: keep one")
            rows[column] = rows[column].fillna(value)
        else:
            rows[column] = value
    silent = rows["origin"].isna() if "origin" in rows else pd.Series(True, index=rows.index)
    if silent.any():
        some = "" if silent.all() else f" of {int(silent.sum()):,} rows, such as {rows['path'][silent].iloc[0]}"
        raise LayoutError(f"{name} does not say the origin{some}: add --constant origin=real where all are "
                          "photographs (else origin=NAME, the generator's), or name the column that says it: "
                          "--column origin=COLUMN")
    rows["origin"] = rows["origin"].map({text: origin_of(str(text)) for text in rows["origin"].unique()})
    for column in ("class", "split", "excluded"):
        rows[column] = rows[column].astype(object).where(rows[column].notna(), None) if column in rows else None
    first = rows.dropna(subset=["split"]).drop_duplicates("split").set_index("split")["path"]
    rows["split"] = rows["split"].map({text: split_of(str(text), path) for text, path in first.items()})
    if "source" in rows:
        rows["source"] = _sources(rows)
    for column in rows.columns.difference(["path", "bytes", "modified", *COLUMNS]) if preset else ():
        rows[column] = numbers(list(rows[column].where(rows[column].notna(), None)))
    return rows


def _sources(rows: pd.DataFrame) -> list[str | None]:
    """Return the listed sources as paths of the table; those that name no image, or several, are counted."""
    names = Names(list(rows["path"]))
    found = {text: names.found(text, "") for text in rows["source"].dropna().unique()}
    lost = [text for text, paths in found.items() if len(paths) != 1]
    if lost:
        log.warning("%d sources name no image of the table, or several, and are left out, such as %s", len(lost), lost[0])
    return [found[text][0] if isinstance(text, str) and len(found[text]) == 1 else None for text in rows["source"]]


def _with_facts(tree: Tree, rows: pd.DataFrame, known: ImageTable | None, journal: Path | None, progress: Progress | None,
                threads: int | None) -> ImageTable:
    """Return the table: the rows with what their files say. Listed images that are not there are not looked for."""
    paths = list(rows["path"])
    if "modified" in rows:
        size, modified = (rows.pop(name).to_numpy(np.int64) for name in ("bytes", "modified"))
    else:
        size, modified = facts_of_files(tree, paths)
    there = (rows["excluded"] != MISSING).to_numpy()
    files = Files(tree.root, [path for path, here in zip(paths, there, strict=True) if here], size[there], modified[there])
    facts = gather(files, known=known, journal=journal, progress=progress, threads=threads)
    facts.index = rows.index[there]
    facts["modified"] = pd.array(files.modified, "Int64")
    facts["modified"] = facts["modified"].mask(facts["modified"] == 0)
    unread = facts.pop("excluded")
    excluded = unread.astype(object).where(unread.notna(), None).reindex(rows.index)
    rows["excluded"] = excluded.where(excluded.notna(), rows["excluded"])
    return ImageTable(rows.join(facts), tree.root)


def link_sources(table: ImageTable, split: str | None = None, *, but: frozenset[str] = frozenset()) -> ImageTable:
    """Return the table with `source` set for generated rows whose class and file stem a real row has, where unset.

    `split` says which real rows they were made from. Without it, where the same name stands in several splits, the
    strictest is assumed (test, then val, then train), so that no leak goes unseen. `but` are paths whose names say nothing.
    """
    frame = table.frame.copy()
    stems = _named(frame)
    order = frame["split"].map({"test": 0, "val": 1, "train": 2}).fillna(3)
    real = frame[frame["origin"] == REAL].assign(stem=stems, order=order)
    real = (real if split is None else real[real["split"] == split]).sort_values("order", kind="stable")
    first = real.drop_duplicates("stem")
    generated = (frame["origin"] != REAL) & frame["source"].isna() & ~frame["path"].isin(but)
    found = stems[generated].map(first.set_index("stem")["path"])
    frame.loc[generated, "source"] = found.where(found.notna(), None)
    several = real.groupby("stem")["split"].nunique(dropna=False)
    unsure = int(stems[generated].map(several).gt(1).sum())
    twice = int(stems[generated].map(real[real["split"].isna()]["stem"].value_counts()).gt(1).sum())
    if twice:
        log.warning("%d of them bear a name that several real images have; the first was taken as their source. Give the "
                    "real images names of their own", twice)
    log.info("%d of %d generated images are linked to the real one they are named after", int(found.notna().sum()),
             int(generated.sum()))
    if unsure:
        log.warning("%d of them bear a name that real images of several splits have; the strictest split was assumed. If "
                    "all were made from training images, scan with --source stem:train", unsure)
    return ImageTable(frame, table.root)


def _named(frame: pd.DataFrame) -> pd.Series:
    """Return each row's class and file stem as one text."""
    stems = [posixpath.splitext(posixpath.basename(path))[0] for path in frame["path"]]
    return frame["class"].fillna("").astype(str) + "/" + pd.Series(stems, index=frame.index, dtype=object)


def _say_unreadable(table: ImageTable) -> None:
    """Count the files that could not be read, and show one."""
    reasons = table.frame["excluded"]
    unread = table.frame[reasons.fillna("").str.startswith("unreadable") & (reasons != MISSING)]
    if len(unread):
        log.warning("%d unreadable, kept as rows that are left out: %s (%s)", len(unread), unread["path"].iloc[0],
                    unread["excluded"].iloc[0])


def _note_names(table: ImageTable, *, only_made: bool) -> None:
    """Say so where no origin means real, or class names differ in case only: usual slips that go far unseen."""
    if not len(table.real) and not only_made:
        log.warning("no origin means real here (origins: %s). If these are photographs, write * in place of {origin} and "
                    "add --constant origin=real", listed(table.origins))
    spelt: dict[str, list[str]] = {}
    for name in table.classes:
        spelt.setdefault(name.lower(), []).append(name)
    for names in (names for names in spelt.values() if len(names) > 1):
        log.warning("classes %s differ in case only and count as different ones", listed(names))


def _hint_sources(table: ImageTable, but: frozenset[str]) -> None:
    """Say so where most generated images are named after real ones of their class."""
    if not len(table.real) or not len(table.generated):
        return
    frame = table.frame[table.frame["source"].isna() & ~table.frame["path"].str.contains(_ROW) & ~table.frame["path"].isin(but)]
    stems, real = _named(frame), frame["origin"] == REAL
    generated = stems[~real]
    linked = int(generated.isin(set(stems[real])).sum())
    if linked > len(generated) / 2:
        log.warning("%d of %d generated images bear the name of a real one of their class. If they were made from it, "
                    "scan with --source stem, so that they follow it into its split.", linked, len(generated))
