"""Changes of images: real encoders, sizes, bounds, chance that repeats itself; what cannot be changed is listed."""
import io

import numpy as np
import pytest
from PIL import Image

from conftest import draw
from gilt.config import Preprocessing
from gilt.data.perturb import KINDS, NONE, Change, changes_of, perturb, perturbed_stream
from gilt.errors import ConfigError, ImageError


@pytest.fixture
def image(tmp_path):
    return Image.open(draw(tmp_path / "a.png", (120, 90, 60), seed=1, size=64))


def pixels(image):
    return np.asarray(image, float)


@pytest.mark.parametrize("name, kind", [("jpeg", "JPEG"), ("webp", "WEBP")])
def test_an_encoding_is_what_pillow_makes_of_a_file_of_that_quality(image, name, kind):
    file = io.BytesIO()
    image.save(file, kind, quality=60)
    assert (pixels(perturb(image, f"{name}=60")) == pixels(Image.open(file).convert("RGB"))).all()


@pytest.mark.parametrize("change, size", [
    ("resize=0.5", (32, 32)), ("resize=2", (128, 128)), ("resize-back=0.5", (64, 64)), ("crop=0.5", (32, 32)),
    ("blur=2", (64, 64)), ("noise=0.1", (64, 64)), ("screenshot=1", (54, 54)), ("screenshot=2", (46, 46)),
    ("messenger=3", (64, 64)), ("thumbnail=1", (64, 64)), (NONE, (64, 64))])
def test_a_change_gives_rgb_of_the_right_size_and_leaves_the_image_alone(image, change, size):
    before = pixels(image).copy()
    changed = perturb(image, change, name="a.png")
    assert (changed.mode, changed.size) == ("RGB", size)
    assert (pixels(image) == before).all()
    assert (change == NONE) == (changed.size == image.size and bool((pixels(changed) == before).all()))


def test_services_shrink_large_images_and_never_enlarge_small_ones():
    large = Image.new("RGB", (3000, 1500), "teal")
    assert perturb(large, "messenger=1").size == (1600, 800)
    assert perturb(large, "messenger=2").size == (1280, 640)
    assert perturb(large, "web=1").size == (2048, 1024)
    assert perturb(large, "feed=1").size == (1080, 540)
    assert perturb(large, "thumbnail=1").size == (256, 128)


def test_more_of_a_change_takes_more_away(image):
    def lost(change):
        return np.abs(pixels(perturb(image, change)) - pixels(image)).mean()

    for weak, strong in (("jpeg=95", "jpeg=30"), ("webp=95", "webp=40"), ("blur=0.5", "blur=3"), ("noise=0.01", "noise=0.1"),
                         ("resize-back=0.9", "resize-back=0.25"), ("messenger=1", "messenger=5")):
        assert lost(weak) < lost(strong), (weak, strong)


def test_noise_is_the_same_for_the_same_image_and_another_for_another(image):
    one, again, other = (pixels(perturb(image, "noise=0.1", name=name)) for name in ("a.png", "a.png", "b.png"))
    assert (one == again).all()
    assert (one != other).any()
    assert np.std(one - pixels(image)) == pytest.approx(25.5, rel=0.1)


def test_every_change_takes_the_smallest_image_and_transparency():
    for change in changes_of():
        assert min(perturb(Image.new("RGBA", (1, 1), (9, 9, 9, 100)), change).size) >= 1, change


def test_changes_are_named_by_their_kind_alone_or_with_strengths():
    assert [str(change) for change in changes_of(["jpeg=90,50", "crop"])] == [
        "jpeg=90", "jpeg=50", "crop=0.95", "crop=0.9", "crop=0.75", "crop=0.5"]
    assert len(changes_of()) == sum(len(kind.grid) for kind in KINDS.values())
    assert changes_of(["jpeg=90", "jpeg=90"]) == [Change("jpeg", 90.0)]


@pytest.mark.parametrize("text, words", [
    ("jpg=90", "no change 'jpg'.*Did you mean 'jpeg'"), ("jpeg=101", "a whole number from 1 to 100"),
    ("jpeg=90.5", "a whole number"), ("jpeg=", "not ''"), ("crop=1.5", "from 0.05 to 1"), ("blur=nan", "from 0 to 50"),
    ("noise=much", "not 'much'"), ("messenger=0", "from 1 to 20")])
def test_a_wrong_change_is_told_in_one_line(text, words):
    with pytest.raises(ConfigError, match=words):
        changes_of([text])


def test_what_cannot_be_read_or_changed_is_listed_in_its_place(tmp_path):
    draw(tmp_path / "fine.png", (9, 90, 200), seed=0)
    (tmp_path / "broken.png").write_bytes(b"no image")
    Image.new("RGB", (17_000, 2), "red").save(tmp_path / "long.png")  # WebP has no room for it
    names = ["fine.png", "broken.png", "long.png"]
    changes = [Change(NONE), *changes_of(["webp=80"])]
    found = list(perturbed_stream([tmp_path / name for name in names], names, changes, preprocessing=Preprocessing(size=16)))
    assert [[isinstance(one, ImageError) for one in both] for both in found] == [[False] * 2, [True] * 2, [False, True]]
    assert found[0][0].shape == (16, 16, 3)
    assert "broken.png cannot be read: empty or no image" in str(found[1][0])
    assert "long.png cannot go through webp=80" in str(found[2][1])
