"""Explanations: maps lie where the evidence is, their faithfulness is measured, and what cannot be explained is said."""
import csv
import json
from copy import copy

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

import gilt
from gilt.cli import main
from gilt.config import Preprocessing
from gilt.engine.explain import explain
from gilt.errors import ConfigError, ModelError, TableError
from gilt.evaluation.attention import Gatherer, centre_weights, mean_metric, share
from gilt.evaluation.calibration import calibrated, named, p_generated
from gilt.evaluation.explanation import ExplainConfig
from gilt.evaluation.faithfulness import summed_up, verdict
from gilt.evaluation.spectra import high_share, power_of, radial, rings
from gilt.models.classifier import Classifier
from gilt.models.maps import map_layers
from gilt.models.zoo import create
from gilt.reports.explanation import mean_maps
from gilt.reports.overlays import says, triptych
from gilt.training import Calibration

SIDE, SPOT = 32, 9  # pixels of an image, and of the bright corner that tells a generated one
CPU = torch.device("cpu")
QUICK = {"count": 24, "curves": 12, "steps": 5}


def spotted(folder, *, count=40):
    """Write noise as photographs; generated images are the same with a bright top left corner."""
    for origin in ("real", "painter"):
        for i in range(count):
            pixels = np.random.default_rng([i, origin == "real"]).integers(60, 140, (SIDE, SIDE, 3))
            if origin == "painter":
                pixels[:SPOT, :SPOT] += 115
            path = folder / origin / "wren" / f"{i:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    return folder


@pytest.fixture(scope="module")
def spots(tmp_path_factory):
    return gilt.scan(spotted(tmp_path_factory.mktemp("spots")), "{origin}/{class}")


@pytest.fixture(scope="module")
def detector(spots, tmp_path_factory):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GILT_CACHE", str(tmp_path_factory.mktemp("cache")))
        config = gilt.TrainConfig(target="origin", model="lenet5", epochs=20, batch_size=10)
        found = gilt.train(gilt.split(spots, train=0.8, val=0.2, test=0.0, seed=0, target="origin"), config, seed=0)
    torch.set_num_threads(before)
    return found


def untrained(model, *, size=SIDE, outputs=1, **arguments):
    torch.manual_seed(0)
    network = create(model, outputs=outputs, input_size=size, arguments=arguments).eval()
    return Classifier(network, model, ("real", "generated"), "origin", Preprocessing(size=size), outputs, arguments=arguments)


@pytest.mark.parametrize("classes", [("real", "generated"), ("real", "etcher", "painter")])
def test_what_is_explained_is_what_predict_says_also_where_the_calibration_has_a_bias(spots, classes):
    several = len(classes) > 2
    torch.manual_seed(0)
    network = create("lenet5", outputs=3 if several else 1, input_size=SIDE).eval()
    known = Calibration(temperature=0.7, bias=1.5, threshold=0.5, rule="balanced accuracy", n=80, n_real=40, accuracy=0.9,
                        balanced_accuracy=0.9, false_positive_rate=0.1)
    biased = Classifier(network, "lenet5", classes, "origin", Preprocessing(size=SIDE), 3 if several else 1, calibration=known)
    said = gilt.predict(biased, spots)
    p_NC = calibrated(said)
    called = dict(zip(said.path, zip(named(p_NC, said), p_NC, strict=True), strict=True))
    assert np.allclose(p_NC.sum(1), 1)
    assert np.allclose(1 - p_NC[:, 0], p_generated(said))
    if not several:  # without its bias, other images would be called generated
        assert (named(p_NC, said) != said.probabilities.argmax(1)).any()
    for one in explain(biased, spots, ExplainConfig(method="eigencam", spectra=0, **QUICK)).images:
        place, p = called[one.path]
        assert one.predicted == classes[place]
        assert one.p == pytest.approx(p[place], abs=1e-4)


