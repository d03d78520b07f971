"""Our own diffusion: what it learns from, that it learns, that a kill changes nothing, and what its images depend on."""
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

import gilt
from conftest import draw, make_birds
from gilt.cli import main
from gilt.engine import checkpoint
from gilt.errors import ConfigError, ModelError, StoreError, TableError
from gilt.files import sha256
from gilt.generators import diffusion
from gilt.generators.config import GeneratorConfig, SampleConfig
from gilt.generators.generator import load_generator
from gilt.generators.sampling import generate
from gilt.generators.training import train_generator

QUICK = {"size": 28, "steps": 6, "batch_size": 8, "width": 16, "looks": 2, "precision": "float32", "patch": 4,
         "sample": SampleConfig(steps=3)}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def painter(birds):
    """A generator that has had six steps: enough to be saved, asked and refused."""
    return train_generator(birds, GeneratorConfig(**QUICK))


def test_it_learns_from_training_photographs_and_remembers_which(birds, painter):
    assert painter.seen == tuple(sorted(birds.where(split="train").real.frame["sha256"]))
    assert painter.counts == birds.where(split="train").real.counts("class")
    assert painter.provenance["rows"] == birds.where(split="train").real.fingerprint
    assert [look["step"] for look in painter.history] == [3, 6]


def test_made_images_are_learnt_from_where_that_is_asked_and_what_their_generator_saw_counts(birds, tmp_path):
    table = gilt.ImageTable(birds.frame.assign(path=[str(path) for path in birds.paths]), tmp_path)
    (tmp_path / "saw.txt").write_text(sha256(b"a photograph of theirs") + "\n")
    table = table.with_column("saw", table.frame["origin"].map({"painter": "saw.txt"}))
    config = GeneratorConfig(**{**QUICK, "steps": 1, "looks": 1}, learn="generated")
    made = table.where(split="train").generated
    assert set(train_generator(table, config).seen) == {*made.frame["sha256"], sha256(b"a photograph of theirs")}


def test_undealt_rows_are_dealt_as_a_trial_does_and_that_is_said(bird_table, caplog):
    found = train_generator(bird_table, GeneratorConfig(**{**QUICK, "steps": 1, "looks": 1}), seed=3)
    assert set(found.seen) == set(gilt.split(bird_table, seed=3).where(split="train").real.frame["sha256"])
    assert "100 rows without a split dealt by seed 3" in caplog.text


def test_classes_are_picked_and_merged_as_in_a_trial(birds):
    config = GeneratorConfig(**{**QUICK, "steps": 1, "looks": 1}, classes={"bird": ["wren", "robin"]})
    found = train_generator(birds, config)
    assert found.classes == ("bird",)
    assert found.images([("bird", 0)]).shape == (1, 28, 28, 3)


def test_grey_images_make_a_grey_generator(tmp_path):
    for i in range(8):
        path = draw(tmp_path / "real" / "dusk" / f"{i}.png", (1, 1, 1), seed=i)
        Image.fromarray(np.full((28, 28), 20 * i + 30, np.uint8)).save(path)
    table = gilt.scan(tmp_path / "real", "{class}", constants={"origin": "real"})
    found = train_generator(table, GeneratorConfig(**{**QUICK, "steps": 1, "looks": 1}))
    assert found.mode == "L" and found.images([("dusk", 0)]).shape == (1, 28, 28, 1)
    album = generate(found, tmp_path / "made", count=1)
    with Image.open(album.folder / "dusk" / "000000.png") as image:
        assert image.mode == "L"


@pytest.mark.parametrize("size, patch", [(28, 1), (37, 2), (45, 4), (64, 2), (128, 4)])
def test_any_square_size_is_folded_and_unfolded_without_loss(size, patch):
    config = GeneratorConfig(size=size, patch=patch).resolved(images=100, side=32)
    images = torch.rand(2, 3, size, size)
    folded = diffusion.fold(images, config)
    assert folded.shape[-1] % 2 ** (config.levels - 1) == 0 and folded.shape[1] == 3 * patch ** 2
    assert torch.equal(diffusion.unfold(folded, config), images)


@pytest.mark.parametrize("name, order", [("euler", 1), ("heun", 2), ("adams", 2)])
def test_the_solvers_have_their_order(name, order):
    """dx/dt = x from t = 1 to 0 ends at x / e; twice the evaluations divide the error by 2 ^ order."""
    calls = []

    def way(x, t):
        calls.append(t)
        return x

    errors = []
    for steps in (16, 32):
        calls.clear()
        errors.append(abs(diffusion.SOLVERS[name](way, torch.ones(1, dtype=torch.float64), steps).item() - np.exp(-1)))
        assert len(calls) <= steps
    assert errors[0] / errors[1] == pytest.approx(2 ** order, rel=0.35)


