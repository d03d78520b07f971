"""The card of a saved model: everything that its file knows, in words, on the terminal and as a page."""
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import gilt
from conftest import make_birds
from gilt.cli import gilt as command
from gilt.reports.modelcard import judged_by, model_card
from gilt.training import Encoding


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a table, a detector that has a threshold, and its predictions on the test rows."""
    folder = tmp_path_factory.mktemp("card")
    gilt.scan(make_birds(folder / "birds", real=120, generated=110), "{origin}/{class}").save(folder / "birds.parquet")
    run = CliRunner()
    for words in (f"train {folder}/birds.parquet --set target=origin --set train.model=lenet5 --set train.epochs=2 -o "
                  f"{folder}/d.safetensors", f"evaluate {folder}/d.safetensors {folder}/birds.parquet -o {folder}/p.parquet"):
        done = run.invoke(command, words.split())
        assert done.exit_code == 0, done.output
    return folder


def lines(card, heading):
    return dict(next(section.lines for section in card.sections if section.heading == heading))


def test_a_detectors_card_says_what_its_file_holds(world):
    card, detector = model_card(world / "d.safetensors"), gilt.load_classifier(world / "d.safetensors")
    learnt = lines(card, "What it learnt from")
    assert gilt.ImageTable.load(world / "birds.parquet").fingerprint in learnt["table"]
    assert learnt["real images"] == f"{detector.provenance['n_real']:,}"
    assert learnt["by origin"] == f"real {detector.provenance['n_real']}, generated {detector.provenance['n_generated']}"
    verdict = lines(card, "How a verdict comes about")
    assert verdict["threshold"].startswith(f"{detector.calibration.threshold:.4f}")
    assert verdict["rule"] == "balanced accuracy on val"
    assert f"{detector.calibration.n:,} images" in verdict["chosen on"]
    assert "32x32 pixels: the whole image" in lines(card, "What goes in")["image"]
    assert any("verdict is no proof" in text for _, text in card.sections[-1].lines)
    assert any("nothing of test images" in warning for warning in card.warnings)


def test_test_results_go_into_the_card_and_into_a_copy_of_the_model(world, tmp_path):
    found = judged_by(world / "d.safetensors", world / "p.parquet")
    own = gilt.evaluate(gilt.Predictions.load(world / "p.parquet"))
    assert found["n"] == own.metrics["accuracy"].n == found["n_real"] + found["n_generated"]
    done = CliRunner().invoke(command, ["card", str(world / "d.safetensors"), "--judged", str(world / "p.parquet"),
                                        "-o", str(tmp_path / "j.safetensors"), "--html", str(tmp_path / "card.html")])
    assert done.exit_code == 0, done.output
    again = model_card(tmp_path / "j.safetensors")
    assert lines(again, "How it was judged")["AUROC"] == lines(model_card(world / "d.safetensors", judged=found),
                                                               "How it was judged")["AUROC"]
    assert not any("nothing of test images" in warning for warning in again.warnings)
    page = (tmp_path / "card.html").read_text()
    for section in again.sections:
        assert section.heading in page
    assert "http" not in page.replace("http-equiv", "")


def test_an_equalised_detector_is_not_blamed_for_the_formats_of_its_files(world, tmp_path):
    plain = gilt.load_classifier(world / "d.safetensors")
    plain.provenance["shortcuts"] = [{"severity": "high", "meaning": "Format alone tells the origin."}]
    plain.save(tmp_path / "plain.safetensors")
    plain.preprocessing = plain.preprocessing.model_copy(update={"equal": Encoding(size=32)})
    plain.save(tmp_path / "equal.safetensors")
    for name, blamed in (("plain", True), ("equal", False)):
        card = model_card(tmp_path / f"{name}.safetensors")
        assert any(line.startswith("Trained with a shortcut") for line in card.warnings) == blamed
        told = next(section.lines for section in card.sections if section.heading.startswith("What gave the origin away"))
        assert ("high", "Format alone tells the origin.") in told
        assert any("in one encoding" in text for _, text in told) != blamed
        file = str(tmp_path / f"{name}.safetensors")
        picture = str(next((world / "birds").rglob("*.png")))
        for words in (["predict", file, picture, "--no-stable"],
                      ["explain", file, picture, "-o", str(tmp_path / name), "--set", "curves=0"]):
            done = CliRunner().invoke(command, words)
            assert done.exit_code == 0, done.output
            assert ("TRAINED WITH A SHORTCUT" in done.stderr) == blamed



def test_predictions_of_another_model_are_refused(world, birds, tmp_path):
    other = gilt.train(birds, gilt.TrainConfig(model="lenet5", epochs=1), seed=0)
    gilt.predict(other, birds.where(split="test")).save(tmp_path / "p.parquet")
    with pytest.raises(gilt.ModelError, match="are not predictions of"):
        judged_by(world / "d.safetensors", tmp_path / "p.parquet")


def test_a_classifiers_card_speaks_of_classes_and_not_of_verdicts(birds, tmp_path):
    gilt.train(birds, gilt.TrainConfig(model="lenet5", epochs=1), seed=0).save(tmp_path / "c.safetensors")
    done = CliRunner().invoke(command, ["card", str(tmp_path / "c.safetensors"), "--json"])
    card = json.loads(done.output)
    headings = [section["heading"] for section in card["sections"]]
    assert "How a verdict comes about" not in headings
    assert ["kind", "a classifier of robin, wren"] in card["sections"][0]["lines"]


def test_a_generators_card_says_what_it_saw(birds, tmp_path):
    config = gilt.GeneratorConfig(kind="gan", size=28, width=16, latent=16, steps=2, looks=1, batch_size=8)
    generator = gilt.train_generator(birds, config, seed=0)
    generator.save(tmp_path / "g.safetensors")
    card = model_card(tmp_path / "g.safetensors")
    assert lines(card, "What it learnt from")["images seen"] == f"{len(generator.seen):,}"
    assert lines(card, "What it is")["kind"].startswith("a generator of")


def test_an_exported_detector_has_the_same_card(world, tmp_path):
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    from gilt.models.export import export

    done = export(gilt.load_classifier(world / "d.safetensors"), tmp_path / "d.onnx")
    card = model_card(done.path)
    assert lines(card, "How a verdict comes about") == lines(model_card(world / "d.safetensors"), "How a verdict comes about")
    assert lines(card, "What it is")["network"] == "onnx, exported from lenet5"


@pytest.mark.parametrize("words, message", [
    (["none.safetensors"], "does not exist"), (["."], "is a folder"), (["birds.parquet"], "not a safetensors file"),
    (["d.safetensors", "-o", "x.safetensors"], "belongs to --judged")])
def test_what_has_no_card_is_told_so(world, monkeypatch, words, message):
    monkeypatch.chdir(world)
    done = CliRunner().invoke(command, ["card", *words])
    said = done.output + str(done.exception)
    assert done.exit_code
    assert message in said
    assert not Path("x.safetensors").exists()
