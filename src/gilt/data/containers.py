"""Containers: zip, tar and Parquet files, read in place as if they were folders.

`photos.zip/real/wren/1.jpg` is a member of photos.zip, `train.parquet/0000017` the image in row 17. Nothing is unpacked:
members come into memory one by one, so a hostile name or link leads nowhere. A few containers are kept open, with what
they hold; each is opened again where its file has changed. Safe to use from several threads.
"""
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from errno import ENAMETOOLONG, ENOENT, ENOTDIR
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from gilt.data.archives import BROKEN, Archive, ParquetFile, Tar, Zip
from gilt.errors import ImageError, TableError

ZIPS = (".zip",)
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
PARQUETS = (".parquet",)
MOST_BYTES = 2**30  # of one plain file
KEPT = 8  # containers open at a time
_open: OrderedDict[str, Archive] = OrderedDict()
_inside: dict[Path, Path] = {}  # folder in a container -> the container, for the last few thousand folders
_lock = threading.Lock()


def is_container(path: Path | str, kinds: tuple[str, ...] = (*ZIPS, *TARS, *PARQUETS)) -> bool:
    """Tell whether a file's name ends as a container's does; what it holds is not looked at."""
    return str(path).lower().endswith(kinds)


def read_image(path: Path) -> bytes:
    """Return a file's bytes, also where the path leads into a zip, tar or Parquet file.

    Raises ImageError, naming the path and the reason, where there is no such file or member, or it cannot be read.
    """
    try:
        try:
            return _whole(path)
        except OSError as error:
            found = _container_of(path) if error.errno in (ENOENT, ENOTDIR, ENAMETOOLONG) else None
            if found is None:
                raise
        return opened(found[0]).read(found[1])
    except TableError as error:  # the container itself
        raise ImageError(f"{path} cannot be read: {error}") from None
    except BROKEN as error:
        raise ImageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _whole(path: Path) -> bytes:
    facts = path.stat()
    if not (S_ISREG(facts.st_mode) or S_ISDIR(facts.st_mode)):  # a pipe would never answer
        raise OSError("a pipe or device, no file")
    if facts.st_size > MOST_BYTES:
        raise OSError(f"larger than {MOST_BYTES // 2**20:,} MB")
    return path.read_bytes()


def members(container: Path | str) -> list[tuple[str, int]]:
    """Return (name, bytes) of every file in a container, in the order it is best read in; -1 where that is not known.

    A Parquet file's members are its rows, named by number. Raises TableError where the container cannot be read.
    """
    return opened(Path(container)).members()


def opened(path: Path) -> Archive:
    """Return a container, opened and listed, from the few that are kept. Raises TableError, OSError for none there."""
    key, now = str(path), path.stat()
    stamp = (now.st_ino, now.st_size, now.st_mtime_ns)
    with _lock:
        held = _open.get(key)
        if held is None or held.stamp != stamp:
            kind = Zip if is_container(path, ZIPS) else ParquetFile if is_container(path, PARQUETS) else Tar
            held = _open[key] = kind(path, stamp)
            weakref.finalize(held, held.handle.close)
        _open.move_to_end(key)
        while len(_open) > KEPT:
            _open.popitem(last=False)
    held.list_once()
    return held


def is_there(path: Path) -> bool:
    """Tell whether a path leads to a file, or to a member of a container."""
    return not absent(path.parent, [path.name])


def absent(root: Path, paths: Sequence[str]) -> list[str]:
    """Return those of `paths` (under `root`, with "/") that lead to no file and no member; one listing a folder."""
    folders: dict[str, tuple[set[str] | Archive, str]] = {}
    gone = []
    for path in paths:
        folder, _, name = path.rpartition("/")
        if folder not in folders:
            folders[folder] = _holds(root / folder)
        held, inner = folders[folder]
        if name not in held if isinstance(held, set) else not held.has(inner + name):
            gone.append(path)
    return gone


def _holds(folder: Path) -> tuple[set[str] | Archive, str]:
    """Return the names of the files in a folder, or the container that it lies in, with the folder's name inside."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}, ""
    except OSError:
        found = _container_of(folder / "x")
    try:
        return (opened(found[0]), found[1][:-1]) if found else (set(), "")
    except (TableError, *BROKEN):
        return set(), ""


def reading_order(paths: Sequence[Path]) -> list[int]:
    """Return the places of `paths` in an order that reads every container from its front to its end, plain files first."""
    keys: list[tuple[str, int, int]] = []
    plain: dict[Path, bool] = {}
    for i, path in enumerate(paths):
        folder = path.parent
        if folder not in plain:
            plain[folder] = folder.is_dir()
        found = None if plain[folder] else _container_of(path)
        try:
            keys.append((str(found[0]), opened(found[0]).place(found[1]), i) if found else ("", 0, i))
        except (TableError, *BROKEN):  # reading it will say why
            keys.append(("", 0, i))
    return [key[2] for key in sorted(keys)]


def reads_forward(path: Path) -> bool:
    """Tell whether a path leads into a compressed tar, which one thread should read, from its front to its end."""
    found = None if path.parent.is_dir() else _container_of(path)
    return found is not None and is_container(found[0], TARS) and not is_container(found[0], (".tar",))


def _container_of(path: Path) -> tuple[Path, str] | None:
    """Return (container, name of the member with "/") for a path that leads into a file, else None."""
    container = _inside.get(path.parent)
    if container is None:
        container = path.parent
        try:
            while not container.is_file():
                if container.is_dir() or container == container.parent:
                    return None
                container = container.parent
        except (OSError, ValueError):  # a name too long for the file system, or none at all
            return None
        if not is_container(container):
            return None
        if len(_inside) > 4096:
            _inside.clear()
        _inside[path.parent] = container
    return container, path.as_posix()[len(container.as_posix()):].lstrip("/")
