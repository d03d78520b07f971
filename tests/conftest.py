"""Tiny worlds for the tests: folders of small images that differ by class and by origin. Nothing is downloaded."""
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gilt
from gilt.data.table import ImageTable

SHARED = Path(__file__).resolve().parents[2] / "shared"
RECORDS = "?" * 16 + ".json"  # the records in a store's trials, not the heartbeats
COLOURS = {"wren": (200, 120, 60), "robin": (200, 40, 40), "tit": (60, 120, 200)}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """Keep every test's decoded pixels out of the user's cache."""
    monkeypatch.setenv("GILT_CACHE", str(tmp_path_factory.mktemp("cache")))


def draw(path: Path, colour: tuple[int, int, int], *, seed: int, size: int = 24, noise: int = 60) -> Path:
    """Write an image: a noisy plane of a colour, the format by the ending."""
    rng = np.random.default_rng(seed)
    pixels = np.clip(np.array(colour) + rng.integers(-noise, noise + 1, (size, size, 3)), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def make_birds(root: Path, *, classes=("wren", "robin"), real=30, generated=20, size=24) -> Path:
    """Write {origin}/{class}/*.png: `real` photographs and `generated` images a class; generated ones are paler."""
    for c, name in enumerate(classes):
        for i in range(real):
            draw(root / "real" / name / f"{i:03}.png", COLOURS[name], seed=1000 * c + i, size=size)
        for i in range(generated):
            pale = tuple(v // 2 + 100 for v in COLOURS[name])
            draw(root / "painter" / name / f"g{i:03}.png", pale, seed=50_000 + 1000 * c + i, size=size)
    return root


@pytest.fixture(scope="session")
def bird_folder(tmp_path_factory) -> Path:
    return make_birds(tmp_path_factory.mktemp("birds"))


@pytest.fixture(scope="session")
def bird_table(bird_folder) -> ImageTable:
    """60 photographs and 40 generated images of two classes, without splits."""
    return gilt.scan(bird_folder, "{origin}/{class}")


@pytest.fixture(scope="session")
def birds(bird_table) -> ImageTable:
    """The same, dealt 70-15-15."""
    return gilt.split(bird_table, seed=0)


STUDY = """\
# Do pale birds help? {count} trials.
name = "birds"
seeds = {seeds}

[base]
table = "{table}"
target = "class"

[base.train]
model = "lenet5"
epochs = {epochs}
batch_size = 20

[arms.real]

[arms.ai]
mix.share = 1.0

[arms.aug]
mix.mode = "add"
"""


def write_study(path: Path, table: Path, *, seeds=(0, 1), epochs=2) -> Path:
    path.write_text(STUDY.format(table=table, seeds=list(seeds), epochs=epochs, count=3 * len(seeds)))
    return path


@pytest.fixture
def study_file(tmp_path, bird_table) -> Path:
    """A study of three arms and two seeds over the birds, beside its table."""
    bird_table.save(tmp_path / "birds.parquet")
    return write_study(tmp_path / "birds.toml", tmp_path / "birds.parquet")


@pytest.fixture
def one_thread():
    """Torch on one thread: quicker on tiny networks, and the same bits on every machine's number of cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
