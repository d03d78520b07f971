"""`Album`: a folder of made images with its manifest, that is filled in pieces and read by `gilt scan`.

    FOLDER/{class}/000000.png
    FOLDER/manifest.csv     path, class, origin, split, source, saw, seed, prompt, negative_prompt, and further columns
    FOLDER/saw.txt          where known: the SHA-256 of every image that the generator was trained on, one a line

An image is written before its row. A row that a kill tore is cut off when the album is opened again, and its image made anew.
"""
import csv
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from gilt.config import REAL
from gilt.data.albums import COLUMNS, MANIFEST, SAW
from gilt.errors import ConfigError, StoreError, listed
from gilt.files import atomic_path, write_text, writing


@dataclass(frozen=True)
class Made:
    """Where the making of images stands: the argument of `progress`; `left` in seconds."""

    done: int
    images: int
    images_per_second: float
    left: float


class Album:
    """The made images of one generator in one folder: `origin` is its name, `further` are columns beside COLUMNS.

    `rows` holds the manifest, path -> row. Raises ConfigError for an origin that no generator can have, StoreError for a
    folder that holds something else, or images of another origin or with other columns.
    """

    def __init__(self, folder: Path | str, origin: str, *, further: Iterable[str] = ()) -> None:
        if not origin.strip() or origin == REAL:
            raise ConfigError(f"the origin of made images is their generator's name, not {origin!r}")
        self.folder, self.origin = Path(folder), origin
        self.columns = (*COLUMNS, *further)
        self.saw = SAW if (self.folder / SAW).exists() else ""
        self.rows = self._opened()

    def path(self, class_name: str, number: int) -> str:
        """Return where image `number` of a class lies, under the folder. Raises ConfigError for a name that is no folder's."""
        if not class_name or class_name.startswith(".") or set(class_name) & set('/\\\0\n\r') or len(class_name) > 200:
            raise ConfigError(f"class {class_name!r} cannot be the name of a folder: give it another one, as in "
                              "--set 'classes={name = [\"its class\"]}'")
        return f"{class_name}/{number:06d}.png"

    def has(self, class_name: str, number: int) -> bool:
        """Tell whether an image is made already: its row is in the manifest, and its file is there."""
        path = self.path(class_name, number)
        return path in self.rows and (self.folder / path).is_file()

    def add(self, image: Image.Image | np.ndarray, class_name: str, number: int, **facts: object) -> Path:
        """Write an image (Pillow, or uint8 (H, W, 3)) and its row; `facts` are further columns. Return the image's path."""
        unknown = sorted(set(facts) - set(self.columns))
        if unknown:
            raise ConfigError(f"the manifest of {self.folder} has no column {unknown[0]!r} (has: {listed(self.columns)})")
        path = self.path(class_name, number)
        with atomic_path(self.folder / path) as temporary:
            (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(temporary, "PNG")
        row = dict.fromkeys(self.columns, "") | {"path": path, "class": class_name, "origin": self.origin, "saw": self.saw}
        row |= {name: " ".join(str(value).split()) for name, value in facts.items() if value is not None}
        with writing(self.folder / MANIFEST), (self.folder / MANIFEST).open("a", newline="") as file:
            file.write(_line(row[name] for name in self.columns))
        self.rows[path] = row
        return self.folder / path

    def note_seen(self, hashes: Iterable[str]) -> None:
        """Write the SHA-256 of every image that the generator was trained on; rows that are added from now on name the file."""
        write_text(self.folder / SAW, "".join(f"{digest}\n" for digest in sorted(set(hashes))))
        self.saw = SAW

    def _opened(self) -> dict[str, dict[str, str]]:
        """Return the rows that are there, after cutting off a torn end; write the manifest's head where there is none."""
        file = self.folder / MANIFEST
        if not file.exists():
            there = self.folder.exists()  # what a killed writer left is hidden
            if there and (not self.folder.is_dir() or any(item.name[0] != "." for item in self.folder.iterdir())):
                raise StoreError(f"{self.folder} holds something else than made images: name a new folder")
            write_text(file, _line(self.columns))
            return {}
        data = file.read_bytes()
        whole = data[:data.rfind(b"\n") + 1]
        if len(whole) < len(data):  # a killed writer's last row
            with writing(file):
                os.truncate(file, len(whole))
        try:
            reader = csv.DictReader(io.StringIO(whole.decode(), newline=""))
            rows, columns = {row["path"]: row for row in reader}, tuple(reader.fieldnames or ())
        except (UnicodeDecodeError, KeyError, csv.Error) as error:
            raise StoreError(f"{file} is no manifest of gilt's ({error}): name another folder") from None
        if columns != self.columns:
            raise StoreError(f"{file} has other columns ({listed(columns)}) than these images need ({listed(self.columns)}): "
                             "name another folder")
        self._check(rows)
        return rows

    def _check(self, rows: Mapping[str, Mapping[str, str]]) -> None:
        strange = next((row["origin"] for row in rows.values() if row["origin"] != self.origin), None)
        if strange is not None:
            raise StoreError(f"{self.folder} holds images of {strange!r}, not of {self.origin!r}: name another folder")


def _line(values: Iterable[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(values)
    return buffer.getvalue()
