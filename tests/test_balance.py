"""Balance: classes made uneven, and evened out again. Training rows only, paired, and honest about how many there are."""
import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import gilt
from conftest import make_birds
from gilt.cli import gilt as command_group
from gilt.config import BalanceConfig
from gilt.data.balance import balance, long_tail, part_in_training, shortfall, sizes, times
from gilt.data.mix import mix
from gilt.engine.batches import Batches
from gilt.engine.optim import loss_of
from gilt.studies.compare import verdicts
from test_split import fake

REAL, GENERATED = {"a": 40, "b": 10, "c": 5}, {"a": 20, "b": 20, "c": 8}


@pytest.fixture(scope="module")
def rows():
    """Training rows of three classes, 40, 10, 5 photographs and 20, 20, 8 generated; 4 val and 6 test photographs a class."""
    train = fake(REAL, GENERATED, split="train").frame
    rest = fake(dict.fromkeys("abc", 10)).frame.assign(split=(["val"] * 4 + ["test"] * 6) * 3)
    rest["path"] = "rest/" + rest["path"]
    rest["sha256"] += "-rest"
    return gilt.ImageTable(train.merge(rest, how="outer", on=list(set(train) & set(rest))), "/nowhere")


def drawn(table):
    return part_in_training(table.where(split="train"), "class")


def paths(table):
    return set(table.where(split="train").frame["path"])


def untouched(table, rows):
    return all(table.where(split=part) == rows.real.where(split=part) for part in ("val", "test"))


@pytest.mark.parametrize("method, degree, expected", [
    ("over", 0.0, REAL), ("over", 0.5, {"a": 40, "b": 20, "c": 14}), ("over", 1.0, dict.fromkeys("abc", 40)),
    ("under", 0.0, REAL), ("under", 0.5, {"a": 14, "b": 7, "c": 5}), ("under", 1.0, dict.fromkeys("abc", 5)),
    ("generated", 0.5, {"a": 40, "b": 20, "c": 13}), ("generated", 1.0, {"a": 40, "b": 30, "c": 13}),
    ("smote", 0.5, {"a": 40, "b": 20, "c": 14})])
def test_a_degree_brings_every_class_to_its_size(rows, method, degree, expected):
    """n^(1-d) N^d: at degree 0.5 the ratio 8 of the largest class to the smallest becomes its root."""
    mixed = gilt.mix(rows, balance=method, degree=degree)
    assert drawn(mixed) == expected
    assert untouched(mixed, rows)


@pytest.mark.parametrize("method", ["over", "smote", "under"])
@pytest.mark.parametrize("degree", [0.0, 0.3, 0.7, 1.0])
def test_the_ratio_falls_to_its_power(method, degree):
    after = sizes({"a": 1000, "b": 10}, BalanceConfig(method=method, degree=degree))
    assert max(after.values()) / min(after.values()) == pytest.approx(100 ** (1 - degree), rel=0.06)


def test_over_repeats_rows_as_evenly_as_can_be_and_more_with_the_degree(rows):
    before = None
    for degree in (0.2, 0.5, 1.0):
        mixed = gilt.mix(rows, balance="over", degree=degree, seed=3)
        assert paths(mixed) == paths(gilt.mix(rows, seed=3))
        train = mixed.where(split="train").frame.set_index("path")
        for _, group in train.groupby("class"):
            assert np.ptp(group["times"]) <= 1
        assert before is None or (train["times"] >= before[train.index]).all()
        before = train["times"]
    assert before[before.index.str.contains("/b/")].eq(4).all()


def test_a_smaller_set_lies_inside_a_larger_one_and_another_seed_draws_another(rows):
    for method, degrees in (("under", (1.0, 0.6, 0.2)), ("generated", (0.2, 0.6, 1.0))):
        sets = [paths(gilt.mix(rows, balance=method, degree=degree, seed=1)) for degree in degrees]
        assert all(small < large for small, large in pairwise(sets))
        assert paths(gilt.mix(rows, balance=method, degree=degrees[1], seed=2)) != sets[1]


