"""Worth: a study's records to exchange rates, verdicts in words, the page, the command."""
import json
import re

import numpy as np
import pytest

import gilt
from gilt.cli import main
from gilt.reports.worth import HEADER, worth_page, worth_rows, worth_section
from gilt.studies.runner import run_study
from gilt.studies.store import TrialRecord
from gilt.studies.study import Study
from gilt.studies.worth import worth
from gilt.studies.worth_words import break_even, seeds_for

SIZES = (250, 500, 1000, 2000, 4000)
ADD = {"mode": "add"}


def law(n):
    return 0.3 + 4 * n**-0.35


def record(arm, seed, error, n, m=0, *, train=None, target="class", test_rows="x", generators=None,
           **mix):
    config = {"target": target, "generators": generators, "mix": mix, "train": {"steps": 500} | (train or {})}
    test = {"metrics": {"accuracy": {"value": 1 - error}, "loss": {"value": 3 * error}}}
    return TrialRecord(id=f"{arm}{seed}", study="s", arm=arm, seed=seed, state="finished", target=target, config=config,
                       table="", started="", seconds={}, n_real=n, n_generated=m, test_rows=test_rows, test=test)


def study(*arms, seeds=6, noise=0.006, sizes=SIZES, draw=0, **more):
    """Return records of real-only arms on a known curve, and of arms (name, n, m, true worth, mix)."""
    rng, records = np.random.default_rng(draw), []
    for seed in range(seeds):
        level = rng.normal(0, 0.01)
        rows = [(f"real-{n}", n, 0, 0.0, {}) for n in sizes] + list(arms)
        records += [record(arm, seed, law(n + rho * m) + level + rng.normal(0, noise), n, m, **more, **mix)
                    for arm, n, m, rho, mix in rows]
    return records


@pytest.mark.parametrize("n, m, rho, mix, mode, formula", [
    (1000, 1000, 0.4, ADD, "add", lambda n_eq, n, m: (n_eq - n) / m),
    (600, 400, 0.5, {"mode": "replace", "generated": 400}, "replace", lambda n_eq, n, m: 1 - (n + m - n_eq) / m),
    (0, 2000, 0.4, {"share": 1.0}, "ai", lambda n_eq, n, m: n_eq / m),
    (500, 500, 0.6, {"share": 0.5}, "add", lambda n_eq, n, m: (n_eq - n) / m)])
def test_worth_is_the_methods_formula_in_every_mode(n, m, rho, mix, mode, formula):
    found = worth(study(("aug", n, m, rho, mix))).arms[0]
    assert (found.mode, found.n, found.m) == (mode, n, m)
    assert found.rho.value == pytest.approx(formula(found.n_eq.value, n, m))
    assert found.rho.low < rho < found.rho.high
    assert found.verdict == "gain"
    assert found.seeds == (0, 1, 2, 3, 4, 5)
    assert len(found.seeds_n_eq) == 6


def test_the_verdict_is_a_plain_sentence_first():
    said = worth(study(("aug", 1000, 400, 0.5, ADD))).sentences
    assert re.fullmatch(r"Adding 400 generated images to 1,000 photographs did for this model what \d+ to \d+ more photographs "
                        r"would have done \(95 % interval, 6 seeds\): one generated image is worth 0\.\d\d to 0\.\d\d "
                        r"photographs\.", said[0])


@pytest.mark.parametrize("arm, verdict, words", [
    (("aug", 1000, 500, 0.0, ADD), "unshown",
     r"no gain could be shown\. One generated image is worth -\S+ to 0\.\d+ photographs"),
    (("aug", 2000, 1000, -0.8, ADD), "harm",
     r"harmed this model as much as taking away \d+ to [\d,]+ of its 2,000 photographs"),
    (("aug", 1000, 1000, 9.0, ADD), "gain",
     r"at least 3,000 more .* worth at least 3\.00 photographs\. The learning curve ends at 4,000 photographs: beyond that"),
    (("ai", 0, 1000, 0.05, {"share": 1.0}), "unshown",
     r"no worth could be shown\. One generated image is worth at most 0\.25 .*The learning curve begins at 250 photographs"),
    (("rep", 500, 500, 0.5, {"mode": "replace", "share": 0.5}), "gain",
     r"Replacing 500 of 1,000 photographs by generated images left this model as good as \d+ to \d+ photographs"),
    (("aug", 4000, 1000, 5.0, ADD), "gain", r"helped this model; how much cannot be said"),
    (("aug", 250, 1000, -0.15, ADD), "harm", r"harmed this model; how much cannot be said")])
def test_bounds_nothing_shown_and_harm_have_words_of_their_own(arm, verdict, words):
    found = worth(study(arm))
    assert found.arms[0].verdict == verdict
    assert re.search(words, found.sentences[0]), found.sentences[0]