def test_an_image_in_the_band_is_said_to_be_uncertain_as_predict_says(detector, spots, tmp_path):
    whole = detector.calibration or Calibration(temperature=1.0, threshold=0.5, rule="by hand", n=60, n_real=30, accuracy=0.9,
                                                balanced_accuracy=0.9, false_positive_rate=0.1)
    cut = copy(detector)
    cut.calibration = whole
    p = p_generated(gilt.predict(cut, spots))
    edges = float(np.quantile(p, 0.3)), float(np.quantile(p, 0.6))
    cut.calibration = whole.model_copy(update={"threshold": sum(edges) / 2, "band": edges})
    settings = ExplainConfig(**QUICK | {"curves": 0}, method="eigencam")
    found = explain(cut, spots, settings)
    predicted = gilt.predict(cut, spots)
    said = dict(zip(predicted.path, p_generated(predicted), strict=True))
    assert {one.uncertain for one in found.images} == {True, False}
    for one in found.images:
        assert one.uncertain == (edges[0] <= said[one.path] <= edges[1])
        assert (", but uncertain" in says(one)) == one.uncertain
    cut.calibration = whole.model_copy(update={"band": None})
    assert {one.uncertain for one in explain(cut, spots, settings).images} == {None}


def test_a_group_whose_maps_are_all_empty_is_not_drawn():
    full = Gatherer("painter")
    full.add(np.ones((8, 8), np.float32), None)
    empty = Gatherer("real")
    empty.add(np.zeros((8, 8), np.float32), None)
    assert mean_maps([full.result(), empty.result()]).count("(n = ") == 1
    assert mean_maps([empty.result()]) == ""



@pytest.mark.parametrize("method, grid", [("gradcam", 5), ("gradcam++", 5), ("hirescam", 5), ("occlusion", 15)])
def test_the_map_lies_on_the_spot_that_tells_a_generated_image(detector, spots, method, grid):
    settings = ExplainConfig(method=method, explain="generated", spectra=0, **QUICK)
    found = explain(detector, spots.generated, settings)
    corner = np.zeros((SIDE, SIDE))
    corner[:SPOT + 4, :SPOT + 4] = 1  # a layer's places are coarse
    shares = [share(one.map, corner) for one in found.images if one.centre is not None]
    assert found.method == method
    assert found.grid == (grid, grid)
    assert len(shares) >= 12
    assert np.mean(shares) > 3 * corner.mean()
    better = found.faithfulness.better["deletion", "random"]
    assert better.low > 0.05  # the class is lost sooner than when pixels go at random
    assert "beat random" in verdict(found.faithfulness)
    group = found.attention[0]
    assert group.mean_map[:SPOT, :SPOT].mean() > 2 > 1 > group.mean_map[-SPOT:, -SPOT:].mean()


def test_masks_measure_what_the_centre_cannot(detector, spots, tmp_path):
    mask = Image.new("L", (SIDE, SIDE))
    mask.paste(255, (0, 0, SPOT + 4, SPOT + 4))
    for path in spots.generated.frame["path"][:6]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        mask.save(tmp_path / path)
    settings = ExplainConfig(method="occlusion", explain="generated", count=40, curves=0, spectra=0)
    found = explain(detector, spots.generated, settings, masks=tmp_path)
    everything = found.attention[0]
    assert everything.inside.n == 6
    assert everything.area == pytest.approx(((SPOT + 4) / SIDE) ** 2)
    assert everything.gain.low > 0.2
    assert "34 images of 40 had no mask" in found.notes[0]
    with pytest.raises(TableError, match=r"no mask in .* fits an image"):
        explain(detector, spots.real, settings, masks=tmp_path / "painter")


def test_evidence_for_one_class_is_evidence_against_the_other(detector, spots):
    one = spots.generated.take([0])
    maps = [explain(detector, one, ExplainConfig(method="occlusion", explain=name, curves=0, spectra=0)).images[0].map
            for name in ("generated", "real")]
    assert (maps[0] > 0).any()
    assert not ((maps[0] > 0.2) & (maps[1] > 0.2)).any()


