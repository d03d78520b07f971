"""The first look at a collection: its numbers, its thumbnails, the page and the terminal."""
import base64
import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

import gilt
from conftest import draw, make_birds
from gilt.cli import main
from gilt.cli.picture import can_draw
from gilt.cli.picture import draw as draw_rows
from gilt.data.overview import ends, largest, overview, sampled
from gilt.data.table import ImageTable
from gilt.reports.collection import show
from gilt.reports.sections import headline, sections, size_text
from gilt.reports.thumbs import is_placeholder, thumbnail, thumbnail_uri, thumbnail_uris


def run(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    return ended.value.code, out, err


@pytest.fixture
def mixed(tmp_path) -> ImageTable:
    """Three wrens of two sizes and codecs, a painted one, one without a class, and a broken one."""
    draw(tmp_path / "real" / "wren" / "a.jpg", (200, 120, 60), seed=1, size=40)
    draw(tmp_path / "real" / "wren" / "b.png", (200, 120, 60), seed=2, size=40)
    draw(tmp_path / "real" / "wren" / "c.png", (200, 120, 60), seed=3, size=20)
    draw(tmp_path / "painter" / "wren" / "d.png", (200, 120, 60), seed=4, size=20)
    draw(tmp_path / "real" / "robin" / "e.png", (200, 20, 60), seed=5, size=20)
    (tmp_path / "real" / "wren" / "broken.png").write_bytes(b"no image")
    table = gilt.scan(tmp_path)
    frame = table.frame
    return table.with_column("class", frame["class"].where(frame["class"] != "robin", None)).with_column(
        "split", ["train" if name in ("a.jpg", "d.png") else None for name in frame["path"].str.split("/").str[-1]])


def picture(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))


def test_an_overview_counts_usable_rows_by_class_origin_and_split(mixed):
    numbers = overview(mixed)
    assert (numbers["rows"], numbers["images"], numbers["classes"], numbers["no_class"]) == (6, 5, 1, 1)
    assert numbers["left_out"] == {"unreadable": 1}
    assert list(numbers["origins"].items()) == [("real", 4), ("painter", 1)]
    assert numbers["by_split"] == {"real": {"train": 1, "no split": 3}, "painter": {"train": 1}}
    assert numbers["by_class"] == [{"class": "wren", "all": 4, "origins": {"real": 3, "painter": 1}},
                                   {"class": None, "all": 1, "origins": {"real": 1, "painter": 0}}]


def test_an_overview_measures_sizes_and_encodings_by_origin(mixed):
    numbers = overview(mixed)
    assert numbers["measures"]["real"]["width"] == {"n": 4, "min": 20, "median": 30, "max": 40}
    assert numbers["measures"]["painter"]["aspect"] == {"n": 1, "min": 1.0, "median": 1.0, "max": 1.0}
    real = mixed.usable.real.frame["bytes"]
    assert numbers["measures"]["real"]["bytes"]["sum"] == real.sum()
    assert numbers["sizes"][0] == {"width": 20, "height": 20, "all": 3, "origins": {"real": 2, "painter": 1}}
    assert numbers["distinct_sizes"] == 2
    assert numbers["formats"] == {"real": {"PNG": 3, "JPEG": 1}, "painter": {"PNG": 1}}
    assert numbers["qualities"] == {"real": {"75": 1}, "painter": {}}
    assert json.loads(json.dumps(numbers)) == numbers


def test_near_duplicate_groups_are_counted_once_they_were_looked_for(mixed):
    assert overview(mixed)["groups"] is None
    names = mixed.frame["path"].str.split("/").str[-1]
    grouped = mixed.with_column("group", names.map({"a.jpg": "g", "b.png": "g", "d.png": "g", "c.png": "alone"}))
    groups = overview(grouped)["groups"]
    assert groups == {"groups": 1, "images": 3, "largest": 3, "across_splits": 0, "across_classes": 0, "across_origins": 1}


