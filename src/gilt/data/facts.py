"""Facts: what one image file says of itself, measured in one decoding.

Everything but the file's own numbers is measured on a reduced picture of at most 256 pixels (a JPEG is decoded at the
smallest scale that gives them), so a fact costs about the same for a thumbnail and for a large photograph.

Shapes: H W pixels of the reduced picture.
"""
import functools
from typing import Any

import numpy as np
from PIL import Image
from scipy.fft import dctn

from gilt.data.pixels import UNREADABLE, open_image, plain_rgb, upright, why
from gilt.data.table import STATISTICS
from gilt.files import sha256

SIDE = 256  # pixels of the reduced picture's longer side, at most
WAVES = 6  # the perceptual hash holds WAVES x WAVES cosine waves but the first
FACTS = ("width", "height", "format", "mode", "quality", "bytes", "sha256", "phash", *STATISTICS, "excluded")
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# the luminance table of the JPEG standard (ITU T.81, K.1), which libjpeg scales by its quality
_STANDARD = np.array([16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
                      14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
                      49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99])
_SCALES = np.array([5000 / q if q < 50 else 200 - 2 * q for q in range(1, 101)])
_TABLES = np.clip((_STANDARD * _SCALES[:, None] + 50) // 100, 1, 255)  # (100, 64), by quality - 1
_ROUGH = np.hypot(*np.mgrid[:WAVES, :WAVES]).astype(np.float32) ** 0.5  # photographs fall off as 1/f: half of it is undone
SEAM = 1.1  # a dividing line this much sharper than nine in ten of the other lines divides pictures
GRIDS = ((2, 2), (2, 3), (3, 2), (3, 3), (4, 4))


def measure(data: bytes) -> dict[str, Any]:
    """Return the FACTS of an image file's content; `excluded` is None, or why the image cannot be read.

    Every file is decoded to its end, so a truncated one is found. Never raises for bad content.
    """
    facts: dict[str, Any] = dict.fromkeys(FACTS)
    facts |= {"bytes": len(data), "sha256": sha256(data)}
    try:
        with open_image(data) as image:
            facts |= {"format": image.format, "mode": image.mode, "width": image.width, "height": image.height,
                      "quality": jpeg_quality(image)}
            pixels = np.asarray(reduced(image), np.float32) / 255
    except UNREADABLE as error:
        return facts | {"excluded": f"unreadable: {why(error, data)}"}
    luma = pixels @ LUMA
    return facts | statistics(pixels, luma) | {"phash": perceptual_hash(luma)}


def reduced(image: Image.Image, side: int = SIDE) -> Image.Image:
    """Return an opened image upright, as RGB, at most `side` pixels on its longer side; a smaller one keeps its size."""
    image.draft("RGB", (side, side))  # a JPEG: decoded at 1/2, 1/4 or 1/8 where that is large enough
    image = plain_rgb(upright(image))
    if max(image.size) > side:
        scale = side / max(image.size)
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.BOX)
    return image


def jpeg_quality(image: Image.Image) -> int | None:
    """Return the quality, 1 to 100, whose standard luminance table is nearest to a JPEG's own; None for other formats."""
    tables = getattr(image, "quantization", None) if image.format in ("JPEG", "MPO") else None
    if not tables or len(tables.get(0, ())) != 64:
        return None
    return int(np.abs(_TABLES - np.asarray(tables[0])).sum(1).argmin()) + 1


