"""Comparing arms and data sets: Holm, McNemar, the probability of being better, the best set, seeds planned, the commands."""
import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy import stats

import gilt
from conftest import write_study
from gilt.cli import gilt as command
from gilt.cli import main
from gilt.evaluation.predictions import Predictions
from gilt.evaluation.significance import mcnemar
from gilt.reports.ranks import ranks_picture, write_ranks
from gilt.studies.across import across
from gilt.studies.best import best_sentences, best_sets
from gilt.studies.compare import compare, effect_rows, verdicts
from gilt.studies.plan import plan, plan_sentences
from gilt.studies.store import Store


def record(arm, seed, accuracy, val=None, **fields):
    def evaluation(value):
        return None if value is None else {"metrics": {"accuracy": {"value": value}, "loss": {"value": 1 - value}}}

    known = {"val_set": "Real", "n_val": 50, "config": {}, "train_set": arm, **fields}
    return gilt.TrialRecord(id=f"{arm}{seed}", study="s", arm=arm, seed=seed, state="finished", target="class", table="",
                            started="", seconds={}, test=evaluation(accuracy), val=evaluation(val), **known)


def many(gains, seeds=6, noise=0.01, **fields):
    """Records of a benchmark at 0.7 and arms this much better, under seeds with a little noise of their own."""
    rng = np.random.default_rng(0)
    return [record(arm, seed, *(0.7 + gain + rng.normal(0, noise, 2)), **fields)
            for seed in range(seeds) for arm, gain in {"real": 0.0, **gains}.items()]


def write_store(folder, name, records, *, predictions=None, **summary):
    """A study's store as it lies on disk, from records."""
    (folder / "trials").mkdir(parents=True)
    arms = {r.arm: {"classes": None} for r in records}
    (folder / "study.json").write_text(json.dumps({
        "kind": "study", "name": name, "metric": "accuracy", "benchmark": "real", "arms": arms, "fingerprint": name,
        "trials": [{"arm": r.arm, "seed": r.seed, "id": r.id} for r in records], **summary}))
    store = Store(folder)
    for r in records:
        store.write(r)
    for trial, found in (predictions or {}).items():
        found.save(store.path(trial, "test.parquet"))
    return store


def answers(right):
    """Predictions of wren or robin for as many wrens, some of them right."""
    logits = np.array([[2.0, 0.0] if r else [0.0, 1.0] for r in right], np.float32)
    n = len(right)
    paths = [f"{i}.png" for i in range(n)]
    return Predictions(paths, ["real"] * n, ["wren"] * n, logits, [None] * n, ("wren", "robin"), "class")


def test_p_values_are_corrected_for_the_number_of_arms_as_statsmodels_does():
    multipletests = pytest.importorskip("statsmodels.stats.multitest").multipletests
    effects = compare(many({"a": 0.02, "b": 0.01, "c": 0.0, "d": 0.005}), "real")
    assert [e.arms for e in effects] == [4] * 4
    assert [e.p_holm for e in effects] == pytest.approx(list(multipletests([e.p_t for e in effects], method="holm")[1]))
    for effect in effects:
        assert effect.p_t == pytest.approx(stats.ttest_1samp(effect.differences, 0).pvalue)


def test_an_arm_that_beats_the_benchmark_alone_may_only_match_it_among_many():
    differences = (0.05, 0.02, 0.06, 0.03, 0.0, 0.02)
    one = [record("real", s, 0.7) for s in range(6)] + [record("a", s, 0.7 + d) for s, d in enumerate(differences)]
    assert compare(one, "real")[0].verdict == "beats"
    rng = np.random.default_rng(1)
    others = [record(f"o{i}", s, 0.7 + rng.normal(0, 0.02)) for i in range(9) for s in range(6)]
    effect = next(e for e in compare(one + others, "real") if e.arm == "a")
    assert effect.low > 0
    assert effect.p_t < 0.05 <= effect.p_holm
    assert effect.verdict == "matches"
    said = verdicts(one + others, "real")
    assert any("a matches real" in text and "leaves zero out, but not once corrected for 10 arms" in text for text in said)
    assert any("10 arms being held against the benchmark (Holm)" in text for text in said)
    assert any("if compared alone: more seeds, or fewer arms, would tell" in text for text in said)


