"""`PixelCache`: every image decoded once, for all trials of a study and all processes that share its folder.

Shapes: N images, H W pixels. One pack holds uint8 (N, H, W, 3) in `data.bin` and one 32-byte content hash an image in
`index.bin`; image i's hash stands at place i. Writers append under a lock, pixels before hash, so a killed writer
leaves at most pixels that no hash names, and the next one writes over them. Readers map the file and copy nothing.
"""
import functools
import io
import logging
import os
import re
import struct
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image, ImageOps

from gilt.config import Preprocessing
from gilt.data.containers import read_image, reading_order
from gilt.data.equalise import equalised
from gilt.errors import ImageError
from gilt.files import fingerprint, sha256, writing

log = logging.getLogger(__name__)
HASH_BYTES = 32
# what Pillow raises for files that are no image, broken, cut short, or too large to be meant
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, OverflowError, MemoryError, Image.DecompressionBombError)
# what the endings that are read stand for. Pillow has readers for many others: some start a program (EPS), some go on
# after the file's end
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "AVIF")
MOST_PIXELS = 89_478_485  # Pillow's own line between a large photograph and a decompression bomb
MOST_SCANS = 100  # of a JPEG: progressive ones have about ten; each is a walk over all pixels
STRIP = 512  # rows that transparency is taken off at a time
LARGE = 4_000_000  # pixels from which an image waits for room in memory
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # of the photographs of many phones
LONGEST = 8  # times the shorter side: of longer images the ends are cut off before the middle is resized
_SEGMENT = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # a marker, but for those that stand between the pixels' bits
_filters = threading.Lock()
Progress = Callable[[int, int], None]


def decode(source: Path | bytes, preprocessing: Preprocessing) -> np.ndarray:
    """Return an image file as uint8 (H, W, 3). Raises ImageError, naming the file, where it cannot be read."""
    name = source if isinstance(source, Path) else "image"
    try:
        with open_image(source) as image:
            return np.asarray(fit(upright(image, in_place=True), preprocessing))
    except UNREADABLE as error:
        raise ImageError(f"{name} cannot be read: {why(error)}") from None


def upright(image: Image.Image, *, in_place: bool = False) -> Image.Image:
    """Return the image turned as its EXIF block says; as it stands where that block is broken. `in_place` makes no copy."""
    try:
        return ImageOps.exif_transpose(image, in_place=in_place) or image
    except (struct.error, TypeError, KeyError, IndexError, ZeroDivisionError):
        return image


@contextmanager
def open_image(source: Path | bytes) -> Iterator[Image.Image]:
    """Yield an image file, or a member of a container, opened by Pillow, its pixels not yet read. Raises one of UNREADABLE.

    Threads that open large images at the same time wait for one another, so that memory stays bounded.
    """
    _no_warnings()
    try:
        data = read_image(source) if isinstance(source, Path) else source
    except ImageError as error:
        raise OSError(str(error).partition(" cannot be read: ")[2]) from None
    with Image.open(io.BytesIO(data), formats=_formats()) as image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"{image.width:,} x {image.height:,} pixels: taken for a decompression bomb")
        if image.format in ("JPEG", "MPO") and _many_scans(data):
            raise ValueError(f"more than {MOST_SCANS} scans: taken for a decompression bomb")
        with _room.taken(image.width * image.height):
            yield image


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)  # older Pillows have no AVIF


def _no_warnings() -> None:
    """Keep Pillow's warnings (a broken EXIF block, a tag too many) quiet, whatever the filters are.

    The images are read all the same, or refused with a reason. A filter set around each call would not be safe between
    threads, so it is put first and stays.
    """
    if not _is_quiet():
        with _filters:
            if not _is_quiet():  # another thread may have just done so
                warnings.filterwarnings("ignore", module=r"PIL\.")


def _is_quiet() -> bool:
    action, _, category, module, _ = (warnings.filters or [("", None, None, None, 0)])[0]
    return action == "ignore" and category is Warning and getattr(module, "pattern", None) == r"PIL\."


def _many_scans(data: bytes) -> bool:
    """Tell whether a JPEG holds more than MOST_SCANS scans: a small file can ask for minutes of work."""
    if data.count(b"\xff\xda") <= MOST_SCANS:
        return False
    scans, place = 0, 2
    while scans <= MOST_SCANS and (found := _SEGMENT.search(data, place)):  # a film after the picture has such bytes too
        kind, place = data[found.end() - 1], found.end()
        if kind == 0xD9:  # the picture's end
            break
        scans += kind == 0xDA
        place += int.from_bytes(data[place:place + 2])
    return scans > MOST_SCANS


