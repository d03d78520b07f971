"""Calibration: temperature, bias and threshold from validation images, saved with the detector, never from test images."""
import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import gilt
from conftest import make_birds
from gilt.errors import TableError
from gilt.evaluation.calibration import ALPHA, best_threshold, decide, fit_band, fit_calibration, p_generated, undecided
from gilt.evaluation.predictions import Predictions
from gilt.evaluation.reliability import reliability
from gilt.training import Calibration


def said(n=800, *, apart=2.0, scale=1.0, lean=0.0, seed=0, generated=0.5):
    """Predictions whose log-odds are calibrated as they are (for apart=2: N(-2, 4) and N(2, 4)), then stretched and moved."""
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < generated
    odds = scale * (np.where(truth, apart, -apart) + np.sqrt(2 * apart) * rng.normal(size=n)) + lean
    logits = np.stack([np.zeros(n), odds], 1).astype(np.float32)
    return Predictions([f"{i}.png" for i in range(n)], ["gan" if t else "real" for t in truth], [None] * n, logits, [None] * n,
                       ("real", "generated"), "origin")


def truth(predictions):
    return np.array([origin != "real" for origin in predictions.origin])


@pytest.mark.parametrize("scale, lean", [(1, 0), (5, 0), (0.2, 0), (3, 6), (1, -4)])
def test_an_overconfident_or_leaning_detector_is_brought_back(scale, lean):
    found = fit_calibration(said(4000, scale=scale, lean=lean))
    assert found.temperature == pytest.approx(scale, rel=0.15)
    assert found.bias == pytest.approx(-lean / scale, abs=0.25)
    assert abs(found.threshold - 0.5) < 0.12
    fresh = said(4000, scale=scale, lean=lean, seed=1)
    trusted = reliability(p_generated(fresh, found), truth(fresh))
    assert trusted.ece.value < 0.03
    if lean:
        assert reliability(p_generated(fresh), truth(fresh)).ece.value > 0.1


def test_a_perfect_validation_does_not_make_every_probability_zero_or_one():
    found = fit_calibration(said(200, apart=200))
    p = p_generated(said(200, apart=200, seed=1), found)
    assert 0.001 < p.min() < 0.1
    assert 0.9 < p.max() < 0.999
    assert found.accuracy == 1
    assert found.false_positive_rate == 0


def test_the_threshold_has_the_greatest_balanced_accuracy_of_all_cuts():
    rng = np.random.default_rng(0)
    for _ in range(20):
        p, generated = rng.random(40).round(1), rng.random(40) < 0.5
        cut, balanced = best_threshold(p, generated)
        each = [((p >= c)[generated].mean() + (p < c)[~generated].mean()) / 2 for c in np.linspace(0, 1, 1001)]
        assert balanced == pytest.approx(max(max(each), 0.5))
        assert ((p >= cut)[generated].mean() + (p < cut)[~generated].mean()) / 2 == pytest.approx(balanced)


def test_of_equally_good_cuts_the_one_nearest_to_a_half_is_taken():
    assert best_threshold(np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, False, True, True])) == (0.5, 1.0)


def test_too_few_validation_images_give_no_calibration_and_a_note(caplog):
    assert fit_calibration(said(400, generated=0.05)) is None
    assert "30 of each are needed" in caplog.text


def test_a_detector_no_better_than_chance_keeps_a_half(caplog):
    found = fit_calibration(said(400, scale=-1.0))  # says the opposite
    assert found.threshold == 0.5
    assert "no threshold is better than chance" in found.rule
    assert "no better than chance" in caplog.text


def test_unreadable_images_and_unknown_origins_do_not_count():
    few = said(300)
    logits = np.concatenate([few.logits, [[np.nan, np.nan], [9, -9]]]).astype(np.float32)
    more = replace(few, path=[*few.path, "bad", "who"], origin=[*few.origin, "gan", None], class_=[None] * 302, logits=logits,
                   error=[None] * 300 + ["cannot be read", None])
    assert fit_calibration(more) == fit_calibration(few)
    assert np.isnan(p_generated(more)[-2])
    assert not decide(p_generated(more))[-2]


def test_a_detector_that_names_generators_says_generated_by_their_sum():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(200, 3)).astype(np.float32)
    origin = ["real", "gan", "painter", "new"] * 50
    found = Predictions(["x"] * 200, origin, [None] * 200, logits, [None] * 200, ("gan", "real", "painter"), "origin")
    assert p_generated(found) == pytest.approx(1 - found.probabilities[:, 1])
    assert list(found.labels[:4]) == [1, 0, 2, -1]
    assert fit_calibration(found).n == 200  # a generator without a class of its own is generated all the same


def test_predictions_of_a_classifier_of_classes_are_refused():
    with pytest.raises(TableError, match=r"no detector's predictions.*'class'"):
        p_generated(replace(said(40), target="class", classes=("cat", "dog")))


def test_the_threshold_of_no_calibration_is_a_half():
    assert list(decide(np.array([0.49, 0.5, np.nan]))) == [False, True, False]


def test_predictions_keep_their_calibration_in_the_file(tmp_path):
    found = said(100)
    known = replace(found, calibration=fit_calibration(said(500)))
    known.save(tmp_path / "p.parquet")
    again = Predictions.load(tmp_path / "p.parquet")
    assert again.calibration == known.calibration
    assert np.array_equal(p_generated(again), p_generated(known))
    found.save(tmp_path / "q.parquet")
    assert Predictions.load(tmp_path / "q.parquet").calibration is None


