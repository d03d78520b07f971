"""Attribution: a detector whose classes are generators' names, from the table to the study, judged at its threshold."""
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sklearn import metrics as sk

import gilt
from conftest import draw
from gilt.cli import gilt as gilt_command
from gilt.data.audit import generator_shortcuts
from gilt.errors import ConfigError, GiltError, TableError
from gilt.evaluation.attribution import attribution
from gilt.evaluation.calibration import calibrated, fit_calibration, named
from gilt.evaluation.detection import detection
from gilt.evaluation.predictions import Predictions
from gilt.reports.detection import detection_page, detection_verdict
from gilt.reports.modelcard import judged_by, model_card
from gilt.studies.store import Store
from gilt.studies.trial import logit_names
from gilt.training import detects
from test_calibration import said

QUICK = ("--set", "train.model=lenet5", "--set", "train.epochs=3", "--set", "train.batch_size=20")
ORIGINS = {"real": (200, 120, 60), "painter": (90, 140, 90), "etcher": (90, 90, 160)}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A folder with scenes.parquet: 210 images of three origins, 70 each, as many for training as for validation."""
    home = tmp_path_factory.mktemp("scenes")
    for seed, (origin, colour) in enumerate(ORIGINS.items()):
        for i in range(70):
            draw(home / origin / "any" / f"{i:02}.png", colour, seed=1000 * seed + i, size=16)
    gilt.split(gilt.scan(home, "{origin}/{class}"), train=0.4, val=0.45, test=0.15, target="generator").save(
        home / "scenes.parquet")
    return home


def run(*words):
    done = CliRunner().invoke(gilt_command, [str(word) for word in words])
    assert done.exception is None or isinstance(done.exception, (SystemExit, GiltError)), done.exception
    return done


@pytest.fixture(scope="module")
def detector(scenes):
    done = run("train", scenes / "scenes.parquet", "--target", "generator", *QUICK, "-o", scenes / "who.safetensors")
    assert done.exit_code == 0, done.output
    return scenes / "who.safetensors"


@pytest.fixture(scope="module")
def three():
    """Predictions of a detector of two generators, its classes in another order, with a third generator that it never saw."""
    rng = np.random.default_rng(3)
    origin = np.array(["real", "gan", "painter", "new"], object)[np.arange(800) % 4]
    logits = rng.normal(size=(800, 3))
    for place, name in enumerate(("gan", "real", "painter")):
        logits[origin == name, place] += 2
    logits[origin == "new"] += (0.7, 0, 1.2)
    made = Predictions([f"{i}.png" for i in range(800)], list(origin), [None] * 800, logits.astype(np.float32), [None] * 800,
                       ("gan", "real", "painter"), "origin")
    half = [replace(made, path=made.path[part], origin=made.origin[part], class_=made.class_[part], logits=made.logits[part],
                    error=made.error[part]) for part in (slice(0, 400), slice(400, None))]
    return replace(half[1], calibration=fit_calibration(half[0]))


def test_labels_are_the_origins_and_real_stands_first(scenes):
    table = gilt.ImageTable.load(scenes / "scenes.parquet")
    assert table.names("generator") == ["real", "etcher", "painter"]
    assert table.names("origin") == ["real", "generated"]
    assert list(table.labels("generator")) == list(table.frame["origin"])
    assert [detects(target) for target in ("class", "origin", "generator")] == [False, True, True]


def test_a_generator_named_generated_beside_others_is_refused(scenes):
    table = gilt.ImageTable.load(scenes / "scenes.parquet")
    renamed = table.with_column("origin", table.frame["origin"].replace("etcher", "generated"))
    with pytest.raises(TableError, match=r"named 'generated'.*\(generated, painter\).*another name"):
        renamed.labels("generator")
    alone = renamed.where(origin=["real", "generated"])
    assert alone.names("generator") == ["real", "generated"]


@pytest.mark.parametrize("settings", [{}, {"folds": 3, "fold": 1}, {"hold_out": ["etcher"]},
                                      {"hold_out": ["etcher"], "seen_in_test": True}])
def test_both_detectors_are_dealt_and_mixed_alike(scenes, settings):
    table = gilt.ImageTable.load(scenes / "scenes.parquet").with_column("split", None)
    dealt = [gilt.split(table, **settings, target=target, seed=1) for target in ("origin", "generator")]
    assert dealt[0] == dealt[1]
    assert len(dealt[1].where(split="test").generated)
    for how in ({}, {"share": 0.3}, {"mode": "add", "generated": 9}, {"val": "real"}, {"total": 20}):
        mixed = [gilt.mix(dealt[0], **how, target=target, seed=1) for target in ("origin", "generator")]
        assert mixed[0] == mixed[1], how
    assert len(mixed[1].where(split="train").generated) == 10  # half of 20


def test_balance_evens_out_real_and_each_generator(scenes):
    table = gilt.ImageTable.load(scenes / "scenes.parquet").usable
    few = table.where(lambda frame: (frame["origin"] != "etcher") | (frame.groupby("origin").cumcount() < 20))
    under = gilt.balance(few, "under", target="generator").where(split="train").frame["origin"].value_counts()
    assert len(set(under)) == 1
    assert under["etcher"] < 20
    weights = gilt.balance(few, "weights", target="generator").where(split="train").frame
    assert weights.groupby("origin")["loss_weight"].sum().round(6).nunique() == 1
    with pytest.raises(ConfigError, match="fills classes up"):
        gilt.balance(few, "generated", target="generator")


@pytest.mark.parametrize("settings, message", [
    ({"mix": {"balance": "generated"}}, "fills classes up"),
    ({"mix": {"control": "duplicates", "share": 0.5}}, "pose as generated"),
    ({"split": {"generated_in_test": True}}, "is for target 'class'")])
def test_what_is_for_classes_is_refused_for_generators_too(settings, message):
    with pytest.raises(ValueError, match=message):
        gilt.TrialConfig.model_validate({"target": "generator", **settings})


def test_a_trained_classifier_is_a_detector_of_the_origin_that_names_generators(detector):
    found = gilt.load_classifier(detector)
    assert (found.target, tuple(found.classes), found.detects) == ("origin", ("real", "etcher", "painter"), True)
    assert found.provenance["train"]["target"] == "generator"
    assert set(found.provenance["n_by_class"]) == set(ORIGINS)
    assert found.calibration.n == 96
    assert found.calibration.balanced_accuracy > 0.8


def test_evaluate_has_both_tables_as_text_json_and_page(detector, scenes):
    table = scenes / "scenes.parquet"
    text = run("evaluate", detector, table, "--html", scenes / "who.html").output
    assert "naming the generator, at the threshold" in text
    assert "true \\ called  real  etcher  painter  recall  precision" in text
    values = json.loads(run("evaluate", detector, table, "--json").stdout)
    named_ = values["detection"]["attribution"]
    assert named_["true"] == named_["called"] == ["real", "etcher", "painter"]
    assert np.sum(named_["confusion"]) == named_["metrics"]["accuracy"]["n"] == 30
    assert named_["metrics"]["accuracy"]["value"] == pytest.approx(np.trace(named_["confusion"]) / 30)
    assert np.array(values["detection"]["confusion"]).sum() == 30
    page = (scenes / "who.html").read_text()
    assert "Naming the generator" in page
    assert "generator named rightly, where it was found" in page


def test_predict_names_the_generator_and_says_each_ones_part(detector, scenes):
    done = run("predict", detector, scenes / "painter", "--no-stable", "-o", scenes / "out.csv")
    assert done.exit_code == 0, done.output
    found = pd.read_csv(scenes / "out.csv")
    assert set(found["label"]) <= set(ORIGINS)
    assert (found["label"] == "painter").mean() > 0.6
    np.testing.assert_allclose(found["p_etcher"] + found["p_painter"], found["p_generated"], atol=2e-6)


def test_the_numbers_are_scikit_learns_over_the_calls_at_the_threshold(three):
    found = attribution(three)
    calls = np.array(three.classes, object)[named(calibrated(three), three)]
    origin = np.array(three.origin, object)
    known = origin != "new"
    assert found.called == ("real", "gan", "painter")
    assert found.unknown == ("new",)
    expected = sk.confusion_matrix(origin, calls, labels=["real", "gan", "painter", "new"])
    assert found.confusion == expected[:, :3].tolist()
    assert found.metrics["accuracy"].value == pytest.approx(sk.accuracy_score(origin[known], calls[known]))
    assert found.metrics["mean_recall"].value == pytest.approx(sk.balanced_accuracy_score(origin[known], calls[known]))
    both = known & (origin != "real") & (calls != "real")
    assert found.metrics["naming"].value == pytest.approx((origin == calls)[both].mean())
    assert found.metrics["naming"].n == both.sum()
    precision = sk.precision_score(origin, calls, labels=["real", "gan", "painter"], average=None)
    assert [found.origins[name]["precision"].value for name in found.called] == pytest.approx(precision)
    for metric in (*found.metrics.values(), *(m for own in found.origins.values() for m in own.values())):
        assert metric.low < metric.value < metric.high


def test_unreadable_images_and_unknown_origins_do_not_count(three):
    logits = np.concatenate([three.logits, [[np.nan] * 3, [9, 0, 0]]]).astype(np.float32)
    more = replace(three, path=[*three.path, "bad", "who"], origin=[*three.origin, "gan", None], class_=[None] * 402,
                   logits=logits, error=[*three.error, "cut", None])
    assert attribution(more) == attribution(three)


def test_a_detector_that_names_none_has_no_attribution():
    assert attribution(said(100)) is None
    assert detection(said(100)).attribution is None


def test_one_origin_alone_is_judged_as_far_as_it_goes(three):
    real = [i for i, origin in enumerate(three.origin) if origin == "real"]
    found = attribution(replace(three, path=[three.path[i] for i in real], origin=["real"] * len(real),
                                class_=[None] * len(real), logits=three.logits[real], error=[None] * len(real)))
    assert found.metrics["naming"].value is None
    assert found.metrics["accuracy"].value == found.metrics["mean_recall"].value == found.origins["real"]["recall"].value


def test_the_page_shows_a_generator_that_cannot_be_named(three, tmp_path, caplog):
    found = detection(three)
    text = detection_page(found, three, to=tmp_path / "page.html").read_text()
    assert "new (unknown to it)" in text
    assert "did not learn cannot be named" in text
    assert any("of its 2 generators" in line for line in detection_verdict(found))
    json.dumps(found.as_json())


def test_a_generator_that_is_held_out_is_no_class_and_still_judged_as_generated(scenes):
    table = gilt.ImageTable.load(scenes / "scenes.parquet").with_column("split", None)
    dealt = gilt.split(table, hold_out=["etcher"], target="generator")
    assert logit_names(dealt, "generator") == ["real", "painter"]
    assert logit_names(dealt, "origin") == ["real", "generated"]


def test_leaving_a_generator_out_works_with_names(scenes):
    done = run("protocol", "leave-one-generator-out", scenes / "scenes.parquet", "--only", "etcher", "--seeds", "1",
               "--set", "train.target=generator", "--set", "split.keep=false", *QUICK, "-o", scenes / "unseen")
    assert done.exit_code == 0, done.output
    (record,) = Store(scenes / "unseen" / "study").records()
    assert (record.target, record.classes) == ("generator", ["real", "painter"])
    assert "etcher" in done.output


def test_a_study_of_generators_runs_and_is_reported(scenes, tmp_path):
    (tmp_path / "who.toml").write_text(f"""
