"""Robustness: numbers against those computed by hand, predictions saved and taken up again, what is refused, the page."""
import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn import metrics as sk

import gilt
from conftest import draw
from gilt.cli import gilt as gilt_command
from gilt.data.perturb import changes_of
from gilt.engine.robustness import mark_of, robustness, sampled
from gilt.errors import ModelError, StoreError, TableError
from gilt.evaluation.calibration import decide, fit_calibration, p_generated
from gilt.evaluation.predictions import Predictions
from gilt.evaluation.robustness import measured
from gilt.reports.robustness import in_order, robustness_page, robustness_verdict
from test_calibration import said, truth

CHANGES = changes_of(["jpeg=90,30", "blur=2"])


@pytest.fixture(scope="module")
def plain():
    return replace(said(600, seed=6), calibration=fit_calibration(said(400, seed=7)))


@pytest.fixture(scope="module")
def worn(plain):
    """The same images, harder to tell, and called generated more often."""
    noise = np.random.default_rng(3).normal(0.5, 1.5, len(plain))
    return replace(plain, logits=plain.logits + np.stack([np.zeros(len(plain)), noise], 1))


@pytest.fixture(scope="module")
def dealt(bird_table):
    """The birds, dealt for a detector: real and generated ones in every split."""
    return gilt.split(bird_table, target="origin", seed=0)


@pytest.fixture(scope="module")
def trained(dealt, tmp_path_factory):
    """A detector of the birds, as it is and as a file."""
    classifier = gilt.train(dealt, gilt.TrainConfig(target="origin", model="lenet5", epochs=1, batch_size=20), seed=0)
    path = tmp_path_factory.mktemp("detector") / "d.safetensors"
    classifier.save(path)
    return classifier, path


def test_every_number_is_that_of_the_predictions_under_the_change(plain, worn):
    found = measured(plain, [(("jpeg", 30.0), worn)])
    point, labels = found.points[0], truth(worn)
    called, before = (decide(p_generated(one), plain.calibration) for one in (worn, plain))
    assert point.name == "jpeg=30"
    assert point.metrics["auroc"].value == pytest.approx(sk.roc_auc_score(labels, p_generated(worn)))
    assert point.metrics["accuracy"].value == pytest.approx((called == labels).mean())
    assert point.metrics["false_positive_rate"].value == pytest.approx(called[~labels].mean())
    assert point.metrics["flipped"].value == pytest.approx((called != before).mean())
    change = point.metrics["accuracy_change"]
    assert change.value == pytest.approx((called == labels).mean() - (before == labels).mean())
    assert change.low < change.value < change.high < 0
    assert "accuracy_change" not in found.plain.metrics
    assert found.worst("accuracy") is point


def test_images_that_a_change_did_not_allow_are_left_out_and_counted(plain, worn):
    error = [*["too long"] * 5, *[None] * (len(worn) - 5)]
    logits = worn.logits.copy()
    logits[:5] = np.nan
    found = measured(plain, [(("webp", 80.0), replace(worn, logits=logits, error=error))])
    assert found.points[0].left_out == 5
    assert found.points[0].metrics["accuracy"].n == len(plain) - 5
    assert any("5 not under webp=80" in note for note in found.notes)


def test_one_side_alone_leaves_only_what_it_can_say(plain, worn):
    real = ~truth(plain)

    def some(one):
        return replace(one, path=np.array(one.path)[real].tolist(), origin=np.array(one.origin)[real].tolist(),
                       class_=np.array(one.class_)[real].tolist(), logits=one.logits[real], error=[None] * int(real.sum()))

    found = measured(some(plain), [(("jpeg", 30.0), some(worn))])
    assert "auroc" not in found.points[0].metrics
    assert found.points[0].metrics["false_positive_rate"].value > found.plain.metrics["false_positive_rate"].value
    assert found.points[0].metrics["recall"].value is None
    assert any("no generated images" in note for note in found.notes)
    assert len(robustness_verdict(found)) == 3


def test_predictions_of_other_images_and_of_none_are_refused(plain, worn):
    with pytest.raises(TableError, match="not of the same images"):
        measured(plain, [(("jpeg", 30.0), replace(worn, path=["x", *list(worn.path)[1:]]))])
    with pytest.raises(TableError, match="no image can be judged under jpeg=30: broken"):
        measured(plain, [(("jpeg", 30.0), replace(worn, error=["broken"] * len(worn)))])


def test_predictions_are_saved_and_only_what_is_missing_is_made_again(trained, dealt, tmp_path):
    detector, rows = trained[0], dealt.where(split="test")
    found = robustness(detector, rows, CHANGES, folder=tmp_path / "r")
    kept = sorted(path.name for path in (tmp_path / "r" / "predictions").iterdir())
    assert kept == ["blur=2.parquet", "jpeg=30.parquet", "jpeg=90.parquet", "none.parquet"]
    plain = Predictions.load(tmp_path / "r" / "predictions" / "none.parquet")
    assert np.allclose(plain.logits, gilt.predict(detector, rows).logits, atol=1e-5)
    assert list(plain.path) == list(rows.frame["path"])
    (tmp_path / "r" / "predictions" / "blur=2.parquet").unlink()
    stamps = {name: (tmp_path / "r" / "predictions" / name).stat().st_mtime_ns for name in kept if name != "blur=2.parquet"}
    again = robustness(detector, rows, CHANGES, folder=tmp_path / "r")
    assert again == found
    assert all((tmp_path / "r" / "predictions" / name).stat().st_mtime_ns == stamp for name, stamp in stamps.items())