def test_one_arm_needs_no_correction_and_no_word_of_it():
    records = many({"a": 0.05})
    effect = compare(records, "real")[0]
    assert effect.p_holm == effect.p_t
    assert not any("Holm" in text for text in verdicts(records, "real"))


def test_single_runs_have_mcnemars_test_of_their_stored_predictions(tmp_path):
    rng = np.random.default_rng(0)
    right = {arm: rng.random(200) < chance for arm, chance in (("real", 0.5), ("a", 0.7), ("b", 0.5))}
    records = [record(arm, 0, float(own.mean())) for arm, own in right.items()]
    store = write_store(tmp_path / "s", "s", records, predictions={f"{arm}0": answers(own) for arm, own in right.items()})
    a, b = compare(store, "real")
    assert a.mcnemar == mcnemar(right["a"], right["real"])
    assert (a.verdict, a.p, a.low) == ("unknown", None, None)
    assert a.p_holm == pytest.approx(min(1, 2 * a.mcnemar.p))
    assert b.p_holm == pytest.approx(max(b.mcnemar.p, a.p_holm))
    said = verdicts(store, "real")[1]
    only = (right["a"] & ~right["real"]).sum()
    assert "On this test set only: of 200 images" in said
    assert f"a alone has {only} right" in said
    assert "no verdict" in said
    assert compare(records, "real")[0].mcnemar is None  # records alone know no images


def test_several_seeds_have_no_mcnemar(tmp_path):
    right = np.arange(40) % 3 > 0
    records = [record(arm, s, 0.7) for arm in ("real", "a") for s in (0, 1)]
    store = write_store(tmp_path / "s", "s", records, predictions={r.id: answers(right) for r in records})
    assert compare(store, "real")[0].mcnemar is None


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_the_probability_of_being_better_is_over_seeds_and_images(tmp_path, metric):
    rng = np.random.default_rng(0)
    right = {f"{arm}{s}": rng.random(100) < chance for arm, chance in (("real", 0.5), ("a", 0.56)) for s in range(4)}
    records = [record(name[:-1], int(name[-1]), float(own.mean())) for name, own in right.items()]
    store = write_store(tmp_path / "s", "s", records, predictions={name: answers(own) for name, own in right.items()})
    found, alone = (compare(of, "real", metric=metric)[0].better for of in (store, records))
    assert (found.images, alone.images, found.n) == (True, False, 4)
    assert alone.value in (0, 0.25, 0.5, 0.75, 1)
    expected = []
    for s in range(4):
        gains = right[f"a{s}"].astype(float) - right[f"real{s}"]
        drawn = rng.choice(gains, (5000, 100)).sum(1)
        expected.append((drawn > 0).mean() + (drawn == 0).mean() / 2)
    assert found.value == pytest.approx(np.mean(expected), abs=0.06)


def test_predictions_of_other_images_are_not_paired(tmp_path):
    other = answers([True, False])
    other.path[0] = "elsewhere.png"
    records = [record("real", 0, 0.5), record("a", 0, 0.5)]
    store = write_store(tmp_path / "s", "s", records, predictions={"real0": answers([True, False]), "a0": other})
    effect = compare(store, "real")[0]
    assert effect.mcnemar is None
    assert not effect.better.images


def test_arms_can_be_compared_on_val_rows_which_must_be_the_same():
    records = [record("real", s, 0.7, 0.7, val_rows="x") for s in range(3)]
    records += [record("a", s, 0.7, 0.8 + s / 100, val_rows="x") for s in range(3)]
    records += [record("b", s, 0.7, 0.9 + s / 100, val_rows="y") for s in range(3)]
    assert [e.arm for e in compare(records, "real", part="val")] == ["a"]
    assert compare(records, "real", part="val")[0].mean == pytest.approx(11)
    assert "of val accuracy" in verdicts(records, "real", part="val")[1]


