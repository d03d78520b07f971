"""Metrics against scikit-learn over a grid, and intervals against what they promise."""
import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

import gilt
from gilt.evaluation.metrics import from_counts, likeliest, measure
from gilt.evaluation.uncertainty import resampled_counts, resampled_weights, t_interval, weighted_ranks, wilson


def some(n, classes, seed, skew=2.0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.r_[np.arange(classes), rng.integers(0, classes, n - classes)])
    logits = rng.normal(size=(n, classes)) + skew * np.eye(classes)[labels]
    return labels, logits.astype(np.float32), np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


@pytest.mark.parametrize("n", [12, 200])
@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("skew", [0.0, 1.0, 8.0])
def test_values_are_scikit_learns(n, classes, skew):
    labels, _, p = some(n, classes, seed=n + classes, skew=skew)
    (found, _), guesses = measure(labels, p), p.argmax(1)
    averaging = {} if classes == 2 else {"average": "macro"}
    assert found["accuracy"].value == sk.accuracy_score(labels, guesses)
    assert found["loss"].value == pytest.approx(sk.log_loss(labels, p, labels=range(classes)), abs=1e-6)
    assert found["precision"].value == pytest.approx(sk.precision_score(labels, guesses, zero_division=0, **averaging))
    assert found["recall"].value == pytest.approx(sk.recall_score(labels, guesses, **averaging))
    assert found["f1"].value == pytest.approx(sk.f1_score(labels, guesses, **averaging))
    scores = p[:, 1] if classes == 2 else p
    assert found["auroc"].value == pytest.approx(sk.roc_auc_score(labels, scores, multi_class="ovr"))
    assert found["macro_f1"].value == pytest.approx(sk.f1_score(labels, guesses, average="macro"))
    assert found["weighted_f1"].value == pytest.approx(sk.f1_score(labels, guesses, average="weighted"))
    assert found["balanced_accuracy"].value == pytest.approx(sk.balanced_accuracy_score(labels, guesses))
    onehot = labels if classes == 2 else np.eye(classes)[labels]
    assert found["average_precision"].value == pytest.approx(sk.average_precision_score(onehot, scores))
    for metric in found.values():
        assert metric.n == n
        assert metric.low <= metric.value + 1e-9
        assert metric.high >= metric.value - 0.05  # a percentile interval may leave out an extreme value


@pytest.mark.parametrize("labels, positive", [([0] * 9 + [1] * 3, 1), ([0] * 3 + [1] * 9, 0), ([0] * 6 + [1] * 6, 1)])
def test_minority_f1_is_that_of_the_rarer_of_two_classes(labels, positive):
    labels, p = np.array(labels), np.random.default_rng(0).dirichlet((1, 1), 12)
    found = measure(labels, p)[0]
    assert found["minority_f1"].value == pytest.approx(sk.f1_score(labels, p.argmax(1), pos_label=positive))
    assert found["minority_f1"].low < found["minority_f1"].high
    assert "minority_f1" not in measure(np.arange(12) % 3, np.random.default_rng(0).dirichlet((1, 1, 1), 12))[0]


@pytest.mark.parametrize("k, classes", [(3, 4), (3, 12), (5, 6), (5, 100)])
def test_top_k_accuracy_is_scikit_learns(k, classes):
    labels, _, p = some(400, classes, seed=k, skew=1)
    found = measure(labels, p)[0]
    hits = sk.top_k_accuracy_score(labels, p, k=k, labels=range(classes), normalize=False)
    assert found[f"top{k}_accuracy"].value == hits / 400
    assert (found[f"top{k}_accuracy"].low, found[f"top{k}_accuracy"].high) == wilson(int(hits), 400)
    assert f"top{k}_accuracy" not in measure(labels % k, p[:, :k])[0]  # of k classes the true one is always among k


def test_of_equally_likely_classes_the_earlier_counts_as_likelier_as_it_does_for_the_label():
    rng = np.random.default_rng(0)
    labels, p = rng.integers(0, 8, 300), rng.integers(1, 4, (300, 8)) / 16  # many ties
    found = measure(labels, p)[0]
    np.testing.assert_array_equal(likeliest(p, 1)[:, 0], p.argmax(1))
    # scikit-learn takes the later of two that are equally likely: so it agrees once the classes stand in reverse
    expected = sk.top_k_accuracy_score(7 - labels, p[:, ::-1], k=5, labels=range(8))
    assert found["top5_accuracy"].value == expected
    assert expected != sk.top_k_accuracy_score(labels, p, k=5, labels=range(8))


