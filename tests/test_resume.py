"""A training that was killed goes on where it stood, and comes to the weights of one that was not."""
import logging
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

import gilt
from gilt.engine import checkpoint
from gilt.engine.train import Epoch

SMALL = {"model": "thesis2", "image_size": 24, "batch_size": 10, "device": "cpu"}  # with dropout, which draws at each step
SETTINGS = {
    "plain": {"epochs": 4},
    "cosine": {"epochs": 4, "schedule": "cosine", "warmup": 1.5, "optimizer": "adamw", "gradient_clip": 0.5,
               "augment": ["hflip", "rotate", "noise"], "label_smoothing": 0.1},
    "one-cycle": {"steps": 17, "schedule": "one_cycle", "optimizer": "sgd", "learning_rate": 0.05, "ema": 0.9,
                  "augment": ["mixup", "cutmix"]},
    "plateau": {"epochs": 6, "schedule": "plateau", "plateau_patience": 1, "early_stopping": 3, "keep": "best",
                "learning_rate": 0.01, "layer_decay": 0.5, "freeze": ["conv1"]},
    "norms": {"epochs": 4, "model": "lenet5", "ema": 0.9, "keep": "val_accuracy"},
    "frozen": {"epochs": 4, "frozen": True, "learning_rate": 0.1}}


class Stop(Exception):  # noqa: N818
    pass


@pytest.fixture(autouse=True)
def _write_always(monkeypatch):
    """Write the state after each epoch: these are done in a moment, and would not be worth it."""
    monkeypatch.setattr(checkpoint, "PAUSE", 0.0)
    monkeypatch.setattr(checkpoint, "PART", 0.0)


@pytest.fixture
def rows(birds):
    return gilt.mix(birds, mode="add")


def stop_after(count):
    def heard(epoch):
        if epoch.epoch == count:
            raise Stop

    return heard


def broken_off(rows, config, path, *, after, seed=0):
    """Train until `after` epochs are over and the state of those before is on disk."""
    with pytest.raises(Stop):
        gilt.train(rows, config, seed=seed, checkpoint=path, on_epoch=stop_after(after))
    assert path.exists() == (after > 1)


def told(classifier):
    """What a training came to, but for the clock."""
    clock = {"seconds", "images_per_second"}
    return [{name: value for name, value in epoch.items() if name not in clock} for epoch in classifier.history]


def same(one, other):
    a, b = one.network.state_dict(), other.network.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_training_goes_on_to_the_weights_of_an_undisturbed_one(rows, tmp_path, name):
    config, path, heard = gilt.TrainConfig(**SMALL | SETTINGS[name]), tmp_path / "x.part", []
    whole = gilt.train(rows, config, seed=3)
    broken_off(rows, config, path, after=2, seed=3)
    broken_off(rows, config, path, after=3, seed=3)
    resumed = gilt.train(rows, config, seed=3, checkpoint=path, on_epoch=heard.append)
    assert same(whole, resumed)
    assert told(whole) == told(resumed)
    assert {k: whole.provenance[k] for k in ("stopped", "kept_epoch")} == {
        k: resumed.provenance[k] for k in ("stopped", "kept_epoch")}
    assert [epoch.epoch for epoch in heard] == list(range(1, len(whole.history) + 1))  # of those before the break too
    assert all(isinstance(epoch, Epoch) for epoch in heard)
    assert not list(tmp_path.iterdir())


PROGRAM = """
import os, signal, sys
import gilt
from gilt.engine import checkpoint
checkpoint.PAUSE = checkpoint.PART = 0.0
table, path, out, where, number = *sys.argv[1:5], int(sys.argv[5])

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def tick(now):
    if where == "step" and now.step == number:
        die()

def heard(epoch):
    if where == "epoch" and epoch.epoch == number:
        die()

if where == "writing":
    write = checkpoint.write_bytes
    def half(target, data):
        if os.path.exists(target):
            (target.parent / f".{target.name}.abcdefgh.tmp").write_bytes(bytes(data)[:1000])
            die()
        write(target, data)
    checkpoint.write_bytes = half

rows = gilt.mix(gilt.ImageTable.load(table), mode="add")
config = gilt.TrainConfig(model="thesis2", image_size=24, batch_size=10, epochs=5, device="cpu", schedule="one_cycle", ema=0.9,
                          keep="best", augment=["hflip", "rotate"])
gilt.train(rows, config, seed=1, checkpoint=path, progress=tick, on_epoch=heard).save(out)
"""