@pytest.mark.parametrize("size", [(32, 32), (31, 31), (5, 5), (24, 40)])
def test_a_flat_map_has_half_of_itself_in_the_middle(size):
    centre = centre_weights(*size)
    assert centre.sum() == pytest.approx(size[0] * size[1] / 2)
    assert share(np.full(size, 0.3), centre) == pytest.approx(0.5)
    assert np.allclose(centre, centre[::-1, ::-1])
    assert np.isnan(share(np.zeros(size), centre))


def test_the_interval_of_a_mean_holds_it_and_few_images_have_none():
    values = np.random.default_rng(0).normal(0.5, 0.1, 200)
    found = mean_metric([*values, float("nan")])
    assert found.n == 200
    assert found.low < values.mean() < found.high
    assert found.high - found.low == pytest.approx(4 * 0.1 / 200 ** 0.5, rel=0.2)
    assert mean_metric(values[:4]).low is None
    assert mean_metric([]).value is None


def test_a_map_that_is_no_better_than_random_is_said_to_be_so():
    parts, rng = np.linspace(0, 1, 6), np.random.default_rng(0)
    fall = np.linspace(0.95, 0.1, 6)

    def curves(gain):
        noise = {(kind, order): rng.normal(0, 0.03, (30, 1)) for kind in ("deletion", "insertion")
                 for order in ("map", "random", "centre")}
        return {(kind, order): (fall if kind == "deletion" else fall[::-1]) + wobble
                + (order == "map") * gain * (-1 if kind == "deletion" else 1) for (kind, order), wobble in noise.items()}

    assert "no better than random" in verdict(summed_up(parts, curves(0.0)))
    assert "no better than random" in verdict(summed_up(parts, curves(-0.2)))
    assert verdict(summed_up(parts, curves(0.2))).startswith("The maps beat random ones: ")
    few = {key: values[:3] for key, values in curves(0.2).items()}
    assert "too few" in verdict(summed_up(parts, few))
    still = {key: np.full((30, 6), 0.99) for key in curves(0)}
    assert "Neither test can say" in verdict(summed_up(parts, still))


def test_blurred_images_have_less_high_frequency_and_a_wave_stands_on_its_ring(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    blurred = np.asarray(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(1.5)))
    assert high_share(power_of(blurred)) < 0.1 < 0.7 < high_share(power_of(noise))
    assert radial(power_of(blurred))[-8:].max() < radial(power_of(noise))[-8:].min() / 100
    wave = np.repeat((127 + 100 * np.sin(2 * np.pi * 0.25 * np.arange(64)))[None], 64, 0)[..., None].repeat(3, 2)
    assert rings(64)[radial(power_of(wave)).argmax()] == pytest.approx(0.25)
    assert np.isnan(high_share(power_of(np.full((64, 64, 3), 80, np.uint8))))


def test_spectra_are_by_origin_of_files_at_their_own_size(tmp_path, detector):
    for i in range(12):
        noise = Image.fromarray(np.random.default_rng(i).integers(0, 256, (50, 70, 3)).astype(np.uint8))
        for origin, image in (("real", noise), ("painter", noise.filter(ImageFilter.GaussianBlur(1)))):
            (tmp_path / origin / "wren").mkdir(parents=True, exist_ok=True)
            image.save(tmp_path / origin / "wren" / f"{i}.png")
    found = explain(detector, gilt.scan(tmp_path, "{origin}/{class}"), ExplainConfig(count=1, curves=0, spectra=10))
    assert list(found.spectra) == ["real", "painter"]
    assert found.spectra_size == 50
    assert {one.n for one in found.spectra.values()} == {10}
    assert found.spectra["painter"].share_high.high < found.spectra["real"].share_high.low
    assert any(text.startswith("painter: less high frequencies") for text in found.sentences)


