"""Drill-down: classes and images that an arm helped or hurt, and what validating on generated images cost."""
import json
import logging

import numpy as np
import pytest
from scipy import stats

import gilt
from gilt.cli import main
from gilt.evaluation.predictions import Predictions
from gilt.evaluation.significance import holm
from gilt.evaluation.uncertainty import paired_wilson, wilson
from gilt.studies.class_changes import class_changes, class_sentences
from gilt.studies.image_changes import image_changes
from gilt.studies.regret import regret_rows, regret_sentences, regrets
from gilt.studies.store import Store

CLASSES = ("robin", "tit", "wren")


def record(arm, seed, accuracy=0.5, val=None, *, rows="t", config=None, **more):
    """A finished trial; equal `rows` are the same test photographs."""
    def evaluation(value):
        return None if value is None else {"metrics": {"accuracy": {"value": value}, "loss": {"value": 1 - value}}}

    known = {"target": "class", "n_real": 10, "n_generated": 0, "n_test": 4, "val_set": "Real", "train_set": arm, **more}
    return gilt.TrialRecord(id=f"{arm}-{seed}".replace("/", ""), study="s", arm=arm, seed=seed, state="finished", table="",
                            started="", seconds={"total": 1.0}, test=evaluation(accuracy), val=evaluation(val), test_rows=rows,
                            config=config or {}, **known)


def said(answers, truth, *, paths=None, p=0.8, target="class", origins=None, classes=CLASSES):
    """Predictions that name `answers`, each with probability p, of images whose true classes are `truth`."""
    rest = (1 - p) / (len(classes) - 1)
    logits = np.log([[p if name == answer else rest for name in classes] for answer in answers]).astype(np.float32)
    paths = paths or [f"{name}/{i}.png" for i, name in enumerate(truth)]
    return Predictions(paths, origins or ["real"] * len(truth), list(truth), logits, [None] * len(truth), classes, target)


def write_store(folder, trials, *, benchmark="real", metric="accuracy", **summary):
    """A study's store as it lies on disk, from pairs (record, its test predictions or None)."""
    (folder / "trials").mkdir(parents=True)
    records = [r for r, _ in trials]
    (folder / "study.json").write_text(json.dumps({
        "kind": "study", "name": "s", "metric": metric, "benchmark": benchmark, "arms": {r.arm: {} for r in records},
        "fingerprint": "f", "trials": [{"arm": r.arm, "seed": r.seed, "id": r.id} for r in records], **summary}))
    store = Store(folder)
    for r, predictions in trials:
        store.write(r)
        if predictions is not None:
            predictions.save(folder / "trials" / f"{r.id}.test.parquet")
    return store


def answers(truth, right):
    """The true class where `right`, else another."""
    return [name if ok else CLASSES[(CLASSES.index(name) + 1) % 3] for name, ok in zip(truth, right, strict=True)]


@pytest.fixture
def grown(tmp_path):
    """Six seeds: the arm has more wrens right under every seed, now and then a tit more or less; robins stay."""
    truth = ["wren"] * 20 + ["tit"] * 10 + ["robin"] * 5
    wrens, tits = ((5, 12), (6, 13), (5, 13), (7, 14), (5, 11), (6, 14)), ((5, 6), (5, 4), (6, 6), (4, 5), (5, 5), (5, 4))
    trials = []
    for seed, (w, t) in enumerate(zip(wrens, tits, strict=True)):
        for i, arm in enumerate(("real", "add")):
            right = [j < w[i] for j in range(20)] + [j < t[i] for j in range(10)] + [True] * 5
            trials.append((record(arm, seed), said(answers(truth, right), truth)))
    return write_store(tmp_path / "s", trials), np.array(wrens), np.array(tits)


