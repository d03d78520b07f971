"""A split is a file: saved, put back where files moved, and held against the images."""
import json
import shutil
import subprocess
import sys

import pandas as pd
import pytest

import gilt
from conftest import COLOURS, draw
from gilt.data.splitfile import apply_split, load_split, save_split
from gilt.data.verify import verify_split


def run(*arguments, cwd, code=0):
    result = subprocess.run([sys.executable, "-m", "gilt", *map(str, arguments)], cwd=cwd, capture_output=True, text=True)
    assert result.returncode == code, f"exit code {result.returncode}\n{result.stdout}\n{result.stderr}"
    return result


def failed(check) -> list[str]:
    return [one.name for one in check if one.holds is False]


@pytest.fixture
def home(tmp_path, bird_folder):
    """The birds in a folder of the test's own, dealt into dealt.parquet with the split file split.csv."""
    shutil.copytree(bird_folder, tmp_path / "birds")
    table = gilt.split(gilt.scan(tmp_path / "birds"), seed=1)
    table.save(tmp_path / "dealt.parquet")
    save_split(table, tmp_path / "split.csv", settings={"seed": 1, "groups": []})
    return tmp_path


def table_of(home) -> gilt.ImageTable:
    return gilt.ImageTable.load(home / "dealt.parquet")


def edit(path, old, new, *, honest=True):
    """Change a split file's text; `honest` drops the line that would give the change away."""
    text = path.read_text()
    assert old in text
    lines = text.replace(old, new).splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not (honest and line.startswith("# split:"))))


def test_a_split_file_is_text_with_a_header_and_a_line_an_image_by_its_hash(home):
    lines = (home / "split.csv").read_text().splitlines()
    assert lines[0] == "# gilt split 1"
    assert lines[1] == f"# gilt: {gilt.__version__}"
    assert lines[2] == f"# table: {table_of(home).fingerprint}"
    assert json.loads(lines[5].removeprefix("# counts: ")) == table_of(home).counts("split")
    rows = pd.read_csv(home / "split.csv", comment="#", keep_default_na=False)
    assert list(rows.columns) == ["sha256", "split", "path", "class", "origin", "excluded"]
    assert len(rows) == 100
    assert list(rows["sha256"]) == sorted(rows["sha256"])
    assert load_split(home / "split.csv").settings == {"seed": 1, "groups": []}


def test_saving_twice_gives_the_same_bytes(home):
    save_split(table_of(home).take(slice(None, None, -1)), home / "again.csv", settings={"seed": 1, "groups": []})
    assert (home / "again.csv").read_bytes() == (home / "split.csv").read_bytes()


def test_a_split_is_put_back_where_files_moved_and_were_renamed(home):
    dealt = table_of(home)
    for i, path in enumerate(sorted((home / "birds").rglob("*.png"))):
        new = home / "moved" / path.relative_to(home / "birds").parent / f"{i * 7919 % 101}.png"
        new.parent.mkdir(parents=True, exist_ok=True)
        path.rename(new)
    back = apply_split(gilt.scan(home / "moved"), home / "split.csv")
    assert dict(zip(back.frame["sha256"], back.frame["split"], strict=True)) == \
        dict(zip(dealt.frame["sha256"], dealt.frame["split"], strict=True))
    assert back.frame["excluded"].isna().all()
    assert verify_split(back, home / "split.csv").holds


def test_new_and_missing_images_are_counted_and_new_ones_left_out_or_free(home, caplog):
    (home / "birds/real/wren/003.png").unlink()
    draw(home / "birds/real/wren/new.png", COLOURS["wren"], seed=77)
    table = gilt.scan(home / "birds")
    back = apply_split(table, home / "split.csv")
    assert "split.csv: 1, such as real/wren/new.png (left out)" in caplog.text
    assert "split.csv, but not here: 1, such as real/wren/003.png" in caplog.text
    assert list(back.frame["path"][back.frame["excluded"].notna()]) == ["real/wren/new.png"]
    free = apply_split(table, home / "split.csv", new="free")
    assert free.frame["excluded"].isna().all()
    assert list(free.frame["path"][free.frame["split"].isna()]) == ["real/wren/new.png"]


