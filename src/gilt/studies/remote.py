"""`Remote`: a folder at an address (`s3://`, `gs://`, `ftp://` ...) through fsspec: list, get, put, remove, create.

A file is put whole or not at all. A network that fails is tried again; what stays wrong is one StoreError.
"""
import contextlib
import logging
import posixpath
import re
import secrets
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from gilt.errors import StoreError, listed, near

log = logging.getLogger(__name__)
T = TypeVar("T")
PAUSES = (0.5, 2.0, 8.0)  # seconds before the next try, with a new connection
USUAL = ("s3", "gs", "az", "sftp", "ftp", "smb", "webdav", "hdfs", "memory")
# packages that fsspec's own modules need; of the others it knows the name
NEEDED = {"sftp": "paramiko", "ssh": "paramiko", "smb": "smbprotocol", "http": "aiohttp", "https": "aiohttp"}
# what the packages below raise when the road to an address is broken, beside OSError: they have no base in common
RAISED = ("ftplib.Error", "botocore.exceptions.BotoCoreError", "botocore.exceptions.ClientError", "aiohttp.ClientError",
          "google.auth.exceptions.GoogleAuthError", "gcsfs.retry.HttpError", "azure.core.exceptions.AzureError",
          "paramiko.SSHException", "smbprotocol.exceptions.SMBException", "webdav4.client.ClientError", "httpx.HTTPError",
          "huggingface_hub.errors.HfHubHTTPError")
REFUSED = {"PermissionError", "FileNotFoundError", "NoCredentialsError", "error_perm", "AuthenticationException"}  # for good
EXCLUSIVE = {"s3", "s3a", "gs", "gcs", "az", "abfs", "memory"}  # a file that is there already is refused by the server
# what tells one content of a file from another, in a listing; each file system says some of it
MARKS = ("size", "ETag", "etag", "md5Hash", "generation", "mtime", "modify", "LastModified", "last_modified", "modified",
         "created", "updated")


def is_address(place: object) -> bool:
    """Tell whether `place` is an address that is no local path: `proto://...`, or a chain of fsspec's (`dir::...`)."""
    return isinstance(place, str) and bool(re.match(r"[A-Za-z][\w+.-]*(://|::)", place)) and not is_local(place)


def is_local(place: str) -> bool:
    """Tell whether an address is a local path in another spelling."""
    return place.startswith(("file://", "local://"))


