"""Cleaning rows: what findings mean for them, which copy stays, and that lineage survives."""
import json
import subprocess
import sys

import pandas as pd
import pytest

import gilt
from conftest import draw, make_birds
from gilt.data.clean import clean, cleaned
from gilt.data.findings import Audit, Finding
from gilt.data.table import ImageTable

CHECKS = ("unreadable", "exact-duplicates", "near-duplicates", "leaks", "source-leaks", "class-conflicts", "origin-conflicts",
          "shortcuts", "watermark", "grid", "blurred", "imbalance")


def found(check, *groups, rows=(), severity="high", **details):
    rows = tuple(rows) or tuple(path for group in groups for path in group)
    return Finding(check, severity, 1.0, f"{check} is bad", f"do something about {check}", rows,
                   tuple(map(tuple, groups)), details)


def audit_of(table, *findings, checks=CHECKS):
    return Audit(tuple(findings), checks, table.fingerprint, len(table))


def rows_of(*rows, root="/nowhere"):
    """Return a table of rows given as "path class origin split" and facts."""
    records = []
    for text, facts in rows:
        path, kind, origin, split = text.split()
        records.append({"path": path, "class": kind, "origin": origin, "split": None if split == "-" else split,
                        "sha256": path, "width": 10, "height": 10, "bytes": 100, **facts})
    return ImageTable(pd.DataFrame(records), root)


def reasons(table):
    return dict(zip(table.frame["path"], table.frame["excluded"], strict=True))


@pytest.mark.parametrize("better, facts, others", [
    ("test", {}, {"width": 99, "height": 99}),
    ("-", {"width": 20}, {"quality": 99, "bytes": 999}),
    ("-", {"quality": 95}, {"quality": 80, "bytes": 999}),
    ("-", {"quality": None}, {"quality": 99, "bytes": 999}),  # lossless
    ("-", {"bytes": 101}, {}),
])
def test_of_copies_the_strictest_split_then_the_best_file_stays(better, facts, others):
    table = rows_of(("a wren real -", others), (f"b wren real {better}", facts), ("c wren real -", others))
    result = clean(table, audit_of(table, found("exact-duplicates", "abc")))
    assert reasons(result) == {"a": "exact-duplicates: same content as b", "b": None,
                               "c": "exact-duplicates: same content as b"}


def test_of_equal_copies_the_first_path_stays_and_val_is_stricter_than_train():
    table = rows_of(("b wren real -", {}), ("a wren real -", {}), ("d wren real train", {}), ("c wren real val", {}))
    result = clean(table, audit_of(table, found("exact-duplicates", "ab", "cd")))
    assert sorted(result.usable.frame["path"]) == ["a", "c"]


def test_a_row_that_is_left_out_already_keeps_its_reason_and_is_no_copy_to_keep():
    table = rows_of(("a wren real test", {"excluded": "blurry, says Ann"}), ("b wren real train", {}),
                    ("c wren real train", {}))
    result = clean(table, audit_of(table, found("exact-duplicates", "abc")))
    assert reasons(result) == {"a": "blurry, says Ann", "b": None, "c": "exact-duplicates: same content as b"}


def test_nothing_is_deleted_and_the_table_that_came_in_is_unchanged():
    table = rows_of(("a wren real -", {"lens": "nikon"}), ("b wren real -", {"lens": "canon"}))
    before = table.frame.copy()
    result = clean(table, audit_of(table, found("exact-duplicates", "ab")))
    pd.testing.assert_frame_equal(table.frame, before)
    assert list(result.frame["lens"]) == ["nikon", "canon"]
    assert result.root == table.root


def test_near_duplicates_keep_one_of_each_origin_and_are_grouped():
    table = rows_of(("a wren real -", {}), ("b wren real -", {"bytes": 500}), ("g wren painter -", {}),
                    ("h wren painter -", {}), ("alone wren real -", {}))
    result = clean(table, audit_of(table, found("near-duplicates", "abgh")))
    assert reasons(result) == {"a": "near-duplicates: nearly the same as b", "b": None, "g": None,
                               "h": "near-duplicates: nearly the same as g", "alone": None}
    groups = dict(zip(result.frame["path"], result.frame["group"], strict=True))
    assert groups["alone"] is None
    assert groups["a"] is not None
    assert groups["a"] == groups["b"] == groups["g"] == groups["h"]
    kept = clean(table, audit_of(table, found("near-duplicates", "abgh")), drop=[])
    assert len(kept.usable) == 5
    assert kept.frame["group"].notna().sum() == 4


