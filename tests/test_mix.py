"""Mixes: three modes, limits, validation types, pairing."""
from itertools import pairwise

import pytest

import gilt
from gilt.data.mix import ordered, share_name
from test_split import fake


def counts(table, split="train"):
    rows = table.where(split=split)
    return len(rows.real), len(rows.generated)


@pytest.fixture(scope="module")
def rows():
    """100 real and 60 generated training rows, 20 + 20 val rows, 30 test rows; two classes."""
    real = ["train"] * 50 + ["val"] * 10 + ["test"] * 15
    generated = ["train"] * 30 + ["val"] * 10
    return fake({"a": 75, "b": 75}, {"a": 40, "b": 40}, split=[*real, *real, *generated, *generated])


@pytest.mark.parametrize("settings, expected", [
    ({}, (100, 0)), ({"share": 0.0}, (100, 0)), ({"share": 1.0}, (0, 60)),
    ({"share": 0.2}, (100, 25)), ({"share": 0.5}, (60, 60)), ({"share": 0.8}, (15, 60)),
    ({"share": 0.5, "total": 40}, (20, 20)), ({"total": 50}, (50, 0)), ({"share": 1.0, "total": 10}, (0, 10)),
    ({"mode": "add"}, (100, 60)), ({"mode": "add", "generated": 40}, (100, 40)), ({"mode": "add", "share": 0.2}, (100, 25)),
    ({"mode": "add", "max_real": 20, "max_generated": 30}, (20, 30)),
    ({"mode": "replace", "generated": 40}, (60, 40)), ({"mode": "replace", "share": 0.2}, (80, 20)),
    ({"mode": "replace", "share": 0.5, "max_real": 60}, (30, 30)),
    ({"share": 0.5, "max_real": 10}, (10, 10)), ({"mode": "add", "generated": 0}, (100, 0))])
def test_each_mode_takes_the_rows_it_says(rows, settings, expected):
    mixed = gilt.mix(rows, **settings)
    assert counts(mixed) == expected
    assert mixed.where(split="test") == rows.where(split="test")


@pytest.mark.parametrize("kind, expected", [("real", (20, 0)), ("generated", (0, 20)), ("mix", (20, 20))])
def test_the_validation_type_is_a_setting_of_its_own(rows, kind, expected):
    assert counts(gilt.mix(rows, share=0.5, total=40, val=kind), "val") == expected


def test_arms_are_paired_under_one_seed(rows):
    """Every arm starts from the same photographs: a smaller set lies inside a larger one."""
    paths = [set(gilt.mix(rows, seed=4, **settings).where(split="train").real.frame["path"])
             for settings in ({}, {"max_real": 60}, {"share": 0.5, "total": 80}, {"mode": "replace", "generated": 60})]
    small = sorted(paths, key=len)
    assert all(a <= b for a, b in pairwise(small))
    other = set(gilt.mix(rows, seed=5, max_real=60).where(split="train").real.frame["path"])
    assert other != paths[1]


def test_the_order_does_not_depend_on_what_else_is_in_the_table(rows):
    some = rows.where(class_="a")
    whole_order = [p for p in ordered(rows.real, 3).frame["path"] if "/a/" in p]
    assert whole_order == list(ordered(some.real, 3).frame["path"])


def test_every_beginning_of_the_order_is_balanced_by_class():
    table = ordered(fake({"a": 90, "b": 30}).real, 0)
    for n in (4, 20, 60):
        share = (table.frame["class"][:n] == "a").mean()
        assert abs(share - 0.75) <= 1 / n + 1e-9


def test_for_target_class_generated_test_rows_are_left_out():
    table = fake({"a": 4}, {"a": 4}, split=["train", "train", "test", "test"] * 2)
    assert counts(gilt.mix(table), "test") == (2, 0)
    assert counts(gilt.mix(table, target="origin"), "test") == (2, 2)


def test_for_target_origin_all_rows_train_unless_told_otherwise(rows):
    assert counts(gilt.mix(rows, target="origin")) == (100, 60)
    assert counts(gilt.mix(rows, target="origin", share=0.5)) == (60, 60)


@pytest.mark.parametrize("settings, part", [
    ({"mode": "add", "generated": 61}, "generated=61 asks for 61 generated training rows; there are 60"),
    ({"share": 0.5, "total": 200}, "asks for 100 generated training rows; there are 60"),
    ({"mode": "replace", "share": 0.7}, "asks for 70 generated training rows; there are 60"),
    ({"share": 1.0, "max_generated": 0}, "leaves no training row"),
    ({"max_real": 0}, "leaves no training row")])
def test_a_mix_that_cannot_be_made_says_how_many_rows_there_are(rows, settings, part):
    with pytest.raises(gilt.TableError, match=part):
        gilt.mix(rows, **settings)


@pytest.mark.parametrize("settings", [
    {"generated": 3}, {"mode": "add", "total": 5}, {"mode": "replace"}, {"mode": "add", "share": 0.2, "generated": 3}])
def test_settings_that_contradict_each_other_are_refused(settings):
    with pytest.raises(ValueError):
        gilt.MixConfig(**settings)


def test_no_validation_row_of_the_asked_kind_is_an_error():
    table = fake({"a": 4}, {"a": 2}, split=["train", "train", "val", "test", "train", "train"])
    with pytest.raises(gilt.TableError, match="1 real and 0 generated"):
        gilt.mix(table, val="generated")


@pytest.mark.parametrize("sizes, name", [((5, 0), "Real"), ((0, 5), "AI"), ((20, 80), "Aug(80-20)"), ((2, 1), "Aug(33-67)")])
def test_training_sets_are_named_as_in_the_thesis(sizes, name):
    assert share_name(*sizes) == name
