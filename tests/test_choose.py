"""Choosing generated images before training: each criterion on images where the right answer is known, by hand."""
import shutil

import numpy as np
import pytest

import gilt
from conftest import draw
from gilt.config import ChooseConfig, MixConfig, TrialConfig
from gilt.data.choose import Scores, choose, farthest_first, in_words
from gilt.engine.choose import mixed
from gilt.engine.judge import memory
from gilt.settings import parse
from gilt.studies.study import Trial, beside
from gilt.studies.trial import prepared
from test_split import fake

OLD_ID = "725babb6e191b87b"  # of a trial that adds all generated images, before there was anything to choose
RED, BLUE = (200, 30, 30), (30, 30, 200)


def make_world(root, *, test_shade=0):
    """8 + 2 + 4 photographs a class, and of red six made images: a copy, a red, three paler and paler, a blue; of blue one."""
    for name, colour in (("red", RED), ("blue", BLUE)):
        for split, count in (("train", 8), ("val", 2), ("test", 4)):
            for i in range(count):
                shade = test_shade if split == "test" else 0
                draw(root / "real" / split / name / f"{i}.png", tuple(c + shade for c in colour), seed=len(split) * 100 + i)
    made = root / "painter" / "train" / "red"
    colours = {"red": (206, 46, 46), "pale": (210, 70, 70), "paler": (220, 120, 120), "palest": (230, 180, 180),
               "wrong": (46, 46, 206)}
    for i, (name, colour) in enumerate(colours.items()):
        draw(made / f"{name}.png", colour, seed=900 + i)
    shutil.copy(root / "real" / "train" / "red" / "3.png", made / "copy.png")
    draw(root / "painter" / "train" / "blue" / "only.png", (46, 46, 206), seed=950)
    return gilt.scan(root, "{origin}/{split}/{class}")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    table = gilt.split(make_world(tmp_path_factory.mktemp("red and blue")), seed=0)
    assert table.usable.where(split="train").counts("origin") == {"real": 16, "painter": 7}
    return table


def outcome(world, **choose):
    """Return (names of the kept red images, name -> reason of those left out, counts)."""
    config = parse(MixConfig, {"mode": "add", "choose": choose}, where="test")
    rows, choice = mixed(world, config, seed=0)
    kept = rows.where(split="train").generated.where(class_="red").frame["path"]
    out = choice.out.where(class_="red").frame
    names = out["path"].str.extract(r"(\w+)\.png")[0]
    return set(kept.str.extract(r"(\w+)\.png")[0]), dict(zip(names, out["excluded"], strict=True)), choice.counts()


def test_copies_of_training_photographs_are_left_out_and_name_the_photograph(world):
    kept, out, counts = outcome(world, copies=0.0)
    assert out == {"copy": "copy of a photograph: real/train/red/3.png"}
    assert kept == {"red", "pale", "paler", "palest", "wrong"}
    assert counts["candidates"] == 7 and counts["kept"] == 6 and counts["left_out"] == {"copy of a photograph": 1}
    assert counts["copies_below"] > 0


def test_an_image_that_looks_like_another_class_is_left_out(world):
    _, out, counts = outcome(world, off_class=True)
    assert out == {"wrong": "off its class: looks like blue"}
    assert counts["judge_accuracy"] == 1.0


def test_confidence_leaves_out_what_the_judge_doubts(world):
    assert outcome(world, confidence=0.5)[1] == {"wrong": "low confidence in its class"}
    all_out = outcome(world, confidence=1.0)
    assert not all_out[0] and all_out[2]["kept"] == 0


def test_reasons_come_in_order_and_a_row_has_one(world):
    _, out, counts = outcome(world, copies=0.0, off_class=True, confidence=1.0, keep="nearest", count=1)
    assert out["copy"].startswith("copy of") and out["wrong"].startswith("off its class")
    assert counts["candidates"] == counts["kept"] + sum(counts["left_out"].values())


@pytest.mark.parametrize("keep, expected", [
    ("nearest", {"copy", "red"}), ("farthest", {"wrong", "palest"}), ("typical", {"red"}), ("coverage", {"wrong", "palest"})])
def test_keep_takes_those_it_says(world, keep, expected):
    kept, out, _ = outcome(world, keep=keep, count=len(expected))
    assert kept == expected
    assert set(out.values()) == {f"not chosen: keep={keep}"}


