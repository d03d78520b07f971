"""Training and prediction on real files: it learns, repeats, and says what it cannot do."""
import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import gilt
from conftest import draw
from gilt.engine.augment import augment
from gilt.engine.batches import Batches
from gilt.engine.optim import add_l2, penalised
from gilt.models.zoo import create

QUICK = {"model": "lenet5", "epochs": 6, "batch_size": 10}


def test_a_network_learns_what_the_birds_differ_in(birds):
    classifier = gilt.train(gilt.mix(birds), gilt.TrainConfig(**QUICK), seed=0)
    result = gilt.evaluate(gilt.predict(classifier, birds.where(split="test")))
    assert result.metrics["accuracy"].value >= 0.9
    first, last = classifier.history[0], classifier.history[-1]
    assert last["train_loss"] < first["train_loss"]
    assert classifier.provenance["n_real"] == 42
    assert classifier.provenance["n_generated"] == 0


def test_a_detector_takes_the_same_road(bird_table):
    rows = gilt.mix(gilt.split(bird_table, target="origin"), target="origin")
    detector = gilt.train(rows, gilt.TrainConfig(target="origin", **QUICK))
    assert detector.classes == ("real", "generated")
    result = gilt.evaluate(gilt.predict(detector, rows.where(split="test")))
    assert result.metrics["auroc"].value >= 0.9
    assert set(result.by["origin"]) == {"real", "painter"}


def test_on_the_cpu_the_same_seed_gives_the_same_weights(birds):
    config = gilt.TrainConfig(augment=("hflip", "shift"), device="cpu", **QUICK)
    a, b, c = (gilt.train(gilt.mix(birds), config, seed=seed).network.state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)


def test_arms_start_from_the_same_weights(birds):
    """Under one seed the first weights do not depend on the rows: with no learning rate to speak of they stay as drawn."""
    torch.manual_seed(5)
    fresh = create("lenet5").state_dict()["conv1.weight"]
    still = gilt.TrainConfig(model="lenet5", epochs=1, learning_rate=1e-30, optimizer="sgd", precision="float32")
    for rows in (gilt.mix(birds), gilt.mix(birds, share=1.0)):
        torch.testing.assert_close(gilt.train(rows, still, seed=5).network.cpu().state_dict()["conv1.weight"], fresh)


def test_fixed_steps_stop_at_the_step(birds):
    ticks = []
    classifier = gilt.train(gilt.mix(birds), gilt.TrainConfig(model="lenet5", batch_size=10, steps=7), progress=ticks.append)
    assert len(ticks) == 7
    assert len(classifier.history) == math.ceil(7 / 5)  # 42 rows: 5 steps an epoch
    assert ticks[-1].left == 0


def test_more_than_two_classes_and_a_class_without_training_rows(bird_table):
    rows = gilt.split(bird_table)
    classifier = gilt.train(rows, gilt.TrainConfig(**QUICK), classes=["robin", "tit", "wren"])
    assert classifier.outputs == 3
    assert gilt.predict(classifier, rows.where(split="test")).logits.shape[1] == 3


def test_two_outputs_with_cross_entropy_are_a_choice(birds):
    classifier = gilt.train(birds, gilt.TrainConfig(loss="cross_entropy", **QUICK))
    assert classifier.outputs == 2
    with pytest.raises(gilt.ConfigError, match="there are 3"):
        gilt.train(birds, gilt.TrainConfig(loss="binary", **QUICK), classes=["robin", "tit", "wren"])


def test_l2_is_keras_penalty_on_the_layers_the_thesis_names():
    network = create("thesis2", input_size=32)
    weights = penalised(network, None)
    assert [w.shape[0] for w, _ in weights] == [32, 16]
    loss = sum(0.01 * w.square().sum() for w, _ in weights)
    loss.backward()
    expected = [w.grad.clone() for w, _ in weights]
    for w, _ in weights:
        w.grad.zero_()
    add_l2(weights)
    for (w, _), grad in zip(weights, expected, strict=True):
        torch.testing.assert_close(w.grad, grad)
    with pytest.raises(gilt.ConfigError, match=r"no layer 'conv9' .*Did you mean"):
        penalised(network, {"conv9": 0.1})


def test_batches_hold_every_row_once_as_channels_last_floats():
    pack = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), np.uint8)
    rows = np.arange(20)[::-1].copy()
    batches = Batches(pack, rows, np.arange(20), torch.device("cpu"))
    seen = []
    for images, labels in batches.epoch(6, shuffle=torch.Generator().manual_seed(0)):
        assert images.is_contiguous(memory_format=torch.channels_last)
        for image, label in zip(images, labels, strict=True):
            expected = torch.from_numpy(pack[rows[label]]).permute(2, 0, 1) / 255
            torch.testing.assert_close(image, expected)
        seen += labels.tolist()
    assert sorted(seen) == list(range(20))
    assert seen != list(range(20))


