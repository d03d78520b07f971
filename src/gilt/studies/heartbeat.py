"""Heartbeats: a running trial says every few seconds where it stands, in its store, to whoever watches.

A thread of the trial's process writes them, so that a step that takes long, or a slow network, holds nothing up; a heartbeat
that cannot be written is left out. What a killed process left stays until its trial runs again: `Beat.gone` tells.
"""
import contextlib
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, ValidationError

from gilt.errors import StoreError
from gilt.settings import Config
from gilt.studies.leases import alive, machine
from gilt.studies.store import Store, now
from gilt.studies.study import Trial

if TYPE_CHECKING:  # who watches needs no torch
    from gilt.engine.epochs import Tick

PAUSE = 3.0  # seconds between two heartbeats
SILENT = 60.0  # seconds after which a process that cannot be asked is taken for gone


class Beat(Config):
    """Where a running trial stands: `left` are seconds of its training, `started` and `at` times in UTC."""

    model_config = ConfigDict(extra="ignore")  # a store may keep words of its own beside
    arm: str
    seed: int
    stage: Literal["starting", "training", "judging"] = "starting"
    epoch: int = 0
    epochs: int = 0
    val_accuracy: float | None = None
    left: float | None = None
    started: str
    at: float  # seconds since 1970
    host: str
    machine: str = ""
    pid: int

    @property
    def age(self) -> float:
        """Seconds since it was written, by the clocks of two machines; never below 0."""
        return max(0.0, time.time() - self.at)

    @property
    def gone(self) -> str:
        """Why nobody is at this trial any more, or "" where somebody is."""
        if self.machine == machine() and not alive(self.pid):
            return f"its process {self.pid} on this machine has ended"
        if self.age > SILENT:
            return f"not heard of for {round(self.age):,} s (process {self.pid} on {self.host})"
        return ""


def beats(store: Store) -> dict[str, Beat]:
    """Return trial -> heartbeat of the trials that run, or were killed as they ran; what is no heartbeat is passed over."""
    found = {}
    for trial_id, state in store.beats().items():
        with contextlib.suppress(ValidationError):
            found[trial_id] = Beat.model_validate(state)
    return found


class Heart:
    """Writes one trial's heartbeats for as long as the `with` block lasts; `hear` and `stage` say what stands in them."""

    def __init__(self, store: Store, trial: Trial, trial_id: str) -> None:
        self.store, self.trial_id, self.stage = store, trial_id, "starting"
        self.known = {"arm": trial.arm, "seed": trial.seed, "started": now(), "host": platform.node(), "machine": machine(),
                      "pid": os.getpid()}
        self.tick: Tick | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"heartbeat {trial_id}", daemon=True)

    def hears(self, listener: "Callable[[Tick], None] | None") -> "Callable[[Tick], None]":
        """Return a callback for training's ticks that also tells `listener`."""
        def hear(tick: "Tick") -> None:
            self.tick, self.stage = tick, "training"
            if listener:
                listener(tick)

        return hear

    def __enter__(self) -> "Heart":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        with contextlib.suppress(StoreError, OSError):
            self.store.quiet(self.trial_id)

    def _run(self) -> None:
        while True:
            with contextlib.suppress(StoreError, OSError):  # a full disk is the record's business
                self.store.beat(self.trial_id, self._state())
            if self._over.wait(PAUSE):
                return

    def _state(self) -> dict[str, Any]:
        tick = self.tick
        where = {} if tick is None else {"epoch": tick.epoch, "epochs": tick.epochs, "val_accuracy": tick.val_accuracy,
                                         "left": round(tick.left, 1)}
        return {**self.known, "stage": self.stage, **where, "at": round(time.time(), 3)}


@contextlib.contextmanager
def listening(store: Store, hear: Callable[[Mapping[str, Beat]], None] | None) -> Iterator[None]:
    """Tell `hear`, from a thread, every few seconds what runs in the store, for as long as the `with` block lasts."""
    over = threading.Event()

    def listen() -> None:
        while not over.wait(PAUSE / 2):
            with contextlib.suppress(StoreError, OSError):
                hear({trial_id: beat for trial_id, beat in beats(store).items() if not beat.gone})

    thread = threading.Thread(target=listen, name="listening", daemon=True)
    if hear:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if hear:
            thread.join()