def test_one_seed_gives_no_verdict():
    found = worth(study(("aug", 1000, 1000, 0.5, ADD), ("far", 1000, 1000, 9.0, ADD), seeds=1))
    assert [arm.verdict for arm in found.arms] == ["unknown", "unknown"]
    assert "one seed, no interval, no verdict" in found.sentences[0]
    assert "better than 4,000 photographs, where the learning curve ends; one seed" in found.sentences[1]


def test_few_seeds_and_wide_intervals_are_said_with_the_seeds_that_would_do():
    three = " ".join(worth(study(("aug", 1000, 1000, 0.5, ADD), seeds=3)).sentences)
    assert "With 3 seeds the intervals are wide; 6 or more are better." in three
    found = worth(study(("aug", 1000, 1000, 0.5, ADD), noise=0.02))
    width = found.arms[0].rho.high - found.arms[0].rho.low
    seeds = int(re.search(r"one of 0.2 would take about ([\d,]+) seeds", " ".join(found.sentences))[1].replace(",", ""))
    assert seeds == seeds_for(0.2, width, 6)
    assert seeds > 6
    assert seeds_for(1.0, 1.0, 6) == 6


@pytest.mark.parametrize("control, rho, verdict", [
    ("held_back", 1.0, "holds"), ("held_back", 0.5, "fails"), ("duplicates", 0.0, "holds"), ("duplicates", 0.4, "fails"),
    ("duplicates", -0.4, "fails"), ("shuffled", -0.4, "holds"), ("shuffled", 0.0, "holds"), ("shuffled", 0.5, "fails")])
def test_a_control_that_fails_stands_above_the_verdict(control, rho, verdict):
    posed = ("check", 1000, 1000, rho, ADD | {"control": control})
    found = worth(study(("aug", 1000, 1000, 0.3, ADD), posed, draw=2))
    assert found.controls[0].verdict == verdict
    assert [arm.arm for arm in found.arms] == ["aug"]
    first = found.sentences[0]
    if verdict == "fails":
        assert first.startswith("A control failed: 1,000 ")
        assert "cannot be taken at their word" in found.sentences[1]
    else:
        assert first.startswith("Adding 1,000 generated images")
        assert any(text.startswith("A control holds: 1,000 ") for text in found.sentences)


def test_a_control_that_could_come_to_anything_says_nothing():
    found = worth(study(("check", 1000, 200, 1.0, ADD | {"control": "held_back"}), noise=0.03))
    assert found.controls[0].verdict == "vague"
    assert "A control says nothing" in found.sentences[0]


def test_copies_are_no_control_where_epochs_are_fixed():
    posed = ("check", 1000, 1000, 0.5, ADD | {"control": "duplicates"})
    found = worth(study(posed, train={"steps": None}))
    assert found.controls[0].verdict == "none"
    assert "here the epochs are fixed, so copies also mean more steps" in found.sentences[0]
    assert any("epochs are fixed, so arms with more rows also took more optimiser steps" in text for text in found.sentences)


def test_without_a_control_the_notes_say_so():
    assert any("No control was run" in text for text in worth(study(("aug", 1000, 400, 0.5, ADD))).sentences)


def test_gains_of_different_generators_are_no_curve():
    arms = [(f"{name}-{m}", 500, m, rho * np.exp(-m / 4000), {**ADD, "generators": [name]})
            for name, rho in (("flow", 0.8), ("gan", 0.2)) for m in (100, 400)]
    assert not worth(study(*arms, noise=0.002)).settings[0].saturation
    arms += [(f"{name}-1600", 500, 1600, rho * np.exp(-1600 / 4000), {**ADD, "generators": [name]})
             for name, rho in (("flow", 0.8), ("gan", 0.2))]
    found = worth(study(*arms, noise=0.002))
    levels = found.settings[0].saturation
    assert set(levels) == {("add", 500, "flow"), ("add", 500, "gan")}
    assert levels["add", 500, "flow"].rate.value > 2 * levels["add", 500, "gan"].rate.value
    assert any(text.startswith("Added to 500 photographs (flow)") for text in found.sentences)


def test_gains_that_level_off_are_found_and_what_to_buy():
    arms = [(f"aug-{m}", 500, m, 700 * (1 - np.exp(-0.8 * m / 700)) / m, ADD) for m in (100, 400, 1600, 3200)]
    found = worth(study(*arms, noise=0.002))
    levels = found.settings[0].saturation["add", 500, ""]
    assert levels.rate.low < 0.8 < levels.rate.high
    assert levels.ceiling.low < 700 < levels.ceiling.high
    assert any("The gain levels off" in text for text in found.sentences)
    bought = found.break_even(1.0, 0.1)
    assert any(re.search(r"500 photographs: buy about 1,[6-9]\d0 generated images", text) for text in bought)
    assert "aug-3200: worth 0.2" in bought[4]
    assert bought[4].endswith("so it pays.")
    assert any(text.endswith("so it does not pay.") for text in break_even(found, 1.0, 0.9))
    for costs in ((0, 1), (1, -1), (float("nan"), 1)):
        with pytest.raises(gilt.ConfigError, match="costs are those of one photograph"):
            found.break_even(*costs)