def test_filters_work_before_keep(world):
    assert outcome(world, off_class=True, copies=0.0, keep="farthest", count=1)[0] == {"palest"}
    assert outcome(world, off_class=True, copies=0.0, keep="nearest", part=0.25)[0] == {"red"}


def test_random_is_the_beginning_of_the_seeded_order_and_reads_no_image(world, tmp_path):
    rows = fake({"a": 40, "b": 40}, {"a": 20, "b": 20}, split=["train"] * 120)  # no such files
    half = gilt.mix(rows, mode="add", choose={"keep": "random", "part": 0.5}, seed=3).generated
    plain = gilt.mix(rows, mode="add", generated=20, seed=3).where(split="train").generated
    assert half == plain and len(half) == 20
    fewer = gilt.mix(rows, mode="add", choose={"keep": "random", "part": 0.5}, generated=8, seed=3).generated
    assert set(fewer.frame["path"]) < set(half.frame["path"]) and fewer.counts("class") == {"a": 4, "b": 4}


def test_farthest_first_covers_what_is_missing_and_repeats_nothing():
    line = np.array([[0.0], [1.0], [10.0], [10.0], [4.0], [-3.0]])
    assert list(farthest_first(line, np.array([[0.0]]), 3)) == [2, 4, 5]
    assert list(farthest_first(line, np.array([[0.0]]), 2)) == [2, 4]
    everything = farthest_first(line, np.array([[0.0]]), 99)
    assert sorted(everything) == [0, 1, 2, 3, 4, 5] and list(everything).index(3) > 3


def test_typical_is_as_far_as_photographs_are_from_each_other():
    candidates = fake({}, {"a": 4}, split=["train"] * 4)
    scores = Scores(np.zeros((4, 1)), np.zeros((1, 1)), np.array(["a"], object), np.ones(4), np.array(["p"] * 4, object),
                    np.array([0.1, 2.2, 9.0, 1.9]), {"a": 2.0})
    kept = choose(candidates, ChooseConfig(keep="typical", count=1), scores).usable
    assert list(kept.frame["path"]) == [candidates.frame["path"][3]]


def test_a_class_without_a_photograph_is_left_out_and_said(world):
    some = world.where(lambda frame: (frame["class"] == "red") | (frame["origin"] != "real") | (frame["split"] != "train"))
    _, choice = mixed(some, MixConfig(mode="add", choose=ChooseConfig(copies=0.0)), seed=0)
    assert choice.counts()["left_out"] == {"no photograph of its class": 1, "copy of a photograph": 1}


def test_the_choice_is_made_before_the_numbers_and_beside_the_arms_own_photographs(world):
    fewer = gilt.mix(world, mode="add", generated=2, choose={"off_class": True, "copies": 0.0}, seed=1).where(split="train")
    assert len(fewer.generated) == 2 and not fewer.generated.frame["path"].str.contains("copy|wrong").any()
    # an arm that takes other photographs has nothing to copy
    one = next(seed for seed in range(20) if "real/train/red/3.png" not in set(
        gilt.mix(world, max_real=4, seed=seed).where(split="train").frame["path"]))
    _, choice = mixed(world, MixConfig(mode="add", max_real=4, choose=ChooseConfig(copies=0.0)), seed=one)
    assert not choice.out.frame["path"].str.contains("copy").any()
    replaced = MixConfig(mode="replace", generated=2, choose=ChooseConfig(copies=0.0))
    rows, choice = mixed(world, replaced, seed=1)
    assert len(rows.where(split="train").real) == 14
    there = "real/train/red/3.png" in set(rows.where(split="train").frame["path"])
    assert choice.out.frame["path"].str.contains("copy").any() == there


def test_test_images_cannot_sway_the_choice(world, tmp_path):
    other = gilt.split(make_world(tmp_path, test_shade=25), seed=0)
    config = MixConfig(mode="add", choose=ChooseConfig(copies=0.2, off_class=True, keep="coverage", count=2))
    (rows, first), (changed, second) = mixed(world, config, seed=0), mixed(other, config, seed=0)
    assert rows.where(split="test") != changed.where(split="test")
    assert list(first.candidates.frame["excluded"]) == list(second.candidates.frame["excluded"])
    assert rows.where(split="train") == changed.where(split="train")


