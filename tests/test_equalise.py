"""Equal encodings and native crops: what a file's format was worth goes, and traces are seen at their own resolution."""
import io
import logging

import numpy as np
import pytest
import torch
from PIL import Image

import gilt
from gilt.cli import main
from gilt.config import Preprocessing, TrialConfig
from gilt.data.equalise import equalised
from gilt.data.pixels import PixelCache, decode
from gilt.data.reencode import Recipe, remake
from gilt.engine.batches import Batches
from gilt.engine.material import preprocessing_of
from gilt.errors import ConfigError
from gilt.evaluation.calibration import p_generated
from gilt.evaluation.evaluate import evaluate
from gilt.settings import override, parse
from gilt.training import Encoding, TrainConfig

COUNT, SIDE = 100, 48
SMALL = {"target": "origin", "model": "high_pass", "fit": "crop", "image_size": 32, "epochs": 12, "batch_size": 20,
         "optimizer": "adamw", "learning_rate": 3e-3}


def scene(seed, side=SIDE):
    """Return a blurred scene with a little noise: photographs and generated images are drawn alike."""
    rng = np.random.default_rng(seed)
    rough = Image.fromarray(rng.integers(40, 216, (6, 6, 3), np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    return Image.fromarray((np.asarray(rough, float) + rng.normal(0, 6, (side, side, 3))).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def formats(tmp_path_factory):
    """Photographs as JPEG, generated images as PNG, and nothing else to tell them by."""
    folder = tmp_path_factory.mktemp("formats")
    for origin, ending, settings in (("real", "jpg", {"quality": 60}), ("painter", "png", {})):
        (folder / origin / "any").mkdir(parents=True)
        for i in range(COUNT):
            scene([i, origin == "real"]).save(folder / origin / "any" / f"{origin}{i:03}.{ending}", **settings)
    return gilt.split(gilt.scan(folder, "{origin}/{class}"), target="origin", seed=0, train=0.5, val=0.3, test=0.2)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GILT_CACHE", str(tmp_path / "cache"))


def run(capsys, *words):
    """Run a command line; return what it printed."""
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    said = capsys.readouterr()
    assert not left.value.code, said.err
    return said.out + said.err


def auroc(detector, table):
    return evaluate(gilt.predict(detector, table.where(split="test"))).metrics["auroc"].value


def test_equal_encodings_take_away_what_the_format_was_worth(formats):
    raw = gilt.train(formats, TrainConfig(**SMALL), seed=0)
    equal = gilt.train(formats, TrainConfig(**SMALL, equalise=True), seed=0)
    assert auroc(raw, formats) > 0.95  # it sees the JPEG, and nothing else is there to be seen
    assert auroc(equal, formats) < 0.8
    assert raw.preprocessing.equal is None
    assert equal.preprocessing.equal == Encoding(size=SIDE, quality=90, precompress=60)


def test_a_saved_detector_equalises_new_images_alike_wherever_they_come_from(formats, tmp_path, capsys):
    trained = gilt.train(formats, TrainConfig(**SMALL | {"epochs": 1}, equalise={"quality": 80, "precompress": False}), seed=0)
    trained.save(tmp_path / "d.safetensors")
    again = gilt.load_classifier(tmp_path / "d.safetensors")
    assert again.preprocessing == trained.preprocessing
    assert again.preprocessing.equal == Encoding(size=SIDE, quality=80, precompress=None)
    test = formats.where(split="test")
    cached = p_generated(gilt.predict(trained, test, cache=PixelCache(tmp_path / "pixels")))
    streamed = p_generated(gilt.predict(again, test.paths))
    assert np.allclose(cached, streamed, atol=1e-5)
    bare = gilt.load_classifier(tmp_path / "d.safetensors")
    bare.preprocessing = bare.preprocessing.model_copy(update={"equal": None})
    assert not np.allclose(p_generated(gilt.predict(bare, test.paths)), streamed, atol=1e-4)
    assert "the middle square at 48 pixels, a JPEG of quality 80 (4:4:4)" in run(capsys, "card", tmp_path / "d.safetensors")


@pytest.mark.parametrize("to", [Encoding(size=40, precompress=None), Encoding(size=48, quality=70, precompress=75),
                                Encoding(size=30, subsampling="4:2:0", precompress=None)])
def test_a_detector_sees_the_pixels_that_clean_writes(to):
    file = io.BytesIO()
    scene(3, 64).resize((64, 52)).save(file, "PNG")
    cleaned = decode(remake(file.getvalue(), Recipe(equal=to)).parts[0], Preprocessing(size=to.size))
    assert np.array_equal(cleaned, decode(file.getvalue(), Preprocessing(size=to.size, equal=to)))


def test_an_encoding_that_leaves_something_open_is_not_used_by_mistake():
    for to in (Encoding(), Encoding(size=32)):
        with pytest.raises(ValueError, match="chosen from a table's images"):
            equalised(scene(0), to)


def test_sizes_come_from_the_images_and_one_tiny_one_does_not_decide(formats, tmp_path):
    for i, side in enumerate([4] + [60] * 40 + [90] * 40):
        path = tmp_path / "mixed" / ("real" if i % 2 else "painter") / "any" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        scene(i, side).save(path)
    rows = gilt.scan(tmp_path / "mixed", "{origin}/{class}")
    def seen(**settings):
        return preprocessing_of(TrainConfig(target="origin", model="high_pass", **settings), rows)

    assert seen() == Preprocessing(size=128)
    assert seen(fit="crop") == Preprocessing(size=60, fit="crop")  # not more than what nearly all have
    assert seen(fit="crop", image_size=100).size == 100
    with pytest.raises(ConfigError, match="crops of 200 pixels, and the images have 60"):
        seen(fit="crop", image_size=200)
    assert seen(equalise=True).equal == Encoding(size=60, precompress=None)  # no JPEG among them; half would be too little
    assert seen(equalise=True, fit="crop").size == 60
    assert preprocessing_of(TrainConfig(model="high_pass", equalise=True), formats).equal.precompress == 60
    frame = rows.frame.assign(width=rows.frame["width"] * 5, height=rows.frame["height"] * 5)
    larger = preprocessing_of(TrainConfig(model="high_pass", equalise=True, fit="crop"), gilt.ImageTable(frame, rows.root))
    assert (larger.size, larger.equal.size) == (128, 150)  # of several sizes: all are shrunk to half of 300 or less
    assert seen(equalise={"size": 20, "precompress": 50}, fit="crop") == Preprocessing(
        size=20, fit="crop", equal=Encoding(size=20, precompress=50))


def test_training_sees_another_part_of_an_image_each_time_and_validation_its_middle():
    pack = np.arange(3 * 8 * 8, dtype=np.uint8).reshape(3, 8, 8, 1).repeat(3, 3)
    batches = Batches(pack, np.arange(3), np.zeros(3), torch.device("cpu"), window=5)
    for images, _ in batches.epoch(3):
        assert np.array_equal((images[:, 0] * 255).round().numpy(), pack[:, 1:6, 1:6, 0])
    seen = set()
    for seed in range(100):
        generator = torch.Generator().manual_seed(seed)
        for images, _ in batches.epoch(2, shuffle=generator):
            for image in (images[:, 0] * 255).round().int().numpy():
                number, top, left = image[0, 0] // 64, image[0, 0] % 64 // 8, image[0, 0] % 8
                assert np.array_equal(image, pack[number, top:top + 5, left:left + 5, 0])
                seen.add((int(number), int(top), int(left)))
    assert len(seen) == 3 * 4 * 4  # every place of every image
    again = [images for images, _ in batches.epoch(3, shuffle=torch.Generator().manual_seed(1))]
    assert torch.equal(again[0], next(iter(batches.epoch(3, shuffle=torch.Generator().manual_seed(1))))[0])


def test_a_detector_of_which_no_network_is_said_takes_the_recipe_for_it():
    for target in ("origin", "generator"):
        config = TrialConfig.model_validate({"target": target}).train
        assert (config.recipe, config.model, config.fit) == ("detector", "high_pass", "crop")
    assert TrialConfig.model_validate({"target": "origin", "train": {"epochs": 2}}).train.epochs == 2
    assert TrainConfig(target="origin", model="lenet5").recipe is None
    assert TrainConfig(target="origin", recipe="cifake").model == "cifake"
    assert TrainConfig().recipe is None


def test_the_short_option_and_settings_of_the_encoding_go_together(formats, tmp_path, capsys):
    formats.save(tmp_path / "t.parquet")
    said = run(capsys, "train", tmp_path / "t.parquet", "--target", "origin", "--equalise",
               "--set", "train.equalise.quality=85",
               "--set", "train.epochs=1", "--set", "mix.max_real=20", "-o", tmp_path / "d.safetensors")
    detector = gilt.load_classifier(tmp_path / "d.safetensors")
    assert detector.preprocessing == Preprocessing(size=48, fit="crop", equal=Encoding(size=48, quality=85, precompress=60))
    assert detector.model == "high_pass"
    assert "the training rows are uneven (generated 50, real 20): each side counts the same in the loss" in said
    assert "SHORTCUT IN THE FILES" in said
    assert "all images at one size and in one encoding" in said
    assert detector.provenance["trial"]["mix"]["balance"] == "weights"


@pytest.mark.parametrize("setting, message", [
    ("train.equalise.quality=0", "greater than or equal to 1"), ("train.equalise.qualty=3", "Did you mean 'quality'"),
    ("train.equalise=maybe", "train.equalise"), ("train.fit=crops", "Did you mean 'crop'"),
    ("train.equalise.precompress=none", "train.equalise.precompress")])
def test_a_wrong_setting_is_told_in_one_line(setting, message):
    with pytest.raises(ConfigError) as caught:
        parse(TrialConfig, override({"target": "origin"}, [setting]), where="--set")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_was_chosen_is_said(formats, caplog):
    with caplog.at_level(logging.INFO):
        preprocessing_of(TrainConfig(model="high_pass", equalise=True), formats)
    assert "every image is made a JPEG of quality 60, then the middle square at 48 pixels, a JPEG of quality 90" in caplog.text
