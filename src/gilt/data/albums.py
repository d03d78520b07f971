"""Albums: folders of made images whose manifest says class, origin, source and what the generator saw.

A folder is an album where it holds a `manifest.csv` whose first columns are COLUMNS, as `gilt generate` writes it. Albums are
read by their manifests wherever they lie in a collection; a layout reads the other images.
"""
import csv
import io
import logging
import posixpath
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import pandas as pd

from gilt.config import REAL
from gilt.data.containers import is_there, read_image
from gilt.data.layouts import split_of
from gilt.data.listings import MISSING, extras
from gilt.data.sheets import Names, joined, numbers
from gilt.data.table import ImageTable
from gilt.data.tree import Tree, facts_of_files
from gilt.errors import ImageError, LayoutError, TableError, counted

log = logging.getLogger(__name__)
MANIFEST, SAW = "manifest.csv", "saw.txt"
COLUMNS = ("path", "class", "origin", "split", "source", "saw", "seed", "prompt", "negative_prompt")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def albums(tree: Tree, constants: Mapping[str, str]) -> tuple[Tree, pd.DataFrame | None]:
    """Return (the tree without its albums, the rows that their manifests say, or None where there is no album).

    `constants` fill the splits that the manifests leave empty. Images in an album that no row names were not finished: they are
    counted in a warning. Raises TableError for a broken manifest, LayoutError for a split that is none.
    """
    sheets = {posixpath.dirname(path): path for path in tree.sheets if posixpath.basename(path) == MANIFEST}
    read = {folder: rows for folder in sorted(sheets) if (rows := _manifest(tree.root, sheets[folder])) is not None}
    if not read:
        return tree, None
    of = {image: folder for image in tree.images if (folder := _album_of(image, read)) is not None}
    frames = [_placed(folder, rows, of) for folder, rows in read.items() if len(rows)]
    made = pd.concat(frames, ignore_index=True) if frames else None
    unfinished = sorted(set(of) - set([] if made is None else made["path"]))
    if unfinished:
        log.warning("%s in folders of made images without a row in the manifest, left out: a run that was stopped leaves them, "
                    "and going on with it makes them anew; such as %s", counted(len(unfinished), "image"), unfinished[0])
    if made is not None:
        made["split"] = [(text or constants.get("split")) and split_of(text or constants["split"], path)
                         for text, path in zip(made["split"], made["path"], strict=True)]
        log.info("%s read by the manifests of %s", counted(len(made), "made image"), counted(len(read), "folder"))
    return _without(tree, of, sheets, read), made


def beside(rows: pd.DataFrame | None, made: pd.DataFrame, tree: Tree) -> pd.DataFrame:
    """Return the other images' rows with those of albums below them."""
    if rows is None:
        return made
    if "modified" in rows:  # rows of Parquet files bring their own
        made["bytes"], made["modified"] = facts_of_files(tree, list(made["path"]))
    return pd.concat([rows, made], ignore_index=True)


def link_albums(table: ImageTable, paths: frozenset[str]) -> ImageTable:
    """Return the table with the sources of the albums' rows (`paths`) as paths: of photographs, or of translated images.

    A source is told by the SHA-256 of its content, or by a path. One that the table does not hold stays as it is: images made
    from the same photograph are known as such all the same.
    """
    frame = table.frame.copy()
    mine = frame["path"].isin(paths) & frame["source"].notna()
    if not mine.any():
        return table
    held = frame[frame["sha256"].notna()]
    held = held.iloc[(held["origin"] != REAL).to_numpy().argsort(kind="stable")].drop_duplicates("sha256")  # photographs first
    contents = dict(zip(held["sha256"], held["path"], strict=True))
    names = Names(list(frame["path"][~frame["path"].isin(paths)]))
    known = {text: _source(text, contents, names) for text in frame["source"][mine].unique()}
    lost = int(frame["source"][mine].map(known).isna().sum())
    if lost:
        log.warning("%s made from a photograph that is not in this table. Scan the folder that holds both, so that an image "
                    "follows its photograph into its split", counted(lost, "image"))
    frame.loc[mine, "source"] = [known[text] or text for text in frame["source"][mine]]
    return ImageTable(frame, table.root)


