"""A picture in the terminal: thumbnails drawn with half blocks, two pixels a character."""
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageOps
from rich.console import Console
from rich.style import Style
from rich.text import Text

from gilt.cli.show import plain
from gilt.reports.thumbs import thumbnails

LARGEST, SMALLEST, LABEL = 24, 14, 14  # pixels of a tile's side, characters of a label


def can_draw(console: Console) -> bool:
    """Tell whether pictures make sense on a console: a terminal with colours that can write half blocks."""
    return (console.is_terminal and console.color_system not in (None, "standard", "windows") and not console.no_color
            and console.encoding.lower().startswith("utf"))


def draw(console: Console, rows: Mapping[str, Mapping[str, Sequence[Path]]], origins: Sequence[str]) -> tuple[int, int, int]:
    """Draw sample images, a class a row and an origin a column, as many and as large as the width allows.

    Returns how many origins had room, how many images were drawn, and how many of those are grey because they are gone or
    cannot be read.
    """
    origins = origins[:max(1, (console.width - LABEL) // (SMALLEST + 2))]
    room = (console.width - LABEL) // len(origins) - 1
    most = max((len(by.get(origin, ())) for by in rows.values() for origin in origins), default=0)
    each = max(1, min(most, room // (SMALLEST + 1)))
    side = max(SMALLEST, min(LARGEST, room // each - 1)) // 2 * 2
    paths = [path for by in rows.values() for origin in origins for path in by.get(origin, ())[:each]]
    tiles = thumbnails(paths, 2 * side)
    waiting = iter(tiles)
    wide = each * (side + 1)
    console.print(Text(" " * LABEL + " ".join(_fitted(origin, wide) for origin in origins), style="bold"))
    for name, by in rows.items():
        drawn = [[_tile(next(waiting), side) for _ in by.get(origin, ())[:each]] for origin in origins]
        for y in range(0, side, 2):
            line = Text(_fitted(name, LABEL - 1) + " " if y == 0 else " " * LABEL)
            for pictures in drawn:
                for picture in pictures:
                    line.append_text(_half_blocks(picture, y)).append(" ")
                line.append(" " * (wide - len(pictures) * (side + 1) + 1))
            line.rstrip()
            console.print(line, no_wrap=True, crop=True)
        console.print()
    return len(origins), len(tiles), sum(tile is None for tile in tiles)


def _tile(image: Image.Image | None, side: int) -> Image.Image:
    """Return the middle square of an image at `side` pixels; a grey one for None."""
    return Image.new("RGB", (side, side), "#888888") if image is None else ImageOps.fit(image, (side, side))


def _half_blocks(image: Image.Image, y: int) -> Text:
    text = Text()
    for x in range(image.width):
        upper, lower = ("#{:02x}{:02x}{:02x}".format(*image.getpixel((x, y + i))) for i in (0, 1))
        text.append("▀", Style(color=upper, bgcolor=lower))
    return text


def _fitted(text: str, width: int) -> str:
    """Return a text as exactly `width` characters."""
    text = plain(text)
    return text.ljust(width) if len(text) <= width else text[:width - 1] + "…"
