"""Similarity: measures against their references, floors that are at 0, copies and leaks where there are some."""
import io
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.distance import cdist
from scipy.stats import mannwhitneyu

import gilt
from conftest import draw
from gilt.config import FeaturesConfig, SimilarityConfig
from gilt.engine.copies import LEAK, without_leaks
from gilt.engine.embed import embed, hand_made
from gilt.engine.similarity import similarity
from gilt.errors import ConfigError, ImageError, ModelError, TableError
from gilt.evaluation.neighbours import neighbour_distances
from gilt.evaluation.similarity_copies import authentic, cells, copy_score
from gilt.evaluation.similarity_draws import Side, compare, drawn, pools
from gilt.evaluation.similarity_measures import c2st, frechet, kid, kid_subsets, manifold
from gilt.evaluation.similarity_words import MEANINGS

FEW = {"draws": 3}


def cloud(count, size=16, *, seed, shift=0.0, scale=1.0):
    return (shift + scale * np.random.default_rng(seed).normal(size=(count, size))).astype(np.float32)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_neighbours_are_those_of_all_distances(k, monkeypatch):
    monkeypatch.setattr("gilt.evaluation.neighbours.BLOCK", 500)
    asked, known = cloud(83, seed=0, shift=100), cloud(120, seed=1, shift=100)
    known[10] = asked[5]
    distances, places = neighbour_distances(asked, known, k=k)
    every = cdist(asked.astype(float), known.astype(float))
    wanted = np.argsort(every, 1, kind="stable")[:, :k]
    assert (places == wanted).all()
    assert np.allclose(distances, np.take_along_axis(every, wanted, 1))
    assert distances[5, 0] == 0


def test_rows_of_one_group_are_no_neighbours_and_what_is_missing_is_at_infinity():
    rows = cloud(6, seed=0)
    groups = np.array([0, 0, 1, 1, 2, 2])
    distances, places = neighbour_distances(rows, rows, k=5, apart=(groups, groups))
    assert all(set(found[:4]) == set(np.flatnonzero(groups != groups[i])) for i, found in enumerate(places))
    assert (places[:, 4] == -1).all()
    assert np.isinf(distances[:, 4]).all()
    assert neighbour_distances(rows, rows[:0])[1].tolist() == [[-1]] * 6


@pytest.mark.parametrize("n, m, size", [(300, 250, 64), (40, 60, 100), (30, 500, 8)])
def test_fd_kid_precision_and_recall_are_those_of_torch_fidelity(n, m, size):
    fid = pytest.importorskip("torch_fidelity.metric_fid")
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    made, real = cloud(n, size, seed=0, shift=0.3), cloud(m, size, seed=1, scale=1.2)
    theirs = [fid.fid_features_to_statistics(torch.from_numpy(rows).double()) for rows in (made, real)]
    found = fid.fid_statistics_to_metric(*theirs, False)["frechet_inception_distance"]
    assert frechet(real, made) == pytest.approx(found, rel=1e-5)
    both = [torch.from_numpy(rows[:30]).double() for rows in (made, real)]
    found = kid_features_to_metric(*both, kid_subsets=1, kid_subset_size=30, verbose=False)
    assert kid(made[:30], real[:30]) == pytest.approx(found["kernel_inception_distance_mean"], abs=1e-5)
    found = prc_features_to_metric(torch.from_numpy(made), torch.from_numpy(real), verbose=False)
    ours = manifold(real, made)
    assert (ours["precision"], ours["recall"]) == pytest.approx((found["precision"], found["recall"]))


def test_density_and_coverage_are_counted_from_all_distances(monkeypatch):
    monkeypatch.setattr("gilt.evaluation.similarity_measures.BLOCK", 1_000)
    real, made = cloud(90, 4, seed=0), cloud(70, 4, seed=1, shift=0.4)
    radii = np.sort(cdist(real, real), 1)[:, 5]
    inside = cdist(made, real) <= radii
    found = manifold(real, made)
    assert found["density"] == pytest.approx(inside.sum() / (5 * 70))
    assert found["coverage"] == pytest.approx(inside.any(0).mean())
    assert 0 < found["coverage"] < 1


def test_fd_of_a_shift_is_its_square_and_of_equal_sets_nothing():
    rows = cloud(5_000, 4, seed=0)
    assert frechet(rows, rows) == pytest.approx(0, abs=1e-6)
    assert frechet(rows, rows + np.float32(2)) == pytest.approx(16, rel=1e-4)
    assert kid_subsets(rows, rows + np.float32(1), size=200, subsets=5)[0] > 0.5