@pytest.mark.parametrize("model, size, layer, grid", [
    ("lenet5", 32, "pool2", (5, 5)), ("cifake", 32, "pool2", (6, 6)), ("resnet20", 32, "layer3.2", (8, 8)),
    ("high_pass", 64, "pool4", (4, 4)), ("npr", 64, "body.layer2.3", (8, 8)), ("resnet18", 64, "body.layer3.1", (4, 4))])
def test_the_layer_of_a_convolutional_network_is_found(model, size, layer, grid):
    found = map_layers(untrained(model, size=size).network, size, CPU)
    assert found.pick().name == layer
    assert found.pick().grid == grid
    assert not found.why_flat


def test_a_transformers_map_is_read_in_front_of_its_last_attention_without_the_class_token(spots):
    pytest.importorskip("timm")
    vit = untrained("timm:vit_tiny_patch16_224", size=64)
    layer = map_layers(vit.network, 64, CPU).pick()
    assert (layer.name, layer.grid, layer.extra) == ("body.blocks.11.norm1", (4, 4), 1)
    tokens = torch.arange(17.0)[None, :, None].repeat(2, 1, 3)
    assert layer.arranged(tokens)[0, 0].flatten().tolist() == list(range(1, 17))
    found = explain(vit, spots.generated.take([0, 1]), ExplainConfig(method="hirescam", curves=0, spectra=0))
    assert found.layer == layer.name
    assert all(one.map.max() == 1 for one in found.images)


@pytest.mark.parametrize("model, why", [("frequency", "see a spectrum"), ("competition_lstm", "row by row"),
                                        ("colour_histogram", "no layer of it has a map")])
def test_a_network_without_a_map_is_explained_by_occlusion_and_says_so(spots, model, why):
    found = explain(untrained(model), spots.take([0]), ExplainConfig(curves=0, spectra=0, patch=16))
    assert found.method == "occlusion"
    assert why in found.notes[0]
    with pytest.raises(ModelError, match="only the method 'occlusion'"):
        explain(untrained(model), spots.take([0]), ExplainConfig(method="gradcam"))


def test_the_baseline_without_pixels_is_refused(spots):
    with pytest.raises(ModelError, match="sees no pixels"):
        explain(untrained("metadata", size=1), spots.take([0]))


@pytest.mark.parametrize("kind, method", [("svm", "occlusion"), ("logistic", "gradcam"), ("knn", "occlusion")])
def test_frozen_features_and_a_fitted_head_are_explained(detector, spots, tmp_path, kind, method):
    detector.save(tmp_path / "body.safetensors")
    rows = gilt.split(spots, train=0.8, val=0.2, test=0.0, seed=0, target="origin")
    config = gilt.TrainConfig(target="origin", model="lenet5", weights=str(tmp_path / "body.safetensors"), frozen=True,
                              head=gilt.HeadConfig(kind=kind, neighbours=5))
    classifier = gilt.train(rows, config, seed=0)
    settings = ExplainConfig(explain="generated", patch=8, curves=0, spectra=0)
    found = explain(classifier, spots.generated.take(range(12)), settings)
    assert classifier.head.get("kind", "logistic") == kind
    assert found.method == method
    shown = [one.map[:13, :13].sum() / one.map.sum() for one in found.images if one.centre is not None]
    assert len(shown) >= 6
    assert np.mean(shown) > 0.33  # twice the corner's part of the area
    if kind == "svm":  # on request, its gradient is followed all the same
        assert "an SVM's bells" in found.notes[0]
        through = explain(classifier, spots.take(range(12)), ExplainConfig(method="hirescam", curves=0, spectra=0))
        assert any(one.centre is not None for one in through.images)
    if kind == "knn":
        assert "neighbours have no gradient" in found.notes[0]
        with pytest.raises(ModelError, match="neighbours have no gradient"):
            explain(classifier, spots.take([0]), ExplainConfig(method="hirescam"))


