"""`Predictions`: what a classifier said of each image. Written before any metric; every metric comes from them.

Shapes: N images, C classes.
"""
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gilt.config import GENERATED, REAL
from gilt.errors import StoreError, TableError, listed
from gilt.files import atomic_path
from gilt.training import Calibration


@dataclass(frozen=True)
class Predictions:
    """One prediction an image: its path, origin and class (None where unknown), logits_NC, and an error or None.

    `classes` names the logits' columns; `target` is `class` or `origin`. An unreadable image has NaN logits. `calibration` is
    the detector's own, fitted on its validation images; None where it has none.
    """

    path: Sequence[str]
    origin: Sequence[str | None]
    class_: Sequence[str | None]
    logits: np.ndarray
    error: Sequence[str | None]
    classes: tuple[str, ...]
    target: str
    calibration: Calibration | None = None

    def __len__(self) -> int:
        return len(self.path)

    @property
    def probabilities(self) -> np.ndarray:
        """Float64 (N, C), each row summing to 1: the softmax of the logits."""
        shifted = self.logits.astype(np.float64) - self.logits.max(1, keepdims=True)
        return np.exp(shifted) / np.exp(shifted).sum(1, keepdims=True)

    @property
    def detects(self) -> bool:
        """Whether a detector said so: its classes tell real from generated images, or from those of generators."""
        return self.target == "origin" and REAL in self.classes

    @property
    def labels(self) -> np.ndarray:
        """Int64 (N,): the true target's place in `classes`, or -1 where it is unknown to the classifier.

        For target `origin`: real or generated; of a detector whose classes are generators' names, the generator.
        """
        names = self.class_ if self.target == "class" else self.origin if GENERATED not in self.classes else [
            None if origin is None else REAL if origin == REAL else GENERATED for origin in self.origin]
        place = {name: i for i, name in enumerate(self.classes)}
        return np.array([place.get(name, -1) for name in names], np.int64)

    @property
    def readable(self) -> np.ndarray:
        """Bool (N,): the images that could be read."""
        return np.array([error is None for error in self.error])

    @property
    def traced(self) -> np.ndarray:
        """Bool (N,): the images that could be read and whose origin is known, on which a detector can be judged."""
        return self.readable & np.array([bool(origin) for origin in self.origin], bool)

    @property
    def frame(self) -> pd.DataFrame:
        """One row an image: path, label (the likeliest class), p_<class> ..., error; empty label and p where unreadable."""
        best = np.where(self.readable, self.logits.argmax(1), -1)
        columns: dict[str, object] = {
            "path": list(self.path), "label": [self.classes[i] if i >= 0 else None for i in best]}
        probabilities = self.probabilities
        columns |= {f"p_{name}": probabilities[:, i] for i, name in enumerate(self.classes)}
        return pd.DataFrame({**columns, "error": list(self.error)})

    def top(self, most: int) -> pd.DataFrame:
        """Return one row an image: path, label_1 ... label_<most> (the likeliest first), p_1 ..., error.

        Label and p are empty where the image is unreadable. Of equally likely classes the earlier stands first. Raises
        TableError where there are fewer classes than `most`.
        """
        if not 1 <= most <= len(self.classes):
            raise TableError(f"the {most} likeliest of {len(self.classes)} classes cannot be named ({listed(self.classes)})")
        probabilities, readable = self.probabilities, self.readable
        places = np.argsort(-probabilities, axis=1, kind="stable")[:, :most]
        names = np.where(readable[:, None], np.array(self.classes, object)[places], None)
        best = np.take_along_axis(probabilities, places, 1)
        columns: dict[str, object] = {"path": list(self.path)} | {f"label_{i + 1}": names[:, i] for i in range(most)}
        return pd.DataFrame({**columns, **{f"p_{i + 1}": best[:, i] for i in range(most)}, "error": list(self.error)})

    def save(self, path: Path | str) -> None:
        """Write the predictions to `path` as Parquet (path, origin, class, error, logit_<class> ...), atomically."""
        columns = {"path": pa.array(self.path, pa.string()), "origin": pa.array(self.origin, pa.string()),
                   "class": pa.array(self.class_, pa.string()), "error": pa.array(self.error, pa.string())}
        columns |= {f"logit_{name}": pa.array(self.logits[:, i], pa.float32()) for i, name in enumerate(self.classes)}
        notes = {"classes": list(self.classes), "target": self.target,
                 **({"calibration": self.calibration.model_dump()} if self.calibration else {})}
        table = pa.table(columns).replace_schema_metadata({"gilt predictions": json.dumps(notes)})
        with atomic_path(path) as temporary:
            pq.write_table(table, temporary)

    @classmethod
    def load(cls, path: Path | str) -> "Predictions":
        """Read predictions that `save` wrote. Raises StoreError where the file is missing or something else."""
        try:
            table = pq.read_table(path)
            notes = json.loads(table.schema.metadata[b"gilt predictions"])
            calibration = Calibration(**notes["calibration"]) if "calibration" in notes else None
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
            reason = "gilt evaluate -o writes such a file" if isinstance(error, KeyError | TypeError) else error
            raise StoreError(f"{path} holds no predictions: {reason}") from None
        logits = np.column_stack([table[f"logit_{name}"].to_numpy() for name in notes["classes"]])
        return cls(table["path"].to_pylist(), table["origin"].to_pylist(), table["class"].to_pylist(), logits,
                   table["error"].to_pylist(), tuple(notes["classes"]), notes["target"], calibration)