def test_recalls_are_paired_over_seeds_with_students_interval_and_corrected_for_the_classes(grown):
    store, wrens, tits = grown
    robin, tit, wren = class_changes(store)
    assert [c.class_ for c in (robin, tit, wren)] == sorted(CLASSES)
    assert {(c.arm, c.benchmark, c.seeds) for c in (robin, tit, wren)} == {("add", "real", (0, 1, 2, 3, 4, 5))}
    ps = []
    for change, counts, n in ((wren, wrens, 20), (tit, tits, 10)):
        gains = 100 * (counts[:, 1] - counts[:, 0]) / n
        found = stats.ttest_rel(counts[:, 1], counts[:, 0])
        low, high = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
        assert (change.benchmark_recall, change.recall) == pytest.approx(tuple(counts.mean(0) / n))
        assert change.difference == pytest.approx(gains.mean())
        assert (change.low, change.high, change.kind, change.images) == (pytest.approx(low), pytest.approx(high), "seeds", n)
        assert change.p == pytest.approx(found.pvalue)
        ps.append(found.pvalue)
    assert [wren.p_holm, tit.p_holm] == pytest.approx([min(1, 2 * min(ps)), max(ps)])  # robin has no p, and does not count
    assert (wren.verdict, tit.verdict) == ("helped", "unclear")
    assert (robin.difference, robin.kind, robin.low, robin.p, robin.verdict) == (0, "none", None, None, "unclear")
    assert class_sentences([robin, tit, wren]) == [
        "Of 3 classes, add helped 1: wren +35.8 (n = 20); hurt 0 (points of recall against real, n images, over 6 seeds, "
        "p corrected for 3)."]


def test_turned_round_what_was_helped_is_hurt(grown):
    there, back = class_changes(grown[0]), class_changes(grown[0], "add")
    assert [c.verdict for c in back] == ["unclear", "unclear", "hurt"]
    assert [c.difference for c in back] == pytest.approx([-c.difference for c in there])
    with pytest.raises(gilt.ConfigError, match=r"no arm 'ad' in s \(arms: real, add\). Did you mean 'add'\?"):
        class_changes(grown[0], "ad")


def test_one_seed_has_an_interval_over_images_and_mcnemars_test(tmp_path):
    truth = ["wren"] * 21
    mine = [True] * 2 + [False] * 19  # 1 both, 1 only here, 7 only there, 12 neither
    theirs = [True, False] + [True] * 7 + [False] * 12
    store = write_store(tmp_path / "s", [(record("real", 3), said(answers(truth, theirs), truth)),
                                         (record("add", 3), said(answers(truth, mine), truth))])
    change, = class_changes(store)
    assert (change.kind, change.images, change.seeds) == ("images", 21, (3,))
    assert change.difference == pytest.approx(-100 * 6 / 21)
    # Fagerland, Lydersen, Laake 2014, airway hyper-responsiveness before and after: Newcombe's interval
    assert (change.low, change.high) == pytest.approx((-50.7, -2.6), abs=0.05)
    assert change.p == change.p_holm == pytest.approx(stats.binomtest(1, 8).pvalue)
    assert change.verdict == "unclear"
    assert "under one seed, on this test set only" in class_sentences([change])[0]


@pytest.mark.parametrize("both, only_a, only_b, neither, low, high", [
    (36, 12, 2, 0, 0.0569, 0.3404), (20, 12, 2, 16, 0.0562, 0.3292), (0, 12, 2, 36, 0.0569, 0.3404)])
def test_paired_proportions_have_newcombes_interval(both, only_a, only_b, neither, low, high):
    a = np.array([1] * both + [1] * only_a + [0] * (only_b + neither), bool)
    b = np.array([1] * both + [0] * only_a + [1] * only_b + [0] * neither, bool)
    assert paired_wilson(a, b) == pytest.approx((low, high), abs=6e-5)
    assert paired_wilson(b, a) == pytest.approx((-high, -low), abs=6e-5)


def test_paired_proportions_at_their_ends_join_wilsons_intervals():
    all_right, none = np.ones(10, bool), np.zeros(10, bool)
    edge = 1 - wilson(10, 10)[0]
    assert paired_wilson(all_right, none) == pytest.approx((1 - np.hypot(edge, edge), 1.0))
    assert np.isnan(paired_wilson(none[:0], none[:0])).all()


