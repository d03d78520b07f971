"""The command `gilt models`, and published weights that become a classifier."""
import json

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

import gilt
from conftest import SHARED
from gilt.cli import gilt as command
from gilt.cli.show import plain
from gilt.models.adopt import Design, adopt
from gilt.models.zoo import create, list_models

CIFAR10 = "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck"


def run(*arguments):
    result = CliRunner().invoke(command, ["models", *arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_the_list_names_every_network_in_100_columns_with_its_family():
    out = run().output
    for entry in list_models():
        assert f"\n{entry.name} " in out
        assert f"\n{entry.family}\n" in out
    assert max(map(len, out.splitlines())) <= 100
    listed = json.loads(run("--json").output)
    assert [row["name"] for row in listed] == [entry.name for entry in list_models()]
    assert next(row for row in listed if row["name"] == "thesis2")["parameters"] == 3_696_625


def test_one_network_is_shown_with_its_arguments_layers_and_totals():
    out = run("cifake", "--set", "filters=64", "--set", "dense=2").output
    assert "filters   64     whole numbers, 1 or more" in out
    assert "64x30x30" in out
    assert "trainable parameters         190,465" in out  # 1,792 + 36,928 + 147,520 + 4,160 + 65
    shown = json.loads(run("cifake", "--set", "filters=64", "--set", "dense=2", "--json").output)
    assert shown["arguments"] == {"filters": 64, "layers": 2, "dense": 2, "units": 64, "pooling": True}
    assert (shown["trainable"], shown["fixed"], shown["layers"][0]) == (
        190_465, 0, {"layer": "conv1", "kind": "Conv2d", "output shape": "64x30x30", "parameters": 1_792})


def test_classes_and_size_change_the_table_as_training_would():
    assert json.loads(run("thesis2", "--classes", "2", "--json").output)["outputs"] == 1  # a sigmoid
    shown = json.loads(run("thesis2", "--classes", "43", "--size", "64", "--json").output)
    assert (shown["outputs"], shown["input_size"], shown["layers"][-1]["parameters"]) == (43, 64, 256 * 43 + 43)
    assert json.loads(run("thesis2", "--classes", "a,b,c", "--json").output)["outputs"] == 3


def test_the_metadata_network_and_one_of_a_library_are_shown_too():
    assert "Metadata" not in run("metadata").output.split("\n")[0]
    assert json.loads(run("metadata", "--json").output)["total"] > 0
    assert "body.fc" in run("torchvision:resnet18").output


def test_patterns_list_names():
    assert run("thesis*").output.split() == ["thesis1", "thesis2", "thesis3", "thesis4"]
    assert json.loads(run("torchvision:swin_?", "--json").output) == [f"torchvision:swin_{size}" for size in "bst"]


@pytest.mark.parametrize("arguments, message", [
    (["cifake", "--set", "filter=3"], "unknown key 'filter'"),
    (["cifake", "--size", "3"], "cannot take 3x3 images"),
    (["nothing*"], r"no network fits 'nothing\*'"),
    (["thesis_1"], "Did you mean 'thesis1'")])
def test_what_is_wrong_is_said(arguments, message):
    with pytest.raises(gilt.GiltError, match=message):
        run(*arguments)


@pytest.mark.parametrize("arguments, message", [
    (["--size", "32"], "name a network"), (["lenet5", "--classes", "1"], "two or more"),
    (["lenet5", "--weights", "x.pt"], "needs --classes and -o too"),
    (["lenet5", "-o", "x.safetensors"], "needs --weights and --classes too"),
    (["lenet5", "--weights", "x.pt", "--classes", "3", "-o", "x.safetensors"], "name the classes")])
def test_options_that_do_not_go_together_are_refused(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in plain(result.output)


@pytest.fixture
def published(tmp_path):
    """The weights of a small network of three classes, as another program would save them."""
    torch.manual_seed(3)
    network = create("resnet20", outputs=3, arguments={"shortcut": "pad"}).eval()
    torch.save({"state_dict": {f"module.{name}": value for name, value in network.state_dict().items()}}, tmp_path / "net.th")
    return network


def test_published_weights_become_a_classifier_with_its_last_layer(published, tmp_path):
    out = tmp_path / "adopted.safetensors"
    (tmp_path / "names.txt").write_text("wren\nrobin\n\ntit\n")
    result = run("resnet20", "--set", "shortcut=pad", "--size", "32", "--weights", str(tmp_path / "net.th"),
                 "--classes", str(tmp_path / "names.txt"), "-o", str(out))
    assert result.exit_code == 0
    assert "nothing was trained" in result.output
    classifier = gilt.load_classifier(out)
    images = torch.rand(4, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(classifier.logits(images), published(images))
    assert (classifier.classes, classifier.preprocessing.size) == (("wren", "robin", "tit"), 32)
    assert classifier.arguments == {"shortcut": "pad"}
    assert classifier.provenance["weights_from"] == "net.th"
    assert len(classifier.provenance["weights"]) == 64


def test_a_published_detector_may_have_one_logit_or_two(tmp_path):
    for outputs in (1, 2):
        save_file(create("colour_histogram", outputs=outputs).state_dict(), tmp_path / "d.safetensors")
        detector = adopt(Design("colour_histogram"), tmp_path / "d.safetensors", ["real", "generated"], target="origin")
        assert detector.outputs == outputs
        assert detector.logits(torch.rand(2, 3, 64, 64)).shape == (2, 2)


@pytest.mark.parametrize("classes, target, message", [
    (["wren", "robin"], "class", "linear.bias is 3, not 2"),
    (["wren", "wren", "tit"], "class", "two or more different classes"),
    (["wren", "robin", "tit"], "origin", "a detector's classes are real and generated")])
def test_weights_of_other_classes_are_refused(published, tmp_path, classes, target, message):
    with pytest.raises(gilt.ModelError, match=message):
        adopt(Design("resnet20", arguments={"shortcut": "pad"}), tmp_path / "net.th", classes, target=target)


def test_an_adopted_network_is_judged_and_predicts_like_any_other(published, birds, tmp_path):
    classifier = adopt(Design("resnet20", 32, {"shortcut": "pad"}), tmp_path / "net.th", ["wren", "robin", "tit"])
    evaluation = gilt.evaluate(gilt.predict(classifier, birds.real.where(split="test")))
    assert 0 <= evaluation.metrics["accuracy"].value <= 1
    assert evaluation.metrics["accuracy"].n == len(birds.real.where(split="test"))


@pytest.mark.shared
@pytest.mark.skipif(not (SHARED / "weights").exists(), reason="no published weights beside the checkout")
def test_the_published_cifar_10_weights_fill_resnet20_whole():
    design = Design("resnet20", 32, {"shortcut": "pad", "normalise": "imagenet"})
    classifier = adopt(design, SHARED / "weights" / "resnet20-12fca82f.th", CIFAR10.split(","))
    assert classifier.provenance["weights"].startswith("12fca82f")
    assert classifier.logits(torch.rand(2, 3, 32, 32)).isfinite().all()
