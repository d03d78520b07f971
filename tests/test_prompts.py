"""Prompts: templates, lists of words by class, articles, and what is drawn for each image."""
from collections import Counter

import pytest

from gilt.errors import ConfigError, TableError
from gilt.generators.orders import orders, training_photographs
from gilt.generators.prompts import Prompts, in_words, load_prompts, prompt_presets, seed_of
from gilt.settings import parse

PLACES = {"variations": {"place": ["indoors", "outdoors", "at sea"]}, "template": "a photograph of {a_class}, {place}"}


def prompts(**data):
    return parse(Prompts, data, where="birds.toml")


def test_without_a_file_a_class_is_a_photograph_of_it():
    assert load_prompts().prompt("European_Robin", 5, seed=0) == ("a photograph of a european robin", "")


@pytest.mark.parametrize("words, said", [
    ("wren", "a wren"), ("owl", "an owl"), ("hour", "an hour"), ("18-wheeler", "an 18-wheeler"), ("unicorn", "a unicorn"),
    ("European robin", "a European"), ("umbrella", "an umbrella"), ("80 wrens", "an 80"), ("1 wren", "a 1"), ("one", "a one")])
def test_an_article_goes_by_the_sound(words, said):
    text, _ = prompts(template="{a_class}", classes={"x": {"words": words}}).prompt("x", 0, seed=0)
    assert text.startswith(said)


@pytest.mark.parametrize("folder, words", [("Golden-Delicious", "golden delicious"), ("BMW_x5", "BMW x5"), ("n0213", "n0213"),
                                           ("__", "__")])
def test_a_folders_name_becomes_words(folder, words):
    assert in_words(folder) == words


def test_the_words_of_a_list_come_equally_often_in_an_order_that_the_seed_shuffles():
    known = prompts(**PLACES)
    drawn = [known.prompt("wren", i, seed=0)[0] for i in range(30)]
    assert Counter(drawn) == dict.fromkeys(set(drawn), 10) and len(set(drawn)) == 3
    assert all(len(set(drawn[i:i + 3])) == 3 for i in range(0, 30, 3))
    assert drawn != [known.prompt("wren", i, seed=1)[0] for i in range(30)]
    assert [text.replace("robin", "wren") for text in (known.prompt("robin", i, seed=0)[0] for i in range(30))] != drawn


def test_several_lists_are_shuffled_apart():
    known = prompts(template=["{a_class} {place} {light}", "{class}: {place}, {light}"],
                    variations={"place": ["x", "y", "z"], "light": ["1", "2", "3"]})
    drawn = {known.prompt("wren", i, seed=0)[0] for i in range(400)}
    assert len(drawn) == 18  # every pair of words, in both templates


def test_an_image_gets_the_same_prompt_and_seed_whichever_others_are_made():
    known = prompts(**PLACES)
    many = orders(known, {"robin": 9, "wren": 50}, seed=4)
    alone = orders(known, {"wren": 21}, seed=4)[-1]
    assert alone == next(order for order in many if (order.class_name, order.number) == ("wren", 20))
    assert alone.seed == seed_of(4, "wren", 20)
    assert len({order.seed for order in many}) == 59 and max(order.seed for order in many) < 2**48


def test_drawn_prompts_and_seeds_do_not_change_from_one_version_to_the_next():
    drawn = orders(prompts(**PLACES), {"wren": 3}, seed=0)
    assert [(order.seed, order.prompt.split(", ")[1]) for order in drawn] == [
        (28163673596089, "indoors"), (200300621873466, "outdoors"), (228059567459156, "at sea")]


def test_a_class_has_words_a_negative_prompt_and_lists_of_its_own():
    known = prompts(**PLACES, negative="text", classes={"n01": {"words": "tabby cat", "negative": "dog", "variations": {
        "place": "on a sofa"}}})
    assert known.prompt("n01", 3, seed=0) == ("a photograph of a tabby cat, on a sofa", "dog")
    assert known.prompt("wren", 3, seed=0)[1] == "text"


def test_an_empty_word_leaves_no_comma_behind():
    known = prompts(template="{a_class}, {place}, {light}", variations={"place": [""], "light": ["", ""]})
    assert known.prompt("wren", 0, seed=0)[0] == "a wren"


