"""Splits: ratios, what is kept, and that nothing leaks."""
import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import StratifiedGroupKFold

import gilt
from gilt.data.split import deal_out, keep_apart, leave_one_generator_out
from gilt.data.split import folds as gilt_folds


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


def straddling(table: gilt.ImageTable, column: str) -> int:
    """Return how many values of a column lie in two splits, over the rows in use."""
    return int((table.usable.frame.groupby(column)["split"].nunique() > 1).sum())


@pytest.fixture(scope="module")
def patients() -> gilt.ImageTable:
    """600 photographs of 60 patients, 1 to 20 each, and 300 generated ones of two generators in groups of 3."""
    rng = np.random.default_rng(0)
    sizes = np.array([20, 16, 12] + [9] * 57)[:60]
    of = np.repeat(np.arange(60), sizes)[:600]
    rows = [{"path": f"real/{i}.png", "class": str(rng.choice(["a", "b", "c"], p=[0.6, 0.3, 0.1])), "origin": "real",
             "patient": f"p{p}"} for i, p in enumerate(of)]
    rows += [{"path": f"{origin}/{i}.png", "class": "a", "origin": origin, "prompt": f"q{i // 3}"}
             for origin in ("sd", "dalle") for i in range(150)]
    frame = pd.DataFrame(rows)
    return gilt.ImageTable(frame.assign(sha256=frame["path"]), "/nowhere")


@pytest.mark.parametrize("target", ["class", "origin"])
@pytest.mark.parametrize("seed", range(3))
def test_a_group_never_straddles_splits_and_the_ratios_hold_as_well_as_groups_allow(patients, target, seed):
    table = gilt.split(patients, target=target, groups=["patient", "prompt"], seed=seed)
    assert not straddling(table, "patient")
    assert not straddling(table, "prompt")
    assert table.frame["excluded"].isna().all()
    real = table.real
    for name, ratio in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
        assert abs(real.counts("split")[name] - ratio * len(real)) <= 9
        share = (real.where(split=name).frame["class"] == "a").mean()
        assert abs(share - (real.frame["class"] == "a").mean()) < 0.12


def test_grouped_folds_are_about_as_even_in_classes_as_scikit_learns_and_more_even_in_size(patients):
    real = patients.real
    labels, groups = real.frame["class"], real.frame["patient"]

    def unevenness(parts: list) -> np.ndarray:
        counts = pd.DataFrame([part.value_counts() for part in parts]).fillna(0)
        return np.array([counts.std().sum(), counts.sum(axis=1).std()])

    ours, theirs = np.zeros(2), np.zeros(2)
    for seed in range(8):
        folds = gilt_folds(real, folds=5, groups="patient", seed=seed)
        ours += unevenness([fold.where(split="test").frame["class"] for fold in folds])
        splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        theirs += unevenness([labels.iloc[test] for _, test in splitter.split(labels, labels, groups)])
    assert ours[0] < 1.3 * theirs[0]
    assert ours[1] < theirs[1]


def test_groups_are_joined_where_they_overlap():
    table = fake({"a": 40}, left=[f"l{i // 2}" for i in range(40)], right=[None, *(f"r{i // 2}" for i in range(39))])
    result = gilt.split(table, groups=["left", "right"])
    assert result.counts("split") == {"train": 40}  # one chain: every pair overlaps the next
    apart = gilt.split(table, groups="left")
    assert apart.counts("split")["test"] == 6


def test_a_row_without_a_group_is_a_group_of_its_own():
    table = fake({"a": 40}, patient=[None] * 20 + [""] * 20)
    assert gilt.split(table, groups="patient") == gilt.split(table)


def test_no_split_stays_empty_while_another_has_groups_to_spare():
    table = fake({"a": 40}, patient=[f"p{i // 10}" for i in range(40)])
    counts = gilt.split(table, groups="patient").counts("split")
    assert counts == {"train": 20, "val": 10, "test": 10}


