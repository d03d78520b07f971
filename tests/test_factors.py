"""Factors: what `[cross]` makes, that its arms are pairs under a seed, and what a slip in it is told."""
import itertools
import logging

import pytest
import torch

import gilt
from gilt.config import TrialConfig
from gilt.models.classifier import load_classifier
from gilt.settings import parse
from gilt.studies.store import Store
from gilt.studies.trial import prepare

HEAD = """\
# A crossed study.
name = "crossed"
seeds = [0, 1]

[base]
table = "birds.parquet"
target = "class"

[base.train]
model = "lenet5"
epochs = 1
"""


def write(folder, text):
    file = folder / "crossed.toml"
    file.write_text(HEAD + text)
    return file


def load(folder, text, *settings):
    return gilt.Study.load(write(folder, text), settings)


def test_every_level_meets_every_other_and_shares_are_named_in_the_thesis_way(tmp_path):
    study = load(tmp_path, '[cross]\n"mix.share" = [0.0, 0.2, 1.0]\n"train.model" = ["lenet5", "thesis2"]\n')
    assert list(study.arms) == ["Real model=lenet5", "Real model=thesis2", "Aug(20-80) model=lenet5",
                                "Aug(20-80) model=thesis2", "AI model=lenet5", "AI model=thesis2"]
    config = study.arms["Aug(20-80) model=thesis2"]
    assert (config.mix.share, config.train.model, config.train.epochs) == (0.2, "thesis2", 1)
    assert study.levels["AI model=lenet5"] == {"mix.share": "1", "train.model": "lenet5"}
    assert study.benchmark == "Real model=lenet5"


def test_a_field_may_be_written_without_quotes(tmp_path):
    study = load(tmp_path, "[cross]\nmix.share = [0.0, 0.125]\ntrain.batch_size = [10, 20]\n")
    assert list(study.arms) == ["Real batch_size=10", "Real batch_size=20", "Aug(12.5-87.5) batch_size=10",
                                "Aug(12.5-87.5) batch_size=20"]


def test_a_factor_of_ones_own_sets_several_fields_a_level(tmp_path):
    study = load(tmp_path, """
[cross.rows]
photographs = {}
painted = { mix.mode = "add", "mix.generated" = 5 }

[cross.length]
short = { train.epochs = 2 }
long = { train.epochs = 4, train.batch_size = 7 }
""")
    assert list(study.arms) == ["photographs short", "photographs long", "painted short", "painted long"]
    config = study.arms["painted long"]
    assert (config.mix.mode, config.mix.generated, config.train.epochs, config.train.batch_size) == ("add", 5, 4, 7)


def test_two_fields_that_end_alike_are_named_in_full(tmp_path):
    fields = '"train.dropout" = [0.1, 0.2]\n"split.seed" = [3]\n"mix.val" = ["real"]\n"split.val" = [0.15]\n'
    study = load(tmp_path, f"[cross]\n{fields}")
    assert list(study.arms) == ["dropout=0.1 seed=3 mix.val=real split.val=0.15",
                                "dropout=0.2 seed=3 mix.val=real split.val=0.15"]


def test_lists_and_switches_are_levels_too(tmp_path):
    study = load(tmp_path, '[cross]\n"train.augment" = [[], ["hflip", "rotate=30"]]\n"split.keep" = [true, false]\n')
    assert list(study.arms) == ["augment=none keep=true", "augment=none keep=false", "augment=hflip+rotate=30 keep=true",
                                "augment=hflip+rotate=30 keep=false"]


def test_written_arms_stand_beside_crossed_ones_and_may_be_the_benchmark(tmp_path):
    text = '[arms.plain]\ntrain.dropout = 0.1\n\n[cross]\n"mix.share" = [0.5, 1.0]\n'
    file = tmp_path / "s.toml"
    file.write_text(HEAD.replace("seeds", 'benchmark = "plain"\nseeds') + text)
    study = gilt.Study.load(file)
    assert list(study.arms) == ["plain", "Aug(50-50)", "AI"]
    assert study.benchmark == "plain"
    assert study.arms["AI"].train.dropout is None


