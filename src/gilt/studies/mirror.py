"""Where a store's files lie: in a `Folder`, or at an address with a `Mirror` of it on this machine.

Both have `names` (what is there), `fetch` (bring files here), `publish` (send them there), `remove` and `lock`. For a folder,
here is there.
"""
import contextlib
import os
import posixpath
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from gilt.errors import StoreError
from gilt.files import fingerprint, write_bytes, write_text
from gilt.studies.leases import Lease
from gilt.studies.remote import Remote, is_address, is_local

FRESH = 1.0  # seconds that a listing is trusted


class Folder:
    """A store's place in a folder that this machine sees, shared with others or not."""

    remote = False

    def __init__(self, folder: Path) -> None:
        self.folder, self.address = folder, str(folder)

    def names(self, folder: str = "") -> set[str]:
        """Return the names of the files and folders in a folder of it."""
        there = self.folder / folder
        return {item.name for item in there.iterdir()} if there.is_dir() else set()

    def has(self, name: str) -> bool:
        """Tell whether a file is there."""
        return (self.folder / name).is_file()

    def fetch(self, *names: str) -> None:
        """Bring files here, where they are already."""

    def publish(self, *names: str) -> None:
        """Send files there, where they are already."""

    def unsent(self, name: str) -> bool:
        """Tell whether a file is here and was not published as it is."""
        return False

    def forget(self) -> None:
        """Trust no listing."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        (self.folder / name).unlink(missing_ok=True)

    def lock(self, name: str) -> FileLock:
        """Return the lock in a file."""
        return FileLock(self.folder / name)


class Mirror:
    """A store's place at an address. `folder` holds what was fetched or is still to be published.

    Beside a file NAME lies `.NAME.there`: its time here and its stamp at the address when the two were alike.
    """

    remote = True

    def __init__(self, address: str) -> None:
        self.there = Remote(address)
        self.address = self.there.address
        self.folder = _home() / fingerprint(self.address)
        self._seen: dict[str, tuple[float, dict[str, str]]] = {}

    def names(self, folder: str = "") -> set[str]:
        """Return the names of the files and folders in a folder of it, at the address."""
        return set(self._stamps(folder))

    def has(self, name: str) -> bool:
        """Tell whether a file is at the address."""
        folder, last = posixpath.split(name)
        return last in self._stamps(folder)

    def fetch(self, *names: str) -> None:
        """Bring files here that are not yet, or are other ones there; what is gone there and was published goes here too."""
        wanted = []
        for name in names:
            stamp = self._stamp(name)
            if stamp is not None and self._known(name) != stamp:
                wanted.append(name)
            elif stamp is None and not self.unsent(name):
                (self.folder / name).unlink(missing_ok=True)
        got = self.there.get(wanted)
        for name, data in got.items():
            write_bytes(self.folder / name, data)
            self._note(name)
        if set(wanted) - set(got):
            self.forget()
            if left := [name for name in set(wanted) - set(got) if self.has(name)]:
                raise StoreError(f"cannot read {self.address}/{left[0]}, which is there: run the same command again")

    def publish(self, *names: str) -> None:
        """Send files, and all files of folders, to the address, in the order given."""
        files = [path.relative_to(self.folder).as_posix() for name in names for path in _files(self.folder / name)]
        for name in files:
            self.there.put(name, (self.folder / name).read_bytes())
        self.forget()
        for name in files:
            self._note(name)

    def unsent(self, name: str) -> bool:
        """Tell whether a file is here and was not published as it is."""
        return (self.folder / name).is_file() and self._known(name) is None

    def forget(self) -> None:
        """Trust no listing."""
        self._seen.clear()

    def remove(self, name: str) -> None:
        """Remove a file here and there, if it is there."""
        for path in (self.folder / name, self._mark(name)):
            path.unlink(missing_ok=True)
        self.there.remove(name)
        self.forget()

    def lock(self, name: str) -> Lease:
        """Return the lease in a file."""
        self.forget()
        return Lease(self.there, name)

    def _stamps(self, folder: str) -> dict[str, str]:
        when, found = self._seen.get(folder, (-FRESH, {}))
        if time.monotonic() - when >= FRESH:
            found = {name: stamp for name, stamp in self.there.stamps(folder).items()
                     if not (name.startswith(".") and name.endswith(".tmp"))}
            self._seen[folder] = time.monotonic(), found
        return found

    def _stamp(self, name: str) -> str | None:
        folder, last = posixpath.split(name)
        return self._stamps(folder).get(last)

    def _mark(self, name: str) -> Path:
        path = self.folder / name
        return path.with_name(f".{path.name}.there")

    def _known(self, name: str) -> str | None:
        """Return the stamp of a file's content here, or None where it was changed since, or is not here."""
        with contextlib.suppress(FileNotFoundError):
            when, _, stamp = self._mark(name).read_text().partition(" ")
            return stamp if when == str((self.folder / name).stat().st_mtime_ns) else None
        return None

    def _note(self, name: str) -> None:
        when = (self.folder / name).stat().st_mtime_ns
        write_text(self._mark(name), f"{when} {self._stamp(name) or ''}")


Place = Folder | Mirror


def place(address: Any) -> Place:
    """Return the place that an address, or a path, names. Raises StoreError where it cannot be one."""
    if is_address(address):
        return Mirror(address)
    if isinstance(address, str) and is_local(address):
        address = "/" + address.partition("://")[2].lstrip("/")
    if lost := re.match(r"([A-Za-z][\w+.-]+):/(.*)", str(address)):
        raise StoreError(f"{address} is an address that lost a slash, as a Path does to it: give it as text, "
                         f"{lost[1]}://{lost[2]}")
    return Folder(Path(address))


def _home() -> Path:
    """Return where mirrors lie: below $GILT_CACHE, or in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("GILT_CACHE") or Path(home) / "gilt") / "stores"


def _files(path: Path) -> Sequence[Path]:
    if not path.is_dir():
        return [path]
    return sorted(item for item in path.rglob("*") if item.is_file() and not item.name.startswith("."))