def test_bad_settings_name_the_choices(detector, spots):
    for settings, error, text in [
            ({"layer": "pol2"}, ModelError, r"no layer 'pol2' .*pool2, norm2.*Did you mean 'pool2'\?"),
            ({"explain": "generatd"}, ConfigError, r"predicted, real, generated.*Did you mean 'generated'\?"),
            ({"method": "occlusion", "layer": "pool2"}, ConfigError, "reads no layer"),
            ({"method": "occlusion", "patch": 40}, ConfigError, "larger than the images")]:
        with pytest.raises(error, match=text):
            explain(detector, spots, ExplainConfig(**settings))


def test_the_same_images_give_the_same_maps_and_the_images_kept_are_bounded(detector, spots):
    settings, seen = ExplainConfig(count=10, curves=4, steps=3, keep=3, batch=4), []
    first = explain(detector, spots, settings, each=lambda one: seen.append(one.map is not None))
    again = explain(detector, spots, settings)
    assert seen == [True] * 10
    assert [one.map is not None for one in first.images] == [True] * 3 + [False] * 7
    assert all(np.array_equal(a.map, b.map) for a, b in zip(first.images[:3], again.images[:3], strict=True))
    assert first.as_json() == again.as_json()
    assert sorted(one.true for one in first.images) == ["generated"] * 5 + ["real"] * 5


def test_the_picture_shows_the_image_enlarged_pixel_by_pixel(detector, spots):
    one = explain(detector, spots.generated.take([0]), ExplainConfig(curves=0, spectra=0)).images[0]
    sheet = np.asarray(triptych(one))
    assert np.array_equal(sheet[:224, :224], one.pixels.repeat(7, 0).repeat(7, 1))
    assert sheet.shape[1] > 3 * 224


def test_the_command_writes_pictures_a_list_and_a_page_and_drops_nothing(detector, spots, tmp_path, capsys):
    detector.save(tmp_path / "d.safetensors")
    spotted(tmp_path / "inbox", count=2)
    (tmp_path / "inbox" / "bad.png").write_bytes(b"no image")
    before = {path: path.read_bytes() for path in (tmp_path / "inbox").rglob("*.png")}
    with pytest.raises(SystemExit) as left:
        main(["explain", str(tmp_path / "d.safetensors"), str(tmp_path / "inbox"), "-o", str(tmp_path / "out"), "--json",
              "--html", str(tmp_path / "page.html")])
    assert left.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["images"]) == 5
    with (tmp_path / "out" / "explained.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["picture"] for row in rows if row["picture"]} == {path.name for path in (tmp_path / "out").glob("*.png")}
    assert sum(bool(row["picture"]) for row in rows) == 4
    unread = [row["error"] for row in rows if not row["picture"]]
    assert unread == [f"{tmp_path}/inbox/bad.png cannot be read: empty or no image"]
    page = (tmp_path / "page.html").read_text()
    assert "A heat map is no proof" in page
    assert "bad.png" in page
    assert page.count("<figure>") == 4
    assert "src=\"http" not in page
    assert "<script" not in page
    assert before == {path: path.read_bytes() for path in (tmp_path / "inbox").rglob("*.png")}


@pytest.mark.parametrize("extra, text", [
    (["--origin", "paintr"], "no row of the origin 'paintr'"), (["--set", "curve=3"], "unknown key 'curve'"),
    (["--masks", "nowhere"], "no folder of masks nowhere")])
def test_the_command_refuses_in_one_line(detector, spots, tmp_path, capsys, extra, text):
    detector.save(tmp_path / "d.safetensors")
    spots.save(tmp_path / "t.parquet")
    with pytest.raises(SystemExit) as left:
        main(["explain", str(tmp_path / "d.safetensors"), str(tmp_path / "t.parquet"), "--split", "all", "-o",
              str(tmp_path / "out"), *extra])
    assert left.value.code == 2
    assert text in capsys.readouterr().err.strip().splitlines()[-1]
