"""Weights of others: local files, and published ones by name from caches laid out as their libraries lay them out."""
import hashlib
import json
import os
import pickle
import re
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

import gilt
from conftest import SHARED
from gilt.models.features import head_of
from gilt.models.weights import load_weights
from gilt.models.zoo import create
from gilt.training import named_weights

MOBILENET, RESNET20 = (SHARED / "weights" / name for name in ("mobilenet_v2-b0353104.pth", "resnet20-12fca82f.th"))


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    """A small classifier, to be the body of others."""
    path = tmp_path_factory.mktemp("body") / "body.safetensors"
    torch.manual_seed(0)
    gilt.Classifier(create("lenet5"), "lenet5", ("a", "b"), "class", gilt.Preprocessing(size=32), outputs=1).save(path)
    return path


@pytest.mark.parametrize("kind", ["gilt", "safetensors", "state dict", "nested, DataParallel", "Lightning"])
def test_weights_fill_all_layers_but_the_last(body, tmp_path, kind):
    state = gilt.load_classifier(body).network.state_dict()
    path = {"gilt": body, "safetensors": tmp_path / "w.safetensors"}.get(kind, tmp_path / "w.pth")
    if kind == "safetensors":
        save_file({name: value.contiguous() for name, value in state.items()}, path)
    elif kind == "state dict":
        torch.save(state, path)
    elif kind != "gilt":
        prefix = "model." if kind == "Lightning" else "module."
        torch.save({"epoch": 3, "state_dict": {prefix + name: value for name, value in state.items()}}, path)
    network = create("lenet5", outputs=6)
    head = network.dense3.weight.clone()
    assert load_weights(network, path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert all(torch.equal(network.state_dict()[name], value) for name, value in state.items() if "dense3" not in name)
    assert torch.equal(network.dense3.weight, head)


def test_the_whole_network_is_filled_where_that_is_asked_for(body, tmp_path):
    network = create("lenet5")
    load_weights(network, body, whole=True)
    assert torch.equal(network.dense3.weight, gilt.load_classifier(body).network.dense3.weight)
    with pytest.raises(gilt.ModelError, match=r"dense3\.bias is 1, not 6 \(2 such\): the classes are others"):
        load_weights(create("lenet5", outputs=6), body, whole=True)
    state = {name: value for name, value in create("lenet5").state_dict().items() if "dense3" not in name}
    torch.save(state, tmp_path / "headless.pth")
    load_weights(network, tmp_path / "headless.pth")
    with pytest.raises(gilt.ModelError, match=r"it lacks dense3\.bias, dense3\.weight"):
        load_weights(network, tmp_path / "headless.pth", whole=True)


def test_torchvisions_names_fit_our_backbones(tmp_path):
    theirs = create("resnet18", outputs=1000).body
    state = {name: value for name, value in theirs.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "resnet18.pth")  # as the older of its files are
    network = create("resnet18", outputs=2)
    load_weights(network, tmp_path / "resnet18.pth")
    assert torch.equal(network.body.layer4[1].conv2.weight, theirs.layer4[1].conv2.weight)


@pytest.mark.parametrize("change, part", [
    (lambda s: {n: v for n, v in s.items() if "conv2" not in n}, r"network 'lenet5': it lacks conv2.bias, conv2.weight"),
    (lambda s: s | {"conv9.weight": torch.ones(2)}, "the network has no conv9.weight"),
    (lambda s: s | {"conv1.weight": torch.ones(6, 3, 3, 3)}, "conv1.weight is 6x3x3x3, not 6x3x5x5"),
    (lambda s: {"epoch": 3}, "hold no tensors by name"),
    (lambda s: [1, 2], "hold no tensors by name")])
def test_weights_that_do_not_fit_name_the_layers(body, tmp_path, change, part):
    torch.save(change(gilt.load_classifier(body).network.state_dict()), tmp_path / "w.pth")
    with pytest.raises(gilt.ModelError, match=part) as caught:
        load_weights(create("lenet5"), tmp_path / "w.pth", model="lenet5")
    assert "\n" not in str(caught.value)


def test_weights_of_another_network_say_whose_they_are(body, tmp_path):
    with pytest.raises(gilt.ModelError, match=r"do not fit the network 'thesis1' \(they are those of 'lenet5', 32 pixels\)"):
        load_weights(create("thesis1", input_size=64), body, model="thesis1")
    with pytest.raises(gilt.ModelError, match=r"does not exist: train\.weights names a local file, 'pretrained'"):
        load_weights(create("lenet5"), tmp_path / "none.pth")
    with pytest.raises(gilt.ModelError, match="is a folder"):
        load_weights(create("lenet5"), tmp_path)
    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors", metadata={"gilt": "[]"})
    with pytest.raises(gilt.ModelError, match=r"it lacks conv1\.bias"):
        load_weights(create("lenet5"), tmp_path / "other.safetensors")
    for name, data in (("a.pth", b"hello"), ("b.pth", b""), ("c.safetensors", b"hello, this is no file of tensors")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(gilt.ModelError, match="cannot be read"):
            load_weights(create("lenet5"), tmp_path / name)


def test_weights_never_run_code(tmp_path):
    class Bad:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    (tmp_path / "bad.pth").write_bytes(pickle.dumps({"state_dict": Bad()}, protocol=2))
    with pytest.raises(gilt.ModelError, match="cannot be read"):
        load_weights(create("lenet5"), tmp_path / "bad.pth")
    assert not (tmp_path / "owned").exists()


def test_the_digits_in_a_files_name_are_verified(tmp_path):
    torch.save(create("lenet5").state_dict(), tmp_path / "w.pth")
    data = (tmp_path / "w.pth").read_bytes()
    right = hashlib.sha256(data).hexdigest()
    for name in (f"lenet5-{right[:8]}.pth", "lenet5-20240131.pth", "lenet5-best.pth", "lenet5-abc.pth"):  # a date is no digest
        (tmp_path / name).write_bytes(data)
        assert load_weights(create("lenet5"), tmp_path / name) == right
    wrong = tmp_path / f"lenet5-{'0a' if right[0] != '0' else '1a'}{right[2:8]}.pth"
    wrong.write_bytes(data)
    with pytest.raises(gilt.ModelError, match=f"another file: by the name, .* begins with {wrong.stem[7:]}, but it"):
        load_weights(create("lenet5"), wrong)


def test_names_and_files_are_told_apart():
    assert all(map(named_weights, ["pretrained", "pretrained:IMAGENET1K_V1", "hf:timm/resnet18.a1_in1k"]))
    assert not any(map(named_weights, ["body.safetensors", "pretrained.pth", "./pretrained", "hf/weights.pth"]))


@pytest.mark.parametrize("model, weights, said", [
    ("lenet5", "pretrained", r"network 'lenet5' was published without weights.*'pretrained' is for .*mobilenet_v2.*resnet18"),
    ("resnet18", "pretrained:IMAGENET1K_V7", r"no weights 'IMAGENET1K_V7' \(has: IMAGENET1K_V1\)\. Did you mean"),
    ("timm:test_resnet", "pretrained:nothing", r"timm has no weights 'test_resnet\.nothing' \(has: test_resnet\.r160_in1k\)"),
    ("open_clip:ViT-B-32", "pretrained:openai", r"no weights 'openai' that fit ViT-B-32 .*belong to ViT-B-32-quickgelu"),
    ("lenet5", "hf:wrong", "weights hf:wrong are not written as hf:OWNER/NAME")])
def test_names_of_weights_that_there_are_not_are_refused(model, weights, said):
    with pytest.raises(gilt.ModelError, match=said) as caught:
        load_weights(create("lenet5"), weights, model=model)
    assert "\n" not in str(caught.value)


def hub(place, repository, file, state):
    """Put a file into a cache of the Hugging Face hub, as its library lays it out."""
    folder = place / "hf" / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("0" * 40)
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    snapshot.mkdir(parents=True)
    (save_file if file.endswith(".safetensors") else torch.save)({n: v.contiguous() for n, v in state.items()}, snapshot / file)


CODE = """
import json, sys, torch
from gilt.errors import GiltError
from gilt.models.weights import load_weights
from gilt.models.zoo import create
for model, weights, size in json.load(sys.stdin):
    network = create(model, outputs=3, input_size=size)
    try:
        digest = load_weights(network, weights, model=model)
        print(json.dumps([digest, {name: float(value.double().sum()) for name, value in network.state_dict().items()}]))
    except GiltError as error:
        print(json.dumps(str(error)))
"""
CASES = [("timm:test_resnet", "pretrained", None), ("timm:test_resnet", "hf:timm/test_resnet.r160_in1k", None),
         ("timm:test_vit", "pretrained", 96), ("resnet18", "hf:someone/birds", None), ("resnet18", "pretrained", None),
         ("mobilenet_v2", "pretrained", None), ("timm:test_efficientnet", "pretrained", None),
         ("lenet5", "hf:someone/birds/other.bin", None), ("lenet5", "hf:nobody/nothing@v1", None)]


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """What became of CASES in a process without a network, whose caches hold some of them; and the networks in the caches."""
    import timm
    from torchvision.models import ResNet18_Weights

    place = tmp_path_factory.mktemp("caches")
    torch.manual_seed(1)
    theirs = {"resnet": timm.create_model("test_resnet"), "vit": timm.create_model("test_vit"),
              "birds": create("resnet18", outputs=9).body}
    torch.nn.init.normal_(theirs["vit"].blocks[0].attn.qkv.bias)
    hub(place, "timm/test_resnet.r160_in1k", "model.safetensors", theirs["resnet"].state_dict())
    hub(place, "timm/test_vit.r160_in1k", "model.safetensors", theirs["vit"].state_dict())
    hub(place, "someone/birds", "pytorch_model.bin", theirs["birds"].state_dict())
    folder = place / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(theirs["birds"].state_dict(), folder / ResNet18_Weights.DEFAULT.url.rpartition("/")[2])  # not what it says
    known = {**os.environ, "HF_HOME": str(place / "hf"), "TORCH_HOME": str(place / "torch"), "HF_HUB_OFFLINE": "1",
             "https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "OMP_NUM_THREADS": "1"}
    out = subprocess.run([sys.executable, "-c", CODE], input=json.dumps(CASES), env=known, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    found = [json.loads(line) for line in out.stdout.splitlines()]
    return dict(zip([(model, weights) for model, weights, _ in CASES], found, strict=True)), theirs, place


def same_but_the_last(found, theirs, model):
    head = head_of(create(model))[0]
    own = {f"body.{name}": float(value.double().sum()) for name, value in theirs.state_dict().items()}
    own = {name: value for name, value in own.items() if not name.startswith(f"{head}.")}
    assert len(own) > 5
    assert {name: found[name] for name in own} == pytest.approx(own, rel=1e-5, abs=1e-4)


def test_timms_weights_come_from_the_hubs_cache(offline):
    found, theirs, _ = offline
    digest, sums = found["timm:test_resnet", "pretrained"]
    same_but_the_last(sums, theirs["resnet"], "timm:test_resnet")
    assert found["timm:test_resnet", "hf:timm/test_resnet.r160_in1k"][0] == digest


def test_timms_positions_are_resized_for_other_pixels(offline):
    found, theirs, _ = offline
    sums, own = found["timm:test_vit", "pretrained"][1], theirs["vit"].state_dict()
    assert sums["body.blocks.0.attn.qkv.bias"] == pytest.approx(float(own["blocks.0.attn.qkv.bias"].double().sum()), rel=1e-5)
    assert create("timm:test_vit", input_size=96).body.pos_embed.shape != own["pos_embed"].shape


def test_weights_in_torchs_own_format_are_read_from_the_hub_too(offline):
    found, theirs, _ = offline
    same_but_the_last(found["resnet18", "hf:someone/birds"][1], theirs["birds"], "resnet18")


def test_torchvisions_weights_come_from_torchs_cache_and_are_verified(offline):
    assert re.search(r"resnet18-f37072fd\.pth are damaged or another file: by the name", offline[0]["resnet18", "pretrained"])


@pytest.mark.parametrize("model, weights, sought", [
    ("mobilenet_v2", "pretrained", "torch/hub/checkpoints/mobilenet_v2-7ebf99e0.pth"),
    ("timm:test_efficientnet", "pretrained", "timm/test_efficientnet.r160_in1k (model.safetensors"),
    ("lenet5", "hf:someone/birds/other.bin", "no someone/birds (other.bin) in"),
    ("lenet5", "hf:nobody/nothing@v1", "no nobody/nothing (model.safetensors")])
def test_without_a_network_one_line_says_what_was_sought_where_and_what_to_do(offline, model, weights, sought):
    said = offline[0][model, weights]
    assert "\n" not in said
    assert "cannot be fetched and are not in the cache" in said
    assert repr(weights) in said
    assert sought in said
    assert str(offline[2]) in said  # where the cache is
    assert 'train.weights="PATH"' in said


def test_open_clips_visual_tower_is_taken_out_of_the_whole_model(tmp_path):
    import open_clip

    name = "ViT-S-16"
    if name not in open_clip.list_models():
        pytest.skip(f"this open_clip has no {name}")
    from gilt.models.libraries import open_clip_tag

    network = create(f"open_clip:{name}", outputs=3)
    tower = {f"visual.{key}": value + 0.5 if value.is_floating_point() else value
             for key, value in network.body.state_dict().items()}
    path = tmp_path / "clip.safetensors"
    text = {"logit_scale": torch.ones(()), "text.token_embedding.weight": torch.ones(3, 4)}
    save_file({key: value.contiguous() for key, value in tower.items()} | text, path)
    load_weights(network, path, model=f"open_clip:{name}")
    assert all(torch.equal(network.body.state_dict()[key.removeprefix("visual.")], value) for key, value in tower.items())
    smaller = create(f"open_clip:{name}", outputs=3, input_size=112)
    load_weights(smaller, path, model=f"open_clip:{name}")
    assert isinstance(open_clip_tag(name), str)


def test_a_study_knows_published_weights_by_name_and_leaves_the_name_alone(bird_table, tmp_path):
    bird_table.save(tmp_path / "birds.parquet")
    text = ('name = "s"\nseeds = [0]\n[base]\ntable = "birds.parquet"\n[base.train]\nmodel = "mobilenet_v2"\nfrozen = true\n'
            'weights = "pretrained"\n[arms.real]\n[arms.old]\ntrain.weights = "pretrained:IMAGENET1K_V1"\n')
    (tmp_path / "s.toml").write_text(text)
    study = gilt.Study.load(tmp_path / "s.toml")
    assert [arm.train.weights for arm in study.arms.values()] == ["pretrained", "pretrained:IMAGENET1K_V1"]
    assert len({trial.id(bird_table.fingerprint) for trial in study.trials()}) == 2


@pytest.mark.shared
@pytest.mark.skipif(not RESNET20.is_file(), reason="needs the published weights beside the checkout")
def test_published_weights_fit_whole_networks():
    network = create("resnet20", outputs=10, input_size=32, arguments={"shortcut": "pad", "normalise": "imagenet"})
    assert load_weights(network, RESNET20, model="resnet20", whole=True).startswith("12fca82f")
    network = create("mobilenet_v2", outputs=1000)
    assert load_weights(network, MOBILENET, model="mobilenet_v2", whole=True).startswith("b0353104")
    with pytest.raises(gilt.ModelError, match=r"body.classifier.1.bias is 1000, not 43 \(2 such\): the classes are others"):
        load_weights(create("mobilenet_v2", outputs=43), MOBILENET, model="mobilenet_v2", whole=True)
