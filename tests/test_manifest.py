"""Albums: made images with their manifest, filled in pieces, and read by scan wherever they lie."""
import csv

import numpy as np
import pytest
from PIL import Image

import gilt
from conftest import draw, make_birds
from gilt.errors import ConfigError, LayoutError, StoreError, TableError
from gilt.files import sha256
from gilt.generators.manifest import COLUMNS, Album


def fill(folder, count=3, *, origin="painter-2", classes=("wren", "robin"), **facts):
    """Return an album with images of as many greys as there are images."""
    album = Album(folder, origin, further=("steps",))
    for name in classes:
        for i in range(count):
            image = Image.new("RGB", (9, 9), (i, 10, 200))
            album.add(image, name, i, seed=7 + i, prompt=f'a {name}, "wild"', steps=4, **facts)
    return album


def test_an_image_and_its_row_are_written_and_known_when_the_album_is_opened_again(tmp_path):
    fill(tmp_path / "made")
    album = Album(tmp_path / "made", "painter-2", further=("steps",))
    assert len(album.rows) == 6
    assert album.has("wren", 2) and not album.has("wren", 3)
    assert album.rows["robin/000001.png"] | {"prompt": ""} == dict.fromkeys((*COLUMNS, "steps"), "") | {
        "path": "robin/000001.png", "class": "robin", "origin": "painter-2", "seed": "8", "steps": "4"}
    with Image.open(tmp_path / "made" / "wren" / "000002.png") as image:
        assert image.getpixel((0, 0)) == (2, 10, 200)


def test_pixels_of_numpy_are_an_image_too(tmp_path):
    with Image.open(Album(tmp_path / "made", "painter-2").add(np.full((4, 6, 3), 9, np.uint8), "wren", 0)) as image:
        assert image.size == (6, 4) and image.getpixel((5, 3)) == (9, 9, 9)


def test_an_image_whose_file_is_gone_is_made_again(tmp_path):
    album = fill(tmp_path)
    (tmp_path / "wren" / "000000.png").unlink()
    assert not album.has("wren", 0)


def test_a_torn_end_is_cut_off_and_its_image_made_again(tmp_path):
    fill(tmp_path)
    manifest = tmp_path / "manifest.csv"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:-9])
    album = Album(tmp_path, "painter-2", further=("steps",))
    assert len(album.rows) == 5 and not album.has("robin", 2)
    album.add(Image.new("RGB", (9, 9), (2, 10, 200)), "robin", 2, seed=9, prompt="a robin, \"wild\"", steps=4)
    assert manifest.read_bytes() == whole


@pytest.mark.parametrize("origin", ["real", " "])
def test_made_images_are_not_called_real_or_nothing(tmp_path, origin):
    with pytest.raises(ConfigError, match="generator's name"):
        Album(tmp_path, origin)


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "x" * 300])
def test_a_class_that_is_no_name_of_a_folder_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="cannot be the name of a folder"):
        Album(tmp_path, "painter-2").path(name, 0)


def test_other_folders_origins_and_columns_are_refused(tmp_path):
    draw(tmp_path / "birds" / "a.png", (9, 9, 9), seed=1)
    with pytest.raises(StoreError, match="holds something else than made images"):
        Album(tmp_path / "birds", "painter-2")
    fill(tmp_path / "made")
    with pytest.raises(StoreError, match="holds images of 'painter-2', not of 'sculptor'"):
        Album(tmp_path / "made", "sculptor", further=("steps",))
    with pytest.raises(StoreError, match="has other columns"):
        Album(tmp_path / "made", "painter-2")
    with pytest.raises(ConfigError, match="no column 'stepz'"):
        Album(tmp_path / "made", "painter-2", further=("steps",)).add(Image.new("RGB", (4, 4)), "wren", 9, stepz=3)


def test_scan_reads_class_origin_source_and_what_was_seen_beside_photographs(tmp_path):
    make_birds(tmp_path / "birds", real=3, generated=0)
    photograph = tmp_path / "birds" / "real" / "wren" / "001.png"
    album = Album(tmp_path / "birds" / "made" / "sd", "sd-1.4", further=("steps",))
    album.note_seen([sha256(photograph.read_bytes())])
    album.add(Image.new("RGB", (9, 9), (1, 2, 3)), "wren", 0, source=sha256(photograph.read_bytes()), prompt="a wren", steps=5)
    fill(tmp_path / "birds" / "made" / "older")
    table = gilt.scan(tmp_path / "birds")
    assert table.counts("origin") == {"real": 6, "painter-2": 6, "sd-1.4": 1}
    row = table.where(origin="sd-1.4").frame.iloc[0]
    assert (row["class"], row["source"], row["saw"]) == ("wren", "real/wren/001.png", "made/sd/saw.txt")
    assert (row["prompt"], row["steps"]) == ("a wren", 5)
    assert list(table.where(origin="painter-2").frame["seed"]) == [7, 8, 9] * 2
    assert table.real.frame["saw"].isna().all()