def test_weights_average_one_and_give_a_class_the_part_that_as_many_rows_would(rows):
    for degree in (0.0, 0.5, 1.0):
        train = gilt.mix(rows, balance="weights", degree=degree).where(split="train")
        assert train.frame["loss_weight"].mean() == pytest.approx(1)
        parts, over = part_in_training(train, "class"), sizes(REAL, BalanceConfig(method="over", degree=degree))
        for name in REAL:
            assert parts[name] / sum(parts.values()) == pytest.approx(over[name] / sum(over.values()), abs=0.01)


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_weighted_loss_is_that_of_repeated_rows(outputs):
    """8 rows of one class and 2 of the other: weights of degree 1 are what drawing the two four times would be."""
    labels = torch.tensor([0] * 8 + [1] * 2)
    out = torch.randn(10, outputs, generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([10 / 16, 10 / 4])
    again = torch.tensor([*range(8), *[8, 9] * 4])
    torch.testing.assert_close(loss_of(out, labels, weights), loss_of(out[again], labels[again]))
    assert loss_of(out, labels, weights) != loss_of(out, labels)


def test_generated_rows_that_are_not_there_are_counted_and_said(rows, caplog):
    mixed = gilt.mix(rows, balance="generated")
    assert "37 of 65 generated rows that are wanted are not there: b has 20 of 30, c has 8 of 35" in caplog.text
    assert shortfall(mixed.where(split="train"), BalanceConfig(method="generated")) == {"b": 10, "c": 27}
    caplog.clear()
    small = gilt.mix(rows, balance="generated", degree=0.4)
    assert not caplog.text
    assert shortfall(small.where(split="train"), BalanceConfig(method="generated", degree=0.4)) == {}


def test_a_limit_on_generated_rows_counts_before_they_are_dealt_out(rows):
    mixed = gilt.mix(rows, balance="generated", max_generated=12)
    assert paths(mixed) - paths(gilt.mix(rows)) <= paths(gilt.mix(rows, share=1.0, max_generated=12))
    with pytest.raises(gilt.TableError, match="lacks 65 rows and there is no generated training row"):
        gilt.mix(rows, balance="generated", max_generated=0)


def test_what_a_mode_makes_is_balanced_as_a_whole(rows):
    assert drawn(gilt.mix(rows, mode="add")) == {"a": 60, "b": 30, "c": 13}
    assert drawn(gilt.mix(rows, mode="add", balance="over")) == dict.fromkeys("abc", 60)
    assert drawn(gilt.mix(rows, share=1.0, balance="under")) == dict.fromkeys("abc", 8)


def test_for_target_origin_real_and_generated_are_evened_out(rows):
    train = gilt.mix(rows, target="origin", balance="under").where(split="train")
    assert (len(train.real), len(train.generated)) == (48, 48)
    assert part_in_training(gilt.mix(rows, target="origin", balance="over").where(split="train"), "origin") == {
        "real": 55, "generated": 55}


@pytest.mark.parametrize("ratio", [1, 4, 10])
def test_an_imbalance_is_a_long_tail_over_classes_in_a_seeded_order(ratio):
    table = fake(dict.fromkeys("abcdef", 50), split="train")
    counts = [gilt.mix(table, imbalance=ratio, seed=seed).counts("class") for seed in range(6)]
    for found in counts:
        values = sorted(found.values(), reverse=True)
        assert values[0] / values[-1] == pytest.approx(ratio, rel=0.1)
        steps = [a / b for a, b in pairwise(values)]
        assert max(steps) - min(steps) < 0.35  # each class as many times smaller than the one before
    assert ratio == 1 or len({max(found, key=found.get) for found in counts}) > 1
    assert paths(gilt.mix(table, imbalance=10)) <= paths(gilt.mix(table, imbalance=4)) <= paths(gilt.mix(table))


def test_a_long_tail_is_as_high_as_the_photographs_allow_and_leaves_every_class_one():
    order = list(long_tail(dict.fromkeys("abcd", 1), 1, 0))
    counts = {name: 100 if i else 8 for i, name in enumerate(order)}  # the class at the head is the rare one
    assert long_tail(counts, 1000, 0) == {order[0]: 8, order[1]: 1, order[2]: 1, order[3]: 1}


def test_photographs_of_a_class_may_be_limited_by_name(rows):
    mixed = gilt.mix(rows, max_real_by_class={"a": 6, "c": 2}, balance="generated", degree=0.0)
    assert drawn(mixed) == {"a": 6, "b": 10, "c": 2}
    assert untouched(mixed, rows)
    with pytest.raises(gilt.TableError, match=r"no training photograph of a class 'aa' .*Did you mean 'a'"):
        gilt.mix(rows, max_real_by_class={"aa": 3})


@pytest.mark.parametrize("settings, part", [
    ({"degree": 0.5}, "mix.degree belongs to mix.balance"),
    ({"imbalance": 5, "max_real_by_class": {"a": 3}}, "keep one"),
    ({"balance": "generated", "mode": "add"}, "leave out mix.mode"),
    ({"balance": "generated", "share": 0.5, "total": 9}, "leave out mix.share, mix.total"),
    ({"imbalance": 0.5}, "greater than or equal to 1")])
def test_settings_that_contradict_each_other_are_refused(settings, part):
    with pytest.raises(ValueError, match=part):
        gilt.MixConfig(**settings)


@pytest.mark.parametrize("settings, part", [
    ({"mix": {"balance": "smote"}}, "set train.frozen=true"),
    ({"mix": {"balance": "generated"}, "target": "origin"}, "the target is the origin"),
    ({"train": {"frozen": True, "augment": ["hflip"]}}, "leave train.augment out"),
    ({"train": {"frozen": True, "dropout": 0.3}}, "leave train.dropout out")])
def test_a_trial_that_cannot_be_balanced_so_is_refused(settings, part):
    with pytest.raises(ValueError, match=part):
        gilt.TrialConfig.model_validate(settings)


@pytest.mark.parametrize("change, settings, part", [
    (lambda t: t, {"method": "ovr"}, "Did you mean 'over'"),
    (lambda t: t, {"method": "over", "degree": 1.5}, "degree: should be less than or equal to 1, not 1.5"),
    (lambda t: t, {"method": "generated", "target": "origin"}, "the target is the origin"),
    (lambda t: t.with_column("split", None), {"method": "over"}, "no train rows to balance: split it first"),
    (lambda t: t.generated, {"method": "generated"}, "there is no real training row"),
    (lambda t: t.with_column("class", None), {"method": "over"}, "have no class, such as"),
    (lambda t: balance(t, "over"), {"method": "under"}, r"balanced already \(column 'times'\)")])
def test_what_cannot_be_balanced_is_one_clear_error(rows, change, settings, part):
    table = change(rows)
    method = settings.pop("method")
    with pytest.raises(gilt.GiltError, match=part) as caught:
        balance(table, method, **settings)
    assert "\n" not in str(caught.value)


def test_a_balanced_table_is_not_taken_apart_by_a_mix(rows):
    even = balance(rows, "over")
    with pytest.raises(gilt.TableError, match=r"103 training rows are balanced together .* takes 55 of them"):
        mix(even)
    assert drawn(mix(even, mode="add")) == dict.fromkeys("abc", 60)


def test_a_column_of_ones_own_called_times_is_noticed(rows):
    with pytest.raises(gilt.TableError, match=r"'times' says how often .* has 'noon'"):
        times(rows.with_column("times", "noon"))


def test_the_fingerprint_knows_of_the_balance_and_the_test_rows_do_not(rows, tmp_path):
    even = balance(rows, "over")
    assert even.fingerprint != rows.fingerprint
    assert even.where(split="test") == rows.where(split="test")
    even.save(tmp_path / "even.parquet")
    assert gilt.ImageTable.load(tmp_path / "even.parquet") == even
    assert balance(rows, "over", degree=0) == rows


def test_batches_draw_a_row_as_often_as_it_says():
    pack = np.arange(3, dtype=np.uint8)[:, None, None, None].repeat(3, 3)
    batches = Batches(pack, np.arange(3), np.arange(3), torch.device("cpu"), np.array([1, 4, 2]))
    seen = [int(label) for images, labels in batches.epoch(2, shuffle=torch.Generator().manual_seed(0))
            for image, label in zip(images, labels, strict=True) if int((image * 255).round().max()) == int(label)]
    assert sorted(seen) == [0, 1, 1, 1, 1, 2, 2]
    assert len(batches) == 7


def test_training_counts_photographs_and_draws_apart(bird_table):
    rows = gilt.mix(gilt.split(bird_table), balance="over", max_real_by_class={"wren": 5})
    ticks = []
    classifier = gilt.train(rows, gilt.TrainConfig(model="lenet5", epochs=1, batch_size=10), progress=ticks.append)
    assert (classifier.provenance["n_real"], classifier.provenance["n_drawn"]) == (26, 42)
    assert len(ticks) == math.ceil(42 / 10)


def test_class_weights_change_the_training_and_not_the_validation_loss(birds):
    config = gilt.TrainConfig(model="lenet5", epochs=1, learning_rate=1e-30, optimizer="sgd", precision="float32")
    limit = {"wren": 3}
    plain, weighted = (gilt.train(gilt.mix(birds, max_real_by_class=limit, balance=name), config).history[0]
                       for name in (None, "weights"))
    assert plain["val_loss"] == pytest.approx(weighted["val_loss"])
    assert plain["train_loss"] != pytest.approx(weighted["train_loss"], abs=1e-4)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study of four arms under two seeds, judged by macro F1."""
    folder = tmp_path_factory.mktemp("study")
    gilt.scan(make_birds(folder / "birds", generated=6, size=12)).save(folder / "birds.parquet")
    (folder / "uneven.toml").write_text("""
name = "uneven"
seeds = [0, 1]
metric = "macro_f1"
[base]
table = "birds.parquet"
[base.mix]
imbalance = 8.0
[base.train]
model = "lenet5"
epochs = 2
batch_size = 16
[arms.as-it-is]
[arms.over]
mix.balance = "over"
[arms.weights]
mix.balance = "weights"
[arms.generated]
mix.balance = "generated"
""")
    study = gilt.Study.load(folder / "uneven.toml")
    return folder, study, gilt.run_study(study, folder / "store")


def test_a_study_compares_balances_by_the_metric_it_names(finished):
    _, study, records = finished
    assert (study.benchmark, study.metric) == ("as-it-is", "macro_f1")
    assert {record.state for record in records} == {"finished"}
    assert len({record.test_rows for record in records if record.seed == 0}) == 1
    counts = {r.arm: (r.n_real, r.n_generated, r.n_drawn) for r in records if r.seed == 0}
    assert counts == {"as-it-is": (24, 0, 24), "over": (24, 0, 42), "weights": (24, 0, 24), "generated": (24, 5, 29)}
    assert {r.arm: sum(r.short.values()) for r in records if r.seed == 0}["generated"] == 13
    effects = gilt.compare(records, "as-it-is", metric=study.metric)
    by_hand = [100 * (r.metric("macro_f1") - b.metric("macro_f1")) for b, r in zip(
        [r for r in records if r.arm == "as-it-is"], [r for r in records if r.arm == "over"], strict=True)]
    assert effects[0].differences == pytest.approx(by_hand)
    for effect, sentence in zip(effects, verdicts(records, "as-it-is", metric="macro_f1")[1:], strict=False):
        assert sentence.startswith(effect.arm)
        assert "points of test macro F1" in sentence or "no verdict" in sentence


def test_the_report_and_the_list_of_trials_show_the_metric_and_the_balance(finished):
    folder, _, records = finished
    page = gilt.report(folder / "store").read_text()
    for part in ("Test macro F1", "over 1", "# Drawn an Epoch", "(up to 13 short)", "of test macro F1)"):
        assert part in page
    result = CliRunner().invoke(command_group, ["study", "show", str(folder / "store"), "--json"])
    shown = json.loads(result.stdout)
    assert [row["test_macro_f1"] for row in shown] == [record.metric("macro_f1") for record in records]
    assert [row["n_drawn"] for row in shown] == [record.n_drawn for record in records]


def test_a_study_with_an_unknown_metric_names_the_near_one(finished):
    folder, _, _ = finished
    text = (folder / "uneven.toml").read_text().replace('"macro_f1"', '"macro_f"')
    (folder / "wrong.toml").write_text(text)
    with pytest.raises(gilt.ConfigError, match=r"no metric 'macro_f' .*Did you mean 'macro_f1'"):
        gilt.Study.load(folder / "wrong.toml")


@pytest.mark.parametrize("method, row", [
    ("over", "wren 5 5 0 21"), ("under", "robin 21 5 0 5"), ("weights", "wren 5 5 0 13"), ("smote", "wren 5 5 0 21")])
def test_the_command_prints_the_classes_before_and_after(birds, tmp_path, method, row):
    gilt.mix(birds, max_real_by_class={"wren": 5}).save(tmp_path / "uneven.parquet")
    result = CliRunner().invoke(command_group, ["balance", str(tmp_path / "uneven.parquet"), "--set", f"method={method}",
                                                "-o", str(tmp_path / "even.parquet")])
    assert result.exit_code == 0, result.output
    assert row in " ".join(result.stdout.split())
    assert gilt.ImageTable.load(tmp_path / "even.parquet") == balance(gilt.ImageTable.load(tmp_path / "uneven.parquet"), method)