def test_the_bands_ends_are_order_statistics_of_either_side():
    p = np.concatenate([np.arange(40) / 100, 0.2 + np.arange(60) / 100])  # real: 0 to 0.39; generated: 0.2 to 0.79
    generated = np.arange(100) >= 40
    # of 40, ceil(41 x 0.95) = 39th from below; of 60, floor(61 x 0.05) = 3rd
    assert fit_band(p, generated, 0.3) == pytest.approx((0.22, 0.38))
    assert fit_band(p, generated, 0.5) == pytest.approx((0.22, 0.5))
    assert fit_band(p, generated, 0.1) == pytest.approx((0.1, 0.38))


@pytest.mark.parametrize("n, promised", [(30, 1), (60, 3), (400, 20)])
def test_new_images_of_either_side_get_the_wrong_verdict_as_rarely_as_promised(n, promised):
    rng, wrong = np.random.default_rng(0), []
    for _ in range(400):
        odds = rng.normal(size=2 * n + 2000) + np.where(np.arange(2 * n + 2000) % 2, 1.0, -1.0)
        p, generated = 1 / (1 + np.exp(-odds)), np.arange(len(odds)) % 2 == 1
        low, high = fit_band(p[:2 * n], generated[:2 * n], best_threshold(p[:2 * n], generated[:2 * n])[0])
        new, made = p[2 * n:], generated[2 * n:]
        wrong.append([(new[~made] > high).mean(), (new[made] < low).mean()])
    exactly = promised / (n + 1)  # so many of n + 1 places are beyond the end
    assert exactly <= ALPHA
    assert np.mean(wrong, 0) == pytest.approx([exactly, exactly], abs=4 * np.std(wrong) / 20)


def test_two_sides_that_are_far_apart_need_no_band():
    found = fit_calibration(said(400, apart=60))
    assert found.band is None
    assert not undecided(np.linspace(0, 1, 50), found).any()
    assert not undecided(np.linspace(0, 1, 50)).any()


def test_the_band_holds_the_threshold_and_says_where_nobody_knows():
    found = fit_calibration(said(400, apart=1))
    low, high = found.band
    assert low < found.threshold < high
    assert list(undecided(np.array([low - 1e-9, low, found.threshold, high, high + 1e-9, np.nan]), found)) == [
        False, True, True, True, False, False]


@pytest.mark.parametrize("band", [(0.6, 0.9), (0.1, 0.4), (0.5, 0.5), (0.9, 0.1), (-0.1, 0.9), (0.1, 2), (0.1,),
                                  (float("nan"), 0.9)])
def test_a_band_that_is_none_is_refused(band):
    with pytest.raises(ValueError, match="band"):
        Calibration(temperature=1, threshold=0.5, rule="x", n=1, n_real=1, accuracy=1, balanced_accuracy=1,
                    false_positive_rate=0, band=band)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(detector, its table): 200 birds of either side, dealt half-half to train and to val and test."""
    folder = make_birds(tmp_path_factory.mktemp("many"), real=100, generated=100)
    table = gilt.split(gilt.scan(folder, "{origin}/{class}"), gilt.SplitConfig(train=0.5, val=0.3, test=0.2),
                       target="origin", seed=0)
    config = gilt.TrainConfig(target="origin", model="lenet5", epochs=3, batch_size=20)
    return gilt.train(table, config, seed=0), table


def test_training_a_detector_fits_its_threshold_on_val_rows_alone(trained):
    detector, table = trained
    val = gilt.predict(detector, table.where(split="val"))
    assert detector.calibration == fit_calibration(replace(val, calibration=None))
    assert detector.calibration.n == len(val) == 120
    assert detector.calibration.seen_split == "val"
    assert val.calibration == detector.calibration


def test_a_saved_detector_has_its_calibration_and_older_files_have_none(trained, tmp_path):
    detector, _ = trained
    detector.save(tmp_path / "d.safetensors")
    assert gilt.load_classifier(tmp_path / "d.safetensors").calibration == detector.calibration
    with safe_open(tmp_path / "d.safetensors", "pt") as file:
        card = json.loads(file.metadata()["gilt"])
    del card["calibration"]
    save_file(load_file(tmp_path / "d.safetensors"), tmp_path / "old.safetensors", metadata={"gilt": json.dumps(card)})
    assert gilt.load_classifier(tmp_path / "old.safetensors").calibration is None
    card["calibration"] = {name: value for name, value in detector.card["calibration"].items() if name != "band"}
    save_file(load_file(tmp_path / "d.safetensors"), tmp_path / "older.safetensors", metadata={"gilt": json.dumps(card)})
    older = gilt.load_classifier(tmp_path / "older.safetensors").calibration
    assert older == detector.calibration.model_copy(update={"band": None})
    card["calibration"] = {"temperature": -1.0}
    save_file(load_file(tmp_path / "d.safetensors"), tmp_path / "bad.safetensors", metadata={"gilt": json.dumps(card)})
    with pytest.raises(gilt.GiltError, match=r"calibration"):
        gilt.load_classifier(tmp_path / "bad.safetensors")


def test_with_too_few_val_rows_the_provenance_says_why_there_is_no_threshold(birds):
    detector = gilt.train(birds, gilt.TrainConfig(target="origin", model="lenet5", epochs=1), seed=0)
    assert detector.calibration is None
    assert "30 of each are needed" in detector.provenance["no_threshold"]


def test_a_classifier_of_classes_has_none(birds):
    classifier = gilt.train(birds, gilt.TrainConfig(model="lenet5", epochs=1), seed=0)
    assert classifier.calibration is None
    assert "no_threshold" not in classifier.provenance


def test_a_calibration_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="extra"):
        Calibration(temperature=1, threshold=0.5, rule="x", n=1, n_real=1, accuracy=1, balanced_accuracy=1,
                    false_positive_rate=0, shift=2)
