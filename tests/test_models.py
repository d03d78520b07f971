"""Networks: parameter counts, published or worked out by hand, sizes, starting weights, arguments; saving and loading."""
import copy
import json
import math

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

import gilt
from gilt.models.features import head_of
from gilt.models.registry import register
from gilt.models.summary import described, layer_table, totals
from gilt.models.zoo import create, find, list_models, matching, parameters, size_of
from gilt.training import METADATA

NETWORKS = pytest.mark.parametrize("entry", [e for e in list_models() if e.name != METADATA], ids=lambda entry: entry.name)


def tiny(entry):
    """The size to try a network at: small, and one that it takes."""
    return max(32, entry.smallest)


@pytest.mark.parametrize("name, count", [
    ("thesis1", 3_696_625), ("thesis2", 3_696_625), ("thesis3", 15_783_873), ("thesis4", 15_783_873),  # Figures 3.22 to 3.25
    ("alexnet", 61_100_840), ("mobilenet_v2", 3_504_872), ("resnet18", 11_689_512), ("resnet50", 25_557_032),  # torchvision's
    ("swin_s", 49_606_258), ("convnext_t", 28_589_128),  # documentation
])
def test_the_networks_have_the_published_parameter_counts(name, count):
    assert size_of(name) == count


def conv(inputs, filters, kernel, bias=True):
    return kernel * kernel * inputs * filters + bias * filters


def dense(inputs, units):
    return inputs * units + units


LENET5 = conv(3, 6, 5) + 2 * 6 + conv(6, 16, 5) + 2 * 16 + dense(16 * 5 * 5, 120) + dense(120, 84)
DEEP = (conv(3, 32, 7) + conv(32, 64, 5) + conv(64, 128, 5) + conv(128, 256, 3) + conv(256, 362, 3) + conv(362, 512, 1)
        + conv(512, 724, 1) + conv(724, 1024, 1) + 2 * (32 + 64 + 128 + 256 + 362 + 512 + 724 + 1024) + dense(724, 516))
LENET = conv(3, 6, 5) + conv(6, 16, 5) + conv(16, 120, 5) + dense(120, 84)
RESNET20 = (conv(3, 16, 3, False) + 6 * conv(16, 16, 3, False) + conv(16, 32, 3, False) + 5 * conv(32, 32, 3, False)
            + conv(32, 64, 3, False) + 5 * conv(64, 64, 3, False) + 2 * (7 * 16 + 6 * 32 + 6 * 64))  # the last: batch norms
SHORTCUTS = conv(16, 32, 1, False) + conv(32, 64, 1, False) + 2 * (32 + 64)
CNN = conv(3, 256, 3) + conv(256, 512, 3) + conv(512, 512, 3) + 2 * 512 + dense(512, 128)
TUNED = conv(3, 128, 3) + conv(128, 128, 3) + conv(128, 512, 3) + 2 * 512 + dense(512, 128)


def lstm(inputs, units):
    return 4 * units * (inputs + units + 1)  # four gates, each with one bias, as in Keras


LSTM = lstm(64 * 3, 64) + lstm(64, 128) + lstm(128, 128) + lstm(128, 256) + lstm(256, 256) + dense(256, 256)
SMALL = conv(32, 32, 3, False) + conv(32, 64, 3, False) + conv(64, 128, 3, False) + 2 * (32 + 32 + 64 + 128)
# ResNet-50's stages 1 and 2: bottlenecks 1x1, 3x3, 1x1 without biases, a 1x1 shortcut at each stage's start, and batch norms
STAGE1 = (conv(64, 64, 1, False) + conv(64, 64, 3, False) + conv(64, 256, 1, False) + conv(64, 256, 1, False)
          + 2 * (64 + 64 + 512)
          + 2 * (conv(256, 64, 1, False) + conv(64, 64, 3, False) + conv(64, 256, 1, False) + 2 * (64 + 64 + 256)))
STAGE2 = (conv(256, 128, 1, False) + conv(128, 128, 3, False) + conv(128, 512, 1, False) + conv(256, 512, 1, False)
          + 2 * (128 + 128 + 1024)
          + 3 * (conv(512, 128, 1, False) + conv(128, 128, 3, False) + conv(128, 512, 1, False) + 2 * (128 + 128 + 512)))


