"""Augmentation: each operation against a second source (Pillow, SciPy, torchvision), then draws, labels and the picture."""
import io
import json

import numpy as np
import pytest
import scipy.ndimage
import torch
from click.testing import CliRunner
from PIL import Image
from torchvision.transforms import functional as vision
from torchvision.transforms.autoaugment import RandAugment, TrivialAugmentWide

import gilt
from conftest import COLOURS, draw
from gilt.cli import gilt as command
from gilt.cli import main
from gilt.engine import colour, degrade, geometry, policies
from gilt.engine.augment import OPERATIONS, augment, augmented
from gilt.engine.blend import BLENDS, blend, cutmix, mixup
from gilt.errors import ConfigError
from gilt.reports.augmentations import _of_files, augment_preview
from gilt.training import AUGMENTATIONS

NAMES = [name for name in AUGMENTATIONS if name not in BLENDS]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def scenes(count=4, height=32, width=32, seed=0):
    """Return images_BCHW, channels-last, smooth and coloured, in steps of 1/255."""
    rng = np.random.default_rng(seed)
    small = torch.from_numpy(rng.random((count, 3, 5, 5), np.float32))
    images = torch.nn.functional.interpolate(small, (height, width), mode="bicubic").clamp(0, 1)
    return ((images * 255).round() / 255).contiguous(memory_format=torch.channels_last)


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("name", NAMES)
def test_every_augmentation_keeps_shape_type_layout_and_range_and_repeats_by_its_seed(name):
    images = scenes(24, 30, 20)
    before = images.clone()
    first, again, other = (augment(images, [name], generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == images.shape
    assert first.dtype == torch.float32
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert -1e-6 <= first.min() <= first.max() <= 1 + 1e-6
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", NAMES)
def test_each_image_draws_its_own(name):
    images = scenes(1, 32, 24).expand(40, -1, -1, -1)
    kinds = len(torch.unique(augment(images, [name], generator()).flatten(1), dim=0))
    assert kinds == 2 if "flip" in name else kinds > 10


def test_every_name_is_an_operation_a_view_or_a_blend_and_nothing_else_is():
    assert {*OPERATIONS, *geometry.VIEWS, *BLENDS} == set(AUGMENTATIONS)


def test_flips_mirror_exactly_and_as_often_as_they_say():
    images = scenes(200, 8, 6)
    for name, dim in (("hflip", 3), ("vflip", 2)):
        assert torch.equal(augment(images, [f"{name}=1"], generator()), images.flip(dim))
        assert torch.equal(augment(images, [f"{name}=0"], generator()), images)
        mirrored = (augment(images, [f"{name}=0.25"], generator()) == images.flip(dim)).flatten(1).all(1)
        assert 30 < int(mirrored.sum()) < 70


@pytest.mark.parametrize("degrees, turns", [(90, 1), (180, 2), (-90, 3), (0, 0)])
def test_a_quarter_turn_of_a_square_moves_whole_pixels(degrees, turns):
    images = scenes(2, 16, 16)
    turned = geometry.warp(images, geometry.turned(numbers(degrees, degrees)))
    torch.testing.assert_close(turned, torch.rot90(images, turns, (2, 3)), atol=1e-4, rtol=0)


def test_a_turn_keeps_the_shape_of_things_in_an_image_that_is_no_square():
    image = torch.zeros(1, 3, 41, 81)
    image[:, :, 20, 50] = 1  # 10 pixels right of the centre
    turned = geometry.warp(image, geometry.turned(numbers(90)))
    assert turned[0, 0].flatten().argmax() == 10 * 81 + 40  # 10 pixels above it


@pytest.mark.parametrize("x, y", [(3, 0), (0, -2), (-4, 5)])
def test_a_shift_moves_by_whole_pixels_and_repeats_the_border(x, y):
    image = scenes(1, 20, 30)
    moved = geometry.warp(image, geometry.moved(numbers(x), numbers(y)))
    places = torch.meshgrid((torch.arange(20) + y).clamp(0, 19), (torch.arange(30) + x).clamp(0, 29), indexing="ij")
    torch.testing.assert_close(moved, image[:, :, *places], atol=1e-4, rtol=0)


def test_a_view_agrees_with_scipys_affine_transform():
    image = scenes(1, 24, 36)
    leaning = geometry.sheared(numbers(0.2), numbers(0))
    view = geometry.turned(numbers(20)) @ leaning @ geometry.scaled(numbers(0.8), numbers(1.1))
    ours = geometry.warp(image, view)[0]
    swap = view[0, :2, :2].numpy()[::-1, ::-1]  # rows before columns
    centre = np.array([11.5, 17.5])
    for channel in range(3):
        other = scipy.ndimage.affine_transform(image[0, channel].numpy(), swap, centre - swap @ centre, order=1, mode="nearest")
        np.testing.assert_allclose(ours[channel], other, atol=1e-4)


def test_neighbouring_geometry_is_one_sampling_and_the_order_counts():
    image = scenes(1, 32, 32)
    names = ["rotate=90", "shift=0.3", "hflip=1", "zoom=0.5"]
    views = torch.eye(3, dtype=torch.float64)
    drawn = generator()
    for name, strength in (("rotate", 90), ("shift", 0.3), ("hflip", 1), ("zoom", 0.5)):
        views = views @ geometry.VIEWS[name](1, strength, (32, 32), drawn)
    assert torch.equal(augment(image, names, generator()), geometry.warp(image, views))
    one, two = geometry.turned(numbers(90)), geometry.moved(numbers(8), numbers(0))
    step_by_step = geometry.warp(geometry.warp(image, one), two)
    torch.testing.assert_close(geometry.warp(image, one @ two)[..., :20], step_by_step[..., :20], atol=1e-3, rtol=0)
    assert not torch.allclose(geometry.warp(image, two @ one)[..., :20], step_by_step[..., :20], atol=0.05)


@pytest.mark.parametrize("name, strength, value, low, high", [
    ("rotate", 30, lambda v: torch.rad2deg(torch.atan2(v[:, 1, 0], v[:, 0, 0])), -30, 30),
    ("shift", 0.2, lambda v: v[:, 0, 2] / 50, -0.2, 0.2),
    ("shift", 0.2, lambda v: v[:, 1, 2] / 100, -0.2, 0.2),
    ("shear", 40, lambda v: torch.rad2deg(torch.atan(v[:, 0, 1])), -40, 40),
    ("zoom", 0.3, lambda v: v[:, 0, 0], 0.7, 1.3),
    ("zoom", 0.3, lambda v: v[:, 1, 1], 0.7, 1.3),
    ("crop", 0.25, lambda v: v[:, 0, 0] * v[:, 1, 1], 0.25, 1)])
def test_a_strength_bounds_what_is_drawn_and_is_made_use_of(name, strength, value, low, high):
    drawn = value(geometry.VIEWS[name](2000, strength, (100, 50), generator()))
    span = high - low
    assert low - 1e-6 <= drawn.min() < low + 0.02 * span
    assert high - 0.02 * span < drawn.max() <= high + 1e-6
    assert abs(drawn.mean() - (low + high) / 2) < 0.03 * span


@pytest.mark.parametrize("least", [0.01, 0.5, 1])
def test_a_crop_lies_within_the_image_and_is_not_stretched_by_more_than_a_third(least):
    views = geometry.VIEWS["crop"](2000, least, (100, 50), generator())
    width, height = views[:, 0, 0], views[:, 1, 1]
    assert (views[:, 0, 2].abs() / 50 + width / 2).max() <= 0.5 + 1e-9
    assert (views[:, 1, 2].abs() / 100 + height / 2).max() <= 0.5 + 1e-9
    assert ((width / height).log().abs() <= np.log(4 / 3) + 1e-9).all()


def test_brightness_and_channel_shift_stay_within_their_strength():
    grey = torch.full((500, 3, 2, 2), 0.5)
    lit = augment(grey, ["brightness=0.4"], generator())[:, :, 0, 0] / 0.5
    assert 0.6 <= lit.min() < 0.62 < 1.38 < lit.max() <= 1.4 + 1e-6
    assert torch.equal(lit[:, 0], lit[:, 2])  # the light changes, the colour does not
    tinted = augment(grey, ["channel_shift=0.3"], generator())[:, :, 0, 0] - 0.5
    assert -0.3 - 1e-6 <= tinted.min() < -0.29 < 0.29 < tinted.max() <= 0.3 + 1e-6
    assert np.abs(np.corrcoef(tinted.T.numpy())[np.triu_indices(3, 1)]).max() < 0.15  # each colour draws its own


def test_noise_has_its_standard_deviation_and_no_bias():
    grey = torch.full((8, 3, 64, 64), 0.5)
    added = augment(grey, ["noise=0.1"], generator()) - 0.5
    assert abs(float(added.std()) - 0.1) < 0.001
    assert abs(float(added.mean())) < 0.001
    assert torch.equal(augment(grey, ["noise=0"], generator()), grey)
    planes = augment(grey, ["noise=0.1"], generator()).flatten(2).flatten(0, 1).numpy()
    assert np.abs(np.corrcoef(planes)[np.triu_indices(24, 1)]).max() < 0.08


@pytest.mark.parametrize("deviation", [0, 0.4, 1, 3.3, 15])
def test_blur_is_scipys(deviation):
    images = scenes(2, 40, 25)
    ours = degrade.blur(images, numbers(deviation, 0.7))
    for image, own, sigma in zip(images, ours, (deviation, 0.7), strict=True):
        other = scipy.ndimage.gaussian_filter(image.double().numpy(), (0, sigma, sigma), mode="nearest")
        np.testing.assert_allclose(own, other, atol=1e-5)


def through_pillow(image, quality):
    buffer = io.BytesIO()
    Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1) / 255


def psnr(one, other):
    return -10 * torch.log10(((one - other) ** 2).mean().clamp(min=1e-12))


@pytest.mark.parametrize("height, width", [(64, 48), (32, 32), (29, 35)])
def test_a_jpeg_is_pillows(height, width):
    images = scenes(5, height, width)
    images = (images + 0.1 * torch.rand(images.shape, generator=generator())).clamp(0, 1)
    images = (images * 255).round() / 255
    qualities = (10, 30, 50, 75, 95)
    ours = degrade.jpeg(images, torch.tensor(qualities))
    for image, own, quality in zip(images, ours, qualities, strict=True):
        other = through_pillow(image, quality)
        assert psnr(own, other) > 43  # about one step of 255: where libjpeg rounds a tie the other way
        assert psnr(own, other) > psnr(image, other) + 10
    assert psnr(ours[0], images[0]) < psnr(ours[4], images[4])


@pytest.mark.parametrize("quality", [1, 20, 49, 50, 75, 100])
def test_a_jpegs_tables_are_those_that_pillow_writes(quality):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG", quality=quality)
    written = Image.open(buffer).quantization
    for place, base in enumerate((degrade.LIGHT, degrade.COLOUR)):
        assert degrade._tables(base, torch.tensor([quality]), torch.device("cpu")).flatten().tolist() == list(written[place])


def test_every_second_image_is_blurred_or_compressed():
    images = torch.rand(400, 3, 16, 16, generator=generator())
    for name in ("blur=2", "jpeg=50"):
        same = (augment(images, [name], generator()) == images).flatten(1).all(1)
        assert 160 < int(same.sum()) < 240, name


FACTORS = (0.1, 0.7, 1.0, 1.9)


@pytest.mark.parametrize("own, other", [
    (colour.brightness, vision.adjust_brightness), (colour.saturation, vision.adjust_saturation),
    (colour.contrast, vision.adjust_contrast), (colour.sharpness, vision.adjust_sharpness)])
def test_factors_do_what_torchvision_does(own, other):
    images = scenes(4, 20, 24)
    expected = torch.stack([other(image, factor) for image, factor in zip(images, FACTORS, strict=True)])
    torch.testing.assert_close(own(images, numbers(*FACTORS)), expected, atol=2e-4, rtol=0)


def test_operations_on_bytes_do_what_torchvision_does():
    images = scenes(4, 40, 36)
    images[1, 0] = 0.4  # a colour of one value, and an image too small in values to equalise
    images[2] = (images[2] > 0.5).float()
    values = (images * 255).round().byte()

    def expect(ours, theirs):
        assert torch.equal((ours * 255).round().byte(), theirs)

    expect(colour.equalize(images), torch.stack([vision.equalize(image) for image in values]))
    expect(colour.posterize(images, torch.tensor([8, 6, 4, 1])),
           torch.stack([vision.posterize(image, bits) for image, bits in zip(values, (8, 6, 4, 1), strict=True)]))
    expect(colour.solarize(images, numbers(255, 200.4, 100, 0)),
           torch.stack([vision.solarize(image, level) for image, level in zip(values, (255, 200.4, 100, 0), strict=True)]))
    torch.testing.assert_close(colour.autocontrast(images), vision.autocontrast(images))


def test_the_policies_draw_from_the_published_list_at_the_published_strengths():
    published = RandAugment()._augmentation_space(31, (50, 60))
    wide = TrivialAugmentWide()._augmentation_space(31)
    assert len(policies.OPERATIONS) == 14
    assert {name.replace("_", "") for name in policies.OPERATIONS} == {name.lower() for name in published}
    most = {"rotate": 30, "shear_x": 0.3, "shear_y": 0.3, "translate_x": 150 / 331 * 60, "translate_y": 150 / 331 * 50,
            "enhance": 0.9, "posterize": 4}
    assert most == policies.randaugment_most(50, 60)
    for space, strongest in ((published, most), (wide, policies.TRIVIAL)):
        for theirs, (magnitudes, signed) in space.items():
            name = next(name for name in policies.OPERATIONS if name.replace("_", "") == theirs.lower())
            if magnitudes.ndim:
                ours = policies.value_of(name, torch.arange(31) / 30, strongest)
                is_factor = theirs in ("Brightness", "Color", "Contrast", "Sharpness")
                torch.testing.assert_close(ours.double(), magnitudes.double() + is_factor, atol=1e-4, rtol=0)
                negative = policies.value_of(name, -torch.arange(31) / 30, strongest)
                assert torch.equal(negative, ours) != signed


def test_a_policy_draws_all_its_operations_and_each_does_its_own():
    images = 0.1 + 0.7 * scenes(14, 32, 32)
    values = policies.value_of("color", torch.full((14,), 0.5), policies.TRIVIAL)
    for place, name in enumerate(policies.OPERATIONS):
        values[place] = policies.value_of(name, torch.tensor([0.5]), policies.TRIVIAL)[0]
    together = policies.operate(images, torch.arange(14), values)
    for place, name in enumerate(policies.OPERATIONS):
        alone = policies.operate(images[[place]], torch.tensor([place]), values[[place]])
        torch.testing.assert_close(together[[place]], alone, atol=1e-5, rtol=0)
        assert torch.equal(alone, images[[place]]) == (name == "identity"), name
    drawn = augment(scenes(1).expand(800, -1, -1, -1), ["trivialaugment"], generator())
    unchanged = (drawn == scenes(1)).flatten(1).all(1).float().mean()
    assert 1 / 14 < unchanged < 3.5 / 14  # the identity, and magnitude 0 of the others


def test_magnitude_0_of_a_policy_leaves_the_geometry_alone():
    images = torch.rand(300, 3, 12, 12, generator=generator())
    images[:, :, 0, :2] = torch.tensor([0.0, 1.0])  # nothing for autocontrast to stretch
    drawn = augment(images, ["trivialaugment=0"], generator())
    close = ((drawn - images).abs().amax((1, 2, 3)) < 1e-2).float().mean()
    assert 0.85 < close < 1  # all but equalize


def test_mixup_blends_neighbours_and_their_labels_alike():
    images, labels = scenes(6), torch.tensor([0, 1, 2, 0, 1, 2])
    mixed, targets = blend(images, labels, ["hflip", "mixup=1"], generator(), 3)
    assert targets.dtype == torch.float32
    torch.testing.assert_close(targets.sum(1), torch.ones(6))
    for i in range(6):
        part = targets[i, labels[i]]
        torch.testing.assert_close(mixed[i], part * images[i] + (1 - part) * images[i - 1], atol=1e-5, rtol=0)
        torch.testing.assert_close(targets[i, labels[i - 1]], 1 - part)
    assert len(torch.unique(targets.amax(1))) == 6  # each pair draws its own part
    assert torch.equal(mixup(images, torch.ones(6)), images)


def test_mixups_parts_follow_the_beta_distribution():
    labels = torch.arange(4000) % 2
    images = torch.zeros(4000, 3, 1, 1)
    for alpha in (0.2, 1, 5):
        _, targets = blend(images, labels, [f"mixup={alpha}"], generator(), 2)
        own = targets[torch.arange(4000), labels].double()
        assert scipy.stats.kstest(own.numpy(), scipy.stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    _, targets = blend(images, labels, ["mixup=0.01"], generator(), 2)
    assert torch.isfinite(targets).all()


def test_cutmixs_label_is_the_area_that_is_left():
    labels = torch.arange(50) % 5
    images = labels[:, None, None, None].float().expand(-1, 3, 20, 30) / 10
    mixed, targets = blend(images, labels, ["cutmix"], generator(), 5)
    own = (mixed == images).all(1).float().mean((1, 2))
    torch.testing.assert_close(targets[torch.arange(50), labels], own)
    torch.testing.assert_close(targets.sum(1), torch.ones(50))
    assert own.min() < 0.5
    assert len(own.unique()) > 30
    pasted = (mixed != images).any(1)
    for mask in pasted:  # one rectangle each, of the neighbour's pixels
        rows, columns = mask.any(1).sum(), mask.any(0).sum()
        assert mask.sum() == rows * columns
    torch.testing.assert_close(mixed[pasted[:, None].expand(-1, 3, -1, -1)],
                               images.roll(1, 0)[pasted[:, None].expand(-1, 3, -1, -1)])


def test_cutmixs_rectangle_lies_round_its_centre_and_is_cut_at_the_border():
    images = torch.stack([torch.zeros(3, 20, 20), torch.ones(3, 20, 20)])
    mixed, left = cutmix(images, numbers(0.75, 0.75), torch.tensor([[0.5, 0.5], [0.0, 0.5]]))
    assert left.tolist() == [0.75, 0.875]
    assert mixed[0, 0].nonzero().amin(0).tolist() == [5, 5]
    assert mixed[0, 0].nonzero().amax(0).tolist() == [14, 14]
    assert (mixed[1, 0] == 0).nonzero().amax(0).tolist() == [14, 4]


def test_without_a_blend_the_labels_stay_and_with_two_a_coin_chooses():
    images, labels = scenes(8), torch.arange(8)
    same, targets = blend(images, labels, ["hflip", "rotate"], generator(), 8)
    assert same is images
    assert targets is labels
    assert augment(images, ["mixup", "cutmix"], generator()) is images
    kinds = set()
    for seed in range(20):
        mixed, _ = blend(images, labels, ["mixup=1", "cutmix=1"], generator(seed), 8)
        from_either = ((mixed == images) | (mixed == images.roll(1, 0))).all()
        kinds.add(bool(from_either))
        torch.testing.assert_close(mixed, blend(images, labels, ["mixup=1", "cutmix=1"], generator(seed), 8)[0])
    assert kinds == {True, False}


@pytest.mark.parametrize("text, part", [
    ("rotat", "Did you mean 'rotate'"), ("rotate=200", "outside 0 to 180"), ("jpeg=high", "'high' is no number")])
def test_a_wrong_augmentation_is_named_with_what_it_takes(text, part, tmp_path):
    with pytest.raises(ConfigError, match=part):
        augment_preview(to=tmp_path / "a.png", augment=[text])
    with pytest.raises(ValueError, match=part):
        gilt.TrainConfig(augment=[text])


def test_augmented_is_one_training_step_of_pixels():
    pixels = (scenes(6, 16, 16) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    drawn, targets = augmented(pixels, [0, 1, 2, 0, 1, 2], ["hflip=1"], seed=0, classes=3)
    assert np.array_equal(drawn, pixels[:, :, ::-1])
    assert np.array_equal(targets, np.eye(3)[[0, 1, 2, 0, 1, 2]])


def run(*words, code=0):
    result = CliRunner().invoke(command, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


def refusal(*words, capsys):
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    assert stop.value.code == 2
    return capsys.readouterr().err


def tiles_of(path, size):
    """Return the picture as pixels, and how many rows of tiles it has: rows begin where white ends in the tiles' columns."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    filled = (pixels[40:, 250:250 + size] < 250).any(2).mean(1) > 0.9
    return pixels, int(np.count_nonzero(filled[1:] & ~filled[:-1])) + int(filled[0])


def test_the_preview_has_a_row_for_every_name(tmp_path):
    files = [draw(tmp_path / f"{name}.png", COLOURS[name], seed=i, noise=30) for i, name in enumerate(("wren", "robin"))]
    run("augment", "--preview", *files, "-o", tmp_path / "a.png", "--size", 96)
    pixels, rows = tiles_of(tmp_path / "a.png", 96)
    assert rows == len(AUGMENTATIONS)
    assert pixels.shape[1] > 232 + 8 * 96  # two images, three draws of each


def test_the_preview_of_chosen_ones_has_a_last_row_of_all_together(tmp_path):
    file = draw(tmp_path / "wren.png", COLOURS["wren"], seed=0, noise=30)
    words = ("augment", "--preview", file, "--size", 100, "--seed", 3)
    run(*words, "-o", tmp_path / "a.png", "--set", 'train.augment=["rotate=30", "mixup=1"]')
    run(*words, "-o", tmp_path / "again.png", "--set", 'train.augment=["rotate=30", "mixup=1"]')
    run(*words, "-o", tmp_path / "one.png", "--set", "train.augment=rotate")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    assert [tiles_of(tmp_path / name, 100)[1] for name in ("a.png", "one.png")] == [3, 1]


def test_files_of_one_name_are_told_apart_by_their_folder(tmp_path):
    files = [draw(tmp_path / name / "000.png", COLOURS[name], seed=i) for i, name in enumerate(("wren", "robin"))]
    assert list(_of_files(files)) == ["wren/000", "robin/000"]
    assert _of_files(files[0]) == {"000": files[0]}
    assert list(_of_files([files[0], files[0]])) == [str(files[0])]


def test_the_preview_needs_no_image_and_takes_a_table(tmp_path, birds):
    assert augment_preview(to=tmp_path / "sample.png", augment=["vflip=1"]) == tmp_path / "sample.png"
    birds.save(tmp_path / "birds.parquet")
    run("augment", "--preview", tmp_path / "birds.parquet", "-o", tmp_path / "a.png", "--set", "train.augment=cutmix",
        "--size", 32)
    pixels, rows = tiles_of(tmp_path / "a.png", 96)
    assert rows == 1
    assert pixels.shape[1] > 232 + 8 * 96
    with pytest.raises(gilt.TableError, match="no training rows"):
        augment_preview(birds.where(split="test"), to=tmp_path / "b.png")


def test_the_list_says_what_every_name_means(tmp_path):
    listed = json.loads(run("augment", "--json").stdout)
    assert [row["name"] for row in listed] == list(AUGMENTATIONS)
    assert listed[2] == {"name": "rotate", "usual": 15, "low": 0, "high": 180, "meaning": "degrees at most, either way"}
    assert "degrees at most" in run("augment").stdout


@pytest.mark.parametrize("words, part", [
    (["x.png"], "say --preview"), (["--preview"], "-o augment.png"), (["--preview", "-o", "a.jpg"], "name it a.png"),
    (["--preview", "-o", "a.png", "--set", "train.epochs=3"], "name no augmentation"),
    (["--preview", "-o", "a.png", "--set", "train.augment=rotat"], "Did you mean 'rotate'"),
    (["--preview", "missing.png", "-o", "a.png"], "missing.png"), (["--preview", ".", "-o", "a.png"], "is a folder"),
    (["--preview", "a.png", "-o", "a.png"], "is one of the images"),
    (["--preview", "t.parquet", "b.png", "-o", "a.png"], "name it alone"),
    (["--preview", "-o", "a.png", "--root", "."], "there is no table"),
    (["--preview", *"abcd", "-o", "a.png"], "room for 3 images")])
def test_what_cannot_be_drawn_is_one_clear_line(words, part, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    error = refusal("augment", *words, capsys=capsys)
    assert part in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "a.png").exists()
