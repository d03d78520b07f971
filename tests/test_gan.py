"""Our own GAN: its layers, its augmentation, that it learns and does not collapse unseen."""
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open

import gilt
from conftest import draw, make_birds
from gilt.engine import checkpoint
from gilt.errors import ConfigError
from gilt.generators.adversary import CHANGED, Adversary, changed
from gilt.generators.config import CHANGES, GeneratorConfig, SampleConfig
from gilt.generators.draws import Draws
from gilt.generators.gan import Conv, Critic, Painter, sides
from gilt.generators.generator import load_generator
from gilt.generators.sampling import generate
from gilt.generators.training import COLLAPSED, diversity, train_generator

QUICK = {"kind": "gan", "size": 28, "steps": 4, "batch_size": 8, "width": 16, "looks": 2, "precision": "float32", "latent": 16}


pytestmark = pytest.mark.usefixtures("one_thread")


def draws(step=0):
    return Draws(0, step, torch.device("cpu"))


@pytest.mark.parametrize("size, patch", [(28, 1), (28, 2), (32, 2), (37, 2), (45, 4), (64, 2), (100, 4), (128, 4)])
@pytest.mark.parametrize("channels", [1, 3])
def test_both_networks_take_any_square_size(size, patch, channels):
    config = GeneratorConfig(**{**QUICK, "size": size, "patch": patch}).resolved(images=100, side=32)
    images = Painter(config, classes=3, channels=channels)(torch.randn(4, 16), torch.tensor([0, 1, 2, 0]))
    assert images.shape == (4, channels, size, size)
    assert Critic(config, classes=3, channels=channels)(images, torch.tensor([0, 1, 2, 0])).shape == (4,)
    assert 2 <= sides(config)[1] <= 6


def test_a_modulated_convolution_is_one_whose_weights_were_scaled_and_normalised():
    """StyleGAN2's own form: an own set of weights for each image."""
    torch.manual_seed(0)
    layer, x, style = Conv(5, 7, style=4), torch.randn(2, 5, 6, 6), torch.randn(2, 4)
    out = layer(x, style)
    for image, scales, found in zip(x, layer.style(style), out, strict=True):
        weight = layer.weight * scales[None, :, None, None]
        weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt() / layer.scale * layer.scale
        expected = torch.nn.functional.conv2d(image[None], weight, padding=1)[0] + layer.bias[:, None, None]
        assert torch.allclose(found * 1, expected, rtol=1e-3, atol=1e-3)


def test_an_image_depends_on_no_other_of_its_batch():
    config = GeneratorConfig(**QUICK).resolved(images=100, side=28)
    torch.manual_seed(0)
    network, latent, labels = Painter(config, classes=2, channels=3), torch.randn(4, 16), torch.tensor([0, 1, 0, 1])
    assert torch.allclose(network(latent, labels)[:1], network(latent[:1], labels[:1]), atol=1e-5)
    assert not torch.allclose(network(latent, labels), network(latent, 1 - labels), atol=1e-3)


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_differs_from_image_to_image_and_lets_gradients_through(name):
    images = torch.rand(6, 3, 28, 28).mul(2).sub(1)[:1].repeat(6, 1, 1, 1).requires_grad_(True)
    out = CHANGED[name](images, draws())
    assert out.shape == images.shape
    assert all(not torch.equal(out[0], other) for other in out[1:])
    out.square().sum().backward()
    assert images.grad.abs().sum() > 0
    assert torch.equal(out, CHANGED[name](images, draws())) and not torch.equal(out, CHANGED[name](images, draws(1)))


def test_a_hole_takes_at_most_a_quarter_and_a_shift_at_most_an_eighth():
    white = torch.ones(200, 1, 32, 32)
    left = (changed(white, ("cutout",), draws()) != 0).float().mean((1, 2, 3))
    assert left.min() == 0.75 and left.max() > 0.75
    dot = torch.zeros(200, 1, 32, 32)
    dot[:, :, 16, 16] = 1
    moved = changed(dot, ("translation",), draws()).nonzero()[:, 2:] - 16
    assert (moved.min(), moved.max()) == (-4, 4)