@pytest.mark.parametrize("data, said", [
    ({"template": "{a_klass}"}, r"template names {a_klass}.*Did you mean 'a_class'"),
    ({"template": "{class.__init__}"}, "template names {class.__init__}"),
    ({"variations": {"place": []}}, "variations.place is an empty list"),
    ({"variations": {"class": ["x"]}}, "variations.class: a list's name"),
    ({"template": []}, "template is an empty list"),
    ({"tempate": "x"}, "unknown key 'tempate'.*Did you mean 'template'"),
    ({"template": "{place}", "classes": {"wren": {"variations": {"light": ["x"]}}}}, "template names {place}")])
def test_a_mistake_in_a_file_of_prompts_is_named(data, said):
    with pytest.raises(ConfigError, match=f"birds.toml: .*{said}"):
        prompts(**data)


def test_a_class_that_lacks_the_list_of_its_template_is_named():
    known = prompts(template="{a_class}, {place}", classes={"wren": {"variations": {"place": ["x"]}}})
    with pytest.raises(ConfigError, match=r"class 'robin' has no list 'place'.*\[classes.robin\]"):
        orders(known, {"wren": 1, "robin": 1})


def test_your_file_lies_over_a_preset(tmp_path):
    (tmp_path / "mine.toml").write_text('negative = "text"\n[settings]\nsteps = 20\n[classes.cat]\nwords = "tabby"\n')
    known = load_prompts("cifake", tmp_path / "mine.toml")
    assert (known.negative, known.settings["steps"], known.settings["scheduler"]) == ("text", 20, "euler_ancestral")
    assert known.prompt("cat", 0, seed=0)[0].startswith("a photograph of a tabby, ")


def test_an_unknown_preset_gets_a_near_name():
    with pytest.raises(ConfigError, match=r"no preset 'cifak' \(has: cifake, photographs\). Did you mean 'cifake'"):
        load_prompts("cifak")


@pytest.mark.parametrize("name", list(prompt_presets()))
def test_every_shipped_file_gives_prompts(name):
    known = load_prompts(name)
    drawn = [known.prompt(cls, i, seed=0)[0] for cls in (known.classes or ["wren"]) for i in range(60)]
    assert len(set(drawn)) >= 20
    assert not [text for text in drawn if "{" in text or "  " in text or text.endswith(",")]


def test_cifakes_setting_is_the_papers():
    known = load_prompts("cifake")
    assert (known.pipeline, known.origin) == ("hf:CompVis/stable-diffusion-v1-4", "stable-diffusion-1.4")
    assert known.settings == {"steps": 50, "guidance": 7.5, "scheduler": "euler_ancestral", "size": 512, "save_size": 32,
                              "resample": "bilinear"}
    assert list(known.classes) == ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    texts = [known.prompt(name, i, seed=0)[0] for name in known.classes for i in range(72)]
    assert all(text.startswith(("a photograph of a ", "a photograph of an ")) for text in texts)
    times = Counter(known.prompt("truck", i, seed=0)[0] for i in range(6000))
    assert len(times) == 9 and max(times.values()) - min(times.values()) <= 1  # used equally


def test_images_are_made_from_training_photographs_only_each_equally_often(birds):
    train = birds.where(split="train").real
    made = orders(prompts(), {"wren": 3 * len(train.where(class_="wren"))}, photographs=training_photographs(birds, ["wren"]))
    wrens = train.where(class_="wren").frame
    assert Counter(order.source for order in made) == dict.fromkeys(wrens["sha256"], 3)
    assert {order.photograph for order in made} == set(train.where(class_="wren").paths)


def test_photographs_without_a_split_or_a_class_without_any_are_refused(birds, bird_table):
    with pytest.raises(TableError, match=r"no photograph of .* has a split yet.*gilt split"):
        training_photographs(bird_table, ["wren"])
    with pytest.raises(TableError, match=r"class 'wrens' has no training photograph.*Did you mean 'wren'"):
        training_photographs(birds, ["wrens"])


def test_no_class_and_a_count_below_nothing_are_refused():
    with pytest.raises(ConfigError, match="no class to make images of"):
        orders(prompts(), {})
    with pytest.raises(ConfigError, match="count of class 'wren' is -1"):
        orders(prompts(), {"wren": -1})
