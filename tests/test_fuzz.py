"""Bad files: none crashes or hangs a command, none warns, and every one is accounted for."""
import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import fuzz
import gilt
from conftest import SHARED, draw
from gilt.data import pixels
from gilt.data.audit import audit
from gilt.data.clean import cleaned
from gilt.data.findings import Audit
from gilt.data.gather import read_facts
from gilt.data.pixels import PixelCache, decode, open_image, plain_rgb
from gilt.data.table import STATISTICS

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
SECONDS = 90  # that a command may take on a busy machine: far less than a hang, or one bomb read to its end
MOST_MEMORY = 2_500  # MiB


@dataclass(frozen=True)
class Ran:
    """What a command printed, and the most memory that it held, in MiB."""

    code: int
    output: str
    text: str  # output and errors
    memory: int


def run(*words, cwd) -> Ran:
    """Run a command to its end and check that nothing went wrong that gilt did not say."""
    code = "import resource, sys; from gilt.cli import main\n" \
           "try: main()\n" \
           "finally: print('memory', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], cwd=cwd, capture_output=True, timeout=SECONDS)
    text = (done.stdout + done.stderr).decode("utf-8", "backslashreplace")
    assert "Traceback" not in text
    assert "Warning" not in text
    kibibytes = int(text.rstrip().rsplit("memory ", 1)[1])
    output = done.stdout.decode("utf-8", "replace")
    return Ran(done.returncode, output, text, kibibytes // (1024 if sys.platform != "darwin" else 1024 ** 2))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """More than 500 files, as `fuzz.make` makes them."""
    world = fuzz.make(tmp_path_factory.mktemp("fuzz") / "all")
    assert len(world.rows) > 500
    return world


@pytest.fixture(scope="module")
def scanned(world) -> Ran:
    ran = run("scan", world.root, "-o", "table.parquet", cwd=world.root.parent)
    assert ran.code == 0, ran.text
    return ran


@pytest.fixture(scope="module")
def table(world, scanned):
    return gilt.ImageTable.load(world.root.parent / "table.parquet")


def test_the_world_is_the_same_for_the_same_seed(tmp_path, world):
    again = fuzz.make(tmp_path)
    assert again.rows == world.rows
    paths = sorted(world.rows - {path for path in world.rows if (world.root / path).is_symlink()})
    differ = [path for path in paths if (world.root / path).read_bytes() != (tmp_path / path).read_bytes()]
    assert not differ


def test_every_file_is_a_row_or_is_counted_as_passed_over(world, scanned, table):
    assert set(table.frame["path"]) == world.rows
    assert len(table) == len(world.rows)
    counted = sum(int(number) for number in re.findall(
        r"^note: (\d+) (?:other files passed over|pipes or devices|images fit no layout)", scanned.text, re.MULTILINE))
    assert counted == len(world.passed)
    on_disk = sum(len(files) for _, _, files in os.walk(world.root))  # `up` is a link to a folder, `folder.jpg` one itself
    assert on_disk == len(world.rows) + len(world.passed) + len(world.hidden) - 1


def test_whole_images_are_readable_and_hopeless_ones_are_not(world, table):
    usable = set(table.usable.frame["path"])
    assert not world.whole - usable
    assert not world.hopeless & usable
    assert len(usable) > 250
    assert len(table) - len(usable) > 250


def test_reasons_are_one_short_line(table):
    reasons = table.frame["excluded"].dropna()
    assert all(re.fullmatch(r"unreadable: [^\n\r]{3,200}", reason) for reason in reasons)
    assert not reasons.str.contains("0x|<|object at").any()


def test_facts_of_readable_images_are_whole_and_finite(table):
    frame = table.usable.frame
    assert np.isfinite(frame[list(STATISTICS)].to_numpy(float)).all()
    assert (frame[["width", "height", "bytes"]] > 0).all(axis=None)
    assert frame[["format", "mode", "sha256", "phash"]].notna().all(axis=None)
    assert (frame["phash"].str.len() == 70).all()


def test_a_scan_holds_little_memory(scanned):
    assert scanned.memory < MOST_MEMORY


def test_reading_a_bad_file_never_warns_whatever_the_filters(world, table):
    """Warnings are errors in these tests, in this process as well."""
    reasons = dict(zip(table.frame["path"], table.frame["excluded"], strict=True))
    for path in sorted(world.rows):
        if "large" not in path and "canvas" not in path:
            now = read_facts(world.root / path)["excluded"]
            assert (now is None) == (reasons[path] is None), (path, now, reasons[path])


def test_an_audit_goes_through_with_every_check(world, scanned, table):
    ran = run("audit", "table.parquet", "--json", "--html", "audit.html", cwd=world.root.parent)
    assert ran.code == 0, ran.text
    assert ran.memory < MOST_MEMORY
    (world.root.parent / "audit.json").write_text(ran.output)
    found = Audit.load(world.root.parent / "audit.json")
    assert set(found.skipped) <= {"leaks", "source-leaks", "seen", "watermark"}  # there is no split, and many images are tiny
    unread = found.of("unreadable")[0]
    assert set(unread.rows) == set(table.frame["path"][table.frame["excluded"].notna()])
    copies = found.of("exact-duplicates")[0]
    assert any("linked.jpg" in path for path in copies.rows)
    assert found.of("near-duplicates", "shortcuts", "pixel-shortcuts")


def test_looking_at_the_pictures_themselves_never_warns(table):
    """In this process, where warnings are errors."""
    frame = table.usable.frame
    found = audit(table.usable.take(frame[["width", "height"]].min(axis=1).between(72, 5_000).to_numpy()),
                  checks=("near-duplicates", "watermark", "grid", "out-of-context", "blurred"))
    assert not found.skipped
    assert found.of("near-duplicates")


def test_readable_images_have_pixels(tmp_path, table):
    usable = table.usable
    pack, rows = PixelCache(tmp_path).pixels(usable.paths, list(usable.frame["sha256"]), gilt.Preprocessing(size=16))
    assert len(rows) == len(usable)
    assert pack[rows].std() > 20


def test_predict_gives_a_line_a_file_and_an_error_for_the_bad_ones(tmp_path, world, table, birds):
    classifier = gilt.train(birds, gilt.TrainConfig(model="lenet5", epochs=1, batch_size=32))
    classifier.save(tmp_path / "c.safetensors")
    ran = run("predict", "c.safetensors", world.root, "-o", "out.csv", cwd=tmp_path)
    assert ran.code == 0, ran.text
    assert ran.memory < MOST_MEMORY
    lines = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)
    below = [os.path.relpath(path, world.root) for path in lines["path"]]
    deeper = {path for path in below if path.endswith("folder.jpg/deep.jpg")}  # predict asks for no layout
    assert len(deeper) == 1
    assert len(below) == len(world.rows) + 1
    assert set(below) == world.rows | deeper
    bad = {path for path, error in zip(below, lines["error"], strict=True) if error}
    assert bad == set(table.frame["path"][table.frame["excluded"].notna()])
    assert set(lines["label"][lines["error"] == ""]) <= {"robin", "wren"}
    assert (lines["label"][lines["error"] != ""] == "").all()


