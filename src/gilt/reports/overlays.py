"""Pictures of explanations: an image, its map and both laid over each other, side by side; and the list of them as CSV."""
import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gilt.evaluation.explanation import Explained, Explanation
from gilt.files import write_bytes, write_text

SIDE = 224  # pixels: smaller images are shown enlarged by a whole number, pixel by pixel
LARGEST = 448
GAP, LINE, PAPER, INK, FADED = 6, 16, "white", "#1a202c", "#5a6472"
COLUMNS = ("path", "true", "predicted", "uncertain", "p", "explained", "method", "layer", "centre", "inside", "mask_area",
           "picture", "error")
_HEAT = "inferno"


def heat(map_HW: np.ndarray) -> np.ndarray:
    """Return a map in [0, 1] in colours, uint8 (H, W, 3): dark is nothing, bright yellow the most."""
    return (matplotlib.colormaps[_HEAT](np.clip(map_HW.astype(float), 0, 1))[..., :3] * 255).astype(np.uint8)


def overlay(pixels_HWC: np.ndarray, map_HW: np.ndarray) -> np.ndarray:
    """Return the image, in grey, with the map's colours over it where the map is high: uint8 (H, W, 3)."""
    grey = np.repeat(pixels_HWC.mean(2, keepdims=True), 3, 2)
    weight = 0.15 + 0.6 * np.clip(map_HW.astype(float), 0, 1)[..., None]
    return (grey * (1 - weight) + heat(map_HW) * weight).round().astype(np.uint8)


def triptych(one: Explained, *, side: int = SIDE, caption: bool = True) -> Image.Image:
    """Return image, map and overlay side by side, each about `side` pixels, with what was said of it below.

    Raises ValueError for an explanation whose map was not kept.
    """
    if one.map is None or one.pixels is None:
        raise ValueError(f"the map of {one.path} was not kept")
    size = len(one.pixels)
    shown = size * max(1, round(side / size)) if size <= side else min(size, LARGEST)
    parts = (one.pixels, heat(one.map), overlay(one.pixels, one.map))
    sheet = Image.new("RGB", (3 * shown + 2 * GAP, shown + (2 * LINE + GAP) * caption), PAPER)
    way = Image.Resampling.NEAREST if shown >= size else Image.Resampling.BILINEAR
    for i, part in enumerate(parts):
        sheet.paste(Image.fromarray(part).resize((shown, shown), way), (i * (shown + GAP), 0))
    if caption:
        draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
        draw.text((2, shown + 3), _fitting(one.path, font, sheet.width), fill=FADED, font=font)
        draw.text((2, shown + 3 + LINE), _fitting(says(one), font, sheet.width), fill=INK, font=font)
    return sheet


def says(one: Explained) -> str:
    """Return what was said of an image in one line: truth, verdict, and whose evidence the map shows."""
    truth = f"is {one.true}, " if one.true is not None else ""
    empty = "; the map is empty" if one.centre is None else ""
    unsure = ", but uncertain" if one.uncertain else ""
    return f"{truth}called {one.predicted}{unsure}; evidence for {one.explained} (p = {one.p:.3f}){empty}"


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Return a text that fits a width, its beginning left out where it does not; letters without a picture as "?"."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    while font.getlength(text) > width - 4 and len(text) > 4:
        text = f"…{text[4:]}"
    return text


class OverlayFolder:
    """Writes one PNG an image into a folder, under names of its own, and at the end the list of all."""

    def __init__(self, folder: Path | str) -> None:
        self.folder, self.names = Path(folder), {}

    def add(self, one: Explained) -> None:
        """Write an image's three pictures."""
        buffer = io.BytesIO()
        triptych(one).save(buffer, "PNG")
        write_bytes(self.folder / self._name(one.path), buffer.getvalue())

    def _name(self, path: str) -> str:
        """Return a file name that no other image has: its path with "_" between its parts, or its name alone."""
        parts = Path(path)
        stem = parts.stem if parts.is_absolute() else str(parts.with_suffix(""))
        stem = re.sub(r"[^\w.-]+", "_", stem).strip("._")[-120:] or "image"
        taken, name, number = set(self.names.values()), f"{stem}.png", 2
        while name in taken:
            name, number = f"{stem}-{number}.png", number + 1
        self.names[path] = name
        return name

    def finish(self, found: Explanation) -> Path:
        """Write explained.csv, a line an image, unreadable ones included, and return its path."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(COLUMNS)
        for one in found.images:
            numbers = ["" if value is None else f"{value:.6f}" for value in (one.centre, one.inside, one.area)]
            unsure = {None: "", True: "yes", False: "no"}[one.uncertain]
            writer.writerow([one.path, one.true or "", one.predicted or "", unsure, "" if one.p is None else f"{one.p:.6f}",
                             one.explained or "", found.method, found.layer, *numbers, self.names.get(one.path, ""),
                             one.error or ""])
        path = self.folder / "explained.csv"
        write_text(path, buffer.getvalue())
        return path


def chosen_pictures(images: Sequence[Explained], most: int) -> list[Explained]:
    """Return at most `most` images whose maps were kept: half of them wrong ones, where there are as many."""
    kept = [one for one in images if one.map is not None]
    wrong = [one for one in kept if one.true is not None and one.predicted != one.true]
    right = [one for one in kept if one.true is None or one.predicted == one.true]
    count = min(len(wrong), max(most // 2, most - len(right)))
    return [*right[:most - count], *wrong[:count]]
