"""Verdicts: a classifier over any number of files, piece by piece, as the rows that `gilt predict` writes.

A detector's row has its calibrated probability, the label at the validated threshold, and a verdict that is "uncertain" within
the validated band, and where a mild change of the image turns it. What a file says of its own making stands beside, and changes
no verdict.

Shapes: N images, V variants, C classes.
"""
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from gilt.config import GENERATED, REAL
from gilt.data.web import is_address
from gilt.engine.predict import as_predictions, predict
from gilt.engine.stability import flips
from gilt.engine.stream import Look, Seen, stream
from gilt.evaluation.calibration import calibrated, decide, named, p_generated, undecided
from gilt.evaluation.predictions import Predictions
from gilt.files import fingerprint
from gilt.models.classifier import Classifier
from gilt.models.metadata import Metadata

PIECE = 256  # images
UNCERTAIN = "uncertain"
COLUMNS = ("path", "label", "p_generated", "verdict", "stable", "flips", "credentials", "software", "error")


def pieces(paths: Sequence[str]) -> Iterator[list[str]]:
    """Yield the paths, PIECE at a time."""
    waiting = iter(paths)
    while piece := list(islice(waiting, PIECE)):
        yield piece


def digest(paths: Sequence[str]) -> str:
    """Return 16 digits that change with the names, sizes and times of files: those of a piece."""
    return fingerprint([[path, *_stamp(path)] for path in paths])


def _stamp(path: str) -> tuple[int, int]:
    """Return (bytes, time) of a file, or of the archive that it lies in; zeros for an address."""
    for place in () if is_address(path) else (Path(path), *Path(path).parents):
        try:
            facts = place.stat()
        except (OSError, ValueError):
            continue
        return facts.st_size, facts.st_mtime_ns
    return 0, 0


def verdicts(classifier: Classifier, groups: Iterable[Sequence[str]], look: Look, *, top: int | None = None,
             expected: int | None = None, seen: Callable[[int], None] | None = None) -> Iterator[pd.DataFrame]:
    """Yield one frame a group of paths, one row a path, in order. `seen(1)` is called after every image.

    Of a detector the columns are COLUMNS (and p_<generator> before the last, where it names them), of another classifier
    those of `Predictions.frame`; with `top` those of `Predictions.top`.
    """
    groups = list(groups)
    if isinstance(classifier.network, Metadata):
        for group in groups:
            yield _frame(classifier, group, _from_facts(classifier, group), Look(), top)
            for _ in group if seen else ():
                seen(1)
        return
    answers = stream(classifier, (path for group in groups for path in group), look, expected=expected)
    try:
        for group in groups:
            held = []
            for _ in group:
                held.append(next(answers))
                if seen:
                    seen(1)
            yield _frame(classifier, group, held, look, top)
    finally:
        answers.close()


def _from_facts(classifier: Classifier, paths: Sequence[str]) -> list[Seen]:
    """Return what the baseline without pixels says: it reads files by itself, and no variant of one has other facts."""
    said = predict(classifier, list(paths))
    return [Seen(logits[None] if error is None else None, error)
            for logits, error in zip(said.logits, said.error, strict=True)]


def _frame(classifier: Classifier, paths: Sequence[str], seen: Sequence[Seen], look: Look, top: int | None) -> pd.DataFrame:
    """Return the rows of images that were seen."""
    count = max((len(one.logits) for one in seen if one.logits is not None), default=1)
    nothing = np.full((count, len(classifier.classes)), np.nan, np.float32)
    logits_NVC = np.stack([nothing if one.logits is None else one.logits for one in seen])
    said = as_predictions(classifier, logits_NVC[:, 0], paths, [one.error for one in seen])
    if top:
        return said.top(top)
    if not classifier.detects:
        return said.frame
    every = as_predictions(classifier, logits_NVC.reshape(-1, logits_NVC.shape[-1]))
    p_NV = p_generated(every).reshape(len(seen), count)
    return _judged(said, p_NV, seen, look)


def _judged(said: Predictions, p_NV: np.ndarray, seen: Sequence[Seen], look: Look) -> pd.DataFrame:
    """Return a detector's rows: the likeliest origin at the threshold, whether the verdict is sure and holds under changes."""
    readable, p_NC = said.readable, calibrated(said)
    called_NV = decide(p_NV, said.calibration)
    own = np.where(called_NV[:, 0], GENERATED, REAL)
    turned = flips(called_NV) if look.stable else [""] * len(own)
    shown = readable & look.stable
    calls = np.where(undecided(p_NV[:, 0], said.calibration) | [bool(text) for text in turned], UNCERTAIN, own)
    columns: dict[str, object] = {
        "path": list(said.path), "label": _where(readable, [said.classes[place] for place in named(p_NC, said)]),
        "p_generated": p_NV[:, 0], "verdict": _where(readable, calls),
        "stable": _where(shown, ["no" if text else "yes" for text in turned]),
        "flips": _where(shown, [text or None for text in turned]),
        "credentials": [one.credentials for one in seen], "software": [one.software for one in seen]}
    if GENERATED not in said.classes:
        columns |= {f"p_{name}": p_NC[:, i] for i, name in enumerate(said.classes) if name != REAL}
    return pd.DataFrame(columns | {"error": list(said.error)})


def _where(shown: np.ndarray, values: Sequence[object]) -> list[object]:
    return [str(value) if yes and value is not None else None for yes, value in zip(shown, values, strict=True)]