def test_near_duplicates_that_the_table_names_never_straddle_splits_asked_or_not():
    table = fake({"a": 60})
    named = table.with_column("group", [f"g{i // 6}" for i in range(60)])
    assert not straddling(gilt.split(named), "group")
    assert gilt.split(named, groups="near") == gilt.split(named)
    assert gilt.split(named) != gilt.split(table)


def test_a_generated_image_follows_its_sources_group():
    table = fake({"a": 40}, {"a": 40}, patient=[f"p{i // 4}" for i in range(40)] + [None] * 40)
    table = table.with_column("source", [None] * 40 + [f"real/a/{i}.png" for i in range(40)])
    frame = gilt.split(table, target="origin", groups="patient").frame
    assert list(frame["split"][:40]) == list(frame["split"][40:])
    assert set(frame["split"]) == {"train", "val", "test"}


def test_images_made_from_one_image_stay_together_though_it_is_not_in_the_table():
    table = fake({"a": 20}, {"a": 30})
    table = table.with_column("source", [None] * 20 + [f"elsewhere/{i // 3}.png" for i in range(30)])
    assert not straddling(gilt.split(table, target="origin"), "source")
    kept = table.with_column("split", ["train"] * 20 + ["train", "train", "test"] * 10)
    assert gilt.split(kept, target="origin").frame["excluded"].value_counts().to_dict() == {
        "made from the same image as a test image": 20}


def test_a_new_row_follows_the_split_of_its_group_and_of_its_content():
    table = fake({"a": 12}, split=["train"] * 4 + ["test"] * 4 + [None] * 4, patient=list("aabbccdd") + list("acdx"))
    table = table.with_column("sha256", [*(f"h{i}" for i in range(11)), "h5"])
    result = gilt.split(table, groups="patient", val=0.0, train=0.8, test=0.2)
    assert list(result.frame["split"][8:]) == ["train", "test", "test", "test"]
    assert result.frame["excluded"].isna().all()


def test_groups_that_existing_splits_share_are_left_out_of_the_laxer_one():
    table = fake({"a": 6}, split=["test", "val", "train", "train", "val", "train"], patient=["x", "x", "y", "y", "y", "z"],
                 group=["g", None, "g", None, None, None])
    result = gilt.split(table, groups=["near", "patient"])
    assert list(result.frame["excluded"]) == [None, "same patient as a test image", "near-duplicate of a test image",
                                              "same patient as a val image", None, None]


def test_what_is_left_out_speaks_against_no_further_row():
    table = fake({"a": 4}, split=["test", "val", "train", "train"], patient=["x", "x", None, None],
                 camera=[None, "c", "c", "d"])
    excluded = gilt.split(table, groups=["patient", "camera"]).frame["excluded"]
    assert list(excluded) == [None, "same patient as a test image", None, None]


def test_overlapping_splits_are_refused_where_asked():
    table = fake({"a": 4}, split=["test", "val", "train", "train"], patient=["x", "x", "x", "z"])
    with pytest.raises(gilt.TableError, match=r"overlap in 2 of 4 rows, such as real/a/1.png \(val\): same patient as a "
                                              r"test image \(real/a/0.png\).*overlap=\"exclude\".*keep=false"):
        gilt.split(table, groups="patient", overlap="refuse")
    assert gilt.split(table, overlap="refuse").frame["excluded"].isna().all()
    twice = table.with_column("sha256", ["h", "i", "h", "j"])
    with pytest.raises(gilt.TableError, match=r"1 of 4 rows, .*2.png \(train\): same content as a test image \(.*0.png\)"):
        gilt.split(twice, overlap="refuse")


def test_an_unknown_column_is_named_with_the_choices():
    with pytest.raises(gilt.TableError, match=r"split.groups: no column 'patiant' .*has: near, path.*Did you mean 'patient'\?"):
        gilt.split(fake({"a": 4}, patient="x"), groups="patiant")


