"""Presets: well-known collections are read as their makers describe them, and every slip in a list has one clear line."""
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gilt
from conftest import draw
from gilt.data.layouts import split_in
from gilt.data.presets import PRESETS
from gilt.data.sheets import numbers, read_sheet
from test_containers import image, image_parquet

REAL = {"origin": "real"}


def said(table, *columns):
    """Return path -> the named columns of a table."""
    return {row[0]: row[1:] for row in table.frame[["path", *columns]].itertuples(index=False, name=None)}


def pictures(folder, *names):
    for i, name in enumerate(names):
        draw(folder / name, (9, 9, 9), seed=i)


@pytest.mark.parametrize("path, expected", [
    ("AI/apple/1.png", ("AI", "apple", None)), ("real/apple/1.png", ("real", "apple", None)),
    ("train/AI/apple/1.png", ("AI", "apple", "train")), ("real/Validation/apple/1.png", ("real", "apple", "val")),
    ("real/apple/test/1.png", ("real", "apple", "test"))])
def test_the_thesis_has_splits_above_below_or_none(tmp_path, path, expected):
    pictures(tmp_path, path)
    assert said(gilt.scan(tmp_path, "thesis"), "origin", "class", "split") == {path: expected}


def test_cifake_names_its_class_by_a_number(tmp_path):
    pictures(tmp_path, "train/REAL/0001 (2).jpg", "test/FAKE/17.jpg", "test/FAKE/999 (10).jpg", "test/FAKE/1 (11).jpg")
    table = gilt.scan(tmp_path, "cifake")
    assert said(table, "origin", "class", "split") == {
        "train/REAL/0001 (2).jpg": ("real", "automobile", "train"),
        "test/FAKE/17.jpg": ("stable-diffusion-1.4", "airplane", "test"),
        "test/FAKE/999 (10).jpg": ("stable-diffusion-1.4", "truck", "test")}


def test_artifact_is_read_by_its_metadata(tmp_path, caplog):
    pictures(tmp_path, "big_gan/big/0/1.jpg", "big_gan/big/0/2.jpg", "coco/coco/1.jpg", "coco/coco/extra.jpg")
    (tmp_path / "big_gan" / "metadata.csv").write_text(
        "filename,image_path,target,category\n1.jpg,big/0/1.jpg,6,dog\n2.jpg,big/0/2.jpg,6,cat\n3.jpg,big/0/3.jpg,6,cat\n")
    (tmp_path / "coco" / "metadata.csv").write_text("filename,image_path,target,category\n1.jpg,coco/1.jpg,0,cat\n")
    table = gilt.scan(tmp_path, "artifact")
    assert said(table, "origin", "class", "collection", "excluded") == {
        "big_gan/big/0/1.jpg": ("big_gan", "dog", "big_gan", None), "big_gan/big/0/2.jpg": ("big_gan", "cat", "big_gan", None),
        "big_gan/big/0/3.jpg": ("big_gan", "cat", "big_gan", "unreadable: no such file"),
        "coco/coco/1.jpg": ("real", "cat", "coco", None)}
    assert list(table.frame["filename"]) == ["1.jpg", "2.jpg", "3.jpg", "1.jpg"]
    assert "1 listed images are not there, kept as rows that are left out, such as big_gan/big/0/3.jpg" in caplog.text
    assert "1 images that no list names are not in the table, such as coco/coco/extra.jpg" in caplog.text
    table.check_files()  # what was never there is not missed again
    (tmp_path / "coco" / "metadata.csv").write_text("filename,image_path,target,category\n1.jpg,coco/1.jpg,real,cat\n")
    with pytest.raises(gilt.TableError, match=r"coco/metadata.csv, row 1: target is 'real', not 0 \(real\)"):
        gilt.scan(tmp_path, "artifact")


def competition(folder):
    """Lay out a competition: labelled train images, a list of test images, a sample submission."""
    pictures(folder, "train/1.jpg", "train/2.jpg", "test/1.jpg", "test/9.jpg")
    (folder / "train.csv").write_text("id,label,weight\n1,cat,2.5\n2,dog,\n")
    (folder / "test.csv").write_text("id\n1\n")
    (folder / "sample_submission.csv").write_text("id,label\n1,cat\n")
    return folder


def test_a_competition_is_read_by_its_lists_and_its_test_has_no_class(tmp_path, caplog):
    table = gilt.scan(competition(tmp_path), "competition", constants=REAL)
    assert said(table, "class", "split") == {
        "train/1.jpg": ("cat", "train"), "train/2.jpg": ("dog", "train"), "test/1.jpg": (None, "test"),
        "test/9.jpg": (None, "test")}
    assert list(table.frame["weight"].dropna()) == [2.5]
    assert "sample_submission.csv passed over: a submission's classes are no truth" in caplog.text
    assert "1 images that no list names are test images without a class, such as test/9.jpg" in caplog.text


