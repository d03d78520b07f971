"""Sources: where the real images of a table come from, so that a detector's false positives can be counted by it."""
from collections.abc import Sequence
from pathlib import PurePosixPath

from gilt.config import REAL
from gilt.data.table import ImageTable
from gilt.errors import TableError, listed, near

NAMED = ("collection", "dataset", "camera", "site")  # columns that say so by their name, the first that is there
MOST = 50  # folders that are sources; more are rather the names of classes, or of persons


def real_sources(table: ImageTable, by: str | None = None) -> tuple[str, list[str | None]] | None:
    """Return (what it is, each row's source): a column of the table, or the first folder in which the real images differ.

    `by` names the column; None takes the first of NAMED, else the folder. None is returned where all real images are of one
    source, or each of its own. Raises TableError for a column that is not there, or is the same for all real images.
    """
    frame = table.frame
    if by is not None and by not in frame.columns:
        raise TableError(f"no column {by!r} to count false positives by (has: {listed(frame.columns, most=20)})."
                         f"{near(by, frame.columns)}")
    real = (frame["origin"] == REAL).to_numpy()
    names = [by] if by else [name for name in NAMED if name in frame.columns]
    for name in names:
        values = [None if value is None or value != value else str(value) for value in frame[name]]
        if len(_kinds(values, real)) > 1:
            return name, values
        if by:
            raise TableError(f"the column {by!r} is the same for all real images: it tells no sources apart")
    folders = [PurePosixPath(path).parts[:-1] for path in frame["path"]]
    for level in range(min((len(parts) for parts, own in zip(folders, real, strict=True) if own), default=0)):
        values = [parts[level] if level < len(parts) else None for parts in folders]
        kinds = _kinds(values, real)
        if len(kinds) > 1:
            return ("folder", values) if len(kinds) <= MOST else None
    return None


def _kinds(values: Sequence[str | None], real: Sequence[bool]) -> set[str | None]:
    return {value for value, own in zip(values, real, strict=True) if own}