def test_own_columns_are_named_and_a_bare_table_is_shown_without_measures(tmp_path):
    table = ImageTable(pd.DataFrame({"path": ["a", "b"], "class": ["x", "y"], "origin": "real", "lens": [1, 2]}), tmp_path)
    numbers = overview(table)
    assert numbers["columns"] == ["lens"]
    assert "more columns: lens" in headline(numbers)
    assert numbers["measures"]["real"]["width"] is None
    assert [section.title for section in sections(numbers)] == ["Origins and splits", "Classes and origins"]


def test_many_classes_show_their_largest_and_smallest_unless_all_are_asked_for(tmp_path):
    names = [f"c{i:02}" for i in range(30) for _ in range(i + 1)]
    numbers = overview(ImageTable(pd.DataFrame({"path": range(len(names)), "class": names, "origin": "real"}), tmp_path))
    classes = sections(numbers)[1]
    assert [classes.rows[i][0] for i in (0, 11, 12, 13, 24)] == ["c29", "c18", "... 6 more", "c11", "c00"]
    assert classes.note == "The 12 largest and the 12 smallest of 30 classes."
    everyone = sections(numbers, every=True)[1]
    assert len(everyone.rows) == 30
    assert not everyone.note
    some = overview(ImageTable(pd.DataFrame({"path": range(500), "class": [*names, *[None] * 35], "origin": "real"}), tmp_path))
    assert sections(some)[1].rows[-2:] == [["c00", 1], ["(no class)", 35]]
    assert [row["class"] for row in largest(some["by_class"], 3)] == ["c29", "c28", None]
    assert ends(list(range(24))) == (list(range(24)), [], 0)


def test_many_origins_share_a_column_and_no_image_is_lost(tmp_path):
    rows = [(f"{i}/{j}", "x", f"gan{i}") for i in range(12) for j in range(12 - i)]
    numbers = overview(ImageTable(pd.DataFrame(rows, columns=["path", "class", "origin"]), tmp_path))
    classes = sections(numbers)[1]
    assert classes.header[-3:] == ["gan6", "5 others", "all"]
    assert classes.rows == [["x", 12, 11, 10, 9, 8, 7, 6, 15, 78]]
    assert "5 others 15" in headline(numbers)[0]


def test_samples_are_random_by_seed_and_usable(bird_table):
    first = sampled(bird_table, samples=4, seed=0, classes=["wren", "robin"])
    assert list(first) == ["wren", "robin"]
    assert {origin: len(paths) for origin, paths in first["wren"].items()} == {"real": 4, "painter": 4}
    assert first == sampled(bird_table, samples=4, seed=0, classes=["wren", "robin"])
    assert first != sampled(bird_table, samples=4, seed=1, classes=["wren", "robin"])
    assert sampled(bird_table.exclude(bird_table.frame["class"] == "wren", "no"), samples=4).keys() == {"robin"}
    assert sampled(bird_table, samples=1, origins=["real"], classes=["wren"])["wren"].keys() == {"real"}


def test_rows_without_a_class_are_sampled_under_none(mixed):
    drawn = sampled(mixed, samples=9, classes=["wren", None])
    assert [path.name for path in drawn[None]["real"]] == ["e.png"]
    assert {path.name for path in drawn["wren"]["real"]} == {"a.jpg", "b.png", "c.png"}