def test_a_competitions_columns_can_be_named(tmp_path):
    pictures(tmp_path, "images/a.jpg", "images/b.jpg")
    (tmp_path / "list.csv").write_text("picture;what;where;made_by\na;cat;home;real\nb;dog;street;sd\n")
    columns = {"path": "picture", "class": "what", "origin": "made_by", "place": "where"}
    table = gilt.scan(tmp_path, "competition", columns=columns)
    assert said(table, "origin", "class", "split", "place") == {
        "images/a.jpg": ("real", "cat", None, "home"), "images/b.jpg": ("sd", "dog", None, "street")}
    with pytest.raises(gilt.TableError, match=r"list.csv: which column is the class\? \(has: what, where\)"):
        gilt.scan(tmp_path, "competition", columns={"path": "picture", "origin": "made_by"})
    with pytest.raises(gilt.TableError, match=r"no column 'wha' in list.csv .* Did you mean 'what'\?"):
        gilt.scan(tmp_path, "competition", columns={"class": "wha", "origin": "made_by"})
    with pytest.raises(gilt.LayoutError, match="layout 'competition' does not say the origin: add --constant origin=real"):
        gilt.scan(tmp_path, "competition", columns={"class": "what"})
    with pytest.raises(gilt.LayoutError, match="column 'width' is measured"):
        gilt.scan(tmp_path, "competition", columns={"class": "what", "width": "where"}, constants=REAL)


def test_rows_that_name_an_image_twice_are_counted_and_conflicts_are_left_out(tmp_path, caplog):
    pictures(tmp_path, "images/a.jpg", "images/b.jpg")
    (tmp_path / "train.csv").write_text("file,label\na.jpg,cat\na.jpg,cat\nb.jpg,cat\nimages/b.jpg,dog\n")
    table = gilt.scan(tmp_path, "competition", constants=REAL)
    assert said(table, "class", "excluded") == {"images/a.jpg": ("cat", None),
                                                "images/b.jpg": ("cat", "listed under several classes: cat, dog")}
    assert "2 rows name an image that a row before them names" in caplog.text


def test_a_name_that_may_be_two_images_is_refused(tmp_path):
    pictures(tmp_path, "one/a.jpg", "two/a.jpg")
    (tmp_path / "list.csv").write_text("file,label\na.jpg,cat\n")
    with pytest.raises(gilt.LayoutError, match=r"list.csv, row 1: 'a.jpg' may be one/a.jpg or two/a.jpg"):
        gilt.scan(tmp_path, "competition", constants=REAL)


def test_a_list_cannot_lead_out_of_its_folder(tmp_path):
    pictures(tmp_path, "secret.jpg", "birds/a.jpg")
    text = f"file_name,label\na.jpg,cat\n../secret.jpg,dog\n{tmp_path}/secret.jpg,x\n"
    (tmp_path / "birds" / "metadata.csv").write_text(text)
    table = gilt.scan(tmp_path / "birds", "imagefolder", constants=REAL)
    assert list(table.usable.frame["path"]) == ["a.jpg"]
    assert all(tmp_path / "birds" in path.parents for path in table.paths)


