"""Join tables of several folders into one: photographs of here and generated images of there, or two collections."""
import logging
import os
import posixpath
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from gilt.data.albums import link_albums
from gilt.data.seen import SAW
from gilt.data.table import ImageTable
from gilt.errors import TableError, counted

log = logging.getLogger(__name__)
_SAYS = ("class", "origin", "split", "sha256", "source", "excluded")  # what two rows of one file may not say differently


def join(tables: Sequence[ImageTable]) -> ImageTable:
    """Return the rows of all tables, their paths from the nearest folder that holds all roots.

    Sources are looked up over the whole: an image that one table says was made from a photograph of another follows that one
    into its split. A file that several tables hold is one row. Names of groups (of near-duplicates) are kept apart.
    Raises TableError for no table, folders without a common root, and a file of which two tables say different things.
    """
    if not tables:
        raise TableError("there is no table to join")
    try:
        root = Path(os.path.commonpath([table.root for table in tables]))
    except ValueError:
        raise TableError(f"{tables[0].root} and {tables[-1].root} lie on different drives: move one beside the other") from None
    apart = _groups_clash(tables)
    frames = [_under(root, table, number=number if apart else None) for number, table in enumerate(tables, 1)]
    frame = pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)
    frame = _once(frame)
    open_ends = frame["source"].notna() & ~frame["source"].isin(set(frame["path"]))
    return link_albums(ImageTable(frame, root), frozenset(frame["path"][open_ends]))


def _under(root: Path, table: ImageTable, *, number: int | None) -> pd.DataFrame:
    """Return a table's rows with paths from `root`: of the images, of what they were made from, and of what was seen."""
    folder = Path(os.path.relpath(table.root, root)).as_posix()
    frame = table.frame.copy()
    own = set(frame["path"])
    frame["path"] = [posixpath.normpath(posixpath.join(folder, path)) for path in frame["path"]]
    frame["source"] = [posixpath.normpath(posixpath.join(folder, text)) if text in own else text for text in frame["source"]]
    if SAW in frame:
        frame[SAW] = [posixpath.normpath(posixpath.join(folder, text)) if isinstance(text, str) and text else None
                      for text in frame[SAW]]
    if number is not None:
        frame["group"] = [None if name is None else f"{number}: {name}" for name in frame["group"]]
    return frame


def _groups_clash(tables: Sequence[ImageTable]) -> bool:
    """Tell whether a name of a group stands in more than one table."""
    seen: set[str] = set()
    for table in tables:
        names = set(table.frame["group"].dropna())
        if names & seen:
            return True
        seen |= names
    return False


def _once(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with one row a path. Raises TableError where two rows of a path differ in what they say."""
    again = frame["path"].duplicated()
    if not again.any():
        return frame
    twice = frame[frame["path"].duplicated(keep=False)]
    differing = twice.groupby("path")[list(_SAYS)].nunique(dropna=False) > 1
    for column in _SAYS:
        if differing[column].any():
            path = differing.index[differing[column]][0]
            values = list(twice[column][twice["path"] == path])
            raise TableError(f"two of the tables hold {path}, and say {column}={values[0]!r} and {values[1]!r} of it: "
                             "leave it out of one of them, or deal the rows after the join")
    log.info("in several tables, and once in the joined one: %s", counted(int(again.sum()), "image"))
    return frame[~again]