def statistics(pixels: np.ndarray, luma: np.ndarray) -> dict[str, float]:
    """Return STATISTICS of a picture float32 (H, W, 3) in [0, 1] and its luma (H, W).

    brightness, red, green, blue: means. contrast: standard deviation of luma. saturation: mean of largest minus smallest
    channel. sharpness: standard deviation of the Laplacian over contrast. flat: part of pixels equal to their right and
    lower neighbours. seam: see `grid_of`.
    """
    planes = [np.ascontiguousarray(pixels[..., channel]) for channel in range(3)]  # numpy is slow along an axis of 3
    red, green, blue = (plane.mean() for plane in planes)
    spread = functools.reduce(np.maximum, planes) - functools.reduce(np.minimum, planes)
    contrast = float(luma.std())
    inner = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * inner
    right, below = np.abs(np.diff(luma, axis=1)), np.abs(np.diff(luma, axis=0))
    same = (right[:-1] < 1 / 254) & (below[:, :-1] < 1 / 254)
    return {"brightness": float(luma.mean()), "contrast": contrast, "red": float(red), "green": float(green),
            "blue": float(blue), "saturation": float(spread.mean()),
            "sharpness": float(laplacian.std() / contrast) if inner.size and contrast > 1e-3 else 0.0,
            "flat": float(same.mean()) if same.size else 1.0, "seam": grid_of(right, below)[1]}


def grid_of(right: np.ndarray, below: np.ndarray) -> tuple[tuple[int, int], float]:
    """Return ((rows, columns), score) of the grid of pictures that an image looks most like.

    `right` and `below` are absolute differences of neighbouring pixels, (H, W - 1) and (H - 1, W). The score is how much
    sharper the weakest piece of a dividing line is than nine in ten of the other lines: at most 1 or so for one picture,
    2 and more where pictures meet. Of several grids above SEAM the one of the most parts counts: 4 x 4 is 2 x 2 as well.
    """
    scores = {}
    for rows, columns in GRIDS:
        scores[rows, columns] = min(_lines(right, columns, rows), _lines(below.T, rows, columns))
    best = max(scores, key=lambda grid: (scores[grid] > SEAM, grid if scores[grid] > SEAM else (0, 0), scores[grid]))
    return best, float(scores[best])


def _lines(steps: np.ndarray, parts: int, pieces: int) -> float:
    """Return the weakest ratio of the `parts` - 1 dividing lines' steps to the others', over `pieces` of their length."""
    length, count = steps.shape
    if count < 8 * parts or length < 8 * pieces:
        return 0.0
    places = [round(count * k / parts) for k in range(1, parts)]
    weakest = np.inf
    for piece in np.array_split(steps, pieces):
        line = piece.mean(0)
        usual = _ninth_tenth(line) + 2 / 255
        for place in places:  # a reduced picture may have moved the line by a pixel
            weakest = min(weakest, line[max(0, place - 2):place + 2].max() / usual)
    return float(weakest)


def _ninth_tenth(values: np.ndarray) -> float:
    """Return np.quantile(values, 0.9), whose own bookkeeping would take half of a small image's time."""
    place = 0.9 * (len(values) - 1)
    low = int(place)
    ordered = np.partition(values, (low, min(low + 1, len(values) - 1)))
    return ordered[low] + (place - low) * (ordered[min(low + 1, len(values) - 1)] - ordered[low])


def perceptual_hash(luma: np.ndarray) -> str:
    """Return a picture's perceptual hash: 35 low-frequency cosine coefficients, one byte each, in hexadecimal.

    The same picture re-encoded, resized or slightly cropped has nearly the same one; two hashes are compared by the cosine
    of the angle between them (`gilt.data.near`). The frequencies are those of pHash (Zauner 2010), kept as numbers instead
    of bits, which tells neighbours apart better.
    """
    waves = dctn(small(luma), norm="ortho")[:WAVES, :WAVES] * _ROUGH
    values = waves.ravel()[1:]
    return np.round(127 * values / (np.abs(values).max() + 1e-6)).astype(np.int8).tobytes().hex()


def small(luma: np.ndarray, side: int = 32) -> np.ndarray:
    """Return luma (H, W) as float32 (side, side), averaged over areas."""
    if luma.shape == (side, side):
        return luma
    return np.asarray(Image.fromarray(luma).resize((side, side), Image.Resampling.BOX if min(luma.shape) > side
                                                   else Image.Resampling.BILINEAR), np.float32)
