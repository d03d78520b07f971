"""The baseline without pixels: trained, saved, judged and asked as any other model, on what files say of themselves."""
import numpy as np
import pytest
import torch
from PIL import Image

import gilt
from conftest import draw
from gilt.models.metadata import FACTS, Metadata, facts


@pytest.fixture(scope="module")
def formats(tmp_path_factory):
    """Photographs are JPEG of many sizes, generated images PNG of one; noise is all they show."""
    root, rng = tmp_path_factory.mktemp("formats"), np.random.default_rng(0)
    for i in range(40):
        path = root / "real" / ("wren", "robin")[i % 2] / f"{i}.jpg"
        draw(path, (120, 120, 120), seed=i, size=int(rng.integers(40, 90)))
        draw(root / "painter" / ("wren", "robin")[i % 2] / f"g{i}.png", (120, 120, 120), seed=100 + i, size=64)
    return gilt.split(gilt.scan(root, "{origin}/{class}"), target="origin", seed=0)


def train(table, **settings):
    usual = {"target": "origin", "epochs": 60, "learning_rate": 0.05, "batch_size": 20}
    config = gilt.TrainConfig(model="metadata", **usual | settings)
    return gilt.train(gilt.mix(table, mode="add", target=config.target), config, seed=0)


@pytest.mark.parametrize("head", ["linear", "svm", "knn", "logistic"])
def test_files_alone_give_the_origin_away(formats, tmp_path, head):
    classifier = train(formats, head={"kind": head})
    assert "sees no pixels" in repr(classifier)
    test = formats.where(split="test")
    assert gilt.evaluate(gilt.predict(classifier, test)).metrics["accuracy"].value == 1
    classifier.save(tmp_path / "m.safetensors")
    again = gilt.load_classifier(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(gilt.predict(again, test).logits, gilt.predict(classifier, test).logits)
    measured = gilt.predict(again, test.paths)  # from the files themselves
    np.testing.assert_allclose(measured.logits, gilt.predict(again, test).logits, rtol=1e-5, atol=1e-5)
    cached = gilt.predict(again, test, cache=gilt.PixelCache(tmp_path / "cache"))
    np.testing.assert_allclose(cached.logits, measured.logits, rtol=1e-5, atol=1e-5)
    assert not (tmp_path / "cache").exists()  # no pixel was decoded


def test_what_a_picture_shows_is_not_seen(formats, tmp_path):
    classifier = train(formats)
    red, blue = (draw(tmp_path / f"{name}.bmp", colour, seed=1, size=64, noise=0)
                 for name, colour in (("red", (255, 0, 0)), ("blue", (0, 0, 255))))
    logits = gilt.predict(classifier, [red, blue]).logits
    assert red.stat().st_size == blue.stat().st_size
    np.testing.assert_array_equal(logits[0], logits[1])


def test_after_equalising_nothing_is_left_to_tell_by(formats, tmp_path):
    same = tmp_path / "same"
    for i, path in enumerate(formats.paths):
        made = same / path.relative_to(formats.root).with_suffix(".png")
        made.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (i % 7, 100, 100)).save(made)
    table = gilt.split(gilt.scan(same, "{origin}/{class}"), target="origin", seed=0)
    logits = gilt.predict(train(table), table).logits
    assert np.abs(logits - logits[0]).max() < 3  # only a few bytes more or less


def test_the_class_is_a_target_too(formats):
    classifier = train(formats, target="class", epochs=2)
    assert classifier.classes == ("robin", "wren")
    assert len(gilt.predict(classifier, formats.where(split="test"))) == len(formats.where(split="test"))


def test_unreadable_files_are_said_to_be_so(formats, tmp_path):
    good = draw(tmp_path / "a.png", (1, 2, 3), seed=0)
    (tmp_path / "b.png").write_bytes(good.read_bytes()[:40])
    (tmp_path / "c.png").write_bytes(b"no image")
    predictions = gilt.predict(train(formats, epochs=1), tmp_path)
    assert predictions.error[0] is None
    assert predictions.error[2] == f"{tmp_path / 'c.png'} cannot be read: empty or no image"
    assert np.isnan(predictions.logits[1:]).all()
    assert np.isfinite(predictions.logits[0]).all()


def test_a_table_without_the_facts_is_refused(formats):
    classifier = train(formats, epochs=1)
    with pytest.raises(gilt.TableError, match=r"1 rows have no width, such as .*: the model 'metadata' needs what gilt scan"):
        gilt.predict(classifier, formats.with_column("width", [None, *formats.frame["width"][1:]]))


@pytest.mark.parametrize("settings, said", [
    ({"weights": "pretrained"}, r"sees no pixels: leave train\.weights out"),
    ({"image_size": 64}, r"leave train\.image_size out"),
    ({"frozen": False}, r"leave train\.frozen out"), ({"augment": ["hflip"]}, r"leave train\.augment out")])
def test_settings_of_pixels_do_not_go_with_it(settings, said):
    with pytest.raises(ValueError, match=said):
        gilt.TrainConfig(model="metadata", **settings)


def test_facts_are_the_files_own_in_powers_of_two():
    columns = {"width": [256, 64], "height": [128, 64], "bytes": [4096, 2048], "quality": [90, None], "format": ["JPEG", "JXL"],
               "mode": ["L", "RGB"]}
    found = [dict(zip(FACTS, row, strict=True)) for row in facts(columns)]
    assert [found[0][name] for name in FACTS[:7]] == pytest.approx([8, 7, 1, 12, -3, 0.9, 1])
    assert [found[1][name] for name in ("JPEG quality", "has a quality", "another format", "RGB")] == [0, 0, 1, 1]
    assert {name for name, value in found[0].items() if value == 1} == {"aspect", "has a quality", "JPEG", "L"}


def test_a_fact_that_never_differed_in_training_says_nothing():
    network = Metadata(1)
    rows = facts({"width": [64, 64, 64], "height": [64, 64, 64], "bytes": [1000, 2000, 4000], "quality": [None] * 3,
                  "format": ["PNG"] * 3, "mode": ["RGB"] * 3})
    network.fit(rows)
    torch.nn.init.normal_(network.head.weight)
    other = facts({"width": [512], "height": [64], "bytes": [2000], "quality": [40], "format": ["JPEG"], "mode": ["L"]})
    seen = network.standardised(torch.from_numpy(np.concatenate([rows, other])))
    assert (seen[:, [FACTS.index(name) for name in ("width", "aspect", "JPEG", "PNG", "L", "JPEG quality")]] == 0).all()
    assert seen[0, FACTS.index("bytes")] < seen[1, FACTS.index("bytes")] < seen[2, FACTS.index("bytes")]
    assert seen.abs().max() <= 10
