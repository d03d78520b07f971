"""Recipes: which images are made anew, what is done to each, and what the new file is called."""
import logging
import math
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
from PIL import Image

from gilt.config import CleanConfig, CropConfig
from gilt.data.findings import Audit
from gilt.data.reencode import Recipe, box
from gilt.data.rewrite import Job
from gilt.data.table import ImageTable
from gilt.errors import ConfigError, TableError, listed, near
from gilt.training import Encoding

log = logging.getLogger(__name__)
MOST_SIDE = 512  # pixels of the side that `equalise` chooses by itself, at most
TINY = 64  # a common side below this throws away most of what a photograph shows


def plan(table: ImageTable, audit: Audit | None, config: CleanConfig) -> list[Job]:
    """Return the images to make anew, each with its recipe and its new name; rows that nothing touches are not in it."""
    rows = table.usable.frame
    grids = _grids(rows["path"], audit, config)
    cropped = _cropped(table, audit, config)
    every = bool(config.equalise or config.mode or config.upright or config.copy_all)
    equal = None
    if config.equalise and len(rows):
        side = config.size or _common_side(rows, grids, cropped, config)
        equal = Encoding(size=side, quality=config.quality, subsampling=config.subsampling, precompress=config.precompress)
    recipes: dict[tuple[bool, tuple[int, int] | None], Recipe] = {}
    named = [path for path in rows["path"] if every or path in grids or path in cropped]
    stems = _stems(table.frame["path"], grids)
    hashes = dict(zip(rows["path"], rows["sha256"], strict=True))
    jobs = []
    for path in named:
        kind = (path in cropped, grids.get(path))
        if kind not in recipes:
            recipes[kind] = Recipe(config.upright, config.crop if kind[0] else None, kind[1], config.mode, equal,
                                   config.copy_all, config.upscale)
        jobs.append(Job(path, hashes[path], recipes[kind], stems[path]))
    return jobs


def _grids(paths: pd.Series, audit: Audit | None, config: CleanConfig) -> dict[str, tuple[int, int]]:
    """Return path -> (rows, columns) of the images to cut."""
    if config.grid is None:
        return {}
    if config.grid == "finding":
        return _found_grids(audit, set(paths)) if audit else {}
    rows, _, columns = config.grid.partition("x")
    named: dict[str, tuple[int, int]] = {}
    for pattern in config.grid_rows:
        fits = [path for path in paths if fnmatchcase(path, pattern)]
        if not fits:
            example = f"; a path is {paths.iloc[0]}" if len(paths) else ""
            raise ConfigError(f"grid_rows: no usable row's path fits {pattern!r}{example}")
        named |= dict.fromkeys(fits, (int(rows), int(columns)))
    return named


def _found_grids(audit: Audit, usable: Container[str]) -> dict[str, tuple[int, int]]:
    try:
        found = {path: (int(rows), int(columns)) for finding in audit.of("grid")
                 for path, (rows, columns) in finding.details.get("grids", {}).items() if path in usable}
    except (AttributeError, TypeError, ValueError):
        raise TableError("the audit's grid finding does not say rows and columns: run gilt audit again") from None
    return {path: (rows, columns) for path, (rows, columns) in found.items() if rows > 0 and columns > 0 and rows * columns > 1}


def _cropped(table: ImageTable, audit: Audit | None, config: CleanConfig) -> set[str]:
    """Return the paths of the images to crop; say so where a crop alone would give the origin away."""
    if config.crop is None:
        return set()
    rows = table.usable.frame
    for name in config.crop_origins:
        if name not in table.origins:
            raise ConfigError(f"crop_origins: no origin {name!r} (has: {listed(table.origins)}).{near(name, table.origins)}")
    if config.crop_origins:
        rows = rows[rows["origin"].isin(config.crop_origins)]
    if config.crop_rows == "finding":
        found = {path for finding in audit.of("watermark") for path in finding.rows} if audit else set()
        rows = rows[rows["path"].isin(found)]
    origins = set(rows["origin"])
    if len(origins) == 1 and len(table.usable.origins) > 1 and not config.equalise:
        log.warning("only images of %s are cropped: their size now tells them from the others. Add equalise=true, which "
                    "brings all to one size", *origins)
    return set(rows["path"])


def _common_side(rows: pd.DataFrame, grids: Mapping[str, tuple[int, int]], cropped: set[str], config: CleanConfig) -> int:
    """Return the shorter side of the smallest image, as cropped and cut, at most MOST_SIDE pixels."""
    unmeasured = rows["width"].isna() | rows["height"].isna()
    if unmeasured.any():
        raise TableError(f"{int(unmeasured.sum()):,} rows have no width and height, such as "
                         f"{rows['path'][unmeasured].iloc[0]}: give size, or make the table with gilt scan")
    sides = np.minimum(rows["width"], rows["height"]).to_numpy(int)
    for i, path in enumerate(rows["path"]) if grids or cropped else ():
        if path in grids or path in cropped:
            sides[i] = _side_left(int(rows["width"].iat[i]), int(rows["height"].iat[i]), grids.get(path),
                                  config.crop if path in cropped else None)
    side = int(min(sides.min(), MOST_SIDE))
    smallest = rows["path"].iat[int(sides.argmin())]
    if side < 1:
        raise TableError(f"nothing is left of {smallest} after cropping: crop less, or give size, which leaves it out")
    log.log(logging.WARNING if side < TINY else logging.INFO, "every image becomes %d x %d pixels%s", side, side,
            f", the shorter side of {smallest}; give size to leave smaller ones out" if side < MOST_SIDE else "")
    return side


def _side_left(width: int, height: int, grid: tuple[int, int] | None, crop: CropConfig | None) -> int:
    """Return the shorter side of what is left of an image, whichever way up it is: EXIF may turn it first."""
    sides = []
    for w, h in ((width, height), (height, width)):
        if crop is not None:
            left, top, right, bottom = box(w, h, crop)
            w, h = right - left, bottom - top
        rows, columns = grid or (1, 1)
        sides += [w // columns, h // rows]
    return max(0, min(sides))


def _stems(paths: Iterable[str], grids: Mapping[str, tuple[int, int]]) -> dict[str, str]:
    """Return path -> the new file's path under images/, less its ending: unlike any other's, and never outside.

    `a.png` and `a.jpg` in one folder become `a_png` and `a_jpg`, for they may take the same ending.
    """
    endings = Image.registered_extensions()
    plain = {path: _plain_stem(path, endings) for path in paths}
    uses = Counter(stem.lower() for stem in plain.values())
    taken: set[str] = {stem for stem, count in uses.items() if count == 1}
    stems: dict[str, str] = {}
    for path, plain_stem in plain.items():
        stem = plain_stem
        if uses[stem.lower()] > 1:
            stem += f"_{PurePosixPath(path).suffix[1:] or 'file'}"
            while stem.lower() in taken:
                stem += "_"
            taken.add(stem.lower())
        if path in grids:
            parts = math.prod(grids[path])
            while any(f"{stem}_{i}".lower() in taken for i in range(1, parts + 1)):
                stem += "_"
            taken |= {f"{stem}_{i}".lower() for i in range(1, parts + 1)}
        stems[path] = stem
    return stems


def _plain_stem(path: str, endings: Container[str]) -> str:
    """Return a path without an image's ending, and without what would lead it outside."""
    if path.startswith("/") or ".." in path:
        path = "/".join(part for part in path.split("/") if part not in ("", ".", ".."))
    stem, dot, ending = path.rpartition(".")
    return stem if f"{dot}{ending.lower()}" in endings and stem and not stem.endswith("/") else path
