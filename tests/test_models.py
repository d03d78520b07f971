"""Networks: published parameter counts, settings, saving and loading."""
import json

import pytest
import torch
from safetensors.torch import save_file

import gilt
from gilt.models.registry import register
from gilt.models.zoo import create, find, list_models, parameters


@pytest.mark.parametrize("name, count", [
    ("thesis1", 3_696_625), ("thesis2", 3_696_625), ("thesis3", 15_783_873), ("thesis4", 15_783_873)])
def test_the_thesis_networks_have_the_published_parameter_counts(name, count):
    assert parameters(create(name)) == count
    assert find(name).input_size == 256


def test_the_layers_of_model_2_are_those_of_figure_3_23():
    from gilt.models.summary import layer_table

    shapes = {row[0]: (row[2], row[3]) for row in layer_table(create("thesis2"), 256)}
    assert shapes["conv1"] == ("16x254x254", 448)
    assert shapes["pool1"] == ("16x127x127", 0)
    assert shapes["conv2"] == ("32x125x125", 4_640)
    assert shapes["conv3"] == ("16x60x60", 4_624)
    assert shapes["flatten"] == ("14400", 0)
    assert shapes["dense1"] == ("256", 3_686_656)
    assert shapes["dense2"] == ("1", 257)


def test_lenet5_has_the_parameters_of_its_layers():
    by_hand = (75 * 6 + 6) + 12 + (150 * 16 + 16) + 32 + (400 * 120 + 120) + (120 * 84 + 84)
    assert parameters(create("lenet5")) == by_hand + 85
    assert parameters(create("lenet5", outputs=10)) == by_hand + 850


@pytest.mark.parametrize("entry", list_models(), ids=lambda entry: entry.name)
@pytest.mark.parametrize("outputs", [1, 7])
def test_every_network_takes_its_size_and_gives_its_logits(entry, outputs):
    network = create(entry.name, outputs=outputs, input_size=max(32, entry.input_size // 4)).eval()
    size = max(32, entry.input_size // 4)
    assert network(torch.rand(2, 3, size, size)).shape == (2, outputs)


def test_dropout_is_a_setting_where_there_is_such_a_layer():
    assert create("thesis2", dropout=0.3).dropout.p == 0.3
    assert create("thesis2").dropout.p == 0.5
    assert create("thesis3").dropout.p == 0.2
    with pytest.raises(gilt.ModelError, match="thesis1' has no dropout"):
        create("thesis1", dropout=0.3)


def test_pooling_before_relu_is_the_same_function():
    x = torch.randn(2, 4, 9, 9)
    from gilt.models.layers import PoolRelu

    torch.testing.assert_close(PoolRelu()(x), torch.max_pool2d(torch.relu(x), 2))


def test_an_unknown_network_names_the_near_one():
    with pytest.raises(gilt.ModelError, match=r"no network 'thesis_2' .*Did you mean 'thesis2'"):
        create("thesis_2")


def test_a_name_can_be_taken_once():
    with pytest.raises(gilt.ModelError, match="two networks are called 'lenet5'"):
        register("lenet5", input_size=32, source="here")(lambda outputs, input_size: None)


def test_a_size_that_leaves_nothing_is_refused():
    with pytest.raises(gilt.ModelError, match="cannot take 8x8 images"):
        create("lenet5", input_size=8)


@pytest.fixture
def classifier():
    network = create("lenet5", input_size=32).eval()
    return gilt.Classifier(network, "lenet5", ("a", "b"), "class", gilt.Preprocessing(size=32), outputs=1,
                           history=[{"epoch": 1}], provenance={"seed": 7})


def test_a_saved_classifier_predicts_the_same(classifier, tmp_path):
    classifier.save(tmp_path / "m.safetensors")
    again = gilt.load_classifier(tmp_path / "m.safetensors")
    images = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(again.logits(images), classifier.logits(images))
    assert (again.classes, again.target, again.history, again.provenance["seed"]) == (("a", "b"), "class", [{"epoch": 1}], 7)
    assert again.logits(images).shape == (3, 2)


def test_loading_says_what_a_file_is_not(classifier, tmp_path):
    with pytest.raises(gilt.ModelError, match="does not exist"):
        gilt.load_classifier(tmp_path / "none")
    (tmp_path / "text").write_text("hello, I am not a model at all")
    with pytest.raises(gilt.ModelError, match="is not a safetensors file"):
        gilt.load_classifier(tmp_path / "text")
    save_file({"w": torch.ones(2)}, tmp_path / "other")
    with pytest.raises(gilt.ModelError, match="no classifier of gilt's"):
        gilt.load_classifier(tmp_path / "other")
    card = {"format": "gilt classifier 1", "model": "thesis1", "classes": ["a", "b"], "target": "class", "outputs": 1,
            "preprocessing": {"size": 256}, "dropout": None, "history": [], "provenance": {}}
    save_file({"w": torch.ones(2)}, tmp_path / "misfit", metadata={"gilt": json.dumps(card)})
    with pytest.raises(gilt.ModelError, match="does not fit the network it names"):
        gilt.load_classifier(tmp_path / "misfit")


def test_a_pickle_is_never_opened(tmp_path):
    """A file that would run code when unpickled is refused, and the code does not run."""
    import pickle

    class Bad:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    (tmp_path / "bad.safetensors").write_bytes(pickle.dumps(Bad()))
    with pytest.raises(gilt.ModelError):
        gilt.load_classifier(tmp_path / "bad.safetensors")
    assert not (tmp_path / "owned").exists()