def test_ranks_under_weights_are_scikit_learns():
    rng = np.random.default_rng(0)
    positive, scores = rng.random(80) < 0.4, np.round(rng.random(80), 1)  # many ties
    [weights] = resampled_weights(positive, seed=5, resamples=6)
    assert (weights[positive].sum(0) == positive.sum()).all()
    assert (weights.sum(0) == 80).all()
    for positives, values in ((positive, scores), (~positive, rng.random(80)), (positive, np.zeros(80))):
        aurocs, precisions = weighted_ranks(positives, values, weights)
        for auroc, precision, w in zip(aurocs, precisions, weights.T, strict=True):
            assert auroc == pytest.approx(sk.roc_auc_score(positives, values, sample_weight=w))
            assert precision == pytest.approx(sk.average_precision_score(positives, values, sample_weight=w))


def test_scores_from_counts_are_scikit_learns():
    labels, _, p = some(100, 5, seed=1)
    matrix = sk.confusion_matrix(labels, p.argmax(1), labels=range(5))
    expected = sk.precision_recall_fscore_support(labels, p.argmax(1), zero_division=0)[:3]
    np.testing.assert_allclose(from_counts(np.diag(matrix), matrix.sum(0), matrix.sum(1)), expected)


def test_resampled_counts_are_those_of_images_drawn_again_within_their_class():
    matrix = np.array([[8, 2, 0], [0, 0, 0], [5, 5, 30]])
    hits, predicted = resampled_counts(matrix, resamples=2000)
    assert (predicted.sum(1) == 50).all()
    assert (hits[:, 1] == 0).all()
    np.testing.assert_allclose(hits.mean(0), [8, 0, 30], rtol=0.02)
    np.testing.assert_allclose(predicted.mean(0), [13, 7, 30], rtol=0.02)
    assert hits[:, 0].std() == pytest.approx(np.sqrt(10 * 0.8 * 0.2), rel=0.1)


