"""Perturb: what becomes of an image on its way through the world, by real encoders, as named changes with a strength.

A change is written `jpeg=75`: a name of KINDS and its strength. Every change is for images of every origin: perturbing the
generated ones alone would test the perturbation. Recipes (screenshot, messenger, web, feed, thumbnail) count their rounds.
Their sizes and qualities are typical ones; no service publishes its own, and they change.
"""
import io
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from os import cpu_count
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from gilt.config import Preprocessing
from gilt.data.pixels import MOST_PIXELS, UNREADABLE, fit, open_image, plain_rgb, upright, why
from gilt.errors import ConfigError, ImageError, listed, near

VERSION = 1  # raised when the same change would give other pixels
NONE = "none"
MESSENGERS = ((1600, 75), (1280, 70))  # longest side and JPEG quality, in turns: a picture is passed on by other apps
WEB, FEED, THUMBNAIL = (2048, 85), (1080, 70), (256, 75)
SHOWN, COLOUR, GAMMA = 0.85, 1.04, 1.03  # of a screenshot: the size on screen, and what the screen does to colour and light


@dataclass(frozen=True)
class Kind:
    """A kind of change: what its strength means, within which bounds (whole numbers only?), the strengths tried, the doing."""

    meaning: str
    low: float
    high: float
    whole: bool
    grid: tuple[float, ...]
    apply: Callable[[Image.Image, float, np.random.Generator], Image.Image]


@dataclass(frozen=True)
class Change:
    """A kind of change at one strength; the kind `none`, without a strength, leaves an image as it is."""

    kind: str
    strength: float | None = None

    def __str__(self) -> str:
        return self.kind if self.strength is None else f"{self.kind}={self.strength:g}"


def encoded(image: Image.Image, kind: str, quality: float, **options: int) -> Image.Image:
    """Return an RGB image as it comes back from a file: `JPEG` (colour at half size) or `WEBP` of a quality, 1 to 100.

    `options` are more of the encoder's own.
    """
    image.info = {}  # no colour profile, no EXIF
    file = io.BytesIO()
    image.save(file, kind, quality=round(quality), **options)
    with Image.open(file, formats=(kind,)) as back:
        return back.convert("RGB")


def resized(image: Image.Image, factor: float, *, back: bool = False) -> Image.Image:
    """Return an image with both sides times `factor` (bicubic), and, with `back`, brought back to its own size."""
    new = tuple(max(1, round(side * factor)) for side in image.size)
    if new[0] * new[1] > MOST_PIXELS:
        raise ValueError(f"{new[0]:,} x {new[1]:,} pixels: too many to enlarge to")
    small = image.resize(new, Image.Resampling.BICUBIC)
    return small.resize(image.size, Image.Resampling.BICUBIC) if back else small