@pytest.mark.parametrize("target", ["class", "origin"])
def test_folds_test_every_row_once_and_keep_groups_together(patients, target):
    tables = list(gilt_folds(patients, folds=4, target=target, groups=["patient", "prompt"], seed=3))
    assert len(tables) == 4
    tested = pd.concat([table.usable.where(split="test").frame["path"] for table in tables])
    rows = patients.real if target == "class" else patients
    assert sorted(tested) == sorted(rows.frame["path"])
    for table in tables:
        assert not straddling(table, "patient")
        assert abs(len(table.real.where(split="test")) - len(patients.real) / 4) <= 9
        assert abs(len(table.real.where(split="val")) - 0.75 * len(patients.real) * 0.15 / 0.85) <= 9


def test_a_fold_is_the_same_whoever_asks_for_it(bird_table):
    tables = list(gilt_folds(bird_table, folds=3, seed=1))
    assert gilt.split(bird_table, folds=3, fold=2, seed=1) == tables[2]
    assert gilt.split(bird_table, folds=3, seed=5) == tables[2]  # seed 5 is fold 2 of partition 1
    assert gilt.split(bird_table, folds=3, seed=2) != tables[2]
    assert len(list(gilt_folds(bird_table))) == 5


def test_folds_refuse_a_table_that_has_splits(birds):
    with pytest.raises(gilt.TableError, match=r"has splits already \(train .*split.folds deals every row.*keep=false"):
        gilt.split(birds, folds=3)
    assert gilt.split(birds, folds=3, keep=False).real.counts("split")["test"] == 20


def test_a_held_out_generator_is_test_only_and_the_others_never_test(patients):
    table = gilt.split(patients, target="origin", hold_out="sd")
    assert table.where(origin="sd").counts("split") == {"test": 150}
    assert table.where(origin="dalle").counts("split") == {"train": 124, "val": 26}
    assert table.real.counts("split") == gilt.split(patients.real).counts("split")
    both = gilt.split(patients, target="origin", hold_out="sd", seen_in_test=True)
    assert both.where(origin="dalle").counts("split")["test"] == 22


def test_every_generator_is_held_out_once_and_the_photographs_are_dealt_alike(patients):
    tables = dict(leave_one_generator_out(patients, seed=2))
    assert list(tables) == ["dalle", "sd"]
    assert tables["sd"].real == tables["dalle"].real
    for name, table in tables.items():
        assert set(table.usable.generated.where(split="test").frame["origin"]) == {name}
        assert name not in set(table.usable.where(split=["train", "val"]).frame["origin"])


def test_a_held_out_image_that_is_tied_to_a_training_image_is_left_out():
    table = fake({"a": 20}, {"a": 20})
    frame = table.frame.assign(source=[None] * 20 + [f"real/a/{i}.png" for i in range(20)])
    other = frame[20:].assign(origin="dalle", path="x/" + frame["path"][20:], sha256="x" + frame["sha256"][20:])
    table = gilt.ImageTable(pd.concat([frame, other]), "/nowhere")
    result = gilt.split(table, target="origin", hold_out="sd")
    splits = dict(zip(result.frame["path"], result.frame["split"], strict=True))
    for row in result.generated.frame.itertuples():
        assert (row.excluded is None) == ((row.origin == "sd") == (splits[row.source] == "test"))
    assert set(result.frame["excluded"].dropna()) == {
        "of a held-out generator, but tied to a train image", "of a held-out generator, but tied to a val image",
        "of a generator that is not held out, but a test row"}


def test_prompts_that_generators_share_are_dealt_where_one_of_them_is_held_out(patients):
    table = gilt.split(patients, target="origin", hold_out="sd", groups="prompt")
    assert not straddling(table, "prompt")
    used = table.usable
    assert used.where(origin="sd").counts("split").keys() == {"test"}
    assert used.where(origin="dalle").counts("split").keys() == {"train", "val"}
    assert len(used.where(origin="sd")) == 21
    assert len(used.where(origin="dalle")) == 129


