"""Cleaning images: cropped, cut, turned, converted and equalised into another folder, whole or not at all."""
import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

import gilt
from conftest import SHARED, draw, make_birds
from gilt.config import CropConfig
from gilt.data.clean import clean, cleaned
from gilt.data.reencode import Recipe, remake
from gilt.data.table import ImageTable
from gilt.training import Encoding
from test_clean import audit_of, found


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def photograph(path, size=(60, 40), **settings):
    """Write a smooth picture, brighter to the right and below."""
    x, y = np.meshgrid(np.linspace(0, 200, size[0]), np.linspace(0, 55, size[1]))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.stack([x + y, x, 100 + y], 2).astype(np.uint8)).save(path, **settings)
    return path


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def snapshot(folder):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_a_strip_is_cropped_from_some_origins_only_and_originals_stay(tmp_path, caplog):
    birds = make_birds(tmp_path / "birds", real=2, generated=2)
    before = snapshot(birds)
    table = gilt.scan(birds)
    result = clean(table, to=tmp_path / "out", crop={"bottom": 4, "left": 0.25}, crop_origins="painter")
    assert snapshot(birds) == before
    assert "only images of painter are cropped" in caplog.text
    assert result.root == (tmp_path / "out" / "images").resolve()
    result.check_files()
    for path, row in zip(result.paths, result.frame.to_dict("records"), strict=True):
        if row["origin"] == "real":
            assert row["cleaned_from"] is None
            assert path.resolve().is_relative_to(birds.resolve())
        else:
            np.testing.assert_array_equal(pixels(path), pixels(birds / row["cleaned_from"])[:20, 6:])
            assert (row["width"], row["height"], row["format"]) == (18, 20, "PNG")
            assert row["sha256"] == gilt.files.sha256(path.read_bytes())
            assert row["modified"] == path.stat().st_mtime_ns
    assert not list((tmp_path / "out").rglob("*.tmp"))
    assert len(list((tmp_path / "out" / "images").rglob("*.png"))) == 4


def test_only_rows_of_the_finding_are_cropped(tmp_path):
    table = gilt.scan(make_birds(tmp_path / "birds", real=2, generated=1))
    audit = audit_of(table, found("watermark", rows=["real/wren/000.png", "painter/wren/g000.png"]))
    result = cleaned(table, audit, to=tmp_path / "out", settings={"crop": {"top": 3}, "crop_rows": "finding"})
    assert sorted(result.table.frame["cleaned_from"].dropna()) == ["painter/wren/g000.png", "real/wren/000.png"]
    assert result.files == 2
    assert result.unfixed == ()


def test_a_crop_that_leaves_nothing_leaves_the_row_out(tmp_path):
    draw(tmp_path / "birds" / "real" / "wren" / "large.png", (9, 9, 9), seed=1, size=40)
    draw(tmp_path / "birds" / "real" / "wren" / "small.png", (9, 9, 9), seed=2, size=20)
    result = clean(gilt.scan(tmp_path / "birds"), to=tmp_path / "out", crop={"bottom": 20})
    assert list(result.frame["excluded"]) == [None, "crop: nothing is left of 20 x 20 pixels"]
    assert list(result.frame["cleaned_from"]) == ["real/wren/large.png", None]
    result.check_files()


def test_a_grid_becomes_its_parts_which_no_split_parts_from_what_was_made_of_it(tmp_path):
    birds = tmp_path / "birds"
    for i in range(12):
        draw(birds / "real" / "wren" / f"{i}.png", (9, 90, 9), seed=i)
    grid = draw(birds / "real" / "wren" / "grid.png", (99, 9, 9), seed=99, size=21)
    draw(birds / "real" / "wren" / "grid_2.png", (9, 90, 9), seed=77)  # a name that a part would take
    draw(birds / "painter" / "wren" / "grid.png", (9, 90, 9), seed=55)
    table = gilt.scan(birds, source="stem").with_column("lens", "nikon")
    audit = audit_of(table, found("grid", rows=["real/wren/grid.png"], grids={"real/wren/grid.png": [2, 2]}))
    result = clean(table, audit, to=tmp_path / "out", grid="finding")
    parts = result.frame[result.frame["parent"].notna()]
    assert list(parts["path"]) == [f"real/wren/grid__{i}.png" for i in range(1, 5)]
    assert set(parts["lens"]) == {"nikon"}
    assert set(parts["class"]) == {"wren"}
    whole = pixels(grid)
    for path, (y, x) in zip(parts["path"], [(0, 0), (0, 10), (10, 0), (10, 10)], strict=True):
        np.testing.assert_array_equal(pixels(result.root / path), whole[y:y + 10, x:x + 10])
    original = result.frame[result.frame["excluded"].notna()].iloc[0]
    assert original["excluded"] == "grid: cut into 4 parts"
    assert set(parts["parent"]) == {original["path"]}
    assert (result.root / original["path"]).resolve() == grid.resolve()
    offspring = result.generated.frame.iloc[0]
    assert offspring["source"] == original["path"]
    for seed in range(6):
        for target in ("class", "origin"):
            dealt = gilt.split(result, target=target, seed=seed, train=0.5, val=0.2, test=0.3).usable.frame
            together = dealt[dealt["parent"].notna() | (dealt["origin"] != "real")]
            assert together["split"].nunique() == 1