def test_kid_of_halves_is_0_on_average_also_where_classes_lie_far_apart():
    classes = np.repeat(np.arange(10), 12)
    rows = cloud(120, 8, seed=0) + 3 * cloud(10, 8, seed=1)[classes]
    side = Side(rows, classes, np.arange(120), {})
    wanted = pools(side, side, most=100)
    values = [kid(rows[a], rows[b]) for a, b, _ in drawn(side, side, wanted, draws=300)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))
    assert wanted == dict.fromkeys(range(10), 12)
    assert sum(pools(side, side, most=30).values()) == 60


def test_no_group_has_photographs_in_both_halves_of_a_draw():
    groups = np.arange(200) // 4
    side = Side(cloud(200, seed=0), np.zeros(200, int), groups, {})
    for a, b, g in drawn(side, side, {0: 150}, draws=5):
        assert not set(groups[a]) & set(groups[b])
        assert len(a) == len(g) == 75
        assert len(set(a)) == len(a) >= len(b) > 70


def test_c2st_tells_what_differs_and_no_more():
    rows, other = cloud(200, 30, seed=0), cloud(200, 30, seed=1)
    assert c2st(rows, other, np.arange(400)) == pytest.approx(0.5, abs=0.1)
    assert c2st(rows, other + np.float32(2), np.arange(400)) > 0.99
    assert np.isnan(c2st(rows, other, np.repeat([0, 1], 200)))
    # pairs that lie side by side with opposite labels: a fold that parted them would be right by looking at the partner
    pairs = np.arange(200)
    assert c2st(rows, rows + np.float32(0.001), np.concatenate([pairs, pairs])) == pytest.approx(0.5, abs=0.1)


def test_the_copy_score_of_one_cell_is_a_mann_whitney_z():
    rng = np.random.default_rng(0)
    held, made = rng.normal(size=50), rng.normal(-0.8, size=40)
    found = copy_score(held, made, np.zeros(50, int), np.zeros(40, int))
    u = mannwhitneyu(made, held).statistic
    assert found.value == pytest.approx((u - 1_000) / np.sqrt(50 * 40 * 91 / 12))
    assert found.value < found.low == pytest.approx(-1.96, abs=0.4)
    assert (found.cells, found.of_cells) == (1, 1)
    assert copy_score(held[:19], made, np.zeros(19, int), np.zeros(40, int)) is None


@pytest.mark.parametrize("kind, sign", [("fresh", 0), ("copies", -1), ("strangers", 1)])
def test_the_copy_score_finds_copies_in_every_cell(kind, sign):
    train, held = cloud(800, 5, seed=0), cloud(300, 5, seed=1)
    made = {"fresh": cloud(300, 5, seed=2), "copies": train[:300] + cloud(300, 5, seed=3, scale=0.05),
            "strangers": cloud(300, 5, seed=4, shift=4)}[kind]
    distances = [neighbour_distances(rows, train)[0][:, 0] for rows in (held, made)]
    places = cells(train, held, made)
    found = copy_score(*distances, *(places if kind != "strangers" else [np.zeros(300, int)] * 2))
    assert [found.value < found.low, found.value > found.high] == [sign < 0, sign > 0]


def test_authentic_rows_are_farther_from_a_photograph_than_another_photograph_is():
    train, made = cloud(60, 3, seed=0), cloud(40, 3, seed=1)
    made[:5] = train[:5] + np.float32(1e-4)
    distances, nearest = (found[:, 0] for found in neighbour_distances(made, train))
    between = cdist(train, train) + np.diag(np.full(60, np.inf))
    found = authentic(distances, nearest, train, np.arange(60))
    assert (found == (distances > between.min(1)[nearest])).all()
    assert not found[:5].any()


def test_every_measure_stands_beside_its_floor_and_pale_birds_are_farther_from_birds(birds):
    found = similarity(birds, SimilarityConfig(**FEW))
    one = found.comparisons[0]
    assert (one.origin, one.n_generated, one.size) == ("painter", 40, 20)
    assert set(MEANINGS) < set(one.measures)
    for name, value in one.measures.items():
        assert value.low <= value.value <= value.high, name
        assert value.floor_low <= value.floor <= value.floor_high, name
    assert one.measures["kid"].low > one.measures["kid"].floor_high
    assert one.measures["c2st"].value > 0.99
    assert one.measures["ks_brightness"].value == 1
    assert one.measures["ks_width"].value == 0
    assert [own.of for own in found.by_class] == sorted(["wren", "robin"], key=lambda name: -next(
        own.measures["kid"].value for own in found.by_class if own.of == name))
    assert found.sentences[0].startswith("painter: farther from the photographs")
    assert "decides" in found.sentences[-1]
    assert found.weak
    assert found.as_json()["comparisons"][0]["measures"]["kid"]["value"] == one.measures["kid"].value
    assert similarity(birds, SimilarityConfig(**FEW)).as_json() == found.as_json()