def test_means_over_classes_have_intervals_that_cover_the_truth_as_often_as_they_say():
    """Macro AUROC and average precision, against their values on many images of the same kind."""
    def world(n, rng):
        labels = np.repeat(np.arange(3), n // 3)
        logits = rng.normal(size=(n, 3)) + 3 * rng.random((n, 1)) * np.eye(3)[labels]
        return labels, np.exp(logits) / np.exp(logits).sum(1, keepdims=True)

    rng = np.random.default_rng(0)
    truth = measure(*world(60_000, rng))[0]
    runs = [measure(*world(240, rng))[0] for _ in range(150)]
    for name in ("auroc", "average_precision", "f1", "weighted_f1"):
        covered = np.mean([run[name].low <= truth[name].value <= run[name].high for run in runs])
        assert 0.89 <= covered <= 0.99, f"{name}: {covered}"


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(1)
    hits = rng.binomial(80, 0.9, 400)
    covered = np.mean([low <= 0.9 <= high for low, high in (wilson(int(h), 80) for h in hits)])
    assert 0.92 < covered < 0.98
    runs = [t_interval(rng.normal(3, 1, 5)) for _ in range(400)]
    assert 0.92 < np.mean([low <= 3 <= high for _, low, high in runs]) < 0.98


def predictions(labels, logits, **changes):
    names = [f"c{i}" for i in range(logits.shape[1])]
    fields = {"path": [f"{i}.png" for i in range(len(labels))], "origin": ["real"] * len(labels),
              "class_": [names[i] for i in labels], "logits": logits, "error": [None] * len(labels),
              "classes": tuple(names), "target": "class"}
    return gilt.Predictions(**(fields | changes))


def test_rows_that_cannot_be_judged_are_counted():
    labels, logits, _ = some(30, 3, seed=2)
    logits[4] = np.nan
    errors = [None] * 30
    errors[4] = "a.png cannot be read: cut"
    names = [f"c{i}" for i in labels]
    names[5] = "mushroom"
    result = gilt.evaluate(predictions(labels, logits, error=errors, class_=names))
    assert result.metrics["accuracy"].n == 28
    assert result.left_out == {"unreadable": 1, "class unknown to the classifier": 1}


def test_each_class_is_measured_against_the_rest():
    labels, logits, p = some(90, 3, seed=6, skew=1)
    found = gilt.evaluate(predictions(labels, logits)).by["class"]
    for c in range(3):
        metrics = found[f"c{c}"]
        assert metrics["recall"].value == pytest.approx(sk.recall_score(labels == c, p.argmax(1) == c))
        assert metrics["precision"].value == pytest.approx(sk.precision_score(labels == c, p.argmax(1) == c))
        assert metrics["auroc"].value == pytest.approx(sk.roc_auc_score(labels == c, p[:, c]), abs=1e-6)
        assert metrics["accuracy"].n == (labels == c).sum()


def test_each_generator_is_measured_against_the_real_images():
    rng = np.random.default_rng(0)
    origins = ["real"] * 40 + ["sd"] * 20 + ["gan"] * 20
    logits = np.zeros((80, 2), np.float32)
    logits[:, 1] = rng.normal(size=80) + np.r_[np.zeros(40), np.full(20, 3), np.zeros(20)]
    found = gilt.evaluate(predictions(np.zeros(80, int), logits, target="origin", classes=("real", "generated"),
                                      origin=origins, class_=["x"] * 80)).by["origin"]
    pair = np.r_[0:40, 40:60]
    assert found["sd"]["auroc"].value == pytest.approx(sk.roc_auc_score(pair >= 40, logits[pair, 1]))
    assert found["sd"]["auroc"].value > 0.9 > found["gan"]["auroc"].value
    assert "auroc" not in found["real"]
    assert found["gan"]["accuracy"].n == 20


def test_a_detector_that_counts_generated_first_comes_to_the_same():
    rng = np.random.default_rng(0)
    logits, origins = rng.normal(size=(60, 2)), ["real"] * 40 + ["sd"] * 20
    logits[40:, 1] += 2
    common = {"target": "origin", "origin": origins, "class_": ["x"] * 60}
    usual = gilt.evaluate(predictions(np.zeros(60, int), logits, classes=("real", "generated"), **common))
    turned = gilt.evaluate(predictions(np.zeros(60, int), logits[:, ::-1], classes=("generated", "real"), **common))
    assert turned == usual
    assert usual.by["origin"]["sd"]["auroc"].value > 0.8


def test_accuracy_is_given_by_class_and_by_origin():
    labels, logits, _ = some(40, 2, seed=3)
    origins = ["real"] * 30 + ["sd"] * 10
    result = gilt.evaluate(predictions(labels, logits, origin=origins))
    right = logits.argmax(1) == labels
    assert result.by["origin"]["sd"]["accuracy"].value == pytest.approx(right[30:].mean())
    assert result.by["origin"]["sd"]["accuracy"].n == 10
    assert result.by["class"]["c1"]["accuracy"].value == pytest.approx(right[labels == 1].mean())
    assert np.sum(result.confusion) == 40


def test_classes_that_no_image_shows_do_not_count_against_a_classifier():
    labels, logits, _ = some(60, 3, seed=8, skew=50)
    wide = np.c_[logits, np.full((60, 2), -99, np.float32)]
    result = gilt.evaluate(predictions(labels, wide))
    assert {name: metric.value for name, metric in result.metrics.items() if name != "loss"} == dict.fromkeys(
        ("accuracy", "precision", "recall", "f1", "auroc", "average_precision", "macro_f1", "balanced_accuracy",
         "weighted_f1", "top3_accuracy"), 1.0)


def test_a_detector_judged_on_photographs_alone_has_no_recall():
    result = gilt.evaluate(predictions(np.zeros(9, int), np.eye(2, dtype=np.float32)[np.zeros(9, int)], target="origin",
                                       classes=("real", "generated"), class_=["x"] * 9))
    assert result.metrics["accuracy"].value == 1.0
    assert result.metrics["recall"].value is result.metrics["f1"].value is None


def test_a_metric_without_a_value_says_so():
    _, logits, _ = some(20, 2, seed=4)
    result = gilt.evaluate(predictions(np.zeros(20, int), logits))
    assert result.metrics["auroc"].value is None
    assert str(result.metrics["auroc"]) == "undefined (n = 20)"


def test_for_target_origin_every_generator_counts_as_generated():
    logits = np.array([[1, 0], [0, 1], [0, 1]], np.float32)
    result = gilt.evaluate(predictions([0, 0, 0], logits, target="origin", classes=("real", "generated"),
                                       origin=["real", "sd", "gan"], class_=["x", "x", "x"]))
    assert result.metrics["accuracy"].value == 1.0
    assert set(result.by["origin"]) == {"real", "sd", "gan"}


def test_predictions_are_the_same_after_saving(tmp_path):
    labels, logits, _ = some(20, 3, seed=5)
    before = predictions(labels, logits)
    before.save(tmp_path / "p.parquet")
    after = gilt.Predictions.load(tmp_path / "p.parquet")
    np.testing.assert_array_equal(after.logits, before.logits)
    assert gilt.evaluate(after) == gilt.evaluate(before)
    with pytest.raises(gilt.StoreError, match="holds no predictions"):
        gilt.Predictions.load(tmp_path / "none.parquet")
    pd.DataFrame({"path": ["a.png"]}).to_parquet(tmp_path / "table.parquet")
    with pytest.raises(gilt.StoreError, match=r"table.parquet holds no predictions: gilt evaluate -o writes such a file"):
        gilt.Predictions.load(tmp_path / "table.parquet")