def test_what_the_split_left_out_stays_left_out_and_a_further_copy_shares_its_split(home):
    train = table_of(home).where(split="train", origin="real").frame["path"].iloc[0]
    test = table_of(home).where(split="test").frame["path"].iloc[0]
    shutil.copy(home / "birds" / test, home / "birds" / "real/wren/copy.png")
    frame = gilt.scan(home / "birds").frame
    frame["split"] = frame["path"].map(dict(zip(table_of(home).frame["path"], table_of(home).frame["split"], strict=True)))
    frame["split"] = frame["split"].fillna("train")
    leaky = gilt.ImageTable(frame, home / "birds")
    with pytest.raises(gilt.TableError, match=r"the content [0-9a-f]{64} lies in t\w+ .* and t\w+ .*gilt split"):
        save_split(leaky, home / "leaky.csv")
    save_split(gilt.split(leaky), home / "apart.csv")
    shutil.copy(home / "birds" / train, home / "birds" / "real/wren/another.png")
    (home / "birds/real/wren/copy.png").rename(home / "birds/real/wren/renamed.png")
    back = apply_split(gilt.scan(home / "birds"), home / "apart.csv").frame.set_index("path")
    assert back.loc["real/wren/renamed.png", "excluded"] == "same content as a test image"
    assert back.loc[test, "excluded"] is None
    assert back.loc["real/wren/another.png", "split"] == "train"


def test_content_in_two_splits_of_a_file_is_refused_with_its_name(home):
    line = next(line for line in (home / "split.csv").read_text().splitlines() if ",train," in line and line[0] != "#")
    edit(home / "split.csv", line, f"{line}\n{line.replace(',train,', ',test,')}")
    with pytest.raises(gilt.TableError, match=rf"split.csv: the content {line[:64]} lies in train \(.*\) and test"):
        apply_split(table_of(home), home / "split.csv")


