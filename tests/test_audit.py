"""The audit finds what was planted, says it in words, and finds nothing where nothing is."""
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw, ImageFilter
from scipy.ndimage import gaussian_filter

import gilt
from conftest import SHARED
from gilt.data.audit import CHECKS, audit
from gilt.data.checks import Evidence
from gilt.data.facts import jpeg_quality, measure
from gilt.data.findings import Audit
from gilt.data.near import Pairs, near_groups, near_pairs, propose
from gilt.data.scan import scan
from gilt.data.shortcuts import auroc_interval


def scene(seed, size=(160, 160)):
    """Return a picture with the spectrum of a photograph: soft shapes, edges and grain, unlike any other seed's."""
    rng = np.random.default_rng(seed)
    field = sum(s * gaussian_filter(rng.normal(size=(size[1], size[0], 3)), (s, s, 0)) for s in (2, 5, 12, 30))
    field = (field - field.mean()) / field.std()
    picture = Image.fromarray(np.clip(128 + 45 * field, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(6):
        x, y, w, h = rng.integers(0, size[0], 4)
        draw.ellipse([x, y, x + w // 2 + 4, y + h // 2 + 4], fill=tuple(int(v) for v in rng.integers(0, 256, 3)))
    return picture


def put(picture, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **options)
    return path


@pytest.fixture(scope="module")
def clean_folder(tmp_path_factory):
    """60 photographs and 60 generated images, two classes, encoded alike: nothing to find."""
    root = tmp_path_factory.mktemp("clean")
    for i in range(120):
        origin, kind = ("real", "painter")[i % 2], ("wren", "tit")[i // 2 % 2]
        put(scene(i), root / origin / kind / f"{i:03}.jpg", quality=88)
    return root


@pytest.fixture
def folder(clean_folder, tmp_path):
    """A copy of the same, to plant defects in."""
    return Path(shutil.copytree(clean_folder, tmp_path / "images"))


def findings(root, *checks, splits=None):
    table = scan(root, "{origin}/{class}")
    if splits:
        table = table.with_column("split", [splits(path) for path in table.frame["path"]])
    return table, audit(table, checks=checks or None)


def test_an_honest_collection_has_no_grave_finding(clean_folder):
    table, result = findings(clean_folder)
    assert [f.check for f in result if f.severity in ("high", "medium")] == []
    assert set(result.checks) == set(CHECKS) and set(result.skipped) == {"leaks", "source-leaks", "seen"}
    (metadata,) = [f for f in result.of("shortcuts") if f.details["target"] == "origin"]
    assert metadata.severity == "none" and metadata.details["auroc"]["all but file size"]["auroc"] == 0.5
    assert result.table == table.fingerprint


@pytest.mark.parametrize("change", [
    lambda p: p.resize((97, 97), Image.Resampling.LANCZOS), lambda p: p.crop((5, 3, 156, 154)),
    lambda p: p.crop((0, 0, 160, 148)), lambda p: p.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    lambda p: p.convert("L").convert("RGB"), lambda p: p.point(lambda v: 0.7 * v + 40), lambda p: p.resize((320, 320)),
    lambda p: p.filter(ImageFilter.GaussianBlur(1))],
    ids=["smaller", "cropped", "strip cut off", "mirrored", "grey", "paler", "larger", "softened"])
def test_the_same_picture_is_found_in_another_file(folder, change):
    changed = [f"{i:03}.jpg" for i in range(0, 24, 4)]
    for name in changed:
        put(change(Image.open(folder / "real" / "wren" / name)), folder / "real" / "wren" / f"again-{name}", quality=60)
    table = scan(folder, "{origin}/{class}")
    pairs = near_pairs(table)
    paths = table.frame["path"].to_numpy()[pairs.rows]
    assert sorted(map(tuple, paths)) == sorted((f"real/wren/{n}", f"real/wren/again-{n}") for n in changed)
    groups = near_groups(table)
    assert groups.notna().sum() == 2 * len(changed) and groups.nunique() == len(changed)


def test_pictures_turned_by_exif_are_the_same_picture(folder):
    original = Image.open(folder / "real" / "tit" / "002.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    put(original.transpose(Image.Transpose.ROTATE_90), folder / "real" / "tit" / "turned.jpg", quality=80, exif=exif)
    table = scan(folder, "{origin}/{class}")
    assert near_groups(table).dropna().index.map(lambda i: table.frame["path"][i]).tolist() == [
        "real/tit/002.jpg", "real/tit/turned.jpg"]


def test_silhouettes_that_are_all_alike_are_not_taken_for_one_picture_nor_called_a_grave_leak(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(240):
        kind, split = ("trousers", "dress")[i % 2], ("train", "test")[i % 4 == 3]
        left, right, top, low = (int(v) for v in np.array([10, 20, 3, 25]) + rng.integers(-1, 2, 4))
        picture = Image.new("L", (28, 28))
        draw = ImageDraw.Draw(picture)
        wide = 1 + i % 2
        draw.polygon([(left, top), (right, top), (right + wide, low), (left - wide, low)], fill=int(rng.integers(120, 250)))
        picture.putpixel((0, 0), i)  # no two files are equal
        put(picture, tmp_path / "real" / split / kind / f"{i:03}.png")
    copy = tmp_path / "real" / "test" / "dress" / "copy.png"
    shutil.copy(tmp_path / "real" / "train" / "dress" / "001.png", copy)
    table = scan(tmp_path, "{origin}/{split}/{class}")
    loose = near_pairs(table, same=0.87)
    assert loose.same > 0.87 and len(loose.rows) < 2_000  # of some 28,000 pairs
    found = {f.check: f for f in audit(table, checks=["near-duplicates", "leaks"]).findings}
    assert found["leaks"].severity == "high" and found["leaks"].details["exact"] == 1  # a copied file is a leak anywhere
    copy.unlink()
    table = scan(tmp_path, "{origin}/{split}/{class}")
    found = {f.check: f for f in audit(table, checks=["near-duplicates", "leaks"]).findings}
    assert "leaks" not in found or found["leaks"].severity == "medium"


def test_the_search_in_cells_finds_what_the_search_over_all_finds(monkeypatch):
    rng = np.random.default_rng(0)
    hashes = rng.integers(-60, 60, (3000, 35)).astype(np.int8)
    hashes[1500:1700] = hashes[:200] + rng.integers(-12, 12, (200, 35))
    pairs, mirrored = propose(hashes)
    monkeypatch.setattr("gilt.data.near.EXACT_ROWS", 100)
    found, _ = propose(hashes)
    planted = {(i, i + 1500) for i in range(200)}
    assert planted <= set(map(tuple, pairs.tolist())) and not mirrored.all()
    assert len(planted & set(map(tuple, found.tolist()))) >= 198


def test_leaks_count_the_test_images_that_training_has_seen(folder):
    shutil.copy(folder / "real" / "wren" / "000.jpg", folder / "real" / "wren" / "copy.jpg")
    put(Image.open(folder / "real" / "wren" / "004.jpg").resize((120, 120)), folder / "real" / "wren" / "near.jpg", quality=70)
    test = {"real/wren/copy.jpg", "real/wren/near.jpg", "real/tit/002.jpg"}
    _, result = findings(folder, "leaks", splits=lambda path: "test" if path in test else "train")
    (leak,) = result
    assert leak.severity == "high" and leak.score == pytest.approx(2 / 3)
    assert leak.details == {"split": "test", "images": 2, "of": 3, "exact": 1, "chained": 0}
    assert "2 of 3 test images (66.7 %)" in leak.meaning and "among the train images" in leak.meaning
    assert sorted(map(sorted, leak.groups)) == [["real/wren/000.jpg", "real/wren/copy.jpg"],
                                                ["real/wren/004.jpg", "real/wren/near.jpg"]]


def test_a_leak_by_way_of_a_third_image_is_counted_as_such(folder):
    table = scan(folder, "{origin}/{class}")
    table = table.with_column("split", ["test" if path < "painter/wren" else "train" for path in table.frame["path"]])
    evidence = Evidence(table)
    lone = np.flatnonzero(table.frame["split"] == "test")[:2]
    train = np.flatnonzero(table.frame["split"] == "train")[:1]
    chain = np.array([[lone[0], lone[1]], [lone[1], train[0]]])
    vars(evidence)["pairs"] = Pairs(chain, np.ones(2), 2, 0)  # first and last share nothing but the middle
    (leak,) = CHECKS["leaks"](evidence)
    assert leak.details["images"] == 2 and leak.details["chained"] == 1 and "1 by way of a third one" in leak.meaning


def test_generated_images_made_from_or_close_to_a_test_photograph_are_found(folder):
    put(Image.open(folder / "real" / "wren" / "000.jpg").resize((150, 150)), folder / "painter" / "wren" / "close.jpg")
    table = scan(folder, "{origin}/{class}")
    test = {"real/wren/000.jpg", "real/wren/004.jpg"}
    table = table.with_column("split", ["test" if path in test else "train" for path in table.frame["path"]])
    table = table.with_column("source", table.frame["path"].map({"painter/wren/001.jpg": "real/wren/004.jpg"}))
    (leak,) = audit(table, checks=["source-leaks"])
    assert leak.rows == ("painter/wren/001.jpg", "painter/wren/close.jpg")
    assert leak.details == {"made_from_test": 1, "close_to_test": 1}


def test_one_picture_under_two_classes_or_two_origins_is_a_conflict(folder):
    shutil.copy(folder / "real" / "wren" / "000.jpg", folder / "real" / "tit" / "x.jpg")
    put(Image.open(folder / "real" / "tit" / "002.jpg").resize((140, 140)), folder / "painter" / "tit" / "y.png")
    _, result = findings(folder, "class-conflicts", "origin-conflicts", "exact-duplicates")
    assert {f.check: f.groups for f in result} == {
        "class-conflicts": (("real/tit/x.jpg", "real/wren/000.jpg"),), "exact-duplicates": (
            ("real/tit/x.jpg", "real/wren/000.jpg"),), "origin-conflicts": (("painter/tit/y.png", "real/tit/002.jpg"),)}


def test_an_edit_of_a_photograph_that_says_so_is_no_conflict(folder):
    put(Image.open(folder / "real" / "tit" / "002.jpg").resize((140, 140)), folder / "painter" / "tit" / "y.png")
    table = scan(folder, "{origin}/{class}")
    table = table.with_column("source", table.frame["path"].map({"painter/tit/y.png": "real/tit/002.jpg"}))
    assert not len(audit(table, checks=["origin-conflicts"]))


def test_a_format_that_tells_the_origin_is_a_shortcut(tmp_path):
    for i in range(80):
        origin, ending = ("real", "jpg") if i % 2 else ("painter", "png")
        put(scene(i, (96, 96)), tmp_path / origin / "wren" / f"{i}.{ending}")
    _, result = findings(tmp_path, "shortcuts")
    (shortcut,) = result
    auroc = shortcut.details["auroc"]
    assert shortcut.severity == "high" and auroc["format"]["auroc"] == 1 and auroc["format"]["low"] > 0.9
    assert auroc["size"]["auroc"] == 0.5 and "format alone tells the origin" in shortcut.meaning


def drawn(count, origins, classes, formats=("JPEG",)):
    """Return a table of rows that no image stands behind, with hashes of their own."""
    rng = np.random.default_rng(0)
    hashes = [rng.integers(-127, 128, 35).astype(np.int8).tobytes().hex() for _ in range(count)]
    return gilt.ImageTable(pd.DataFrame({
        "path": [f"{i}.jpg" for i in range(count)], "class": [classes[i % len(classes)] for i in range(count)],
        "origin": origins, "format": [formats[i % len(formats)] for i in range(count)], "width": 100, "height": 100,
        "mode": "RGB", "quality": 90, "bytes": rng.integers(1_000, 9_999, count), "sha256": [f"{i:064x}" for i in range(count)],
        "phash": hashes}), "gone")


def test_a_shortcut_shows_however_rare_a_label_is_and_however_many_there_are():
    rare = drawn(4_900, ["painter" if i < 12 else "real" for i in range(4_900)], ["wren"])
    rare = rare.with_column("format", np.where(rare.frame["origin"] == "real", "JPEG", "PNG"))
    (finding,) = audit(rare, checks=["shortcuts"])
    assert finding.details["auroc"]["format"]["auroc"] == 1 and finding.severity in ("medium", "high")
    many = drawn(4_800, "real", [f"c{i}" for i in range(400)], ["JPEG", "PNG"])  # each class has one of the two
    (finding,) = audit(many, checks=["shortcuts"])
    assert 0.7 < finding.details["auroc"]["format"]["auroc"] < 0.8 and finding.details["n"] == 1_200


def test_labels_with_too_few_different_pictures_are_not_judged():
    table = drawn(40, ["real", "painter"] * 20, ["wren"])
    assert audit(table, checks=["shortcuts"]).of("shortcuts")[0].details["n"] == 40
    copies = table.with_column("sha256", [f"{i % 8:064x}" for i in range(40)])
    assert "10 different pictures" in audit(copies, checks=["shortcuts"]).skipped["shortcuts"]


def test_few_images_that_may_tell_by_chance_are_not_called_clear():
    table = drawn(24, ["real", "painter"] * 12, ["wren"])
    table = table.with_column("bytes", [(2_400, 2_000)[i % 2] + 90 * (i // 2) for i in range(24)])
    (finding,) = audit(table, checks=["shortcuts"])
    assert finding.severity == "none" and finding.score >= 0.6
    assert "too few images" in finding.meaning and "say nothing" not in finding.meaning


def test_several_classes_that_only_chance_tells_are_no_shortcut():
    found = [audit(drawn(count, "real", ["a", "b", "c"]), checks=["shortcuts"]).findings for count in (60, 63, 66, 69, 90)]
    assert [finding.severity for (finding,) in found] == ["none"] * 5


def test_what_only_chance_tells_has_an_interval_that_holds_chance():
    assert auroc_interval(0.5, 50, 50)[0] < 0.5 < auroc_interval(0.5, 50, 50)[1]
    low, high = auroc_interval(1.0, 40, 40)
    assert 0.9 < low < 1 and high == 1
    assert auroc_interval(0.0, 40, 40)[1] == pytest.approx(1 - low)


def test_the_interval_of_an_auroc_covers_it_as_often_as_it_says():
    from scipy.stats import norm, rankdata

    rng, hits = np.random.default_rng(0), 0
    truth = norm.cdf(1.2 / np.sqrt(2))
    for _ in range(400):
        values = np.concatenate([rng.normal(1.2, 1, 30), rng.normal(0, 1, 40)])
        auroc = (rankdata(values)[:30].sum() - 30 * 31 / 2) / (30 * 40)
        low, high = auroc_interval(auroc, 30, 40)
        hits += low <= truth <= high
    assert 0.92 <= hits / 400 <= 0.99


def test_trivial_statistics_of_pixels_that_tell_the_origin_are_measured(folder):
    for path in (folder / "painter").rglob("*.jpg"):
        put(Image.open(path).filter(ImageFilter.GaussianBlur(1.5)), path, quality=88)
    _, result = findings(folder, "pixel-shortcuts")
    (finding,) = result
    assert finding.severity == "medium" and finding.details["auroc"]["finest detail"]["auroc"] > 0.9
    energy = finding.details["finest_detail"]
    assert energy["generated"]["mean"] < energy["real"]["mean"]


def signed(picture, box=(96, 110, 156, 154)):
    picture = picture.copy()
    draw = ImageDraw.Draw(picture)
    draw.rectangle(box, outline="white", width=2)
    draw.text((box[0] + 8, box[1] + 8), "made by\npainter", fill="white")
    return picture


def test_copies_of_one_picture_bear_no_mark_and_make_nothing_strange(folder):
    for i in range(70):
        shutil.copy(folder / "painter" / "wren" / "001.jpg", folder / "painter" / "wren" / f"copy{i}.jpg")
    _, result = findings(folder, "watermark", "out-of-context")
    assert not result.of("watermark") and not result.skipped
    assert len([path for finding in result for path in finding.rows if path.startswith("painter")]) <= 2


def test_images_that_are_gone_are_not_reported_as_free_of_marks_and_copies(folder):
    put(Image.open(folder / "real" / "wren" / "000.jpg").resize((120, 120)), folder / "real" / "wren" / "near.jpg")
    table = scan(folder, "{origin}/{class}")
    gone = audit(gilt.ImageTable(table.frame, folder / "gone"))
    assert "gone or unreadable" in gone.skipped["near-duplicates"] and "can be read" in gone.skipped["watermark"]
    assert "NaN" not in json.dumps(gone.as_json())


def test_a_missing_number_hides_no_stranger(folder):
    for i in range(3):
        put(Image.new("RGB", (160, 160), (250, 20 * i, 0)), folder / "real" / "tit" / f"plain{i}.png")
    table = scan(folder, "{origin}/{class}")
    frame = table.frame.copy()
    frame.loc[frame["path"] == "real/tit/002.jpg", "sharpness"] = np.nan
    (finding,) = audit(gilt.ImageTable(frame, table.root), checks=["out-of-context"])
    assert {f"real/tit/plain{i}.png" for i in range(3)} <= set(finding.rows) and "real/tit/002.jpg" not in finding.rows


@pytest.mark.parametrize("part", [1.0, 0.5])
def test_a_signature_in_a_corner_is_found_with_the_images_that_bear_it(folder, part):
    marked = sorted((folder / "painter").rglob("*.jpg"))[:int(60 * part)]
    for path in marked:
        put(signed(Image.open(path), (126, 126, 158, 158)), path, quality=88)
    _, result = findings(folder, "watermark")
    found = result.of("watermark")
    assert {f.details["origin"] for f in found} == {"painter"}
    corner = next(f for f in found if f.details["place"] == "bottom right")
    names = {path.relative_to(folder).as_posix() for path in marked}
    assert len(names & set(corner.rows)) >= 0.9 * len(names) and len(set(corner.rows) - names) <= 2


def test_a_grid_of_pictures_is_found_and_one_picture_is_not(folder):
    for k, (rows, columns, seed) in enumerate([(2, 2, 900), (3, 3, 938), (2, 2, 960)]):
        sheet = Image.new("RGB", (columns * 160, rows * 160))
        for i in range(rows * columns):
            sheet.paste(scene(seed + i), (i % columns * 160, i // columns * 160))
        put(sheet, folder / "painter" / "wren" / f"sheet{k}.jpg", quality=80)
    _, result = findings(folder, "grid")
    (finding,) = result
    assert finding.details["grids"] == {"painter/wren/sheet0.jpg": [2, 2], "painter/wren/sheet1.jpg": [3, 3],
                                        "painter/wren/sheet2.jpg": [2, 2]}


def test_screenshots_small_dark_and_blurred_images_are_found(folder):
    for i in range(3):
        shot = Image.new("RGB", (160, 160), "white")
        draw = ImageDraw.Draw(shot)
        for line in range(12):
            draw.text((6, 6 + 12 * line), f"File Edit View {i} {line}", fill="black")
        put(shot, folder / "real" / "tit" / f"shot{i}.png")
    put(scene(700, (40, 40)), folder / "real" / "wren" / "small.jpg")
    put(Image.new("RGB", (160, 160), (3, 3, 3)), folder / "painter" / "wren" / "black.jpg")
    put(scene(703).filter(ImageFilter.GaussianBlur(5)), folder / "real" / "wren" / "soft.jpg", quality=88)
    _, result = findings(folder, "out-of-context", "too-small", "too-dark", "blurred")
    rows = {f.check: set(f.rows) for f in result}
    assert {f"real/tit/shot{i}.png" for i in range(3)} <= rows["out-of-context"]
    assert rows["too-small"] == {"real/wren/small.jpg"}
    assert rows["too-dark"] == {"painter/wren/black.jpg"}
    assert rows["blurred"] == {"real/wren/soft.jpg"}


def test_imbalance_and_classes_that_a_split_lacks_are_said(folder):
    for path in sorted((folder / "real" / "tit").iterdir())[4:]:
        path.unlink()
    _, result = findings(folder, "imbalance", splits=lambda path: "test" if "wren/00" in path else "train")
    assert [(f.details["column"], f.severity) for f in result] == [("class", "low"), ("split", "medium")] or [
        (f.details["column"]) for f in result] == ["split", "class"]
    absent = next(f for f in result if f.details["column"] == "split")
    assert absent.details["absent"] == {"test": ["tit"]} and "tit" in absent.meaning


def test_unreadable_files_are_a_finding_and_stop_nothing(folder):
    (folder / "real" / "wren" / "cut.jpg").write_bytes((folder / "real" / "wren" / "000.jpg").read_bytes()[:900])
    (folder / "real" / "wren" / "empty.jpg").write_bytes(b"")
    table, result = findings(folder, "unreadable")
    (finding,) = result
    assert set(finding.rows) == {"real/wren/cut.jpg", "real/wren/empty.jpg"} and result.n == len(table) - 2


def test_an_audit_survives_saving_and_a_table_without_measurements_says_what_it_lacks(folder, tmp_path):
    table, result = findings(folder, "shortcuts", "grid")
    result.save(tmp_path / "audit.json")
    assert Audit.load(tmp_path / "audit.json").as_json() == result.as_json()
    bare = gilt.ImageTable(table.frame.drop(columns=["seam"]).assign(phash=None), table.root)
    assert set(audit(bare, checks=["grid", "near-duplicates", "leaks"]).skipped) == {"grid", "near-duplicates", "leaks"}
    (tmp_path / "audit.json").write_text("{}")
    with pytest.raises(gilt.TableError, match="no audit of gilt's"):
        Audit.load(tmp_path / "audit.json")


def test_bad_requests_say_what_is_there(folder):
    table = scan(folder, "{origin}/{class}")
    with pytest.raises(gilt.ConfigError, match=r"no check 'leak' .*Did you mean 'leaks'"):
        audit(table, checks=["leak"])
    with pytest.raises(gilt.TableError, match="no usable row"):
        audit(table.exclude(pd.Series(True, table.frame.index), "test"))


@pytest.mark.parametrize("quality", [5, 30, 49, 50, 75, 90, 95, 100])
def test_the_quality_of_a_jpeg_is_read_from_its_tables(tmp_path, quality):
    path = put(scene(1), tmp_path / "a.jpg", quality=quality)
    with Image.open(path) as image:
        assert jpeg_quality(image) == quality
    assert measure(path.read_bytes())["quality"] == quality
    assert measure(put(scene(1), tmp_path / "a.png").read_bytes())["quality"] is None


def run(*words, cwd):
    return subprocess.run([sys.executable, "-m", "gilt", *words], cwd=cwd, capture_output=True, text=True)


def test_the_command_prints_words_json_and_a_page(folder, tmp_path):
    shutil.copy(folder / "real" / "wren" / "000.jpg", folder / "real" / "wren" / "copy.jpg")
    scan(folder, "{origin}/{class}").save(tmp_path / "t.parquet")
    said = run("audit", "t.parquet", "--check", "exact-duplicates", "--html", "a.html", cwd=tmp_path)
    words = " ".join(said.stdout.split())
    assert said.returncode == 0 and "1 more file with the very bytes of another one" in words
    page = (tmp_path / "a.html").read_text()
    assert "data:image/" in page and "exact-duplicates" in page and "http" not in page.split("<body>")[1]
    as_json = run("audit", "t.parquet", "--check", "exact-duplicates", "--json", "--fail-on", "medium", cwd=tmp_path)
    assert as_json.returncode == 1
    (finding,) = json.loads(as_json.stdout)["findings"]
    assert {"check", "severity", "score", "rows", "remedy", "meaning", "groups", "details"} == set(finding)
    bad = run("audit", "t.parquet", "--check", "dupes", cwd=tmp_path)
    assert bad.returncode == 2 and bad.stderr.count("\n") == 1 and "no check 'dupes'" in bad.stderr


@pytest.mark.shared
@pytest.mark.skipif(not (SHARED / "data" / "grocery").is_dir(), reason="the groceries lie beside a checkout only")
def test_on_the_groceries_format_and_size_alone_give_the_origin_away(tmp_path):
    for i, path in enumerate(sorted((SHARED / "data" / "grocery").rglob("*.[jp][pn]g"))):
        if "/generated/" in str(path) or i % 20 == 0:
            parts = path.relative_to(SHARED / "data" / "grocery").parts
            target = tmp_path / parts[0] / parts[-2] / f"{i}{path.suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    (finding,) = [f for f in findings(tmp_path, "shortcuts")[1] if f.details["target"] == "origin"]
    auroc = finding.details["auroc"]
    assert finding.severity == "high" and auroc["format"]["low"] > 0.95 and auroc["size"]["low"] > 0.9
