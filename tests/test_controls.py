"""Controls: rows of known worth that pose as generated, and nested subsets of photographs."""
from itertools import pairwise

import pytest

import gilt
from gilt.config import TrialConfig
from gilt.data.controls import control_of
from gilt.settings import parse
from test_split import fake

ADD = {"mode": "add", "max_real": 40, "generated": 20}


def train_paths(table, **settings):
    """Return the paths of a mix's training rows as (photographs, rows that count as generated)."""
    rows = gilt.mix(table, **settings).where(split="train")
    return list(rows.real.frame["path"]), list(rows.generated.frame["path"])


@pytest.fixture(scope="module")
def rows():
    """200 real training rows of two classes, 20 val and 30 test rows, and 60 generated training rows."""
    real = ["train"] * 100 + ["val"] * 10 + ["test"] * 15
    return fake({"a": 125, "b": 125}, {"a": 30, "b": 30}, split=[*real, *real, *["train"] * 60])


@pytest.fixture(scope="module")
def photographs(rows):
    return rows.real


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("table", [0, 1], ids=["equal classes", "uneven classes"])
def test_a_smaller_set_of_photographs_lies_inside_a_larger_one_class_by_class(rows, seed, table):
    chosen = [rows, fake({"a": 90, "b": 30, "c": 7}, {}, split=["train"] * 127)][table]
    sizes = (5, 17, 40, 90)
    for name in chosen.real.classes:
        sets = []
        for size in sizes:
            mixed = gilt.mix(chosen, max_real=size, seed=seed).where(split="train")
            sets.append(set(mixed.where(class_=name).frame["path"]))
            assert len(mixed) == size
        assert all(small <= large for small, large in pairwise(sets))
        assert sets[0] != sets[-1]


@pytest.mark.parametrize("control", ["held_back", "duplicates", "shuffled"])
def test_a_control_changes_neither_the_arms_photographs_nor_val_and_test(rows, control):
    plain = gilt.mix(rows, seed=3, max_real=40)
    posed = gilt.mix(rows, seed=3, control=control, **ADD)
    assert posed.where(split="train").real == plain.where(split="train")
    for part in ("val", "test"):
        assert posed.where(split=part) == plain.where(split=part)
    assert posed.where(split="train").counts("origin") == {"real": 40, f"control:{control}": 20}
    assert control_of(f"control:{control}") == control
    assert control_of("real") is None


def test_held_back_photographs_are_training_rows_that_the_arm_and_a_larger_one_leave(rows):
    train = set(rows.real.where(split="train").frame["path"])
    real, posing = train_paths(rows, control="held_back", seed=1, **ADD)
    larger, _ = train_paths(rows, max_real=60, seed=1)
    assert len(set(posing)) == 20
    assert set(posing) <= train - set(real) - set(larger)


def test_held_back_photographs_hold_the_classes_in_their_parts():
    table = fake({"a": 150, "b": 50}, {}, split=["train"] * 200)
    rows = gilt.mix(table, control="held_back", **ADD).where(split="train").generated
    assert rows.counts("class") == {"a": 15, "b": 5}


def test_more_held_back_photographs_hold_the_fewer(rows):
    few = train_paths(rows, control="held_back", mode="add", max_real=40, generated=20)[1]
    many = train_paths(rows, control="held_back", mode="add", max_real=40, generated=50)[1]
    assert set(few) < set(many)


def test_duplicates_are_the_arms_own_photographs_and_go_round_as_often_as_asked(rows):
    real, copies = train_paths(rows, control="duplicates", **ADD)
    assert len(set(copies)) == 20
    assert set(copies) < set(real)
    real, copies = train_paths(rows, control="duplicates", mode="add", max_real=10, generated=25)
    assert sorted(copies.count(path) for path in real) == [2] * 5 + [3] * 5
    real, copies = train_paths(rows, control="duplicates", mode="replace", max_real=40, generated=10)
    assert len(real) == 30
    assert set(copies) < set(real)


def test_shuffled_rows_are_the_generated_ones_under_permuted_classes(rows):
    plain = gilt.mix(rows, seed=2, **ADD).where(split="train").generated
    shuffled = gilt.mix(rows, seed=2, control="shuffled", **ADD).where(split="train").generated
    assert set(shuffled.frame["path"]) == set(plain.frame["path"])
    assert shuffled.counts("class") == plain.counts("class")
    before = plain.frame.set_index("path")["class"]
    wrong = (shuffled.frame["class"].to_numpy() != before[shuffled.frame["path"]].to_numpy()).sum()
    assert 0 < wrong < 20  # permuted by chance, neither left alone nor systematically false


def test_where_nothing_is_generated_held_back_photographs_are_shuffled(photographs):
    held = train_paths(photographs, control="held_back", **ADD)[1]
    assert set(train_paths(photographs, control="shuffled", **ADD)[1]) == set(held)


def test_held_back_photographs_alone_stand_for_generated_ones_alone(photographs):
    real, posing = train_paths(photographs, control="held_back", share=1.0, total=50, max_real=100)
    assert (len(real), len(set(posing))) == (0, 50)


@pytest.mark.parametrize("settings, part", [
    ({"control": "held_back", "mode": "add", "generated": 20}, "mix.max_real is not set"),
    ({"control": "held_back", "mode": "add", "generated": 20, "max_real": 200}, "max_real=200 takes all of the 200"),
    ({"control": "held_back", "mode": "add", "generated": 20, "max_real": 190}, "asks for 20 generated .*; there are 10")])
def test_a_control_without_enough_photographs_says_what_to_set(photographs, settings, part):
    with pytest.raises(gilt.TableError, match=part):
        gilt.mix(photographs, **settings)


@pytest.mark.parametrize("mix, part", [
    ({"control": "held_back"}, "this mix takes none: set mix.share, or mix.mode"),
    ({"control": "held_back", "share": 0.0}, "this mix takes none"),
    ({"control": "duplicates", "share": 1.0}, "a share of 1 leaves none"),
    ({"control": "held_back", "mode": "add", "balance": "over"}, "mix.control and mix.balance do not go together"),
    ({"control": "held_back", "mode": "add", "own_sources": True}, "mix.control and mix.own_sources do not go together"),
    ({"control": "heldback", "mode": "add"}, "mix.control: .*Did you mean 'held_back'")])
def test_controls_that_make_no_sense_are_refused(mix, part):
    with pytest.raises(gilt.ConfigError, match=part):
        parse(TrialConfig, {"mix": mix}, where="arm")


def test_controls_are_for_the_class_as_target():
    with pytest.raises(gilt.ConfigError, match="set target='class'"):
        parse(TrialConfig, {"target": "origin", "mix": {"control": "held_back", "mode": "add"}}, where="arm")


def test_own_sources_takes_generated_rows_of_photographs_at_hand_only(rows):
    photographs = list(rows.real.where(split="train").frame["path"])
    sources = [None] * 250 + photographs[:50] + [None] * 10
    table = rows.with_column("source", sources)
    real, made = train_paths(table, mode="add", max_real=40, own_sources=True)
    parents = table.frame.set_index("path")["source"]
    known = [path for path in made if parents[path] is not None]
    assert {parents[path] for path in known} == set(real) & set(photographs[:50])
    assert len(made) - len(known) == 10
    assert len(train_paths(table, mode="add", max_real=40)[1]) == 60