def test_hold_out_says_what_is_wrong(patients):
    with pytest.raises(gilt.TableError, match=r"no generator 'dale' in the table \(has: dalle, sd\). Did you mean 'dalle'\?"):
        gilt.split(patients, target="origin", hold_out="dale")
    with pytest.raises(gilt.TableError, match=r"leaves no generator to train on"):
        gilt.split(patients, target="origin", hold_out=["sd", "dalle"])
    with pytest.raises(gilt.ConfigError, match="for target 'origin'"):
        gilt.split(patients, hold_out="sd")
    with pytest.raises(gilt.TableError, match="no generated image"):
        next(leave_one_generator_out(patients.real))


@pytest.mark.parametrize("values", [
    [f"20{i // 4:02}-05-01" for i in range(80)], [f"20{i // 4:02}:05:01 10:00:00" for i in range(80)],
    [2000 + i // 4 for i in range(80)], [str(2000 + i // 4) for i in range(80)],
    list(pd.to_datetime([f"20{i // 4:02}-05-01" for i in range(80)]))], ids=["iso", "exif", "years", "text", "stamps"])
def test_the_oldest_rows_train_and_the_newest_test_and_equal_values_stay_together(values):
    table = fake({"a": 80})
    order = np.random.default_rng(0).permutation(80)
    table = table.with_column("taken", [values[i] for i in order])
    result = gilt.split(table, by="taken")
    assert result.counts("split") == {"train": 56, "val": 12, "test": 12}
    assert not straddling(result, "taken")
    taken = result.frame.groupby("split")["taken"]
    assert taken.max()["train"] < taken.min()["val"]
    assert taken.max()["val"] < taken.min()["test"]


def test_cuts_say_where_val_and_test_begin():
    table = fake({"a": 40}, year=[2000 + i for i in range(40)])
    result = gilt.split(table, by="year", cuts=[2010, "2030"])
    assert result.counts("split") == {"train": 10, "val": 20, "test": 10}
    single = gilt.split(table, by="year", cuts=2030)
    assert set(single.where(split="test").frame["path"]) == {f"real/a/{i}.png" for i in range(30, 40)}
    assert single.counts("split") == {"train": 25, "val": 5, "test": 10}


def test_a_row_without_a_date_is_left_out_and_generated_rows_without_any_are_dealt_as_usual(caplog):
    caplog.set_level("INFO", "gilt")
    table = fake({"a": 40}, {"a": 40}, taken=[None, *(f"2020-01-{i % 28 + 1:02}" for i in range(39))] + [None] * 40)
    result = gilt.split(table, by="taken")
    assert result.frame["excluded"].value_counts().to_dict() == {"no taken": 1}
    assert result.frame["excluded"][0] == "no taken"
    assert result.generated.counts("split") == {"train": 33, "val": 7}
    assert "no generated row has a taken" in caplog.text


def test_for_target_class_images_made_in_the_tests_time_teach_nothing():
    table = fake({"a": 40}, {"a": 40}, year=[2000 + i for i in range(40)] * 2)
    result = gilt.split(table, by="year")
    assert result.generated.frame["excluded"].value_counts().to_dict() == {"made in the test's time": 6}
    assert result.usable.generated.counts("split") == {"train": 28, "val": 6}


def test_generators_are_dealt_by_their_year_and_photographs_at_random(patients):
    table = gilt.split(patients, target="origin", years={"sd": 2022, "dalle": "2023"}, cuts=2023)
    assert table.where(origin="dalle").counts("split") == {"test": 150}
    assert table.where(origin="sd").counts("split") == {"train": 124, "val": 26}
    assert table.real == gilt.split(patients.real, target="origin")
    with pytest.raises(gilt.TableError, match=r"no year for 'dalle' \(has: sd, dale\). Did you mean 'dale'\?"):
        gilt.split(patients, target="origin", years={"sd": 2022, "dale": 2023})


@pytest.mark.parametrize("settings, said", [
    ({"by": "taken"}, r"holds 'soon', which is neither a number nor a date"),
    ({"by": "year", "cuts": [2005, 2001]}, r"split.cuts must rise: 2005"),
    ({"by": "year", "cuts": "2022-01-01"}, r"split.cuts holds dates and column 'year' numbers"),
    ({"by": "same"}, r"column 'same' holds one value only"), ({"by": "yaer"}, r"no column 'yaer'.*Did you mean 'year'\?"),
    ({"by": "excluded"}, r"column 'excluded' holds no value")])
def test_a_column_that_cannot_be_cut_is_refused_with_the_reason(settings, said):
    table = fake({"a": 10}, taken=["2020-01-01"] * 9 + ["soon"], year=[2000 + i for i in range(10)], same=1)
    with pytest.raises(gilt.TableError, match=said):
        gilt.split(table, **settings)


@pytest.mark.parametrize("settings, said", [
    ({"folds": 3, "by": "year"}, "folds and by are two ways"), ({"folds": 1}, "greater than or equal to 2"),
    ({"folds": 3, "fold": 3}, "counts from 0 to folds - 1"), ({"fold": 0}, "needs folds"), ({"cuts": [1]}, "cuts need by"),
    ({"seen_in_test": True}, "belongs to hold_out"), ({"folds": 3, "val_from_test": 0.5}, "do not go together"),
    ({"by": "year", "cuts": [1, 2, 3]}, "at most 2 items")])
def test_settings_that_do_not_go_together_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        gilt.SplitConfig(**settings)


def test_a_table_is_never_changed_by_a_split(patients):
    before = patients.frame.copy()
    for settings in ({"groups": "patient"}, {"folds": 3}, {"hold_out": "sd"}, {"years": {"sd": 1, "dalle": 2}}):
        gilt.split(patients, target="origin", **settings)
    pd.testing.assert_frame_equal(patients.frame, before)


def tangled(seed: int) -> gilt.ImageTable:
    """Return a table in which copies, sources, patients, near-duplicates and given splits cross each other at random."""
    rng = np.random.default_rng(seed)
    table = fake({"a": 40, "b": 20}, {"a": 30, "b": 30})
    rows = len(table)
    sources = [None] * 60 + [str(rng.choice([f"real/a/{rng.integers(40)}.png", f"sd/a/{i % 30}.png", f"gone/{i % 3}.png"]))
                             for i in range(60)]
    copies = np.where(rng.random(rows) < 0.1, "copy", table.frame["sha256"])
    frame = table.frame.assign(sha256=copies, source=sources)
    frame["origin"] = np.where(frame["origin"] == "real", "real", rng.choice(["sd", "dalle"], rows))
    frame["patient"] = [None if rng.random() < 0.4 else f"p{rng.integers(20)}" for _ in range(rows)]
    frame["group"] = [None if rng.random() < 0.7 else f"g{rng.integers(9)}" for _ in range(rows)]
    frame["split"] = [str(rng.choice(["train", "val", "test"])) if rng.random() < 0.4 else None for _ in range(rows)]
    return gilt.ImageTable(frame, "/nowhere")


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("settings", [
    {}, {"keep": False}, {"keep": False, "folds": 3}, {"hold_out": "sd"}, {"keep": False, "years": {"sd": 1, "dalle": 2}}],
    ids=["kept", "afresh", "folds", "hold_out", "years"])
def test_nothing_leaks_however_rows_are_tangled(seed, settings):
    table = gilt.split(tangled(seed), target="origin", groups=["near", "patient"], seed=seed, **settings)
    for column in ("sha256", "patient", "group", "source"):
        assert not straddling(table, column)
    used = table.usable.frame
    assert used["split"].notna().all()
    found = used["source"].map(used.set_index("path")["split"])
    assert (found.isna() | (found == used["split"])).all()