def test_a_thumbnail_is_upright_rgb_and_never_enlarged(tmp_path):
    image = Image.new("RGBA", (400, 200), (255, 0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    image.save(tmp_path / "wide.png", exif=exif)
    small = thumbnail(tmp_path / "wide.png", 96)
    assert (small.size, small.mode) == ((48, 96), "RGB")
    assert small.getpixel((10, 10)) == (255, 255, 255)
    assert thumbnail(draw(tmp_path / "tiny.png", (9, 9, 9), seed=1, size=16)).size == (16, 16)


def test_a_thumbnail_that_cannot_be_made_is_a_tile_that_says_why(tmp_path):
    (tmp_path / "text.png").write_text("<script>")
    broken, gone = thumbnail_uris([tmp_path / "text.png", tmp_path / "gone.png"])
    assert thumbnail(tmp_path / "gone.png") is None
    for uri, word in ((broken, "unreadable"), (gone, "not there")):
        assert is_placeholder(uri)
        assert f">{word}</text>" in base64.b64decode(uri.split(",")[1]).decode()
    assert "No such file" in base64.b64decode(gone.split(",")[1]).decode()


def test_thumbnails_come_in_order_also_out_of_an_archive(tmp_path):
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for i, colour in enumerate(colours):
            archive.write(draw(tmp_path / f"{i}.png", colour, seed=i, noise=0), f"in/{i}.png")
    paths = [tmp_path / "photos.zip" / "in" / f"{i}.png" for i in (2, 0, 1)]
    found = [np.asarray(picture(uri)).mean((0, 1)).argmax() for uri in thumbnail_uris(paths)]
    assert found == [2, 0, 1]
    assert picture(thumbnail_uri(paths[0])).size == (24, 24)


def test_the_page_holds_tables_samples_and_histograms_and_needs_no_network(bird_table, tmp_path):
    page = show(bird_table, to=tmp_path / "birds.html", samples=5).read_text()
    assert page.count("data:image/jpeg;base64,") == 2 * 2 * 5
    assert page.count("<svg") >= 2
    for text in ("100 images, 2 classes, 2 origins (real 60, painter 40)", "Classes and origins", "24 x 24", "PNG: 60"):
        assert text in page
    assert not re.search(r"(src|href)=[\"'](?!data:|#)", page)
    assert page == show(bird_table, to=tmp_path / "again.html", samples=5).read_text()
    assert page != show(bird_table, to=tmp_path / "other.html", samples=5, seed=1).read_text()


def test_the_page_stays_small_with_many_classes_and_origins_and_says_what_it_leaves_out(tmp_path):
    for i in range(3):
        draw(tmp_path / f"{i}.png", (120, 120, 120), seed=i, size=128, noise=120)
    rows = [(f"{i % 3}.png", f"c{c:02}", f"gan{o:02}") for c in range(40) for o in range(14) for i in range(3)]
    page = show(ImageTable(pd.DataFrame(rows, columns=["path", "class", "origin"]), tmp_path), to=tmp_path / "many.html")
    text = page.read_text()
    assert text.count("data:image/jpeg") == 30 * 12
    assert "The 30 largest of 40 classes." in text
    assert "The first 12 of 14 origins." in text
    assert page.stat().st_size < 5_000_000


def test_hostile_names_are_text_on_the_page_and_in_the_terminal(tmp_path, capsys):
    names = ["<script>alert(1)</script>", "[/red]", "\x1b[31mred", "$a_$", "_x"]
    rows = [(f"{i}.png", name, name) for i, name in enumerate(names) for _ in range(2)]
    table = ImageTable(pd.DataFrame(rows, columns=["path", "class", "origin"]), tmp_path)
    table.frame["bytes"] = pd.array(range(10), "Int64")
    table.save(tmp_path / "t.parquet")
    code, out, _ = run(capsys, "show", tmp_path / "t.parquet", "--html", tmp_path / "t.html")
    assert code == 0
    assert "[/red]" in out
    assert "\x1b" not in out
    page = (tmp_path / "t.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_table_whose_images_are_gone_shows_its_numbers_and_says_so(tmp_path, capsys):
    make_birds(tmp_path / "birds", real=3, generated=2)
    gilt.scan(tmp_path / "birds").save(tmp_path / "t.parquet")
    shutil.move(tmp_path / "birds", tmp_path / "moved")
    code, out, err = run(capsys, "show", tmp_path / "t.parquet", "--html", tmp_path / "t.html")
    assert code == 0
    assert "10 images, 2 classes" in out
    assert "note: 10 of the page's 10 pictures are missing" in err
    page = (tmp_path / "t.html").read_text()
    assert "All 10 pictures are missing" in page
    assert "24 x 24" in page
    run(capsys, "show", tmp_path / "t.parquet", "--html", tmp_path / "t.html", "--root", tmp_path / "moved")
    assert "missing" not in (tmp_path / "t.html").read_text()


@pytest.mark.parametrize("rows", [0, 2])
def test_a_table_without_a_usable_row_is_shown(tmp_path, capsys, rows):
    frame = pd.DataFrame({"path": ["a", "b"], "class": "x", "origin": "real", "excluded": "unreadable: empty"})[:rows]
    ImageTable(frame, tmp_path).save(tmp_path / "t.parquet")
    code, out, _ = run(capsys, "show", tmp_path / "t.parquet", "--html", tmp_path / "t.html")
    assert code == 0
    assert "0 images, 0 classes, 0 origins" in out
    assert ("2 (2 unreadable)" in out) == bool(rows)
    assert "Random samples" not in (tmp_path / "t.html").read_text()


def test_show_prints_tables_json_or_where_to_get_pictures(bird_table, tmp_path, capsys):
    bird_table.save(tmp_path / "birds.parquet")
    code, out, err = run(capsys, "show", tmp_path / "birds.parquet")
    assert code == 0
    assert re.search(r"wren +30 +20 +50", out)
    assert "--html FILE" in err
    code, out, _ = run(capsys, "show", tmp_path / "birds.parquet", "--json")
    assert json.loads(out) == overview(ImageTable.load(tmp_path / "birds.parquet"))
    assert "▀" not in out


@pytest.mark.parametrize("words, says", [
    (["gone.parquet"], "does not exist"), (["birds.parquet", "--html", "."], "is a folder"),
    (["birds.parquet", "--html", "birds.parquet"], "is the table"), (["birds.parquet", "--samples", "-1"], "--samples"),
    (["."], "scan it first")])
def test_bad_input_is_one_line_and_exit_code_2(bird_table, tmp_path, capsys, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    bird_table.save("birds.parquet")
    code, _, err = run(capsys, "show", *words)
    assert code == 2
    assert says in err
    assert len(err.strip().splitlines()) == 1
    assert ImageTable.load("birds.parquet") == bird_table


def test_the_terminal_picture_has_the_colours_of_the_images_and_fits_the_width(tmp_path):
    draw(tmp_path / "a.png", (250, 0, 0), seed=1, noise=0)
    draw(tmp_path / "b.png", (0, 0, 250), seed=1, noise=0)
    for width in (20, 60, 200):
        console = Console(force_terminal=True, color_system="truecolor", width=width, file=io.StringIO(), record=True)
        painted = [tmp_path / "b.png", tmp_path / "gone.png"]
        rows = {"a very long name of a class": {"real": [tmp_path / "a.png"], "gan": painted}}
        origins, count, missing = draw_rows(console, rows, ["real", "gan"])
        written = console.file.getvalue()
        assert "\x1b[38;2;250;0;0;48;2;250;0;0m▀" in written
        assert all(len(line) <= width for line in console.export_text().splitlines())
        assert (origins, count, missing) == {20: (1, 1, 0), 60: (2, 2, 0), 200: (2, 3, 1)}[width]
        assert ("48;2;0;0;250m" in written) == (origins == 2)


def test_pictures_are_drawn_in_a_real_terminal_and_only_there(bird_table, tmp_path):
    bird_table.save(tmp_path / "birds.parquet")
    screen, end = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": "80",
                   "PYTHONIOENCODING": "utf-8"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen([sys.executable, "-m", "gilt", "show", str(tmp_path / "birds.parquet")], stdout=end,
                               stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=environment)
    os.close(end)
    written = b""
    while part := _read(screen):
        written += part
    os.close(screen)
    assert process.wait() == 0
    assert "▀".encode() in written
    assert not can_draw(Console(file=io.StringIO()))
    assert not can_draw(Console(force_terminal=True, color_system="truecolor", no_color=True))


def _read(screen: int) -> bytes:
    try:
        return os.read(screen, 65536)
    except OSError:  # the other end is closed
        return b""


@pytest.mark.parametrize("count, text", [(0, "0 B"), (812, "812 B"), (21_941, "21.9 kB"), (184_761, "185 kB"),
                                         (88_874_156, "88.9 MB"), (5_000_000_000_000, "5.0 TB")])
def test_bytes_are_said_in_three_digits(count, text):
    assert size_text(count) == text
