"""Splits: ratios, what is kept, and that nothing leaks."""
import pandas as pd
import pytest

import gilt
from gilt.data.split import deal_out, keep_apart


def fake(real: dict[str, int], generated: dict[str, int] | None = None, **columns) -> gilt.ImageTable:
    """Return a table of rows without files: class -> number."""
    rows = [{"path": f"{origin}/{name}/{i}.png", "class": name, "origin": origin, "sha256": f"{origin}{name}{i}"}
            for origin, counts in (("real", real), ("sd", generated or {})) for name, n in counts.items() for i in range(n)]
    return gilt.ImageTable(pd.DataFrame(rows).assign(**columns), "/nowhere")


@pytest.mark.parametrize("train, val, test", [(0.7, 0.2, 0.1), (0.7, 0.15, 0.15), (0.8, 0.0, 0.2), (0.8, 0.1, 0.1)])
def test_rows_are_dealt_in_the_asked_ratios_in_every_class(train, val, test):
    table = gilt.split(fake({"a": 100, "b": 200, "c": 60}), train=train, val=val, test=test, seed=3)
    for name, n in (("a", 100), ("b", 200), ("c", 60)):
        counts = table.where(class_=name).counts("split")
        for part, ratio in (("train", train), ("val", val), ("test", test)):
            assert abs(counts.get(part, 0) - ratio * n) <= 1


def test_the_photographs_are_dealt_alike_whatever_generators_are_there(bird_table):
    whole = gilt.split(bird_table, target="origin", seed=4)
    alone = gilt.split(bird_table.real, target="origin", seed=4)
    assert whole.real == alone


def test_many_small_classes_still_fill_every_split():
    counts = gilt.split(fake({f"c{i}": 3 for i in range(40)}), seed=0).counts("split")
    assert counts == {"train": 84, "val": 18, "test": 18}


def test_the_same_seed_deals_the_same_and_another_does_not(bird_table):
    assert gilt.split(bird_table, seed=1) == gilt.split(bird_table, seed=1)
    assert gilt.split(bird_table, seed=1) != gilt.split(bird_table, seed=2)


def test_for_target_class_generated_rows_are_never_test_rows(birds):
    assert birds.generated.counts("split") == {"train": 33, "val": 7}
    assert gilt.split(birds.with_column("split", None), target="origin").generated.counts("split")["test"] == 6


def test_existing_splits_are_kept_and_missing_val_comes_from_train():
    table = fake({"a": 100}, split=["train"] * 80 + ["test"] * 20)
    result = gilt.split(table, train=0.8, val=0.2, test=0.0)
    assert result.counts("split") == {"train": 64, "val": 16, "test": 20}
    assert set(result.where(split="test").frame["path"]) == set(table.where(split="test").frame["path"])


def test_val_may_come_half_from_the_test_rows_as_in_the_thesis():
    table = fake({"a": 100}, split=["train"] * 60 + ["test"] * 40)
    assert gilt.split(table, gilt.SplitConfig(val_from_test=0.5)).counts("split") == {"train": 60, "val": 20, "test": 20}
    fresh = gilt.split(fake({"a": 100}), gilt.SplitConfig(train=0.6, val=0.2, test=0.2, val_from_test=0.5))
    assert fresh.counts("split") == {"train": 60, "val": 20, "test": 20}


def test_keep_false_deals_everything_anew():
    table = gilt.split(fake({"a": 100}, split="train"), gilt.SplitConfig(keep=False))
    assert table.counts("split") == {"train": 70, "val": 15, "test": 15}


def test_equal_content_never_straddles_splits():
    table = fake({"a": 60})
    table = table.with_column("sha256", [f"h{i // 3}" for i in range(60)])
    splits = gilt.split(table, seed=0).frame.groupby("sha256")["split"].nunique()
    assert (splits == 1).all()


def test_content_that_existing_splits_share_is_left_out_of_the_laxer_one():
    table = fake({"a": 6}, split=["train", "val", "test", "train", "train", "test"])
    table = table.with_column("sha256", ["x", "x", "x", "y", "z", "w"])
    result = keep_apart(table)
    assert list(result.frame["excluded"]) == ["same content as a test image", "same content as a test image",
                                              None, None, None, None]


@pytest.mark.parametrize("target", ["class", "origin"])
def test_a_generated_image_follows_its_source(target):
    table = fake({"a": 40}, {"a": 40})
    table = table.with_column("source", [None] * 40 + [f"real/a/{i}.png" for i in range(40)])
    result = gilt.split(table, target=target, seed=0)
    assert result.frame["split"].notna().all()
    splits = dict(zip(result.frame["path"], result.frame["split"], strict=True))
    for path, source in zip(result.frame["path"], result.frame["source"], strict=True):
        assert source is None or splits[path] == splits[source]


def test_a_generated_training_row_made_from_a_test_photograph_never_enters_training():
    table = fake({"a": 4}, {"a": 3}, split=["train", "train", "val", "test", "train", "train", "train"])
    table = table.with_column("source", [None] * 4 + ["real/a/0.png", "real/a/2.png", "real/a/3.png"])
    result = gilt.split(table)
    assert list(result.generated.frame["excluded"]) == [None, "made from a val image", "made from a test image"]
    assert len(gilt.mix(result, mode="add").where(split="train").generated) == 1


def test_a_generated_image_follows_the_strictest_copy_of_its_source():
    table = fake({"a": 4}, {"a": 2}, split=["train", "train", "val", "test", "train", "test"])
    table = table.with_column("sha256", ["x", "y", "z", "x", "g0", "g1"])
    table = table.with_column("source", [None] * 4 + ["real/a/0.png", "real/a/1.png"])
    result = gilt.split(table, target="origin")
    assert list(result.frame["excluded"]) == ["same content as a test image", None, None, None, "made from a test image",
                                              "made from a train image"]


def test_no_train_row_is_an_error_and_no_test_row_a_warning(caplog):
    with pytest.raises(gilt.TableError, match=r"no train rows \(splits: test 10\).*split.keep=false"):
        gilt.split(fake({"a": 10}, split="test"))
    assert gilt.split(fake({"a": 10}, split="train")).counts("split") == {"train": 8, "val": 2}
    assert "no real test rows (splits: train 8, val 2)" in caplog.text


def test_ratios_that_do_not_add_up_are_refused():
    with pytest.raises(ValueError, match=r"must be 1, not 1\.2"):
        gilt.SplitConfig(train=0.9, val=0.2, test=0.1)


def test_every_stretch_of_a_deal_is_in_ratio():
    dealt = deal_out(1000, {"train": 0.7, "val": 0.2, "test": 0.1})
    for start in range(0, 1000, 10):
        assert sorted(dealt[start:start + 10]) == ["test"] + ["train"] * 7 + ["val"] * 2
