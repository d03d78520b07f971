"""Reencode: one image file's bytes through a recipe, to the bytes of the file or files that take its place.

The order is fixed: upright, cropped, cut into parts, colours, one square size, encoded. Pixels are only lost where a step
says so: a format that keeps every pixel stays one, and a JPEG goes back through its own quantisation tables.
"""
import io
import struct
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image
from PIL.JpegImagePlugin import get_sampling

from gilt.config import CropConfig
from gilt.data.equalise import equal_jpeg
from gilt.data.pixels import UNREADABLE, open_image, plain_rgb, upright, why
from gilt.errors import ImageError
from gilt.training import Encoding

ENDINGS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "TIFF": ".tif", "BMP": ".bmp"}  # any other becomes PNG
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Recipe:
    """What is done to one image; `grid` is (rows, columns). `copy` writes it also where nothing changes.

    `equal` makes it the middle square of one size, a JPEG; images smaller than that are refused without `upscale`.
    """

    upright: bool = False
    crop: CropConfig | None = None
    grid: tuple[int, int] | None = None
    mode: Literal["RGB", "L"] | None = None
    equal: Encoding | None = None
    copy: bool = False
    upscale: bool = False


@dataclass(frozen=True)
class Remade:
    """The new files' bytes (several where an image was cut), their `format`, and what was done, in words."""

    parts: tuple[bytes, ...]
    format: str
    done: tuple[str, ...]


def remake(data: bytes, recipe: Recipe) -> Remade | None:
    """Return what `recipe` makes of an image file, or None where it changes nothing.

    Of an animation the first picture is taken. Metadata goes, but for the colour profile where the colours stay.
    Raises ImageError with the reason where the image cannot be read, or is too small for the recipe.
    """
    try:
        with open_image(data) as image:
            turned = _is_turned(image)
            recoloured = recipe.mode is not None and (image.mode != recipe.mode or "transparency" in image.info)
            if not (recipe.crop or recipe.grid or recipe.equal or recoloured or (turned and recipe.upright)):
                return Remade((data,), image.format or "", ("copied",)) if recipe.copy else None
            keep = _encoder(image)
            parts = [upright(image)]
        done = ["turned upright"] if turned else []
        if recipe.crop:
            parts = [_cropped(part, recipe.crop) for part in parts]
            done.append("cropped")
        if recipe.grid:
            parts = [part for whole in parts for part in _cut(whole, *recipe.grid)]
            done.append("cut")
        if recipe.equal:
            return Remade(tuple(_equal(part, recipe) for part in parts), "JPEG", (*done, "equalised"))
        if recoloured and recipe.mode:
            parts = [plain_rgb(part).convert(recipe.mode) for part in parts]
            done.append(f"made {recipe.mode}")
            keep.pop("icc_profile", None)
        return Remade(tuple(_encode(part, **keep) for part in parts), keep["format"], tuple(done))
    except UNREADABLE as error:
        raise ImageError(f"unreadable: {why(error)}") from None


def _is_turned(image: Image.Image) -> bool:
    try:
        return image.getexif().get(_ORIENTATION, 1) in range(2, 9)
    except (struct.error, TypeError, KeyError, IndexError, ZeroDivisionError, SyntaxError):
        return False  # a broken EXIF block turns nothing


def _encoder(image: Image.Image) -> dict[str, Any]:
    """Return how to write an image as it was read: Pillow's settings for `save`."""
    kind = "JPEG" if image.format == "MPO" else image.format
    keep: dict[str, Any] = {"format": kind if kind in ENDINGS else "PNG"}
    if "icc_profile" in image.info:
        keep["icc_profile"] = image.info["icc_profile"]
    tables = getattr(image, "quantization", None)
    if kind == "JPEG" and tables:
        keep |= {"qtables": list(tables.values()), "subsampling": get_sampling(image)}
    if kind == "WEBP":
        keep |= {"lossless": True, "exact": True}  # Pillow does not say whether it was: no further loss
    return keep


def _cropped(image: Image.Image, crop: CropConfig) -> Image.Image:
    left, top, right, bottom = box(image.width, image.height, crop)
    if right - left < 1 or bottom - top < 1:
        raise ImageError(f"crop: nothing is left of {image.width} x {image.height} pixels")
    return image.crop((left, top, right, bottom))


def box(width: int, height: int, crop: CropConfig) -> tuple[int, int, int, int]:
    """Return (left, top, right, bottom), in pixels, of what `crop` leaves of an image."""
    def pixels(strip: float, side: int) -> int:
        return round(strip * side) if strip < 1 else int(strip)

    return (pixels(crop.left, width), pixels(crop.top, height), width - pixels(crop.right, width),
            height - pixels(crop.bottom, height))


def _cut(image: Image.Image, rows: int, columns: int) -> list[Image.Image]:
    """Return the parts of a grid, row by row, all of one size; pixels over at the right and below are left out."""
    width, height = image.width // columns, image.height // rows
    if not (width and height):
        raise ImageError(f"grid: {image.width} x {image.height} pixels cannot be cut into {rows} x {columns}")
    return [image.crop((x * width, y * height, (x + 1) * width, (y + 1) * height))
            for y in range(rows) for x in range(columns)]


def _equal(image: Image.Image, recipe: Recipe) -> bytes:
    if min(image.size) < recipe.equal.size and not recipe.upscale:
        raise ImageError(f"equalise: {image.width} x {image.height} pixels, smaller than {recipe.equal.size}")
    return equal_jpeg(plain_rgb(image), recipe.equal, recipe.mode or "RGB")


def _encode(image: Image.Image, **settings: Any) -> bytes:
    image.info = {name: value for name, value in image.info.items() if name == "transparency"}  # no comment, no EXIF
    file = io.BytesIO()
    image.save(file, **settings)
    return file.getvalue()
