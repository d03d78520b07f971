"""Robustness: a detector's predictions on the same images under one change after the other, saved as they come.

Shapes: B batch, H W pixels, C classes.
"""
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import torch

from gilt.data.order import draw_of
from gilt.data.perturb import NONE, VERSION, Change, changes_of, perturbed_stream
from gilt.data.table import ImageTable
from gilt.engine.batches import to_images
from gilt.engine.frozen import device_of
from gilt.errors import ImageError, ModelError, StoreError, TableError
from gilt.evaluation.predictions import Predictions
from gilt.evaluation.robustness import Robustness, measured
from gilt.files import read_json, write_json
from gilt.models.classifier import Classifier
from gilt.models.metadata import Metadata

log = logging.getLogger(__name__)
BATCH = 64
PLAIN = Change(NONE)


def robustness(detector: Classifier, table: ImageTable, changes: Sequence[Change] | None = None, *, folder: Path | str,
               progress: Callable[[int, int], None] | None = None) -> Robustness:
    """Return what a detector is worth on a table's usable rows as they are, and after each change (default: all grids).

    Each change is made to the files' own pixels, of every origin. Predictions are kept in `folder`, a file a change, before
    anything is computed from them; what is there already is not made again. `progress(done, all)` counts images times changes.
    Raises ModelError for what is no detector or sees no pixels, TableError for no row, and StoreError where the folder holds
    another detector's predictions, or those of other rows.
    """
    if detector.target != "origin":
        raise ModelError(f"the target of this classifier is {detector.target!r}: robustness is for detectors (target 'origin')")
    if isinstance(detector.network, Metadata):
        raise ModelError("the network 'metadata' sees no pixels, so no change of them reaches it")
    rows = table.usable
    if not len(rows):
        raise TableError("there is no usable row to judge on")
    rows.check_files()
    changes = changes_of() if changes is None else list(dict.fromkeys(changes))
    kept = _opened(Path(folder), detector, rows)
    wanted = [PLAIN, *(change for change in changes if change != PLAIN)]
    waiting = [change for change in wanted if not (kept / f"{change}.parquet").is_file()]
    if len(waiting) < len(wanted):
        log.info("%d of %d changes are predicted already", len(wanted) - len(waiting), len(wanted))
    done = 0
    for _, group in groupby(waiting, key=lambda change: change.kind):  # a kind at a time: decoded once for its strengths
        some = list(group)
        for place, logits, errors in _predicted(detector, rows, some, lambda n, done=done: progress and progress(
                done + n, len(waiting) * len(rows))):
            _predictions(detector, rows, logits, errors).save(kept / f"{some[place]}.parquet")
        done += len(some) * len(rows)
    found = {change: Predictions.load(kept / f"{change}.parquet") for change in wanted}
    return measured(found[PLAIN], [((change.kind, change.strength or 0.0), found[change]) for change in wanted[1:]])


def _opened(folder: Path, detector: Classifier, rows: ImageTable) -> Path:
    """Return the folder of predictions, made or taken up. Raises StoreError where it is of something else."""
    said = {"detector": mark_of(detector), "rows": rows.fingerprint, "changes": VERSION}
    note = folder / "of.json"
    if note.is_file():
        held = read_json(note)
        what = {"detector": "another detector", "rows": "other rows", "changes": "another version of the changes"}
        if other := next((text for name, text in what.items() if held.get(name) != said[name]), None):
            raise StoreError(f"{folder} holds predictions of {other}: choose another folder")
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError(f"{folder} holds other things: choose a new or empty folder")
    else:
        write_json(note, said)
    return folder / "predictions"


def mark_of(classifier: Classifier) -> str:
    """Return 16 hexadecimal digits that name a classifier: its tensors, and all of its card that a prediction depends on."""
    digest = hashlib.sha256()
    for name, tensor in sorted(classifier.network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    card = {name: value for name, value in classifier.card.items() if name not in ("history", "provenance", "format")}
    return hashlib.sha256(digest.digest() + json.dumps(card, sort_keys=True).encode()).hexdigest()[:16]


def _predicted(detector: Classifier, rows: ImageTable, changes: Sequence[Change], progress: Callable[[int], object]
               ) -> Iterator[tuple[int, np.ndarray, list[str | None]]]:
    """Yield (place in `changes`, logits (N, C), errors) once all images went through all of the changes."""
    logits = np.full((len(changes), len(rows), len(detector.classes)), np.nan, np.float32)
    errors: list[list[str | None]] = [[None] * len(rows) for _ in changes]
    places: list[tuple[int, int]] = []
    pixels: list[np.ndarray] = []
    for i, seen in enumerate(perturbed_stream(rows.paths, list(rows.frame["path"]), changes,
                                              preprocessing=detector.preprocessing)):
        for k, one in enumerate(seen):
            if isinstance(one, ImageError):
                errors[k][i] = str(one)
                continue
            places.append((k, i))
            pixels.append(one)
        if len(places) >= BATCH or i + 1 == len(rows):
            _fill(detector, logits, places, pixels)
            progress((i + 1) * len(changes))
            places, pixels = [], []
    for k in range(len(changes)):
        yield k, logits[k], errors[k]


def _fill(detector: Classifier, logits: np.ndarray, places: list[tuple[int, int]], pixels: list[np.ndarray]) -> None:
    device = device_of(detector.network)
    for first in range(0, len(places), BATCH):
        some = torch.from_numpy(np.stack(pixels[first:first + BATCH])).to(device)
        logits[tuple(np.transpose(places[first:first + BATCH]))] = detector.logits(to_images(some)).cpu().numpy()


def _predictions(detector: Classifier, rows: ImageTable, logits: np.ndarray, errors: list[str | None]) -> Predictions:
    return Predictions(path=list(rows.frame["path"]), origin=list(rows.frame["origin"]), class_=list(rows.frame["class"]),
                       logits=logits, error=errors, classes=tuple(detector.classes), target=detector.target,
                       calibration=detector.calibration)


def sampled(rows: ImageTable, most: int, *, seed: int = 0) -> ImageTable:
    """Return at most `most` rows of each origin, drawn by `seed` and the paths alone; each row stays in its place."""
    draws = rows.frame["path"].map(lambda path: draw_of(path, seed))
    return rows.where(lambda frame: draws.groupby(frame["origin"]).rank(method="first") <= most)