def test_photographs_that_pose_as_generated_are_not_farther(tmp_path):
    for i in range(120):
        draw(tmp_path / ("real" if i % 2 else "poser") / "wren" / f"{i:03}.png", (200, 120, 60), seed=i)
    one = similarity(gilt.scan(tmp_path, "{origin}/{class}"), SimilarityConfig(draws=5)).comparisons[0]
    kid_found = one.measures["kid"]
    assert kid_found.low <= kid_found.floor_high
    assert one.measures["c2st"].value < 0.75


@pytest.fixture
def copied(tmp_path):
    """A world in which a generator re-encodes training photographs, and one test photograph. Every picture is its own."""
    for i in range(200):
        path = tmp_path / "real" / ("test" if i % 4 == 0 else "train") / "wren" / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        squares = np.random.default_rng(i).integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(squares).resize((32, 32), Image.Resampling.BICUBIC).save(path)
    for i in [j for j in range(60) if j % 4] + [100]:
        split = "test" if i % 4 == 0 else "train"
        target = tmp_path / "copier" / "wren" / f"{i:03}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(tmp_path / "real" / split / "wren" / f"{i:03}.png").save(target, quality=92)
    return gilt.scan(tmp_path, ["{origin}/{split}/{class}", "{origin}/{class}"])


def test_copies_of_training_photographs_are_found_and_shown_beside_what_they_copy(copied):
    found = similarity(copied, SimilarityConfig(**FEW)).copying[0]
    assert (found.n_generated, found.n_train, found.n_held_out) == (46, 150, 50)
    assert found.score.value < found.score.low - 3
    assert found.authentic.value < 0.1 < 0.3 < found.authentic.floor
    assert found.nearer > 0.9
    stems = [tuple(path.split("/")[-1].split(".")[0] for path in (pair.path, pair.nearest)) for pair in found.pairs]
    assert len(stems) == 12
    assert all(made == real for made, real in stems)


def test_a_copy_of_a_test_photograph_is_a_leak_and_can_be_left_out(copied):
    found = similarity(copied, SimilarityConfig(**FEW)).leak
    assert [(pair.path, pair.nearest) for pair in found.flagged] == [("copier/wren/100.jpg", "real/test/wren/100.png")]
    marked = without_leaks(copied, found)
    assert marked.frame["path"][marked.frame["excluded"] == LEAK].tolist() == ["copier/wren/100.jpg"]
    assert copied.frame["excluded"].isna().all()


def test_a_source_that_is_the_nearest_photograph_is_counted(copied):
    frame = copied.frame
    names = [path.split("/")[-1].split(".")[0] for path in frame["path"]]
    sourced = copied.with_column("source", [f"real/train/wren/{name}.png" if origin == "copier" else None
                                            for name, origin in zip(names, frame["origin"], strict=True)])
    found = similarity(sourced, SimilarityConfig(**FEW)).copying[0]
    assert (found.sources, found.own_first) == (45, 45)  # that of the 46th is no training photograph
    assert all(pair.own_source for pair in found.pairs)


def test_a_table_without_splits_says_what_cannot_be_looked_for(bird_table):
    found = similarity(bird_table, SimilarityConfig(**FEW))
    assert found.leak is None
    assert found.copying[0].score is None
    assert any("gilt split" in note for note in found.notes)


def test_classes_without_photographs_are_told_of_and_a_mix_of_classes_is_no_difference(tmp_path):
    for c, (name, colour) in enumerate([("red", (220, 20, 20)), ("blue", (20, 20, 220)), ("green", (20, 220, 20))]):
        for i in range({"red": 80, "blue": 80, "green": 0}[name]):
            draw(tmp_path / "real" / name / f"{i}.png", colour, seed=1000 * c + i)
        for i in range({"red": 140, "blue": 22, "green": 5}[name]):
            draw(tmp_path / "poser" / name / f"{i}.png", colour, seed=500 + 1000 * c + i)
    table = gilt.scan(tmp_path, "{origin}/{class}")
    matched, any_mix = (similarity(table, SimilarityConfig(match_classes=match)) for match in (True, False))
    assert any("5 images of poser" in note and "green" in note for note in matched.notes)
    value, other = (found.comparisons[0].measures["kid"] for found in (matched, any_mix))
    assert value.low <= value.floor_high
    assert other.low > other.floor_high
    assert not any_mix.by_class


