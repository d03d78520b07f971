"""Groups of settings: how they are declared, read, overridden and merged, and what a mistake in them is told.

What is read from a file is a frozen pydantic model that forbids unknown keys. `override` applies `--set train.epochs=5`.
"""
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from gilt.errors import ConfigError, listed, near

Share = typing.Annotated[float, Field(ge=0, le=1)]
Part = typing.Annotated[float, Field(ge=0, lt=1)]
Above0 = typing.Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = typing.Annotated[int, Field(ge=0)]
Size = typing.Annotated[int, Field(ge=1)]
Several = BeforeValidator(lambda value: value if isinstance(value, (list, tuple)) else [value])  # one name is a list of one
Names = typing.Annotated[tuple[str, ...], Several]
Moment = typing.Annotated[float | str, BeforeValidator(lambda value: getattr(value, "isoformat", lambda: value)())]


class Config(BaseModel):
    """A frozen group of settings that refuses unknown keys. `also` names keys that it takes beside its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    also: ClassVar[tuple[str, ...]] = ()


C = typing.TypeVar("C", bound=Config)


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
        names = [*parent.model_fields, *parent.also] if parent else []
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
            if text.lstrip().startswith("["):
                raise ConfigError(f"--set {setting}: a list is written as TOML, in quotes for the shell: "
                                  f"--set '{name.strip()}=[\"a\", \"b\"]'") from None
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
