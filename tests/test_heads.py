"""Heads fitted to frozen features: equal to scikit-learn, chosen by cross-validation, saved and loaded with the network."""
import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import normalize
from sklearn.svm import SVC
from torch import nn

import gilt
from conftest import SHARED
from gilt.data.pixels import decode
from gilt.models.classifier import pairs
from gilt.models.features import features_of, head_of
from gilt.models.fitted import KnnHead, SvmHead, decisions
from gilt.models.heads import fit_head
from gilt.models.weights import load_weights
from gilt.models.zoo import create
from gilt.training import HeadConfig

GROCERIES, MOBILENET = SHARED / "data" / "grocery" / "real", SHARED / "weights" / "mobilenet_v2-b0353104.pth"


def digits(classes=10, rows=600):
    """Return features and labels of handwritten digits (scikit-learn's, 8x8 pixels): (train, test)."""
    data = load_digits()
    keep = np.flatnonzero(data.target < classes)[:rows]
    features, labels = (data.data[keep] / 4).astype(np.float32), data.target[keep].astype(np.int64)
    return (features[::2], labels[::2]), (features[1::2], labels[1::2])


def fitted(rows, outputs, head, **more):
    network = nn.Sequential(nn.Flatten(), nn.Linear(rows[0].shape[1], outputs))
    notes = fit_head(network, HeadConfig(**head), *rows, **more)["head"]
    return network.eval(), notes


def told(network, features):
    with torch.inference_mode():
        out = network(torch.from_numpy(features)).numpy()
    return (out[:, 0] > 0).astype(int) if out.shape[1] == 1 else out.argmax(1)


@pytest.mark.parametrize("classes, outputs", [(2, 1), (2, 2), (3, 3), (10, 10)])
@pytest.mark.parametrize("weighted", [False, True])
def test_an_svm_says_what_scikit_learn_says(classes, outputs, weighted):
    train, (features, _) = digits(classes)
    weights = np.linspace(0.5, 2, classes) if weighted else None
    network, notes = fitted(train, outputs, {"kind": "svm", "c": 1.7, "gamma": 0.02},
                            class_weights_C=None if weights is None else torch.tensor(weights))
    model = SVC(C=1.7, gamma=0.02, break_ties=True, class_weight=None if weights is None else dict(enumerate(weights)))
    model.fit(train[0].astype(float), train[1])
    np.testing.assert_array_equal(told(network, features), model.predict(features.astype(float)))
    scores = model.decision_function(features.astype(float))
    margins = network[1].margins(torch.from_numpy(features))
    if classes > 2:
        np.testing.assert_allclose(decisions(margins).numpy(), scores, rtol=1e-9, atol=1e-9)
    else:
        with torch.inference_mode():
            logits = pairs(network(torch.from_numpy(features))).numpy()
        np.testing.assert_allclose(logits[:, 1] - logits[:, 0], scores / notes["temperature"], rtol=1e-4, atol=1e-5)
    assert (notes["c"], notes["gamma"]) == (1.7, 0.02)


@pytest.mark.parametrize("gamma", ["scale", "auto"])
def test_gammas_by_name_are_scikit_learns(gamma):
    train, (features, _) = digits(4)
    network, notes = fitted(train, 4, {"kind": "svm", "gamma": gamma})
    model = SVC(gamma=gamma, break_ties=True).fit(train[0].astype(float), train[1])
    assert notes["gamma"] == pytest.approx(model._gamma)
    np.testing.assert_array_equal(told(network, features), model.predict(features.astype(float)))


@pytest.mark.parametrize("classes", [2, 10])
def test_one_temperature_makes_an_svms_chances_sensible(classes):
    train, (features, labels) = digits(classes, 1700)
    flipped = np.random.default_rng(0).random(len(labels)) < 0.1  # one label in ten is wrong, in training as in the test
    train = train[0], np.where(flipped[:len(train[1])], 0, train[1])
    labels = np.where(np.roll(flipped, 5)[:len(labels)], 0, labels)
    network, notes = fitted(train, classes if classes > 2 else 1, {"kind": "svm", "gamma": 0.02})
    with torch.inference_mode():
        margins = network[1].margins(torch.from_numpy(features))
        losses = {t: nn.functional.cross_entropy(pairs(network[1].tell(margins, t)), torch.from_numpy(labels)).item()
                  for t in (notes["temperature"] / 5, notes["temperature"], notes["temperature"] * 5)}
        sure = pairs(network(torch.from_numpy(features))).softmax(1).max(1).values.mean().item()
    assert min(losses, key=losses.get) == notes["temperature"]
    assert abs(sure - (told(network, features) == labels).mean()) < 0.05  # as sure as it is right, on rows that it never saw


