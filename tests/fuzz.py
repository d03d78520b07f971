"""Fuzz: a folder of bad and odd image files, the same for the same seed, and what is known of each.

`make(folder)` writes them under {origin}/{class}/ and returns a `World`. Whole images come first; then the same cut short,
with flipped bits and under wrong names; then bombs, which are small on disk and huge in memory; then things that a folder
may hold besides files.
"""
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

FOLDERS = ("real/wren", "real/robin", "painter/wren", "painter/robin")
ENDINGS = {"JPEG": "jpg", "PNG": "png", "GIF": "gif", "WEBP": "webp", "TIFF": "tif", "BMP": "bmp", "PPM": "ppm", "AVIF": "avif"}
SIDE = 6_000  # a picture of SIDE x SIDE is large, and no bomb
HUGE = 60_000


@dataclass
class World:
    """What was written: paths that must be rows, those of them that are known to be whole or hopeless, and the others.

    `passed` are counted but no rows; `hidden` are none of a collection's business (dot files, a link back up).
    """

    root: Path
    rows: set[str] = field(default_factory=set)
    whole: set[str] = field(default_factory=set)
    hopeless: set[str] = field(default_factory=set)
    passed: set[str] = field(default_factory=set)
    hidden: set[str] = field(default_factory=set)

    def add(self, name: str, data: bytes, *, fate: str = "") -> str:
        """Write a file into one of the folders, by its name; `fate` is "whole", "hopeless", "passed", "hidden" or unknown."""
        path = self.place(name, fate)
        (self.root / path).write_bytes(data)
        return path

    def place(self, name: str, fate: str = "") -> str:
        """Enter a path, whose file the caller makes."""
        path = f"{FOLDERS[zlib.crc32(name.encode()) % len(FOLDERS)]}/{name}"
        assert path not in self.rows | self.passed | self.hidden
        (self.hidden if fate == "hidden" else self.passed if fate == "passed" else self.rows).add(path)
        if fate in ("whole", "hopeless"):
            getattr(self, fate).add(path)
        return path


def make(folder: Path, *, seed: int = 0) -> World:
    """Write the world under `folder` and return what is known of it."""
    rng = np.random.default_rng(seed)
    world = World(folder)
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
    images = dict(whole_images(rng))
    for name, data in images.items():
        world.add(name, data, fate="whole")
    for name, data in mutants(images, rng):
        world.add(name, data)
    for name, data in bombs():
        world.add(name, data, fate="hopeless")
    for name, data in large():
        world.add(name, data, fate="whole")
    for name, data in broken(images, rng):
        world.add(name, data)
    for name, data in no_images(images, rng):
        world.add(name, data, fate="hopeless")
    oddly_named(world, images["rgb.jpg"])
    no_files(world, images["rgb.jpg"])
    return world


