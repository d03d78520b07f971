"""Detectors judged: operating points against scikit-learn, generators, sources, calibration error, notes, page and command."""
import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn import metrics as sk

import gilt
from conftest import draw
from gilt.cli import gilt as gilt_command
from gilt.data.audit import origin_shortcuts
from gilt.data.sources import real_sources
from gilt.errors import GiltError, TableError
from gilt.evaluation.calibration import fit_calibration, p_generated
from gilt.evaluation.detection import ORACLE, detection
from gilt.evaluation.metrics import DETECTED, LESS, NAMES, spoken
from gilt.evaluation.operating import ranking, ranking_of_each, rare, scores_of
from gilt.evaluation.predictions import Predictions
from gilt.evaluation.reliability import reliability
from gilt.evaluation.uncertainty import percentiles, resampled_weights
from gilt.reports.detection import detection_page, detection_verdict
from gilt.studies.compare import _verdict
from test_calibration import said, truth


@pytest.fixture(scope="module")
def found():
    """A detector with a calibration, and 900 images it never saw: two generators, one of them harder."""
    rng = np.random.default_rng(5)
    rows = said(900, seed=6)
    hard = rng.random(900) < 0.4
    origin = ["real" if o == "real" else "etcher" if h else "painter" for o, h in zip(rows.origin, hard, strict=True)]
    logits = rows.logits.copy()
    logits[:, 1] -= np.where(np.array(origin) == "etcher", 2, 0)
    return replace(rows, origin=origin, logits=logits, calibration=fit_calibration(said(400, seed=7)))


@pytest.mark.parametrize("n", [12, 100, 700])
@pytest.mark.parametrize("ties", [False, True])
def test_values_at_operating_points_are_those_of_scikit_learns_curve(n, ties):
    rng = np.random.default_rng(n)
    positive = np.arange(n) % 3 == 0
    scores = rng.normal(size=n) + 1.5 * positive
    scores = scores.round(1) if ties else scores
    values = {name: value[0] for name, value in scores_of(positive, scores).items()}
    fpr, tpr, _ = sk.roc_curve(positive, scores, drop_intermediate=False)
    assert values["auroc"] == pytest.approx(sk.roc_auc_score(positive, scores))
    assert values["average_precision"] == pytest.approx(sk.average_precision_score(positive, scores))
    assert values["tpr_at_1_fpr"] == pytest.approx(tpr[fpr <= 0.01].max())
    assert values["tpr_at_5_fpr"] == pytest.approx(tpr[fpr <= 0.05].max())
    assert values["eer"] == pytest.approx(np.interp(0, fpr + tpr - 1, fpr))


