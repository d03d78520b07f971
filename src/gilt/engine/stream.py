"""Stream: many images through a network, in order, in bounded memory, every core at work until the last image.

On a CPU each thread takes a batch, decodes it and runs the network on it, alone: nothing waits for anything else, whether
decoding or the network is the longer. On a GPU the threads decode, and the network works beside them.

Shapes: B images of a batch, V variants of an image, H W pixels, C classes.
"""
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from gilt.config import Preprocessing
from gilt.data.containers import read_image, reads_forward
from gilt.data.credentials import Credentials
from gilt.data.pixels import UNREADABLE, fit, open_image, upright, why
from gilt.data.software import software
from gilt.data.web import fetch, is_address
from gilt.engine.batches import to_images
from gilt.engine.frozen import device_of
from gilt.engine.stability import CHANGES, variants
from gilt.errors import ImageError
from gilt.models.classifier import Classifier
from gilt.models.device import threads

BATCH = 64
PIXELS = 64 * 256 * 256  # of a batch, at most: of larger images there are fewer
NEAR = 4 * 256 * 256  # the same on a CPU's core: what a network makes of more does not stay in its caches
Source = tuple[str, bytes | ImageError | None]  # a path, and what was read there already


@dataclass(frozen=True)
class Look:
    """What is looked for in a file beside its pixels. `addresses`: http(s) is fetched; `private`: from any host."""

    stable: bool = False
    software: bool = False
    credentials: Credentials | None = None
    addresses: bool = False
    private: bool = False


@dataclass(frozen=True)
class Seen:
    """What one file gave: float32 logits_VC, or the error that says why not; what it says of itself."""

    logits: np.ndarray | None
    error: str | None = None
    credentials: str | None = None
    software: str | None = None


def stream(classifier: Classifier, paths: Iterable[str], look: Look | None = None, *, batch: int = BATCH,
           expected: int | None = None) -> Iterator[Seen]:
    """Yield one `Seen` a path, in order. An unreadable image is one with an error; none is dropped.

    `expected` is how many paths there are, where that is known: few are dealt evenly to the threads.
    """
    look = look or Look()
    device, side = device_of(classifier.network), classifier.preprocessing.size
    alone = device.type == "cpu"
    workers = max(1, torch.get_num_threads() if alone else os.cpu_count() or 1)
    batch = max(1, min(batch, (NEAR if alone else PIXELS) // side ** 2))
    chunk = max(1, batch // (1 + len(CHANGES) if look.stable else 1))
    if expected and alone:
        chunk = min(chunk, math.ceil(expected / workers))

    def work(sources: Sequence[Source]) -> list[tuple[np.ndarray | None, Seen]]:
        read = [_read(*source, classifier.preprocessing, look) for source in sources]
        return _through(classifier, read, batch) if alone else read

    with threads(1 if alone and workers > 1 else None), ThreadPoolExecutor(workers) as pool:
        try:
            for done in _in_order(pool, work, _chunks(paths, chunk), ahead=2 * workers):
                yield from (seen for _, seen in (done if alone else _through(classifier, done, batch)))
        finally:
            pool.shutdown(cancel_futures=True)


def _chunks(paths: Iterable[str], size: int) -> Iterator[list[Source]]:
    """Yield paths, some at a time. What lies in a compressed tar is read here, by one thread, from front to end."""
    waiting, forward = iter(paths), {"": False}
    while chunk := list(islice(waiting, size)):
        sources: list[Source] = []
        for path in chunk:
            folder = path.rpartition(os.sep)[0]
            if folder not in forward:
                forward = {folder: not is_address(path) and reads_forward(Path(path))}
            sources.append((path, _bytes(path) if forward[folder] else None))
        yield sources


def _bytes(path: str) -> bytes | ImageError:
    try:
        return read_image(Path(path))
    except ImageError as error:
        return error


def _in_order(pool: ThreadPoolExecutor, work: Callable, chunks: Iterator[list[Source]], *, ahead: int) -> Iterator[list]:
    queue: deque[Future] = deque(pool.submit(work, chunk) for chunk in islice(chunks, ahead))
    while queue:
        yield queue.popleft().result()
        queue += [pool.submit(work, chunk) for chunk in islice(chunks, 1)]


def _read(path: str, data: bytes | ImageError | None, preprocessing: Preprocessing, look: Look
          ) -> tuple[np.ndarray | None, Seen]:
    """Return a file's pixels uint8 (V, H, W, 3) or None, and what else was seen; the file is read and decoded once."""
    said = None
    try:
        if data is None:
            data = fetch(path, private=look.private) if look.addresses and is_address(path) else read_image(Path(path))
        if isinstance(data, ImageError):
            raise data
    except ImageError as error:
        return None, Seen(None, str(error))
    if look.credentials:
        said = look.credentials.of(data)  # first: also of an image that cannot be decoded
    try:
        with open_image(data) as image:
            turned = upright(image, in_place=True)
            pixels = variants(turned, preprocessing) if look.stable else np.asarray(fit(turned, preprocessing))[None]
            return pixels, Seen(None, None, said, software(image, data) if look.software else None)
    except UNREADABLE as error:
        return None, Seen(None, f"{path} cannot be read: {why(error, data)}", said)


def _through(classifier: Classifier, read: Sequence[tuple[np.ndarray | None, Seen]], batch: int
             ) -> list[tuple[None, Seen]]:
    """Return what was read with the network's logits in it, `batch` images at a time."""
    held = [pixels for pixels, _ in read if pixels is not None]
    if not held:
        return [(None, seen) for _, seen in read]
    device, count = device_of(classifier.network), held[0].shape[0]
    flat = [one for pixels in held for one in pixels]
    parts = [classifier.logits(to_images(torch.from_numpy(np.stack(flat[i:i + batch])).to(device))).cpu().numpy()
             for i in range(0, len(flat), batch)]
    logits = iter(np.concatenate(parts).reshape(len(held), count, -1))
    return [(None, seen if pixels is None else Seen(next(logits), None, seen.credentials, seen.software))
            for pixels, seen in read]