def test_a_grid_that_was_in_the_test_stays_in_the_test_and_its_offspring_in_train_is_recognised(tmp_path):
    birds = tmp_path / "birds"
    draw(birds / "train" / "real" / "wren" / "a.png", (9, 90, 9), seed=1)
    draw(birds / "test" / "real" / "wren" / "grid.png", (99, 9, 9), seed=2)
    draw(birds / "train" / "painter" / "wren" / "grid.png", (99, 9, 9), seed=3)
    table = gilt.scan(birds, "{split}/{origin}/{class}", source="stem")
    result = clean(table, to=tmp_path / "out", grid="1x2", grid_rows="test/*")
    assert list(result.frame[result.frame["parent"].notna()]["split"]) == ["test", "test"]
    after = gilt.split(result).frame
    assert list(after[after["origin"] == "painter"]["excluded"]) == ["made from a test image"]


def test_a_source_link_follows_its_image_to_the_new_path(tmp_path):
    birds = tmp_path / "birds"
    draw(birds / "real" / "wren" / "a.png", (9, 90, 9), seed=1)
    draw(birds / "painter" / "wren" / "a.png", (9, 90, 9), seed=2)
    table = gilt.scan(birds, source="stem")
    result = clean(table, to=tmp_path / "out", equalise=True)
    assert list(result.generated.frame["source"]) == ["real/wren/a.jpg"]
    half = clean(table, to=tmp_path / "half", crop={"top": 1}, crop_origins="painter")
    assert half.generated.frame["source"].iloc[0] == half.real.frame["path"].iloc[0]


def motley(folder):
    """Write images of every kind: formats, modes, sizes, shapes, EXIF, comments."""
    photograph(folder / "real" / "wren" / "a.jpg", (90, 60), quality=70, exif=turned(6), comment=b"taken by Ann")
    photograph(folder / "real" / "wren" / "b.JPEG", (60, 90), quality=95, subsampling=2, progressive=True)
    with Image.open(photograph(folder / "grey.png")) as grey:
        grey.convert("L").save(folder / "real" / "wren" / "grey.jpg")
        grey.convert("CMYK").save(folder / "real" / "wren" / "cmyk.jpg")
        (folder / "painter" / "wren").mkdir(parents=True)
        grey.convert("P").save(folder / "painter" / "wren" / "palette.gif")
        grey.convert("RGBA").save(folder / "painter" / "wren" / "alpha.png", dpi=(300, 300))
        grey.save(folder / "painter" / "wren" / "b.webp")
        Image.fromarray(np.arange(60 * 50, dtype=np.uint16).reshape(50, 60) * 20).save(folder / "painter" / "wren" / "deep.png")
    (folder / "grey.png").unlink()
    return folder


@pytest.mark.parametrize("settings", [{}, {"mode": "L"}, {"subsampling": "4:2:0", "quality": 60}, {"precompress": 95}])
def test_equalised_images_differ_in_nothing_but_their_pixels(tmp_path, settings):
    birds = motley(tmp_path / "birds")
    before = snapshot(birds)
    result = clean(gilt.scan(birds), to=tmp_path / "out", equalise=True, **settings)
    assert snapshot(birds) == before
    assert len(result.usable) == 8
    facts = result.frame[["width", "height", "format", "mode", "quality"]].drop_duplicates()
    assert len(facts) == 1
    assert tuple(facts.iloc[0][:4]) == (40, 40, "JPEG", settings.get("mode", "RGB"))
    assert {path.suffix for path in result.paths} == {".jpg"}
    files = [path.read_bytes() for path in result.paths]
    headers = {data[:data.index(b"\xff\xda")] for data in files}  # all before the pixels: tables, size, sampling, markers
    assert len(headers) == 1
    with Image.open(io.BytesIO(files[0])) as image:
        assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
        if "mode" not in settings:
            assert JpegImagePlugin.get_sampling(image) == (2 if "subsampling" in settings else 0)


