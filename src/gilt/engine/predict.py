"""Predict: a classifier over a table, a folder or files, to `Predictions`.

Shapes: B batch, C classes, H W pixels. Images are decoded in parallel while the network works; memory is bounded by a
few batches, whatever the number of images.
"""
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from gilt.data.containers import is_container, is_there
from gilt.data.pixels import PixelCache, decode_stream
from gilt.data.scan import image_files
from gilt.data.table import ImageTable
from gilt.engine.batches import to_images
from gilt.engine.frozen import FrozenFeatures
from gilt.errors import ImageError, TableError
from gilt.evaluation.predictions import Predictions
from gilt.models.classifier import Classifier, pairs
from gilt.models.device import keep_freed_memory
from gilt.models.features import head_of

BATCH = 64


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
    if next(classifier.network.parameters()).device.type == "cpu":
        keep_freed_memory()
    if table is not None and cache is not None:
        logits, errors = _cached(classifier, table, cache, batch_size, progress)
    else:
        logits, errors = _streamed(classifier, paths, batch_size, progress)
    return Predictions(
        path=names, classes=tuple(classifier.classes), target=classifier.target, logits=logits, error=errors,
        origin=list(table.frame["origin"]) if table is not None else [None] * len(names),
        class_=list(table.frame["class"]) if table is not None else [None] * len(names))


def find_images(sources: Sequence[Path | str]) -> list[Path]:
    """Return the files named, and the images under the folders, zip, tar and Parquet files named, in order.

    Raises TableError for none.
    """
    found: list[Path] = []
    for source in map(Path, sources):
        if source.is_dir() or (source.is_file() and is_container(source)):
            found += [source / path for path in image_files(source)]
        elif is_there(source):
            found.append(source)
        else:
            raise TableError(f"no file or folder {source}")
    if not found:
        raise TableError("no image was named")
    return found


def _logits(classifier: Classifier, pixels_BHWC: np.ndarray) -> np.ndarray:
    device = next(classifier.network.parameters()).device
    return classifier.logits(to_images(torch.from_numpy(pixels_BHWC).to(device))).cpu().numpy()


def _cached(classifier: Classifier, table: ImageTable, cache: PixelCache, batch_size: int,
            progress: Callable[[int, int, float], None] | None) -> tuple[np.ndarray, list[str | None]]:
    if classifier.provenance.get("train", {}).get("frozen"):
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
    features = FrozenFeatures(classifier.network, classifier.model, classifier.preprocessing, cache).of(table)
    head = head_of(classifier.network)[1]
    return pairs(head(torch.from_numpy(features).to(head.weight.device)).float()).cpu().numpy()


def _streamed(classifier: Classifier, paths: Sequence[Path], batch_size: int,
              progress: Callable[[int, int, float], None] | None) -> tuple[np.ndarray, list[str | None]]:
    logits = np.full((len(paths), len(classifier.classes)), np.nan, np.float32)
    errors: list[str | None] = [None] * len(paths)
    start = time.perf_counter()
    for places, pixels in _decoded_batches(classifier, paths, batch_size, errors):
        logits[places] = _logits(classifier, pixels)
        if progress:
            progress(places[-1] + 1, len(paths), (places[-1] + 1) / (time.perf_counter() - start))
    return logits, errors


def _decoded_batches(classifier: Classifier, paths: Sequence[Path], batch_size: int,
                     errors: list[str | None]) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yield (places, pixels_BHWC) for the readable images; notes the others' reasons in `errors`."""
    places: list[int] = []
    pixels: list[np.ndarray] = []
    for i, (_, image) in enumerate(decode_stream(paths, classifier.preprocessing, ahead=4 * batch_size)):
        if isinstance(image, ImageError):
            errors[i] = str(image)
            continue
        places.append(i)
        pixels.append(image)
        if len(places) == batch_size:
            yield places, np.stack(pixels)
            places, pixels = [], []
    if places:
        yield places, np.stack(pixels)
