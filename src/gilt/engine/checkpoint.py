"""The state of a training on disk, so that a training that was killed goes on where it stood.

One file, written whole or not at all, read without running any code in it (`torch.load(weights_only=True)`).
"""
import contextlib
import glob
import io
import logging
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gilt.errors import StoreError
from gilt.files import write_bytes

log = logging.getLogger(__name__)
FORMAT = "gilt training 1"
PAUSE = 5.0  # seconds between two writings, at least: an epoch of a second is sooner done again than saved
PART = 20  # and at least so many times what one took: 5 % of the training's time


class Checkpoint:
    """The file at `path`, good for the training called `key` (a hash of its settings, seed and rows); None: no file.

    A disk that is full, or a folder that may not be written to, does not end a training: it is said once, and tried again.
    """

    def __init__(self, path: Path | str | None, key: str) -> None:
        self.path, self.key = path and Path(path), key
        self.written, self.took, self.said = time.perf_counter(), 0.0, ""

    def read(self) -> dict[str, Any] | None:
        """Return the state to go on from, or None: no file, another training's, or one that cannot be read (with a note)."""
        if self.path is None or not self.path.exists():
            return None
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError):
            log.warning("%s is damaged, so the training starts anew", self.path)
            return None
        if not isinstance(state, dict) or state.get("format") != FORMAT or state.get("key") != self.key:
            log.warning("%s is the state of a training with other settings, rows, seed or device, so this one starts anew",
                        self.path)
            return None
        return state

    def write(self, state: Callable[[], dict[str, Any]]) -> None:
        """Write what `state` returns, where the last writing is long enough ago."""
        start = time.perf_counter()
        if self.path is None or start - self.written < max(PAUSE, PART * self.took):
            return
        buffer = io.BytesIO()  # in memory first: torch's own writing to a full disk ends in an error of its own kind
        torch.save({"format": FORMAT, "key": self.key, **state()}, buffer)
        try:
            write_bytes(self.path, buffer.getbuffer())
        except StoreError as error:
            if str(error) != self.said:
                log.warning("the training goes on, but its state is not saved: %s", str(error).split(". ")[0])
            self.said = str(error)
        self.written = time.perf_counter()
        self.took = self.written - start

    def remove(self) -> None:
        """Delete the file, and what a kill in the midst of a writing left beside it: the training is done."""
        if self.path is None:
            return
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
            for left in self.path.parent.glob(f".{glob.escape(self.path.name[:40])}.????????.tmp"):
                left.unlink()
