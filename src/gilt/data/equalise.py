"""Equalise: one size and one encoding for images of every origin, so that neither gives an origin away.

It cannot undo what happened before: an image that was a JPEG once, or was shrunk further to get here, keeps traces of that.
"""
import io

from PIL import Image

from gilt.training import Encoding


def equalised(image: Image.Image, to: Encoding) -> Image.Image:
    """Return an RGB image as it comes back from the JPEG that `equal_jpeg` makes of it."""
    with Image.open(io.BytesIO(equal_jpeg(image, to)), formats=("JPEG",)) as back:
        return back.convert("RGB")


def equal_jpeg(image: Image.Image, to: Encoding, mode: str = "RGB") -> bytes:
    """Return the middle square of an RGB image at `to.size` pixels, as a JPEG that says nothing but its pixels.

    A smaller image is enlarged. With `to.precompress` every image has been a JPEG before it is resized, as most photographs
    have.
    """
    if to.size is None or to.precompress == "auto":
        raise ValueError("this encoding leaves something open that is chosen from a table's images: size, precompress")
    if to.precompress:
        with Image.open(io.BytesIO(_jpeg(image, to.precompress))) as first:
            image = first.convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    square = image.crop(box) if side == to.size else image.resize((to.size, to.size), Image.Resampling.LANCZOS, box=box)
    return _jpeg(square.convert(mode), to.quality, subsampling=to.subsampling)


def _jpeg(image: Image.Image, quality: int, **settings: str) -> bytes:
    image = image.copy()
    image.info = {}  # no profile, no EXIF, no comment
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, **settings)
    return file.getvalue()
