"""Folders to tables: layouts, normal names, unreadable files, lineage."""
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

import gilt
from conftest import SHARED, draw, make_birds
from gilt.data import gather
from gilt.data.gather import SCHEMA, Journal, read_facts
from gilt.data.layouts import compile_layout, origin_of
from gilt.data.worker import Workers, measured


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


def test_a_phones_heic_is_a_row_that_says_what_to_do(tmp_path):
    good = draw(tmp_path / "real" / "wren" / "good.jpg", (90, 90, 90), seed=1)
    (good.parent / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200))
    good.rename(good.parent / "renamed.heic")
    reasons = gilt.scan(tmp_path).frame.set_index("path")["excluded"].to_dict()
    assert reasons == {"real/wren/renamed.heic": None,
                       "real/wren/phone.HEIC": "unreadable: HEIC, which gilt does not read: convert it to JPEG or PNG first"}



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


def counted(caplog) -> dict[str, int]:
    """Return what the last scan said of its files: read, new, changed, unchanged, gone, and taken over from a stopped one."""
    text = next(record.getMessage() for record in reversed(caplog.records) if record.getMessage().startswith("read "))
    return {word: int(number) for number, word in re.findall(r"(\d+) (new|changed|unchanged|gone|taken)", text)} | {
        "read": int(text.split()[1])}


def test_a_second_scan_reads_only_what_is_new_or_changed(tmp_path, caplog):
    caplog.set_level("INFO", logger="gilt")
    make_birds(tmp_path / "birds", real=5, generated=5)
    first = gilt.scan(tmp_path / "birds")
    assert not [record for record in caplog.records if record.getMessage().startswith("read ")]
    again = gilt.scan(tmp_path / "birds", known=first)
    assert counted(caplog) == {"read": 0, "new": 0, "changed": 0, "unchanged": 20, "gone": 0}
    pd.testing.assert_frame_equal(again.frame, first.frame)
    draw(tmp_path / "birds" / "real" / "wren" / "new.png", (9, 9, 9), seed=1)
    draw(tmp_path / "birds" / "real" / "wren" / "000.png", (9, 9, 9), seed=2)
    (tmp_path / "birds" / "real" / "wren" / "001.png").unlink()
    later = gilt.scan(tmp_path / "birds", known=first)
    assert counted(caplog) == {"read": 2, "new": 1, "changed": 1, "unchanged": 18, "gone": 1}
    pd.testing.assert_frame_equal(later.frame, gilt.scan(tmp_path / "birds").frame)


def test_a_file_of_equal_size_and_another_time_is_read_again(tmp_path, caplog):
    caplog.set_level("INFO", logger="gilt")
    path = draw(tmp_path / "real" / "wren" / "a.bmp", (9, 9, 9), seed=1)
    first = gilt.scan(tmp_path)
    size = path.stat().st_size
    draw(path, (9, 9, 9), seed=2)
    os.utime(path, ns=(0, first.frame["modified"][0] + 1))
    assert path.stat().st_size == size
    assert gilt.scan(tmp_path, known=first).frame["sha256"][0] != first.frame["sha256"][0]
    assert counted(caplog)["changed"] == 1


def test_reasons_that_are_no_facts_of_a_file_are_not_taken_over(tmp_path, caplog):
    caplog.set_level("INFO", logger="gilt")
    draw(tmp_path / "real" / "wren" / "a.png", (9, 9, 9), seed=1)
    (tmp_path / "real" / "wren" / "b.png").write_bytes(b"no")
    (tmp_path / "real" / "wren" / "c.png").symlink_to(tmp_path / "nowhere")
    first = gilt.scan(tmp_path)
    assert list(first.frame["excluded"]) == [None, "unreadable: empty or no image", "unreadable: No such file or directory"]
    marked = first.with_column("excluded", ["left out by hand", *first.frame["excluded"][1:]])
    again = gilt.scan(tmp_path, known=marked)
    assert again == first
    assert counted(caplog)["read"] == 1  # what could not be opened may be there now
    lacking = gilt.ImageTable(first.frame[["path", "class", "origin"]], tmp_path)
    assert gilt.scan(tmp_path, known=lacking) == first