def cropped(image: Image.Image, part: float) -> Image.Image:
    """Return the middle of an image: `part` of its width and of its height."""
    width, height = (max(1, round(side * part)) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _noisy(image: Image.Image, deviation: float, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image, np.float32)
    return Image.fromarray((pixels + rng.normal(0, 255 * deviation, pixels.shape)).round().clip(0, 255).astype(np.uint8))


def _sent(image: Image.Image, longest: int, quality: int) -> Image.Image:
    """Return an image as a service stores it: shrunk to a longest side, never enlarged, and a JPEG."""
    if max(image.size) > longest:
        image = resized(image, longest / max(image.size))
    return encoded(image, "JPEG", quality)


def _rounds(*services: tuple[int, int]) -> Callable[[Image.Image, float, np.random.Generator], Image.Image]:
    def apply(image: Image.Image, rounds: float, _rng: np.random.Generator) -> Image.Image:
        for number in range(int(rounds)):
            image = _sent(image, *services[number % len(services)])
        return image
    return apply


def _screenshot(image: Image.Image, rounds: float, _rng: np.random.Generator) -> Image.Image:
    light = [round(255 * (value / 255) ** GAMMA) for value in range(256)] * 3
    for _ in range(int(rounds)):  # a PNG then keeps every pixel, so none is written
        image = ImageEnhance.Color(resized(image, SHOWN)).enhance(COLOUR).point(light)
    return image


KINDS: dict[str, Kind] = {
    "jpeg": Kind("JPEG quality", 1, 100, True, (95, 85, 75, 60, 45, 30), lambda i, q, _: encoded(i, "JPEG", q)),
    "webp": Kind("WebP quality", 1, 100, True, (95, 80, 60, 40), lambda i, q, _: encoded(i, "WEBP", q)),
    "resize": Kind("factor of both sides", 0.05, 8, False, (0.5, 0.75, 1.5, 2), lambda i, f, _: resized(i, f)),
    "resize-back": Kind("factor of both sides, then back", 0.05, 8, False, (0.9, 0.75, 0.5, 0.25),
                        lambda i, f, _: resized(i, f, back=True)),
    "crop": Kind("part of both sides that is kept, the middle", 0.05, 1, False, (0.95, 0.9, 0.75, 0.5),
                 lambda i, part, _: cropped(i, part)),
    "blur": Kind("standard deviation of a Gaussian, pixels", 0, 50, False, (0.5, 1, 2, 3),
                 lambda i, sigma, _: i.filter(ImageFilter.GaussianBlur(sigma))),
    "noise": Kind("standard deviation, the whole range being 1", 0, 1, False, (0.01, 0.02, 0.05, 0.1), _noisy),
    "screenshot": Kind("rounds: shown at 85 % with slightly other colours, kept as PNG", 1, 20, True, (1, 2), _screenshot),
    "messenger": Kind("rounds: longest side 1600, JPEG 75; then 1280, JPEG 70; in turns", 1, 20, True, (1, 2, 3, 5),
                      _rounds(*MESSENGERS)),
    "web": Kind("rounds: longest side 2048, JPEG 85", 1, 20, True, (1,), _rounds(WEB)),
    "feed": Kind("rounds: longest side 1080, JPEG 70", 1, 20, True, (1,), _rounds(FEED)),
    "thumbnail": Kind("rounds: longest side 256, JPEG 75", 1, 20, True, (1,), _rounds(THUMBNAIL))}


def changes_of(texts: Sequence[str] = ()) -> list[Change]:
    """Return the changes that texts such as `jpeg` (its whole grid) or `jpeg=90,50` name; those of all grids for none.

    Raises ConfigError for an unknown kind and a strength out of bounds.
    """
    found: list[Change] = []
    for text in texts or KINDS:
        name, equals, numbers = (part.strip() for part in text.partition("="))
        if name not in KINDS:
            raise ConfigError(f"no change {name!r} (there are: {listed(KINDS, most=20)}).{near(name, KINDS)}")
        strengths = [_strength(name, number) for number in numbers.split(",")] if equals else KINDS[name].grid
        found += [Change(name, float(strength)) for strength in strengths]
    return list(dict.fromkeys(found))


def _strength(name: str, text: str) -> float:
    kind = KINDS[name]
    said = f"{'a whole number' if kind.whole else 'a number'} from {kind.low:g} to {kind.high:g} ({kind.meaning})"
    try:
        value = float(text)
    except ValueError:
        raise ConfigError(f"{name}={text}: the strength is {said}, not {text.strip()!r}") from None
    if not kind.low <= value <= kind.high or (kind.whole and value != int(value)):
        raise ConfigError(f"{name}={value:g}: the strength is {said}")
    return value


def perturb(image: Image.Image, change: Change | str, *, name: str = "") -> Image.Image:
    """Return a Pillow image after one change, as RGB; the image given stays as it is.

    `name` (a path, say) seeds what is drawn by chance, so that the same image is always changed alike. Raises ConfigError
    for an unknown change, and one of `gilt.data.pixels.UNREADABLE` where an encoder refuses the image.
    """
    if isinstance(change, str):
        change = Change(NONE) if change == NONE else changes_of([change])[0]
    plain = plain_rgb(image)
    plain = plain.copy() if plain is image else plain
    if change.strength is None:
        return plain
    rng = np.random.default_rng(zlib.crc32(f"{name}\x1f{change}".encode("utf-8", "surrogateescape")))
    return KINDS[change.kind].apply(plain, change.strength, rng)


def perturbed_stream(paths: Sequence[Path], names: Sequence[str], changes: Sequence[Change], *,
                     preprocessing: Preprocessing, ahead: int = 32) -> Iterator[list[np.ndarray | ImageError]]:
    """Yield for each file, in order, what a network sees of it after each change: pixels uint8 (H, W, 3), or why not.

    A file is decoded once for all changes, and changed at its own resolution, before it is brought to the network's size:
    that is the order of the world. `ahead` files are worked on in parallel.
    """
    def one(path: Path, name: str) -> list[np.ndarray | ImageError]:
        try:
            with open_image(path) as opened:
                image = plain_rgb(upright(opened))
                return [_seen(image, change, name, preprocessing) for change in changes]
        except UNREADABLE as error:
            return [ImageError(f"{path} cannot be read: {why(error)}")] * len(changes)

    waiting = iter(zip(paths, names, strict=True))
    with ThreadPoolExecutor(cpu_count() or 1) as pool:
        queue = deque(pool.submit(one, *item) for item in islice(waiting, ahead))
        while queue:
            yield queue.popleft().result()
            queue += [pool.submit(one, *item) for item in islice(waiting, 1)]


def _seen(image: Image.Image, change: Change, name: str, preprocessing: Preprocessing) -> np.ndarray | ImageError:
    try:
        return np.asarray(fit(perturb(image, change, name=name), preprocessing))
    except UNREADABLE as error:
        return ImageError(f"{name} cannot go through {change}: {why(error)}")