@pytest.mark.parametrize("text, part", [
    ('[cross]\n"mix.shear" = [0.2]\n', r"arm 'shear=0.2': unknown key 'mix.shear' .*Did you mean 'share'"),
    ('[cross]\n"mix.share" = [0.2, 1.2]\n', r"arm 'share=1.2': mix.share: .*less than or equal to 1, not 1.2"),
    ('[cross]\nshare = [0.2]\n', r"cross.share: a factor is a field with a list of values.*Did you mean 'mix.share'"),
    ('[cross]\n"mix.share" = 0.2\n', r"cross.mix.share: give the list of its values, as in \[0.2, 0.5\], not 0.2"),
    ('[cross]\n"mix.share" = []\n', r"cross.mix.share: give the list of its values"),
    ('[cross]\n"mix.share" = [0.5, 0.5]\n', r"cross.mix.share: 0.5 stands twice"),
    ('[cross.train]\nshort = { epochs = 5 }\n', r"cross.train.short.epochs: .*needs another name than 'train'"),
    (f'[cross]\n"split.seed" = {list(range(50))}\n"train.batch_size" = {list(range(1, 42))}\n',
     r"\[cross\] makes 2,050 arms \(50 split.seed x 41 train.batch_size\), and 2,000 are the most"),
    ('[arms.AI]\ntrain.dropout = 0.1\n\n[cross]\n"mix.share" = [1.0]\n', r"\[cross\] and \[arms\] both make an arm 'AI'"),
    ('', r"no arm: a study needs \[arms.NAME\], or \[cross\]"),
    ('[cross]\n"train.epochs" = [1, 2]\n\n[cross.length]\nshort = { train.epochs = 5 }\nlong = { train.epochs = 6 }\n',
     r"arms 'epochs=1 short' and 'epochs=2 short' are the same trial"),
    ('[cross]\n"mix.share" = [0.0]\n[published.Reel]\ntest.accuracy = 1.0\n',
     r"published 'Reel' is no arm .*Did you mean 'Real'"),
    ('[cross]\n"mix.share" = [0.0]\n[published.Real]\ntest.acuracy = 1.0\n', r"no metric 'acuracy' .*Did you mean 'accuracy'"),
])
def test_a_slip_in_the_factors_is_one_clear_line(tmp_path, text, part):
    with pytest.raises(gilt.ConfigError, match=part) as caught:
        load(tmp_path, text)
    assert "crossed.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


ARMS = '[arms.real]\n\n[arms.aug]\nmix.share = 0.5\ntrain.epochs = 3\n\n[arms.long]\ntrain.epochs = 9\n'


def test_a_setting_is_for_the_base_for_one_arm_or_for_every_arm(tmp_path, caplog):
    def epochs(*settings):
        return {name: config.train.epochs for name, config in load(tmp_path, ARMS, *settings).arms.items()}

    with caplog.at_level(logging.WARNING, "gilt"):
        assert epochs("train.epochs=2") == {"real": 2, "aug": 3, "long": 9}
    assert "--set train.epochs=2 does not change aug, long, which say otherwise: --set 'arms.*.train.epochs=2'" in caplog.text
    assert epochs("arms.aug.train.epochs=2") == {"real": 1, "aug": 2, "long": 9}
    assert load(tmp_path, ARMS, "arms.*.train.batch_size=3").arms["aug"].train.batch_size == 3
    assert load(tmp_path, ARMS, "metric=loss", "seeds=[4]").seeds == (4,)
    with pytest.raises(gilt.ConfigError, match=r"--set arms.agu.train.epochs=2: no arm 'agu' .*Did you mean 'aug'"):
        epochs("arms.agu.train.epochs=2")


def test_seeds_and_table_may_be_given_in_place_of_the_files(tmp_path):
    study = gilt.Study.load(write(tmp_path, ARMS), data="other.parquet", seeds=3)
    assert (study.seeds, str(study.table)) == ((0, 1, 2), "other.parquet")
    assert study.options == ("--data", "other.parquet", "--seeds", "3")


CROSSED = """
[cross]
"mix.share" = [0.0, 0.5, 1.0]
"train.batch_size" = [10, 20]
"train.model" = ["lenet5", "lenet"]
"""


