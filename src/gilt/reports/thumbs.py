"""Thumbnails: images made small, as pictures and as data addresses that a page can hold.

An image that is gone or broken becomes a grey tile that says so: a page is never short of a picture without a word.
"""
import base64
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.sax.saxutils import escape

from PIL import Image

from gilt.data.containers import is_there, reading_order, reads_forward
from gilt.data.facts import reduced
from gilt.data.pixels import UNREADABLE, open_image, why

SIDE = 96  # pixels of a thumbnail's longer side
QUALITY = 82
_GREY = "data:image/svg+xml;base64,"


def thumbnail(path: Path, side: int = SIDE) -> Image.Image | None:
    """Return an image upright, as RGB, at most `side` pixels wide and high; None where it is gone or cannot be read.

    A smaller image keeps its size. `path` may lead into a zip, tar or Parquet file.
    """
    found = _read(path, side)
    return None if isinstance(found, str) else found


def thumbnail_uri(path: Path, side: int = SIDE) -> str:
    """Return `thumbnail` as a data address: a JPEG, or a grey SVG tile that says why there is none (`is_placeholder`)."""
    found = _read(path, side)
    if isinstance(found, str):
        return _placeholder("unreadable" if is_there(path) else "not there", found, side)
    buffer = io.BytesIO()
    found.save(buffer, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def thumbnails(paths: Sequence[Path], side: int = SIDE) -> list[Image.Image | None]:
    """Return `thumbnail` of each path, read in parallel."""
    return _each(thumbnail, paths, side)


def thumbnail_uris(paths: Sequence[Path], side: int = SIDE) -> list[str]:
    """Return `thumbnail_uri` of each path, read in parallel."""
    return _each(thumbnail_uri, paths, side)


def is_placeholder(uri: str) -> bool:
    """Tell whether a data address of `thumbnail_uri` stands for an image that is gone or cannot be read."""
    return uri.startswith(_GREY)


def _each(make, paths: Sequence[Path], side: int) -> list:
    """Return make(path, side) of each path, in their order; a container is read from its front to its end."""
    order = reading_order(paths)
    result: list = [None] * len(paths)
    alone = any(reads_forward(folder / "x") for folder in {path.parent for path in paths})
    with ThreadPoolExecutor(1 if alone else os.cpu_count() or 1) as pool:
        for i, made in zip(order, pool.map(lambda i: make(paths[i], side), order), strict=True):
            result[i] = made
    return result


def _read(path: Path, side: int) -> Image.Image | str:
    """Return the reduced image, or why there is none."""
    try:
        with open_image(path) as image:
            return reduced(image, side)
    except UNREADABLE as error:
        return why(error)


def _placeholder(word: str, reason: str, side: int) -> str:
    text = escape("".join(letter if letter.isprintable() else "?" for letter in reason), {'"': "&quot;"})
    drawn = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{side}" height="{side}" viewBox="0 0 96 96" role="img" '
             f'aria-label="{text}"><title>{text}</title><rect width="96" height="96" fill="#e2e2e2"/><text x="48" y="52" '
             f'font-family="sans-serif" font-size="13" fill="#667" text-anchor="middle">{word}</text></svg>')
    return _GREY + base64.b64encode(drawn.encode()).decode()