def test_equalising_accounts_for_every_image(tmp_path, world, table):
    ran = run("clean", world.root.parent / "table.parquet", "--no-audit", "--set", "equalise=true", "--set", "size=32",
              "-o", "equal", cwd=tmp_path)
    assert ran.code == 0, ran.text
    assert ran.memory < MOST_MEMORY
    new = gilt.ImageTable.load(tmp_path / "equal" / "table.parquet")
    assert len(new) == len(table)
    made = new.usable.frame
    assert set(made["cleaned_from"]) < set(table.usable.frame["path"])
    refused = len(table.usable) - len(made)
    assert new.frame["excluded"].fillna("").str.startswith("equalise: ").sum() == refused
    files = sorted((tmp_path / "equal" / "images").rglob("*.*"))
    assert len(files) == len(made)
    assert (made["width"] == 32).all()
    assert (made["format"] == "JPEG").all()


def test_every_kind_of_image_can_be_cropped_in_its_own_format(tmp_path, world, table):
    new = cleaned(table.take([path in world.whole and "large" not in path and "canvas" not in path
                              for path in table.frame["path"]]), to=tmp_path / "cropped",
                  settings={"crop": {"left": 0.1, "right": 0.1}}).table
    left_out = new.frame["excluded"].dropna()
    assert left_out.str.match("(crop|unreadable): ").all()
    assert len(left_out) < 5
    assert len(new) == len(new.usable) + len(left_out)