CLASSES = json.dumps({"info": {"features": {"image": {"_type": "Image"},
                                            "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}})


def test_hugging_face_parquet_names_its_classes_and_splits(tmp_path):
    path = image_parquet(tmp_path / "data" / "train-00000-of-00001.parquet", [image(i) for i in range(3)],
                         label=pa.array([0, 1, -1]), width=pa.array([1, 2, 3]), note=pa.array(["x", None, "z"]))
    pq.write_table(pq.read_table(path).replace_schema_metadata({"huggingface": CLASSES}), path)
    image_parquet(tmp_path / "data" / "validation.parquet", [image(9)], label=pa.array([4]))
    table = gilt.scan(tmp_path, constants=REAL)  # nothing but Parquet: no layout need be named
    assert said(table, "class", "split", "note") == {
        "data/train-00000-of-00001.parquet/0000000": ("cat", "train", "x"),
        "data/train-00000-of-00001.parquet/0000001": ("dog", "train", None),
        "data/train-00000-of-00001.parquet/0000002": (None, "train", "z"),
        "data/validation.parquet/0000000": ("4", "val", None)}
    assert list(table.frame["given_width"][:3]) == [1, 2, 3]
    assert set(table.frame["width"]) == {8}
    assert len(table.usable) == 4
    alone = gilt.scan(path, constants=REAL)
    assert said(alone, "split") == {f"000000{i}": ("train",) for i in range(3)}


def test_parquet_columns_can_be_named(tmp_path):
    images = [image(i) for i in range(4)]
    two = pa.array([{"bytes": data} for data in images[2:]])
    image_parquet(tmp_path / "a.parquet", images[:2], second=two, what=pa.array(["x", "y"]), made=pa.array(["real", "sd"]))
    table = gilt.scan(tmp_path, "huggingface", columns={"path": "second", "class": "what", "origin": "made"})
    assert said(table, "origin", "class") == {"a.parquet/second/0000000": ("real", "x"),
                                              "a.parquet/second/0000001": ("sd", "y")}
    from gilt.files import sha256
    assert list(table.frame["sha256"]) == [sha256(data) for data in images[2:]]
    with pytest.raises(gilt.TableError, match=r"no column 'whta' in the Parquet files .* Did you mean 'what'\?"):
        gilt.scan(tmp_path, "huggingface", columns={"class": "whta"}, constants=REAL)


def test_parquet_without_images_says_what_it_holds(tmp_path):
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(gilt.TableError, match=r"a.parquet \(columns: a, b\) holds no image column. An image column is binary"):
        gilt.scan(tmp_path, constants=REAL)


def test_a_label_without_a_name_is_refused(tmp_path):
    path = image_parquet(tmp_path / "a.parquet", [image()], label=pa.array([7]))
    pq.write_table(pq.read_table(path).replace_schema_metadata({"huggingface": CLASSES}), path)
    with pytest.raises(gilt.TableError, match=r"label 7 in column 'label' has no name \(it names 2\)"):
        gilt.scan(path, constants=REAL)


@pytest.mark.parametrize("name, text", [
    ("metadata.csv", "file_name,label,n\n1.png,cat,007\nsub/2.png,dog,8\n"),
    ("metadata.jsonl", '{"file_name": "1.png", "label": "cat", "n": "007"}\n\n'
                       '{"file_name": "sub/2.png", "label": "dog", "n": "8"}\n')])
def test_an_image_folder_is_read_by_its_metadata(tmp_path, name, text):
    pictures(tmp_path, "train/1.png", "train/sub/2.png")
    (tmp_path / "train" / name).write_text(text)
    table = gilt.scan(tmp_path, "imagefolder", constants=REAL)
    assert said(table, "class", "split", "n") == {"train/1.png": ("cat", "train", "007"),
                                                  "train/sub/2.png": ("dog", "train", "8")}


def test_an_image_folder_without_metadata_is_read_by_its_folders(tmp_path):
    pictures(tmp_path, "train/dog/1.png", "validation/cat/2.png", "3.png")
    table = gilt.scan(tmp_path, "imagefolder", constants=REAL)
    assert said(table, "class", "split") == {"train/dog/1.png": ("dog", "train"), "validation/cat/2.png": ("cat", "val"),
                                             "3.png": (None, None)}


def test_image_folders_metadata_may_be_parquet_and_inside_a_zip(tmp_path):
    pictures(tmp_path / "a", "1.png")
    pq.write_table(pa.table({"file_name": ["1.png"], "label": ["cat"]}), tmp_path / "a" / "metadata.parquet")
    assert list(gilt.scan(tmp_path / "a", "imagefolder", constants=REAL).frame["class"]) == ["cat"]
    import shutil
    (tmp_path / "a" / "metadata.parquet").unlink()
    (tmp_path / "a" / "metadata.csv").write_text("file_name,label\n1.png,dog\n")
    archive = shutil.make_archive(str(tmp_path / "b"), "zip", tmp_path / "a")
    assert list(gilt.scan(archive, "imagefolder", constants=REAL).frame["class"]) == ["dog"]


def test_a_listed_source_becomes_a_path(tmp_path, caplog):
    pictures(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "metadata.csv").write_text("file_name,origin,from\na.png,real,\nb.png,sd,a\nc.png,sd,z.png\n")
    table = gilt.scan(tmp_path, "imagefolder", columns={"source": "from"})
    assert list(table.frame["source"]) == [None, "a.png", None]
    assert "1 sources name no image of the table, or several, and are left out, such as z.png" in caplog.text


@pytest.mark.parametrize("text, part", [
    (b"", "train.csv is empty"), (b"\xef\xbb\xbf \n", "train.csv is empty"),
    (b"file,label\n1.jpg,cat,3\n", r"train.csv line 2 has 3 fields, its header 2 \(file, label\)"),
    (b"file,file\n1.jpg,cat\n", "two columns 'file'"), (b"file,label\n\"1.jpg,cat\n" + b"x" * 200_000, "train.csv line"),
    (b"file,label\n", r"train.csv: no column names the images under .* \(it has no rows"),
    (b"a,b\nx,y\n", r"no column names the images under .* \(a 'x', b 'y'; an image is 1.jpg\). Name it with --column path=")])
def test_a_broken_csv_is_one_clear_line(tmp_path, text, part):
    pictures(tmp_path, "1.jpg")
    (tmp_path / "train.csv").write_bytes(text)
    with pytest.raises(gilt.TableError, match=part) as problem:
        gilt.scan(tmp_path, "competition", constants=REAL)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize("text, part", [
    ('{"file_name": "1.jpg"}\n{"file_name": \n', "metadata.jsonl line 2 is not JSON"),
    ("[1]\n", "metadata.jsonl line 1 is no JSON"),
    ('{"file": "1.jpg"}\n', r"no column 'file_name' in metadata.jsonl \(has: file\)")])
def test_broken_json_lines_name_the_line(tmp_path, text, part):
    pictures(tmp_path, "1.jpg")
    (tmp_path / "metadata.jsonl").write_text(text)
    with pytest.raises(gilt.TableError, match=part):
        gilt.scan(tmp_path, "imagefolder", constants=REAL)


@pytest.mark.parametrize("data", [
    "file;label\n1.jpg;Vögel\n".encode("utf-8-sig"), "file\tlabel\n1.jpg\tVögel\n".encode("utf-16"),
    "file,label\r\n1.jpg,Vögel\r\n".encode("cp1252"), "file|label\n\n1.jpg|\"Vögel\"\n".encode()])
def test_any_usual_csv_is_read(tmp_path, data):
    (tmp_path / "a.csv").write_bytes(data)
    assert read_sheet(tmp_path, "a.csv").columns == {"file": ["1.jpg"], "label": ["Vögel"]}


@pytest.mark.parametrize("values, expected", [
    (["1", None, "-3"], [1, None, -3]), (["1", "2.5e3"], [1.0, 2500.0]), (["007", "8"], ["007", "8"]), (["1", "x"], ["1", "x"]),
    ([None], [None]), (["12345678901234567890"], [12345678901234567890.0])])
def test_numbers_are_numbers_where_they_are_written_plainly(values, expected):
    assert [None if pd.isna(value) else value for value in numbers(values)] == expected


@pytest.mark.parametrize("name, split", [("train-00000-of-00005", "train"), ("trainLabels", "train"), ("VALIDATION_set", "val"),
                                         ("my_test", "test"), ("latest", None), ("trains", None)])
def test_the_split_in_a_name(name, split):
    assert split_in(name) == split


def test_a_name_that_is_no_preset_lists_them(tmp_path):
    pictures(tmp_path, "images/1.png")
    with pytest.raises(gilt.LayoutError, match=r"'cifak' is no preset \(known: thesis, .*\).* Did you mean 'cifake'\?"):
        gilt.scan(tmp_path, "cifak")
    with pytest.raises(gilt.LayoutError, match="is a preset and stands alone"):
        gilt.scan(tmp_path, ["cifake", "{origin}"])
    assert len(gilt.scan(tmp_path, "images", constants=REAL)) == 1  # a folder's name is a pattern


@pytest.mark.parametrize("name", ["thesis", "cifake"])
def test_a_preset_that_no_path_fits_shows_both(tmp_path, name):
    pictures(tmp_path, "1.png")
    with pytest.raises(gilt.LayoutError, match=rf"laid out as '{name}': '1.png' is not like '"):
        gilt.scan(tmp_path, name)
    with pytest.raises(gilt.LayoutError, match="has no columns to name"):
        gilt.scan(tmp_path, name, columns={"class": "x"})


@pytest.mark.parametrize("name, missing", [("artifact", "no metadata.csv under"), ("competition", "no list"),
                                           ("huggingface", "no image in")])
def test_a_preset_whose_lists_are_missing_says_which(tmp_path, name, missing):
    if name != "huggingface":
        pictures(tmp_path, "1.png")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(gilt.TableError, match=missing):
        gilt.scan(tmp_path, name, constants=REAL)


def test_a_pattern_may_read_the_files_name(tmp_path):
    pictures(tmp_path, "train/wren/sd_1.png", "train/wren/real_2.png", "train/wren/3.png")
    table = gilt.scan(tmp_path, "{split}/{class}/{origin}_*.*")
    assert said(table, "origin", "class") == {"train/wren/sd_1.png": ("sd", "wren"), "train/wren/real_2.png": ("real", "wren")}


def test_presets_say_what_they_are():
    for name, preset in PRESETS.items():
        assert preset.name == name
        assert preset.says
        assert preset.source
        assert len(preset.example) == 2