def test_the_best_set_is_chosen_on_validation_and_reported_on_test():
    values = {"real": (0.60, 0.9), "a": (0.80, 0.5), "b": (0.795, 0.5), "c": (0.5, 0.5)}
    rng = np.random.default_rng(0)
    records = [record(arm, s, test + rng.normal(0, 0.01), val + rng.normal(0, 0.01))
               for s in range(6) for arm, (val, test) in values.items()]
    best = best_sets(records)[0]
    assert {tested.arm for tested in best.arms} == {"a", "b"}  # though on test the benchmark is far ahead
    assert len(best.candidates) == 4
    first = best.arms[0]
    known = [r.metric("accuracy") for r in records if r.arm == first.arm]
    assert (first.test, first.low, first.high) == pytest.approx(
        (np.mean(known), *stats.t.interval(0.95, 5, np.mean(known), stats.sem(known))))
    assert "Best shares, chosen on validation:" in best_sentences(records)[0]
    assert "(of 4); on test, accuracy: " in best_sentences(records)[0]


def test_the_best_set_needs_more_than_one_argmax_can_give():
    rng = np.random.default_rng(0)
    records = [record(arm, s, 0.7, 0.7 + rng.normal(0, 0.05)) for s in range(4) for arm in ("real", "a", "b")]
    assert len(best_sets(records)[0].arms) == 3
    assert "none of 3 can be ruled out over 4 seeds" in best_sentences(records)[0]
    one = [r for r in records if r.seed == 0]
    assert "under one seed. Nothing tells it from the others" in best_sentences(one)[0]


def test_the_lowest_loss_is_the_best():
    records = [record(arm, s, 0.7, val + s / 1000) for s in range(6) for arm, val in (("real", 0.7), ("a", 0.9))]
    noisy = [r.model_copy(update={"val": {"metrics": {"loss": {"value": (0.3 if r.arm == "real" else 0.1) + 0.01 * (
        (r.seed * 7 + len(r.arm)) % 5)}}}}) for r in records]
    assert [tested.arm for tested in best_sets(noisy, metric="loss")[0].arms] == ["a"]


def test_arms_with_other_val_rows_have_a_best_set_of_their_own():
    records = many({"a": 0.1}) + [r.model_copy(update={"arm": f"ai-{r.arm}", "val_set": "AI"}) for r in many({"a": 0.1})]
    lone = [record("alone", s, 0.7, 0.99, val_set="Aug(50-50)") for s in range(6)]
    found = best_sets(records + lone)
    assert [best.val_set for best in found] == ["Real", "AI"]
    said = best_sentences(records + lone)
    assert "validation (Real val rows): " in said[0]
    assert "validation (AI val rows): " in said[1]
    assert "Without others to choose from: alone" in said[2]


def test_a_control_is_no_candidate_for_the_best():
    records = many({"a": 0.05}) + [record("control", s, 0.99, 0.99, config={"mix": {"control": "held_back"}}) for s in range(6)]
    assert "control" not in best_sets(records)[0].candidates


def test_without_val_rows_nothing_is_chosen():
    records = [record(arm, s, 0.7) for arm in ("real", "a") for s in range(3)]
    assert best_sets(records) == []
    assert "test rows are not for choosing" in best_sentences(records)[0]


