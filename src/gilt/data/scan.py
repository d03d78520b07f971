"""Scan: a folder of images to an `ImageTable`, in parallel, without ever changing a file."""
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

from gilt.config import REAL
from gilt.data.layouts import Layout, compile_layouts, origin_of, split_of
from gilt.data.pixels import UNREADABLE, Progress, open_image, why
from gilt.data.table import ImageTable
from gilt.errors import LayoutError, TableError, listed, near
from gilt.files import sha256

log = logging.getLogger(__name__)
SUFFIXES = {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif"}
SOURCES = (None, "stem", "stem:train", "stem:val", "stem:test")


def scan(folder: Path | str, layout: str | Sequence[str] = "{origin}/{class}", *,
         constants: Mapping[str, str] | None = None, source: str | None = None,
         progress: Progress | None = None, threads: int | None = None) -> ImageTable:
    """Read the images under `folder` into a table; `layout` says what their paths mean (see `gilt.data.layouts`).

    `constants` says what no path says, as in {"origin": "real"}. `source="stem"` links each generated image to the
    real one of its class with the same file name before the ending; "stem:train" says that all are training images.
    An unreadable image is a row whose `excluded` says why. `progress(done, all)` is called as files are read.

    Raises TableError (no such folder, no image in it) and LayoutError (no path fits: shows one that failed).
    """
    root = Path(folder)
    if not root.is_dir():
        raise TableError(f"no folder {root}" if not root.exists() else f"{root} is a file, not a folder")
    if source not in SOURCES:
        raise LayoutError(f"source {source!r} is unknown (known: {listed(SOURCES[1:])}).{near(source or '', SOURCES[1:])}")
    constants = dict(constants or {})
    layouts = compile_layouts([layout] if isinstance(layout, str) else list(layout), constants)
    paths, passed = image_files(root)
    if passed:
        log.warning("%d other files passed over: %s", sum(passed.values()),
                    listed(f"{suffix} {count}" for suffix, count in passed.most_common()))
    said = _placed(root, paths, layouts, constants)
    rows = _facts(root, said, progress, threads)
    table = ImageTable(pd.DataFrame(rows), root)
    unreadable = int(table.frame["excluded"].notna().sum())
    if unreadable:
        first = table.frame[table.frame["excluded"].notna()].iloc[0]
        log.warning("%d unreadable, kept as rows that are left out: %s (%s)", unreadable, first["path"], first["excluded"])
    _note_names(table)
    if source:
        return link_sources(table, source.partition(":")[2] or None)
    _hint_sources(table)
    return table


def image_files(root: Path) -> tuple[list[str], Counter[str]]:
    """Return the paths of the image files under `root`, relative and sorted, and what was passed over, by ending.

    Files and folders whose name begins with a dot are no part of a collection. Raises TableError for no image.
    """
    found: list[str] = []
    passed: Counter[str] = Counter()
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=_say_unread):
        if os.path.realpath(folder) in seen:  # a link back up: its images are read already
            folders[:] = []
            continue
        seen.add(os.path.realpath(folder))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            suffix = Path(name).suffix.lower()
            if name.startswith("."):
                continue
            if suffix in SUFFIXES:
                found.append(Path(folder, name).relative_to(root).as_posix())
            else:
                passed[suffix or name] += 1
    if not found:
        others = f"; it holds {sum(passed.values())} other files ({listed(passed)})" if passed else ""
        raise TableError(f"no image in {root}{others}. Endings read: {listed(sorted(SUFFIXES), most=20)}")
    return sorted(found), passed


def _say_unread(error: OSError) -> None:
    log.warning("folder %s cannot be read (%s): its images are not in the table", error.filename, error.strerror)