def test_augmentations_draw_for_each_image_and_keep_shape_and_range():
    images = torch.rand(64, 3, 10, 10)
    generator = torch.Generator().manual_seed(0)
    flipped = augment(images, ["hflip"], generator)
    same = (flipped == images).flatten(1).all(1)
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    assert (same | mirrored).all()
    assert 15 < int(mirrored.sum()) < 50
    moved = augment(images, ["vflip", "shift"], generator)
    assert moved.shape == images.shape
    assert 0 <= moved.min() <= moved.max() <= 1 + 1e-6
    assert not torch.allclose(moved, images)


def test_augmentation_moves_an_image_by_at_most_a_tenth():
    images = torch.zeros(50, 1, 40, 40)
    images[:, :, 20, 20] = 1
    moved = augment(images, ["shift"], torch.Generator().manual_seed(1))
    weight = moved.sum((1, 2, 3))
    rows = (moved.sum((1, 3)) * torch.arange(40)).sum(1) / weight
    assert (rows - 20).abs().max() <= 4.01
    assert (rows - 20).abs().max() > 2


@pytest.mark.parametrize("change, part", [
    (lambda t: t.with_column("split", None), "no train rows: split it first"),
    (lambda t: t.where(class_="wren"), r"one class only \(wren\)"),
    (lambda t: t.where(lambda f: (f["split"] == "val") | (f["class"] == "wren")), r"one class only")])
def test_rows_that_cannot_be_learnt_from_are_refused(birds, change, part):
    with pytest.raises(gilt.TableError, match=part):
        gilt.train(change(birds), gilt.TrainConfig(**QUICK))


def test_a_loss_that_is_no_number_stops_with_a_remedy(birds):
    with pytest.raises(gilt.ModelError, match=r"lower train.learning_rate"):
        gilt.train(birds, gilt.TrainConfig(model="lenet5", epochs=3, optimizer="sgd", learning_rate=1e30))


def test_tensorboard_logs_are_written_when_asked_for(birds, tmp_path):
    pytest.importorskip("tensorboard")
    config = gilt.TrainConfig(model="lenet5", epochs=2, tensorboard=True)
    gilt.train(birds, config, log_dir=tmp_path / "logs")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "logs")).Reload()
    assert [event.step for event in events.Scalars("train_loss")] == [1, 2]
    assert "val_accuracy" in events.Tags()["scalars"]


def test_a_missing_extra_is_named(birds, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(gilt.MissingExtraError, match=r"pip install 'gilt\[tensorboard\]'"):
        gilt.train(birds, gilt.TrainConfig(model="lenet5", epochs=1, tensorboard=True))


def test_prediction_counts_what_it_cannot_read(birds, tmp_path):
    classifier = gilt.train(birds, gilt.TrainConfig(**QUICK))
    for i in range(5):
        draw(tmp_path / f"{i}.png", (200, 120, 60), seed=i)
    (tmp_path / "2.png").write_bytes(b"no")
    frame = gilt.predict(classifier, tmp_path, batch_size=2).frame
    assert list(frame.columns) == ["path", "label", "p_robin", "p_wren", "error"]
    assert len(frame) == 5
    assert frame["error"].notna().tolist() == [False, False, True, False, False]
    assert frame.loc[2, ["label", "p_robin"]].isna().all()
    good = frame.drop(2)
    np.testing.assert_allclose(good["p_robin"] + good["p_wren"], 1)


def test_predictions_from_cache_and_files_are_the_same(birds, tmp_path):
    classifier = gilt.train(birds, gilt.TrainConfig(**QUICK))
    rows = birds.where(split="test")
    cached = gilt.predict(classifier, rows, cache=gilt.PixelCache(tmp_path))
    np.testing.assert_allclose(cached.logits, gilt.predict(classifier, rows).logits, rtol=1e-4, atol=1e-5)


def test_no_image_to_predict_on_is_an_error(tmp_path, birds):
    classifier = gilt.Classifier(create("lenet5"), "lenet5", ("a", "b"), "class", gilt.Preprocessing(size=32), outputs=1)
    with pytest.raises(gilt.TableError, match="no file or folder"):
        gilt.predict(classifier, tmp_path / "none")
    with pytest.raises(gilt.TableError, match="no image in"):
        gilt.predict(classifier, tmp_path)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_runs_on_cuda(birds):
    classifier = gilt.train(gilt.mix(birds), gilt.TrainConfig(device="cuda", **QUICK))
    assert classifier.provenance["machine"]["device"] != "cpu"
    assert gilt.evaluate(gilt.predict(classifier, birds.where(split="test"))).metrics["accuracy"].value >= 0.9


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_asking_for_a_missing_device_is_an_error(birds):
    with pytest.raises(gilt.ConfigError, match="no CUDA device"):
        gilt.train(birds, gilt.TrainConfig(device="cuda", **QUICK))


def test_the_cache_may_be_named_by_the_environment(birds):
    gilt.train(birds, gilt.TrainConfig(model="lenet5", epochs=1))
    assert list(Path(os.environ["GILT_CACHE"]).iterdir())
