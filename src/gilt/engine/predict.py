"""Predict: a classifier over a table, a folder or files, to `Predictions`.

Shapes: B batch, C classes, H W pixels. Images are decoded in parallel while the network works; memory is bounded by a
few batches, whatever the number of images.
"""
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gilt.data.containers import is_container, is_there, read_image
from gilt.data.facts import measure
from gilt.data.pixels import PixelCache, why
from gilt.data.scan import image_files
from gilt.data.table import ImageTable
from gilt.data.web import is_address
from gilt.engine.batches import to_images
from gilt.engine.frozen import FrozenFeatures, device_of, facts_of
from gilt.engine.stream import BATCH, stream
from gilt.errors import ImageError, TableError
from gilt.evaluation.predictions import Predictions
from gilt.models.classifier import Classifier, pairs
from gilt.models.device import keep_freed_memory
from gilt.models.features import head_of
from gilt.models.metadata import COLUMNS, Metadata, facts

PART = 1024  # rows of features that a head takes at a time


def predict(classifier: Classifier, source: ImageTable | Path | str | Sequence[Path | str], *,
            cache: PixelCache | None = None, batch_size: int = BATCH,
            progress: Callable[[int, int, float], None] | None = None) -> Predictions:
    """Return one prediction an image of a table (its usable rows), a folder, or a list of files and folders.

    Computed in float32, whatever the training's precision. An unreadable image has NaN logits and its `error` says
    why; none is dropped. With `cache`, a table's pixels come from it. `progress(done, all, images_per_second)`.
    Raises TableError where there is no image.
    """
    if isinstance(source, ImageTable):
        table = source.usable
        paths, names = table.paths, list(table.frame["path"])
        if not len(table):
            raise TableError("there is no usable row to predict on")
        if cache is None:
            table.check_files()
    else:
        table, paths = None, find_images([source] if isinstance(source, (str, Path)) else source)
        names = [str(path) for path in paths]
    if device_of(classifier.network).type == "cpu":
        keep_freed_memory()
    if isinstance(classifier.network, Metadata):
        logits, errors = _from_facts(classifier, table, paths, progress)
    elif table is not None and cache is not None:
        logits, errors = _cached(classifier, table, cache, batch_size, progress)
    else:
        logits, errors = _streamed(classifier, paths, batch_size, progress)
    return as_predictions(classifier, logits, names, errors, table)


def as_predictions(classifier: Classifier, logits_NC: np.ndarray, paths: Sequence[str] | None = None,
                   errors: Sequence[str | None] | None = None, table: ImageTable | None = None) -> Predictions:
    """Return a classifier's logits as its predictions, with its classes and calibration; origin and class are the table's."""
    none = [None] * len(logits_NC)
    return Predictions(
        path=[""] * len(logits_NC) if paths is None else paths, logits=logits_NC, error=errors or none,
        classes=tuple(classifier.classes), target=classifier.target, calibration=classifier.calibration,
        origin=none if table is None else list(table.frame["origin"]),
        class_=none if table is None else list(table.frame["class"]))


def find_images(sources: Sequence[Path | str]) -> list[Path]:
    """Return the files named, and the images under the folders, zip, tar and Parquet files named, in order.

    Raises TableError for none.
    """
    return [Path(path) for path in image_paths(sources)]


def image_paths(sources: Sequence[Path | str], *, addresses: bool = False) -> list[str]:
    """Return the same as texts, which take a fraction of the memory; with `addresses`, those named among them as they are."""
    found: list[str] = []
    for source in sources:
        path = Path(source)
        if addresses and is_address(str(source)):
            found.append(str(source))
        elif path.is_dir() or (path.is_file() and is_container(path)):
            above = "" if str(path) == "." else f"{str(path).rstrip(os.sep)}{os.sep}"
            found += [above + name.replace("/", os.sep) for name in image_files(path)]
        elif not _is_text(str(path)):
            raise TableError(f"the name of {str(path)!a} is no UTF-8 text: rename it")
        elif is_there(path):
            found.append(str(path))
        else:
            raise TableError(f"no file or folder {source}")
    if not found:
        raise TableError("no image was named")
    return found