def test_an_svms_logits_are_of_its_own_choice_also_where_the_sum_of_margins_says_another():
    head = SvmHead(1, 3, vectors=3, labels=3)
    margins = torch.tensor([[[0.0, 0.1, 0.1], [-0.1, 0.0, 5.0], [-0.1, -5.0, 0.0]]], dtype=torch.float64)
    logits = head.tell(margins, 0.1)
    plain = nn.functional.logsigmoid(margins / 0.1).sum(2) - np.log(0.5)
    assert decisions(margins).argmax() == logits.argmax() == 0  # two votes; label 1 has one, and by far the larger sum
    assert sorted(logits[0].tolist()) == pytest.approx(sorted(plain[0].tolist()))


@pytest.mark.parametrize("classes, outputs", [(2, 1), (2, 2), (10, 10)])
def test_logistic_regression_is_scikit_learns_in_the_networks_own_layer(classes, outputs):
    train, (features, _) = digits(classes)
    network, _ = fitted(train, outputs, {"kind": "logistic", "c": 0.3})
    model = LogisticRegression(C=0.3, max_iter=5000).fit(train[0].astype(float), train[1])
    assert type(network[1]) is nn.Linear
    with torch.inference_mode():
        out = network(torch.from_numpy(features))
    chances = torch.cat([1 - out.sigmoid(), out.sigmoid()], 1) if outputs == 1 else out.softmax(1)
    np.testing.assert_allclose(chances.numpy(), model.predict_proba(features.astype(float)), atol=1e-4)


@pytest.mark.parametrize("classes, outputs, neighbours", [(2, 1, 3), (2, 2, 1), (10, 10, 5)])
def test_neighbours_are_scikit_learns_on_features_of_length_one(classes, outputs, neighbours):
    train, (features, _) = digits(classes)
    network, _ = fitted(train, outputs, {"kind": "knn", "neighbours": neighbours})
    model = KNeighborsClassifier(neighbours).fit(normalize(train[0].astype(float)), train[1])
    np.testing.assert_array_equal(told(network, features), model.predict(normalize(features.astype(float))))
    with torch.inference_mode():
        out = network(torch.from_numpy(features))
    shares = (torch.cat([torch.zeros_like(out), out], 1) if outputs == 1 else out).softmax(1).numpy()
    votes = model.predict_proba(normalize(features.astype(float))) * neighbours
    np.testing.assert_allclose(shares, (votes + 1 / classes) / (neighbours + 1), atol=1e-5)


def test_the_grid_is_searched_as_scikit_learn_would():
    train, _ = digits(5, 200)
    grid = {"c": [0.1, 1, 10], "gamma": [0.0001, 0.02]}
    _, notes = fitted(train, 5, {"kind": "svm", **grid, "folds": 4}, seed=3)
    folds = StratifiedKFold(4, shuffle=True, random_state=3)
    search = GridSearchCV(SVC(break_ties=True), {"C": grid["c"], "gamma": grid["gamma"]}, cv=folds).fit(
        train[0].astype(float), train[1])
    assert [tried["mean"] for tried in notes["tried"]] == pytest.approx(search.cv_results_["mean_test_score"].tolist())
    assert (notes["c"], notes["gamma"]) == tuple(search.best_params_.values())
    assert notes["folds"] == 4
    deviations = [tried["sd"] * (3 / 4) ** 0.5 for tried in notes["tried"]]  # scikit-learn divides by n
    assert deviations == pytest.approx(search.cv_results_["std_test_score"].tolist())


