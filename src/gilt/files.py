"""Files: atomic writes, content hashes, JSON and TOML. Nothing here knows what an image or a study is."""
import contextlib
import errno
import hashlib
import json
import os
import tempfile
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gilt.errors import ConfigError, GiltError, StoreError

_UMASK = threading.Lock()  # the umask is read by setting it: two threads at once would leave it at 0


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on a clean exit it is flushed to disk and takes the name `path`.

    A reader sees the old file or the whole new one, never a part, also after a kill or on a full disk.
    Raises StoreError where the folder cannot be written or the disk is full.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
    temporary = Path(name)
    try:
        with writing(path):
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Turn an operating system's refusal to write `path` into one clear StoreError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(f"the disk is full: cannot write {path}. Free some space and run the same command "
                             "again; nothing that was finished is lost.") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST,
                           errno.ENAMETOOLONG):
            raise StoreError(f"cannot write {path}: {error.strerror}. Choose a folder that you may write to.") from error
        raise


def _umask() -> int:
    with _UMASK:
        mask = os.umask(0)
        os.umask(mask)
    return mask


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` as UTF-8 to `path` atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON to `path` atomically."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Return the JSON in `path`. Raises StoreError where it is missing or broken."""
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise StoreError(f"no file {path}") from None
    except ValueError as error:
        raise StoreError(f"{path} is not JSON: {error}") from None


def read_toml(path: Path | str, *, error: type[GiltError] = ConfigError) -> dict[str, Any]:
    """Return the TOML in `path`. Raises ConfigError where it is missing or does not parse (with the line)."""
    try:
        return tomllib.loads(Path(path).read_text())
    except FileNotFoundError:
        raise error(f"no file {path}") from None
    except IsADirectoryError:
        raise error(f"{path} is a folder, not a TOML file") from None
    except OSError as problem:
        raise error(f"{path} cannot be read: {problem.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise error(f"{path} is not TOML: {problem}") from None


def sha256(data: bytes) -> str:
    """Return the SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def fingerprint(value: Any) -> str:
    """Return 16 hexadecimal digits that name the JSON value `value` (keys in any order)."""
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())[:16]