def test_both_networks_learn_in_a_step_and_the_penalty_comes_every_sixteenth():
    config = GeneratorConfig(**{**QUICK, "r1": 10.0, "patch": 4}).resolved(images=100, side=28)
    torch.manual_seed(0)
    learner = Adversary(config, classes=2, channels=3, device=torch.device("cpu"), precision=torch.float32)
    before = [next(part.parameters()).detach().clone() for part in (learner.network, learner.critic)]
    called = []
    learner._penalty, penalty = lambda *given: called.append(1) or penalty(*given), learner._penalty
    for step in range(17):
        losses = learner.step(torch.rand(8, 3, 28, 28), torch.arange(8) % 2, draws(step), step)
    assert set(losses) == {"loss", "critic_loss"} and len(called) == 2
    after = [next(part.parameters()).detach() for part in (learner.network, learner.critic)]
    assert not any(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_it_learns_the_colours_of_its_classes(tmp_path):
    birds = gilt.split(gilt.scan(make_birds(tmp_path, real=40, generated=0), "{origin}/{class}"), train=0.8, val=0.1, test=0.1)
    config = GeneratorConfig(**{**QUICK, "steps": 250, "batch_size": 16, "patch": 4, "r1": 0.0, "augment": ["translation"]})
    found = train_generator(birds, config)
    made = found.images([(name, i) for name in ("wren", "robin") for i in range(8)])
    colours = made.reshape(2, 8, -1, 3).mean((1, 2))
    assert np.abs(colours - [(200, 120, 60), (200, 40, 40)]).max() < 45
    assert {"loss", "critic_loss", "diversity"} <= set(found.history[-1])


def test_the_spread_is_one_for_the_real_images_and_nothing_for_one_image_again_and_again():
    rng = np.random.default_rng(0)
    real = [rng.integers(0, 256, (16, 28, 28, 3), dtype=np.uint8) for _ in range(2)]
    assert diversity(np.stack(real), real) == pytest.approx(1)
    assert diversity(np.stack([np.repeat(images[:1], 16, 0) for images in real]), real) == 0
    assert diversity(np.zeros((1, 4, 28, 28, 3), np.uint8), [np.zeros((4, 28, 28, 3), np.uint8)]) == 1


def test_a_collapse_is_said_once(tmp_path, caplog):
    """Photographs are black or white; with so high a rate all images become the same."""
    for i in range(20):
        draw(tmp_path / "real" / "wren" / f"{i}.png", (255 * (i % 2),) * 3, seed=i, noise=1)
    found = train_generator(gilt.scan(tmp_path, "{origin}/{class}"), GeneratorConfig(**{**QUICK, "rate": 1.0}))
    assert found.history[-1]["diversity"] < COLLAPSED
    assert caplog.text.count("the generator may have collapsed to few images") == 1


def test_a_gan_is_saved_and_takes_no_guidance(birds, tmp_path):
    found = train_generator(birds, GeneratorConfig(**QUICK))
    found.save(tmp_path / "g.safetensors")
    loaded = load_generator(tmp_path / "g.safetensors", device="cpu")
    assert np.array_equal(loaded.images([("wren", 3)]), found.images([("robin", 0), ("wren", 3)])[1:])
    with pytest.raises(ConfigError, match="takes no steps, guidance or sampler"):
        generate(loaded, tmp_path / "made", sample=SampleConfig(guidance=3))
    album = generate(loaded, tmp_path / "made", count=2)
    assert {row["guidance"] for row in album.rows.values()} == {""} and len(album.rows) == 4


RUN = """\
import sys, gilt, torch
torch.set_num_threads(1)
from gilt.engine import checkpoint
checkpoint.PAUSE = checkpoint.PART = 0
from gilt.generators.config import GeneratorConfig
from gilt.generators.training import train_generator
table = gilt.ImageTable.load(sys.argv[1])
config = GeneratorConfig(kind="gan", size=28, steps=12, batch_size=4, width=16, looks=3, patch=4, flip=True)
generator = train_generator(table, config, checkpoint=sys.argv[2] + ".part", progress=lambda step: print(step.step, flush=True))
generator.save(sys.argv[2])
"""


def test_a_training_that_is_killed_comes_to_the_same_weights(birds, tmp_path):
    birds.save(tmp_path / "t.parquet")
    command = [sys.executable, "-c", RUN, str(tmp_path / "t.parquet")]
    whole, killed = tmp_path / "whole.safetensors", tmp_path / "killed.safetensors"
    subprocess.run([*command, str(whole)], check=True, capture_output=True)
    process = subprocess.Popen([*command, str(killed)], stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if int(line) == 7:
            os.kill(process.pid, signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    assert (tmp_path / "killed.safetensors.part").exists() and not killed.exists()
    again = subprocess.run([*command, str(killed)], check=True, capture_output=True, text=True)
    assert int(again.stdout.split()[0]) > 1  # it went on, and did not start anew
    assert not (tmp_path / "killed.safetensors.part").exists()
    tensors = []
    for path in (whole, killed):
        with safe_open(path, "pt") as file:
            tensors.append({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", ["gan", "diffusion"])
def test_on_a_gpu_it_learns_is_stopped_and_goes_on(birds, tmp_path, kind, monkeypatch):
    monkeypatch.setattr(checkpoint, "PAUSE", 0)
    monkeypatch.setattr(checkpoint, "PART", 0)
    settings = {name: value for name, value in QUICK.items() if name not in ("latent", "precision")}
    config = GeneratorConfig(**{**settings, "kind": kind, "device": "cuda", "steps": 40})
    steps = []

    def stop(step):
        steps.append(step.step)
        if len(steps) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_generator(birds, config, checkpoint=tmp_path / "g.part", progress=stop)
    found = train_generator(birds, config, checkpoint=tmp_path / "g.part", progress=stop)
    assert steps == [20, 20, 40]  # the loss is fetched from a GPU every twentieth step only
    assert found.images([("wren", 0)]).shape == (1, 28, 28, 3)
    assert np.array_equal(found.images([("wren", 1)]), found.images([("wren", 0), ("wren", 1)])[1:])
