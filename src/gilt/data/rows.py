"""Rows: Parquet files whose rows hold images, as Hugging Face writes them; labels are named by the file's own schema."""
import json
import logging
import posixpath
from typing import Any

import pandas as pd
import pyarrow as pa

from gilt.data.archives import BROKEN, ParquetFile, row_name
from gilt.data.containers import opened
from gilt.data.layouts import is_split, split_in
from gilt.data.listings import CLASSES, Hints, extras
from gilt.data.tree import Tree
from gilt.errors import TableError, listed, near

log = logging.getLogger(__name__)


def huggingface(tree: Tree, hints: Hints) -> pd.DataFrame:
    """Read every Parquet file that holds images. Raises TableError where none does, or a named column is in none."""
    frames, unfit, names = [], [], set()
    for path in tree.parquets:
        file = opened(tree.root / path if path else tree.root)
        assert isinstance(file, ParquetFile)
        if file.columns:
            frames.append(_rows(tree, path, file, hints))
            names |= set(file.schema.names)
        else:
            unfit.append(f"{path or tree.root.name} (columns: {listed(file.schema.names)})")
    if not frames:
        if not unfit:
            raise TableError(f"no Parquet file under {tree.root}: layout 'huggingface' reads nothing else")
        raise TableError(f"no image in {tree.root}: {unfit[0]} holds no image column. An image column is binary, or a struct "
                         "with the field 'bytes'")
    if unfit:
        log.warning("%d Parquet files hold no images and were passed over, such as %s", len(unfit), unfit[0])
    unknown = [name for name in hints.columns if name not in hints.used]
    if unknown:
        wanted, has = hints.columns[unknown[0]], sorted(names)
        raise TableError(f"no column {wanted!r} in the Parquet files of {tree.root} (has: {listed(has)}).{near(wanted, has)}")
    return pd.concat(frames, ignore_index=True)


def _rows(tree: Tree, path: str, file: ParquetFile, hints: Hints) -> pd.DataFrame:
    """Return one file's rows: path, class by the label's name, origin, split, and its other columns of plain values."""
    names = file.schema.names
    images = _pick(hints, "path", names, file.columns[:1])
    if images not in file.columns:
        raise TableError(f"{path or tree.root.name}: column {images!r} holds no images (image columns: {listed(file.columns)})")
    if len(file.columns) > 1 and "path" not in hints.columns:
        log.warning("%s has the image columns %s: %s is read (--column path=COLUMN takes another)", path or tree.root.name,
                    listed(file.columns), images)
    features = _features(file.schema)
    labelled = [name for name, said in features.items() if isinstance(said, dict) and said.get("_type") == "ClassLabel"]
    columns = {"class": _pick(hints, "class", names, [*(n for n in CLASSES if n in labelled), *labelled, *CLASSES]),
               "origin": _pick(hints, "origin", names, ["origin"]), "split": _pick(hints, "split", names, ["split"])}
    own = {wanted: name for name, wanted in hints.columns.items() if name not in ("path", "class", "origin", "split")}
    hints.used |= {name for wanted, name in own.items() if wanted in names}
    values = _values(file, {name: features.get(name) for name in names if name not in file.columns})
    before = (f"{path}/" if path else "") + ("" if images == file.columns[0] else f"{images}/")
    nothing = [None] * file.rows
    rows: dict[str, Any] = {"path": [before + row_name(i) for i in range(file.rows)], "bytes": -1,
                            "modified": file.path.stat().st_mtime_ns}
    rows |= {name: values.get(column, nothing) if column else nothing for name, column in columns.items()}
    if columns["split"] is None:
        rows["split"] = [_split_of(path or tree.root.name)] * file.rows
    more = extras(values, own, [column for column in columns.values() if column], path or tree.root.name)
    return pd.DataFrame({**rows, **more}, dtype=object)


def _pick(hints: Hints, name: str, names: list[str], guesses: list[str]) -> str | None:
    """Return the user's column for `name`, or the first guess that is there; the user's may be in another file."""
    wanted = hints.columns.get(name)
    if wanted in names:
        hints.used.add(name)
    return (wanted if wanted in names else None) if wanted else next((guess for guess in guesses if guess in names), None)


def _features(schema: pa.Schema) -> dict[str, Any]:
    """Return Hugging Face's description of the columns, {} where there is none."""
    try:
        said = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = said["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def _values(file: ParquetFile, features: dict[str, Any]) -> dict[str, list[Any]]:
    """Return the plain columns as lists of text; a class label is its name, and -1 (unlabelled) nothing."""
    plain = [name for name in features if not pa.types.is_nested(file.schema.field(name).type)]
    if len(plain) < len(features):
        log.warning("%s: columns of lists or structs are not read: %s", file.path.name, listed(set(features) - set(plain)))
    try:
        table = file.handle.read(columns=plain)
    except BROKEN as error:
        raise TableError(f"{file.path} cannot be read: {str(error).splitlines()[0]}") from None
    result: dict[str, list[Any]] = {}
    for name in plain:
        values = table[name].to_pylist()
        said = features[name]
        labels = said.get("names") if isinstance(said, dict) and said.get("_type") == "ClassLabel" else None
        if labels:
            bad = next((value for value in values if value is not None and value >= len(labels)), None)
            if bad is not None:
                raise TableError(f"{file.path}: label {bad} in column {name!r} has no name (it names {len(labels)})")
            values = [None if value is None or value < 0 else str(labels[value]) for value in values]
        result[name] = [value if value is None or isinstance(value, str) else str(value) for value in values]
    return result


def _split_of(path: str) -> str | None:
    """Return the split that a file's name says, else the nearest folder's."""
    stem = posixpath.splitext(posixpath.basename(path))[0]
    return split_in(stem) or next((folder for folder in reversed(path.split("/")[:-1]) if is_split(folder)), None)