def test_the_plan_holds_for_the_spread_that_it_starts_from():
    effects = compare(many({"a": 0.02, "b": 0.0}, seeds=4), "real")
    for planned, effect in zip(plan(effects, 1.0), effects, strict=True):
        assert planned.now == pytest.approx(effect.high - effect.low)
        width = 2 * stats.t.ppf(0.975, planned.needed - 1) * planned.sd / planned.needed**0.5
        assert width <= 1.0
        assert planned.few <= planned.needed <= planned.many
    said = plan_sentences(effects, 1.0)[0]
    widest = max(plan(effects, 1.0), key=lambda p: p.needed)
    assert f"4 seeds gave an interval {widest.now:.1f} points wide ({widest.arm}); for 1 points plan about" in said
    assert f"plan about {widest.needed} seeds (between {widest.few} and {widest.many:,}" in said
    assert "4 seeds are enough" in plan_sentences(effects, 100.0)[0]
    assert plan_sentences(compare([record("real", 0, 0.5), record("a", 0, 0.6)], "real")) == []


def data_sets(tmp_path, count, *, arms=("real", "a", "b"), seeds=2):
    rng = np.random.default_rng(0)
    return [write_store(tmp_path / f"d{i}", f"d{i}", [
        record(arm, s, 0.5 + 0.1 * k + 0.02 * i + rng.normal(0, 0.005)) for s in range(seeds) for k, arm in enumerate(arms)])
        for i in range(count)]


def test_arms_are_ranked_over_data_sets_as_scipy_does(tmp_path):
    found = across(data_sets(tmp_path, 6))
    assert (found.arms, found.datasets) == (("real", "a", "b"), tuple(f"d{i}" for i in range(6)))
    assert found.ranks == pytest.approx([3, 2, 1])
    assert found.ranking.statistic == pytest.approx(stats.friedmanchisquare(*found.values.T).statistic)
    assert "the arms differ in test accuracy" in found.sentences[0]
    assert "b over real" in found.sentences[1]
    assert "Demsar advises more than 10" in found.sentences[2]


def test_two_data_sets_are_too_few_and_it_is_said(tmp_path):
    said = across(data_sets(tmp_path, 2)).sentences
    assert "no difference between the arms is shown" in said[0]
    assert "Friedman's p cannot be below 0.17, whatever the figures: 3 data sets or more are needed" in said[1]


def test_two_arms_have_wilcoxons_test(tmp_path):
    found = across(data_sets(tmp_path, 5, arms=("real", "a")))
    assert found.ranking is None
    assert found.wilcoxon == pytest.approx(stats.wilcoxon(found.values[:, 0], found.values[:, 1]).pvalue)
    assert "a has the better test accuracy on 5 of 5 data sets" in found.sentences[0]
    assert "cannot be below 0.062" in found.sentences[1]


def test_the_same_images_twice_are_no_two_data_sets(tmp_path):
    one = data_sets(tmp_path, 1)[0]
    other = write_store(tmp_path / "again", "again", [r.model_copy() for r in one.records()], fingerprint="d0")
    assert any("hold the same images" in text for text in across([one, other]).sentences)


def test_stores_without_common_arms_are_refused(tmp_path):
    a = write_store(tmp_path / "a", "a", many({"x": 0.1}))
    b = write_store(tmp_path / "b", "b", many({"y": 0.1}))
    with pytest.raises(gilt.StoreError, match=r"share fewer than two arms with a test accuracy: .* real, x; .* real, y"):
        across([a, b])
    with pytest.raises(gilt.ConfigError, match="no finished arm with a test accuracy fits 'z'"):
        across([a, b], arms=["z"])
    with pytest.raises(gilt.StoreError, match="two stores or more"):
        across([a])


@pytest.mark.parametrize("ending", [".svg", ".png", ".csv", ".md"])
def test_ranks_are_written_as_the_ending_says(tmp_path, ending):
    found = across(data_sets(tmp_path, 6))
    path = write_ranks(found, tmp_path / f"ranks{ending}")
    if ending == ".png":
        with Image.open(path) as picture:
            assert picture.size[0] > 500
    elif ending == ".svg":
        text = path.read_text()
        assert text == ranks_picture(found)
        assert "critical difference" in text
        assert all(f">{arm}" in text or f"{arm}<" in text for arm in found.arms)
    else:
        assert len(path.read_text().splitlines()) == {".csv": 1 + 3 * 6, ".md": 2 + 3}[ending]


