"""Submissions: predictions as a competition's file, one line an image, in the order that its sample file asks for.

Class names are written as the classifier knows them, which is as the training list spelt them: "007" stays "007".
"""
import csv
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

import numpy as np

from gilt.errors import TableError, counted, listed
from gilt.evaluation.predictions import Predictions
from gilt.files import write_text

log = logging.getLogger(__name__)
COLUMNS = ("id", "label")
Naming = Literal["stem", "file", "path"]


@dataclass(frozen=True)
class Submission:
    """Lines (image, class) under the names of two columns; `guessed` are the unreadable images, which have a stand-in."""

    columns: tuple[str, str]
    lines: tuple[tuple[str, str], ...]
    guessed: tuple[str, ...]

    def save(self, path: Path | str) -> None:
        """Write the lines to `path` as CSV, atomically."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([self.columns, *self.lines])
        write_text(path, text.getvalue())


def submission(predictions: Predictions, *, columns: tuple[str, str] | None = None, name: Naming | None = None,
               sample: Path | str | None = None, stand_in: str | None = None) -> Submission:
    """Return the predictions as a submission.

    `name` says what an image is called: its `file` name (the default), that without its ending (`stem`), or its `path`. With a
    `sample`, its lines say which images are wanted, in which order, and under which columns; `name` is then found out, and
    a path may lack its first folders. An unreadable image gets the class `stand_in`: that of most training images, where
    the caller knows it; by default the class that is predicted most often. It is named in a warning.
    Raises TableError for a wanted image that was not predicted, two images of one name, and a sample that does not fit.
    """
    labels, guessed = _labels(predictions, stand_in)
    if sample is None:
        columns, lines = columns or COLUMNS, _all(labels, name or "file")
    else:
        header, wanted = read_sample(sample)
        columns = columns or _columns(header, sample)
        lines = _filled(labels, wanted, name, str(sample))
    return Submission(columns, tuple(lines), guessed)


def read_sample(path: Path | str) -> tuple[list[str], list[str]]:
    """Return the header of a sample submission, and what its first column says on each line."""
    try:
        rows = [row for row in csv.reader(io.StringIO(Path(path).read_text("utf-8-sig"), newline="")) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"the sample {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(rows) < 2:
        raise TableError(f"the sample {path} names no image: it needs a header and a line an image")
    return rows[0], [row[0] for row in rows[1:]]


def _labels(predictions: Predictions, stand_in: str | None) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return path -> class, and the paths of unreadable images, which have the stand-in's class."""
    readable = predictions.readable
    best = predictions.logits[readable].argmax(1)
    labels = dict(zip(np.array(predictions.path, object)[readable], (predictions.classes[i] for i in best), strict=True))
    guessed = tuple(dict.fromkeys(path for path, good in zip(predictions.path, readable, strict=True) if not good))
    if guessed:
        often = int(np.bincount(best, minlength=len(predictions.classes)).argmax())
        why = "the class of most training images" if stand_in else "the class predicted most often"
        stand_in = stand_in or predictions.classes[often]
        log.warning("%s got %s, %r: %s", counted(len(guessed), "unreadable image"), why, stand_in, listed(guessed))
    return {path: labels.get(path, str(stand_in)) for path in dict.fromkeys(predictions.path)}, guessed


def _columns(header: Sequence[str], sample: Path | str) -> tuple[str, str]:
    if len(header) != 2:
        raise TableError(f"the sample {sample} has the columns {listed(header)}, and a submission has two, an image and its "
                         "class: name them with --columns Image,Class")
    return header[0], header[1]


def _all(labels: Mapping[str, str], name: Naming) -> list[tuple[str, str]]:
    """Return a line for each image."""
    called: dict[str, str] = {}
    for path in labels:
        other = called.setdefault(_NAMES[name](path)[0], path)
        if other != path:
            raise TableError(f"{other} and {path} have the same {name} name, {_NAMES[name](path)[0]!r}: "
                             f"choose another --name ({listed(_NAMES)})")
    return [(own, labels[path]) for own, path in called.items()]


def _filled(labels: Mapping[str, str], wanted: Sequence[str], name: Naming | None, sample: str) -> list[tuple[str, str]]:
    """Return the sample's lines, each with its class; under the naming that fits best, where none is said."""
    found = {naming: _known(labels, naming, wanted) for naming in ([name] if name else _NAMES)}
    known = min(found.values(), key=lambda known: sum(not known[line] for line in wanted))
    missing = [line for line in wanted if not known[line]]
    if missing:
        raise TableError(f"{sample} asks for {counted(len(missing), 'image')} not among the {len(labels):,} predicted: "
                         f"{listed(missing)}. One that was predicted is {next(iter(labels))}: name every folder that holds "
                         "them, or say with --name what the sample calls an image")
    double = next((line for line in wanted if len(known[line]) > 1), None)
    if double is not None:
        raise TableError(f"{sample}: {double!r} may be {known[double][0]} or {known[double][1]}: predict their folders one by "
                         f"one, or choose another --name ({listed(_NAMES)})")
    left = len(labels) - len({known[line][0] for line in wanted})
    if left:
        log.warning("left out: %s that %s does not ask for", counted(left, "image"), sample)
    return [(line, labels[known[line][0]]) for line in wanted]


def _known(labels: Mapping[str, str], naming: Naming, wanted: Sequence[str]) -> dict[str, list[str]]:
    """Return the paths that go by each wanted name."""
    known: dict[str, list[str]] = {line: [] for line in wanted}
    for path in labels:
        for called in _NAMES[naming](path):
            if called in known:
                known[called].append(path)
    return known


def _path_names(path: str) -> list[str]:
    parts = PurePath(path).parts
    return [path, *("/".join(parts[i:]) for i in range(len(parts)) if "/".join(parts[i:]) != path)]


_NAMES: dict[Naming, Callable[[str], list[str]]] = {
    "file": lambda path: [PurePath(path).name], "stem": lambda path: [PurePath(path).stem], "path": _path_names}
