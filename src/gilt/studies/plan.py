"""Plan: how many seeds a study needs for intervals of a wanted width, from the spread of the seeds that it has."""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gilt.errors import counted
from gilt.evaluation.significance import MOST, interval_width, sd_interval, seeds_needed
from gilt.studies.compare import Effect

POINTS = 2.0  # the width, in points, that a report plans for
SURE = 20  # seeds from which the spread is known well enough


@dataclass(frozen=True)
class Planned:
    """The seeds that an arm's difference from the benchmark needs for an interval that is `width` wide.

    `sd` is the standard deviation of the differences over `seeds`, `now` the interval's width so far. `few` and `many` are what
    is needed at the ends of the standard deviation's own 95 % interval: of few seeds it is known roughly only.
    """

    arm: str
    seeds: int
    now: float
    sd: float
    width: float
    needed: int
    few: int
    many: int


def plan(effects: Sequence[Effect], width: float | None = None) -> list[Planned]:
    """Return the seeds needed by each arm that has an interval; `width` in points (nats for the loss).

    Without a width: 2 points, or for the loss half of the widest interval so far. Raises ConfigError for one not above 0.
    """
    spreads = {effect.arm: float(np.std(effect.differences, ddof=1)) for effect in effects if effect.low is not None}
    now = {effect.arm: interval_width(spreads[effect.arm], len(effect.seeds)) for effect in effects if effect.arm in spreads}
    if width is None and spreads:
        width = max(now.values()) / 2 if effects[0].metric == "loss" else POINTS
    return [Planned(effect.arm, len(effect.seeds), now[effect.arm], sd := spreads[effect.arm], width, seeds_needed(width, sd),
                    *(seeds_needed(width, end) for end in sd_interval(sd, len(effect.seeds))))
            for effect in effects if effect.arm in spreads and width is not None]


def plan_sentences(effects: Sequence[Effect], width: float | None = None) -> list[str]:
    """Return how many seeds to plan, by the arm that needs the most; nothing where no arm has an interval.

    Without a wanted width, nothing is said either where every interval is narrow enough already.
    """
    planned = plan(effects, width)
    if not planned:
        return []
    widest = max(planned, key=lambda each: each.needed)
    unit, digits = ("nats", 3) if effects[0].metric == "loss" else ("points", 1)
    wanted = f"{widest.width:.{digits}g}" if effects[0].metric == "loss" else f"{widest.width:g}"
    if widest.now <= widest.width:
        enough = f"{counted(widest.seeds, 'seed')} are enough: no interval is wider than {wanted} {unit} ({widest.arm}: " \
                 f"{widest.now:.{digits}f})."
        return [] if width is None else [enough]
    rough = f" (between {_seeds(widest.few)} and {_seeds(widest.many)}: a spread over {widest.seeds} seeds is a rough one)"
    return [f"{counted(widest.seeds, 'seed')} gave an interval {widest.now:.{digits}f} {unit} wide ({widest.arm}); for "
            f"{wanted} {unit} plan about {_seeds(widest.needed)} seeds{rough if widest.seeds < SURE else ''}."]


def _seeds(count: int) -> str:
    return f"over {MOST:,}" if count >= MOST else f"{count:,}"