def invoke(*words):
    return CliRunner().invoke(command, [*map(str, words)], catch_exceptions=False)


def test_the_commands_say_what_the_functions_say(tmp_path):
    store = write_store(tmp_path / "s", "s", many({"a": 0.05, "b": 0.0}, seeds=3))
    out = invoke("study", "compare", store.folder).stdout
    for sentence in [*verdicts(store, "real"), *best_sentences(store), *plan_sentences(compare(store, "real"))]:
        assert sentence in out
    assert all(name in out for name in effect_rows(compare(store, "real"))[0])
    data = json.loads(invoke("study", "compare", store.folder, "--json", "--benchmark", "a").stdout)
    assert (data["benchmark"], [e["arm"] for e in data["effects"]]) == ("a", ["real", "b"])
    assert "plan about" in invoke("study", "plan", store.folder, "--width", "0.5").stdout
    rows = json.loads(invoke("study", "plan", store.folder, "--width", "0.5", "--arm", "b", "--json").stdout)
    assert [row["arm"] for row in rows] == ["b"]


def test_the_command_over_several_stores_draws_the_ranks(tmp_path):
    folders = [store.folder for store in data_sets(tmp_path, 4)]
    result = invoke("study", "compare", *folders, "-o", tmp_path / "r.svg")
    assert "mean rank" in result.stdout
    assert (tmp_path / "r.svg").exists()
    assert json.loads(invoke("study", "compare", *folders, "--json").stdout)["ranks"] == [3, 2, 1]


@pytest.mark.parametrize("words, line", [
    (["compare", "S", "--benchmark", "reel"], "no arm 'reel' in .* Did you mean 'real'"),
    (["compare", "S", "--metric", "acuracy"], "no metric 'acuracy' .*Did you mean 'accuracy'"),
    (["compare", "S", "-o", "x.svg"], "--arms and --output are for several stores"),
    (["compare", "S", "T", "--benchmark", "real"], "--benchmark is for one store"),
    (["compare", "S", "S", "-o", "x.pdf"], "ranks are written as .png, .svg, .csv, .md, not .pdf"),
    (["plan", "S", "--width", "-1"], "a number above 0, not -1"), (["plan", "S", "--arm", "A"], "no arm 'A' is compared"),
    (["plan", "T"], "no arm has one yet"), (["compare", "nowhere"], "holds no study")])
def test_a_wrong_command_is_one_clear_line(tmp_path, monkeypatch, capsys, words, line):
    monkeypatch.chdir(tmp_path)
    write_store(tmp_path / "S", "s", many({"a": 0.05}))
    write_store(tmp_path / "T", "t", [record("real", 0, 0.5), record("a", 0, 0.6)])
    with pytest.raises(SystemExit) as ended:
        main(["study", *words])
    assert ended.value.code == 2
    import re
    error = capsys.readouterr().err
    assert re.search(line, error), error
    assert error.count("\n") == 1


def test_a_study_that_was_run_has_its_best_set_and_its_val_rows_in_the_report(bird_table, tmp_path):
    bird_table.save(tmp_path / "birds.parquet")
    file = write_study(tmp_path / "birds.toml", tmp_path / "birds.parquet", seeds=(0, 1), epochs=1)
    records = gilt.run_study(gilt.Study.load(file), tmp_path / "store")
    for seed in (0, 1):
        assert len({r.val_rows for r in records if r.seed == seed}) == 1
    effect = compare(tmp_path / "store", "real")[0]
    assert effect.better.images
    page = gilt.report(tmp_path / "store").read_text()
    for text in (*best_sentences(tmp_path / "store"), "corrected p (Holm)", "P(better)", "sign-flip p"):
        assert text.replace("<", "&lt;") in page
    with pytest.raises(gilt.ConfigError, match="no metric"):
        best_sets(records, metric="acc")