@pytest.mark.shared
@pytest.mark.skipif(not (SHARED / "data" / "grocery").is_dir(), reason="needs ../shared/data/grocery")
def test_photographs_with_flipped_bits_are_read_or_refused_with_a_reason(tmp_path):
    rng = np.random.default_rng(0)
    for photograph in sorted((SHARED / "data" / "grocery").rglob("*.jpg"))[:4]:
        data = bytearray(photograph.read_bytes())
        for i in range(10):
            data[int(rng.integers(len(data)))] ^= 1 << i % 8
            path = tmp_path / f"{i}.jpg"
            path.write_bytes(data[:len(data) * (20 - i) // 20])
            facts = read_facts(path)
            assert facts["excluded"] or all(np.isfinite(facts[name]) for name in STATISTICS)
            assert i == 0 or facts["excluded"].startswith("unreadable: ")  # cut short


@pytest.mark.parametrize("name, reason", [
    ("bomb.png", "decompression bomb"), ("bomb-scans.jpg", "more than 100 scans"), ("bomb-sequence.jpg", "more than 100 scans"),
    ("bomb-text.png", "too large"), ("endless-dds.jpg", "no image"), ("endless-eps.jpg", "no image"),
    ("loop.jpg", "Too many levels of symbolic links"), ("nowhere.jpg", "No such file"), ("empty.jpg", "no image")])
def test_a_reason_says_what_is_wrong(table, name, reason):
    rows = table.frame[table.frame["path"].str.endswith(f"/{name}")]
    assert reason in rows["excluded"].iloc[0]


def test_a_broken_exif_block_costs_no_image(world, table):
    path = next(path for path in world.whole if path.endswith("/broken-exif.jpg"))
    assert decode(world.root / path, gilt.Preprocessing(size=8)).shape == (8, 8, 3)


def test_values_that_are_no_bytes_are_scaled_to_them(tmp_path):
    ramp = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (4, 1))
    expected = np.linspace(0, 255, 64)
    for name, values in {"part.tif": ramp, "bytes.tif": ramp * 255, "words.tif": ramp * 65_535,
                         "16.png": (ramp * 65_535).astype(np.uint16), "32.tif": (ramp * 65_535).astype(np.int32)}.items():
        Image.fromarray(values).save(tmp_path / name)
        with open_image(tmp_path / name) as image:
            grey = np.asarray(plain_rgb(image))[0, :, 0]
        assert np.abs(grey - expected).max() <= 1, name


def test_transparency_is_laid_on_white_also_in_strips(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (50, 20, 4), np.uint8))
    whole = plain_rgb(image)
    monkeypatch.setattr(pixels, "STRIP", 7)
    assert plain_rgb(image).tobytes() == whole.tobytes()
    alpha = np.asarray(image)[:, :, 3:] / 255
    assert np.abs(np.asarray(whole) - (np.asarray(image)[:, :, :3] * alpha + 255 * (1 - alpha))).max() <= 1


def test_large_images_wait_for_room():
    room, held, most = pixels._Room(10_000_000), [], []

    def hold() -> None:
        with room.taken(4_500_000):
            held.append(1)
            most.append(len(held))
            time.sleep(0.02)
            held.pop()

    threads = [threading.Thread(target=hold) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(most) == 6
    assert max(most) == 2
    assert room.free == 10_000_000


def test_a_link_to_itself_does_not_stop_a_scan(tmp_path):
    draw(tmp_path / "real" / "wren" / "a.png", (9, 9, 9), seed=1)
    (tmp_path / "real" / "loop").symlink_to("loop")
    (tmp_path / "real" / "wren" / "b.png").symlink_to("b.png")
    assert list(gilt.scan(tmp_path).usable.frame["path"]) == ["real/wren/a.png"]


def test_other_processes_say_the_same_of_bad_files(tmp_path, world, monkeypatch):
    from gilt.data import gather

    small = tmp_path / "small" / "real" / "wren"
    small.mkdir(parents=True)
    for path in sorted(world.rows)[::5]:
        source = world.root / path
        if source.is_file() and "large" not in path and "canvas" not in path:
            (small / f"{len(list(small.iterdir()))}{source.suffix}").write_bytes(source.read_bytes())
    here = gilt.scan(tmp_path / "small")
    monkeypatch.setattr(gather, "MANY", 0)
    pd.testing.assert_frame_equal(gilt.scan(tmp_path / "small", threads=2).frame, here.frame)


def test_a_pipe_or_an_immense_file_is_refused_before_it_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with (tmp_path / "immense.jpg").open("wb") as file:
        file.truncate(2**30 + 1)  # all hole: it takes no room on disk
    assert read_facts(tmp_path / "pipe.jpg")["excluded"] == "unreadable: a pipe or device, no file"
    assert read_facts(tmp_path / "immense.jpg")["excluded"] == "unreadable: larger than 1,024 MB"