def test_under_one_seed_all_arms_share_photographs_and_test_rows_whatever_their_network(tmp_path, bird_table):
    study = load(tmp_path, CROSSED)
    by_seed = {}
    for seed in study.seeds:
        rows = {arm: prepare(bird_table, config, seed=seed)[1] for arm, config in study.arms.items()}
        tests = {table.where(split="test").fingerprint for table in rows.values()}
        assert len(rows) == 12
        assert len(tests) == 1
        for share in ("Real", "Aug(50-50)", "AI"):
            assert len({table.fingerprint for arm, table in rows.items() if arm.startswith(share)}) == 1
        whole = set(rows["Real batch_size=10 model=lenet5"].where(split="train").frame["path"])
        part = set(rows["Aug(50-50) batch_size=10 model=lenet5"].where(split="train").real.frame["path"])
        assert part < whole
        by_seed[seed] = tests
    assert by_seed[0] != by_seed[1]


def test_under_one_seed_arms_of_one_network_start_from_the_same_weights(tmp_path, bird_table):
    bird_table.save(tmp_path / "birds.parquet")
    text = '[cross]\n"mix.share" = [0.0, 1.0]\n"train.batch_size" = [10, 20]\n'
    settings = ("train.learning_rate=1e-30", "train.optimizer=sgd", "keep_models=true", "train.device=cpu")
    records = gilt.run_study(load(tmp_path, text, *settings), tmp_path / "store")
    store = Store(tmp_path / "store")
    networks = {(r.arm, r.seed): load_classifier(store.path(r.id, "safetensors")).network for r in records}
    first = {key: network.state_dict()["conv1.weight"] for key, network in networks.items()}
    assert len(first) == 8
    for arm, seed in first:
        torch.testing.assert_close(first[arm, seed], first["Real batch_size=10", seed], rtol=0, atol=0)
    assert not torch.equal(first["AI batch_size=20", 0], first["AI batch_size=20", 1])
    assert store.summary["levels"]["AI batch_size=20"] == {"mix.share": "1", "train.batch_size": "20"}


@pytest.mark.parametrize("seed", [0, 7])
def test_a_smaller_set_of_photographs_lies_class_by_class_inside_a_larger_one(birds, seed):
    sets = [gilt.mix(birds, max_real=n, seed=seed).where(split="train") for n in (2, 4, 9, 16, 30)]
    for small, large in itertools.pairwise(sets):
        for name in birds.classes:
            inner, outer = (set(table.where(class_=name).frame["path"]) for table in (small, large))
            assert inner < outer
    for table in sets:
        counts = table.counts("class").values()
        assert max(counts) - min(counts) <= 1


def test_val_rows_may_have_a_share_of_their_own(birds):
    rows = gilt.mix(birds, share=1.0, val="mix", val_share=0.5).where(split="val")
    assert len(rows.real) == len(rows.generated) > 0
    with pytest.raises(gilt.ConfigError, match=r"mix.val_share is the generated part of mix.val='mix'"):
        parse(gilt.MixConfig, {"val_share": 0.5}, where="x")


def test_generated_rows_are_tested_only_where_that_is_asked_for_and_every_one_of_them_once(bird_table):
    asked = gilt.SplitConfig(folds=4, generated_in_test=True)
    seen = []
    for fold in range(4):
        dealt = gilt.split(bird_table, asked, seed=fold)
        test = gilt.mix(dealt, test="generated").where(split="test")
        taught = gilt.mix(dealt, share=1.0).where(split="train")
        assert set(test.origins) == {"painter"}
        assert not set(test.frame["path"]) & set(taught.frame["path"])
        seen += list(test.frame["path"])
        assert set(gilt.mix(dealt).where(split="test").origins) == {"real"}
    assert sorted(seen) == sorted(bird_table.generated.frame["path"])
    assert not len(gilt.split(bird_table, folds=4).where(split="test").generated)


@pytest.mark.parametrize("config, part", [
    ({"mix": {"test": "generated"}}, "set split.generated_in_test=true in every arm"),
    ({"target": "origin", "mix": {"test": "generated"}}, "mix.test is for target 'class'"),
    ({"target": "origin", "split": {"generated_in_test": True}}, "split.generated_in_test is for target 'class'"),
    ({"split": {"generated_in_test": True, "by": "year"}}, "generated_in_test goes with ratios or folds"),
])
def test_tests_on_generated_rows_are_refused_where_they_make_no_sense(config, part):
    with pytest.raises(gilt.ConfigError, match=part):
        parse(TrialConfig, config, where="x")