@pytest.mark.parametrize("name, outputs, arguments, count", [
    ("lenet5", 2, {}, LENET5 + dense(84, 2)), ("lenet5", 1, {}, 61_285), ("lenet5", 10, {}, 62_050),
    ("deepcnn8", 2, {}, DEEP + dense(16 * 16 * 1024, 724) + dense(516, 2)), ("deepcnn8", 2, {}, 192_864_492),
    ("lenet", 1, {}, LENET + dense(84, 1)), ("lenet", 10, {}, LENET + dense(84, 10)),
    ("cifake", 1, {}, conv(3, 32, 3) + conv(32, 32, 3) + dense(6 * 6 * 32, 1)), ("cifake", 1, {}, 11_297),
    ("cifake", 1, {"filters": 128}, conv(3, 128, 3) + conv(128, 128, 3) + dense(6 * 6 * 128, 1)),
    ("cifake", 1, {"filters": 16, "layers": 1}, conv(3, 16, 3) + dense(15 * 15 * 16, 1)),
    ("cifake", 1, {"layers": 3}, conv(3, 32, 3) + 2 * conv(32, 32, 3) + dense(2 * 2 * 32, 1)),
    ("cifake", 1, {"dense": 1, "units": 4096}, conv(3, 32, 3) + conv(32, 32, 3) + dense(1152, 4096) + dense(4096, 1)),
    ("cifake", 1, {"dense": 3, "units": 64},
     conv(3, 32, 3) + conv(32, 32, 3) + dense(1152, 64) + 2 * dense(64, 64) + dense(64, 1)),
    ("cifake", 1, {"pooling": False}, conv(3, 32, 3) + conv(32, 32, 3) + dense(28 * 28 * 32, 1)),
    ("resnet20", 100, {}, RESNET20 + SHORTCUTS + dense(64, 100)), ("resnet20", 100, {}, 278_324),
    ("resnet20", 10, {"shortcut": "pad"}, 269_722),  # He et al. 2016: 0.27 million; the published weights': exactly this
    ("competition_cnn", 100, {}, CNN + dense(128, 100)), ("competition_cnn", 100, {}, 3_626_724),
    ("competition_tuned", 100, {}, TUNED + dense(128, 100)), ("competition_tuned", 100, {}, 821_092),
    ("competition_tuned", 100, {"dense_sup": True, "batch_norm": False},
     TUNED - 2 * 512 - dense(512, 128) + dense(512, 512) + dense(512, 128) + dense(128, 100)),
    ("competition_lstm", 100, {}, LSTM + dense(256, 100)), ("competition_lstm", 100, {}, 1_307_236),
    ("npr", 1, {}, conv(3, 64, 3, False) + 2 * 64 + STAGE1 + STAGE2 + dense(512, 1)),
    ("npr", 1, {}, 1_437_761),  # the paper: 1.44 million
    ("high_pass", 1, {}, conv(9, 32, 3, False) + SMALL + dense(128, 1)),
    ("high_pass", 1, {"kernels": "bayar"}, 9 * 3 * 24 + conv(9, 32, 3, False) + SMALL + dense(128, 1)),
    ("frequency", 1, {}, conv(3, 32, 3, False) + SMALL + dense(128, 1)),
    ("frequency", 1, {"profile": "radial"}, dense(3 * 64, 1)),
    ("colour_histogram", 1, {}, dense(3 * 16, 1)), ("colour_histogram", 5, {"bins": 8}, dense(3 * 8, 5)),
])
def test_the_networks_have_the_parameters_of_their_layers(name, outputs, arguments, count):
    with torch.device("meta"):
        assert parameters(create(name, outputs=outputs, arguments=arguments)) == count