class Remote:
    """One folder at an address. Threads may share it: file systems that keep one connection would mix their answers up."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self.protocol = re.split(r"://|::", address)[0]
        self._one = threading.RLock()
        parts = urlsplit(self.address)
        if parts.password:
            raise StoreError(f"{parts.scheme}://{parts.username}:...@{parts.hostname}: an address is printed in reports: keep "
                             f"the password out; set FSSPEC_{self.protocol.upper()}_PASSWORD, or see ~/.config/fsspec")
        self._connect()

    def stamps(self, folder: str = "") -> dict[str, str]:
        """Return name -> what tells its content from another, for the files in a folder; a subfolder has the stamp "/"."""
        found = self._do(f"list {self.address}", lambda fs: fs.ls(self._at(folder), detail=True)) or []
        return {posixpath.basename(entry["name"].rstrip("/")): _stamp(entry) for entry in found
                if entry["name"].strip("/") != self._at(folder).strip("/")}

    def get(self, names: Sequence[str]) -> dict[str, bytes]:
        """Return name -> content of those that are there; all at once where the file system can do that."""
        def cat(fs: Any) -> dict[str, bytes]:
            if not fs.async_impl or re.search(r"[*?\[]", self._root):
                return {name: data for name in names if (data := _cat(fs, self._at(name))) is not None}
            got = fs.cat([self._at(name) for name in names], on_error="return")
            for value in got.values():
                if isinstance(value, BaseException) and not isinstance(value, FileNotFoundError):
                    raise value
            by_name = {posixpath.relpath(path, self._root): value for path, value in got.items()}
            return {name: value for name, value in by_name.items() if isinstance(value, bytes)}

        return self._do(f"read {self.address}", cat) or {} if names else {}

    def put(self, name: str, data: bytes) -> None:
        """Put a file's content: as it is where a put is atomic, else under another name that is then changed."""
        folder, last = posixpath.split(name)
        spare = posixpath.join(folder, f".{last}.{secrets.token_hex(4)}.tmp")

        def pipe(fs: Any) -> None:
            if not self._renames:
                fs.pipe_file(self._at(name), data)
                return
            self._make(fs, folder)
            fs.pipe_file(self._at(spare), data)
            _move(fs, self._at(spare), self._at(name))

        self._do(f"write {self.address}/{name}", pipe, there=True)

    def create(self, name: str, data: bytes) -> bool:
        """Put a file unless it is there; False where it is. Only `exclusive` file systems promise that one caller wins."""
        def pipe(fs: Any) -> bool:
            if self._renames:
                self._make(fs, posixpath.dirname(name))
            if not self.exclusive and fs.exists(self._at(name)):
                return False
            try:
                fs.pipe_file(self._at(name), data, **({"mode": "create"} if self.exclusive else {}))
            except FileExistsError:
                return False
            return True

        return bool(self._do(f"write {self.address}/{name}", pipe, there=True))

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        def rm(fs: Any) -> None:
            if not self._renames or fs.exists(self._at(name)):
                fs.rm_file(self._at(name))

        self._do(f"remove {self.address}/{name}", rm)

    @property
    def exclusive(self) -> bool:
        """Whether `create` is decided by the server."""
        return self.protocol in EXCLUSIVE

    def _at(self, name: str) -> str:
        return posixpath.join(self._root, name) if name else self._root

    def _make(self, fs: Any, folder: str) -> None:
        """Make a folder, as another machine may do at the same moment."""
        if fs.isdir(self._at(folder)):
            return
        try:
            fs.makedirs(self._at(folder), exist_ok=True)
        except _broken():
            fs.invalidate_cache()
            if not fs.isdir(self._at(folder)):
                fs.makedirs(self._at(folder), exist_ok=True)  # the other made a part of the way

    def _connect(self) -> None:
        import fsspec

        try:
            self._fs, root = fsspec.core.url_to_fs(self.address, skip_instance_cache=True)
        except ImportError as error:
            raise StoreError(f"{self.address} needs a package that is not installed: pip install "
                             f"{_package(self.protocol) or error}") from None
        except ValueError as error:
            if "not known" not in str(error).lower():
                raise StoreError(f"{self.address} is no address: {error}") from None
            known = [*USUAL, *(name for name in fsspec.available_protocols() if name not in USUAL)]
            raise StoreError(f"{self.address}: no protocol {self.protocol!r} (known: {listed(known)})."
                             f"{near(self.protocol, known)}") from None
        except _broken() as error:
            raise StoreError(self._told("reach", error)) from None
        self._root = root.rstrip("/")
        # what has a rename of its own is a tree of files; an object store has none, and there a put is atomic
        self._renames = type(self._fs).mv is not fsspec.AbstractFileSystem.mv

    def _do(self, what: str, act: Callable[[Any], T], *, there: bool = False) -> T | None:
        """Return what `act` gives of the file system, None where a file or folder is not there (unless it has to be)."""
        verb = what.partition(" ")[0]
        for pause in (*PAUSES, None):
            try:
                with self._one:
                    self._fs.invalidate_cache()
                    if hasattr(self._fs, "ftp"):  # a server's goodbye to the idle would be taken for a file that is not there
                        self._fs.ftp.voidcmd("NOOP")
                    return act(self._fs)
            except _broken() as error:
                if isinstance(error, FileNotFoundError) and not there:
                    return None
                if pause is None or {kind.__name__ for kind in type(error).__mro__} & REFUSED:
                    raise StoreError(self._told(verb, error)) from None
                log.debug("cannot %s: %s; trying again in %g s", what, error, pause)
            time.sleep(pause)
            with self._one, contextlib.suppress(StoreError):
                self._connect()
        raise AssertionError("the last try returns or raises")

    def _told(self, verb: str, error: BaseException) -> str:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return (f"cannot {verb} {self.address}: {lines[0].rstrip('.')}. Are the address, its keys and the network right? Run "
                "the same command again: nothing that was finished is lost.")


def _stamp(entry: Mapping[str, Any]) -> str:
    if entry["type"] == "directory":
        return "/"
    return " ".join(f"{key}={entry[key]}" for key in MARKS if entry.get(key) is not None)


def _cat(fs: Any, path: str) -> bytes | None:
    try:
        return fs.cat_file(path)
    except FileNotFoundError:
        return None


def _move(fs: Any, source: str, target: str) -> None:
    """Rename; some servers do not rename over a file that is there."""
    try:
        fs.mv(source, target)
    except _broken():
        if not fs.exists(target):
            raise
        fs.rm_file(target)
        fs.mv(source, target)


def _package(protocol: str) -> str | None:
    from fsspec.registry import known_implementations

    package = NEEDED.get(protocol) or known_implementations.get(protocol, {}).get("class", "fsspec").split(".")[0]
    return None if package == "fsspec" else package


def _broken() -> tuple[type[BaseException], ...]:
    """Return the errors that mean a broken road; a package that is not loaded has raised none."""
    named = [name.rpartition(".") for name in RAISED]
    found = [getattr(sys.modules.get(module), kind, None) for module, _, kind in named]
    return (OSError, EOFError, *(kind for kind in found if kind))