def picture(rng: np.random.Generator, width: int = 96, height: int = 80) -> Image.Image:
    """Return a drawn scene: a sky, a hill, some birds, and noise."""
    image = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(image)
    for y in range(height):
        draw.line((0, y, width, y), tuple(int(v) for v in rng.integers(90, 110, 3) + 100 * y // height))
    draw.ellipse((-20, height // 2, width, 2 * height), tuple(int(v) for v in rng.integers(0, 160, 3)))
    for _ in range(4):
        x, y = (int(v) for v in rng.integers(0, min(width, height), 2))
        draw.arc((x, y, x + 20, y + 12), 180, 360, (20, 20, 20), 2)
    noise = rng.integers(-12, 13, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def saved(image: Image.Image, kind: str, **settings) -> bytes:
    """Return an image as a file's bytes."""
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def noise(rng: np.random.Generator, count: int) -> bytes:
    """Return random bytes."""
    return bytes(rng.integers(0, 256, count, np.uint8))


def whole_images(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of images that are in order, one of every kind."""
    rgb, other = picture(rng), picture(rng)
    exif = Image.Exif()
    for orientation in (3, 6, 8):
        exif[0x0112] = orientation
        yield f"turned-{orientation}.jpg", saved(rgb, "JPEG", exif=exif)
    exif[0x9286] = b"ASCII\0\0\0" + b"x" * 60_000
    yield "huge-exif.jpg", saved(rgb, "JPEG", exif=exif)
    yield "broken-exif.jpg", saved(rgb, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + noise(rng, 200))
    yield "short-exif.jpg", saved(rgb, "JPEG", exif=b"Exif\0\0II*")
    yield "comment.jpg", saved(rgb, "JPEG", comment=b"a\nb\0c" * 50)
    yield from _jpegs(rgb)
    yield from _pngs(rgb, other, rng)
    frames = [picture(rng) for _ in range(4)]
    yield "animated.gif", saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    yield "transparent.gif", saved(rgb.quantize(16), "GIF", transparency=3)
    yield "grey.gif", saved(rgb.convert("L"), "GIF")
    yield "lossy.webp", saved(rgb, "WEBP", quality=60)
    yield "lossless.webp", saved(rgb, "WEBP", lossless=True)
    yield "alpha.webp", saved(rgb.convert("RGBA"), "WEBP")
    yield "animated.webp", saved(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    grey = np.asarray(rgb.convert("L"))
    yield "pages.tif", saved(rgb, "TIFF", save_all=True, append_images=frames)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield f"{compression}.tif", saved(rgb, "TIFF", compression=compression)
    yield "group4.tif", saved(rgb.convert("1"), "TIFF", compression="group4")
    yield "float.tif", saved(Image.fromarray(grey.astype(np.float32) / 255), "TIFF")
    holes = np.where(grey > 150, np.nan, np.where(grey > 120, np.inf, grey))
    yield "nan.tif", saved(Image.fromarray(holes.astype(np.float32)), "TIFF")
    yield "16.tif", saved(Image.fromarray(grey.astype(np.uint16) * 257), "TIFF")
    yield "32.tif", saved(Image.fromarray(grey.astype(np.int32) * 70_000 - 3), "TIFF")
    for mode in ("CMYK", "LAB", "YCbCr", "RGBA", "LA"):
        yield f"{mode}.tif", saved(rgb.convert(mode) if mode != "LAB" else Image.merge("LAB", rgb.split()), "TIFF")
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield f"{mode}.bmp", saved(rgb.convert(mode), "BMP")
    yield "rgb.ppm", saved(rgb, "PPM")
    yield "plain.ppm", b"P3 2 2 255\n" + b"1 2 3 " * 4
    yield "deep.ppm", b"P6 2 2 4095\n" + bytes(range(24))
    yield "grey.pgm", saved(rgb.convert("L"), "PPM")
    yield "rgb.avif", saved(rgb, "AVIF", speed=10)


def _jpegs(rgb: Image.Image) -> Iterator[tuple[str, bytes]]:
    yield "rgb.jpg", saved(rgb, "JPEG")
    yield "progressive.jpg", saved(rgb, "JPEG", progressive=True)
    yield "restart.jpeg", saved(rgb, "JPEG", restart_marker_blocks=2)
    yield "rough.jfif", saved(rgb, "JPEG", quality=1, subsampling=2)
    for mode in ("L", "CMYK"):
        yield f"{mode}.jpg", saved(rgb.convert(mode), "JPEG")
    yield "thumbnail.jpg", saved(rgb.resize((1, 1)), "JPEG")
    yield "icc.jpg", saved(rgb, "JPEG", icc_profile=b"no profile" * 9_000)
    yield "two.jpg", saved(rgb, "MPO", save_all=True, append_images=[rgb])
    yield "film.jpg", saved(rgb, "JPEG", comment=b"\xff\xda\0\0" * 200) + b"\xff\xda\0\0" * 200  # a phone's moving photograph


def _pngs(rgb: Image.Image, other: Image.Image, rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        image = rgb.convert(mode) if mode != "I;16" else Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 200)
        yield f"{mode.replace(';', '')}.png", saved(image, "PNG")
    for bits in (1, 2, 4):
        yield f"palette{bits}.png", saved(rgb.quantize(2 ** bits), "PNG", bits=bits)
    yield "holes.png", saved(rgb.quantize(16), "PNG", transparency=bytes(range(0, 160, 10)))
    yield "hole.png", saved(rgb, "PNG", transparency=(200, 100, 50))
    yield "animated.png", saved(rgb, "PNG", save_all=True, append_images=[other, rgb])
    for width, height in ((1, 1), (1, 3000), (3000, 1), (2, 2), (7, 5), (3, 4000)):
        yield f"{width}x{height}.png", saved(picture(rng, max(width, 25), max(height, 25)).crop((0, 0, width, height)), "PNG")
    for value in (0, 255):
        yield f"plain-{value}.png", saved(Image.new("RGB", (64, 64), (value,) * 3), "PNG")
    packed = resources.files("gilt") / "sample" / "sample.zip"
    with packed.open("rb") as file, zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith(".png")]
        for i in range(4):
            yield f"sample-{i}.png", archive.read(names[i * len(names) // 4])
    yield "deep.png", png((8, 4), zlib.compress(b"".join(b"\0" + noise(rng, 48) for _ in range(4))), bits=16, colour=2)
    # 8 x 8 grey, Adam7: the passes are 1x1 1x1 2x1 2x2 4x2 4x4 8x4
    passes = b"".join((b"\0" + noise(rng, width)) * height for width, height in
                      ((1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4)))
    yield "interlaced.png", png((8, 8), zlib.compress(passes), interlace=1)


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return one chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(size: tuple[int, int], packed: bytes, *extra: bytes, bits: int = 8, colour: int = 0, interlace: int = 0) -> bytes:
    """Return a PNG file written by hand: packed rows, and chunks before them."""
    head = struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(extra) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def mutants(images: dict[str, bytes], rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Yield every image cut short, with flipped bits in its head and anywhere, and under another's ending."""
    endings = list(ENDINGS.values())
    for name, data in images.items():
        stem, _, ending = name.rpartition(".")
        stem = f"{stem}-{ending}"
        for part in (0.1, 0.6, 0.97):
            yield f"cut-{stem}-{part}.{ending}", data[:int(len(data) * part)]
        for i, reach in enumerate((min(64, len(data)), min(600, len(data)), len(data), len(data))):
            flipped = bytearray(data)
            for place in rng.integers(0, reach, 1 + 2 * i):
                flipped[place] ^= 1 << int(rng.integers(8))
            yield f"flipped-{stem}-{i}.{ending}", bytes(flipped)
        yield f"swapped-{stem}.{endings[int(rng.integers(len(endings)))]}", data


def bombs() -> Iterator[tuple[str, bytes]]:
    """Yield small files that would take gigabytes or minutes, were they read to their end."""
    row = zlib.compress(bytes(2_000_000))
    yield "bomb.png", png((HUGE, HUGE), row)
    yield "bomb-wide.png", png((2 ** 31 - 1, 1), row)
    full = zlib.compress(bytes(80_000_000))
    yield "bomb-text.png", png((8, 8), row, chunk(b"zTXt", b"a\0\0" + full))
    yield "bomb-itext.png", png((8, 8), row, chunk(b"iTXt", b"a\0\1\0\0\0" + full))
    yield "bomb-icc.png", png((8, 8), row, chunk(b"iCCP", b"a\0\0" + full))
    yield "bomb.gif", b"GIF89a" + struct.pack("<HHBBB", HUGE, HUGE, 0, 0, 0) + b"," + struct.pack(
        "<HHHHB", 0, 0, HUGE, HUGE, 0) + b"\x02\x02\x4c\x01\0;"
    yield "bomb.bmp", b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, HUGE, HUGE, 1, 24, *[0] * 6)
    yield "bomb-rle.bmp", b"BM" + struct.pack("<IHHI", 1078, 0, 0, 1078) + struct.pack(
        "<IiiHHIIiiII", 40, HUGE, HUGE, 1, 8, 1, *[0] * 5) + bytes(1024) + b"\xff\0" * 900
    yield "bomb.ppm", b"P6 %d %d 255\n" % (HUGE, HUGE) + bytes(100)
    yield "bomb-header.ppm", b"P6 " + b"9" * 100_000 + b" 1 255\n"
    yield "bomb.tif", tiff({256: HUGE, 257: HUGE, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: HUGE, 279: 100})
    yield "bomb.webp", b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f" + struct.pack("<I", 16383 | 16383 << 14) + bytes(9)
    yield "bomb.jpg", _scans(b"\xc2", 65_500, 65_500, 1)
    yield "bomb-scans.jpg", _scans(b"\xc2", SIDE, SIDE, 3_000)
    yield "bomb-sequence.jpg", _scans(b"\xc0", SIDE, SIDE, 3_000)
    # formats that no ending here stands for: their readers in Python go on after the file's end, or start a program
    yield "endless-dds.jpg", b"DDS " + struct.pack("<7I44x", 124, 0x1007, SIDE, SIDE, 0, 0, 0) + struct.pack(
        "<8I", 32, 0x40, 0, 24, 0xFF, 0xFF00, 0xFF0000, 0) + bytes(20)
    yield "endless-eps.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n"
    yield "short-qoi.jpg", b"qoif" + struct.pack(">IIBB", 4, 4, 3, 0)
    inner = saved(Image.new("L", (SIDE, SIDE)), "PNG")
    yield "inside.ico.jpg", b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22) + inner


def _scans(kind: bytes, width: int, height: int, scans: int) -> bytes:
    """Return a grey JPEG of empty scans: a decoder walks over all its blocks once a scan."""
    tables = b"\xff\xdb\0\x43\0" + b"\x01" * 64 + b"\xff\xc4\0\x14\0\x01" + bytes(16) + b"\xff\xc4\0\x14\x10\x01" + bytes(16)
    frame = b"\xff" + kind + struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\x01\x11\0"
    first = b"\xff\xda\0\x08\x01\x01\0\0\0\0"
    return b"\xff\xd8" + tables + frame + first + b"\xff\xda\0\x08\x01\x01\0\x01\x3f\0" * scans + b"\xff\xd9"


def large() -> Iterator[tuple[str, bytes]]:
    """Yield images that are small on disk and not in memory, and are read all the same."""
    rows = zlib.compress((b"\0" + bytes(SIDE // 8)) * SIDE)
    palette = chunk(b"PLTE", bytes(range(6))) + chunk(b"tRNS", b"\x80\0")
    yield "large-holes.png", png((SIDE // 8 * 8, SIDE), rows, palette, bits=1, colour=3)
    yield "large.jpg", saved(Image.new("L", (SIDE, SIDE), 90), "JPEG")
    yield "canvas.gif", b"GIF89a" + struct.pack("<HHBBB", SIDE, SIDE, 0x80, 0, 0) + b"\1\2\3\4\5\6," + struct.pack(
        "<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0;"


def tiff(tags: dict[int, int], after: int = 0) -> bytes:
    """Return a TIFF file of one directory of 32-bit tags; `after` is where it says the next one stands."""
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", after) + bytes(64)


def broken(images: dict[str, bytes], rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Yield images that contradict themselves."""
    small = {256: 4, 257: 4, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 4, 279: 16}
    yield "circle.tif", tiff(small, after=8)
    yield "far.tif", tiff(small | {273: 2 ** 32 - 9})
    for tag, value in ((256, 0), (258, 0), (258, 77), (259, 34_712), (259, 9_999), (262, 99), (277, 9), (278, 0), (279, 0)):
        yield f"tag-{tag}-{value}.tif", tiff(small | {tag: value})
    yield "many-tags.tif", tiff(dict.fromkeys(range(1, 3_000), 2 ** 31))
    for kind in (1, 2, 5, 12, 13, 99):
        yield f"types-{kind}.tif", tiff(small).replace(struct.pack("<HHI", 256, 4, 1), struct.pack("<HHI", 256, kind, 2 ** 30))
    yield "no-frames.gif", b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0) + b";"
    data = images["RGB.png"]
    place = data.index(b"IDAT")
    yield "bad-crc.png", data[:29] + b"\0\0\0\0" + data[33:]
    yield "bad-idat.png", data[:place + 9] + b"\xff" * 40 + data[place + 49:]
    yield "no-idat.png", data[:place - 4] + chunk(b"IEND", b"")
    yield "no-palette.png", png((8, 8), zlib.compress(bytes(72)), colour=3)
    yield "short-palette.png", png((8, 8), zlib.compress((b"\0" + b"\xff" * 8) * 8), chunk(b"PLTE", b"\1\2\3"), colour=3)
    yield "no-actl.png", png((8, 8), zlib.compress(bytes(72)), chunk(b"acTL", struct.pack(">II", 0, 0)))
    yield "many-frames.png", png((8, 8), zlib.compress(bytes(72)), chunk(b"acTL", struct.pack(">II", 2 ** 31 - 1, 0)))
    yield "bits.png", png((8, 8), zlib.compress(bytes(72)), bits=3)
    data = images["rgb.jpg"]
    yield "two-heads.jpg", data[:2] + data
    yield "no-end.jpg", data[:-2]
    yield "tail.jpg", data + noise(rng, 5_000)
    yield "fill.jpg", data[:2] + b"\xff" * 5_000 + data[2:]
    yield "no-tables.jpg", data[:20] + data[data.index(b"\xff\xc0"):]
    yield "mpf.jpg", data[:2] + b"\xff\xe2\0\x0eMPF\0II*\0\x08\0\0" + data[2:]


def no_images(images: dict[str, bytes], rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Yield what bears an image's ending and is none."""
    yield "empty.jpg", b""
    yield "one.png", b"\x89"
    yield "svg.jpg", b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><rect width='9' height='9'/></svg>"
    yield "page.jpg", b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
    yield "text.png", b"just text\n" * 20
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a.jpg"), images["rgb.jpg"])  # no time of day
    yield "zip.jpg", file.getvalue()
    yield "pdf.jpg", b"%PDF-1.4\n%%EOF\n"
    for kind, head in {"jpg": b"\xff\xd8\xff\xe0", "png": b"\x89PNG\r\n\x1a\n", "gif": b"GIF89a", "webp": b"RIFF\0\0\0\0WEBP",
                       "tif": b"II*\0", "bmp": b"BM", "ppm": b"P6", "avif": b"\0\0\0\x1cftypavif"}.items():
        yield f"head.{kind}", head
        for i in range(3):
            yield f"noise-{i}.{kind}", head + noise(rng, 2_000)
        yield f"zeros.{kind}", head + bytes(2_000)
        yield f"raw.{kind}", noise(rng, 3_000)


def oddly_named(world: World, data: bytes) -> None:
    """Write whole images under names that need care."""
    for name in ("a b.jpg", "-rf.jpg", "naïve-Ωμέγα-鳥.jpg", "new\nline.jpg", "quote'\".jpg", "comma,semi;.jpg",
                 "per%20cent.jpg", "back\\slash.jpg", "[1]*?.jpg", "tab\t.jpg", "$(touch x).jpg", "x" * 240 + ".jpg",
                 "UPPER.JPG", "e\u0301.jpg", "\u202egpj.jpg", "two.dots..jpg", "bell\x07.jpg", "#hash.jpg", "=1+1.jpg"):
        world.add(name, data, fate="whole")
    world.add(".hidden.jpg", data, fate="hidden")
    for name in ("notes.txt", "no-ending", "x.jpg.part", "draw.svg", "movie.mp4"):
        world.add(name, data, fate="passed")


def no_files(world: World, data: bytes) -> None:
    """Make what is no plain file: links, a pipe, a folder with an image's name, and a file that may not be read."""
    root = world.root
    folder = root / world.place("folder.jpg", "passed")  # its image lies one folder deeper than the others
    folder.mkdir()
    (folder / "deep.jpg").write_bytes(data)
    (root / world.place("loop.jpg", "hopeless")).symlink_to("loop.jpg")
    first, second = root / world.place("ring-1.png", "hopeless"), root / world.place("ring-2.png", "hopeless")
    first.symlink_to(second)
    second.symlink_to(first)
    (root / world.place("nowhere.jpg", "hopeless")).symlink_to("/nowhere/at/all.jpg")
    (root / world.place("linked.jpg", "whole")).symlink_to(next(root / path for path in sorted(world.whole)))
    (root / world.place("up", "hidden")).symlink_to(root, target_is_directory=True)
    os.mkfifo(root / world.place("pipe.jpg", "passed"))
    (root / world.place("device.png", "passed")).symlink_to("/dev/zero")
    closed = root / world.add("closed.jpg", data)
    closed.chmod(0)
