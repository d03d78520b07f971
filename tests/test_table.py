"""The table: choosing rows, merging classes, the fingerprint."""
import pytest

import gilt


def test_where_takes_values_lists_and_conditions(birds):
    assert len(birds.where(origin="real")) == 60
    assert len(birds.where(class_="wren", origin=["real", "painter"])) == 50
    assert len(birds.where(lambda frame: frame["bytes"] > 0, origin="painter")) == 40


def test_an_unknown_column_names_the_near_one(birds):
    with pytest.raises(gilt.TableError, match=r"no column 'orgin' \(has: .*Did you mean 'origin'"):
        birds.where(orgin="real")


def test_the_repr_says_what_is_in_it(birds):
    text = repr(birds)
    for part in ("100 images", "2 classes", "real 60", "painter 40", "train", "test"):
        assert part in text


def test_the_fingerprint_follows_content_and_not_place(birds, tmp_path):
    assert gilt.ImageTable(birds.frame, tmp_path).fingerprint == birds.fingerprint
    shuffled = gilt.ImageTable(birds.frame.sample(frac=1, random_state=0), birds.root)
    assert shuffled.fingerprint == birds.fingerprint
    assert birds.with_column("split", "train").fingerprint != birds.fingerprint
    assert birds.where(origin="real").fingerprint != birds.fingerprint


def test_classes_can_be_merged_and_picked(birds):
    merged = birds.pick({"bird": ["wren", "robin"]}, None)
    assert merged.classes == ["bird"]
    assert len(merged) == 100
    assert birds.pick(["wren"], None).classes == ["wren"]
    assert birds.pick(None, []).origins == ["real"]


@pytest.mark.parametrize("classes, part", [
    (["wern"], "no class 'wern' .* Did you mean 'wren'"), ({"a": ["wren"], "b": ["wren"]}, "in two groups")])
def test_a_class_that_cannot_be_picked_is_an_error(birds, classes, part):
    with pytest.raises(gilt.TableError, match=part):
        birds.pick(classes, None)


def test_a_generator_that_is_not_there_is_an_error(birds):
    with pytest.raises(gilt.TableError, match=r"no generator 'paintr'.*Did you mean 'painter'"):
        birds.pick(None, ["paintr"])


def test_excluding_keeps_the_first_reason(birds):
    once = birds.exclude(birds.frame["origin"] == "painter", "first")
    twice = once.exclude(once.frame["class"] == "wren", "second")
    assert twice.counts("excluded") == {"first": 40, "second": 30}
    assert len(birds.usable) == 100


def test_other_files_are_no_tables(tmp_path, birds):
    with pytest.raises(gilt.TableError, match="does not exist"):
        gilt.ImageTable.load(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(gilt.TableError, match="is not a Parquet table"):
        gilt.ImageTable.load(tmp_path / "text.parquet")
    birds.frame.to_parquet(tmp_path / "plain.parquet")
    with pytest.raises(gilt.TableError, match="no table of gilt's"):
        gilt.ImageTable.load(tmp_path / "plain.parquet")
    with pytest.raises(gilt.TableError, match="is a folder: scan it first"):
        gilt.ImageTable.load(tmp_path)
