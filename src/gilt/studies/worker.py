"""Worker: the process in which `gilt.studies.workers` has trials run, one after the other.

It reads a job and then trials from standard input and answers on standard output, both pickled: at the other end is the process
that started it. It leaves Ctrl-C to that one and, however that one ends, ends with it: within a moment, and in good order.
"""
import contextlib
import logging
import os
import pickle
import queue
import signal
import threading
import time
from typing import Any, BinaryIO

from filelock import Timeout

from gilt.errors import GiltError, StoreError
from gilt.studies.work import Job, do

GRACE = 10.0  # seconds that a trial has to come to a halt when the caller is gone


class Post:
    """The way back to the caller: messages (kind, value), whole, from any thread."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.lock = stream, threading.Lock()

    def send(self, kind: str, value: Any = None) -> None:
        """Send a message; a caller that is gone hears nothing."""
        with contextlib.suppress(OSError), self.lock:
            pickle.dump((kind, value), self.stream)
            self.stream.flush()


class Forward(logging.Handler):
    """Sends what is logged to the caller, who logs it in its own process."""

    def __init__(self, post: Post) -> None:
        super().__init__()
        self.post = post

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record's logger, level and text."""
        self.post.send("log", (record.name, record.levelno, record.getMessage()))


class Orders:
    """What the caller orders, and whether it is over: then training ends at its next step, so that all is put away."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.over = False

    def read(self, stream: BinaryIO) -> None:
        """Take orders in; when the caller has no more, or is gone, end this process."""
        with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):
            while True:
                self.queue.put(pickle.load(stream))
        self.stop()
        time.sleep(GRACE)
        os._exit(1)

    def stop(self, *_: object) -> None:
        """Let it be over."""
        self.over = True
        self.queue.put(None)

    def check(self, _: object) -> None:
        """End the trial where it is over: a callback for training's ticks. An exception in a signal could hit anything."""
        if self.over:
            raise SystemExit(1)


def serve(job: Job, orders: Orders, post: Post) -> None:
    """Run the trials that are ordered until it is over; say of each what came of it."""
    post.send("ready")
    while (order := orders.queue.get()) is not None and not orders.over:
        try:
            post.send("done", do(job, *order, orders.check, begin=lambda: post.send("start"), wait=False))
        except Timeout:
            post.send("busy")
        except GiltError as error:  # the store or the table: no other trial will do better
            post.send("error", (isinstance(error, StoreError), str(error)))
            return


def main() -> None:
    """Work for the process at the other end of standard input and output."""
    orders = Orders()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, orders.stop)
    come, post = os.fdopen(os.dup(0), "rb"), Post(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # what a library prints is no answer
    job, level = pickle.load(come)
    logging.captureWarnings(True)
    logging.getLogger().addHandler(Forward(post))
    logging.getLogger("gilt").setLevel(level)
    threading.Thread(target=orders.read, args=(come,), daemon=True).start()
    with contextlib.suppress(SystemExit):
        serve(job, orders, post)
    os._exit(0)  # everything is put away by now; taking the interpreter down takes a second
