"""Draw a collection of 100 classes, the numbers 00 to 99, as a competition lays it out: images/ and train.csv.

    python benchmarks/hundred.py FOLDER [IMAGES A CLASS]

32x32 pixels; font, size, place, colours and noise vary. Nothing is downloaded, and the same call draws the same images.
"""
import csv
import sys
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

TTF = Path(matplotlib.__file__).parent / "mpl-data" / "fonts" / "ttf"
FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono", "DejaVuSans-Oblique", "STIXGeneral")


def number(text: str, rng: np.random.Generator) -> Image.Image:
    """Return a picture of a number in two colours that can be told apart."""
    paper, ink = rng.integers(0, 256, (2, 3))
    while abs(int(paper.sum()) - int(ink.sum())) < 250:
        paper, ink = rng.integers(0, 256, (2, 3))
    image = Image.new("RGB", (32, 32), tuple(map(int, paper)))
    font = ImageFont.truetype(str(TTF / f"{FONTS[rng.integers(len(FONTS))]}.ttf"), int(rng.integers(17, 23)))
    place = (16 + int(rng.integers(-3, 4)), 16 + int(rng.integers(-3, 4)))
    ImageDraw.Draw(image).text(place, text, fill=tuple(map(int, ink)), font=font, anchor="mm")
    return Image.fromarray(np.clip(np.asarray(image).astype(int) + rng.normal(0, 20, (32, 32, 3)), 0, 255).astype(np.uint8))


def main(folder: Path, each: int) -> None:
    """Write `each` images a class, and the list that names them in a random order."""
    rng, rows = np.random.default_rng(0), []
    (folder / "images").mkdir(parents=True)
    for c in range(100):
        for _ in range(each):
            rows.append((f"{len(rows):05}.png", f"{c:02}"))
            number(f"{c:02}", rng).save(folder / "images" / rows[-1][0])
    with (folder / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "label"), *(rows[i] for i in rng.permutation(len(rows)))])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 100)