def test_the_loss_has_a_worth_too():
    found = worth(study(("aug", 1000, 1000, 0.4, ADD)), metric="loss")
    assert found.arms[0].rho.low < 0.4 < found.arms[0].rho.high
    assert any("Error is the test loss" in text for text in found.sentences)


def test_each_way_of_training_has_a_curve_of_its_own():
    both = study(("aug", 1000, 1000, 0.4, ADD), train={"model": "lenet5"})
    other = study(("aug-t", 1000, 1000, 0.1, ADD), train={"model": "thesis2"})
    other = [r.model_copy(update={"arm": r.arm.replace("real", "t")}) for r in other]
    lonely = [record("alone", 0, 0.5, 1000, 100, train={"model": "thesis1"}, **ADD)]
    found = worth([*both, *other, *lonely])
    assert [setting.name for setting in found.settings] == ["model=lenet5", "model=thesis2"]
    assert [arm.arm for arm in found.arms] == ["aug", "aug-t"]
    assert "(model=lenet5)" in found.sentences[0]
    assert any("Not valued: alone (a learning curve needs at least 3 sizes" in text for text in found.sentences)


def test_only_seeds_on_the_same_test_photographs_are_paired():
    records = study(("aug", 1000, 1000, 0.4, ADD))
    records = [r.model_copy(update={"test_rows": "y"}) if r.arm == "aug" and r.seed < 2 else r for r in records]
    assert worth(records).arms[0].seeds == (2, 3, 4, 5)
    records = [r.model_copy(update={"test_rows": "z"}) if r.arm == "aug" else r for r in records]
    found = worth(records)
    assert found.settings[0].left_out == {"aug": "shares no seed and test photographs with the learning curve"}
    assert any("Not valued: aug" in text for text in found.sentences)


def test_a_running_study_is_valued_on_the_seeds_that_are_whole():
    records = [r for r in study(("aug", 1000, 1000, 0.4, ADD)) if not (r.seed == 5 and r.arm == "real-2000")]
    assert worth(records).settings[0].curve.seeds == (0, 1, 2, 3, 4)


def test_two_sizes_give_a_line_and_say_so():
    said = " ".join(worth(study(("aug", 1000, 200, 0.4, ADD), sizes=(1000, 2000))).sentences)
    assert "The learning curve has 2 sizes only and is taken to be straight between them" in said


def test_a_curve_that_does_not_fall_gives_no_exchange_rate():
    records = [record(f"real-{n}", s, 0.5 + 0.01 * ((s * 7 + n) % 3), n) for s in range(6) for n in SIZES]
    records += [record("aug", s, 0.5 + 0.01 * (s % 3), 1000, 500, mode="add") for s in range(6)]
    assert any("there is no exchange rate to speak of" in text for text in worth(records).sentences)


@pytest.mark.parametrize("records, settings, part", [
    (study(sizes=(500,)), {}, r"at least 3 sizes of real-only arms \(there is real-500: 500 photographs\): add arms with mix"),
    ([record("aug", 0, 0.5, 100, 100, mode="add")], {}, r"\(there is none\)"),
    (study(target="origin"), {}, "this study's target is the origin"), ([], {}, "no finished trial has the metric 'accuracy'"),
    (study(), {"metric": "acuracy"}, "no metric 'acuracy' .*Did you mean 'accuracy'"),
    (study(), {"curve": "power"}, "no learning curve 'power'"), (study(), {"way": "pairwise"}, "no way 'pairwise' .*paired"),
    ([r.model_copy(update={"test_rows": r.arm}) for r in study()], {}, "no seed has all 5 real-only arms finished")])
def test_what_is_missing_is_said_in_one_line(records, settings, part):
    with pytest.raises(gilt.ConfigError, match=part) as caught:
        worth(records, **settings)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def valued():
    arms = [("aug", 1000, 1000, 0.4, ADD), ("far", 1000, 1000, 9.0, ADD), ("ai", 0, 2000, 0.05, {"share": 1.0}),
            ("copies", 1000, 1000, 0.6, ADD | {"control": "duplicates"})]
    return worth(study(*arms))


def test_the_page_has_the_failed_control_then_the_verdict_then_the_curve(valued, tmp_path):
    page = worth_page(valued, to=tmp_path / "w.html", title="birds & co", command="gilt worth x", bought=["buy"]).read_text()
    order = [page.index(text) for text in ("A control failed", "Adding 1,000 generated images", "<svg", "at least 4,000",
                                           "extrapolated", "What it may cost", "gilt worth x")]
    assert order == sorted(order)
    assert not re.findall(r"(?:src|href)=[\"'](?!data:|#)", page)
    assert "birds &amp; co" in page