def test_equalised_images_show_the_middle_upright(tmp_path):
    photograph(tmp_path / "birds" / "real" / "wren" / "a.jpg", (90, 60), quality=95, exif=turned(6))
    result = clean(gilt.scan(tmp_path / "birds"), to=tmp_path / "out", equalise=True, size=30)
    with Image.open(tmp_path / "birds" / "real" / "wren" / "a.jpg") as image:
        wanted = np.asarray(image.transpose(Image.Transpose.ROTATE_270).crop((0, 15, 60, 75)).resize((30, 30)), float)
    assert np.abs(pixels(result.paths[0]) - wanted).mean() < 4


def test_images_smaller_than_the_common_size_are_left_out_or_enlarged(tmp_path, caplog):
    draw(tmp_path / "birds" / "real" / "wren" / "a.png", (9, 90, 9), seed=1, size=70)
    draw(tmp_path / "birds" / "real" / "wren" / "b.png", (9, 90, 9), seed=2, size=40)
    table = gilt.scan(tmp_path / "birds")
    result = clean(table, to=tmp_path / "out", equalise=True, size=64)
    assert list(result.frame["excluded"]) == [None, "equalise: 40 x 40 pixels, smaller than 64"]
    assert not caplog.text
    assert len(clean(table, to=tmp_path / "up", equalise=True, size=64, upscale=True).usable) == 2
    chosen = clean(table, to=tmp_path / "chosen", equalise=True)
    assert set(chosen.frame["width"]) == {40}
    assert "every image becomes 40 x 40 pixels, the shorter side of real/wren/b.png" in caplog.text


def test_the_common_size_counts_what_cropping_leaves_and_is_512_at_most(tmp_path):
    photograph(tmp_path / "birds" / "real" / "wren" / "a.png", (900, 700))
    photograph(tmp_path / "birds" / "painter" / "wren" / "b.png", (800, 600))
    table = gilt.scan(tmp_path / "birds")
    assert set(clean(table, to=tmp_path / "a", equalise=True).frame["width"]) == {512}
    settings = {"crop": {"bottom": 0.5}, "crop_origins": "painter"}
    assert set(clean(table, to=tmp_path / "b", equalise=True, **settings).frame["width"]) == {300}
    assert len(clean(table, to=tmp_path / "b", equalise=True, **settings).usable) == 2


def test_turning_writes_only_what_is_turned_and_drops_the_tag(tmp_path):
    folder = tmp_path / "birds" / "real" / "wren"
    photograph(folder / "flat.jpg", quality=90)
    photograph(folder / "turned.jpg", quality=90, exif=turned(8))
    photograph(folder / "turned.png", exif=turned(3))
    result = clean(gilt.scan(tmp_path / "birds"), to=tmp_path / "out", upright=True)
    rows = {Path(path).name: path for path in result.frame["path"]}
    assert rows["flat.jpg"].endswith("birds/real/wren/flat.jpg")
    assert sorted(result.frame["cleaned_from"].dropna()) == ["real/wren/turned.jpg", "real/wren/turned.png"]
    np.testing.assert_array_equal(pixels(result.root / rows["turned_png.png"]), pixels(folder / "turned.png")[::-1, ::-1])
    with Image.open(result.root / rows["turned_jpg.jpg"]) as new, Image.open(folder / "turned.jpg") as old:
        assert new.size == (40, 60)
        assert not dict(new.getexif())
        assert new.quantization == old.quantization
        assert np.abs(np.asarray(new, float) - np.rot90(np.asarray(old), 1)).mean() < 2