def test_the_layers_of_model_2_are_those_of_figure_3_23():
    shapes = {row[0]: (row[2], row[3]) for row in layer_table(create("thesis2"), 256)}
    assert shapes["conv1"] == ("16x254x254", 448)
    assert shapes["pool1"] == ("16x127x127", 0)
    assert shapes["conv2"] == ("32x125x125", 4_640)
    assert shapes["conv3"] == ("16x60x60", 4_624)
    assert shapes["flatten"] == ("14400", 0)
    assert shapes["dense1"] == ("256", 3_686_656)
    assert shapes["dense2"] == ("1", 257)


def test_the_layers_of_deepcnn8_have_the_sizes_that_the_document_gives():
    shapes = {row[0]: row[2] for row in described(find("deepcnn8"))[0]}
    assert [shapes[name] for name in ("pool1", "relu2", "pool3", "relu4", "pool5", "relu6", "relu7", "pool8", "dense9")] == [
        "32x128x128", "64x128x128", "128x64x64", "256x64x64", "362x32x32", "512x32x32", "724x32x32", "1024x16x16", "724"]


def test_the_layers_of_the_tuned_network_halve_with_their_strides():
    shapes = {row[0]: row[2] for row in layer_table(create("competition_tuned", outputs=100), 64)}
    assert [shapes[name] for name in ("conv1", "pool1", "conv2", "pool2", "conv3", "pool3")] == [
        "128x32x32", "128x16x16", "128x8x8", "128x4x4", "512x4x4", "512x2x2"]


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [9, 10])
def test_same_padding_gives_as_many_pixels_as_in_keras(kernel, stride, size):
    from gilt.models.layers import same_conv

    assert same_conv(3, 2, kernel, stride)(torch.rand(1, 3, size, size)).shape[2:] == (math.ceil(size / stride),) * 2


@NETWORKS
def test_a_layer_table_adds_up_to_the_network(entry):
    network = create(entry.name, outputs=3, input_size=tiny(entry))
    total, trainable, fixed = totals(network)
    assert sum(row[3] for row in layer_table(network, tiny(entry))) == total == trainable + fixed
    assert trainable == parameters(network)


def test_batch_norms_means_and_the_second_bias_of_an_lstm_are_fixed():
    assert totals(create("lenet5")) == (61_285 + 44, 61_285, 44)
    assert totals(create("competition_lstm")).fixed == 4 * (64 + 128 + 128 + 256 + 256)


@NETWORKS
@pytest.mark.parametrize("outputs, larger", [(1, 0), (7, 5)])
def test_every_network_takes_its_sizes_and_gives_its_logits(entry, outputs, larger):
    size = tiny(entry) + larger
    network = create(entry.name, outputs=outputs, input_size=size).eval()
    images = torch.rand(2, 3, size, size).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        out = network(images)
        assert out.shape == (2, outputs)
        torch.testing.assert_close(out, network(images), rtol=0, atol=0)  # nothing is drawn by chance in eval mode
        torch.testing.assert_close(out[:1], network(images[:1]), rtol=1e-4, atol=1e-4)  # an image's logits are its own
    assert out.isfinite().all()


@NETWORKS
def test_every_network_ends_in_the_dense_layer_that_frozen_training_replaces(entry):
    network, seen = create(entry.name, outputs=3, input_size=tiny(entry)).eval(), []
    head_of(network)[1].register_forward_hook(lambda layer, inputs, out: seen.append(out))
    out = network(torch.rand(1, 3, tiny(entry), tiny(entry)))
    assert len(seen) == 1
    assert seen[0] is out


@NETWORKS
def test_one_step_lowers_the_loss_of_every_network(entry):
    torch.manual_seed(0)
    network = create(entry.name, outputs=4, input_size=tiny(entry)).train()
    for layer in network.modules():
        if isinstance(layer, nn.Dropout) or type(layer).__name__ == "StochasticDepth":
            layer.p = 0.0  # the same function before and after
    images, labels = torch.rand(8, 3, tiny(entry), tiny(entry)), torch.arange(8) % 4
    optimizer = torch.optim.SGD(network.parameters(), 1e-3)
    before = F.cross_entropy(network(images), labels)
    before.backward()
    optimizer.step()
    with torch.no_grad():
        assert F.cross_entropy(network(images), labels) < before