def test_metrics_at_the_threshold_are_scikit_learns(found):
    result, labels = detection(found), truth(found)
    called = p_generated(found) >= found.calibration.threshold
    for name, score in (("accuracy", sk.accuracy_score), ("balanced_accuracy", sk.balanced_accuracy_score),
                        ("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
        metric = result.metrics[name]
        assert metric.value == pytest.approx(score(labels, called))
        assert metric.low < metric.value < metric.high
    assert result.metrics["false_positive_rate"].value == called[~labels].mean()
    assert result.metrics["brier"].value == pytest.approx(sk.brier_score_loss(labels, p_generated(found)))
    assert result.confusion == sk.confusion_matrix(labels, called).tolist()
    plain = p_generated(replace(found, calibration=None)) >= 0.5
    assert result.metrics["accuracy_at_half"].value == sk.accuracy_score(labels, plain)


def test_bootstrap_intervals_hold_the_truth_about_as_often_as_they_say():
    inside = dict.fromkeys(("auroc", "eer", "tpr_at_5_fpr"), 0)
    large = said(200_000, seed=99)
    whole = {name: value[0] for name, value in scores_of(truth(large), large.logits[:, 1]).items()}
    for seed in range(60):
        some = said(300, seed=seed)
        for name, metric in ranking(truth(some), some.logits[:, 1], strata=truth(some)).items():
            if name in inside:
                inside[name] += metric.low <= whole[name] <= metric.high
    assert all(count >= 50 for count in inside.values()), inside  # 57 of 60 are promised


def test_a_resample_in_which_a_group_loses_a_side_does_not_count():
    positive, few, together = np.arange(40) % 10 == 0, np.arange(40) < 20, np.zeros(40)
    scores = np.random.default_rng(3).normal(size=40) + positive
    each, mean = ranking_of_each({"few": few, "all": np.ones(40, bool)}, positive, scores, strata=together)
    [weights] = resampled_weights(together)
    kept = weights[few & positive].any(0) & weights[few & ~positive].any(0)
    assert 20 < (~kept).sum() < 100  # two of forty images are often left out together
    aurocs = [sk.roc_auc_score(positive[few], scores[few], sample_weight=column) for column in weights[few][:, kept].T]
    value = sk.roc_auc_score(positive[few], scores[few])
    assert (each["few"]["auroc"].low, each["few"]["auroc"].high) == pytest.approx(percentiles(np.array(aurocs), value))
    assert each["all"] == ranking(positive, scores, strata=together)
    for found in (*each.values(), mean):
        assert all(metric.low <= metric.value <= metric.high for metric in found.values())


def test_every_generator_is_held_against_all_real_images_and_the_worst_is_named(found):
    result = detection(found)
    assert set(result.generators) == {"painter", "etcher"}
    assert set(result.worst.values()) == {"etcher"}
    pair = np.array([o in ("real", "etcher") for o in found.origin])
    expected = sk.roc_auc_score(truth(found)[pair], p_generated(found)[pair])
    assert result.generators["etcher"]["auroc"].value == pytest.approx(expected)
    for name in ("recall", "auroc", "eer"):
        both = [result.generators[g][name].value for g in ("painter", "etcher")]
        assert result.mean[name].value == pytest.approx(np.mean(both))
        assert result.mean[name].low < result.mean[name].value < result.mean[name].high


def test_average_precision_being_worst_follows_its_own_values(found):
    result = detection(found)
    assert result.generators["etcher"]["average_precision"].value < result.generators["painter"]["average_precision"].value


def test_false_positives_are_counted_by_source_the_worst_first(found):
    camera = ["canon" if i % 4 else "nikon" for i in range(len(found))]
    result = detection(found, sources=("camera", camera))
    real, called = ~truth(found), p_generated(found) >= found.calibration.threshold
    assert result.source == "camera"
    for name, metric in result.sources.items():
        own = real & (np.array(camera) == name)
        assert (metric.value, metric.n) == (called[own].mean(), own.sum())
    rates = [metric.value for metric in result.sources.values()]
    assert rates == sorted(rates, reverse=True)
    assert detection(found).sources == {}


def test_a_source_of_one_photograph_is_listed_and_is_no_headline(found):
    accused = int(np.argmax(~truth(found) & (p_generated(found) >= found.calibration.threshold)))
    result = detection(found, sources=("camera", ["lone" if i == accused else "canon" for i in range(len(found))]))
    assert next(iter(result.sources)) == "lone"
    assert result.sources["lone"].value == 1
    said_of_it = [line for line in detection_verdict(result) if "most often where" in line]
    assert len(said_of_it) == 1
    assert "the camera is canon" in said_of_it[0]



def test_the_oracle_is_apart_labelled_and_never_worse_than_the_threshold(found):
    result = detection(found)
    assert result.oracle.label == ORACLE == "oracle: chosen on the images judged, not reachable in use"
    assert result.oracle.balanced_accuracy >= result.metrics["balanced_accuracy"].value
    assert not any("oracle" in name for name in result.metrics)


def test_a_detector_without_a_threshold_says_so_and_is_judged_at_a_half(found):
    result = detection(replace(found, calibration=None))
    assert result.threshold == 0.5
    assert result.notes[0].startswith("No validated threshold")
    assert result.as_json()["calibration"] is None


def test_few_real_images_make_low_false_positive_rates_meaningless():
    assert [("1 %" in line, "1,000" in line) for line in rare(400)] == [(True, True)]
    assert len(rare(50)) == 2
    assert "less than one" in rare(50)[0]
    assert rare(1000) == []


def test_a_shift_of_the_real_images_is_noted(found):
    moved = replace(found, logits=found.logits + np.where(truth(found), 0, 3)[:, None] * np.array([0, 1], np.float32))
    assert any("another kind" in note for note in detection(moved).notes)
    assert any("probabilities are off" in note for note in detection(moved).notes)
    like = replace(said(900, seed=8), calibration=found.calibration)
    assert not any("another kind" in note for note in detection(like).notes)


def test_the_band_is_judged_by_what_it_leaves_open_and_how_right_the_rest_is(found):
    p, generated, (low, high) = p_generated(found), truth(found), found.calibration.band
    said_ = detection(found).undecided
    unsure = (p >= low) & (p <= high)
    assert (said_.low, said_.high) == (low, high)
    expected = {"uncertain_real": unsure[~generated], "uncertain_generated": unsure[generated],
                "accuracy": ((p > high) == generated)[~unsure], "false_positive_rate": (p > high)[~unsure & ~generated],
                "real_called_generated": (p > high)[~generated], "generated_called_real": (p < low)[generated]}
    assert {name: (m.value, m.n) for name, m in said_.metrics.items()} == {
        name: (hits.mean(), len(hits)) for name, hits in expected.items()}
    assert all(m.low <= m.value <= m.high for m in said_.metrics.values())
    assert said_.metrics["accuracy"].value > detection(found).metrics["accuracy"].value


def test_a_promise_that_does_not_hold_is_noted(found):
    logits = found.logits.copy()
    logits[~truth(found), 1] += 2
    notes = detection(replace(found, logits=logits)).notes
    assert any("of the real images get the verdict 'generated', where the band promises 5 % at most" in note for note in notes)
    like = replace(said(900, seed=8), calibration=found.calibration)
    assert not any("band promises" in note for note in detection(like).notes)


def test_a_detector_of_an_older_file_has_no_band_to_judge(found, tmp_path):
    older = replace(found, calibration=found.calibration.model_copy(update={"band": None}))
    assert detection(older).undecided is None
    assert "uncertain" not in detection_page(detection(older), older, to=tmp_path / "old.html").read_text().lower()


def test_the_calibration_error_stands_beside_what_chance_alone_would_show():
    rng = np.random.default_rng(0)
    p = rng.beta(0.5, 0.5, 400)
    honest = [reliability(p, rng.random(400) < p, seed=seed) for seed in range(40)]
    assert sum(one.calibrated for one in honest) >= 34  # 95 % of 40 are 38
    assert 0.02 < honest[0].floor < honest[0].floor_high
    assert abs(np.mean([one.ece.value for one in honest]) - honest[0].floor) < 0.01
    assert not reliability(p, rng.random(400) < p**3).calibrated
    assert sum(one.generated.n for one in honest[0].bins) == 400


def test_equal_probabilities_share_a_bin():
    found = reliability(np.repeat([0.2, 0.8], 50), np.arange(100) % 5 < np.repeat([1, 4], 50))
    assert [one.p for one in found.bins] == pytest.approx([0.2, 0.8])
    assert found.ece.value == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("side, missing", [("real", "generated"), ("gan", "real")])
def test_one_side_alone_is_judged_as_far_as_it_goes(side, missing):
    rows = said(300)
    keep = np.array([o == side for o in rows.origin])
    own = replace(rows, path=list(np.array(rows.path)[keep]), origin=[side] * keep.sum(), class_=[None] * keep.sum(),
                  logits=rows.logits[keep], error=[None] * keep.sum())
    result = detection(own)
    assert any(f"no {missing} images" in note for note in result.notes)
    assert result.oracle is None
    assert result.reliability is None
    assert result.metrics["precision"].value is None
    assert result.metrics["accuracy"].value > 0.8
    json.dumps(result.as_json())


def test_unreadable_images_and_unknown_origins_are_counted(found):
    more = replace(found, path=[*found.path, "a", "b"], origin=[*found.origin, None, "painter"],
                   class_=[*found.class_, None, None],
                   logits=np.concatenate([found.logits, [[0, 1], [np.nan, np.nan]]]).astype(np.float32),
                   error=[*found.error, None, "cut"])
    result = detection(more)
    assert result.left_out == {"unreadable": 1, "origin unknown": 1}
    assert result.metrics == detection(found).metrics
    with pytest.raises(TableError, match="no image can be judged"):
        detection(replace(found, origin=[None] * len(found)))


def test_everything_is_plain_json_and_comes_again_from_saved_predictions(found, tmp_path):
    found.save(tmp_path / "p.parquet")
    both = (found, Predictions.load(tmp_path / "p.parquet"))
    first, again = (json.loads(json.dumps(detection(one).as_json())) for one in both)
    assert first == again
    assert first["threshold"] == found.calibration.threshold
    assert len(first["roc"]) <= 200
    assert first["roc"][0][:2] == [0, 0]
    assert first["roc"][-1][:2] == [1, 1]


def test_a_record_has_a_detectors_own_metrics_and_knows_which_are_better_low(found):
    metrics = gilt.evaluate(found).metrics
    assert set(DETECTED) <= set(metrics)
    assert set(DETECTED) <= set(NAMES)
    assert all(spoken(name) for name in DETECTED)
    result = detection(found)
    assert metrics["eer"] == result.metrics["eer"]
    assert metrics["validated_accuracy"] == result.metrics["accuracy"]
    assert "validated_accuracy" not in gilt.evaluate(replace(found, calibration=None)).metrics
    classes = replace(found, target="class", classes=("x", "y"), class_=["x"] * 900)
    assert not set(DETECTED) & set(gilt.evaluate(classes).metrics)
    assert {"eer", "ece"} < set(LESS)
    effect = gilt.Effect("a", "b", "eer", -5.0, -6.0, -4.0, None, (0, 1), (-5.0, -5.1), "unknown", p_t=0.01)
    assert _verdict(effect, 0.01) == "beats"  # a lower error


def test_a_detector_that_names_generators_is_judged_on_unknown_ones_too():
    rng = np.random.default_rng(0)
    origin = np.array(["real", "gan", "painter", "new"])[np.arange(400) % 4]
    logits = rng.normal(size=(400, 3)) + 2 * np.eye(3)[np.array([1, 0, 2, 2])[np.arange(400) % 4]]
    rows = Predictions([str(i) for i in range(400)], list(origin), [None] * 400, logits.astype(np.float32), [None] * 400,
                       ("gan", "real", "painter"), "origin")
    evaluation = gilt.evaluate(rows)
    assert evaluation.metrics["accuracy"].n == 300
    assert evaluation.left_out == {"origin unknown to the classifier": 100}
    own = np.isin(origin, ("real", "painter"))
    expected = sk.roc_auc_score(origin[own] == "painter", p_generated(rows)[own])
    assert evaluation.by["origin"]["painter"]["auroc"].value == pytest.approx(expected)
    assert detection(rows).generators["new"]["recall"].value > 0.7


def table_of(tmp_path, kinds):
    for folder, colour, n, ending in kinds:
        for i in range(n):
            draw(tmp_path / "images" / folder / f"{i:03}.{ending}", colour, seed=hash((folder, i)) % 2**31, size=16)
    return gilt.scan(tmp_path / "images", "{origin}/{class}")


def test_sources_are_a_named_column_or_the_first_folder_that_differs(tmp_path):
    kinds = [("real/canon", (90, 90, 90), 3, "png"), ("real/nikon", (99, 99, 99), 2, "png"), ("gan/x", (9, 9, 9), 2, "png")]
    table = table_of(tmp_path, kinds)
    kind, values = real_sources(table)
    real = (table.frame["origin"] == "real").to_numpy()
    assert kind == "folder"
    assert sorted(np.array(values, object)[real]) == ["canon"] * 3 + ["nikon"] * 2
    named = table.with_column("collection", ["a", "b", "a", "b", "a", "b", "a"])
    assert real_sources(named)[0] == "collection"
    assert real_sources(table, "path")[1] == list(table.frame["path"])
    with pytest.raises(TableError, match=r"no column 'colection'.*Did you mean 'collection'"):
        real_sources(named, "colection")
    with pytest.raises(TableError, match="the same for all real images"):
        real_sources(table, "mode")
    assert real_sources(table.where(class_=["canon", "x"])) is None


def test_shortcuts_are_told_by_metadata_alone_and_not_where_the_encodings_are_equal(tmp_path):
    alike = table_of(tmp_path / "a", [("real/x", (90, 90, 90), 20, "png"), ("gan/x", (95, 90, 90), 20, "png")])
    found, skipped = origin_shortcuts(alike)
    assert (found, skipped) == ([], None)
    apart = table_of(tmp_path / "b", [("real/x", (90, 90, 90), 20, "jpg"), ("gan/x", (95, 90, 90), 20, "png")])
    (finding,), skipped = origin_shortcuts(apart)
    assert finding.details["target"] == "origin"
    assert finding.severity in ("medium", "high")
    assert "format alone" in finding.meaning
    few = table_of(tmp_path / "c", [("real/x", (90, 90, 90), 4, "jpg"), ("gan/x", (95, 90, 90), 4, "png")])
    assert origin_shortcuts(few)[0] == []
    assert "different pictures" in origin_shortcuts(few)[1]


def test_the_page_has_the_verdict_the_curves_and_pictures_of_each_kind(found, tmp_path, caplog):
    camera = ["canon" if i % 4 else "<nikon>" for i in range(len(found))]
    for i in range(0, len(found), 2):
        draw(tmp_path / f"{i}.png", (90, 90, 90), seed=i, size=12)
    result = detection(found, sources=("camera", camera))
    page = detection_page(result, found, to=tmp_path / "page.html", root=tmp_path, name="d <b>", about={"judged on": "it"},
                          warnings=["SHORTCUT (high): format & size"]).read_text()
    assert page.count("<svg") >= 3
    assert "SHORTCUT (high): format &amp; size" in page
    assert "&lt;nikon&gt;" in page
    assert "d &lt;b&gt;" in page
    assert "not reachable in use" in page
    assert 'class="worst"' in page
    for kind in ("generated, called real", "real, called generated", "generated, called generated", "real, called real"):
        assert kind in page
    assert "pictures are missing" in caplog.text
    assert any("worst is etcher" in line for line in detection_verdict(result))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a detector of two cameras and two generators, trained through the command line; and what it said."""
    home = tmp_path_factory.mktemp("home")
    kinds = [("real/canon", (170, 110, 90), 100, "png"), ("real/nikon", (150, 120, 110), 60, "png"),
             ("painter/x", (150, 125, 120), 80, "png"), ("etcher/x", (110, 120, 160), 80, "jpg")]
    table_of(home, kinds).save(home / "t.parquet")
    said = run("train", home / "t.parquet", "-o", home / "d.safetensors", *(part for setting in (
        "target=origin", "train.model=lenet5", "train.epochs=3", "train.batch_size=20", "split.train=0.4", "split.val=0.3",
        "split.test=0.3") for part in ("--set", setting)))
    (home / "train.log").write_text(said.stderr)
    return home


def run(*arguments):
    """Run a command in this process: loading torch anew for each would take most of the time."""
    result = CliRunner().invoke(gilt_command, [str(argument) for argument in arguments])
    assert result.exit_code == 0 or isinstance(result.exception, GiltError), result.output
    return result


def judged(home, *options):
    return run("evaluate", home / "d.safetensors", home / "t.parquet", *options)


def test_training_a_detector_tells_of_shortcuts_first_and_remembers_them(home):
    text = (home / "train.log").read_text()
    assert text.index("SHORTCUT") < text.index("epoch 1/3")
    assert "threshold" in text.splitlines()[-1]
    known = gilt.load_classifier(home / "d.safetensors").provenance["shortcuts"]
    assert known[0]["severity"] in ("low", "medium", "high")


def test_evaluate_prints_a_detector_with_its_shortcuts_on_top(home):
    out = judged(home, "--html", home / "d.html", "-o", home / "p.parquet").stdout
    assert out.startswith("SHORTCUT")
    for text in ("TRAINED WITH A SHORTCUT", "balanced accuracy on val", "equal error rate", "TPR at 1 % FPR", "by generator",
                 "mean of 2", "worst", "by folder", "nikon", "oracle: chosen on the images judged", "calibration error (ECE)"):
        assert text in out
    assert "FLATTERED" not in out
    assert "SHORTCUT" in (home / "d.html").read_text()
    assert Predictions.load(home / "p.parquet").calibration is not None


def test_evaluate_says_as_json_what_it_prints(home):
    found = json.loads(judged(home, "--by", "class", "--json").stdout)
    assert found["detection"]["source"] == "class"
    assert set(found["detection"]["sources"]) == {"canon", "nikon"}
    assert found["shortcuts"][0]["check"] == "shortcuts"
    assert found["detection"]["calibration"]["rule"] == "balanced accuracy on val"
    assert found["classes"] == ["real", "generated"]


def test_validation_rows_are_said_to_flatter(home):
    assert "FLATTERED" in judged(home, "--split", "val").stdout


def test_a_wrong_column_is_refused_before_any_work(home):
    with pytest.raises(TableError, match=r"no column 'clas'.*Did you mean 'class'"):
        raise judged(home, "--by", "clas").exception