@pytest.mark.parametrize("kind", ["png", "bmp", "tif", "webp"])
def test_lossless_formats_stay_lossless(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    photograph(path, **({"lossless": True} if kind == "webp" else {}))
    made = remake(path.read_bytes(), Recipe(crop=CropConfig(right=10)))
    with Image.open(io.BytesIO(made.parts[0])) as new:
        assert new.format == made.format == Image.registered_extensions()[f".{kind}"]
        np.testing.assert_array_equal(np.asarray(new), pixels(path)[:, :50])


def test_colours_are_converted_on_white_and_right_ones_are_left_alone(tmp_path):
    folder = tmp_path / "birds" / "real" / "wren"
    photograph(folder / "rgb.jpg")
    Image.new("RGBA", (20, 20), (255, 0, 0, 0)).save(folder / "clear.png")
    Image.new("P", (20, 20)).save(folder / "palette.gif")
    result = clean(gilt.scan(tmp_path / "birds"), to=tmp_path / "out", mode="RGB")
    rows = result.frame.set_index(result.frame["path"].map(lambda path: Path(path).stem))
    assert rows["cleaned_from"]["rgb"] is None
    assert (pixels(result.root / rows["path"]["clear"]) == 255).all()
    assert (rows["path"]["palette"], rows["format"]["palette"]) == ("real/wren/palette.png", "PNG")
    assert set(rows["mode"].loc[["clear", "palette"]]) == {"RGB"}


def test_a_colour_profile_stays_with_its_colours_only(tmp_path):
    path = photograph(tmp_path / "a.png", icc_profile=b"profile")
    for recipe, profile in ((Recipe(crop=CropConfig(top=1)), b"profile"), (Recipe(mode="L"), None),
                            (Recipe(equal=Encoding(size=30, precompress=None)), None)):
        with Image.open(io.BytesIO(remake(path.read_bytes(), recipe).parts[0])) as image:
            assert image.info.get("icc_profile") == profile


def test_everything_is_copied_when_asked_and_the_folder_can_move(tmp_path):
    birds = make_birds(tmp_path / "birds", real=2, generated=1)
    (birds / "real" / "wren" / "broken.png").write_text("no image")
    result = clean(gilt.scan(birds), to=tmp_path / "out", copy_all=True, crop={"top": 1}, crop_origins="painter")
    assert len(result.usable) == 6
    copied = result.usable.real
    for path, old in zip(copied.paths, copied.frame["cleaned_from"], strict=True):
        assert path.read_bytes() == (birds / old).read_bytes()
    (tmp_path / "out").rename(tmp_path / "moved")
    ImageTable.load(tmp_path / "moved" / "table.parquet").usable.check_files()


def test_two_files_of_one_name_do_not_overwrite_each_other(tmp_path):
    folder = tmp_path / "birds" / "real" / "wren"
    for i, name in enumerate(("a.png", "a.jpg", "A.bmp", "a_png.png")):
        draw(folder / name, (9, 90, 9), seed=i)
    result = clean(gilt.scan(tmp_path / "birds"), to=tmp_path / "out", equalise=True)
    assert result.frame["path"].str.lower().nunique() == 4
    assert result.frame["sha256"].nunique() == 4
    for path, digest in zip(result.paths, result.frame["sha256"], strict=True):
        assert gilt.files.sha256(path.read_bytes()) == digest


def test_images_that_broke_or_changed_since_the_scan_are_left_out_with_the_reason(tmp_path):
    birds = make_birds(tmp_path / "birds", real=2, generated=1)
    table = gilt.scan(birds)
    (birds / "real" / "wren" / "000.png").unlink()
    draw(birds / "real" / "wren" / "001.png", (1, 2, 3), seed=123)
    (birds / "real" / "robin" / "000.png").write_bytes(b"")
    result = cleaned(table, to=tmp_path / "out", settings={"equalise": True})
    reasons = dict(zip(result.table.frame["cleaned_from"].fillna(result.table.frame["path"]), result.table.frame["excluded"],
                       strict=True))
    gone = {Path(path).as_posix().split("birds/")[1]: why for path, why in reasons.items() if why}
    assert set(gone) == {"real/wren/000.png", "real/wren/001.png", "real/robin/000.png"}
    assert all(why.startswith("unreadable: ") for why in gone.values())
    assert "has changed since it was scanned" in gone["real/wren/001.png"]
    assert result.steps == {"left out: unreadable": 3, "equalised": 3}


def test_a_folder_that_is_gone_and_an_origin_that_is_left_out_are_said(tmp_path, caplog):
    draw(tmp_path / "birds" / "real" / "wren" / "a.png", (9, 90, 9), seed=1, size=70)
    draw(tmp_path / "birds" / "painter" / "wren" / "b.png", (9, 90, 9), seed=2, size=40)
    table = gilt.scan(tmp_path / "birds")
    clean(table, to=tmp_path / "out", equalise=True, size=64)
    assert "no usable image is left of origin painter" in caplog.text
    (tmp_path / "birds").rename(tmp_path / "moved")
    with pytest.raises(gilt.TableError, match=r"birds is not there\. If it moved, say where it is: --root"):
        clean(table, to=tmp_path / "new", equalise=True)
    assert not (tmp_path / "new").exists()


def test_a_finding_of_a_grid_without_its_shape_is_refused(tmp_path):
    table = gilt.scan(make_birds(tmp_path / "birds", real=1, generated=1))
    audit = audit_of(table, found("grid", rows=["real/wren/000.png"], grids={"real/wren/000.png": "2x2"}))
    with pytest.raises(gilt.TableError, match="does not say rows and columns"):
        clean(table, audit, to=tmp_path / "out", grid="finding")


def test_an_image_that_cannot_be_decoded_is_a_reason_too(tmp_path):
    with pytest.raises(gilt.ImageError, match="unreadable: "):
        remake(photograph(tmp_path / "a.png").read_bytes()[:90], Recipe(mode="L"))


def test_a_second_run_takes_over_what_is_whole_and_removes_what_is_not_wanted_any_more(tmp_path, caplog):
    table = gilt.scan(make_birds(tmp_path / "birds", real=2, generated=2))
    out = tmp_path / "out"
    first = clean(table, to=out, equalise=True)
    (out / "images" / "real" / "wren" / "000.jpg").write_bytes(b"spoiled")
    (out / "images" / "mine.txt").write_text("mine")
    times = {path: path.stat().st_mtime_ns for path in first.paths}
    with caplog.at_level("INFO", "gilt"):
        again = clean(table, to=out, equalise=True)
    assert "7 images were finished by an earlier run" in caplog.text
    assert again == first
    assert [path.name for path, then in times.items() if path.stat().st_mtime_ns != then] == ["000.jpg"]
    other = clean(table, to=out, crop={"top": 1}, crop_origins="painter")
    other.check_files()
    assert not list((out / "images").rglob("*.jpg"))
    assert not (out / "images" / "real").exists()
    assert (out / "images" / "mine.txt").read_text() == "mine"


def test_a_journal_from_elsewhere_removes_nothing_outside_the_folder(tmp_path):
    table = gilt.scan(make_birds(tmp_path / "birds", real=1, generated=1))
    clean(table, to=tmp_path / "out", equalise=True)
    (tmp_path / "mine.txt").write_text("mine")
    entry = {"key": "x", "from": "x", "done": [], "files": [{"path": "../../mine.txt"}, {"path": str(tmp_path / "mine.txt")}]}
    with (tmp_path / "out" / "images.jsonl").open("a") as journal:
        journal.write(json.dumps(entry) + "\n{\"key\": \"torn")
    clean(table, to=tmp_path / "out", equalise=True)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_folder_is_refused_where_it_could_touch_the_originals(tmp_path):
    birds = make_birds(tmp_path / "birds", real=1, generated=1)
    table = gilt.scan(birds)
    equal = clean(table, to=tmp_path / "out", equalise=True)
    before = snapshot(tmp_path / "out")
    (tmp_path / "link").symlink_to(birds)
    for folder in (birds, birds / "real" / "out", tmp_path / "link" / "out"):
        with pytest.raises(gilt.StoreError, match="never changed"):
            clean(table, to=folder, equalise=True)
    with pytest.raises(gilt.StoreError, match="never changed"):
        clean(equal, to=tmp_path / "out", equalise=True, quality=50)
    mixed = clean(table, to=tmp_path / "mixed", crop={"top": 1}, crop_origins="painter")
    third = clean(mixed, to=tmp_path / "third", crop={"top": 1}, crop_origins="real")
    third.check_files()
    with pytest.raises(gilt.StoreError, match="never changed"):
        clean(third, to=tmp_path / "mixed", crop={"top": 1})
    assert snapshot(tmp_path / "out") == before
    with pytest.raises(gilt.StoreError, match=r"what no clean wrote, such as birds"):
        clean(table, to=tmp_path, equalise=True)


def test_an_archive_is_cleaned_into_a_folder(tmp_path):
    birds = make_birds(tmp_path / "birds", real=2, generated=1)
    with zipfile.ZipFile(tmp_path / "birds.zip", "w") as archive:
        for path in sorted(birds.rglob("*.png")):
            archive.write(path, path.relative_to(birds))
    table = ImageTable(gilt.scan(birds).frame, tmp_path / "birds.zip")
    result = clean(table, to=tmp_path / "out", crop={"bottom": 4}, crop_origins="painter")
    assert len(result.usable) == 6
    assert set(result.generated.frame["height"]) == {20}
    assert result.real.frame["path"].iloc[0] == "../../birds.zip/real/robin/000.png"


CLEAN = [sys.executable, "-m", "gilt", "clean", "birds.parquet", "--no-audit", "--set", "equalise=true", "--set", "size=100",
         "-o", "out"]


@pytest.mark.slow
def test_a_killed_clean_goes_on_where_it_was(tmp_path):
    for i in range(150):
        photograph(tmp_path / "birds" / "real" / "wren" / f"{i}.png", (400, 400))
    gilt.scan(tmp_path / "birds").save(tmp_path / "birds.parquet")
    process = subprocess.Popen(CLEAN, cwd=tmp_path, stderr=subprocess.DEVNULL)
    journal = tmp_path / "out" / "images.jsonl"
    deadline = time.monotonic() + 60
    while not (journal.exists() and journal.read_text().count("\n") > 20):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out" / "table.parquet").exists()
    again = subprocess.run(CLEAN, cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    taken_over = int(again.stderr.split(" images were finished by an earlier run")[0].split()[-1])
    assert 20 <= taken_over < 150
    table = ImageTable.load(tmp_path / "out" / "table.parquet")
    assert len(table.usable) == 150
    assert not list((tmp_path / "out").rglob("*.tmp"))
    for path, digest in zip(table.paths, table.frame["sha256"], strict=True):
        assert gilt.files.sha256(path.read_bytes()) == digest


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/bin/mount").exists(), reason="needs root to mount a tiny disk")
def test_a_full_disk_is_one_line_and_more_room_finishes_the_job(tmp_path):
    for i in range(20):
        draw(tmp_path / "birds" / "real" / "wren" / f"{i}.png", (90, 90, 90), seed=i, size=200)
    gilt.scan(tmp_path / "birds").save(tmp_path / "birds.parquet")
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        command = [*CLEAN[:-1], disk / "out"]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode == 2
        assert "error: the disk is full" in result.stderr.splitlines()[-1]
        assert len(list(disk.rglob("*.jpg"))) > 1
        subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
        again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert again.returncode == 0, again.stderr
        assert "images were finished by an earlier run" in again.stderr
        assert len(ImageTable.load(disk / "out" / "table.parquet").usable) == 20
    finally:
        subprocess.run(["umount", disk], check=True)


def test_two_cleans_do_not_write_one_folder_at_once(tmp_path):
    table = gilt.scan(make_birds(tmp_path / "birds", real=1, generated=1))
    refused = []

    def during(done, total):
        with pytest.raises(gilt.StoreError, match="another gilt clean is writing"):
            clean(table, to=tmp_path / "out", equalise=True)
        refused.append((done, total))

    clean(table, to=tmp_path / "out", equalise=True, progress=during)
    assert refused == [(i, 4) for i in range(1, 5)]


@pytest.mark.shared
@pytest.mark.skipif(not (SHARED / "data" / "grocery").is_dir(), reason="needs ../shared/data/grocery")
def test_equalised_groceries_have_one_encoding_over_both_origins(tmp_path):
    table = gilt.scan(SHARED / "data" / "grocery", ["{origin}/{split}/{class}", "{origin}/{class}"], source="stem:train")
    classes = table.generated.classes[:4]
    rows = table.where(class_=classes)
    some = rows.take([i for _, group in rows.frame.groupby(["class", "origin"]) for i in group.index[:40]])
    assert len(some.frame[["format", "width", "height"]].drop_duplicates()) > 1
    result = clean(some, to=tmp_path / "out", equalise=True)
    assert len(result.usable) == len(some)
    assert len(result.frame[["format", "width", "height", "mode", "quality"]].drop_duplicates()) == 1
    assert {path.read_bytes()[:600] for path in result.paths} == {result.paths[0].read_bytes()[:600]}
    assert result.frame["source"].notna().sum() == some.frame["source"].notna().sum()
    inside = result.frame["source"].dropna().isin(result.frame["path"])
    assert inside.sum() == some.frame["source"].dropna().isin(some.frame["path"]).sum()
