"""`Space`: what a tuning may choose from. One dimension a setting: a list of values, or a range of numbers.

Names are those of a trial's settings with dots: `train.learning_rate`, `train.arguments.filters`, `mix.share`. A dimension
with `when` is there only where others took certain values.
"""
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from gilt.errors import ConfigError, listed, near
from gilt.settings import Config, Several, parse

Number = Annotated[int | float, Field(allow_inf_nan=False)]
MOST = 10_000  # settings of a grid


class Dimension(Config):
    """What one setting may be: one of `values`, or a number from `low` to `high`, both included.

    A range of whole numbers gives whole numbers. `log` draws evenly over the orders of magnitude; `step` takes only
    low, low + step, low + 2 step ... `when` names other dimensions and what they must be for this one to be there.
    """

    values: tuple[Any, ...] | None = None
    low: Number | None = None
    high: Number | None = None
    step: Number | None = None
    log: bool = False
    when: dict[str, Annotated[tuple[Any, ...], Several]] = {}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        ranged = [name for name in ("low", "high", "step", "log") if getattr(self, name) not in (None, False)]
        if self.values is not None:
            if ranged:
                raise ValueError(f"values and {ranged[0]} do not go together: list the values, or give low and high")
            if not self.values:
                raise ValueError("values is empty: there is nothing to choose from")
            texts = [written(value) for value in self.values]
            if twice := sorted({text for text in texts if texts.count(text) > 1}):
                raise ValueError(f"the value {twice[0]} stands twice")
            return self
        if self.low is None or self.high is None:
            raise ValueError("give a list of values, or low and high")
        if self.low >= self.high:
            raise ValueError(f"the range from {self.low} to {self.high} is empty: low must be below high")
        if self.log and self.step is not None:
            raise ValueError("log and step do not go together: list the values instead")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs a low above 0, not {self.low}")
        if self.step is not None and not 0 < self.step <= self.high - self.low:
            raise ValueError(f"step must be above 0, and at most {self.high - self.low:g}, not {self.step}")
        return self

    @property
    def whole(self) -> bool:
        """Whether the range is one of whole numbers."""
        return all(isinstance(number, int) for number in (self.low, self.high, self.step) if number is not None)

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values to rehearse: all of a list, the two ends of a range."""
        return self.values if self.values is not None else (self.low, self.high)

    @property
    def points(self) -> tuple[Any, ...] | None:
        """All values that there are, or None for a continuous range."""
        if self.values is not None:
            return self.values
        step = self.step if self.step is not None else 1 if self.whole else None
        if step is None or self.log:
            return None
        count = math.floor((self.high - self.low) / step + 1e-9) + 1  # type: ignore[operator]
        return tuple(self.low + i * step if self.whole else round(self.low + i * step, 12) for i in range(count))

    def applies(self, drawn: Mapping[str, Any]) -> bool:
        """Tell whether the dimension is there, given what was drawn of those before it."""
        return all(name in drawn and written(drawn[name]) in map(written, wanted) for name, wanted in self.when.items())


@dataclass(frozen=True)
class Space:
    """The dimensions by name, each after those that its `when` names."""

    dimensions: Mapping[str, Dimension]

    @classmethod
    def read(cls, data: Mapping[str, Any], *, where: str) -> "Space":
        """Return the space that a table `[tune.space]` describes. Raises ConfigError with one line that names the dimension."""
        said = {name: parse(Dimension, value if isinstance(value, Mapping) else {"values": value},
                            where=f"{where}, dimension {name!r}")
                for name, value in _flat(data, where)}
        if not said:
            raise ConfigError(f"{where}: [tune.space] is empty: name what to tune, as in \"train.batch_size\" = [32, 64]")
        for name, dimension in said.items():
            for other, wanted in dimension.when.items():
                place = f"{where}, dimension {name!r}: when"
                if other not in said or other == name:
                    raise ConfigError(f"{place} names {other!r}, which is no other dimension (there are: {listed(said)})."
                                      f"{near(other, set(said) - {name})}")
                points = said[other].points
                strange = [w for w in wanted if points is not None and written(w) not in map(written, points)]
                if strange:
                    raise ConfigError(f"{place}: {other!r} is never {strange[0]!r} (it takes: {listed(points or ())})")
        return cls(_ordered(said, where))

    def walk(self, choose: Callable[[str, Dimension], Any]) -> dict[str, Any]:
        """Return name -> what `choose` says, for the dimensions that are there."""
        drawn: dict[str, Any] = {}
        for name, dimension in self.dimensions.items():
            if dimension.applies(drawn):
                drawn[name] = choose(name, dimension)
        return drawn

    def grid(self) -> Iterator[dict[str, Any]]:
        """Yield every combination, the last dimension fastest. Raises ConfigError for a continuous range, or too many."""
        for name, dimension in self.dimensions.items():
            if dimension.points is None:
                raise ConfigError(f"dimension {name!r}: a grid takes no continuous range: list its values, give a step, or "
                                  "choose the sampler 'random' or 'tpe'")
        size = self.size
        if size is not None and size > MOST:
            raise ConfigError(f"the grid has up to {size:,} settings, and {MOST:,} are the most: take values away, or choose "
                              "the sampler 'random' or 'tpe'")
        yield from self._below({}, list(self.dimensions.items()))

    def _below(self, drawn: dict[str, Any], rest: Sequence[tuple[str, Dimension]]) -> Iterator[dict[str, Any]]:
        if not rest:
            yield dict(drawn)
            return
        (name, dimension), *rest = rest
        if not dimension.applies(drawn):
            yield from self._below(drawn, rest)
            return
        for value in dimension.points or ():
            yield from self._below({**drawn, name: value}, rest)

    @property
    def size(self) -> int | None:
        """How many combinations there are at most; None where a range is continuous."""
        counts = [None if d.points is None else len(d.points) for d in self.dimensions.values()]
        return None if None in counts else math.prod(count for count in counts if count)

    def rehearsals(self) -> Iterator[tuple[str, Any, dict[str, Any]]]:
        """Yield (name, value, a whole setting that holds it) for every listed value and every end of a range."""
        for name, dimension in self.dimensions.items():
            for value in dimension.ends:
                forced = self._forced(name, value)
                yield name, value, self.walk(lambda other, d, forced=forced: forced.get(other, d.ends[0]))

    def _forced(self, name: str, value: Any) -> dict[str, Any]:
        """Return what must be drawn for `name` to be there with `value`."""
        forced = {name: value}
        for other, wanted in self.dimensions[name].when.items():
            forced = self._forced(other, wanted[0]) | forced
        return forced


def laid(base: Mapping[str, Any], drawn: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings `base` with drawn ones (`train.batch_size`: 32) in their places.

    Raises ConfigError where a name reaches into something that is no group.
    """
    result = dict(base)
    for name, value in drawn.items():
        *path, last = name.split(".")
        group = result
        for part in path:
            inner = group.get(part, {})
            if not isinstance(inner, Mapping):
                raise ConfigError(f"dimension {name!r}: {part!r} is a value, not a group of settings")
            group[part] = group = dict(inner)
        group[last] = value
    return result