def test_members_of_a_container_are_read_again_when_it_changes(tmp_path, caplog):
    caplog.set_level("INFO", logger="gilt")
    make_birds(tmp_path / "birds", real=3, generated=2)
    archive = Path(shutil.make_archive(str(tmp_path / "birds"), "zip", tmp_path / "birds"))
    first = gilt.scan(archive)
    gilt.scan(archive, known=first)
    assert counted(caplog)["unchanged"] == 10
    os.utime(archive, ns=(0, 12345))
    assert gilt.scan(archive, known=first) == first
    assert counted(caplog)["changed"] == 10


def journal_of(tmp_path, table, rows):
    """Write the journal that a scan leaves which was stopped after `rows` rows."""
    journal = Journal(tmp_path / "journal", table.root)
    frame = table.frame[SCHEMA.names]
    for first in range(0, rows, 4):
        part = frame.iloc[first:min(first + 4, rows)]
        journal.append(pa.RecordBatch.from_pandas(part, SCHEMA, preserve_index=False))
    return journal.path


@pytest.mark.parametrize("cut, kept", [(0, 12), (1, 8), (300, 8)])
def test_a_stopped_scan_goes_on_from_its_journal_also_where_its_end_is_torn(tmp_path, caplog, cut, kept):
    caplog.set_level("INFO", logger="gilt")
    table = gilt.scan(make_birds(tmp_path / "birds", real=5, generated=5))
    path = journal_of(tmp_path, table, 12)
    path.write_bytes(path.read_bytes()[:path.stat().st_size - cut])
    resumed = gilt.scan(tmp_path / "birds", journal=path)
    assert (counted(caplog)["read"], counted(caplog)["taken"]) == (20 - kept, kept)
    pd.testing.assert_frame_equal(resumed.frame, table.frame)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff\xff\xff\xff\xff\xff\xff\x7f" * 9])
def test_a_journal_that_is_none_is_begun_anew(tmp_path, content):
    table = gilt.scan(make_birds(tmp_path / "birds", real=2, generated=2))
    (tmp_path / "journal").write_bytes(content)
    assert gilt.scan(tmp_path / "birds", journal=tmp_path / "journal") == table


def test_a_journal_of_another_folder_is_not_believed(tmp_path, caplog):
    caplog.set_level("INFO", logger="gilt")
    table = gilt.scan(make_birds(tmp_path / "birds", real=5, generated=5))
    path = journal_of(tmp_path, table, 12)
    shutil.copytree(tmp_path / "birds", tmp_path / "copy")
    assert gilt.scan(tmp_path / "copy", journal=path) == table
    assert "taken over" not in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_a_scan_that_is_killed_reads_only_the_rest_the_second_time(tmp_path, stop):
    """A real process is stopped in the middle; the second run takes over what was finished and gives the same table."""
    folder = make_birds(tmp_path / "birds", real=1, generated=1)
    for original in list(folder.rglob("*.png")):
        for i in range(1500):
            (original.parent / f"{i}.png").hardlink_to(original)
    journal = tmp_path / ".t.parquet.journal"
    command = [sys.executable, "-m", "gilt", "scan", "birds", "-o", "t.parquet"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE)
    deadline = time.time() + 120
    while (not journal.exists() or journal.stat().st_size < 1000) and process.poll() is None and time.time() < deadline:
        time.sleep(0.01)
    process.send_signal(stop)
    process.stderr.read()
    process.stderr.close()
    assert process.wait(30) in (130, -signal.SIGKILL)
    assert not (tmp_path / "t.parquet").exists()
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    read, taken = map(int, re.search(r"read (\d+) of 6004 images.* (\d+) taken over from the scan", result.stderr).groups())
    assert taken > 0
    assert read + taken == 6004
    assert not journal.exists()
    resumed = gilt.ImageTable.load(tmp_path / "t.parquet")
    result = subprocess.run([*command, "--afresh"], cwd=tmp_path, capture_output=True, text=True)
    assert "taken" not in result.stderr
    pd.testing.assert_frame_equal(resumed.frame, gilt.ImageTable.load(tmp_path / "t.parquet").frame)