def test_a_group_that_has_a_name_keeps_it():
    table = rows_of(("a wren real -", {}), ("b wren real -", {"group": "n7"}))
    result = clean(table, audit_of(table, found("near-duplicates", "ab")), drop=[])
    assert list(result.frame["group"]) == ["n7", "n7"]


@pytest.mark.parametrize("check, column", [("class-conflicts", "class"), ("origin-conflicts", "origin")])
def test_an_image_under_two_labels_is_left_out_with_all_its_copies_or_one_is_kept(check, column):
    labels = {"class": ("wren real", "robin real"), "origin": ("wren real", "wren painter")}[column]
    table = rows_of((f"a {labels[0]} train", {}), (f"b {labels[1]} test", {}), (f"c {labels[1]} train", {}))
    audit = audit_of(table, found(check, "abc"), found("exact-duplicates", "abc"))
    assert not len(clean(table, audit).usable)
    other = {"class": "robin", "origin": "painter"}[column]
    assert reasons(clean(table, audit))["a"] == f"{check}: the same image also has {column} {other!r} (b)"
    kept = clean(table, audit, conflicts="keep_first")
    assert list(kept.usable.frame["path"]) == ["b"]
    assert reasons(kept)["a"].startswith(f"{check}: ")
    assert reasons(kept)["c"] == "exact-duplicates: same content as b"


def test_a_leak_costs_the_laxer_split_and_never_the_test():
    table = rows_of(("t wren real train", {}), ("v wren real val", {}), ("x wren real test", {"bytes": 1}),
                    ("y wren real test", {}), ("free wren real -", {}))
    result = clean(table, audit_of(table, found("leaks", ["t", "v", "x", "y", "free"])), drop=["leaks"])
    assert reasons(result) == {"t": "leaks: the same image is in test (y)", "v": "leaks: the same image is in test (y)",
                               "x": None, "y": None, "free": None}


def test_an_image_made_from_another_splits_photograph_is_left_out_and_the_photograph_stays():
    table = rows_of(("p wren real test", {}), ("g wren painter train", {"source": "p"}))
    result = clean(table, audit_of(table, found("source-leaks", "pg")))
    assert reasons(result) == {"p": None, "g": "source-leaks: made from a test image (p)"}


def test_a_generated_image_that_only_looks_like_a_test_photograph_is_left_out_too():
    table = rows_of(("p wren real test", {}), ("g wren painter train", {}))
    assert reasons(clean(table, audit_of(table, found("source-leaks", "pg")))) == {
        "p": None, "g": "source-leaks: looks the same as a test image"}


@pytest.mark.parametrize("check", ["exact-duplicates", "near-duplicates", "leaks"])
def test_an_image_made_from_a_copy_of_a_test_photograph_is_still_recognised(check):
    table = rows_of(("train/p wren real train", {}), ("test/p wren real test", {}),
                    ("g wren painter train", {"source": "train/p"}), ("h wren painter train", {}))
    audit = audit_of(table, found(check, ["train/p", "test/p"]))
    result = clean(table, audit)
    assert result.frame.set_index("path")["source"]["g"] == "test/p"
    assert reasons(result)["g"] == "source-leaks: made from a test image (test/p)"
    assert reasons(result)["h"] is None
    left = clean(table, audit, drop=[check])  # not asked to look for it: but the link is there for every later split
    assert reasons(left)["g"] is None
    assert reasons(gilt.split(left))["g"] == "made from a test image"


def test_without_splits_an_image_follows_the_copy_that_stays():
    table = rows_of(*((f"p{i} wren real -", {}) for i in range(20)), ("copy wren real -", {"bytes": 1, "sha256": "p3"}),
                    ("g wren painter -", {"source": "copy"}))
    for seed in range(8):
        result = gilt.split(clean(table, audit_of(table, found("exact-duplicates", ["p3", "copy"]))), seed=seed)
        rows = result.frame.set_index("path")
        assert rows["source"]["g"] == "p3"
        assert rows["split"]["g"] == rows["split"]["p3"]


