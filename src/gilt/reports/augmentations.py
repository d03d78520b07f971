"""A picture of augmentations: what each does to images, as a training step would do it."""
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gilt.config import Preprocessing
from gilt.data.order import ordered
from gilt.data.pixels import decode
from gilt.data.sample import sample_image
from gilt.data.table import ImageTable
from gilt.errors import ConfigError, TableError
from gilt.files import write_bytes
from gilt.training import AUGMENTATIONS, strength_of

DRAWS = {1: 6, 2: 3, 3: 2}  # images that are shown -> draws of each
SIZES = range(8, 513)
SMALLEST = 96  # pixels of a tile's side: smaller images are shown enlarged, pixel by pixel
BLENDS = ("mixup", "cutmix")
INK, FADED, PAPER = "#1a202c", "#5a6472", "white"
TEXT, GAP, EDGE, LINE, HEAD = 232, 4, 16, 15, 20  # pixels: the names' width, between tiles, round the picture, lines of text
Pictures = dict[str, np.ndarray]  # label -> uint8 (H, W, 3)


def augment_preview(images: ImageTable | Path | str | Iterable[Path | str] = (), *, to: Path | str, augment: Sequence[str] = (),
                    seed: int = 0, size: int = 128) -> Path:
    """Draw what augmentations do to `images` into the PNG file `to`, and return its path.

    `images`: up to three files, or a table, of which two training rows are drawn; none: two of the embedded sample.
    `augment`: as in `TrainConfig.augment`, a row each and one for all together; none: every augmentation there is. Images
    are `size` x `size` pixels, as a network of that input would see them. Rows of `mixup` and `cutmix` write the soft labels.
    Raises ConfigError (a name, a size, an ending), TableError (a table without images) and ImageError.
    """
    to = Path(to)
    if to.suffix.lower() != ".png":
        raise ConfigError(f"{to}: the preview is a PNG file: name it {to.with_suffix('.png').name}")
    if size not in SIZES:
        raise ConfigError(f"size must be {SIZES[0]} to {SIZES[-1]} pixels, not {size}")
    steps = _steps(augment)
    chosen = _of_table(images, seed) if isinstance(images, ImageTable) else _of_files(images)
    pictures = {name: decode(path, Preprocessing(size=size)) for name, path in (chosen or _of_sample()).items()}
    rows = [([step], *_words(step)) for step in steps]
    if len(augment) > 1:
        rows.append((steps, "together", "all of them, in this order, as a training step does it"))
    buffer = io.BytesIO()
    _sheet(rows, pictures, seed).save(buffer, "PNG", optimize=True)
    write_bytes(to, buffer.getvalue())
    return to


def _steps(augment: Sequence[str]) -> list[str]:
    try:
        return [f"{name}={strength:g}" for name, strength in map(strength_of, augment or AUGMENTATIONS)]
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _words(step: str) -> tuple[str, str]:
    name, strength = strength_of(step)
    return f"{name} = {strength:g}", AUGMENTATIONS[name].meaning


def _of_table(table: ImageTable, seed: int) -> dict[str, Path]:
    """Return label -> path of two training rows, of different classes where there are such."""
    rows = table.usable
    rows = rows if rows.frame["split"].isna().all() else rows.where(split="train")
    if not len(rows):
        raise TableError(f"the table of {table.root} has no training rows that are not left out: there is nothing to draw")
    rows = ordered(rows, seed)
    names = rows.frame["class"].fillna("no class").astype(str)
    chosen: dict[str, Path] = {}
    for name, path in zip(names, rows.paths, strict=True):
        chosen.setdefault(name, path)
    if len(chosen) == 1 and len(rows) > 1:
        chosen |= {f"{names.iloc[1]} (another)": rows.paths[1]}
    return dict(list(chosen.items())[:2])


def _of_files(images: Path | str | Iterable[Path | str]) -> dict[str, Path]:
    """Return label -> path; files of the same name are told apart by their folder, or their whole path."""
    paths = [Path(image) for image in ([images] if isinstance(images, (str, Path)) else images)]
    if len(paths) > max(DRAWS):
        raise ConfigError(f"the preview has room for {max(DRAWS)} images, not {len(paths)}: name fewer, or a table")
    for short in (lambda path: path.stem, lambda path: f"{path.parent.name}/{path.stem}", str):
        named = {short(path): path for path in paths}
        if len(named) == len(paths):
            break
    return named