def test_an_image_made_from_a_photograph_follows_it_into_its_split(tmp_path):
    make_birds(tmp_path / "birds", real=8, generated=0)
    album = Album(tmp_path / "birds" / "sd", "sd-1.4")
    for i, photograph in enumerate(sorted((tmp_path / "birds" / "real" / "wren").iterdir())):
        album.add(Image.new("RGB", (9, 9), (i, 2, 3)), "wren", i, source=sha256(photograph.read_bytes()))
    table = gilt.scan(tmp_path / "birds")
    for seed in range(4):
        dealt = gilt.split(table, train=0.5, val=0.0, test=0.5, seed=seed)
        splits = dealt.frame.set_index("path")["split"]
        made = dealt.generated.frame
        assert list(made["split"]) == list(splits[made["source"]])
        assert set(made["split"]) == {"train", "test"}


def test_an_album_alone_is_read_without_a_layout_and_a_constant_fills_the_split(tmp_path, caplog):
    fill(tmp_path / "made", source="ab" * 32)
    table = gilt.scan(tmp_path / "made", constants={"split": "train"})
    assert table.counts("split") == {"train": 6}
    assert table.classes == ["robin", "wren"]
    assert set(table.frame["source"]) == {"ab" * 32}  # known as of one photograph, though that is elsewhere
    assert "6 images made from a photograph that is not in this table" in caplog.text
    assert "no origin means real" not in caplog.text


def test_names_of_made_images_say_nothing_of_their_source(tmp_path, caplog):
    for i in range(3):
        draw(tmp_path / "birds" / "real" / "wren" / f"{i:06d}.png", (9, 9, 9), seed=i)
    fill(tmp_path / "birds" / "sd", classes=("wren",))
    assert gilt.scan(tmp_path / "birds", source="stem").frame["source"].isna().all()
    gilt.scan(tmp_path / "birds")
    assert "bear the name of a real one" not in caplog.text


def test_what_a_stopped_run_left_is_counted_and_left_out(tmp_path, caplog):
    fill(tmp_path / "made")
    draw(tmp_path / "made" / "wren" / "000009.png", (9, 9, 9), seed=1)
    (tmp_path / "made" / "robin" / "000000.png").unlink()
    with (tmp_path / "made" / "manifest.csv").open("a") as file:
        file.write("wren/000010.png,wr")
    table = gilt.scan(tmp_path / "made")
    assert len(table) == 6 and len(table.usable) == 5
    assert table.frame["excluded"].dropna().tolist() == ["unreadable: no such file"]
    assert "1 image in folders of made images without a row" in caplog.text and "wren/000009.png" in caplog.text
    assert "torn line" in caplog.text


def rewrite(folder, **changes):
    """Write an album's manifest anew with changed columns."""
    with (folder / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row | changes for row in rows)


@pytest.mark.parametrize("changes, error, said", [
    ({"path": "../../etc/x.png"}, TableError, "path '../../etc/x.png' leads out of its folder"),
    ({"saw": "../saw.txt"}, TableError, "saw '../saw.txt' leads out of its folder"),
    ({"saw": "/etc/passwd"}, TableError, "leads out of its folder"),
    ({"origin": ""}, LayoutError, "row 2 says no origin"),
    ({"split": "sometimes"}, LayoutError, "'sometimes' is no split")])
def test_a_manifest_that_says_something_impossible_is_refused(tmp_path, changes, error, said):
    fill(tmp_path / "made", 1)
    rewrite(tmp_path / "made", **changes)
    with pytest.raises(error, match=said):
        gilt.scan(tmp_path / "made")


def test_a_broken_row_is_named(tmp_path):
    fill(tmp_path / "made", 1)
    with (tmp_path / "made" / "manifest.csv").open("a") as file:
        file.write("wren/000001.png,wren\n")
    with pytest.raises(TableError, match=r"manifest.csv, row 4, has 2 fields, its header 10"):
        gilt.scan(tmp_path / "made")


def test_a_manifest_of_another_program_is_a_list_like_any_other(tmp_path, caplog):
    draw(tmp_path / "real" / "wren" / "a.png", (9, 9, 9), seed=1)
    (tmp_path / "real" / "manifest.csv").write_text("file,size\nwren/a.png,24\n")
    assert len(gilt.scan(tmp_path)) == 1
    assert "1 lists passed over, such as real/manifest.csv" in caplog.text


def test_a_second_scan_reads_only_what_was_added(tmp_path):
    album = fill(tmp_path / "made")
    first = gilt.scan(tmp_path / "made")
    album.add(Image.new("RGB", (9, 9), (77, 0, 0)), "wren", 3, seed=1)
    again = gilt.scan(tmp_path / "made", known=first)
    assert len(again) == 7
    assert again.where(lambda frame: frame["path"].isin(first.frame["path"])).fingerprint == first.fingerprint