@pytest.mark.parametrize("entry", [e for e in list_models() if e.smallest > 1], ids=lambda entry: entry.name)
def test_the_smallest_size_is_taken_and_one_pixel_less_is_refused(entry):
    with torch.inference_mode():
        out = create(entry.name, outputs=2, input_size=entry.smallest).eval()(torch.rand(1, 3, entry.smallest, entry.smallest))
    assert out.isfinite().all()
    with pytest.raises(gilt.ModelError, match=f"it needs {entry.smallest} pixels or more"):
        create(entry.name, input_size=entry.smallest - 1)


def test_networks_run_in_bfloat16():
    for name in ("competition_lstm", "frequency", "high_pass", "npr", "colour_histogram"):
        network = create(name, outputs=3, input_size=32)
        with torch.autocast("cpu", torch.bfloat16):
            network(torch.rand(2, 3, 32, 32)).float().sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


# -- what networks start from


def test_resnet20_starts_from_henormal_and_keras_networks_from_glorot():
    layer = create("resnet20").layer3[1].conv1
    assert layer.weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    assert layer.weight.abs().max().item() <= 2 * (2 / (9 * 64)) ** 0.5 / 0.8796 + 1e-6  # cut off, as Keras does
    layer = create("cifake", arguments={"filters": 128}).conv2
    assert layer.weight.abs().max().item() == pytest.approx((6 / (9 * 256)) ** 0.5, rel=0.01)
    assert not layer.bias.any()


def test_an_lstm_starts_as_in_keras():
    layer = create("competition_lstm").lstm3
    torch.testing.assert_close(layer.weight_hh_l0.T @ layer.weight_hh_l0, torch.eye(128), rtol=0, atol=1e-5)
    assert layer.bias_ih_l0[128:256].eq(1).all()  # the forget gate
    assert layer.bias_ih_l0.sum() == 128
    assert not layer.bias_hh_l0.any()
    assert not layer.bias_hh_l0.requires_grad


def test_dense_layers_with_variance_scaling_start_from_it():
    assert create("competition_cnn").dense1.weight.std().item() == pytest.approx(512 ** -0.5, rel=0.03)


# -- penalties


def test_activity_regularisation_is_a_penalty_in_training_only():
    network = create("competition_cnn", outputs=5, input_size=16, arguments={"activity": 0.5}).train()
    values = []
    network.relu.register_forward_hook(lambda layer, inputs, out: values.append(out))
    network(torch.rand(4, 3, 16, 16))
    torch.testing.assert_close(network.activity.penalty, 0.5 * values[0].square().sum() / 4)
    network.activity.penalty.backward()
    assert network.dense1.weight.grad.any()
    assert copy.deepcopy(network).activity.penalty is None  # a copy for an average of weights starts clean
    network.eval()(torch.rand(4, 3, 16, 16))
    assert network.activity.penalty is None


def test_l2_is_named_by_the_networks_that_their_documents_give_it():
    assert create("competition_cnn").l2 == {"dense1": 1e-4}
    assert create("competition_lstm", arguments={"l2": 0.01}).l2 == {"dense1": 0.01}
    assert create("thesis2").l2 == {"conv2": 0.01, "conv3": 0.01}


# -- forensic layers


def test_the_residual_of_nearest_upsampling_is_nothing():
    from gilt.models.forensic import Residual

    upsampled = F.interpolate(torch.rand(2, 3, 8, 8), scale_factor=2, mode="nearest")
    assert not Residual()(upsampled).any()
    photograph = torch.rand(2, 3, 17, 15)  # odd sides lose their last line
    assert Residual()(photograph).shape == (2, 3, 16, 14)
    torch.testing.assert_close(Residual()(photograph)[:, :, 1, 1], 2 / 3 * (photograph[:, :, 1, 1] - photograph[:, :, 0, 0]))