def test_rows_of_another_test_and_gone_predictions_are_no_pairs(tmp_path, caplog):
    truth = ["wren", "tit"]
    right, wrong = said(truth, truth), said(["tit", "wren"], truth)
    store = write_store(tmp_path / "s", [
        (record("real", 0), right), (record("add", 0), wrong), (record("other", 0, rows="u"), wrong),
        (record("real", 1), right), (record("add", 1), None)])
    with caplog.at_level(logging.WARNING):
        found = class_changes(store)
    assert [(c.arm, c.class_, c.seeds) for c in found] == [("add", "tit", (0,)), ("add", "wren", (0,))]
    assert "add seed 1 is left out" in caplog.text
    assert image_changes(store, "other") == []


def test_classes_of_a_detector_are_origins(tmp_path):
    classes, origins = ("real", "generated"), ["real", "real", "painter", "poet"]

    def detector(answers):
        return said(answers, ["wren"] * 4, paths=["a", "b", "c", "d"], target="origin", origins=origins, classes=classes)

    said_by = {"real": ["real"] * 4, "add": ["real", "generated", "generated", "real"]}
    store = write_store(tmp_path / "s", [(record(arm, 0, target="origin"), detector(own)) for arm, own in said_by.items()])
    assert {c.class_: (c.benchmark_recall, c.recall) for c in class_changes(store)} == {
        "painter": (0, 1), "poet": (0, 0), "real": (1, 0.5)}


def test_images_are_sorted_by_how_much_they_changed(tmp_path):
    truth, trials = ["wren", "tit", "robin", "robin"], []
    for seed, (theirs, mine) in enumerate([
            (("tit", "tit", "wren", "robin"), ("wren", "wren", "wren", "robin")),
            (("tit", "tit", "tit", "robin"), ("wren", "wren", "tit", "robin")),
            (("robin", "tit", "tit", "robin"), ("wren", "tit", "tit", "robin"))]):
        trials += [(record("real", seed), said(theirs, truth, p=0.6)), (record("add", seed), said(mine, truth, p=0.7))]
    found = image_changes(write_store(tmp_path / "s", trials), "add")
    assert [i.path for i in found] == ["wren/0.png", "robin/3.png", "robin/2.png", "tit/1.png"]
    wren, same, never, tit = found
    assert (wren.change, wren.benchmark_right, wren.right, wren.seeds, wren.class_) == (1, 0, 1, 3, "wren")
    assert (wren.benchmark_answer, wren.answer) == ("tit", None)
    assert (wren.benchmark_p, wren.p) == pytest.approx((0.2, 0.7))
    assert (tit.change, tit.answer, tit.benchmark_answer) == (pytest.approx(-2 / 3), "wren", None)
    assert tit.p == pytest.approx((0.15 + 0.15 + 0.7) / 3)
    assert (never.change, never.benchmark_answer, never.answer) == (0, "tit", "tit")
    assert (same.change, same.p > same.benchmark_p) == (0, True)  # likelier: before the one that is never right


def test_where_seeds_deal_their_own_test_rows_an_image_counts_the_seeds_that_tested_it(tmp_path):
    trials = []
    for seed, paths in enumerate((["a", "b"], ["b", "c"])):
        truth = ["wren", "wren"]
        trials += [(record("real", seed, rows=f"t{seed}"), said(["wren", "tit"], truth, paths=paths)),
                   (record("add", seed, rows=f"t{seed}"), said(["wren", "wren"], truth, paths=paths))]
    store = write_store(tmp_path / "s", trials)
    assert {i.path: (i.seeds, i.benchmark_right, i.right) for i in image_changes(store, "add")} == {
        "a": (1, 1, 1), "b": (2, 0.5, 1), "c": (1, 0, 1)}
    change, = class_changes(store)
    assert (change.images, change.benchmark_recall, change.recall) == (3, 0.5, 1)


