"""The recipes: each says where it is from and what was said of it, is a whole set of settings, and trains."""
from pathlib import Path

import pytest
from click.testing import CliRunner

import gilt
from gilt.cli import gilt as command_group
from gilt.cli.train import _said
from gilt.models.zoo import find
from gilt.settings import parse
from gilt.training import TrainConfig, recipes

PAGE = Path(__file__).resolve().parent.parent / "docs" / "recipes.md"
TODAY = {"modern-small", "modern-finetune", "detector", "detector-features", "detector-robust"}


@pytest.fixture(scope="module")
def rows(bird_table):
    return {target: gilt.mix(gilt.split(bird_table, target=target), target=target) for target in ("class", "origin")}


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_says_where_it_is_from_and_what_its_document_does_not_say(name):
    recipe = recipes()[name]
    assert set(recipe) <= {"source", "about", "train", "unstated", "reported"}
    assert recipe["source"]
    assert recipe["about"]
    assert set(recipe.get("unstated", {})) <= {*recipe["train"], "others"}
    assert name in TODAY or {"on"} <= set(recipe["reported"])
    config = TrainConfig(recipe=name)
    assert config.recipe == name
    assert {key: getattr(config, key) for key in ("model", "epochs", "batch_size")} == {
        key: recipe["train"].get(key, TrainConfig.model_fields[key].default) for key in ("model", "epochs", "batch_size")}


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_trains_for_two_steps_on_tiny_images(rows, name):
    """Without the weights of others, which are not here; the rest is the recipe's."""
    model = find(TrainConfig(recipe=name).model)
    config = TrainConfig(recipe=name, weights=None, image_size=max(model.smallest, 32), steps=2, batch_size=4, warmup=0,
                         device="cpu")
    head = config.frozen and config.head.kind
    classifier = gilt.train(rows[config.target], config)
    assert len(classifier.history) == 1
    assert classifier.history[0]["train_loss"] > 0
    assert head or classifier.provenance["stopped"] == "all 2 steps done"


def test_the_documents_numbers_are_the_recipes():
    resnet = TrainConfig(recipe="competition-resnet20")
    assert (resnet.batch_size, resnet.early_stopping, resnet.epochs, resnet.schedule) == (64, 50, 200, "plateau")
    assert (resnet.monitor, resnet.keep) == ("val_loss", "val_accuracy")
    deep = TrainConfig(recipe="detector-deepcnn8")
    assert (deep.batch_size, deep.early_stopping, deep.epochs, deep.learning_rate, deep.loss) == (
        64, 10, 200, 1e-3, "cross_entropy")
    svm = TrainConfig(recipe="detector-svm")
    assert (svm.head.kind, svm.head.c, svm.head.gamma, svm.frozen) == ("svm", (1.7,), (0.002,), True)
    assert TrainConfig(recipe="comparison-resnet50-experiment1").epochs == 5
    assert TrainConfig(recipe="thesis-faces").epochs == 40


def test_what_is_said_beside_a_recipe_wins_group_by_group():
    assert TrainConfig(recipe="cifake", arguments={"filters": 16}).arguments == {"filters": 16, "layers": 2}
    assert TrainConfig(recipe="cifake", epochs=2).epochs == 2
    assert TrainConfig(recipe="detector-svm", head={"c": 3.0}).head.gamma == (0.002,)
    assert TrainConfig(recipe="detector-svm", head={"kind": "knn"}).head.neighbours == (5,)
    other = TrainConfig(recipe="cifake", model="lenet5")  # whose arguments are others
    assert (other.arguments, other.batch_size) == ({}, 32)
    again = TrainConfig.model_validate(TrainConfig(recipe="modern-finetune", epochs=3).model_dump(mode="json"))
    assert again == TrainConfig(recipe="modern-finetune", epochs=3)
    assert TrainConfig(recipe="modern-small", optimizer="adam").momentum == 0.9


def test_an_unknown_recipe_is_told_the_near_name(tmp_path):
    with pytest.raises(gilt.ConfigError, match=r"no recipe 'cifak' \(there are: thesis, .*Did you mean 'cifake'\?"):
        parse(TrainConfig, {"recipe": "cifak"}, where="study.toml")


def test_a_study_takes_a_recipe(tmp_path, bird_table):
    bird_table.save(tmp_path / "birds.parquet")
    (tmp_path / "s.toml").write_text('name = "s"\nseeds = [0]\n[base]\ntable = "birds.parquet"\n[base.train]\n'
                                     'recipe = "modern-small"\n[arms.one]\n[arms.two]\ntrain.epochs = 3\n')
    arms = gilt.Study.load(tmp_path / "s.toml").arms
    assert (arms["one"].train.epochs, arms["two"].train.epochs, arms["two"].train.model) == (30, 3, "resnet20")


def test_the_command_lists_and_takes_recipes(tmp_path, bird_table):
    listed = CliRunner().invoke(command_group, ["train", "--recipes"])
    assert listed.exit_code == 0
    for name, recipe in recipes().items():
        assert f"{name}: {recipe['about']}" in " ".join(listed.output.split())
    assert max(map(len, listed.output.splitlines())) <= 100
    assert "learning_rate=0.001*" in listed.output
    bird_table.save(tmp_path / "birds.parquet")
    words = ["train", str(tmp_path / "birds.parquet"), "-o", str(tmp_path / "x.safetensors"), "--recipe", "detector-lenet5",
             "--set", "train.epochs=1"]
    assert CliRunner().invoke(command_group, words, catch_exceptions=False).exit_code == 0
    known = gilt.load_classifier(tmp_path / "x.safetensors").provenance["train"]
    assert (known["recipe"], known["epochs"], known["batch_size"]) == ("detector-lenet5", 1, 32)


def test_the_page_has_every_recipe_with_its_settings():
    page = PAGE.read_text()
    for name, recipe in recipes().items():
        line = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        for key, value in recipe["train"].items():
            if key not in ("target", "model", "arguments", "head", "weights", "frozen"):
                assert _said(value) in line, f"{name}: {key}"


def test_values_are_printed_as_they_are_written():
    assert _said({"a": [1, 0.5], "b": True}) == "{a=[1, 0.5], b=true}"