def test_it_learns_the_colours_of_its_classes(tmp_path):
    birds = gilt.split(gilt.scan(make_birds(tmp_path, real=30, generated=0), "{origin}/{class}"), train=0.8, val=0.1, test=0.1)
    config = GeneratorConfig(**{**QUICK, "steps": 300, "batch_size": 16, "rate": 3e-3, "unconditional": 0.1})
    found = train_generator(birds, config)
    made = found.images([(name, i) for name in ("wren", "robin") for i in range(8)], sample=SampleConfig(steps=8, guidance=1))
    colours = made.reshape(2, 8, -1, 3).mean((1, 2))
    assert np.abs(colours - [(200, 120, 60), (200, 40, 40)]).max() < 40  # noise has a mean of 128 in every colour
    assert found.history[-1]["loss"] < found.history[0]["loss"]


def test_an_image_depends_on_seed_class_and_number_only(painter):
    many = painter.images([(name, i) for i in range(20) for name in painter.classes], seed=5)
    alone = painter.images([("wren", 7)], seed=5)
    assert np.array_equal(alone[0], many[15])
    assert not np.array_equal(alone, painter.images([("wren", 7)], seed=6))
    assert not np.array_equal(alone, painter.images([("wren", 8)], seed=5))
    assert not np.array_equal(alone, painter.images([("robin", 7)], seed=5))


def test_a_saved_generator_makes_the_same_images_and_unpickles_nothing(painter, tmp_path):
    painter.save(tmp_path / "g.safetensors")
    loaded = load_generator(tmp_path / "g.safetensors", device="cpu")
    assert np.array_equal(loaded.images([("wren", 0)]), painter.images([("wren", 0)]))
    assert (loaded.seen, loaded.counts, loaded.config, loaded.fingerprint) == (
        painter.seen, painter.counts, painter.config, painter.fingerprint)
    with safe_open(tmp_path / "g.safetensors", "pt") as file:
        assert file.get_tensor("seen").shape == (len(painter.seen), 32)