def test_a_file_that_was_cut_off_or_edited_is_refused(home):
    text = (home / "split.csv").read_text()
    (home / "split.csv").write_text(text[:len(text) // 2].rpartition("\n")[0] + "\n")
    with pytest.raises(gilt.TableError, match=r"split.csv was cut off or changed since it was written"):
        apply_split(table_of(home), home / "split.csv")


@pytest.mark.parametrize("content, said", [
    (b"hello\n", "no column 'sha256'"), (b"", "is no split file"), (b"\x50\x41\0\0", "it is not text"),
    (b"sha256,splitt\n", r"no column 'split' .*Did you mean 'splitt'\?"), (b'sha256,split\n"a,b\n', "is no split file"),
    (b"sha256,split\nabc,test\n", r"'abc' is no SHA-256"),
    (b"sha256,split\n" + b"a" * 64 + b",trian\n", r"split 'trian' of a+ is unknown .*Did you mean 'train'\?"),
    (b"sha256,split\n" + b"a" * 64 + b",test\n", r"no image of the table of .* is in .*other.csv")])
def test_a_file_that_is_no_split_is_refused_with_the_reason(home, content, said):
    (home / "other.csv").write_bytes(content)
    with pytest.raises(gilt.TableError, match=said):
        apply_split(table_of(home), home / "other.csv")


def test_a_table_of_two_columns_from_elsewhere_is_a_split_too(home):
    frame = table_of(home).frame
    frame[["sha256", "split"]].to_csv(home / "plain.csv", index=False)
    assert list(apply_split(gilt.scan(home / "birds"), home / "plain.csv").frame["split"]) == list(frame["split"])
    assert verify_split(table_of(home), home / "plain.csv").holds


def test_names_with_commas_quotes_and_hashes_come_back(home):
    (home / "birds/real/wren/000.png").rename(home / 'birds/real/wren/# a, "b".png')
    table = gilt.split(gilt.scan(home / "birds"))
    save_split(table, home / "odd.csv")
    assert verify_split(table, home / "odd.csv").holds
    assert '# a, "b".png' in "".join(load_split(home / "odd.csv").frame["path"])


def test_unreadable_images_are_no_line_but_counted_and_a_table_without_splits_is_refused(home, caplog):
    table = table_of(home)
    frame = table.frame.copy()
    frame.loc[0, ["sha256", "split", "excluded"]] = [None, None, "unreadable: truncated"]
    save_split(gilt.ImageTable(frame, table.root), home / "less.csv")
    assert "1 unreadable images without a content hash are not in" in caplog.text
    assert len(load_split(home / "less.csv").frame) == 99
    with pytest.raises(gilt.TableError, match=r"no row .* has a split"):
        save_split(table.with_column("split", None), home / "none.csv")
    with pytest.raises(gilt.TableError, match=r"100 images have no sha256, such as .*gilt scan"):
        save_split(table.with_column("sha256", None), home / "none.csv")


def test_a_split_that_holds_is_said_to_hold(home):
    check = verify_split(table_of(home), home / "split.csv")
    assert check.holds
    assert {one.name: one.holds for one in check} == {
        "files": True, "rows": True, "new": True, "missing": True, "labels": True, "content": True, "sources": None}
    assert [one.n for one in check if one.name == "files"] == [100]


def test_changed_and_missing_files_are_found_only_by_reading_them(home):
    (home / "birds/real/wren/005.png").write_bytes(b"other")
    (home / "birds/real/wren/006.png").unlink()
    check = verify_split(table_of(home), home / "split.csv")
    assert failed(check) == ["files"]
    assert set(check.checks[0].wrong) == {"real/wren/005.png", "real/wren/006.png"}
    assert "2 of 100 files are not what they were (1 changed, 1 missing or unreadable)" in check.checks[0].text
    assert verify_split(table_of(home), home / "split.csv", quick=True).holds


def test_rows_in_other_splits_new_rows_and_missing_ones_are_found(home):
    table = table_of(home)
    frame = table.frame.copy()
    test = frame["path"][frame["split"] == "test"].iloc[0]
    frame.loc[frame["path"] == test, "split"] = "train"
    moved = verify_split(gilt.ImageTable(frame, table.root), home / "split.csv", quick=True)
    assert failed(moved) == ["rows"]
    assert moved.checks[0].wrong == (test,)
    less = verify_split(table.take(slice(1, None)), home / "split.csv", quick=True)
    assert failed(less) == ["missing"]
    first = table.frame.iloc[0]
    line = next(line for line in (home / "split.csv").read_text().splitlines() if line.startswith(first["sha256"]))
    edit(home / "split.csv", line + "\n", "")
    more = verify_split(table, home / "split.csv", quick=True)
    assert failed(more) == ["new"]
    edit(home / "split.csv", ",wren,", ",merle,", honest=False)
    assert failed(verify_split(table, home / "split.csv", quick=True)) == ["new", "labels"]


@pytest.mark.parametrize("column, values, name", [
    ("sha256", ["x", "x"], "content"), ("patient", ["x", "x"], "patient"), ("group", ["x", "x"], "near-duplicates")])
def test_content_and_groups_in_two_splits_are_found(home, column, values, name):
    table = table_of(home)
    frame = table.frame.copy()
    pair = [frame.index[frame["split"] == "test"][0], frame.index[frame["split"] == "train"][0]]
    if column not in frame:
        frame[column] = None
    frame.loc[pair, column] = values
    broken = gilt.ImageTable(frame, table.root)
    assert failed(verify_split(broken, quick=True, groups=["patient"] if column == "patient" else [])) == [name]


def test_an_image_in_another_split_than_its_source_is_found(home):
    frame = table_of(home).frame.copy()
    made = frame.index[frame["origin"] == "painter"]
    frame.loc[made[0], "source"] = frame["path"][frame["split"] == "test"].iloc[0]
    frame.loc[made[0], "split"] = "train"
    check = verify_split(gilt.ImageTable(frame, home / "birds"), quick=True)
    assert failed(check) == ["sources"]
    assert check.checks[-1].wrong == (frame["path"][made[0]],)


def test_the_groups_that_a_file_was_made_with_are_looked_at_or_said_not_to_be(home):
    table = table_of(home).with_column("camera", [f"c{i // 10}" for i in range(100)]).with_column("split", None)
    dealt = gilt.split(table, groups="camera")
    save_split(dealt, home / "camera.csv", settings={"groups": ["camera"]})
    assert {one.name: one.holds for one in verify_split(dealt, home / "camera.csv", quick=True)}["camera"] is True
    without = apply_split(gilt.scan(home / "birds"), home / "camera.csv")
    check = verify_split(without, home / "camera.csv")
    assert check.holds
    assert [one.text for one in check if one.name == "camera"] == ["not looked at: the table has no column 'camera'"]
    with pytest.raises(gilt.TableError, match="no column 'camra'"):
        verify_split(dealt, groups=["camra"])


def test_a_held_out_generator_in_training_is_found(home):
    dealt = gilt.split(table_of(home).with_column("split", None), target="origin")
    save_split(dealt, home / "held.csv", settings={"hold_out": ["painter"]})
    assert failed(verify_split(dealt, home / "held.csv", quick=True)) == ["hold_out"]


def test_near_duplicates_are_found_dealt_together_and_verified(tmp_path):
    for i in range(24):
        path = draw(tmp_path / "birds/real/wren" / f"{i}.png", (200 - 5 * i, 8 * i, 60), seed=i, size=64)
        shutil.copy(path, path.with_name(f"{i}b.png"))
        with path.with_name(f"{i}b.png").open("ab") as file:
            file.write(b"a tail that changes the hash, not the picture")
    dealt = gilt.split(gilt.scan(tmp_path / "birds"), groups="near")
    pairs = dealt.frame.groupby(dealt.frame["path"].str.replace("b.png", ".png"))["split"].nunique()
    assert len(pairs) == 24
    assert (pairs == 1).all()
    assert dealt.frame["group"].notna().all()
    assert "near-duplicates" in [one.name for one in verify_split(dealt) if one.holds]


def test_the_command_line_saves_puts_back_and_verifies(home):
    result = run("split", "dealt.parquet", "--set", "keep=false", "-o", "new.parquet", "--save-split", "new.csv", cwd=home)
    assert "wrote new.csv: split " in result.stderr
    assert load_split(home / "new.csv").settings["target"] == "class"
    run("split", "dealt.parquet", "--from", "new.csv", "-o", "back.parquet", cwd=home)
    assert gilt.ImageTable.load(home / "back.parquet") == gilt.ImageTable.load(home / "new.parquet")
    good = run("split", "verify", "back.parquet", "new.csv", cwd=home)
    assert "the split holds" in good.stderr
    assert "100 files hold what the table says" in good.stdout
    bad = run("split", "verify", "dealt.parquet", "new.csv", "--quick", "--json", cwd=home, code=1)
    assert json.loads(bad.stdout)["holds"] is False
    assert "the split does not hold: rows" in bad.stderr
    assert "no split file nothing.csv" in run("split", "verify", "dealt.parquet", "nothing.csv", cwd=home, code=2).stderr


def test_the_command_line_writes_a_table_a_fold_and_a_table_a_generator(home):
    run("split", "dealt.parquet", "--set", "keep=false", "--folds", "3", "-o", "folds", "--save-split", "folds", cwd=home)
    tests = [set(gilt.ImageTable.load(home / f"folds/fold-{i}.parquet").where(split="test").frame["path"]) for i in range(3)]
    assert [len(test) for test in tests] == [20, 20, 20]
    assert len(set.union(*tests)) == 60
    assert load_split(home / "folds/fold-1.csv").settings["fold"] == 1
    for i in range(10):
        draw(home / "birds/dreamer/wren" / f"{i}.png", COLOURS["tit"], seed=i)
    gilt.scan(home / "birds").save(home / "all.parquet")
    run("split", "all.parquet", "--leave-one-generator-out", "-o", "out", cwd=home)
    table = gilt.ImageTable.load(home / "out/dreamer.parquet")
    assert table.where(origin="dreamer").counts("split") == {"test": 10}


@pytest.mark.parametrize("arguments, said", [
    (["dealt.parquet", "--from", "split.csv", "--folds", "3", "-o", "x.parquet"], "--from puts a split back as it is"),
    (["dealt.parquet", "--folds", "3", "-o", "dealt.parquet"], "dealt.parquet is a file: several tables are written"),
    (["dealt.parquet", "--folds", "3", "--leave-one-generator-out", "-o", "x"], "two ways to choose the test rows"),
    (["dealt.parquet", "--folds", "3", "-o", "x"], "has splits already"),
    (["dealt.parquet", "--leave-one-generator-out", "--target", "class", "-o", "x"], "is for --target origin"),
    (["dealt.parquet", "--leave-one-generator-out", "-o", "x"], "leaves no generator to train on (has: painter)"),
    (["dealt.parquet", "--set", "folds=3", "--leave-one-generator-out", "-o", "x"], "folds and hold_out are two ways"),
    (["dealt.parquet", "--set", "grups=near", "-o", "x.parquet"], "Did you mean 'groups'?"), ([], "Missing argument 'TABLE'"),
    (["verify"], "Missing argument 'TABLE'"), (["verify", "birds"], "is a folder: scan it first")])
def test_bad_input_is_one_line_and_exit_code_2(home, arguments, said):
    result = run("split", *arguments, cwd=home, code=2)
    assert result.stderr.count("error: ") == 1
    assert said in result.stderr.splitlines()[-1]


def test_the_help_of_split_is_that_of_a_command(home):
    text = run("split", "--help", cwd=home).stdout
    assert text.startswith("Usage: gilt split [OPTIONS] TABLE\n")
    assert "gilt split verify birds-split.parquet birds.csv" in text
    assert "[OPTIONS] TABLE [SPLIT_FILE]" in run("split", "verify", "--help", cwd=home).stdout
