"""What the numbers of a similarity mean, in words: of each measure, of each generator, and of what none of them can say."""
import math
from collections.abc import Sequence

from gilt.errors import counted
from gilt.evaluation.similarity import Comparison, Copying, Leak, Measured, Similarity
from gilt.evaluation.similarity_copies import FEWEST

BIASED = 2_000  # images a side below which FD is too large
MEANINGS = {
    "kid": ("KID", "Distance of the two sets of features (unbiased MMD², cubic kernel). 0: no difference can be seen. The one "
            "to look at below about 2,000 images."),
    "fd": ("FD", "Fréchet distance: the two sets of features as two bell curves, how far apart. FID where the features are "
           "Inception's. Too large for few images, so only comparable at equal numbers."),
    "precision": ("precision", "Part of the generated images that lie among photographs: are they good? High also for a "
                  "generator that repeats a few good images."),
    "recall": ("recall", "Part of the photographs that lie among generated images: is everything covered? High also where "
               "strange images are scattered widely."),
    "density": ("density", "How many photographs' neighbourhoods a generated image lies in, over 5. As precision, steadier; "
                "may be above 1."),
    "coverage": ("coverage", "Part of the photographs with a generated image in their neighbourhood. As recall, steadier."),
    "c2st": ("C2ST", "How well a linear classifier tells generated from real in these features (AUROC, on images it has not "
             "seen). 0.5: not at all. 1: always, by whatever small trait."),
}
NEAR_IS_HIGH = ("precision", "recall", "density", "coverage")
CAUTION = ("None of these numbers decides whether the images help to train a classifier: FID and its like do not predict that "
           "(Ravuri and Vinyals 2019). A C2ST of 0.9 says that the images can be told apart, not that they are useless; a copy "
           "of the photographs would score best of all. A study says what they are worth: gilt study run, gilt worth.")
READ = ("Test photographs were looked at here, for the leak and as held-out photographs of the copying test: their pixels, no "
        "label of theirs and no prediction on them. Choose nothing for training by these two.")


def farther(name: str, found: Measured) -> bool | None:
    """Tell whether generated images are farther from photographs than photographs are; None where the intervals overlap."""
    if name in NEAR_IS_HIGH:
        return True if found.high < found.floor_low else False if found.low > found.floor_high else None
    return True if found.low > found.floor_high else False if found.high < found.floor_low else None


def sentences(found: Similarity) -> list[str]:
    """Return what a similarity says, in words: the verdict on each generator first, the caution last."""
    lines = [line for comparison in found.comparisons for line in _verdict(comparison)]
    for comparison in found.comparisons:
        lines += _worst_class(comparison, [own for own in found.by_class if own.origin == comparison.origin])
    lines += [line for copying in found.copying for line in copied(copying)]
    lines += [leaked(found.leak)] if found.leak else []
    return [*lines, *([f"The features are {found.features}."] if found.weak else []), CAUTION]


def _verdict(comparison: Comparison) -> list[str]:
    kid = comparison.measures["kid"]
    numbers = f"KID {spread(kid)} against {spread(kid, floor=True)}; {comparison.size:,} images a side"
    far = farther("kid", kid)
    if far:
        first = f"farther from the photographs than one half of the photographs is from the other ({numbers})."
    elif far is None:
        first = f"not surely farther from the photographs than one half of the photographs is from the other ({numbers})."
    else:
        first = f"nearer to the photographs than one half of the photographs is to the other ({numbers}): are they copies?"
    lines = [f"{comparison.origin}: {first}"]
    if told := comparison.measures.get("c2st"):
        how = "tells" if told.low > max(0.5, told.floor_high) else "does not surely tell"
        lines.append(f"{comparison.origin}: a linear classifier {how} its images from photographs (C2ST {spread(told)}; "
                     f"photographs from photographs {spread(told, floor=True)}; 0.5 is chance).")
    precision, recall = comparison.measures["precision"], comparison.measures["recall"]
    lines.append(f"{comparison.origin}: {100 * precision.value:.0f} % of its images lie among photographs (of photographs "
                 f"{100 * precision.floor:.0f} %), and {100 * recall.value:.0f} % of the photographs among its images (among "
                 f"photographs {100 * recall.floor:.0f} %).")
    return lines


def _worst_class(comparison: Comparison, by_class: Sequence[Comparison]) -> list[str]:
    if len(by_class) < 2:
        return []
    worst, best = by_class[0], by_class[-1]
    return [f"{comparison.origin}: of {len(by_class)} classes, {worst.of} is the farthest from its photographs (KID "
            f"{spread(worst.measures['kid'])}) and {best.of} the nearest ({spread(best.measures['kid'])})."]


def copied(found: Copying) -> list[str]:
    """Return what the test of copying says."""
    lines, score = [], found.score
    if score is None:
        why = (f"{FEWEST} images and {FEWEST} held-out photographs are needed" if found.n_held_out else
               "there are no held-out photographs: gilt split deals them")
        lines.append(f"{found.origin}: whether it copies cannot be tested ({why}).")
    else:
        usual = f"C_T {score.value:.1f}; without copies {score.low:.1f} to {score.high:.1f}"
        said, then = "no nearer to", ""
        if score.value < score.low:
            said, then = "nearer to", f": {_why_near(found.authentic)}"
        if score.value > score.high:
            said, then = "farther from", ": no sign of copying"
        lines.append(f"{found.origin}: its images are {said} the training photographs than fresh photographs are{then} "
                     f"({usual}).")
    if found.sources:
        lines.append(f"{found.origin}: of {counted(found.sources, 'image')} whose source is known, {found.own_first:,} "
                     f"({100 * found.own_first / found.sources:.0f} %) are nearest to that very photograph among "
                     f"{found.n_train:,}; by chance it would be {found.sources / found.n_train:.1f}.")
    return lines


def _why_near(authentic: Measured) -> str:
    """Return what being near means: a generator that smooths its images away is near to photographs, and copies none."""
    numbers = f"AuthPct {100 * authentic.value:.0f} % against {100 * authentic.floor:.0f} % of held-out photographs"
    if authentic.high < authentic.floor_low:
        return f"a sign of copying ({numbers}). Look at the nearest pairs"
    return f"by AuthPct plainer than photographs, rather than copies of them ({numbers})"


def leaked(found: Leak) -> str:
    """Return what the look for leaks to the test photographs says."""
    few = "" if found.n_train >= 1_000 else f" Of {found.n_train:,} training photographs, that is about the nearest one."
    return (f"{len(found.flagged):,} of {counted(found.n_generated, 'generated image')} nearer to one of {found.n_test:,} test "
            f"photographs than 99.9 % of the training photographs are (distance below {found.tau:.3g}); of as many fresh "
            f"photographs it would be about {found.n_generated / 1_000:.1f}.{few}")


def spread(found: Measured, *, floor: bool = False) -> str:
    """Return "0.12 [0.10 to 0.14]", of the number or of its floor."""
    value, low, high = (found.floor, found.floor_low, found.floor_high) if floor else (found.value, found.low, found.high)
    if value != value:
        return "-"
    largest = max(abs(number) for number in (value, low, high) if number == number)
    digits = min(6, max(1, 2 - math.floor(math.log10(largest)))) if largest else 1
    if value == 0 == low == high:
        return "0"
    return f"{value:.{digits}f}" + ("" if low != low else f" [{low:.{digits}f} to {high:.{digits}f}]")
