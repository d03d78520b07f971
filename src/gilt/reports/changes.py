"""Which classes the arms helped and hurt, as one compact picture: a row an arm, a column a class, sharp at any size.

Drawn without matplotlib, like the confusion matrix: readable from 2 to 100 classes and from 2 to 40 arms.
"""
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_hex

from gilt.reports.plots import shortened
from gilt.studies.class_changes import ClassChange

LEVELS = 21  # shades on either side of no change
LEAST = 5.0  # points that the strongest shade stands for, at least: smaller changes stay pale
MOST = 120  # classes drawn; of more, those that changed most
_SHADES = [to_hex(colour) for colour in LinearSegmentedColormap.from_list(
    "hurt to helped", ["#b3470f", "#f1b48a", "#ffffff", "#9fc3e8", "#1c5aa0"])(np.linspace(0, 1, 2 * LEVELS + 1))]


def changes_picture(changes: Sequence[ClassChange], links: Mapping[str, str]) -> str:
    """Draw each arm's change of recall in points, class by class, the classes that were helped most on the left.

    A dot marks what differs by the p that is corrected for the arm's classes. `links`: arm -> its anchor. "" without changes.
    """
    if not changes:
        return ""
    arms, classes = list(dict.fromkeys(change.arm for change in changes)), ordered(changes)
    note = ""
    if len(classes) > MOST:
        kept = set(sorted(classes, key=lambda name: -_most(changes, name))[:MOST])
        note = f"the {MOST} of {len(classes):,} classes that changed most"
        classes = [name for name in classes if name in kept]
    return _Chart({(change.arm, change.class_): change for change in changes}, arms, classes, links).svg(note)


def ordered(changes: Sequence[ClassChange]) -> list[str]:
    """Return the classes by their mean change over the arms, the most helped first."""
    names = sorted({change.class_ for change in changes})
    means = {name: np.mean([change.difference for change in changes if change.class_ == name]) for name in names}
    return sorted(names, key=lambda name: -means[name])


def _most(changes: Sequence[ClassChange], name: str) -> float:
    return max(abs(change.difference) for change in changes if change.class_ == name)


class _Chart:
    """The geometry of one picture, in pixels."""

    def __init__(self, found: Mapping[tuple[str, str], ClassChange], arms: Sequence[str], classes: Sequence[str],
                 links: Mapping[str, str]) -> None:
        self.found, self.arms, self.classes, self.links = found, arms, classes, links
        self.wide = next((wide for most, wide in ((3, 70), (12, 46), (20, 36), (60, 15)) if len(classes) <= most), 10)
        self.high = 22 if self.wide > 30 else 15
        self.font = 11 if self.wide > 10 else 9
        self.left = 14 + round(6.4 * max(len(shortened(arm)) for arm in arms))
        self.top = 12 + round(0.62 * self.font * max(len(shortened(name)) for name in classes))
        self.full = max(LEAST, *(abs(change.difference) for change in found.values()))

    def svg(self, note: str) -> str:
        right = max(self.left + self.wide * len(self.classes), self.left + 400)
        below = self.top + self.high * len(self.arms)
        width, height = right + 16, below + 40
        drawn = [*self.names(), *self.cells(), *self.legend(self.left, below + 12, note)]
        return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
                f'role="img" aria-label="Change of recall by arm and class" font-family="system-ui, sans-serif" '
                f'font-size="{self.font}" fill="#1f2430">{"".join(drawn)}</svg>')

    def names(self) -> list[str]:
        drawn = []
        for i, arm in enumerate(self.arms):
            text = f'<text x="{self.left - 6}" y="{self.top + (i + 0.5) * self.high + 4:.1f}" text-anchor="end" ' \
                   f'font-size="11">{escape(shortened(arm))}</text>'
            drawn.append(f'<a href="#{self.links[arm]}">{text}</a>' if arm in self.links else text)
        for j, name in enumerate(self.classes):
            at = self.left + (j + 0.5) * self.wide + 0.35 * self.font
            drawn.append(f'<text transform="translate({at:.1f},{self.top - 5})rotate(-90)">{escape(shortened(name))}</text>')
        return drawn

    def cells(self) -> list[str]:
        """Draw the cells row by row; each says in its title what it stands for."""
        drawn = []
        for i, arm in enumerate(self.arms):
            for j, name in enumerate(self.classes):
                x, y = self.left + j * self.wide, self.top + i * self.high
                change = self.found.get((arm, name))
                if change is None:
                    drawn.append(f'<rect x="{x}" y="{y}" width="{self.wide}" height="{self.high}" fill="#e6e6e6"/>')
                    continue
                drawn.append(f'<g><title>{escape(said(change))}</title><rect x="{x}" y="{y}" width="{self.wide}" '
                             f'height="{self.high}" fill="{self.shade(change.difference)}" stroke="#d8d3c4" '
                             f'stroke-width="0.5"/>{self.mark(change, x + self.wide / 2, y + self.high / 2)}</g>')
        return drawn

    def mark(self, change: ClassChange, x: float, y: float) -> str:
        """Return the number of points, in wide cells, and the dot of a class that surely changed."""
        sure = change.verdict != "unclear"
        ink = "#fff" if abs(change.difference) > 0.62 * self.full else "#1f2430"
        dot = f'<circle cx="{x + (self.wide / 2 - 6 if self.wide > 30 else 0):.1f}" cy="{y:.1f}" r="2.6" fill="{ink}"/>'
        if self.wide <= 30:
            return dot if sure else ""
        text = points(change.difference, 0)
        number = f'<text x="{x - 3:.1f}" y="{y + 4:.1f}" text-anchor="middle" fill="{ink}">{text}</text>'
        return number + (dot if sure else "")

    def shade(self, difference: float) -> str:
        return _SHADES[LEVELS + round(LEVELS * float(np.clip(difference / self.full, -1, 1)))]

    def legend(self, x: int, y: int, note: str) -> list[str]:
        step = 160 / len(_SHADES)
        drawn = [f'<rect x="{x + i * step:.1f}" y="{y}" width="{step + 0.2:.1f}" height="9" fill="{shade}"/>'
                 for i, shade in enumerate(_SHADES)]
        for part, text in ((0, f"-{self.full:.0f}"), (0.5, "0"), (1, f"+{self.full:.0f}")):
            drawn.append(f'<text x="{x + 160 * part}" y="{y + 21}" font-size="10" text-anchor="middle">{text}</text>')
        tail = f"points of recall; a dot: p &lt; 0.05, corrected{'; ' + escape(note) if note else ''}"
        return [*drawn, f'<text x="{x + 176}" y="{y + 9}" font-size="10" fill="#667">{tail}</text>']


def said(change: ClassChange) -> str:
    """Return a change in one line: "add, Apple: +3.1 points (1.2 to 5.0; helped), 60.1 to 63.2 %, 120 images, 6 seeds"."""
    interval = "no interval" if change.low is None else f"{points(change.low)} to {points(change.high)}"
    seeds = f"{len(change.seeds)} seed{'s' if len(change.seeds) > 1 else ''}"
    return (f"{change.arm}, {change.class_}: {points(change.difference)} points ({interval}; {change.verdict}), "
            f"{100 * change.benchmark_recall:.1f} to {100 * change.recall:.1f} %, {change.images:,} images, {seeds}")


def points(value: float, digits: int = 1) -> str:
    """Return a difference in points with its sign; one that rounds to nothing has none."""
    text = f"{value:+.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text