def test_files_that_are_no_generator_are_refused_in_a_line(painter, tmp_path):
    path = tmp_path / "g.safetensors"
    with pytest.raises(ModelError, match="does not exist: make it with gilt generate train"):
        load_generator(path)
    path.write_bytes(b"not safetensors")
    with pytest.raises(ModelError, match="is not a safetensors file"):
        load_generator(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match="no generator of gilt's"):
        load_generator(path)
    painter.save(path)
    with safe_open(path, "pt") as file:
        card = json.loads(file.metadata()["gilt"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    card["config"]["width"] = 32
    save_file(tensors, path, {"gilt": json.dumps(card)})
    with pytest.raises(ModelError, match="does not fit the generator it names"):
        load_generator(path)


def test_a_folder_of_images_has_a_manifest_and_what_was_seen_and_is_gone_on_with(painter, tmp_path):
    album = generate(painter, tmp_path / "made", count={"wren": 3}, seed=1, origin="flow")
    first = (tmp_path / "made" / "wren" / "000000.png").read_bytes()
    assert sorted(path.name for path in (tmp_path / "made" / "wren").iterdir()) == ["000000.png", "000001.png", "000002.png"]
    assert (tmp_path / "made" / album.rows["wren/000001.png"]["saw"]).read_text().split() == list(painter.seen)
    (tmp_path / "made" / "wren" / "000001.png").unlink()
    manifest = tmp_path / "made" / "manifest.csv"
    manifest.write_text(manifest.read_text()[:-7])  # as a kill leaves it
    album = generate(painter, tmp_path / "made", count=4, seed=1, origin="flow")
    assert len(album.rows) == 8 and (tmp_path / "made" / "wren" / "000000.png").read_bytes() == first
    whole = generate(painter, tmp_path / "whole", count=4, seed=1, origin="flow")
    for path in whole.rows:
        assert (tmp_path / "made" / path).read_bytes() == (tmp_path / "whole" / path).read_bytes()
    rows = [line.split(",")[0] for line in manifest.read_text().splitlines()[1:]]
    assert set(rows) == set(whole.rows)
    assert album.rows["wren/000000.png"]["seed"] == "1" and album.rows["wren/000000.png"]["origin"] == "flow"


def test_a_folder_of_other_images_is_refused(painter, tmp_path):
    generate(painter, tmp_path / "made", count=1, seed=1)
    with pytest.raises(StoreError, match="made with seed 1, and 2 is asked for"):
        generate(painter, tmp_path / "made", count=1, seed=2)
    with pytest.raises(StoreError, match=r"made with guidance 1\.5, and 3\.0 is asked for"):
        generate(painter, tmp_path / "made", count=1, seed=1, sample=SampleConfig(steps=3, guidance=3))
    with pytest.raises(StoreError, match="holds images of 'diffusion', not of 'flow'"):
        generate(painter, tmp_path / "made", count=1, seed=1, origin="flow")
    with pytest.raises(ConfigError, match=r"knows no class 'wrn' .*Did you mean 'wren'"):
        generate(painter, tmp_path / "others", count={"wrn": 1})


def test_a_training_that_was_stopped_comes_to_the_same_weights(birds, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "PAUSE", 0)  # its state is saved after every step
    monkeypatch.setattr(checkpoint, "PART", 0)
    config, part = GeneratorConfig(**{**QUICK, "flip": True}), tmp_path / "g.part"

    def stop(step):
        if step.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_generator(birds, config, checkpoint=part, progress=stop)
    steps, looks = [], []
    found = train_generator(birds, config, checkpoint=part, progress=lambda step: steps.append(step.step), on_look=looks.append)
    whole = train_generator(birds, config)
    assert steps == [4, 5, 6] and [look.facts["step"] for look in looks] == [3, 6] and not part.exists()
    assert found.fingerprint == whole.fingerprint
    assert [look["loss"] for look in found.history] == [look["loss"] for look in whole.history]


@pytest.mark.parametrize("settings, says", [
    ({"latent": 32}, "latent belongs to kind='gan', not to 'diffusion'"),
    ({"kind": "gan", "unconditional": 0.2}, "unconditional belongs to kind='diffusion'"),
    ({"generators": ["painter"]}, "set learn='all' or 'generated'"),
    ({"steps": 10, "warmup": 10}, "leave nothing of steps=10"),
    ({"size": 200}, "less than or equal to 128"),
    ({"split": {"hold_out": ["painter"]}}, "a generator learns from training rows only"),
])
def test_settings_that_do_not_go_together_are_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        GeneratorConfig(**settings)


def test_rows_that_cannot_be_learnt_from_are_refused(birds):
    with pytest.raises(TableError, match="no real training row to learn from"):
        train_generator(birds.where(lambda frame: (frame["origin"] != "real") | (frame["split"] != "train")), GeneratorConfig())
    with pytest.raises(ConfigError, match=r"flip names no class 'wrem' .*Did you mean 'wren'"):
        train_generator(birds, GeneratorConfig(flip=["wrem"], size=28))
    nameless = birds.with_column("class", [None if i == birds.frame.index[birds.frame["origin"] == "real"][0] else name
                                           for i, name in enumerate(birds.frame["class"])]).with_column("split", "train")
    with pytest.raises(TableError, match="1 training row without a class"):
        train_generator(nameless, GeneratorConfig(size=28))


def test_a_loss_that_is_no_number_stops_the_training(birds):
    with pytest.raises(ModelError, match=r"the loss became (nan|inf) in step \d+: lower rate"):
        train_generator(birds, GeneratorConfig(**{**QUICK, "rate": 1e30, "clip": 1e30, "warmup": 0, "steps": 50}))


def cli(*words, capsys):
    """Return (exit code, standard error) of a command line."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return ended.value.code, capsys.readouterr().err


def test_the_commands_make_a_generator_its_page_and_a_folder(birds, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    birds.save("t.parquet")
    quick = [word for name, value in {**QUICK, "steps": 2}.items() if name != "sample" for word in ("--set", f"{name}={value}")]
    code, said = cli("generate", "train", "t.parquet", *quick, "--set", "sample.steps=2", "-o", "g.safetensors", capsys=capsys)
    assert code == 0 and "wrote g.safetensors: <Generator diffusion 28x28 RGB" in said
    page = (tmp_path / "g.html").read_text()
    assert page.count("data:image/png") == 2 * 2 + 2 and "Made, and learnt from" in page and 'src="http' not in page
    code, said = cli("generate", "sample", "g.safetensors", "-o", "made", "--count", "wren=2", capsys=capsys)
    assert code == 0 and "made holds 2 images of g, its manifest" in said
    for wrong, says in ((["--count", "x"], "--count takes one number"), (["--steps", "0"], "greater than or equal to 1"),
                        (["--sampler", "adam"], "Did you mean 'adams'"), (["--count", "wrn=1"], "Did you mean 'wren'")):
        code, said = cli("generate", "sample", "g.safetensors", "-o", "other", *wrong, capsys=capsys)
        assert code == 2 and says in said and said.count("\n") == 1, said
    code, said = cli("generate", "train", "t.parquet", "--set", "sise=32", "-o", "h.safetensors", capsys=capsys)
    assert code == 2 and "unknown key 'sise'" in said and "Did you mean 'size'" in said
