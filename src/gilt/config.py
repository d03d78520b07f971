"""Every knob on one page.

What is read from a file is a frozen pydantic model that forbids unknown keys. `TrialConfig` is one whole trial; its
hash, with the table's fingerprint, names the trial. `override` applies `--set train.epochs=5`.
"""
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gilt.errors import ConfigError, listed, near

REAL = "real"  # the origin of every photograph; any other origin is a generator's name
GENERATED = "generated"  # the label of those, where the target is `origin`
Share = typing.Annotated[float, Field(ge=0, le=1)]
Count = typing.Annotated[int, Field(ge=0)]
Size = typing.Annotated[int, Field(ge=1)]


class Config(BaseModel):
    """A frozen group of settings that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


C = typing.TypeVar("C", bound=Config)


class SplitConfig(Config):
    """How rows are dealt into train, val and test.

    Existing splits are kept (`keep`); only rows without one are dealt. Where a table has no val rows, they come from
    the training rows, or from the test rows when `val_from_test` is set (the thesis's 50-50: 0.5).
    """

    train: Share = 0.7
    val: Share = 0.15
    test: Share = 0.15
    val_from_test: Share = 0.0
    keep: bool = True
    seed: int | None = None  # None: the trial's own seed; a number: one split for all seeds

    @model_validator(mode="after")
    def _sum(self) -> Self:
        if abs(self.train + self.val + self.test - 1) > 1e-6:
            raise ValueError(f"train + val + test must be 1, not {self.train + self.val + self.test:g}")
        return self


class MixConfig(Config):
    """How real and generated rows make a training set.

    `share`: a set whose generated part is `share`, as large as the rows allow or `total` rows.
    `add`: all real rows + `generated` rows (or as many as give `share`; neither: all).
    `replace`: `generated` rows (or the part `share`) of the real ones replaced, the total fixed.
    Neither mode nor share set: real rows only for target `class`, all rows for target `origin`.
    """

    mode: Literal["share", "add", "replace"] = "share"
    share: Share | None = None
    generated: Count | None = None
    total: Size | None = None
    max_real: Count | None = None
    max_generated: Count | None = None
    val: Literal["real", "generated", "mix"] | None = None  # None: real for target `class`, mix for `origin`

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.mode == "share" and self.generated is not None:
            raise ValueError("mix.generated belongs to mode 'add' or 'replace'; mode 'share' takes mix.share")
        if self.mode != "share" and self.total is not None:
            raise ValueError(f"mix.total belongs to mode 'share', not {self.mode!r}")
        if self.share is not None and self.generated is not None:
            raise ValueError("mix.share and mix.generated say the same thing twice: keep one")
        if self.mode == "replace" and self.share is None and self.generated is None:
            raise ValueError("mode 'replace' needs mix.share or mix.generated")
        return self


class Preprocessing(Config):
    """How a file becomes pixels: decoded by Pillow, made RGB, stretched to size x size pixels.

    `resample` is Pillow's filter; shrinking with it averages over the whole area, so there is no aliasing.
    """

    size: Size
    resample: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"


class TrainConfig(Config):
    """How one network is trained."""

    target: Literal["class", "origin"] = "class"
    model: str = "thesis2"
    dropout: typing.Annotated[float, Field(ge=0, lt=1)] | None = None  # None: the network's own
    image_size: Size | None = None  # pixels; None: the network's own
    epochs: Size = 30
    steps: Size | None = None  # fixed optimiser steps instead of fixed epochs
    batch_size: Size = 100
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: typing.Annotated[float, Field(gt=0)] = 1e-3
    loss: Literal["auto", "binary", "cross_entropy"] = "auto"  # auto: binary for two classes
    l2: dict[str, float] | None = None  # layer name -> penalty; None: the network's own
    augment: tuple[Literal["hflip", "vflip", "shift"], ...] = ()
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    tensorboard: bool = False


class TrialConfig(Config):
    """One trial, resolved: everything but its seed that can change its outcome."""

    classes: dict[str, list[str]] | list[str] | None = None  # pick classes, or merge: {"Fruit": ["Apple", "Banana"]}
    generators: list[str] | None = None  # origins to use beside `real`; None: all
    split: SplitConfig = SplitConfig()
    mix: MixConfig = MixConfig()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="before")
    @classmethod
    def _target_on_top(cls, data: Any) -> Any:
        """Accept `target = "class"` beside `train`, where an experiment's reader looks for it."""
        if isinstance(data, Mapping) and "target" in data:
            data = dict(data)
            group = data.get("train", {})
            if isinstance(group, Mapping):  # anything else is refused below, with its place
                data["train"] = {**group, "target": data.pop("target")}
            else:
                del data["target"]
        return data

    @property
    def target(self) -> str:
        return self.train.target


def parse(kind: type[C], data: Mapping[str, Any], *, where: str) -> C:
    """Return `data` as a `kind`. Raises ConfigError with one line that names the key, the place and the choices."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_first(kind, error, where)) from None


def _first(kind: type[Config], error: ValidationError, where: str) -> str:
    # an unknown key explains a missing one: it comes first
    problem = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        parent = _kind_at(kind, problem["loc"][:-1])
        names = [*parent.model_fields, *(["target"] if parent is TrialConfig else [])] if parent else []
        last = problem["loc"][-1]
        return f"{where}: unknown key {place!r} (known: {listed(names, most=20)}).{near(str(last), names)}"
    if problem["type"] == "value_error":
        return f"{where}: {place + ': ' if place else ''}{problem['ctx']['error']}"
    given = "" if problem["type"] == "missing" else f", not {problem['input']!r}"
    guess = near(str(problem["input"]), _choices(problem)) if problem["type"] == "literal_error" else ""
    return f"{where}: {place}: {problem['msg'].removeprefix('Input ')}{given}.{guess}"


def _choices(problem: Mapping[str, Any]) -> list[str]:
    return [part for part in problem.get("ctx", {}).get("expected", "").split("'") if part.strip(" ,or")]


def _kind_at(kind: type[Config], place: Sequence[int | str]) -> type[Config] | None:
    """Return the model that holds the key at `place`, following nested models and lists or dicts of them."""
    for part in place:
        field = kind.model_fields.get(str(part))
        if field is None:
            return kind if isinstance(part, str) else None
        inner = _models(field.annotation)
        if not inner:
            return None
        kind = inner[0]
    return kind


def _models(annotation: Any) -> list[type[Config]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias) and issubclass(annotation, Config):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in _models(part)]


def override(data: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Return `data` with `a.b=value` settings applied; a value is read as TOML, or taken as text.

    Raises ConfigError where a setting has no `=` or reaches into something that is no group.
    """
    import tomllib

    result = _copy(data)
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--set takes name=value, as in --set train.epochs=5, not {setting!r}")
        try:
            value = tomllib.loads(f"x = {text}")["x"]
        except tomllib.TOMLDecodeError:
            value = text
        *path, last = name.strip().split(".")
        group = result
        for part in path:
            group = group.setdefault(part, {})
            if not isinstance(group, dict):
                raise ConfigError(f"--set {setting}: {part!r} is a value, not a group of settings")
        group[last] = value
    return result


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `changes` laid over it, group by group."""
    result = _copy(base)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return result


def _copy(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in data.items()}