def _placed(root: Path, paths: Sequence[str], layouts: Sequence[Layout],
            constants: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return what each path says, by the first layout that fits; paths that fit none are counted in a warning."""
    rows, astray = [], []
    for path in paths:
        folders = path.split("/")[:-1]
        said = next((said for said in (layout.fits(folders) for layout in layouts) if said is not None), None)
        if said is None:
            astray.append(path)
            continue
        row: dict[str, Any] = {"class": None, "split": None, **constants, **said}
        row["origin"] = origin_of(row["origin"])
        row["split"] = split_of(row["split"], path) if row["split"] else None
        rows.append({"path": path, **row})
    if not rows:
        patterns = listed(repr(layout.pattern) for layout in layouts)
        depth = astray[0].count("/")
        raise LayoutError(f"no path under {root} fits {patterns}: {astray[0]!r} has {depth} folder"
                          f"{'' if depth == 1 else 's'} above the file. Write one part a folder, * for a part that "
                          "says nothing; --layout '{class}' --constant origin=real reads plain class folders.")
    if astray:
        log.warning("%d images fit no layout and are not in the table, such as %s", len(astray), astray[0])
    return rows


def _facts(root: Path, rows: Sequence[dict[str, Any]], progress: Progress | None,
           threads: int | None) -> list[dict[str, Any]]:
    """Return the rows with what their files say, read by several threads (Pillow and hashing release the GIL)."""
    done: list[dict[str, Any]] = []
    pieces = [rows[first:first + 64] for first in range(0, len(rows), 64)]

    def read(piece: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**row, **read_facts(root / row["path"])} for row in piece]

    with ThreadPoolExecutor(threads or min(16, os.cpu_count() or 1)) as pool:
        try:
            for piece in pool.map(read, pieces):
                done += piece
                if progress:
                    progress(len(done), len(rows))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return done


def read_facts(path: Path) -> dict[str, Any]:
    """Return width, height, format, bytes, sha256 and excluded (None, or why the image cannot be read) of one file.

    Every file is decoded to its end, at the smallest scale its format allows, so a truncated one is found.
    """
    facts: dict[str, Any] = dict.fromkeys(("width", "height", "format", "bytes", "sha256", "excluded"))
    try:
        data = path.read_bytes()
        facts |= {"bytes": len(data), "sha256": sha256(data)}
        with open_image(data) as image:
            facts |= {"format": image.format, "width": image.width, "height": image.height}
            image.draft("RGB", (1, 1))  # a JPEG: 1/8 of the size, the same bytes read
            image.load()
    except UNREADABLE as error:
        facts["excluded"] = f"unreadable: {why(error)}"
    return facts


def link_sources(table: ImageTable, split: str | None = None) -> ImageTable:
    """Return the table with `source` set for generated rows whose class and file stem a real row has, where unset.

    `split` says which real rows they were made from. Without it, where the same name stands in several splits, the
    strictest is assumed (test, then val, then train), so that no leak goes unseen.
    """
    frame = table.frame.copy()
    stems = frame["class"].fillna("").astype(str) + "/" + frame["path"].map(lambda path: Path(path).stem)
    order = frame["split"].map({"test": 0, "val": 1, "train": 2}).fillna(3)
    real = frame[frame["origin"] == REAL].assign(stem=stems, order=order)
    real = (real if split is None else real[real["split"] == split]).sort_values("order", kind="stable")
    first = real.drop_duplicates("stem")
    generated = (frame["origin"] != REAL) & frame["source"].isna()
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


def _note_names(table: ImageTable) -> None:
    """Say so where no origin means real, or class names differ in case only: usual slips that go far unseen."""
    if not len(table.real):
        log.warning("no origin means real here (origins: %s). If these are photographs, write * in place of {origin} and "
                    "add --constant origin=real", listed(table.origins))
    spelt: dict[str, list[str]] = {}
    for name in table.classes:
        spelt.setdefault(name.lower(), []).append(name)
    for names in (names for names in spelt.values() if len(names) > 1):
        log.warning("classes %s differ in case only and count as different ones", listed(names))


def _hint_sources(table: ImageTable) -> None:
    """Say so where most generated images are named after real ones of their class."""
    def names(rows: ImageTable) -> list[tuple[str, str]]:
        return [(str(kind), Path(path).stem) for kind, path in zip(rows.frame["class"], rows.frame["path"], strict=True)]

    real, generated = set(names(table.real)), names(table.generated)
    linked = sum(name in real for name in generated)
    if linked > len(generated) / 2:
        log.warning("%d of %d generated images bear the name of a real one of their class. If they were made from it, "
                    "scan with --source stem, so that they follow it into its split.", linked, len(generated))
