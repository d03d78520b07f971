"""What a model cannot know, in sentences for its card: no number on the card says these."""
from collections.abc import Mapping, Sequence
from typing import Any

DETECTOR = (
    "A verdict is no proof. It says what an image resembles among those that the detector learnt from.",
    "Generators that it never saw, and newer versions of those it did, may pass for real. Its numbers do not cover them.",
    "Photographs from other cameras, other editing and other websites than it learnt from may be called generated.",
    "Re-encoding, resizing, a screenshot or a messenger changes the traces that it looks for. Look at how stable a verdict is.",
    "It gives one verdict for a whole image, and may see its middle only (what goes in, above): a photograph with a generated "
    "part, or a photograph of a generated image, is neither.",
    "How likely an image is to be generated depends on how many generated ones there are where it comes from; p_generated is "
    "right only where they are as frequent as they were on validation.",
)
CLASSIFIER = (
    "It knows its classes and nothing else: an image of anything else gets one of them, often with a high probability.",
    "Its numbers hold for images like those it was judged on. Other cameras, places and years are other images.",
)
GENERATOR = (
    "It knows the images that it learnt from. What it makes may be close to one of them: gilt similarity looks for copies.",
    "That its images look right says nothing of their worth as training data: a study measures that, on photographs.",
)
ELSEWHERE = ("Its authors' training images are not known here: where they are among the test images, the test flatters it.",)
EQUALISED = ("This detector sees all images at one size and in one encoding; what an earlier encoding or resize left in the "
             "pixels remains.")


def limits(kind: str, provenance: Mapping[str, Any]) -> Sequence[str]:
    """Return what a `detector`, `classifier` or `generator` cannot know, given what its file says of its training."""
    lines = {"detector": DETECTOR, "classifier": CLASSIFIER, "generator": GENERATOR}[kind]
    return (*lines, *(ELSEWHERE if provenance.get("trained") == "elsewhere" else ()))
