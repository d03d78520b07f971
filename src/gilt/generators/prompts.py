"""Prompts: what a text-to-image model is asked for, image by image, from templates and lists of words.

    template = "a photograph of {a_class}, {place}"        # one, or a list of several
    negative = "drawing, text"
    variations.place = ["indoors", "outdoors"]
    [classes.n02123045]
    words = "tabby cat"                                     # where the folder's name is poor
    variations.place = ["on a sofa", "in a garden"]

`{class}` is the class in words, `{place}` one of the list `place`; `{a_class}`, `{a_place}` have "a" or "an" before them. Each
list is gone through in shuffled order, so that all its words come equally often. What image N of a class is asked for depends
on the seed, the class and N only: each image can be made again alone.
"""
import functools
import hashlib
import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Self

from pydantic import model_validator

from gilt.errors import ConfigError, listed, near
from gilt.files import read_toml
from gilt.settings import Config, Names, merge, parse

_SLOT = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_AN = re.compile(r"[aeiou]|8|11\b|18\b|hour|honest|heir|honou?r", re.I)  # begins with the sound of a vowel
_A = re.compile(r"eu|uni(?!n|m)|use|usu|uti|ural|one\b|once|ewe", re.I)  # is written with a vowel and sounds otherwise


class ClassPrompts(Config):
    """What one class has of its own: its name in `words`, templates, a negative prompt, lists of words."""

    words: str | None = None
    template: Names | None = None
    negative: str | None = None
    variations: dict[str, Names] = {}


class Prompts(Config):
    """A file of prompts: templates, a negative prompt, lists of words, and what single classes have of their own.

    `pipeline` is the model that the file was written for, `origin` that model's name in tables, `settings` how it makes images
    (`gilt.generators.text_to_image.ImageConfig`); each counts where nothing else is asked for.
    """

    name: str = ""
    template: Names = ("a photograph of {a_class}",)
    negative: str = ""
    variations: dict[str, Names] = {}
    classes: dict[str, ClassPrompts] = {}
    pipeline: str | None = None
    origin: str | None = None
    settings: dict[str, Any] = {}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name, words in [pair for part in (self, *self.classes.values()) for pair in part.variations.items()]:
            if not _NAME.fullmatch(name) or name == "class" or name.startswith("a_"):
                raise ValueError(f"variations.{name}: a list's name is lower-case letters, and neither class nor a_...")
            if not words:
                raise ValueError(f"variations.{name} is an empty list: give it words, or leave it out")
        for own in self.classes.values() or [ClassPrompts()]:
            if own.template == () or not self.template:
                raise ValueError("template is an empty list: give it one, or leave it out")
            slots = [slot for name in ("class", *self.variations, *own.variations) for slot in (name, f"a_{name}")]
            for slot in [slot for text in own.template or self.template for slot in _SLOT.findall(text) if slot not in slots]:
                raise ValueError(f"template names {{{slot}}}, and there is no list of that name (known: "
                                 f"{listed(slots, most=20)}).{near(slot, slots)}")
        return self

    def prompt(self, class_name: str, number: int, *, seed: int) -> tuple[str, str]:
        """Return the (prompt, negative prompt) of image `number` of a class.

        Raises ConfigError where a template names a list that this class has not.
        """
        own = self.classes.get(class_name, ClassPrompts())
        lists = {**self.variations, **own.variations}
        templates = own.template or self.template
        text = templates[turn((seed, class_name, "{}"), number, len(templates))]
        words = {"class": own.words or in_words(class_name)}
        for slot in dict.fromkeys(slot.removeprefix("a_") for slot in _SLOT.findall(text)):
            if slot not in words and slot not in lists:
                raise ConfigError(f"class {class_name!r} has no list {slot!r}, which the template {text!r} names: give it one "
                                  f"under [classes.{class_name}], or for all under [variations]")
            if slot in lists:
                words[slot] = lists[slot][turn((seed, class_name, slot), number, len(lists[slot]))]
        words |= {f"a_{slot}": _with_article(word) for slot, word in words.items()}
        return _tidy(_SLOT.sub(lambda slot: words[slot[1]], text)), self.negative if own.negative is None else own.negative


def load_prompts(preset: str | None = None, file: Path | str | None = None) -> Prompts:
    """Return a shipped file of prompts, yours, or yours laid over a shipped one; with neither, the plain template.

    Raises ConfigError for an unknown preset, and for a file that is missing, broken or names a list that is not there.
    """
    data: dict[str, Any] = {}
    if preset is not None:
        if preset not in (known := prompt_presets()):
            raise ConfigError(f"no preset {preset!r} (has: {listed(known)}).{near(preset, known)} A file of your own is given "
                              "with --prompts")
        data = tomllib.loads((_folder() / f"{preset}.toml").read_text("utf-8"))
    return parse(Prompts, merge(data, read_toml(file)) if file else data, where=str(file or f"preset {preset}"))


def prompt_presets() -> dict[str, str]:
    """Return the shipped files' names, each with the first line that it says of itself."""
    files = sorted((file for file in _folder().iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)
    return {file.name.removesuffix(".toml"): file.read_text("utf-8").splitlines()[0].lstrip("# ") for file in files}


def _folder() -> Any:
    return resources.files("gilt.generators") / "presets"


def seed_of(seed: int, class_name: str, number: int) -> int:
    """Return the seed, below 2^48, that image `number` of a class is made with."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{class_name}\0{number}".encode()).digest()[:6])


def turn(key: tuple[int, str, str], number: int, count: int) -> int:
    """Return which of `count` things is number `number`'s: every `count` numbers in a row, each comes once."""
    block, place = divmod(number, count)
    return _shuffled(key, block, count)[place]


@functools.lru_cache(maxsize=256)
def _shuffled(key: tuple[int, str, str], block: int, count: int) -> list[int]:
    # by hash, not by a generator of numbers: these may change from one version of a library to the next
    before = "\0".join(map(str, (*key, block)))
    return sorted(range(count), key=lambda i: hashlib.sha256(f"{before}\0{i}".encode()).digest())


def in_words(class_name: str) -> str:
    """Return a folder's name as words: "Golden-Delicious" is "golden delicious", "BMW_x5" is "BMW x5"."""
    words = re.sub(r"[_\-\s]+", " ", class_name).strip().split(" ")
    return " ".join(word.lower() if word[1:].islower() else word for word in words) or class_name


def _with_article(text: str) -> str:
    if not text:
        return ""
    return f"{'an' if _AN.match(text) and not _A.match(text) else 'a'} {text}"


def _tidy(text: str) -> str:
    """Return a prompt without what empty words leave behind: doubled spaces and commas."""
    text = re.sub(r"\s*,(\s*,)+", ",", re.sub(r"\s+", " ", text))
    return re.sub(r"\s+,", ",", text).strip(" ,")


def check_counts(counts: Mapping[str, int]) -> None:
    """Raise ConfigError for no class at all, or fewer than 0 images of one."""
    if not counts:
        raise ConfigError("no class to make images of: give a TABLE, --classes, or prompts that list classes")
    for name, count in counts.items():
        if count < 0:
            raise ConfigError(f"count of class {name!r} is {count}: 0 or more")