def test_a_process_killed_at_several_moments_ends_with_the_same_weights(birds, tmp_path):
    birds.save(tmp_path / "birds.parquet")
    (tmp_path / "program.py").write_text(PROGRAM)
    part = tmp_path / "x.part"

    def run(out, where="nowhere", number=0):
        words = [sys.executable, tmp_path / "program.py", tmp_path / "birds.parquet", part, out, where, str(number)]
        result = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        assert result.returncode == (0 if where == "nowhere" else -signal.SIGKILL), result.stderr

    run(tmp_path / "whole.safetensors")
    killed = tmp_path / "killed.safetensors"
    run(killed, "step", 3)  # in the first epoch: nothing is kept yet
    assert not part.exists()
    run(killed, "step", 19)  # in the middle of the third
    assert part.exists()
    run(killed, "writing")  # while the state after the third is written
    run(killed, "epoch", 4)  # after the fourth is measured, before it is kept
    run(killed)
    assert not part.exists()
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]
    whole, again = (gilt.load_classifier(tmp_path / f"{name}.safetensors") for name in ("whole", "killed"))
    assert same(whole, again)
    assert told(whole) == told(again)


def test_the_command_says_that_it_goes_on_and_ctrl_c_keeps_the_state(birds, tmp_path):
    birds.save(tmp_path / "birds.parquet")
    code = ("import sys; from gilt.engine import checkpoint; checkpoint.PAUSE = checkpoint.PART = 0.0; "
            "from gilt.cli import main; main(sys.argv[1:])")
    words = [sys.executable, "-c", code, "train", tmp_path / "birds.parquet", "-o", tmp_path / "x.safetensors",
             "--set", "train.model=lenet5", "--set", "train.epochs=80", "--set", "train.batch_size=5",
             "--set", "train.augment=[\"hflip\"]"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "x.safetensors.part").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "x.safetensors.part: the same command goes on from there" in said
    assert not (tmp_path / "x.safetensors").exists()
    result = subprocess.run(words, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "going on after epoch " in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["birds.parquet", "x.safetensors"]


@pytest.mark.parametrize("change", ["settings", "seed", "rows"])
def test_the_state_of_another_training_is_not_used(rows, tmp_path, caplog, change):
    config, path = gilt.TrainConfig(**SMALL | SETTINGS["plain"]), tmp_path / "x.part"
    broken_off(rows, config, path, after=3)
    seed = 1 if change == "seed" else 0
    if change == "settings":
        config = config.model_copy(update={"learning_rate": 0.002})
    if change == "rows":
        rows = rows.where(lambda frame: (frame["split"] != "val") | (frame.index % 2 == 0))
    whole = gilt.train(rows, config, seed=seed)
    with caplog.at_level(logging.WARNING, "gilt"):
        assert same(gilt.train(rows, config, seed=seed, checkpoint=path), whole)
    assert "with other settings, rows, seed or device" in caplog.text


@pytest.mark.parametrize("damage", [lambda data: data[:len(data) // 2], lambda data: b"", lambda data: b"no checkpoint"])
def test_a_damaged_state_is_not_used(rows, tmp_path, caplog, damage):
    config, path = gilt.TrainConfig(**SMALL | SETTINGS["plain"]), tmp_path / "x.part"
    broken_off(rows, config, path, after=3)
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING, "gilt"):
        gilt.train(rows, config, checkpoint=path)
    assert "x.part is damaged, so the training starts anew" in caplog.text
    assert not path.exists()


def test_a_state_that_cannot_be_written_does_not_end_the_training(rows, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    config = gilt.TrainConfig(**SMALL | SETTINGS["plain"])
    with caplog.at_level(logging.WARNING, "gilt"):
        classifier = gilt.train(rows, config, checkpoint=tmp_path / "file" / "x.part")
    assert len(classifier.history) == 4
    assert caplog.text.count("the training goes on, but its state is not saved") == 1


def test_the_state_runs_no_code_and_is_not_written_for_short_trainings(rows, tmp_path, monkeypatch):
    config, path = gilt.TrainConfig(**SMALL | SETTINGS["one-cycle"]), tmp_path / "x.part"
    broken_off(rows, config, path, after=3)
    assert torch.load(path, weights_only=True)["step"] > 0
    path.unlink()
    monkeypatch.setattr(checkpoint, "PAUSE", 60.0)
    with pytest.raises(Stop):
        gilt.train(rows, config, checkpoint=path, on_epoch=stop_after(2))
    assert not path.exists()