def test_older_trials_keep_their_ids_and_a_choice_has_its_own():
    plain = Trial("aug", 0, TrialConfig.model_validate({"mix": {"mode": "add"}}))
    assert plain.id("0" * 16) == OLD_ID
    chosen = Trial("aug", 0, TrialConfig.model_validate({"mix": {"mode": "add", "choose": {"copies": 0.01}}}))
    assert chosen.id("0" * 16) != OLD_ID


def test_weights_of_features_count_by_content_and_lie_beside_the_study(tmp_path):
    def trial(path):
        features = {"model": "lenet5", "weights": str(path)}
        mix = {"mode": "add", "choose": {"copies": 0.1, "features": features}}
        return Trial("aug", 0, TrialConfig.model_validate({"mix": mix}))

    for name, text in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / name).write_text(text)
    assert trial(tmp_path / "a").id("t") == trial(tmp_path / "b").id("t") != trial(tmp_path / "c").id("t")
    moved = beside(tmp_path / "study.toml", trial("a").config)
    assert moved.mix.choose.features.weights == str(tmp_path / "a")


@pytest.mark.parametrize("choose, part", [
    ({}, "mix.choose leaves nothing out"), ({"part": 0.5}, "choose.keep keeps"), ({"keep": "nearest"}, "choose.part or"),
    ({"keep": "nearest", "part": 0.5, "count": 3}, "one of the two"),
    ({"keep": "neerest", "part": 0.5}, "Did you mean 'nearest'"),
    ({"copies": 1.0}, "less than 1"), ({"keep": "coverage", "part": 0.0}, "greater than 0"),
    ({"copys": 0.1}, "Did you mean 'copies'")])
def test_a_wrong_setting_is_one_clear_error(choose, part):
    with pytest.raises(gilt.ConfigError, match=part) as caught:
        parse(MixConfig, {"mode": "add", "choose": choose}, where="birds.toml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("settings, part", [
    ({"share": 1.0, "choose": {"copies": 0.1}}, "takes none"),
    ({"mode": "add", "max_real": 1, "choose": {"copies": 0.1}}, "one only"),
    ({"mode": "add", "max_real": 1, "choose": {"off_class": True}}, "all of one"),
    ({"mode": "add", "max_real": 2, "choose": {"keep": "typical", "count": 1}}, "no class has two"),
    ({"mode": "add", "generated": 6, "choose": {"keep": "nearest", "count": 2}}, "there are 3 after mix.choose")])
def test_a_mix_that_cannot_choose_says_why(world, settings, part):
    with pytest.raises(gilt.TableError, match=part):
        gilt.mix(world, **settings)


def test_detectors_controls_and_mixes_of_rows_alone_do_not_choose(world):
    choose = ChooseConfig(copies=0.1)
    with pytest.raises(gilt.ConfigError, match="the target is the origin"):
        gilt.mix(world, choose=choose, target="origin")
    with pytest.raises(gilt.ConfigError, match=r"call gilt\.mix"):
        from gilt.data.mix import mix
        mix(world, MixConfig(mode="add", choose=choose))
    with pytest.raises(gilt.ConfigError, match=r"mix\.control and mix\.choose"):
        parse(MixConfig, {"mode": "add", "control": "duplicates", "choose": {"copies": 0.1}}, where="x")


def test_a_network_of_local_weights_can_be_what_images_are_compared_in(world, tmp_path):
    trained = gilt.train(world, gilt.TrainConfig(model="lenet5", steps=2, batch_size=8), seed=0)
    trained.save(tmp_path / "judge.safetensors")
    features = {"model": "lenet5", "weights": str(tmp_path / "judge.safetensors")}
    _, out, counts = outcome(world, copies=0.0, features=features)
    assert out["copy"] == "copy of a photograph: real/train/red/3.png" and "lenet5" in counts["features"]