def test_folds_are_no_more_than_the_rarest_class_has_rows(caplog):
    (features, labels), _ = digits(3, 120)
    few = np.flatnonzero(labels == 2)[3:]
    keep = np.setdiff1d(np.arange(len(labels)), few)
    _, notes = fitted((features[keep], labels[keep]), 3, {"kind": "knn", "neighbours": [1, 3], "folds": 10})
    assert notes["folds"] == 3
    single = np.setdiff1d(keep, np.flatnonzero(labels == 2)[1:3])  # one row of class 2: it is fitted to, and not judged
    network, notes = fitted((features[single], labels[single]), 3, {"kind": "svm", "c": [1, 10], "folds": 4})
    assert notes["folds"] == 4
    assert network[1].labels.tolist() == [0, 1, 2]
    one_each = np.array([np.flatnonzero(labels == label)[0] for label in range(3)])
    _, notes = fitted((features[one_each], labels[one_each]), 3, {"kind": "svm", "c": [7, 1]})
    assert (notes["folds"], notes["c"]) == (0, 7)
    assert "no class has two groups of rows to cross-validate with" in caplog.text


def test_rows_of_one_group_and_equal_rows_stay_in_one_fold():
    (features, labels), _ = digits(2, 160)
    noise = np.random.default_rng(0).permutation(labels)  # labels that nothing can be learnt of
    twice = np.repeat(features, 2, 0), np.repeat(noise, 2)
    tried = {"kind": "knn", "neighbours": [1, 2], "folds": 40}
    _, apart = fitted(twice, 1, tried)  # found by their equal features, as over-sampling leaves them
    _, named = fitted((twice[0] + np.float32(1e-3) * np.arange(len(twice[0]))[:, None] % 2, twice[1]), 1, tried,
                      groups_N=np.repeat(np.arange(len(noise)), 2))
    _, loose = fitted(twice, 1, tried, groups_N=np.arange(2 * len(noise)))
    assert loose["tried"][0]["mean"] > 0.95  # its twin gives each row away
    assert apart["tried"][0]["mean"] < 0.75
    assert named["tried"][0]["mean"] < 0.75


def test_smotes_points_are_fitted_to_and_take_no_part_in_the_choice():
    (features, labels), _ = digits(2, 80)
    wrong = features.copy(), 1 - labels  # would turn every choice round
    both = np.concatenate([features, wrong[0]]), np.concatenate([labels, wrong[1]])
    groups = np.concatenate([np.arange(len(labels)), np.full(len(labels), -1)])
    head = {"kind": "svm", "c": [0.1, 1]}
    _, alone = fitted((features, labels), 1, head, groups_N=groups[:len(labels)])
    network, notes = fitted(both, 1, head | {"gamma": alone["gamma"]}, groups_N=groups)
    assert [tried["mean"] for tried in notes["tried"]] == [tried["mean"] for tried in alone["tried"]]
    assert len(network[1].vectors) == len(both[0])  # every point contradicts another


@pytest.mark.parametrize("head", [{"kind": "svm"}, {"kind": "knn"}, {"kind": "logistic"}])
def test_a_class_without_rows_is_never_told(head):
    (features, labels), (others, _) = digits(3, 120)
    network, _ = fitted((features, np.where(labels == 2, 3, labels)), 5, head)
    assert set(told(network, others)) == {0, 1, 3}
    loss = nn.functional.cross_entropy(network(torch.from_numpy(others)), torch.full((len(others),), 4))
    assert 1 < loss < 100  # unlikely, and no infinity


def test_balanced_accuracy_decides_where_classes_have_weights():
    (features, labels), _ = digits(2, 200)
    few = np.concatenate([np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:6]])
    _, notes = fitted((features[few], labels[few]), 1, {"kind": "svm", "c": [1e-4, 1], "gamma": 0.02},
                      class_weights_C=torch.tensor([1.0, 8.0]))
    assert notes["score"] == "balanced accuracy"
    assert notes["c"] == 1


def test_too_many_neighbours_are_refused():
    (features, labels), _ = digits(2, 40)
    with pytest.raises(gilt.ConfigError, match=r"neighbours=500 is more than the \d+ training rows"):
        fitted((features, labels), 1, {"kind": "knn", "neighbours": [5, 500]})


@pytest.fixture(scope="module")
def body(birds, tmp_path_factory):
    path = tmp_path_factory.mktemp("body") / "body.safetensors"
    gilt.train(gilt.mix(birds), gilt.TrainConfig(model="lenet5", epochs=3, batch_size=10), seed=7).save(path)
    return path


HEADS = [{"kind": "svm", "c": [1.0, 10.0]}, {"kind": "knn", "neighbours": [1, 5]}, {"kind": "logistic"}]


