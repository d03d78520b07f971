"""Frozen features: backbones, the weights they start from, SMOTE between features, and heads trained on them."""
import logging
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import gilt
from conftest import SHARED, draw
from gilt.config import TrialConfig
from gilt.engine.frozen import FrozenFeatures
from gilt.engine.judge import SEEN_DIGITS, learnt_before, memory, warn_of_seen
from gilt.models.features import features_of, head_of, smote
from gilt.models.layers import DEVIATION, MEAN
from gilt.models.weights import load_weights
from gilt.models.zoo import create, find, parameters, size_of

WEIGHTS = SHARED / "weights" / "mobilenet_v2-b0353104.pth"
QUICK = {"model": "lenet5", "batch_size": 10}


@pytest.mark.parametrize("name, published", [("mobilenet_v2", 3_504_872), ("resnet18", 11_689_512), ("resnet50", 25_557_032)])
def test_backbones_have_the_published_parameter_counts(name, published):
    assert size_of(name) == published
    width = {"mobilenet_v2": 1280, "resnet18": 512, "resnet50": 2048}[name]
    assert parameters(create(name, outputs=5)) == published - 995 * (width + 1)


def test_a_backbone_takes_images_from_0_to_1_and_normalises_them_itself():
    network = create("resnet18", outputs=4).eval()
    images = torch.rand(2, 3, 64, 64)
    normal = (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]
    torch.testing.assert_close(network(images), network.body(normal))
    with pytest.raises(gilt.ModelError, match="'resnet18' cannot take 31x31 images"):
        create("resnet18", input_size=31)


BODIES = ["lenet5", "thesis2", "mobilenet_v2", "resnet18", "resnet20", "torchvision:squeezenet1_1", "torchvision:vit_b_32",
          "timm:test_resnet", "timm:test_vit", "timm:test_convnext", "timm:resnet10t", "open_clip:ViT-S-32-alt"]


@pytest.mark.parametrize("name", BODIES)
def test_features_are_what_goes_into_the_last_layer(name):
    size = 64 if name in BODIES[:5] else None
    torch.manual_seed(0)
    try:
        network = create(name, outputs=3, input_size=size).eval()
        features = head_of(network)[1].in_features
    except gilt.ModelError as error:
        assert name == "torchvision:squeezenet1_1" and "has none" in str(error)  # it ends in a convolution
        return
    images = torch.rand(5, 3, *2 * (size or find(name).input_size,))
    found = np.concatenate(list(features_of(network, images.split(2))))
    assert (found.dtype, found.shape) == (np.float32, (5, features))
    with torch.inference_mode():
        torch.testing.assert_close(head_of(network)[1](torch.from_numpy(found)), network(images), rtol=1e-3, atol=1e-4)
    again = np.concatenate(list(features_of(network, images.split(5))))  # other images beside it change nothing
    np.testing.assert_allclose(again, found, rtol=1e-5, atol=1e-5 * np.abs(found).max())


def test_bodies_with_other_arguments_do_not_share_features(tmp_path):
    torch.manual_seed(0)
    network = create("resnet20", outputs=3)
    pixels, cache = gilt.Preprocessing(size=32), gilt.PixelCache(tmp_path)
    paths = [FrozenFeatures(network, "resnet20", pixels, cache, arguments).path
             for arguments in ({}, None, {"normalise": "imagenet"})]
    assert paths[0] == paths[1] != paths[2]
    other = create("resnet20", outputs=3, arguments={"normalise": "imagenet"})
    other.load_state_dict(network.state_dict())
    assert FrozenFeatures(other, "resnet20", pixels, cache).path != paths[0]  # the mean is part of what images go through
    network.linear.weight.data.zero_()
    assert FrozenFeatures(network, "resnet20", pixels, cache).path == paths[0]  # the head is not


def test_a_network_that_does_not_end_in_a_dense_layer_cannot_be_frozen():
    after = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.Softmax(1))
    with pytest.raises(gilt.ModelError, match="something follows '1'"):
        list(features_of(after, [torch.rand(1, 3, 2, 2)]))
    with pytest.raises(gilt.ModelError, match="has none"):
        head_of(nn.Sequential(nn.Conv2d(3, 1, 1)))


@pytest.fixture(scope="module")
def body(birds, tmp_path_factory):
    """A small classifier of birds, to be the body of others."""
    path = tmp_path_factory.mktemp("body") / "body.safetensors"
    gilt.train(gilt.mix(birds), gilt.TrainConfig(epochs=3, **QUICK), seed=7).save(path)
    return path


