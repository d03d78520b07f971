"""Is a map faithful? Deletion and insertion curves (Petsiuk et al. 2018, RISE, arXiv:1806.07421), against two floors.

Deletion takes pixels away in the map's order: a faithful map makes the probability fall early. Insertion puts them back into
a blurred image: it makes the probability rise early. A number alone says little, because any order does something: so beside
it stand maps drawn at random, as coarse as the method's own, and a map that points to the middle of every image.

Shapes: N images, S steps, H W pixels.
"""
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gilt.evaluation.attention import mean_metric
from gilt.evaluation.metrics import Metric

MAP, RANDOM, MIDDLE = "map", "random", "centre"
ORDERS = (MAP, RANDOM, MIDDLE)
FEW = 8  # images below which nothing is said
SAME = 0.1  # probability
MOST_IDLE = 0.75  # of the images: a test that nothing moves decides nothing
TESTS = ("deletion", "insertion")
ENDS = {"deletion": "nothing but their mean colour is left", "insertion": "they are blurred"}
MEANING = {"deletion": "taking away what they point to changes the classifier's mind sooner",
           "insertion": "putting it back restores it sooner"}


@dataclass(frozen=True)
class Faithfulness:
    """What the curves of N images come to.

    `parts` (S,) is the part of the pixels that is gone, or back. `curves` holds the mean probability (S,) of the class that
    was explained, by (deletion or insertion, order); `areas` the area under each image's curve, meaned. `better` says by how
    much the map beats each floor, image by image: above 0 is better, for deletion and insertion alike. `idle` counts the images
    whose probability is nearly the same at both ends (by less than 0.1), so that no order can show anything.
    """

    parts: np.ndarray
    curves: Mapping[tuple[str, str], np.ndarray]
    areas: Mapping[tuple[str, str], Metric]
    better: Mapping[tuple[str, str], Metric]
    idle: Mapping[str, int]
    n: int


def area_under(curve: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Return the area under curves (..., S) over the parts (S,), which run from 0 to 1: in [0, 1] for probabilities."""
    return np.trapezoid(curve, parts, axis=-1)


def summed_up(parts: np.ndarray, curves: Mapping[tuple[str, str], np.ndarray]) -> Faithfulness:
    """Return the summary of curves (N, S) by (deletion or insertion, order)."""
    areas = {key: area_under(curve, parts) for key, curve in curves.items()}
    sign = {"deletion": -1, "insertion": 1}
    better = {(kind, floor): mean_metric(sign[kind] * (areas[kind, MAP] - areas[kind, floor]))
              for kind in sign for floor in (RANDOM, MIDDLE)}
    ends = {kind: curves[kind, MAP][:, [0, -1]] for kind in sign}
    idle = {kind: int((np.abs(np.diff(both)) < SAME).sum()) for kind, both in ends.items()}
    n = len(next(iter(curves.values())))
    return Faithfulness(parts, {key: curve.mean(0) for key, curve in curves.items()},
                        {key: mean_metric(values) for key, values in areas.items()}, better, idle, n)


def middle_map(height: int, width: int) -> np.ndarray:
    """Return a map (H, W) that falls off from the middle of the image to its corners."""
    down, across = ((np.arange(size) + 0.5 - size / 2) / size for size in (height, width))
    return 1 - np.hypot(down[:, None], across[None])


def verdict(found: Faithfulness) -> str:
    """Return in words whether the maps say more of the classifier than a random map and the middle do."""
    if found.n < FEW:
        return (f"Faithfulness was measured on {found.n} image{'' if found.n == 1 else 's'}: too few to say anything. Explain "
                f"{FEW} images or more.")
    tests = [kind for kind in TESTS if found.idle[kind] <= MOST_IDLE * found.n]
    beaten = {floor: [kind for kind in tests if _beats(found.better[kind, floor])] for floor in (RANDOM, MIDDLE)}
    if not tests:
        text = ("Neither test can say whether the maps are faithful: the classifier is as sure of images without contents as "
                "of the images themselves.")
    elif not beaten[RANDOM]:
        text = ("The maps are no better than random ones: what they point to matters to the classifier no more than other "
                "parts of the image do. Do not read anything into them; try another method or layer.")
    elif len(beaten[RANDOM]) < len(tests):
        other = next(kind for kind in tests if kind not in beaten[RANDOM])
        text = f"The maps beat random ones in the {beaten[RANDOM][0]} test only, not in the {other} test: read them with doubt."
    else:
        text = f"The maps beat random ones: {' and '.join(MEANING[kind] for kind in tests)}."
    if beaten[RANDOM] and not beaten[MIDDLE]:
        text += " They do not beat a map that always points to the middle of the image."
    much = ", ".join(f"{kind} {one.value:+.3f} ({one.low:+.3f} to {one.high:+.3f})"
                     for kind in TESTS for one in [found.better[kind, RANDOM]])
    text += f" Area under the curve, against random ones: {much}; above 0 is better, {found.n:,} images."
    for kind in TESTS:
        if found.idle[kind] > found.n / 4:
            text += (f" {found.idle[kind]:,} of the {found.n:,} images are named as surely when {ENDS[kind]}: of these the "
                     f"{kind} test can say little.")
    return text


def _beats(found: Metric) -> bool:
    return found.low is not None and found.low > 0
