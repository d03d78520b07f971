"""What `gilt similarity` finds: generated images against photographs, each number beside its floor. Plain data, as JSON too."""
import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from gilt.evaluation.similarity_copies import CopyScore


@dataclass(frozen=True)
class Measured:
    """A number of generated images against photographs, and its floor: that of photographs against others of them.

    Both are means over `draws`; the intervals are 95 %, by a delete-half jackknife (Shao and Wu 1989): draws of half the images
    differ from one another about as much as sets of all of them would. They say what other images of the same sources might
    give, not what another run of the generator might.
    """

    value: float
    low: float
    high: float
    floor: float
    floor_low: float
    floor_high: float
    draws: int


@dataclass(frozen=True)
class Comparison:
    """A generator's images against photographs: of one class, or (None) of all. `size` images a side of a draw."""

    origin: str
    of: str | None
    size: int
    n_real: int
    n_generated: int
    measures: dict[str, Measured]


@dataclass(frozen=True)
class Whole:
    """FD and KID of all images of a generator against all photographs, as papers print them, without a floor of that size."""

    origin: str
    n_real: int
    n_generated: int
    fd: float
    kid: float
    kid_deviation: float
    kid_size: int


@dataclass(frozen=True)
class Pair:
    """An image and the photograph nearest to it in features. `own_source`: whether that is the one it was made from."""

    path: str
    nearest: str
    distance: float
    own_source: bool | None = None


@dataclass(frozen=True)
class Copying:
    """Whether a generator's images lie nearer to training photographs than fresh photographs do.

    `authentic` is AuthPct / 100, with the interval of a share; its floor is that of held-out photographs (NaN without any).
    `nearer` is the part of the images that is nearer to a training photograph than all but 5 % of the held-out ones.
    `sources` of the images say what they were made from; of `own_first` the nearest photograph is that very one.
    """

    origin: str
    n_generated: int
    n_train: int
    n_held_out: int
    score: CopyScore | None
    authentic: Measured
    nearer: float
    sources: int
    own_first: int
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Leak:
    """Generated images nearer to a test photograph than `tau`, the 0.1 % quantile of what training photographs are."""

    tau: float
    n_train: int
    n_test: int
    n_generated: int
    flagged: tuple[Pair, ...]


@dataclass(frozen=True)
class Similarity:
    """What `gilt similarity` found. `features` says in words what was compared, `notes` what was left out and why."""

    table: str
    features: str
    weak: bool
    settings: dict[str, Any]
    comparisons: tuple[Comparison, ...]
    by_class: tuple[Comparison, ...]
    whole: tuple[Whole, ...]
    copying: tuple[Copying, ...]
    leak: Leak | None
    notes: tuple[str, ...]

    @property
    def sentences(self) -> list[str]:
        """What the numbers say, in words: the verdict on each generator first."""
        from gilt.evaluation.similarity_words import sentences

        return sentences(self)

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values; a number that there is not is None."""
        values = _plain(dataclasses.asdict(self))
        for made, found in zip(self.copying, values["copying"], strict=True):
            found["score"] = _plain(made.score._asdict()) if made.score else None
        return {"sentences": self.sentences, **values}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