def _of_sample() -> dict[str, bytes]:
    return {name: sample_image(f"real/train/{name}/000.png") for name in ("Sneaker", "Shirt")}


def _sheet(rows: Sequence[tuple[list[str], str, str]], pictures: Pictures, seed: int) -> Image.Image:
    """Return the whole picture: a row an augmentation, its name on the left, then each image followed by its draws."""
    side = len(next(iter(pictures.values())))
    tile = side * max(1, -(-SMALLEST // side))
    shown = [_tiles(steps, pictures, seed) for steps, _, _ in rows]
    captioned = [any(caption for _, caption in tiles) for tiles in shown]
    columns = max(map(len, shown))
    width = 2 * EDGE + TEXT + columns * (tile + GAP) + (len(pictures) - 1) * EDGE
    heights = [tile + GAP + 2 * LINE * has_text for has_text in captioned]
    sheet = Image.new("RGB", (width, 2 * EDGE + HEAD + sum(heights)), PAPER)

    def place(i: int) -> int:
        return EDGE + TEXT + i * (tile + GAP) + i // (columns // len(pictures)) * EDGE

    for i in range(0, columns, columns // len(pictures)):
        _lines(sheet, (place(i), EDGE), "image", tile, 13, FADED)
        _lines(sheet, (place(i + 1), EDGE), "what training may see of it", 2 * tile, 13, FADED)
    y = EDGE + HEAD
    for (_, title, meaning), tiles, height in zip(rows, shown, heights, strict=True):
        _describe(sheet, y, title, meaning)
        for i, (pixels, caption) in enumerate(tiles):
            sheet.paste(Image.fromarray(pixels).resize((tile, tile), Image.Resampling.NEAREST), (place(i), y))
            _lines(sheet, (place(i), y + tile), caption, tile, 12, FADED)
        y += height
    return sheet


def _tiles(steps: list[str], pictures: Pictures, seed: int) -> list[tuple[np.ndarray, str]]:
    """Return (pixels, caption) of a row, from left to right; blends have their soft label as caption.

    A lone image is blended with one of the sample's, which then takes the place of the first draw.
    """
    from gilt.engine.augment import augmented

    each, shown = DRAWS[len(pictures)], list(pictures)
    blends = any(strength_of(step)[0] in BLENDS for step in steps)
    if blends and len(pictures) == 1:
        name, data = next(iter(_of_sample().items()))
        side = len(next(iter(pictures.values())))
        pictures = pictures | {f"{name} (sample)": decode(data, Preprocessing(size=side))}
    names, batch = list(pictures), np.stack([*pictures.values()] * each)
    labels = list(range(len(names))) * each
    drawn, targets = augmented(batch, labels, steps, seed=seed, classes=len(names))
    tiles = []
    for i in range(len(shown)):
        own = [(drawn[j], _label(targets[j], names, i) if blends else "") for j in range(i, len(batch), len(names))]
        first = [(pictures[name], name if blends else "") for name in ([names[i]] if len(shown) > 1 else names)]
        tiles += (first + own)[:each + 1]
    return tiles


def _label(parts_C: np.ndarray, names: Sequence[str], own: int) -> str:
    """Return a soft label as text, a class a line, that of the image itself first."""
    order = [own, *(c for c in range(len(names)) if c != own)]
    return "\n".join(f"{parts_C[c]:.2f} {names[c]}" for c in order if c == own or parts_C[c] >= 0.005)


def _describe(sheet: Image.Image, y: int, title: str, meaning: str) -> None:
    """Write a row's name and meaning on its left."""
    font = ImageFont.load_default(13)
    lines, line = [], ""
    for word in meaning.split():
        if font.getlength(f"{line} {word}") > TEXT - EDGE:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    _lines(sheet, (EDGE, y - 2), title, TEXT, 17, INK)
    _lines(sheet, (EDGE, y + 20), "\n".join([*lines, line]), TEXT, 13, FADED)


def _lines(sheet: Image.Image, place: tuple[int, int], text: str, width: int, size: int, colour: str) -> None:
    """Write lines of text, each cut to `width` pixels."""
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size)
    for i, line in enumerate(text.splitlines()):
        if font.getlength(line) > width:
            while line and font.getlength(line + "...") > width:
                line = line[:-1]
            line += "..."
        draw.text((place[0], place[1] + i * (size + 3)), line, fill=colour, font=font)