def _is_text(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def _logits(classifier: Classifier, pixels_BHWC: np.ndarray) -> np.ndarray:
    device = device_of(classifier.network)
    return classifier.logits(to_images(torch.from_numpy(pixels_BHWC).to(device))).cpu().numpy()


def _cached(classifier: Classifier, table: ImageTable, cache: PixelCache, batch_size: int,
            progress: Callable[[int, int, float], None] | None) -> tuple[np.ndarray, list[str | None]]:
    if classifier.frozen:
        return _from_features(classifier, table, cache), [None] * len(table)
    pack, rows = cache.pixels(table.paths, list(table.frame["sha256"]), classifier.preprocessing)
    start, logits = time.perf_counter(), []
    for first in range(0, len(rows), batch_size):
        logits.append(_logits(classifier, pack[rows[first:first + batch_size]]))
        if progress:
            done = min(first + batch_size, len(rows))
            progress(done, len(rows), done / (time.perf_counter() - start))
    return np.concatenate(logits), [None] * len(rows)


@torch.inference_mode()
def _from_features(classifier: Classifier, table: ImageTable, cache: PixelCache) -> np.ndarray:
    """Return the logits of a network that was trained frozen, from the features that its body gave already."""
    features = FrozenFeatures(classifier.network, classifier.model, classifier.preprocessing, cache, classifier.arguments)
    parts = torch.from_numpy(features.of(table)).to(features.device).split(PART)
    head = head_of(classifier.network)[1]
    return torch.cat([pairs(head(part).float()) for part in parts]).cpu().numpy()


def _from_facts(classifier: Classifier, table: ImageTable | None, paths: Sequence[Path],
                progress: Callable[[int, int, float], None] | None) -> tuple[np.ndarray, list[str | None]]:
    """Return the logits of the network `metadata`: from the table's columns, or from the files, which are measured."""
    device = device_of(classifier.network)
    if table is not None:
        return classifier.logits(torch.from_numpy(facts_of(table)).to(device)).cpu().numpy(), [None] * len(table)
    start, measured = time.perf_counter(), []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for one in pool.map(_measured, paths):
            measured.append(one)
            if progress:
                progress(len(measured), len(paths), len(measured) / (time.perf_counter() - start))
    errors = [one["excluded"] and f"{path} cannot be read: {one['excluded'].removeprefix('unreadable: ')}"
              for path, one in zip(paths, measured, strict=True)]
    logits = np.full((len(paths), len(classifier.classes)), np.nan, np.float32)
    places = [place for place, error in enumerate(errors) if error is None]
    if places:
        known = facts({name: [measured[place][name] for place in places] for name in COLUMNS})
        logits[places] = classifier.logits(torch.from_numpy(known).to(device)).cpu().numpy()
    return logits, errors


def _measured(path: Path) -> dict[str, Any]:
    try:
        return measure(read_image(path))
    except (OSError, ImageError) as error:
        return {"excluded": f"unreadable: {str(error).partition(' cannot be read: ')[2] or why(error)}"}


def _streamed(classifier: Classifier, paths: Sequence[Path], batch_size: int,
              progress: Callable[[int, int, float], None] | None) -> tuple[np.ndarray, list[str | None]]:
    logits = np.full((len(paths), len(classifier.classes)), np.nan, np.float32)
    errors: list[str | None] = [None] * len(paths)
    start, last = time.perf_counter(), len(paths) - 1
    for i, seen in enumerate(stream(classifier, map(str, paths), batch=batch_size, expected=len(paths))):
        errors[i] = seen.error
        if seen.logits is not None:
            logits[i] = seen.logits[0]
        if progress and (i % batch_size == batch_size - 1 or i == last):
            progress(i + 1, len(paths), (i + 1) / (time.perf_counter() - start))
    return logits, errors