def test_frozen_training_changes_the_last_layer_only_and_learns(birds, body, tmp_path):
    config = gilt.TrainConfig(epochs=20, learning_rate=0.01, weights=str(body), frozen=True, **QUICK)
    cache = gilt.PixelCache(tmp_path / "cache")
    classifier = gilt.train(gilt.mix(birds), config, seed=1, cache=cache)
    before, after = gilt.load_classifier(body).network.state_dict(), classifier.network.cpu().state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if not name.startswith("dense3"))
    assert classifier.history[-1]["train_loss"] < classifier.history[0]["train_loss"]
    assert classifier.history[-1]["val_accuracy"] is not None
    test = birds.where(split="test")
    from_features = gilt.predict(classifier, test, cache=cache)
    classifier.save(tmp_path / "c.safetensors")
    again = gilt.load_classifier(tmp_path / "c.safetensors")
    np.testing.assert_allclose(from_features.logits, gilt.predict(again, test).logits, rtol=1e-3, atol=1e-3)
    assert gilt.evaluate(from_features).metrics["accuracy"].value >= 0.8
    assert again.provenance["weights"] and again.provenance["machine"]["precision"] == "float32"


def test_features_are_computed_once_for_all_that_share_a_body(birds, body, tmp_path, caplog):
    caplog.set_level(logging.INFO, "gilt")
    threads = torch.get_num_threads()
    cache = gilt.PixelCache(tmp_path)
    config = gilt.TrainConfig(epochs=1, weights=str(body), frozen=True, **QUICK)
    gilt.train(gilt.mix(birds, max_real=20), config, cache=cache)
    assert "computing the features of 20 images" in caplog.text
    caplog.clear()
    gilt.train(gilt.mix(birds), config, seed=5, cache=cache)
    assert "computing the features of 22 images" in caplog.text  # only those that are new
    caplog.clear()
    gilt.train(gilt.mix(birds, balance="over"), config.model_copy(update={"epochs": 2}), cache=cache)
    assert "computing" not in caplog.text
    assert torch.get_num_threads() == threads
    gilt.train(gilt.mix(birds), gilt.TrainConfig(epochs=1, frozen=True, **QUICK), cache=cache)  # another body
    assert "computing the features of 42 images" in caplog.text


def test_kept_features_are_those_of_their_image(birds, body, tmp_path):
    classifier, cache = gilt.load_classifier(body), gilt.PixelCache(tmp_path)
    rows = birds.where(split="val")
    some = FrozenFeatures(classifier.network, "lenet5", classifier.preprocessing, cache)
    whole = some.of(rows)
    np.testing.assert_array_equal(some.of(rows.take([3, 1, 3])), whole[[3, 1, 3]])


def points(counts, seed=0):
    labels = np.repeat(np.arange(len(counts)), counts)
    features = np.random.default_rng(seed).normal(size=(len(labels), 4)) + 10 * labels[:, None]
    return features.astype(np.float32), labels


def test_smote_puts_new_points_between_neighbours_of_a_class():
    features, labels = points((20, 8, 3))
    more, names = smote(features, labels, {0: 20, 1: 20, 2: 9}, seed=0)
    assert np.bincount(names).tolist() == [20, 20, 9]
    np.testing.assert_array_equal(more[:31], features)
    assert more.dtype == np.float32
    for label in (1, 2):
        own, new = features[labels == label], more[31:][names[31:] == label]
        for point in new:  # on the line between two rows of its class
            assert min(np.linalg.norm(point - a) + np.linalg.norm(point - b) - np.linalg.norm(a - b)
                       for i, a in enumerate(own) for b in own[i + 1:]) < 1e-4
        assert len(np.unique(new, axis=0)) == len(new)
    again = smote(features, labels, {0: 20, 1: 20, 2: 9}, seed=0)[0]
    np.testing.assert_array_equal(more, again)
    assert not np.array_equal(more, smote(features, labels, {0: 20, 1: 20, 2: 9}, seed=1)[0])


def test_smote_says_where_a_class_is_too_small_and_repeats_a_single_row(caplog):
    features, labels = points((9, 3, 1))
    more, names = smote(features, labels, {0: 9, 1: 9, 2: 9}, seed=0)
    assert np.bincount(names).tolist() == [9, 9, 9]
    assert (more[names == 2] == features[-1]).all()
    assert "fewer than 5 neighbours in 2 classes of so few rows; single rows are repeated" in caplog.text


def test_training_on_features_counts_smotes_points(birds, body):
    rows = gilt.mix(birds, max_real_by_class={"wren": 7}, balance="smote", degree=1.0)
    config = gilt.TrainConfig(epochs=2, weights=str(body), frozen=True, **QUICK)
    classifier = gilt.train(rows, config)
    assert (classifier.provenance["n_real"], classifier.provenance["n_drawn"]) == (28, 42)
    with pytest.raises(gilt.ConfigError, match=r"not between images: set train\.frozen=true"):
        gilt.train(rows, gilt.TrainConfig(epochs=1, **QUICK))