name = "who"
seeds = [0, 1]
[base]
table = "{scenes / 'scenes.parquet'}"
target = "generator"
[base.train]
model = "lenet5"
epochs = 1
batch_size = 40
[arms.all]
[arms.half]
mix.share = 0.5
mix.balance = "weights"
""")
    done = run("study", "run", tmp_path / "who.toml", "--store", tmp_path / "store")
    assert done.exit_code == 0, done.output
    records = Store(tmp_path / "store").records()
    assert {record.state for record in records} == {"finished"}
    for record in records:
        assert record.classes == ["real", "etcher", "painter"]
        assert {"accuracy", "auroc", "eer", "validated_accuracy"} <= set(record.test["metrics"])
    assert run("study", "report", tmp_path / "store").exit_code == 0


def test_what_tells_generators_apart_without_a_pixel_stands_on_top(tmp_path):
    for seed, (origin, ending) in enumerate((("real", "jpg"), ("painter", "jpg"), ("etcher", "png"))):
        for i in range(40):
            draw(tmp_path / origin / "any" / f"{origin}{i}.{ending}", ORIGINS[origin], seed=100 * seed + i, size=16)
    table = gilt.split(gilt.scan(tmp_path, "{origin}/{class}"), target="generator")
    (finding,) = generator_shortcuts(table)
    assert "format alone tells the generator with AUROC 1.00 " in finding.meaning
    assert generator_shortcuts(table.where(origin=["real", "painter"])) == []
    table.save(tmp_path / "t.parquet")
    done = run("train", tmp_path / "t.parquet", "--target", "generator", *QUICK, "-o", tmp_path / "who.safetensors")
    assert "tells the generator with AUROC" in done.output
    assert len(gilt.load_classifier(tmp_path / "who.safetensors").provenance["shortcuts"]) == 2


@pytest.mark.parametrize("words, message", [
    (("train", "scenes.parquet", "--set", "target=genrator", "-o", "x.safetensors"), "Did you mean 'generator'"),
    (("split", "scenes.parquet", "--leave-one-generator-out", "--target", "class", "-o", "f"), "--target origin or generator"),
    (("split", "scenes.parquet", "--target", "class", "--set", "hold_out=etcher", "-o", "x"), "'origin' or 'generator'")])
def test_a_wrong_target_is_refused(scenes, monkeypatch, words, message):
    monkeypatch.chdir(scenes)
    done = run(*words)
    assert done.exit_code
    assert message in done.output + str(done.exception)


def test_the_card_says_where_it_is_uncertain_and_how_rightly_it_names(detector, scenes, tmp_path):
    known = gilt.load_classifier(detector)
    known.calibration = known.calibration.model_copy(update={"band": (0.25, 0.75)})
    known.save(tmp_path / "who.safetensors")
    predictions = gilt.predict(known, gilt.ImageTable.load(scenes / "scenes.parquet").where(split="test"))
    predictions.save(tmp_path / "p.parquet")
    card = model_card(tmp_path / "who.safetensors", judged=judged_by(tmp_path / "who.safetensors", tmp_path / "p.parquet"))
    lines = {label: text for section in card.sections for label, text in section.lines}
    assert lines["uncertain"].startswith("from 0.2500 to 0.7500")
    assert lines["of the real images, uncertain"].endswith("(n = 10)")
    assert lines["generator named rightly, where it was found"].startswith(
        f"{attribution(predictions).metrics['naming'].value:.3f}")


def test_predictions_fit_the_card_of_an_older_file_that_knows_no_band(detector, scenes, tmp_path):
    with safe_open(detector, "pt") as file:
        card = json.loads(file.metadata()["gilt"])
    del card["calibration"]["band"]
    save_file(load_file(detector), tmp_path / "older.safetensors", metadata={"gilt": json.dumps(card)})
    known = gilt.load_classifier(tmp_path / "older.safetensors")
    gilt.predict(known, gilt.ImageTable.load(scenes / "scenes.parquet").where(split="test")).save(tmp_path / "p.parquet")
    assert "undecided" not in judged_by(tmp_path / "older.safetensors", tmp_path / "p.parquet")
