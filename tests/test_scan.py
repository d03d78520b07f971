"""Folders to tables: layouts, normal names, unreadable files, lineage."""
import shutil

import pytest
from PIL import Image

import gilt
from conftest import SHARED, draw
from gilt.data.layouts import compile_layout, origin_of
from gilt.data.scan import read_facts


def test_scan_reads_what_the_folders_say(tmp_path):
    for origin in ("REAL", "stable-diffusion"):
        for split in ("training", "Test"):
            draw(tmp_path / split / origin / "wren" / "a.jpg", (9, 9, 9), seed=1)
    table = gilt.scan(tmp_path, "{split}/{origin}/{class}")
    assert table.counts("origin") == {"real": 2, "stable-diffusion": 2}
    assert table.counts("split") == {"train": 2, "test": 2}
    row = table.frame.iloc[0]
    assert (row["class"], row["width"], row["height"], row["format"]) == ("wren", 24, 24, "JPEG")
    assert row["bytes"] == (tmp_path / row["path"]).stat().st_size
    assert len(row["sha256"]) == 64


@pytest.mark.parametrize("name", ["real", "REAL", "0_real", "nature", "Photos", "real images"])
def test_usual_names_of_photographs_mean_real(name):
    assert origin_of(name) == "real"


@pytest.mark.parametrize("name", ["fake", "1_fake", "AI", "stable-diffusion", "realistic-vision"])
def test_any_other_origin_is_a_generators_name(name):
    assert origin_of(name) == name


def test_the_first_layout_that_fits_a_depth_counts(tmp_path):
    draw(tmp_path / "real" / "train" / "wren" / "a.png", (9, 9, 9), seed=1)
    draw(tmp_path / "sd" / "wren" / "a.png", (9, 9, 9), seed=2)
    table = gilt.scan(tmp_path, ["{origin}/{split}/{class}", "{origin}/{class}"])
    assert list(table.frame["split"]) == ["train", None]
    assert table.origins == ["real", "sd"]


def test_a_star_says_nothing_and_a_constant_says_what_the_path_does_not(tmp_path):
    draw(tmp_path / "camera7" / "wren" / "a.png", (9, 9, 9), seed=1)
    table = gilt.scan(tmp_path, "*/{class}", constants={"origin": "nature"})
    assert list(table.frame["origin"]) == ["real"]


def test_other_names_in_a_layout_become_columns(tmp_path):
    draw(tmp_path / "real" / "wren" / "nikon" / "a.png", (9, 9, 9), seed=1)
    assert list(gilt.scan(tmp_path, "{origin}/{class}/{lens}").frame["lens"]) == ["nikon"]


def test_unreadable_files_are_rows_with_a_reason(tmp_path):
    good = draw(tmp_path / "real" / "wren" / "good.jpg", (90, 90, 90), seed=1, size=200)
    (good.parent / "cut.jpg").write_bytes(good.read_bytes()[:2000])
    (good.parent / "empty.png").write_bytes(b"")
    (good.parent / "text.png").write_text("not a picture")
    table = gilt.scan(tmp_path)
    assert len(table) == 4
    assert len(table.usable) == 1
    reasons = dict(zip(table.frame["path"], table.frame["excluded"], strict=True))
    assert reasons["real/wren/cut.jpg"].startswith("unreadable: ")
    assert "truncated" in reasons["real/wren/cut.jpg"]
    assert reasons["real/wren/empty.png"] == reasons["real/wren/text.png"] == "unreadable: empty or no image"