def test_other_processes_measure_what_this_one_does(tmp_path):
    paths = list(make_birds(tmp_path / "birds", real=4, generated=4).rglob("*.png"))
    contents = [*(path.read_bytes() for path in paths), b"", b"no image"]
    workers = Workers()
    try:
        assert workers.measure(contents).equals(measured(contents))
        assert workers.measure([]).num_rows == 0
        workers._all[0].kill()  # a crash costs a process, not the scan
        assert workers.measure(contents[:1]).to_pylist()[0]["excluded"] == "unreadable: its decoder crashed"
        assert workers.measure(contents).equals(measured(contents))
    finally:
        processes = list(workers._all)
        workers.close()
    assert all(process.poll() is not None for process in processes)


def test_processes_and_threads_give_the_same_table(tmp_path, monkeypatch):
    make_birds(tmp_path / "birds", real=30, generated=20)
    (tmp_path / "birds" / "real" / "wren" / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "birds" / "real" / "wren" / "broken.png").write_bytes(b"no")
    one = gilt.scan(tmp_path / "birds", threads=1)
    monkeypatch.setattr(gather, "MANY", 0)
    pd.testing.assert_frame_equal(gilt.scan(tmp_path / "birds", threads=3).frame, one.frame)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_no_image_and_stops_nothing(tmp_path):
    draw(tmp_path / "real" / "wren" / "a.png", (9, 9, 9), seed=1)
    os.mkfifo(tmp_path / "real" / "wren" / "b.png")
    assert len(gilt.scan(tmp_path)) == 1


def test_a_name_that_is_no_text_is_passed_over_and_said(tmp_path, caplog):
    path = draw(tmp_path / "real" / "wren" / "a.png", (9, 9, 9), seed=1)
    try:
        shutil.copy(path, os.fsencode(path.parent) + b"/\xff.png")
    except OSError:
        pytest.skip("this file system has text names only")
    table = gilt.scan(tmp_path)
    table.save(tmp_path / "t.parquet")
    assert len(table) == 1
    assert "1 names under" in caplog.text


def test_an_unknown_setting_names_the_nearest(tmp_path):
    with pytest.raises(gilt.ConfigError, match=r"scan: unknown key 'constant' .* Did you mean 'constants'\?"):
        gilt.scan(tmp_path, constant={"origin": "real"})


def run(*words, cwd):
    return subprocess.run([sys.executable, "-m", "gilt", "scan", *words], cwd=cwd, capture_output=True, text=True)


def test_the_command_goes_on_from_its_own_output_and_writes_over_nothing_else(tmp_path):
    make_birds(tmp_path / "birds", real=2, generated=2)
    make_birds(tmp_path / "others", real=1, generated=1)
    assert "read " not in run("birds", "-o", "t.parquet", cwd=tmp_path).stderr
    assert "read 0 of 8 images: 0 new, 0 changed, 8 unchanged, 0 gone" in run("birds", "-o", "t.parquet", cwd=tmp_path).stderr
    assert "read 0" not in run("birds", "-o", "t.parquet", "--afresh", cwd=tmp_path).stderr
    assert "read 0" not in run("others", "-o", "t.parquet", cwd=tmp_path).stderr  # another folder's table
    shutil.make_archive(str(tmp_path / "birds"), "zip", tmp_path / "birds")
    before = (tmp_path / "birds.zip").read_bytes()
    for output in ("birds.zip", "birds"):
        result = run("birds.zip", "-o", output, cwd=tmp_path)
        assert result.returncode == 2
        assert len(result.stderr.splitlines()) == 1
    assert run("others", "-o", "birds.zip", cwd=tmp_path).returncode == 2
    assert (tmp_path / "birds.zip").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["birds", "birds.zip", "others", "t.parquet"]


def test_the_command_lists_the_presets(tmp_path):
    result = run("--layouts", cwd=tmp_path)
    assert result.returncode == 0
    for name in ("thesis", "cifake", "artifact", "competition", "huggingface", "imagefolder"):
        assert f"\n{name}: " in f"\n{result.stdout}"
    assert run("x", "--column", "class", "-o", "t.parquet", cwd=tmp_path).stderr.startswith("error: gilt scan: --column takes")
