"""The page of a generator: what it made of the same noise, time after time, beside the images it learnt from."""
import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from gilt.reports.pages import write_page
from gilt.reports.plots import BLUE, GOLD, GREY, svg

if TYPE_CHECKING:
    from gilt.generators.training import Look

MOST = 16  # looks shown; of more, some between the first and the last are left out
LOSSES = {"loss": "loss", "critic_loss": "the critic's loss"}
LOW = 0.5  # spread below which the page warns


def generator_page(looks: Sequence["Look"], *, to: Path | str, name: str, table: str = "") -> Path:
    """Write what a generator made at each look to `to`, as one HTML page that opens offline, and return its path.

    The last look stands beside the real images, the others below it, the newest first; then the losses and the spread.
    """
    last = looks[-1]
    chosen = [looks[i] for i in dict.fromkeys(np.linspace(0, len(looks) - 1, min(MOST, len(looks))).round().astype(int))]
    return write_page(
        to, "generator.html", name=name, table=table, facts=last.facts, classes=last.classes,
        rows=[(label, _strip(made), _strip(real)) for label, made, real in
              zip(last.classes, last.pixels, last.real, strict=True)],
        shown=last.pixels.shape[1], looks=[(int(look.facts["step"]), look.facts, _sheet(look.pixels)) for look in
                                           reversed(chosen)],
        curves=_curves(looks) if len(looks) > 1 else "", low=LOW, minutes=last.facts["seconds"] / 60)


def _strip(images: np.ndarray) -> str:
    """Return images uint8 (n, S, S, K) side by side, as a data address."""
    return _sheet(images[None])


def _sheet(pixels: np.ndarray) -> str:
    """Return images uint8 (C, n, S, S, K), a row a class, as a data address: PNG, or JPEG where that would be large."""
    rows, columns, side, _, channels = pixels.shape
    gap = 2
    sheet = np.full((rows * (side + gap) - gap, columns * (side + gap) - gap, channels), 255, np.uint8)
    for row in range(rows):
        for column in range(columns):
            top, left = row * (side + gap), column * (side + gap)
            sheet[top:top + side, left:left + side] = pixels[row, column]
    image = Image.fromarray(sheet[..., 0] if channels == 1 else sheet)
    kind, options = ("PNG", {"optimize": True}) if side <= 32 else ("JPEG", {"quality": 88})
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(buffer.getvalue()).decode()


def _curves(looks: Sequence["Look"]) -> str:
    """Draw the losses and the spread over the steps."""
    figure = Figure(figsize=(8.6, 2.6))
    left, right = figure.subplots(1, 2)
    steps = [look.facts["step"] for look in looks]
    for (key, label), colour in zip(LOSSES.items(), (BLUE, GOLD), strict=True):
        if key in looks[0].facts:
            left.plot(steps, [look.facts[key] for look in looks], color=colour, label=label)
    left.set(xlabel="step", ylabel="mean loss since the last look")
    if "critic_loss" in looks[0].facts:
        left.legend(frameon=False)
    right.plot(steps, [look.facts["diversity"] for look in looks], color=BLUE)
    right.axhline(1, color=GREY, linewidth=0.8)
    right.axhline(LOW, color=GREY, linewidth=0.8, linestyle=":")
    right.set(xlabel="step", ylabel="spread, of the learnt images'", ylim=(0, None))
    figure.tight_layout(w_pad=2)
    return svg(figure)