def test_a_copy_that_stays_takes_over_the_source_of_those_that_go():
    table = rows_of(("p wren real test", {}), ("g wren painter train", {"bytes": 900}),
                    ("h wren painter train", {"source": "p"}))
    result = clean(table, audit_of(table, found("exact-duplicates", "gh")))
    assert result.frame.set_index("path")["source"]["g"] == "p"
    assert reasons(result)["g"] == "source-leaks: made from a test image (p)"


def test_other_findings_are_dropped_when_asked_for_and_else_named_as_not_fixed():
    table = rows_of(("a wren real -", {}), ("b wren real -", {}))
    audit = audit_of(table, found("blurred", rows="a"), found("imbalance", rows="ab"), found("shortcuts", severity="none"))
    result = cleaned(table, audit)
    assert len(result.table.usable) == 2
    assert [finding.check for finding in result.unfixed] == ["blurred", "imbalance"]
    result = cleaned(table, audit, settings={"drop": "blurred"})
    assert reasons(result.table) == {"a": "blurred: named by the audit", "b": None}
    assert [finding.check for finding in result.unfixed] == ["imbalance"]
    assert result.steps == {"left out: blurred": 1}


@pytest.mark.parametrize("settings, part", [
    ({"drop": ["exact-duplicate"]}, "Did you mean 'exact-duplicates'"),
    ({"drop": ["shortcuts"]}, "drop.0: should be"),
    ({"equalize": True}, "Did you mean 'equalise'"),
    ({"size": 64}, "size belongs to equalise=true"),
    ({"crop_rows": "finding"}, "set crop too"),
    ({"crop": {"bottom": 0}}, "crop cuts nothing"),
    ({"crop": {"bottom": 2.5}}, "whole number of pixels"),
    ({"crop": {"top": 0.5, "bottom": 0.5}}, "leave nothing"),
    ({"crop": {"below": 3}}, "unknown key 'crop.below'"),
    ({"grid": "2by2"}, "'2x2', not '2by2'"),
    ({"grid": "1x1", "grid_rows": "*"}, "'2x2', not '1x1'"),
    ({"grid": "2x2"}, "belong together"),
    ({"equalise": True}, "give a folder"),
])
def test_a_bad_setting_says_what_is_wrong(settings, part):
    table = rows_of(("a wren real -", {}))
    with pytest.raises(gilt.ConfigError, match=part):
        clean(table, audit_of(table), **settings)


@pytest.mark.parametrize("settings, part", [
    ({}, "nothing to clean"), ({"drop": "leaks"}, "there is no audit"), ({"grid": "finding"}, "grid acts on findings"),
    ({"crop": {"top": 1}, "crop_rows": "finding"}, "crop_rows acts on findings")])