def test_without_a_benchmark_classes_have_nothing_to_change_against_and_images_say_so(tmp_path):
    store = write_store(tmp_path / "s", [(record("a", 0), said(["wren"], ["wren"]))], benchmark=None)
    assert class_changes(store) == []
    with pytest.raises(gilt.ConfigError, match="s has no benchmark to hold 'a' against: name one"):
        image_changes(store, "a")


def arm_of(val=None, **train):
    """A whole config of an arm that adds generated rows, validated on `val`; the best epoch is kept."""
    mix = {"mode": "add"} | ({} if val is None else {"val": val})
    return gilt.TrialConfig.model_validate({"mix": mix, "train": {"keep": "best", **train}}).model_dump(mode="json")


def regret_store(folder, arms, **summary):
    """A store of arms (config, test accuracies by seed, val accuracies by seed)."""
    return write_store(folder, [(record(arm, seed, t, v, config=config), None) for arm, (config, tests, vals) in arms.items()
                                for seed, (t, v) in enumerate(zip(tests, vals, strict=True))], **summary)


def test_training_regret_is_what_the_same_arm_loses_by_its_val_rows(tmp_path):
    real, ai = np.array([0.80, 0.82, 0.81, 0.84]), np.array([0.78, 0.77, 0.80, 0.80])
    small, small_ai = np.array([0.60, 0.62, 0.61, 0.60]), np.array([0.61, 0.60, 0.60, 0.57])
    store = regret_store(tmp_path / "s", {
        "real": (arm_of(), real, [0.9] * 4), "ai": (arm_of("generated"), ai, [0.9] * 4),
        "small": (arm_of(model="lenet5"), small, [0.9] * 4),
        "small-ai": (arm_of("generated", model="lenet5"), small_ai, [0.9] * 4),
        "alone": (arm_of("mix", model="thesis1"), small, [0.9] * 4)})
    both, first, second = (r for r in regrets(store) if r.kind == "training")
    assert (both.val, both.arms, both.against, both.reference) == ("generated", ("ai", "small-ai"), ("real", "small"), "real")
    for regret, lost in ((both, (real - ai + small - small_ai) / 2), (first, real - ai), (second, small - small_ai)):
        low, high = stats.ttest_1samp(100 * lost, 0).confidence_interval(0.95)
        assert regret.by_seed == pytest.approx(tuple(100 * lost))
        assert (regret.lost, regret.low, regret.high) == pytest.approx((100 * lost.mean(), low, high))
    said = regret_sentences(regrets(store))
    assert said[0] == ("Training with generated val rows instead of real ones (2 arms) lost 2.1 points of test accuracy "
                       "(95 % interval -0.4 to 4.7, 4 seeds, which holds zero).")
    turned = {r.val: r for r in regrets(store, metric="loss") if r.kind == "training" and r.arms == ("ai",)}["generated"]
    assert turned.by_seed == pytest.approx(tuple(real - ai))  # the loss is 1 - accuracy here: lost again, in nats


def test_nothing_is_lost_in_training_where_validation_chooses_nothing(tmp_path):
    store = regret_store(tmp_path / "s", {"real": (arm_of(keep="last"), [0.8, 0.7], [0.9, 0.9]),
                                          "ai": (arm_of("generated", keep="last"), [0.8, 0.7], [0.9, 0.9])})
    regret, = regrets(store)
    assert (regret.acts, regret.lost, regret.low) == (False, 0, None)
    assert "changed nothing, as validation chooses nothing here" in regret_sentences([regret])[0]


