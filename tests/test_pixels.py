"""The pixel cache: decoded once, shared by processes, safe to kill."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gilt
from conftest import draw, make_birds
from gilt.data.pixels import PixelCache, decode, decode_stream

P16 = gilt.Preprocessing(size=16)


def fill(cache, table, preprocessing=P16, **kw):
    return cache.pixels(table.paths, list(table.frame["sha256"]), preprocessing, **kw)


def test_pixels_are_those_of_the_files_in_order(tmp_path, birds):
    pack, rows = fill(PixelCache(tmp_path), birds)
    for i in (0, 17, 99):
        expected = np.asarray(Image.open(birds.paths[i]).convert("RGB").resize((16, 16), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(pack[rows[i]], expected)


def test_an_image_is_decoded_once_and_only_new_ones_later(tmp_path, birds):
    decoded = []
    cache = PixelCache(tmp_path)
    fill(cache, birds.take(slice(0, 30)), progress=lambda done, total: decoded.append(total))
    fill(cache, birds, progress=lambda done, total: decoded.append(total))
    fill(cache, birds, progress=lambda done, total: decoded.append(total))
    assert set(decoded) == {30, 70}
    pack, _ = fill(cache, birds)
    assert len(pack) == 100


def test_equal_content_under_two_names_is_stored_once(tmp_path):
    path = draw(tmp_path / "real" / "wren" / "a.png", (9, 9, 9), seed=1)
    (path.parent / "b.png").write_bytes(path.read_bytes())
    pack, rows = fill(PixelCache(tmp_path / "cache"), gilt.scan(tmp_path))
    assert len(pack) == 1
    assert list(rows) == [0, 0]


def test_a_file_that_changed_since_its_scan_is_refused(tmp_path):
    path = draw(tmp_path / "real" / "wren" / "a.png", (9, 9, 9), seed=1)
    table = gilt.scan(tmp_path)
    draw(path, (9, 9, 9), seed=2)
    with pytest.raises(gilt.ImageError, match=r"a.png has changed since it was scanned"):
        fill(PixelCache(tmp_path / "cache"), table)
    path.unlink()
    with pytest.raises(gilt.ImageError, match=r"a.png cannot be read: No such file"):
        fill(PixelCache(tmp_path / "cache"), table)


def test_what_a_killed_writer_left_is_written_over(tmp_path, birds):
    cache = PixelCache(tmp_path)
    fill(cache, birds.take(slice(0, 10)))
    folder = next(tmp_path.iterdir())
    with (folder / "data.bin").open("ab") as data:
        data.write(b"half an image")
    with (folder / "index.bin").open("ab") as index:
        index.write(b"half a hash")
    pack, rows = fill(cache, birds)
    whole, places = fill(PixelCache(tmp_path / "fresh"), birds)
    np.testing.assert_array_equal(pack[rows], whole[places])


@pytest.mark.slow
def test_processes_that_fill_one_cache_and_a_kill_leave_it_right(tmp_path):
    """Three processes fill one cache; one is killed on the way. What is read back is what the files hold."""
    make_birds(tmp_path / "birds", real=150, generated=150, size=64)
    table = gilt.scan(tmp_path / "birds")
    table.save(tmp_path / "t.parquet")
    code = ("import gilt; t = gilt.ImageTable.load('t.parquet'); "
            "gilt.PixelCache('cache').pixels(t.paths, list(t.frame['sha256']), gilt.Preprocessing(size=200))")
    workers = [subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path) for _ in range(3)]
    deadline = time.time() + 60
    while not list((tmp_path / "cache").glob("*/index.bin")) and time.time() < deadline:
        time.sleep(0.01)
    os.kill(workers[0].pid, signal.SIGKILL)
    assert [worker.wait(60) for worker in workers][1:] == [0, 0]
    pack, rows = fill(PixelCache(tmp_path / "cache"), table, gilt.Preprocessing(size=200))
    assert len(pack) == 600
    for i in range(0, 600, 50):
        np.testing.assert_array_equal(pack[rows[i]], decode(table.paths[i], gilt.Preprocessing(size=200)))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1", "I;16", "I", "F"])
def test_every_colour_mode_becomes_rgb(tmp_path, mode):
    gradient = Image.linear_gradient("L")
    deep = Image.fromarray(np.asarray(gradient).astype(np.uint16) * 257)
    image = deep if mode == "I;16" else gradient.convert(mode)
    path = tmp_path / ("a.tif" if mode in ("CMYK", "I", "F", "I;16") else "a.png")
    image.save(path)
    pixels = decode(path, P16)
    assert pixels.shape == (16, 16, 3)
    assert pixels.dtype == np.uint8
    assert pixels.mean() == pytest.approx(127, abs=4)


def test_transparency_is_laid_on_white(tmp_path):
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "a.png")
    assert (decode(tmp_path / "a.png", P16) == 255).all()


def test_a_photograph_taken_sideways_is_turned_upright(tmp_path):
    image = Image.new("RGB", (20, 10), "black")
    image.paste("white", (0, 0, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    pixels = decode(tmp_path / "a.jpg", P16)
    assert pixels[:6].mean() > 240
    assert pixels[10:].mean() < 15


def test_an_unreadable_image_names_the_file(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no")
    with pytest.raises(gilt.ImageError, match=r"a.png cannot be read: empty or no image"):
        decode(tmp_path / "a.png", P16)


def test_a_stream_keeps_order_and_goes_on_past_a_bad_file(tmp_path):
    paths = [draw(tmp_path / f"{i}.png", (10 * i, 0, 0), seed=i) for i in range(9)]
    paths[4].write_bytes(b"no")
    out = list(decode_stream(paths, P16, ahead=3))
    assert [path for path, _ in out] == paths
    assert isinstance(out[4][1], gilt.ImageError)
    assert sum(isinstance(image, np.ndarray) for _, image in out) == 8


def test_a_full_disk_is_one_clear_error(birds):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    from gilt.files import writing
    with pytest.raises(gilt.StoreError, match="the disk is full"), writing("x"), open("/dev/full", "wb", buffering=0) as f:
        f.write(b"x")