@pytest.mark.parametrize("target, loss", [("class", "auto"), ("class", "cross_entropy"), ("origin", "auto")])
@pytest.mark.parametrize("head", HEADS, ids=lambda head: head["kind"])
def test_a_classifier_with_a_fitted_head_is_saved_and_loaded_whole(birds, body, tmp_path, head, target, loss):
    rows = gilt.mix(birds, mode="add", target=target) if target == "origin" else gilt.mix(birds)
    config = gilt.TrainConfig(model="lenet5", weights=str(body), frozen=True, head=head, target=target, loss=loss)
    cache = gilt.PixelCache(tmp_path / "cache")
    classifier = gilt.train(rows, config, seed=1, cache=cache)
    assert len(classifier.history) == 1
    assert classifier.history[0]["train_accuracy"] > 0.8
    assert classifier.provenance["head"]["kind"] == head["kind"]
    classifier.save(tmp_path / "c.safetensors")
    again = gilt.load_classifier(tmp_path / "c.safetensors")
    test = birds.where(split="test")
    np.testing.assert_array_equal(gilt.predict(classifier, test).logits, gilt.predict(again, test).logits)
    kept = gilt.predict(again, test, cache=cache).logits
    np.testing.assert_allclose(kept, gilt.predict(again, test).logits, rtol=1e-3, atol=1e-3)
    assert again.head == classifier.head
    assert f"lenet5{'' if head['kind'] == 'logistic' else ' + ' + head['kind']} 32x32" in repr(again)
    assert gilt.evaluate(gilt.predict(again, test)).metrics["accuracy"].value >= 0.8


def test_every_balance_works_with_a_fitted_head(birds, body):
    for balance, drawn in (("over", 42), ("under", 14), ("weights", 28), ("smote", 42)):
        rows = gilt.mix(birds, max_real_by_class={"wren": 7}, balance=balance)
        config = gilt.TrainConfig(model="lenet5", weights=str(body), frozen=True, head={"kind": "svm", "c": [0.1, 1]})
        classifier = gilt.train(rows, config)
        assert classifier.provenance["n_drawn"] == drawn
        assert classifier.provenance["head"]["folds"] == 5


@pytest.fixture(scope="module")
def saved(birds, body, tmp_path_factory):
    paths = {}
    for kind in ("svm", "knn"):
        config = gilt.TrainConfig(model="lenet5", weights=str(body), frozen=True, head={"kind": kind})
        paths[kind] = tmp_path_factory.mktemp("saved") / f"{kind}.safetensors"
        gilt.train(gilt.mix(birds), config, cache=gilt.PixelCache(paths[kind].parent / "cache")).save(paths[kind])
    return paths