def test_what_needs_an_audit_says_so(tmp_path, settings, part):
    with pytest.raises(gilt.ConfigError, match=part):
        clean(rows_of(("a wren real -", {})), to=tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_an_audit_must_be_of_this_table_and_have_looked_for_what_is_asked(tmp_path):
    table = rows_of(("a wren real -", {}), ("b wren real -", {}))
    audit = audit_of(table, found("exact-duplicates", "ab"))
    with pytest.raises(gilt.TableError, match="is of another table"):
        clean(table.take([0]), audit)
    with pytest.raises(gilt.TableError, match="is of another table"):
        clean(table.take([0]), audit_of(table))
    with pytest.raises(gilt.TableError, match="did not look for too-dark"):
        clean(table, audit, drop="too-dark")
    with pytest.raises(gilt.TableError, match=r"names c, which is not in the table"):
        clean(table, audit_of(table, found("leaks", "ac")))
    with pytest.raises(gilt.TableError, match="did not look for grid"):
        clean(table, audit_of(table, checks=("leaks",)), grid="finding", to=tmp_path / "out")
    with pytest.raises(gilt.TableError, match="repeat a path, such as a"):
        clean(table.take([0, 0]), audit_of(table.take([0, 0])))


def test_a_config_and_settings_are_joined():
    table = rows_of(("a wren real -", {}), ("b robin real -", {}))
    audit = audit_of(table, found("class-conflicts", "ab"))
    config = gilt.config.CleanConfig(conflicts="keep_first")
    assert len(clean(table, audit, config).usable) == 1
    assert len(clean(table, audit, config, drop=[]).usable) == 2


def test_with_a_folder_marks_are_logged_and_no_image_is_written(tmp_path):
    make_birds(tmp_path / "birds", real=2, generated=1)
    table = gilt.scan(tmp_path / "birds")
    audit = audit_of(table, found("exact-duplicates", ["real/wren/000.png", "real/wren/001.png"]))
    result = clean(table, audit, to=tmp_path / "out")
    assert result.root == table.root
    assert ImageTable.load(tmp_path / "out" / "table.parquet") == result
    assert not (tmp_path / "out" / "images").exists()
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    gone = result.frame[result.frame["excluded"].notna()].iloc[0]
    assert lines == [{"path": gone["path"], "new_path": None, "done": ["left out"], "why": [gone["excluded"]]}]


def run(*arguments, cwd, code=0):
    result = subprocess.run([sys.executable, "-m", "gilt", *map(str, arguments)], cwd=cwd, capture_output=True, text=True)
    assert result.returncode == code, result.stderr
    return result


@pytest.fixture
def world(tmp_path):
    make_birds(tmp_path / "birds", real=3, generated=2)
    draw(tmp_path / "birds" / "real" / "wren" / "copy.png", (200, 120, 60), seed=0)  # as 000.png
    table = gilt.scan(tmp_path / "birds")
    table.save(tmp_path / "birds.parquet")
    copies = found("exact-duplicates", ["real/wren/000.png", "real/wren/copy.png"])
    audit_of(table, copies, found("imbalance", severity="low")).save(tmp_path / "audit.json")
    return tmp_path


def test_the_command_says_what_it_did_where_it_wrote_and_what_is_left(world):
    result = run("clean", "birds.parquet", "--audit", "audit.json", "-o", "clean", cwd=world)
    assert "left out: exact-duplicates     1" in result.stdout
    assert "not fixed: imbalance (low): do something about imbalance" in result.stderr
    assert "wrote clean/table.parquet: 11 rows, 10 of them usable" in result.stderr
    again = run("clean", "birds.parquet", "--no-audit", "--set", "crop.bottom=0.25", "-o", "cut", cwd=world)
    assert "cropped" in again.stdout
    assert "wrote cut/images: 11 images" in again.stderr
    assert set(ImageTable.load(world / "cut" / "table.parquet").frame["height"]) == {18}


@pytest.mark.parametrize("arguments, part", [
    (("--no-audit", "-o", "birds/out", "--set", "equalise=true"), "never changed"),
    (("--no-audit", "-o", "birds", "--set", "equalise=true"), "never changed"),
    (("--no-audit", "-o", ".", "--set", "equalise=true"), "name another folder"),
    (("--no-audit", "-o", "full", "--set", "equalise=true"), "what no clean wrote, such as notes.txt"),
    (("--no-audit", "-o", "full/notes.txt", "--set", "equalise=true"), "is a file"),
    (("--no-audit", "-o", "new"), "nothing to clean"),
    (("--no-audit", "--audit", "audit.json", "-o", "new"), "keep one"),
    (("--audit", "nothing.json", "-o", "new"), "no file nothing.json"),
    (("--audit", "birds.parquet", "-o", "new"), "is no audit"),
    (("--no-audit", "-o", "new", "--set", "crop.bottom=3", "--set", "crop_origins=paint"), "Did you mean 'painter'"),
    (("--no-audit", "-o", "new", "--set", "grid=2x2", "--set", "grid_rows=paint/*"), "no usable row's path fits 'paint/*'"),
    (("--no-audit", "-o", "new", "--set", "drop=leak"), "Did you mean 'leaks'"),
])
def test_bad_input_is_one_line_and_code_2(world, arguments, part):
    (world / "full").mkdir()
    (world / "full" / "notes.txt").write_text("mine")
    result = run("clean", "birds.parquet", *arguments, cwd=world, code=2)
    assert part in result.stderr
    assert result.stderr.count("\n") == 1
    assert (world / "full" / "notes.txt").read_text() == "mine"
    assert len(list((world / "birds").rglob("*"))) == 17
    assert not (world / "new").exists()