def written(value: Any) -> str:
    """Return a value as text that tells it from every other."""
    return json.dumps(value, sort_keys=True, default=str)


def spelled(value: Any) -> str:
    """Return a value as people read it: 0.001234 for a number with many digits, no quotes around text."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else written(value)


def _flat(data: Mapping[str, Any], where: str, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, what is said of it), whether the name was quoted or written as nested tables."""
    for key, value in data.items():
        name = f"{path}.{key}" if path else key
        if isinstance(value, Mapping) and value and not set(value) & set(Dimension.model_fields):
            yield from _flat(value, where, name)
        elif isinstance(value, (Mapping, list, tuple)):
            yield name, value
        else:
            raise ConfigError(f"{where}, dimension {name!r}: give a list of values, or {{ low = ..., high = ... }}, not "
                              f"{value!r}")


def _ordered(said: Mapping[str, Dimension], where: str) -> dict[str, Dimension]:
    """Return the dimensions, each after those that its condition names, else as the file has them."""
    ordered: dict[str, Dimension] = {}
    while len(ordered) < len(said):
        ready = [name for name in said if name not in ordered and set(said[name].when) <= set(ordered)]
        if not ready:
            raise ConfigError(f"{where}: the conditions of {listed(sorted(set(said) - set(ordered)))} go round in a circle")
        ordered[ready[0]] = said[ready[0]]
    return ordered