class _Room:
    """Room in memory, in pixels, for the large images that are open at a time, in all threads."""

    def __init__(self, pixels: int) -> None:
        self.free, self.changed = pixels, threading.Condition()

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        """Wait until there is room for an image, and hold it."""
        if pixels < LARGE:
            yield
            return
        with self.changed:
            self.changed.wait_for(lambda: self.free >= pixels)
            self.free -= pixels
        try:
            yield
        finally:
            with self.changed:
                self.free += pixels
                self.changed.notify_all()


_room = _Room(2 * MOST_PIXELS)


def fit(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Return a Pillow image as RGB of the right size; transparency is laid on white, 16 bits are scaled to 8."""
    image = plain_rgb(image)
    if preprocessing.equal:
        image = equalised(image, preprocessing.equal)
    if preprocessing.fit == "crop":
        return _middle(image, preprocessing)
    size = (preprocessing.size, preprocessing.size)
    return image if image.size == size else image.resize(size, Image.Resampling[preprocessing.resample.upper()])


def _middle(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Return the middle of an RGB image, once its shorter side has the pixels asked for; a smaller one is mirrored outwards."""
    size, most = preprocessing.size, LONGEST * min(image.size)
    if preprocessing.shortest and max(image.size) > most:  # one pixel by a million would become a very large image
        left, top = (max(0, (side - most) // 2) for side in image.size)
        image = image.crop((left, top, image.width - left, image.height - top))
    if preprocessing.shortest and min(image.size) != preprocessing.shortest:
        scale = preprocessing.shortest / min(image.size)
        new = tuple(max(1, round(side * scale)) for side in image.size)
        image = image.resize(new, Image.Resampling[preprocessing.resample.upper()])
    short = [max(0, size - side) for side in (image.height, image.width)]
    if any(short):
        pad = [(n // 2, n - n // 2) for n in short]
        image = Image.fromarray(np.pad(np.asarray(image), [*pad, (0, 0)], mode="symmetric"))
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def plain_rgb(image: Image.Image) -> Image.Image:
    """Return a Pillow image as RGB; transparency is laid on white, 16 bits are scaled to 8."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(image, np.float32))
        most = 65_535 if values.max() > 255 else 1 if image.mode == "F" and values.max() <= 1 else 255
        image = Image.fromarray((values * (255 / most)).clip(0, 255).astype(np.uint8))
    if "transparency" in image.info or image.mode in ("LA", "PA", "RGBA", "La", "RGBa"):
        white = Image.new("RGB", image.size, "white")
        for top in range(0, image.height, STRIP):  # in strips: a large one is not held four times over
            layer = image.crop((0, top, image.width, min(top + STRIP, image.height))).convert("RGBA")
            white.paste(Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB"), (0, top))
        return white
    return image if image.mode == "RGB" else image.convert("RGB")  # a copy costs a fifth of the decoding


def why(error: BaseException, data: bytes = b"") -> str:
    """Return a decoder's complaint as a short text without a memory address; `data`, where it is at hand, may say more."""
    if data[4:8] == b"ftyp" and data[8:12] in HEIC:
        return "HEIC, which gilt does not read: convert it to JPEG or PNG first"
    text = " ".join(str(error).split(" <_io")[0].split())[:200] or type(error).__name__
    return "empty or no image" if text.startswith("cannot identify") else text


class PixelCache:
    """A folder of decoded images. Safe to share between processes, and to kill."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def pixels(self, paths: Sequence[Path], hashes: Sequence[str], preprocessing: Preprocessing, *,
               progress: Progress | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return (pack, rows): a read-only memory map uint8 (N, H, W, 3) and int64 places in it, one a path.

        Images not yet in the pack are decoded first, in parallel; `hashes` are their files' SHA-256.
        Raises ImageError for an image that cannot be read or has changed since its scan, StoreError where the disk is full.
        """
        pack = _Pack(self.folder / _key(preprocessing), preprocessing.size)
        places = pack.places()
        unknown = next((path for path, digest in zip(paths, hashes, strict=True) if not isinstance(digest, str)), None)
        if unknown is not None:
            raise ImageError(f"{unknown} has no sha256 in its table: make the table with gilt scan")
        if any(digest not in places for digest in hashes):
            with pack.lock():
                places = pack.places()
                missing = {digest: path for path, digest in zip(paths, hashes, strict=True) if digest not in places}
                pack.append(_in_reading_order(missing), preprocessing, progress)
                places = pack.places()
        return pack.map(), np.array([places[digest] for digest in hashes], np.int64)


def _in_reading_order(missing: dict[str, Path]) -> dict[str, Path]:
    items = list(missing.items())
    return dict(items[i] for i in reading_order([path for _, path in items]))


def _key(preprocessing: Preprocessing) -> str:
    said = {"size": preprocessing.size, "resample": preprocessing.resample}  # what was always said, and what is unusual
    known = said | preprocessing.model_dump(exclude_defaults=True) | {"version": 1}
    return f"{preprocessing.size}x{preprocessing.size}-{fingerprint(known)[:8]}"


class _Pack:
    """The two files of one image size."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.shape = folder, (size, size, 3)
        self.data, self.index = folder / "data.bin", folder / "index.bin"
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def lock(self) -> FileLock:
        return FileLock(self.folder / "lock")

    def places(self) -> dict[str, int]:
        """Return content hash -> place, for the images that are whole."""
        try:
            raw = self.index.read_bytes()
        except FileNotFoundError:
            return {}
        whole = min(len(raw) // HASH_BYTES, self.data.stat().st_size // int(np.prod(self.shape)))
        return {raw[i * HASH_BYTES:(i + 1) * HASH_BYTES].hex(): i for i in range(whole)}

    def map(self) -> np.ndarray:
        count = self.data.stat().st_size // int(np.prod(self.shape))
        return np.memmap(self.data, np.uint8, "r", shape=(count, *self.shape))

    def append(self, missing: dict[str, Path], preprocessing: Preprocessing, progress: Progress | None) -> None:
        """Decode `missing` (hash -> path) in parallel and add them, some dozens at a time. Call under the lock."""
        image_bytes = int(np.prod(self.shape))
        if missing:
            log.info("decoding %d images to %d x %d pixels, once", len(missing), *self.shape[:2])
        todo = iter(missing.items())
        count, done = len(self.places()), 0
        with writing(self.data), ThreadPoolExecutor(os.cpu_count() or 1) as pool, \
                _open_at(self.data, count * image_bytes) as data, _open_at(self.index, count * HASH_BYTES) as index:
            while chunk := list(islice(todo, 64)):
                for image in pool.map(lambda item: _decode_as_scanned(*item, preprocessing), chunk):
                    data.write(image.tobytes())
                data.flush()
                os.fsync(data.fileno())  # pixels reach the disk before the hash that vouches for them
                index.write(b"".join(bytes.fromhex(digest) for digest, _ in chunk))
                index.flush()
                done += len(chunk)
                if progress:
                    progress(done, len(missing))


def _decode_as_scanned(digest: str, path: Path, preprocessing: Preprocessing) -> np.ndarray:
    """Return the pixels of `path`. Raises ImageError where the file is gone, broken, or not the one that was scanned."""
    data = read_image(path)
    if sha256(data) != digest:
        raise ImageError(f"{path} has changed since it was scanned: scan the folder again")
    try:
        return decode(data, preprocessing)
    except ImageError as error:
        raise ImageError(f"{path}{str(error).removeprefix('image')}") from None


def _open_at(path: Path, end: int):
    """Return `path` open for writing at byte `end`; what a killed writer left beyond it is cut off."""
    handle = open(path, "r+b" if path.exists() else "w+b")
    handle.truncate(end)
    handle.seek(end)
    return handle


def decode_stream(paths: Sequence[Path], preprocessing: Preprocessing, *, ahead: int = 256
                  ) -> Iterator[tuple[Path, np.ndarray | ImageError]]:
    """Yield (path, pixels uint8 (H, W, 3) or the error that says why not), in order, decoding `ahead` in parallel."""
    def one(path: Path) -> tuple[Path, np.ndarray | ImageError]:
        try:
            return path, decode(path, preprocessing)
        except ImageError as error:
            return path, error

    waiting = iter(paths)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        queue = deque(pool.submit(one, path) for path in islice(waiting, ahead))
        while queue:
            yield queue.popleft().result()
            queue += [pool.submit(one, path) for path in islice(waiting, 1)]


def default_cache() -> PixelCache:
    """Return the cache in $GILT_CACHE, or in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return PixelCache(os.environ.get("GILT_CACHE") or Path(home) / "gilt" / "pixels")