def test_changes_reach_images_of_every_origin(trained, dealt, tmp_path):
    robustness(trained[0], dealt.where(split="test"), CHANGES, folder=tmp_path / "r")
    plain, blurred = (Predictions.load(tmp_path / "r" / "predictions" / f"{name}.parquet") for name in ("none", "blur=2"))
    moved = (plain.logits != blurred.logits).any(1)
    assert moved.all()
    assert {"real", "painter"} == set(plain.origin)


def test_a_folder_of_another_detector_or_of_other_rows_is_refused(trained, dealt, tmp_path):
    detector, rows = trained[0], dealt.where(split="test")
    robustness(detector, rows, CHANGES[:1], folder=tmp_path / "r")
    with pytest.raises(StoreError, match="predictions of other rows"):
        robustness(detector, dealt.where(split="val"), CHANGES[:1], folder=tmp_path / "r")
    other = gilt.load_classifier(trained[1])
    assert mark_of(other) == mark_of(detector)
    next(other.network.parameters()).data.mul_(1.01)
    with pytest.raises(StoreError, match="predictions of another detector"):
        robustness(other, rows, CHANGES[:1], folder=tmp_path / "r")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(StoreError, match="holds other things"):
        robustness(detector, rows, CHANGES[:1], folder=tmp_path / "full")


def test_what_is_no_detector_or_sees_no_pixel_is_refused(dealt, trained, tmp_path):
    with pytest.raises(ModelError, match="the target of this classifier is 'class'"):
        robustness(replace(trained[0], target="class"), dealt, folder=tmp_path / "r")
    blind = gilt.train(dealt, gilt.TrainConfig(target="origin", model="metadata", epochs=1), seed=0)
    with pytest.raises(ModelError, match="sees no pixels"):
        robustness(blind, dealt, folder=tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_a_sample_is_the_same_again_and_lies_inside_a_larger_one(birds):
    few, more = (set(sampled(birds, most).frame["path"]) for most in (5, 12))
    assert few < more
    assert sampled(birds, 5).counts("origin") == {"real": 5, "painter": 5}
    assert few == set(sampled(birds.take(np.arange(len(birds))[::-1]), 5).frame["path"])


def test_the_page_shows_every_change_from_weak_to_strong(plain, worn, tmp_path):
    found = measured(plain, [(("jpeg", 30.0), worn), (("jpeg", 90.0), plain), (("noise", 0.1), worn)])
    assert [point.name for point in in_order(found)] == ["none", "jpeg=90", "jpeg=30", "noise=0.1"]
    text = robustness_page(found, to=tmp_path / "r.html", name="<mine>", warnings=["SHORTCUT: <b>"]).read_text()
    assert "&lt;mine&gt;" in text and "SHORTCUT: &lt;b&gt;" in text
    assert text.count("<svg") == 1
    assert all(name in text for name in ("jpeg=90", "jpeg=30", "noise=0.1", "JPEG quality"))


def test_the_command_prints_writes_and_resumes(trained, dealt, tmp_path):
    dealt.save(tmp_path / "birds.parquet")
    asked = ["robustness", str(trained[1]), str(tmp_path / "birds.parquet"), "-o", str(tmp_path / "r"),
             "--change", "jpeg=90,30"]
    result = CliRunner().invoke(gilt_command, asked)
    assert result.exit_code == 0, result.output
    assert "jpeg=30" in result.output and "worst generator" in result.output
    assert (tmp_path / "r" / "robustness.html").is_file()
    again = CliRunner().invoke(gilt_command, [*asked, "--json"])
    assert "3 of 3 changes are predicted already" in again.stderr
    values = json.loads(again.stdout)
    assert [point["name"] for point in values["points"]] == ["jpeg=90", "jpeg=30"]
    assert {"value", "low", "high", "n"} == set(values["plain"]["metrics"]["accuracy"])


def test_an_unreadable_image_is_counted_never_dropped(trained, tmp_path):
    for i in range(6):
        draw(tmp_path / "w" / ("real" if i % 2 else "painter") / "wren" / f"{i}.png", (90, 20 * i, 60), seed=i)
    table = gilt.scan(tmp_path / "w", "{origin}/{class}")
    (tmp_path / "w" / "real" / "wren" / "1.png").write_bytes(b"broken meanwhile")
    found = robustness(trained[0], table, CHANGES[:1], folder=tmp_path / "r")
    assert (found.plain.left_out, found.points[0].left_out) == (1, 1)
    assert (found.plain.n_real, found.plain.n_generated) == (2, 3)