def _source(text: str, contents: Mapping[str, str], names: Names) -> str | None:
    if _SHA256.fullmatch(text):
        return contents.get(text)
    found = names.found(text, "")
    return found[0] if len(found) == 1 else None


def _manifest(root: Path, path: str) -> pd.DataFrame | None:
    """Return a manifest's rows as text, "" as None; None for a list of another kind. A torn last line is passed over."""
    try:
        data = read_image(root / path)
    except ImageError as error:
        raise TableError(str(error)) from None
    whole = data[:data.rfind(b"\n") + 1]
    if not whole.startswith(",".join(COLUMNS).encode()):
        return None
    try:
        header, *rows = csv.reader(io.StringIO(whole.decode(), newline=""))
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path} cannot be read as a manifest: {error}") from None
    if wrong := next((i for i, row in enumerate(rows, 2) if len(row) != len(header)), None):
        raise TableError(f"{path}, row {wrong}, has {len(rows[wrong - 2])} fields, its header {len(header)}: mend it, or let "
                         "the images be made anew in another folder")
    if len(set(header)) < len(header):
        raise TableError(f"{path} has two columns of one name: rename one")
    if len(whole) < len(data):
        log.warning("%s ends in a torn line, left out: going on with the run mends it", path)
    frame = pd.DataFrame(rows, columns=header, dtype=object)
    return frame.where(frame != "", None).drop_duplicates("path", keep="last", ignore_index=True)


def _placed(folder: str, rows: pd.DataFrame, of: Mapping[str, str]) -> pd.DataFrame:
    """Return an album's rows with paths from the root, and what else it says as further columns."""
    where = posixpath.join(folder, MANIFEST)
    for name in ("path", "class", "origin"):
        if rows[name].isna().any():
            raise LayoutError(f"{where}: row {int(rows[name].isna().idxmax()) + 2} says no {name}")
    for name in ("path", "saw"):
        if out := next((text for text in rows[name] if text and joined("", text).startswith(("../", "/"))), None):
            raise TableError(f"{where}: {name} {out!r} leads out of its folder")
    frame = rows[["class", "origin", "split", "source"]].copy()
    frame.insert(0, "path", [joined(folder, text) for text in rows["path"]])
    frame["saw"] = [text and joined(folder, text) for text in rows["saw"]]
    frame["excluded"] = [None if of.get(path) == folder else MISSING for path in frame["path"]]
    further = extras({name: list(rows[name]) for name in rows.columns}, {}, (*frame.columns, "saw"), where)
    for name, values in further.items():
        frame[name] = numbers(values)
    return frame


def _album_of(image: str, folders: Mapping[str, object]) -> str | None:
    """Return the nearest album that an image lies in, or None."""
    folder = posixpath.dirname(image)
    while folder not in folders:
        if not folder:
            return None
        folder = posixpath.dirname(folder)
    return folder


def _without(tree: Tree, of: Mapping[str, str], sheets: Mapping[str, str], read: Mapping[str, pd.DataFrame]) -> Tree:
    keep = [i for i, image in enumerate(tree.images) if image not in of]
    manifests = {sheets[folder] for folder in read}
    lists = Counter(PurePosixPath(name).suffix or name for folder, rows in read.items()
                    for name in rows["saw"].dropna().unique() if is_there(tree.root / folder / name))
    return Tree(tree.root, *([values[i] for i in keep] for values in (tree.images, tree.bytes, tree.modified)),
                sheets=[path for path in tree.sheets if path not in manifests], archives=tree.archives, parquets=tree.parquets,
                passed=tree.passed - lists)