def test_high_pass_kernels_see_no_flat_field_and_bayars_stay_under_their_constraint():
    from gilt.models.forensic import Bayar, Srm

    flat = torch.full((1, 3, 9, 9), 0.4)
    assert Srm()(flat)[:, :, 2:-2, 2:-2].abs().max() < 1e-4
    layer = Bayar()
    assert layer(flat)[:, :, 2:-2, 2:-2].abs().max() < 1e-2
    kernels = layer.kernels()
    torch.testing.assert_close(kernels[:, :, 2, 2], -torch.ones(9, 3))
    torch.testing.assert_close(kernels.sum((2, 3)), torch.zeros(9, 3), rtol=0, atol=1e-5)


def test_a_spectrum_sees_the_grid_and_neither_brightness_nor_contrast():
    from gilt.models.forensic import Radial, Spectrum

    torch.manual_seed(0)
    noise = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(Spectrum()(noise), Spectrum()(noise * 0.5), rtol=0, atol=0.05)
    board = noise.clone()
    board[:, :, ::2, ::2] += 0.5  # a grid of period 2: peaks at the ends of both axes
    assert Spectrum()(board)[0, 0, 0, 16] > Spectrum()(noise)[0, 0, 0, 16] + 2
    rings = Radial(32, 8)(torch.ones(2, 3, 32, 32))
    torch.testing.assert_close(rings, torch.ones(2, 24))


def test_a_histogram_counts_each_colour_and_moves_without_jumps():
    from gilt.models.forensic import Histogram

    layer = Histogram(5)
    image = torch.zeros(1, 3, 4, 4)
    image[:, 1], image[:, 2] = 1.0, 0.375  # no red, all green, blue between the bins of 0.25 and 0.5
    counts = layer(image).reshape(3, 5) / 5
    torch.testing.assert_close(counts, torch.tensor([[1., 0, 0, 0, 0], [0, 0, 0, 0, 1.], [0, 0.5, 0.5, 0, 0]]))
    torch.testing.assert_close(layer(torch.rand(2, 3, 9, 9)).reshape(2, 3, 5).mean(2), torch.ones(2, 3))


# -- names and arguments


@pytest.mark.parametrize("name, arguments, message", [
    ("cifake", {"filter": 3}, r"'cifake': unknown key 'filter' \(known: filters, layers, dense, units, pooling\). "
                              r"Did you mean 'filters'\?"),
    ("cifake", {"filters": 0}, "filters: should be greater than or equal to 1, not 0"),
    ("cifake", {"units": "many"}, "units: should be a valid integer"),
    ("cifake", {"layers": 5}, "5 convolutions with pooling leave nothing"),
    ("resnet20", {"shortcut": "pat"}, "should be 'conv' or 'pad', not 'pat'. Did you mean 'pad'"),
    ("thesis1", {"filters": 3}, "'thesis1' has no arguments of its own: leave out filters"),
    ("competition_tuned", {"kernel_1": 7, "padding_1": "valid", "filters_9": 1}, "unknown key 'filters_9'"),
    ("competition_tuned", {"kernel_3": 11, "padding_3": "valid"}, "convolution and pooling number 3 leave nothing"),
])
def test_wrong_arguments_are_refused_in_one_line(name, arguments, message):
    with pytest.raises(gilt.ModelError, match=message) as error:
        create(name, arguments=arguments)
    assert "\n" not in str(error.value)


def test_an_entry_tells_its_arguments_with_their_values():
    assert find("cifake").arguments == {"filters": 32, "layers": 2, "dense": 0, "units": 64, "pooling": True}
    assert find("thesis2").arguments == {}
    tuned = find("competition_tuned").arguments  # the JSON in the report
    assert [tuned[name] for name in ("filters_1", "kernel_1", "strides_1", "dropout_1", "filters_2", "strides_2", "dropout_2",
                                     "filters_3", "strides_3", "dropout_3", "pooling", "dense_sup", "dense_final",
                                     "dropout_final")] == [128, 3, 2, 0, 128, 2, 0.1, 512, 1, 0.1, "avg", False, 128, 0.3]


def test_patterns_find_names():
    assert matching("thesis*") == ["thesis1", "thesis2", "thesis3", "thesis4"]
    assert matching("nothing*") == []
    with pytest.raises(gilt.ModelError, match=r"no library 'tim' .*Did you mean 'timm'"):
        matching("tim:*")


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