def changed(path, to, card=lambda card: None, tensors=lambda tensors: None):
    """Write a copy of a classifier with its card or tensors changed by the functions."""
    with safe_open(path, "pt") as file:
        known, held = json.loads(file.metadata()["gilt"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    card(known)
    tensors(held)
    save_file(held, to, metadata={"gilt": json.dumps(known)})
    return to


@pytest.mark.parametrize("kind, card, tensors, said", [
    ("svm", {"rows": 10**12}, {}, "its card says 1000000000000 rows of 84 features for the head 'svm'; the file holds"),
    ("svm", {"features": 85}, {}, "rows of 85 features"),
    ("svm", {"kind": "forest"}, {}, "a head of the kind 'forest', which this version of gilt does not know"),
    ("svm", {"kind": "knn"}, {}, "rows of 84 features for the head 'knn'; the file holds none"),
    ("svm", {}, {"dense3.counts": torch.tensor([1, 2])}, "support vectors are not those of its labels"),
    ("svm", {}, {"dense3.labels": torch.tensor([0, 7])}, "are not among 2 classes"),
    ("svm", {}, {"dense3.labels": torch.arange(3)}, "missing or too many"),
    ("svm", {}, {"dense3.coefficients": torch.zeros(1, 2, dtype=torch.float64)}, "size mismatch|loading state_dict"),
    ("knn", {}, {"dense3.neighbours": torch.tensor(0)}, "0 neighbours to ask"),
    ("knn", {}, {"dense3.neighbours": torch.tensor(10**6)}, "1000000 neighbours to ask"),
    ("knn", {}, {"dense3.labels": None}, "loading state_dict|Missing key")])
def test_a_file_whose_head_does_not_go_together_is_refused(saved, tmp_path, kind, card, tensors, said):
    def change(held):
        for name, value in tensors.items():
            held.pop(name)
            if value is not None:
                held[name] = value

    path = changed(saved[kind], tmp_path / "bad.safetensors", lambda known: known["head"].update(card), change)
    with pytest.raises(gilt.ModelError, match=said) as caught:
        gilt.load_classifier(path)
    assert "\n" not in str(caught.value)


def test_files_of_older_versions_load(body, tmp_path):
    old = changed(body, tmp_path / "old.safetensors", lambda card: [card.pop(name) for name in ("arguments", "head")])
    assert (gilt.load_classifier(old).arguments, gilt.load_classifier(old).head) == ({}, {})


@pytest.mark.parametrize("change, said", [
    ({"outputs": 7}, "7 logits are not those of 2 classes"), ({"classes": "wren"}, "classes"), ({"surprise": 1}, "unknown key"),
    ({"target": "weather"}, "target"), ({"arguments": {"filters": 3}}, "no arguments of its own"),
    ({"provenance": 3}, "provenance")])
def test_a_card_that_makes_no_sense_is_refused(body, tmp_path, change, said):
    path = changed(body, tmp_path / "bad.safetensors", lambda card: card.update(change))
    with pytest.raises(gilt.ModelError, match=said) as caught:
        gilt.load_classifier(path)
    assert "\n" not in str(caught.value)


def test_a_networks_own_arguments_are_saved_with_it(birds, tmp_path):
    config = gilt.TrainConfig(model="cifake", arguments={"filters": 8, "layers": 1}, epochs=1, batch_size=20)
    gilt.train(gilt.mix(birds), config).save(tmp_path / "c.safetensors")
    again = gilt.load_classifier(tmp_path / "c.safetensors")
    assert again.arguments == {"filters": 8, "layers": 1}
    assert gilt.predict(again, birds.where(split="val").real).logits.shape == (len(birds.where(split="val").real), 2)


def test_a_fitted_head_stays_the_networks_last_layer(saved):
    for kind, layer in (("svm", SvmHead), ("knn", KnnHead)):
        name, head = head_of(gilt.load_classifier(saved[kind]).network)
        assert (name, type(head)) == ("dense3", layer)


@pytest.mark.shared
@pytest.mark.skipif(not GROCERIES.is_dir() or not MOBILENET.is_file(), reason="needs the groceries and published weights")
def test_heads_say_what_scikit_learn_says_on_features_of_photographs(tmp_path):
    paths = {split: [path for name in ("Apple", "Banana", "Kiwi", "Milk", "Pepper")
                     for path in sorted((GROCERIES / split / name).glob("*.jpg"))[:20:2]] for split in ("train", "test")}
    body = create("mobilenet_v2", outputs=5, input_size=64)
    load_weights(body, MOBILENET)
    features, labels = {}, {}
    for split, files in paths.items():
        images = torch.stack([torch.from_numpy(decode(path, gilt.Preprocessing(size=64)).copy()) for path in files])
        features[split] = np.concatenate(list(features_of(body, (images.permute(0, 3, 1, 2) / 255).split(16))))
        labels[split] = np.unique([path.parent.name for path in files], return_inverse=True)[1]
    rows, test = (features["train"], labels["train"]), features["test"]
    models = {"svm": (SVC(C=1.7, gamma=0.002, break_ties=True), features["train"].astype(float), test.astype(float)),
              "logistic": (LogisticRegression(C=0.1, max_iter=5000), features["train"].astype(float), test.astype(float)),
              "knn": (KNeighborsClassifier(3), normalize(features["train"].astype(float)), normalize(test.astype(float)))}
    given = {"svm": {"c": 1.7, "gamma": 0.002}, "logistic": {"c": 0.1}, "knn": {"neighbours": 3}}
    for kind, (model, points, others) in models.items():
        network, _ = fitted(rows, 5, {"kind": kind, **given[kind]})
        expected = model.fit(points, labels["train"]).predict(others)
        np.testing.assert_array_equal(told(network, test), expected, err_msg=kind)
        assert (expected == labels["test"]).mean() > 0.6, kind
