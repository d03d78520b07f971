"""Factors: `[cross]` of a study file to arms, every level of each factor with every level of the others.

    [cross]
    "mix.share" = [0.0, 0.2, 0.5]                         a field and its values
    "train.model" = ["lenet5", "thesis2"]

    [cross.length]                                        a factor of one's own: each level sets several fields
    short = { train.epochs = 5 }
    long = { train.epochs = 30, train.batch_size = 32 }
"""
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gilt.config import TrialConfig
from gilt.errors import ConfigError, listed, near
from gilt.settings import merge, override

MOST = 2_000  # arms: more is a slip of the pen, or a search (gilt tune)
_GROUPS = {*TrialConfig.model_fields, *TrialConfig.also}


@dataclass(frozen=True)
class Arm:
    """What an arm changes, and its level of each factor (none for an arm that is written out)."""

    changes: dict[str, Any]
    levels: dict[str, str]


def all_arms(crossed: Mapping[str, Any], written: Mapping[str, Mapping[str, Any]], *, where: str) -> dict[str, Arm]:
    """Return the arms that are written out, then those of the crossed factors, by name.

    Raises ConfigError for a factor that is none, a level or name that stands twice, no arm at all, and too many.
    """
    factors = dict(_factors(crossed, where))
    count = math.prod(len(levels) for levels in factors.values()) if factors else 0
    if count + len(written) > MOST:
        sizes = " x ".join(f"{len(levels)} {name}" for name, levels in factors.items())
        raise ConfigError(f"{where}: [cross] makes {count:,} arms ({sizes}), and {MOST:,} are the most: cross fewer, or search "
                          "them with gilt tune")
    arms = {name: Arm(dict(changes), {}) for name, changes in written.items()}
    shown = _shown(list(factors))
    for levels in itertools.product(*(levels.items() for levels in factors.values())) if factors else ():
        named = dict(zip(factors, (name for name, _ in levels), strict=True))
        name = " ".join(_part(shown[factor], factor, level) for factor, level in named.items())
        if name in arms:
            raise ConfigError(f"{where}: [cross] and [arms] both make an arm {name!r}: rename the one under [arms]")
        changes: dict[str, Any] = {}
        for _, change in levels:
            changes = merge(changes, change)
        arms[name] = Arm(changes, named)
    if not arms:
        raise ConfigError(f"{where}: no arm: a study needs [arms.NAME], or [cross] with a field and its values")
    return arms


def with_settings(base: Mapping[str, Any], arms: Mapping[str, Arm], settings: Sequence[str]
                  ) -> tuple[dict[str, Any], dict[str, Arm]]:
    """Return base and arms with `--set` texts applied: `train.epochs=5` changes the base, `arms.NAME.train.epochs=5` one
    arm, and `arms.*.train.epochs=5` every arm, also those that say otherwise themselves.

    Raises ConfigError for an arm that is none.
    """
    arms = dict(arms)
    base = override(base, [text for text in settings if not text.startswith("arms.")])
    for text in [text for text in settings if text.startswith("arms.")]:
        rest = text.removeprefix("arms.")
        name = max((name for name in [*arms, "*"] if rest.startswith(f"{name}.")), key=len, default=None)
        if name is None:
            asked = rest.split(".")[0]
            raise ConfigError(f"--set {text}: no arm {asked!r} (arms: {listed(arms)}; * is every one).{near(asked, arms)}")
        for arm in arms if name == "*" else [name]:
            arms[arm] = Arm(override(arms[arm].changes, [rest[len(name) + 1:]]), arms[arm].levels)
    return base, arms


def keeps_its_own(arms: Mapping[str, Arm], settings: Sequence[str]) -> dict[str, list[str]]:
    """Return setting -> the arms that say otherwise than a `--set` of the base, and keep what they say."""
    kept = {}
    for text in settings:
        path = text.partition("=")[0].strip().split(".")
        names = [name for name, arm in arms.items() if path[0] != "arms" and _holds(arm.changes, path)]
        if names:
            kept[text] = names
    return kept


def _holds(changes: Any, path: Sequence[str]) -> bool:
    for part in path:
        if not isinstance(changes, Mapping) or part not in changes:
            return False
        changes = changes[part]
    return True


def _factors(crossed: Mapping[str, Any], where: str) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """Yield each factor with its levels by name; a level is what it changes."""
    for key, value in crossed.items():
        if key.split(".")[0] in _GROUPS:
            yield from _fields(key, value, where)
        elif isinstance(value, Mapping) and value and all(isinstance(level, Mapping) for level in value.values()):
            yield key, {name: _nested(level) for name, level in value.items()}
        else:
            fields = [*_GROUPS, *(f"{group}.{name}" for group in ("mix", "split", "train")
                                  for name in TrialConfig.model_fields[group].annotation.model_fields)]  # type: ignore[union-attr]
            raise ConfigError(f"{where}: cross.{key}: a factor is a field with a list of values, as in \"mix.share\" = [0.2, "
                              "0.5], or a name with a table for each level, as in NAME.LEVEL = {train.epochs = 5}."
                              f"{near(key, fields)}")


def _fields(path: str, value: Any, where: str) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _fields(f"{path}.{key}", inner, where)
        return
    if not isinstance(value, list) or not value:
        raise ConfigError(f"{where}: cross.{path}: give the list of its values, as in [0.2, 0.5], not {value!r}. A factor of "
                          f"your own needs another name than {path.split('.')[0]!r}")
    levels: dict[str, dict[str, Any]] = {}
    for level in value:
        name = _level(level)
        if name in levels:
            raise ConfigError(f"{where}: cross.{path}: {name} stands twice")
        levels[name] = _nested({path: level})
    yield path, levels


def _nested(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return {"a": {"b": 1}} for {"a.b": 1}; what is nested already stays."""
    result: dict[str, Any] = {}
    for key, value in changes.items():
        inner = _nested(value) if isinstance(value, Mapping) else value
        for part in reversed(key.split(".")):
            inner = {part: inner}
        result = merge(result, inner)
    return result


def _level(value: Any) -> str:
    """Return a value as an arm's name has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "+".join(map(_level, value)) or "none"
    return str(value)


def _shown(factors: Sequence[str]) -> dict[str, str]:
    """Return factor -> its name in an arm's: the last word of a field's path, or all of it where two end alike."""
    last = [factor.rpartition(".")[2] for factor in factors]
    return {factor: word if last.count(word) == 1 else factor for factor, word in zip(factors, last, strict=True)}


def _part(shown: str, factor: str, level: str) -> str:
    """Return "model=lenet5"; a share in the thesis's way, fake to real; a factor of the user's own by its level."""
    if factor == "mix.share":
        share = _number(level)
        if share is not None and 0 <= share <= 1:
            return {0: "Real", 1: "AI"}.get(share, f"Aug({100 * share:g}-{100 * (1 - share):g})")
    return level if factor.split(".")[0] not in _GROUPS else f"{shown}={level}"


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
