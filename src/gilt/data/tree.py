"""Tree: what a folder or a container holds, found without opening an image."""
import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from gilt.data.containers import PARQUETS, TARS, ZIPS, is_container, opened
from gilt.errors import TableError, listed

log = logging.getLogger(__name__)
SUFFIXES = {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif",
            ".heic", ".heif"}  # the last two mostly cannot be read, and are listed with that reason
SHEETS = {".csv", ".tsv", ".jsonl"}


@dataclass
class Tree:
    """Files by kind, their paths relative to `root` with "/"; `bytes` is -1 and `modified` 0 (ns) where not known."""

    root: Path
    images: list[str] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    modified: list[int] = field(default_factory=list)
    sheets: list[str] = field(default_factory=list)  # CSV, TSV, JSON lines
    archives: list[str] = field(default_factory=list)  # zip and tar
    parquets: list[str] = field(default_factory=list)
    passed: Counter[str] = field(default_factory=Counter)

    def add(self, path: str, size: int, modified: int) -> None:
        """Enter a file under its kind."""
        suffix = PurePosixPath(path).suffix.lower()
        if suffix in SUFFIXES:
            self.images.append(path)
            self.bytes.append(size)
            self.modified.append(modified)
        elif suffix in SHEETS:
            self.sheets.append(path)
        elif is_container(path, PARQUETS):
            self.parquets.append(path)
        elif is_container(path):
            self.archives.append(path)
        else:
            self.passed[suffix or PurePosixPath(path).name] += 1

    def sort(self) -> None:
        """Bring the images into the order of their paths."""
        order = sorted(range(len(self.images)), key=self.images.__getitem__)
        self.images, self.bytes, self.modified = ([values[i] for i in order] for values in
                                                  (self.images, self.bytes, self.modified))


def tree_of(root: Path, *, containers: bool | None = None) -> Tree:
    """Return what the folder or container `root` holds.

    Zip and tar files inside a folder count as folders where `containers` is true, or where it is None and the folder has
    no image outside them. Files and folders whose name begins with a dot are no part of a collection.
    Raises TableError where there is nothing at `root`, or a file that is no container.
    """
    tree = Tree(root)
    if root.is_dir():
        for path, size, modified in _files(root):
            tree.add(path, size, modified)
        tree.sort()
        tree.sheets.sort()
        tree.parquets.sort()
        if containers or (containers is None and not tree.images):
            for archive in sorted(tree.archives):
                _look_inside(tree, archive)
            tree.archives = []
    elif not root.exists():
        raise TableError(f"no folder {root}")
    elif is_container(root, PARQUETS):
        tree.parquets = [""]
    elif is_container(root):
        _look_inside(tree, "")
    else:
        raise TableError(f"{root} is a file, not a folder (read like one: {listed((*ZIPS, *TARS, *PARQUETS), most=20)})")
    return tree


def say_passed(tree: Tree, *, read: tuple[str, ...] = ()) -> None:
    """Log what of a tree is not read; `read` names the kinds (sheets, parquets) that a layout did read."""
    for kind, remedy in (("archives", "name one to read it, or scan with --containers"),
                         ("parquets", "--layout huggingface reads their images"),
                         ("sheets", "--layout competition or imagefolder reads them")):
        paths = getattr(tree, kind)
        if paths and kind not in read:
            log.warning("%d %s passed over, such as %s: %s", len(paths),
                        {"archives": "archives", "parquets": "Parquet files", "sheets": "lists"}[kind], paths[0], remedy)
    if tree.passed:
        log.warning("%d other files passed over: %s", sum(tree.passed.values()),
                    listed(f"{suffix} {count}" for suffix, count in tree.passed.most_common()))


def no_image(tree: Tree) -> TableError:
    """Return the error that says what a tree without an image holds instead."""
    others = Counter(tree.passed)
    for path in (*tree.sheets, *tree.archives, *tree.parquets):
        others[PurePosixPath(path or tree.root.name).suffix.lower()] += 1
    held = f"; it holds {sum(others.values())} other files ({listed(others)})" if others else ""
    remedy = " Parquet files are read with --layout huggingface, zip and tar files with --containers." if (
        tree.parquets or tree.archives) else ""
    return TableError(f"no image in {tree.root}{held}.{remedy} Endings read: {listed(sorted(SUFFIXES), most=20)}")


def _look_inside(tree: Tree, archive: str) -> None:
    """Enter the members of a zip or tar file; archives inside archives are passed over."""
    path = tree.root / archive if archive else tree.root
    modified = path.stat().st_mtime_ns
    held = opened(path)
    inside = Tree(path)
    for name, size in held.members():
        if not any(part.startswith((".", "__MACOSX")) for part in name.split("/")):
            inside.add(name, size, modified)
    before = f"{archive}/" if archive else ""
    tree.images += [before + name for name in inside.images]
    tree.bytes += inside.bytes
    tree.modified += inside.modified
    tree.sheets += [before + name for name in inside.sheets]
    tree.passed += inside.passed
    for name in (*inside.archives, *inside.parquets):
        tree.passed[f"{PurePosixPath(name).suffix} inside an archive"] += 1
    if held.note:
        log.warning("%s", held.note)
    if held.passed:
        log.warning("%s: %d members passed over: %s", path.name, sum(held.passed.values()),
                    listed(f"{reason} {count}" for reason, count in held.passed.most_common()))


def _files(root: Path) -> Iterator[tuple[str, int, int]]:
    """Yield (path, bytes, modified) of the files under a folder; links are followed, but each folder is read once."""
    seen: set[str] = set()
    folders = [""]
    strange, pipes = 0, 0
    while folders:
        folder = folders.pop()
        real = str((root / folder).resolve())
        if real in seen:  # a link back up: its images are read already
            continue
        seen.add(real)
        try:
            entries = list(os.scandir(root / folder))
        except OSError as error:
            log.warning("folder %s cannot be read (%s): its images are not in the table", error.filename, error.strerror)
            continue
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith("."):
                continue
            if not _is_text(path):
                strange += 1
            elif _is_folder(entry):
                folders.append(path)
            else:
                size, modified = _size(entry)
                if size is None:
                    pipes += 1
                else:
                    yield path, size, modified
    if pipes:
        log.warning("%d pipes or devices under %s were passed over", pipes, root)
    if strange:
        log.warning("%d names under %s are no UTF-8 text and were passed over: rename them", strange, root)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or into a folder that is closed to us
        return False


def _size(entry: os.DirEntry[str]) -> tuple[int | None, int]:
    """Return (bytes, modified) of a file, (-1, 0) for a link that leads nowhere, (None, 0) for a pipe or device."""
    try:
        facts = entry.stat()
    except OSError:
        return -1, 0
    return (facts.st_size, facts.st_mtime_ns) if entry.is_file() else (None, 0)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def facts_of_files(tree: Tree, paths: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return int64 arrays (bytes, modified) for `paths`; -1 and 0 for a path that is not among the tree's images."""
    place = {path: i for i, path in enumerate(tree.images)}
    rows = np.array([place.get(path, -1) for path in paths], np.int64)
    sizes, modified = np.array([*tree.bytes, -1], np.int64), np.array([*tree.modified, 0], np.int64)
    return sizes[rows], modified[rows]
