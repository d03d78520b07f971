"""The confusion matrix as inline SVG: sharp at any size, and readable from 2 to 100 classes.

Drawn without matplotlib: its pictures of 100 x 100 cells are either blurred or of ten thousand shapes.
"""
from collections.abc import Sequence
from html import escape

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex

MOST, SHOWN = 120, 100  # of more than MOST classes, the SHOWN with the lowest recall
LEVELS = 64  # shades: cells of one shade are one path
LABEL = 26  # letters of a class's name at most
_COLOURS = [to_hex(colour) for colour in colormaps["YlOrBr"](np.linspace(0, 0.92, LEVELS))]


def confusion_matrix(counts: np.ndarray, classes: Sequence[str], title: str, *, order: Sequence[int] | None = None) -> str:
    """Draw a confusion matrix, each row in parts of its true class, the classes in `order` (default: as they are).

    Up to 20 classes, cells hold their per cent. Beyond, shades grow with the square root of the part, so that a confusion of
    2 % is seen, and labels stand on both sides. Of more than MOST classes, the SHOWN with the lowest recall are drawn.
    """
    counts = np.asarray(counts)
    places = np.arange(len(classes)) if order is None else np.array(order)
    totals = counts.sum(1)
    if len(places) > MOST:
        recall = np.where(totals > 0, np.diag(counts) / np.maximum(totals, 1), 2.0)
        worst = set(np.argsort(recall, kind="stable")[:SHOWN].tolist())
        places = np.array([place for place in places if place in worst])
        title = f"{title}: the {SHOWN} of {len(classes):,} classes with the lowest recall"
    parts = (counts / np.maximum(totals, 1)[:, None])[np.ix_(places, places)]
    return _Matrix(parts, totals[places], [classes[place] for place in places]).svg(title)


class _Matrix:
    """The geometry of one picture, in pixels."""

    def __init__(self, parts: np.ndarray, totals: np.ndarray, names: Sequence[str]) -> None:
        self.parts, self.totals, self.many = parts, totals, len(names) > 20
        self.names = [_label(name) for name in names]
        self.cell = next((cell for most, cell in ((3, 64), (12, 40), (20, 32), (60, 15)) if len(names) <= most), 11)
        self.font = min(12.0, 0.86 * self.cell)
        self.margin = 26 + round(0.6 * self.font * max(len(name) for name in self.names))
        self.side = self.cell * len(names)

    def shade(self, part: float) -> int:
        return min(LEVELS - 1, int((part ** 0.5 if self.many else part) * LEVELS))

    def svg(self, title: str) -> str:
        left, top = self.margin, (24 if title else 0) + self.margin
        width = max(left + self.side + (self.margin if self.many else 12), left + 380)  # at least as wide as the legend
        height = top + self.side + (self.margin if self.many else 12) + 40
        drawn = [f'<text x="4" y="15" font-size="13" font-weight="600">{escape(title)}</text>' if title else "",
                 f'<g transform="translate({left},{top})">', *self.cells(), *self.grid(), *self.labels(), *self.numbers(),
                 "</g>", *self.legend(left, height - 26)]
        return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
                f'role="img" aria-label="{escape(title) or "Confusion matrix"}" font-family="system-ui, sans-serif" '
                f'font-size="{self.font:.1f}" fill="#1f2430">{"".join(drawn)}</svg>')

    def cells(self) -> list[str]:
        paths: dict[int, list[str]] = {}
        size = self.cell
        for i, j in zip(*np.nonzero(self.parts), strict=True):
            paths.setdefault(self.shade(self.parts[i, j]), []).append(f"M{size * j} {size * i}h{size}v{size}h-{size}z")
        empty = "".join(f"M0 {size * i}h{self.side}v{size}h-{self.side}z" for i in np.flatnonzero(self.totals == 0))
        return [f'<rect width="{self.side}" height="{self.side}" fill="#fff"/>', f'<path fill="#e6e6e6" d="{empty}"/>',
                *(f'<path fill="{_COLOURS[shade]}" d="{"".join(moves)}"/>' for shade, moves in sorted(paths.items()))]

    def grid(self) -> list[str]:
        every = 5 if self.many else 1
        lines = "".join(f"M{at} 0v{self.side}M0 {at}h{self.side}" for at in range(0, self.side + 1, every * self.cell))
        return [f'<path d="{lines}" fill="none" stroke="#d8d3c4" stroke-width="0.6"/>',
                f'<rect width="{self.side}" height="{self.side}" fill="none" stroke="#8a8f98"/>']

    def labels(self) -> list[str]:
        drawn, down, end = [], 0.35 * self.font, self.side + 5
        for i, name in enumerate(self.names):
            at = (i + 0.5) * self.cell + down
            drawn.append(f'<text x="-5" y="{at:.1f}" text-anchor="end">{name}</text>')
            drawn.append(f'<text transform="translate({at:.1f},-5)rotate(-90)">{name}</text>')
            if self.many:
                drawn.append(f'<text x="{end}" y="{at:.1f}">{name}</text>')
                drawn.append(f'<text transform="translate({at:.1f},{end})rotate(-90)" text-anchor="end">{name}</text>')
        axis = 'font-size="11" fill="#667" text-anchor="middle"'
        drawn.append(f'<text x="{self.side / 2}" y="{14 - self.margin}" {axis}>taken for</text>')
        drawn.append(f'<text transform="translate({14 - self.margin},{self.side / 2})rotate(-90)" {axis}>true class</text>')
        return drawn

    def numbers(self) -> list[str]:
        if self.many:
            return []
        return [f'<text x="{(j + 0.5) * self.cell}" y="{(i + 0.5) * self.cell + 4}" text-anchor="middle" font-size="11" '
                f'fill="{"#fff" if self.parts[i, j] > 0.55 else "#1f2430"}">{_percent(self.parts[i, j])}</text>'
                for i, j in zip(*np.nonzero(self.parts), strict=True)]

    def legend(self, x: int, y: int) -> list[str]:
        """Draw the shades with what they stand for, in per cent of the true class."""
        wide, ticks = 240, (0, 1, 5, 20, 50, 100) if self.many else (0, 25, 50, 75, 100)
        step = wide / LEVELS
        drawn = [f'<rect x="{x + i * step:.1f}" y="{y}" width="{step + 0.2:.1f}" height="9" fill="{colour}"/>'
                 for i, colour in enumerate(_COLOURS)]
        for tick in ticks:
            at = x + wide * ((tick / 100) ** 0.5 if self.many else tick / 100)
            drawn.append(f'<text x="{at:.1f}" y="{y + 21}" font-size="10" text-anchor="middle">{tick}</text>')
        return [*drawn, f'<text x="{x + wide + 14}" y="{y + 9}" font-size="10" fill="#667">% of the true class</text>']


def _percent(part: float) -> str:
    return "<1" if part < 0.005 else f"{100 * part:.0f}"


def _label(name: str) -> str:
    text = "".join(letter if letter.isprintable() else "\ufffd" for letter in str(name))
    return escape(text if len(text) <= LABEL else text[:LABEL - 1] + "…")