@pytest.mark.parametrize("balance, drawn", [(None, 28), ("over", 42), ("under", 14), ("weights", 28), ("generated", 42)])
def test_every_balance_works_on_frozen_features(birds, body, balance, drawn):
    rows = gilt.mix(birds, max_real_by_class={"wren": 7}, balance=balance)
    classifier = gilt.train(rows, gilt.TrainConfig(epochs=1, weights=str(body), frozen=True, **QUICK))
    assert classifier.provenance["n_drawn"] == drawn
    assert np.isfinite([epoch["train_loss"] for epoch in classifier.history]).all()


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "imblearn.over_sampling", None)
    with pytest.raises(gilt.MissingExtraError, match=r"pip install 'gilt\[balance\]'"):
        smote(*points((4, 2)), {0: 4, 1: 4}, seed=0)


def test_frozen_without_weights_is_said_to_be_pointless(bird_table, tmp_path, caplog):
    bird_table.save(tmp_path / "birds.parquet")
    (tmp_path / "s.toml").write_text(
        'name = "s"\nseeds = [0]\n[base]\ntable = "birds.parquet"\n[base.train]\nmodel = "lenet5"\nepochs = 1\n'
        'frozen = true\n[arms.real]\n')
    gilt.run_study(gilt.Study.load(tmp_path / "s.toml"), tmp_path / "store")
    assert "a network that has learnt nothing" in caplog.text


def test_a_study_finds_weights_beside_its_file_and_knows_them_by_content(bird_table, body, tmp_path):
    import shutil

    (tmp_path / "here").mkdir()
    bird_table.save(tmp_path / "here" / "birds.parquet")
    shutil.copy(body, tmp_path / "here" / "body.safetensors")
    (tmp_path / "here" / "s.toml").write_text(
        'name = "s"\nseeds = [0]\n[base]\ntable = "birds.parquet"\n[base.train]\nmodel = "lenet5"\nepochs = 1\nfrozen = true\n'
        'weights = "body.safetensors"\n[arms.real]\n[arms.smote]\nmix.balance = "smote"\n')
    records = gilt.run_study(gilt.Study.load(tmp_path / "here" / "s.toml"), tmp_path / "store")
    assert {record.state for record in records} == {"finished"}
    shutil.move(tmp_path / "here", tmp_path / "there")
    moved = gilt.Study.load(tmp_path / "there" / "s.toml")
    assert [trial.id(bird_table.fingerprint) for trial in moved.trials()] == [record.id for record in records]
    save_file(create("lenet5").state_dict(), tmp_path / "there" / "body.safetensors")
    assert not {trial.id(bird_table.fingerprint) for trial in moved.trials()} & {record.id for record in records}
    (tmp_path / "there" / "body.safetensors").unlink()
    with pytest.raises(gilt.ModelError, match=r"arm 'real': weights .* does not exist"):
        gilt.run_study(moved, tmp_path / "store", root=bird_table.root)


def test_what_a_body_learnt_from_is_no_test_row(birds, bird_table, body, tmp_path, caplog):
    own = gilt.load_classifier(body)
    own.provenance |= memory(birds, gilt.mix(birds), TrialConfig(train=QUICK))
    own.save(tmp_path / "body.safetensors")
    trial = TrialConfig(train={"weights": str(tmp_path / "body.safetensors"), "frozen": True, **QUICK})
    rows = gilt.split(bird_table, seed=1)
    known = memory(rows, gilt.mix(rows), trial)["seen"]
    learnt = {known[i:i + SEEN_DIGITS] for i in range(0, len(known), SEEN_DIGITS)}
    before = {digest[:SEEN_DIGITS] for digest in gilt.mix(birds).where(split="train").frame["sha256"]}
    test = {digest[:SEEN_DIGITS] for digest in rows.real.where(split="test").frame["sha256"]}
    assert before < learnt and before & test
    warn_of_seen(rows.real, trial.train.weights, name="arm")
    assert f"had learnt from {len(before & test)} of the {len(test)} test rows" in caplog.text
    assert not learnt_before(None) and not learnt_before("pretrained") and not learnt_before("nothing.pth")


@pytest.mark.shared
@pytest.mark.skipif(not WEIGHTS.is_file(), reason="needs the published weights beside the checkout")
def test_published_weights_give_torchvisions_features(tmp_path):
    from torchvision.models import mobilenet_v2

    network, theirs = create("mobilenet_v2", outputs=3).eval(), mobilenet_v2().eval()
    load_weights(network, WEIGHTS)
    theirs.load_state_dict(torch.load(WEIGHTS, weights_only=True))
    pixels = np.asarray(Image.open(draw(tmp_path / "a.png", (200, 30, 30), seed=0, size=96)))
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255
    normal = (image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]
    expected = theirs.features(normal).mean((2, 3))
    torch.testing.assert_close(torch.from_numpy(next(features_of(network, [image]))), expected, rtol=1e-3, atol=1e-4)
