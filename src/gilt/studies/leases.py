"""`Lease`: the lock of a trial whose store is at an address: a file with who holds it and since when.

Best effort. A holder renews its lease every minute; one that is older than STALE, or whose process on this machine is gone,
is taken over. Where two should run one trial all the same, the first finished record stays (`Store.write`).
"""
import json
import logging
import os
import secrets
import socket
import threading
import time
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import Timeout

from gilt.errors import StoreError
from gilt.files import sha256
from gilt.studies.remote import Remote

log = logging.getLogger(__name__)
STALE = 300.0  # seconds; clocks of machines may differ by a few minutes less
RENEW = 60.0
SETTLE = 0.7  # seconds in which another that came at the same moment would have written its own name
POLL = 1.0
_held: set[str] = set()  # tokens of this process


class Lease:
    """A context manager like `filelock.FileLock`, on a file of a `Remote`."""

    def __init__(self, remote: Remote, name: str) -> None:
        self.remote, self.name = remote, name
        self.token: str | None = None
        self._over = threading.Event()

    def acquire(self, timeout: float = -1) -> "Lease":
        """Take the lease, waiting at most `timeout` seconds (below 0: for ever).

        Raises filelock.Timeout where another holds it still, and StoreError where the address cannot be written.
        """
        end = time.monotonic() + timeout
        while not self._take():
            left = end - time.monotonic()
            if timeout >= 0 and left <= 0:
                raise Timeout(f"{self.remote.address}/{self.name}")
            time.sleep(POLL if timeout < 0 else min(POLL, left))
        self._over = threading.Event()
        threading.Thread(target=self._renew, args=(self._over,), name=f"lease {self.name}", daemon=True).start()
        return self

    def release(self) -> None:
        """Give the lease back, unless another has taken it over."""
        self._over.set()
        token, self.token = self.token, None
        _held.discard(str(token))
        if token and self._holder().get("token") == token:
            self.remote.remove(self.name)

    def __enter__(self) -> "Lease":
        return self if self.token else self.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()

    def _take(self) -> bool:
        token = secrets.token_hex(8)
        sure = False
        if self.remote.create(self.name, _said(token)):
            sure = self.remote.exclusive
        else:
            holder = self._holder()
            if holder and not _dead(holder):
                return False
            if holder:
                log.info("took %s over from %s, which gave no sign of life", self.name, holder.get("host", "another"))
            self.remote.put(self.name, _said(token))
        if not sure:  # two may have come at once: the last to write has it
            time.sleep(SETTLE)
            if self._holder().get("token") != token:
                return False
        self.token = token
        _held.add(token)
        return True

    def _renew(self, over: threading.Event) -> None:
        while not over.wait(RENEW):
            try:
                token = self.token
                if token is None or self._holder().get("token", token) != token:
                    log.warning("%s was taken over by another machine, which saw no sign of life from here", self.name)
                    return
                self.remote.put(self.name, _said(token))
            except StoreError as error:  # the next minute may be better; the trial's own write will tell
                log.debug("cannot renew %s: %s", self.name, error)

    def _holder(self) -> dict[str, Any]:
        """Return what the lease says, {} where there is none, or none that can be read."""
        try:
            held = json.loads(self.remote.get([self.name]).get(self.name, b"{}"))
        except ValueError:
            held = {"host": "another", "time": 0}
        return held if isinstance(held, dict) else {}


def _said(token: str) -> bytes:
    return json.dumps({"token": token, "host": socket.gethostname(), "machine": machine(), "pid": os.getpid(),
                       "time": time.time()}).encode()


def _dead(holder: dict[str, Any]) -> bool:
    """Tell whether a holder is taken for gone: by its age, or because it is a process of this machine that has ended."""
    if time.time() - float(holder.get("time", 0)) > STALE:
        return True
    if holder.get("machine") != machine():
        return False
    if holder.get("pid") == os.getpid():
        return holder.get("token") not in _held
    return not alive(int(holder["pid"]))


def alive(pid: int) -> bool:
    """Tell whether a process of this machine runs; True where that cannot be asked: on Windows, signal 0 would be Ctrl-C."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


@cache
def machine() -> str:
    """Return what names this machine, or this container of it: where process ids are its own."""
    marks = [socket.gethostname()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        try:
            marks.append(str(Path(path).readlink()) if "/ns/" in path else Path(path).read_text())
        except OSError:  # no Linux
            continue
    return sha256(" ".join(marks).encode())[:12]