def test_weights_that_have_seen_the_test_photographs_are_warned_of(world, tmp_path, caplog):
    cheat = world.with_column("split", world.frame["split"].replace("test", "train"))
    trained = gilt.train(cheat, gilt.TrainConfig(model="lenet5", steps=2, batch_size=8), seed=0)
    trained.provenance |= memory(cheat, cheat, TrialConfig())
    trained.save(tmp_path / "cheat.safetensors")
    world.save(tmp_path / "world.parquet")
    features = f'{{ model = "lenet5", weights = "{tmp_path / "cheat.safetensors"}" }}'
    text = STUDY.format(table=tmp_path / "world.parquet").split("[arms.random]")[0]
    (tmp_path / "chosen.toml").write_text(f"{text}[arms.x]\nmix.choose = {{ copies = 0.1, features = {features} }}\n")
    gilt.run_study(gilt.Study.load(tmp_path / "chosen.toml"), tmp_path / "store")
    assert "x, seed 0: mix.choose.features.weights" in caplog.text and "8 of the 8 test rows" in caplog.text


STUDY = """\
name = "chosen"
seeds = [0]
[base]
table = "{table}"
[base.train]
model = "lenet5"
steps = 2
batch_size = 8
[base.mix]
mode = "add"
[arms.real]
mix.generated = 0
[arms.all]
[arms.random]
mix.choose = {{ keep = "random", count = 2 }}
[arms.nearest]
mix.choose = {{ keep = "nearest", count = 2, copies = 0.0 }}
[arms.farthest]
mix.choose = {{ keep = "farthest", count = 2 }}
[arms.coverage]
mix.choose = {{ keep = "coverage", count = 2 }}
"""


def test_a_study_over_ways_to_choose_says_what_each_left_out(world, tmp_path):
    world.save(tmp_path / "world.parquet")
    (tmp_path / "chosen.toml").write_text(STUDY.format(table=tmp_path / "world.parquet"))
    records = gilt.run_study(gilt.Study.load(tmp_path / "chosen.toml"), tmp_path / "store")
    assert {record.state for record in records} == {"finished"}
    by_arm = {record.arm: record for record in records}
    assert {arm: record.n_generated for arm, record in by_arm.items()} == {
        "real": 0, "all": 7, "random": 3, "nearest": 3, "farthest": 3, "coverage": 3}
    assert by_arm["real"].choice == by_arm["all"].choice == {}
    assert by_arm["nearest"].choice["left_out"] == {"not chosen": 3, "copy of a photograph": 1}
    assert len({record.test_rows for record in records}) == 1
    table = gilt.write_tables(tmp_path / "store", tmp_path / "tables")
    said = next(path for path in table if path.name == "arms.md").read_text()
    assert "nearest 2 a class" in said and "3 of 7" in said
    assert "copy of a photograph" in gilt.report(tmp_path / "store").read_text()
    shown = gilt.studies.store.rows_shown(gilt.Store(tmp_path / "store"))
    assert [row["kept"] for row in shown] == [None, None, 3, 3, 3, 3]


def test_trials_that_choose_alike_choose_the_same_rows(world):
    config = TrialConfig.model_validate({"mix": {"mode": "add", "choose": {"keep": "coverage", "part": 0.5}}})
    assert prepared(world, config, seed=2)[1] == prepared(world, config, seed=2)[1]


def test_settings_are_said_in_a_few_words():
    config = ChooseConfig(copies=0.01, off_class=True, confidence=0.5, keep="coverage", part=0.5)
    assert in_words(config) == "copies 0.01, off class, confidence 0.5, coverage 0.5"


def test_gilt_mix_marks_what_it_leaves_out(world, tmp_path):
    from click.testing import CliRunner

    from gilt.cli import gilt as command
    world.save(tmp_path / "world.parquet")
    out = tmp_path / "mixed.parquet"
    result = CliRunner().invoke(command, [
        "mix", str(tmp_path / "world.parquet"), "--set", "mode=add", "--set", "choose.copies=0.0", "--set",
        "choose.off_class=true", "--set", "choose.keep=farthest", "--set", "choose.count=1", "--set", "balance=over",
        "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert "1 copy of a photograph" in result.output and "3 not chosen" in result.output
    marked = gilt.ImageTable.load(out)
    assert len(marked.where(lambda frame: frame["excluded"].notna())) == 5
    assert len(marked.usable.where(split="train").generated) == 2
    again = gilt.mix(marked, mode="add", seed=0)
    assert len(again.where(split="train").generated) == 2