def test_the_picture_is_the_same_for_the_same_study_and_names_every_arm(valued):
    picture = worth_section(valued)["worth_settings"][0]["picture"]
    assert picture == worth_section(valued)["worth_settings"][0]["picture"]
    for name in ("aug", "far", "copies", "photographs trained on", "worth of one image"):
        assert name in picture


def test_the_table_has_controls_last_and_bounds_in_words(valued):
    rows = worth_rows(valued)
    assert [len(row) for row in rows] == [len(HEADER)] * 4
    assert [row[0] for row in rows] == ["aug", "far", "ai", "copies"]
    assert rows[1][5:7] == ["at least 4,000", "at least 3.00"]
    assert rows[2][5:7] == ["at most 250", "at most 0.12"]
    assert rows[3][1] == "control: duplicates"


def test_everything_is_json_without_what_json_lacks(valued):
    text = json.dumps(valued.as_json(), allow_nan=False)
    found = json.loads(text)["settings"][0]
    assert found["curve"]["form"] == valued.settings[0].curve.why.form
    assert [arm["rho"]["high"] is None for arm in found["arms"]] == [False, True, False, False]


STUDY = """\
# What are pale birds worth?
name = "worth"
seeds = [0]

[base]
table = "birds.parquet"
target = "class"

[base.split]
train = 0.5
val = 0.1
test = 0.4

[base.train]
model = "lenet5"
steps = 6
batch_size = 8

[arms.r8]
mix.max_real = 8

[arms.r14]
mix.max_real = 14

[arms.r24]
mix.max_real = 24

[arms.aug]
mix = { mode = "add", max_real = 8, generated = 10 }

[arms.held-back]
mix = { mode = "add", max_real = 8, generated = 6, control = "held_back" }

[arms.duplicates]
mix = { mode = "add", max_real = 8, generated = 12, control = "duplicates" }

[arms.shuffled]
mix = { mode = "add", max_real = 8, generated = 6, control = "shuffled" }
"""


@pytest.fixture(scope="module")
def run(bird_table, tmp_path_factory):
    """A real study with the three controls: (its store's folder, its records)."""
    home = tmp_path_factory.mktemp("worth")
    bird_table.save(home / "birds.parquet")
    (home / "s.toml").write_text(STUDY)
    return home / "store", run_study(Study.load(home / "s.toml"), home / "store")


def test_control_arms_are_run_recorded_and_paired_like_any_other(run):
    folder, records = run
    assert {r.state for r in records} == {"finished"}
    by_arm = {(r.arm, r.seed): r for r in records}
    assert (by_arm["duplicates", 0].n_real, by_arm["duplicates", 0].n_generated) == (8, 12)
    rows = {arm: gilt.ImageTable.load(folder / "trials" / f"{by_arm[arm, 0].id}.rows.parquet")
            for arm in ("r8", "held-back", "duplicates", "shuffled", "aug")}
    plain = rows["r8"].where(split="train")
    assert all(table.where(split="train").real == plain for table in rows.values())
    assert len({by_arm[arm, 0].test_rows for arm in rows}) == 1
    found = worth(folder)
    assert [arm.control for arm in found.controls] == ["held_back", "duplicates", "shuffled"]
    assert found.settings[0].curve.sizes.tolist() == [8, 14, 24]


@pytest.fixture
def command(capsys):
    """Run `gilt worth ...` and return its exit code, standard output and standard error."""
    def go(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main(["worth", *map(str, arguments)])
        return stopped.value.code, *capsys.readouterr()

    return go


def test_the_command_prints_the_verdict_and_writes_the_page(run, tmp_path, command):
    folder, _ = run
    code, out, err = command(folder, "--cost", "1", "0.1", "--html", tmp_path / "w.html")
    assert (code, err) == (0, f"wrote {tmp_path / 'w.html'}\n")
    assert "as good as" in out
    assert "a generated image must be worth more than 0.1 photographs" in out
    assert "<svg" in (tmp_path / "w.html").read_text()
    found = json.loads(command(folder, "--json", "--curve", "power2")[1])
    assert found["settings"][0]["curve"]["form"] == "power2"


def test_the_commands_errors_are_one_line(run, tmp_path, command):
    folder, _ = run
    for arguments, part in (((tmp_path,), "holds no study"), ((folder, "--metric", "acc"), "no metric 'acc'"),
                            ((folder, "--cost", "0", "1"), "costs are those of one photograph"),
                            ((folder, "--html", tmp_path), "is a folder")):
        code, _, err = command(*arguments)
        assert code == 2
        assert part in err
        assert len(err.splitlines()) == 1