def test_features_by_hand_have_no_gaps_also_for_an_image_of_one_colour():
    flat = np.stack([np.full((64, 64, 3), level, np.uint8) for level in (0, 128, 255)])
    found = hand_made(flat)
    assert found.shape == (3, 272)
    assert np.isfinite(found).all()
    assert neighbour_distances(found, found, apart=(np.arange(3), np.arange(3)))[0].min() > 1


def test_features_are_those_of_the_network_that_is_named_with_its_weights(birds, tmp_path):
    from gilt.models.zoo import create

    torch.manual_seed(0)
    torch.save(create("resnet18").state_dict(), tmp_path / "weights.pth")
    found = embed(birds, FeaturesConfig(model="resnet18", weights=str(tmp_path / "weights.pth"), size=32))
    assert found.values_ND.shape == (100, 512)
    assert "resnet18 (weights.pth) at 32 pixels" in found.said
    assert not found.weak


@pytest.mark.parametrize("settings, said", [
    ({"model": "resnet18"}, "features of random weights would measure nothing"),
    ({"weights": "x.pth"}, "'pixels' has no weights"),
])
def test_features_without_weights_of_their_own_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        FeaturesConfig(**settings)


@pytest.mark.parametrize("settings, error, said", [
    ({"model": "resnet18", "weights": "nowhere.pth"}, ConfigError, "features.weights='nowhere.pth' is no file"),
    ({"model": "resnet81", "weights": "{file}"}, ModelError, "Did you mean 'resnet18'"),
    ({"model": "resnet18", "weights": "{file}", "size": 32}, ModelError, "do not fit the network 'resnet18'"),
    ({"model": "inception-fid", "weights": "{file}"}, ModelError, "do not fit inception-fid: it takes weights-inception"),
    ({"size": 30}, ConfigError, "a multiple of 8 pixels"),
])
def test_features_that_cannot_be_had_are_told_in_a_line(settings, error, said, birds, tmp_path):
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "other.pth")
    settings = {key: str(tmp_path / "other.pth") if value == "{file}" else value for key, value in settings.items()}
    with pytest.raises(error, match=said):
        embed(birds, FeaturesConfig(**settings))


def test_inception_features_are_those_of_torch_fidelity(tmp_path):
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")

    class Untrained(module.FeatureExtractorInceptionV3):
        def load_state_dict(self, state):
            """Keep the random weights."""

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    torch.manual_seed(0)
    network = Untrained("inception-v3-compat", ["2048"], feature_extractor_weights_path=nothing)
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)  # torch's own start would let the features fade away
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    for i in range(3):
        draw(tmp_path / "images" / "real" / "wren" / f"{i}.png", (50 + 60 * i, 100, 150), seed=i, size=32)
    table = gilt.scan(tmp_path / "images", "{origin}/{class}")
    found = embed(table, FeaturesConfig(model="inception-fid", weights=str(tmp_path / "weights.pth")))
    assert "inception-fid (weights.pth) at 32 pixels" in found.said
    pixels = np.stack([np.asarray(Image.open(path)) for path in table.paths])
    theirs = network(torch.from_numpy(pixels).permute(0, 3, 1, 2))[0].numpy()
    assert np.abs(theirs).max() > 0.1
    assert np.allclose(found.values_ND, theirs, rtol=1e-4, atol=1e-5)


def test_tables_that_cannot_be_compared_are_refused(birds, bird_folder, tmp_path):
    for table, said in [(birds.real, "no generated images"), (birds.generated, "no photographs"),
                        (birds.where(lambda frame: (frame["origin"] != "real") | (frame["split"] == "test")), "are test rows"),
                        (birds.take(np.r_[0:3, len(birds) - 3:len(birds)]), "too few images to compare|no generated images")]:
        with pytest.raises(TableError, match=said):
            similarity(table)
    with pytest.raises(TableError, match=r"no generator 'paintor'.*Did you mean 'painter'"):
        similarity(birds, SimilarityConfig(generators=["paintor"]))
    shutil.copytree(bird_folder, tmp_path / "birds")
    moved = gilt.scan(tmp_path / "birds", "{origin}/{class}")
    (tmp_path / "birds" / "real" / "wren" / "000.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match="has changed since it was scanned"):
        similarity(moved, SimilarityConfig(**FEW))


def test_a_draw_that_is_too_small_has_no_numbers():
    side = Side(cloud(18, seed=0), np.zeros(18, int), np.arange(18), {})
    assert compare(side, side, drawn(side, side, {0: 18}, draws=3)) is None