def test_selection_regret_is_what_the_arm_chosen_on_validation_loses_to_the_best_on_test(tmp_path):
    config = {name: arm_of(model=name) for name in ("thesis1", "thesis2", "lenet5")}
    tests = {"thesis1": (0.80, 0.82, 0.85), "thesis2": (0.83, 0.80, 0.84), "lenet5": (0.70, 0.71, 0.72)}
    vals = {"thesis1": (0.90, 0.92, 0.93), "thesis2": (0.88, 0.92, 0.94), "lenet5": (0.80, 0.80, 0.95)}
    control = gilt.TrialConfig.model_validate(
        {"mix": {"mode": "add", "generated": 5, "control": "duplicates"}}).model_dump(mode="json")
    store = regret_store(tmp_path / "s", {**{name: (config[name], tests[name], vals[name]) for name in config},
                                          "copies": (control, (0.99,) * 3, (0.99,) * 3)})
    regret, = regrets(store)
    assert (regret.kind, regret.val, regret.arms) == ("selection", "real", ("thesis1", "thesis2", "lenet5"))
    assert regret.chosen == ("thesis1", "thesis1 or thesis2", "lenet5")  # of ties the mean
    assert regret.against == ("thesis2", "thesis1", "thesis1")
    lost = (3.0, 1.0, 13.0)
    assert regret.by_seed == pytest.approx(lost)
    low, high = stats.ttest_1samp(lost, 0).confidence_interval(0.95)
    assert (regret.lost, regret.low, regret.high) == (pytest.approx(np.mean(lost)), 0.0, pytest.approx(high))
    assert low < 0  # nobody loses less than nothing
    assert (regret.choice, regret.choice_lost) == ("thesis1", pytest.approx(0.0, abs=1e-9))  # the best on mean test too
    assert regret_rows([regret])[1][0][2:5] == ["thesis1, thesis2, lenet5", "the best on test", "5.7"]


def test_arms_are_chosen_among_those_with_one_kind_of_validation_and_one_test_only(tmp_path):
    trials = [(record(arm, 0, 0.5 + i / 10, 0.5 - i / 10, rows=rows, config=arm_of(val, model=model)), None)
              for i, (arm, val, model, rows) in enumerate([("a", None, "thesis1", "t"), ("b", None, "thesis2", "t"),
                                                           ("c", "generated", "lenet5", "t"), ("d", None, "lenet5", "u")])]
    regret, = regrets(write_store(tmp_path / "s", trials))
    assert (regret.arms, regret.chosen, regret.lost, regret.low) == (("a", "b"), ("a",), pytest.approx(10), None)
    assert "one seed, so no interval" in regret_sentences([regret])[0]


def test_one_kind_of_validation_and_one_arm_have_no_regret(tmp_path):
    store = regret_store(tmp_path / "s", {"real": (arm_of(), [0.8], [0.9])})
    assert regrets(store) == []
    with pytest.raises(gilt.ConfigError, match="no metric 'acuracy'"):
        regrets(store, metric="acuracy")


def test_a_tuning_has_no_classes_to_compare(tmp_path):
    store = write_store(tmp_path / "s", [(record("real", 0), None)], kind="tuning")
    for ask in (class_changes, regrets):
        with pytest.raises(gilt.StoreError, match="only the arms of a study are compared"):
            ask(store)


def test_holm_counts_only_classes_that_have_a_p():
    assert holm([0.01, None, 0.04]) == [0.02, None, 0.04]


def test_a_study_that_was_run_has_its_changes(study_file, tmp_path, capsys):
    gilt.run_study(gilt.Study.load(study_file), tmp_path / "store")
    changes = class_changes(tmp_path / "store")
    assert [(c.arm, c.class_) for c in changes] == [("ai", "robin"), ("ai", "wren"), ("aug", "robin"), ("aug", "wren")]
    store = Store(tmp_path / "store")
    by_arm = {(r.arm, r.seed): r.test["by"]["class"] for r in store.records()}
    for change in changes:
        known = [by_arm[change.arm, seed][change.class_]["accuracy"]["value"] for seed in (0, 1)]
        assert change.recall == pytest.approx(np.mean(known))
    images = image_changes(store, "ai")
    tested = [set(store.predictions(r.id).path) for r in store.records() if r.arm == "ai"]
    assert {i.path for i in images} == tested[0] | tested[1]
    with pytest.raises(SystemExit) as stop:
        main(["study", "report", str(tmp_path / "store"), "--tables", str(tmp_path / "tables")])
    assert stop.value.code == 0
    assert "wrote" in capsys.readouterr().err
    assert "ai,real,robin," in (tmp_path / "tables" / "classes.csv").read_text()