def test_a_decompression_bomb_is_a_row_with_a_reason_and_costs_no_memory(tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("1", (30_000, 30_000)).save(path)
    facts = read_facts(path)
    assert facts["excluded"].startswith("unreadable: ")
    assert "decompression bomb" in facts["excluded"]


def test_generated_images_are_linked_to_the_photograph_they_are_named_after(tmp_path):
    for split in ("train", "test"):
        draw(tmp_path / "real" / split / "wren" / "001.jpg", (9, 9, 9), seed=len(split))
    draw(tmp_path / "sd" / "wren" / "001.png", (9, 9, 9), seed=3)
    layouts = ["{origin}/{split}/{class}", "{origin}/{class}"]
    careful = gilt.scan(tmp_path, layouts, source="stem")
    assert list(careful.generated.frame["source"]) == ["real/test/wren/001.jpg"]  # the strictest: no leak goes unseen
    told = gilt.scan(tmp_path, layouts, source="stem:train")
    assert list(told.generated.frame["source"]) == ["real/train/wren/001.jpg"]
    assert gilt.scan(tmp_path, layouts).frame["source"].isna().all()


@pytest.mark.parametrize("pattern, part", [
    ("{orgin}/{class}", "Did you mean 'origin'"), ("{origin}/{origin}", "twice"), ("{class}", "does not say the origin"),
    ("{origin}/{width}", "measured"), ("{origin}/{a b}", "is no name")])
def test_a_bad_layout_says_what_is_wrong(tmp_path, pattern, part):
    draw(tmp_path / "real" / "wren" / "a.png", (9, 9, 9), seed=1)
    with pytest.raises(gilt.LayoutError, match=part):
        gilt.scan(tmp_path, pattern)


def test_a_layout_that_no_path_fits_shows_a_path_that_failed(tmp_path):
    draw(tmp_path / "real" / "wren" / "a.png", (9, 9, 9), seed=1)
    with pytest.raises(gilt.LayoutError, match=r"'real/wren/a.png' has 2 folders above the file"):
        gilt.scan(tmp_path, "{origin}/{split}/{class}")


def test_a_folder_that_is_no_split_is_named(tmp_path):
    draw(tmp_path / "real" / "trian" / "a.png", (9, 9, 9), seed=1)
    with pytest.raises(gilt.LayoutError, match=r"real/trian/a.png: 'trian' is no split .* Did you mean 'train'"):
        gilt.scan(tmp_path, "{origin}/{split}")


def test_no_folder_and_no_image_are_errors(tmp_path):
    with pytest.raises(gilt.TableError, match="no folder"):
        gilt.scan(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(gilt.TableError, match=r"no image in .*; it holds 1 other files \(.txt\)"):
        gilt.scan(tmp_path)


def test_layout_parts_may_mix_text_and_names():
    layout = compile_layout("images_{split}/{origin}-{class}")
    assert layout.fits(["images_train", "sd-wren"]) == {"split": "train", "origin": "sd", "class": "wren"}
    assert layout.fits(["train", "sd-wren"]) is None


def test_usual_slips_are_noted(tmp_path, caplog):
    draw(tmp_path / "2019" / "wren" / "a.png", (9, 9, 9), seed=1)
    draw(tmp_path / "2020" / "Wren" / "b.png", (9, 9, 9), seed=2)
    gilt.scan(tmp_path)
    assert "no origin means real here (origins: 2019, 2020)" in caplog.text
    assert "classes Wren, wren differ in case only" in caplog.text


def test_linked_folders_are_read_once(tmp_path):
    draw(tmp_path / "elsewhere" / "a.png", (9, 9, 9), seed=1)
    (tmp_path / "birds" / "real").mkdir(parents=True)
    (tmp_path / "birds" / "real" / "wren").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "birds")
    assert len(gilt.scan(tmp_path / "birds")) == 1


def test_files_are_never_changed_by_a_scan(tmp_path):
    path = draw(tmp_path / "real" / "wren" / "a.jpg", (9, 9, 9), seed=1)
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    gilt.scan(tmp_path)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_a_table_survives_saving_and_moving_together_with_its_images(tmp_path):
    draw(tmp_path / "a" / "images" / "real" / "wren" / "a.png", (9, 9, 9), seed=1)
    table = gilt.scan(tmp_path / "a" / "images")
    table.save(tmp_path / "a" / "t.parquet")
    assert gilt.ImageTable.load(tmp_path / "a" / "t.parquet") == table
    shutil.move(tmp_path / "a", tmp_path / "b")
    moved = gilt.ImageTable.load(tmp_path / "b" / "t.parquet")
    moved.check_files()
    assert moved.fingerprint == table.fingerprint
    shutil.move(tmp_path / "b" / "images", tmp_path / "pictures")
    with pytest.raises(gilt.TableError, match="give their folder with --root"):
        gilt.ImageTable.load(tmp_path / "b" / "t.parquet").check_files()
    gilt.ImageTable.load(tmp_path / "b" / "t.parquet", root=tmp_path / "pictures").check_files()


@pytest.mark.shared
@pytest.mark.skipif(not (SHARED / "data" / "grocery").is_dir(), reason="needs ../shared/data/grocery")
def test_the_groceries_are_read_in_both_layouts():
    table = gilt.scan(SHARED / "data" / "grocery", ["{origin}/{split}/{class}", "{origin}/{class}"], source="stem:train")
    assert table.counts("origin") == {"real": 3987, "generated": 229}
    assert table.real.counts("split") == {"train": 2640, "val": 296, "test": 1051}
    assert len(table.usable) == 4216
    assert table.generated.frame["source"].notna().sum() == 224
