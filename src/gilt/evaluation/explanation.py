"""`Explanation`: what a classifier looked at in some images, how far the maps can be trusted, and how it is said in words."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gilt.errors import counted
from gilt.evaluation.attention import Attention
from gilt.evaluation.faithfulness import ORDERS, Faithfulness, verdict
from gilt.evaluation.metrics import Metric
from gilt.evaluation.spectra import Spectrum
from gilt.evaluation.spectra import said as spectra_said
from gilt.settings import Config, Count, Size

Method = Literal["auto", "gradcam", "gradcam++", "hirescam", "eigencam", "occlusion"]
SPOKEN = {"gradcam": "Grad-CAM", "gradcam++": "Grad-CAM++", "hirescam": "HiResCAM", "eigencam": "EigenCAM",
          "occlusion": "occlusion"}
CAUTION = ("A heat map is no proof. It shows which parts of an image moved this network's answer, not whether the answer is "
           "right, and not what a forger did. Two methods may draw two maps of one answer.")
ALL = "all images"


class ExplainConfig(Config):
    """How a classifier is explained.

    `method`: `auto` is Grad-CAM where the network allows it, else occlusion. `layer` is the layer whose map is read (default:
    the last that has one). `explain` is the class whose evidence is shown: `predicted`, or a class by name. `count` images are
    explained; the first `curves` of them are used to measure faithfulness, with `steps` steps a curve; at most `spectra` images
    of each origin go into the spectra. `patch` is the side of occlusion's patch in pixels (default: an eighth of the image),
    `fill` what it is filled with: the image's mean colour, or the image blurred. `keep` maps are held in memory.
    """

    method: Method = "auto"
    layer: str | None = None
    explain: str = "predicted"
    count: Size = 50
    curves: Count = 32
    steps: Size = 10
    spectra: Count = 200
    patch: Size | None = None
    fill: Literal["grey", "blur"] = "grey"
    batch: Size = 16
    keep: Count = 64
    seed: Count = 0


@dataclass(frozen=True)
class Explained:
    """One image: what it is, what the classifier said, and where it looked.

    `uncertain` says whether a detector's probability lies in the band where nobody can say; None of a classifier without one.
    `p` is the (calibrated) probability of `explained`, the class whose evidence the map shows. `centre` and `inside` are the
    shares of attention in the middle square of half the area and in the mask, beside `area`, the mask's part of the image; None
    without a map, or without a mask. `map` (H, W) float16 in [0, 1] and `pixels` uint8 (H, W, 3) are what the network saw; None
    beyond the number of maps kept, and where `error` says why the image could not be read.
    """

    path: str
    true: str | None
    predicted: str | None = None
    uncertain: bool | None = None
    p: float | None = None
    explained: str | None = None
    centre: float | None = None
    inside: float | None = None
    area: float | None = None
    map: np.ndarray | None = None
    pixels: np.ndarray | None = None
    error: str | None = None


@dataclass(frozen=True)
class Explanation:
    """What a classifier looked at in `images`, taken together: by `attention`, the first of which is that of all images.

    `method` and `layer` are those used ("" for occlusion); `notes` say what was not as asked for. `faithfulness` is None where
    no curve was measured; `spectra` are by origin, `spectra_size` pixels square.
    """

    model: str
    classes: tuple[str, ...]
    target: str
    method: str
    layer: str
    grid: tuple[int, int]
    settings: Mapping[str, Any]
    images: Sequence[Explained]
    attention: Sequence[Attention]
    faithfulness: Faithfulness | None
    spectra: Mapping[str, Spectrum]
    spectra_size: int
    notes: Sequence[str]

    @property
    def sentences(self) -> list[str]:
        """What was found, in plain sentences, the main ones first."""
        shown = [one for one in self.images if one.error is None]
        where = f" at the layer {self.layer} ({self.grid[0]} x {self.grid[1]} places)" if self.layer else ""
        whose = ("the class that the classifier named" if self.settings["explain"] == "predicted"
                 else f"the class {self.settings['explain']!r}")
        lines = [f"{counted(len(shown), 'image')} explained by {SPOKEN[self.method]}{where}: each map shows what speaks for "
                 f"{whose}."]
        if self.method == "eigencam":
            lines[0] = (f"{counted(len(shown), 'image')} explained by EigenCAM{where}: each map shows what stands out to the "
                        "layer, whatever class it speaks for.")
        if self.faithfulness is not None:
            lines.append(verdict(self.faithfulness))
        lines += centre_said(self.attention[0]) if self.attention else []
        lines += mask_said(self.attention[0]) if self.attention else []
        if unreadable := len(self.images) - len(shown):
            verb = "is" if unreadable == 1 else "are"
            lines.append(f"{counted(unreadable, 'image')} could not be read and {verb} listed, with the reason.")
        return [*lines, *spectra_said(self.spectra), CAUTION]

    def as_json(self) -> dict[str, Any]:
        """Return everything but the pictures as plain data."""
        images = [{name: getattr(one, name) for name in Explained.__dataclass_fields__ if name not in ("map", "pixels")}
                  for one in self.images]
        attention = [{"name": one.name, "n": one.n, "blank": one.blank, "centre": _metric(one.centre),
                      "inside": _metric(one.inside), "gain": _metric(one.gain), "area": one.area} for one in self.attention]
        return {"model": self.model, "classes": list(self.classes), "target": self.target, "method": self.method,
                "layer": self.layer, "grid": list(self.grid), "settings": dict(self.settings), "sentences": self.sentences,
                "attention": attention, "faithfulness": _curves(self.faithfulness),
                "spectra": {name: _spectrum(one) for name, one in self.spectra.items()}, "notes": list(self.notes),
                "images": images}


def centre_said(found: Attention) -> list[str]:
    """Return in words how much of the attention lies in the middle of the images, against a flat map's half."""
    one = found.centre
    if one.value is None:
        return ["No map has anything in it: nothing that the method can see speaks for the class it was asked about."]
    lead = f"{100 * one.value:.1f} % of the attention lies in the middle square of half the area"
    if one.low is None:
        return [f"{lead} ({counted(one.n, 'image')}: too few for an interval); a flat map would have 50 %."]
    lead += (f" (95 % interval {100 * one.low:.1f} to {100 * one.high:.1f}, {counted(one.n, 'image')}); a flat map would have "
             "50 %")
    if one.low > 0.5:
        lines = [f"{lead}: it looks more at the middle, where the object mostly is, than at the rest."]
    elif one.high < 0.5:
        lines = [f"{lead}: it looks more at the surroundings than at the middle, where the object mostly is."]
    else:
        lines = [f"{lead}: no preference for the middle or for the surroundings can be seen."]
    if found.blank:
        lines.append(f"{counted(found.blank, 'map')} of {found.n:,} {'is' if found.blank == 1 else 'are'} empty: nothing in "
                     "the image speaks for the class, by this method. They have no share.")
    return lines


def mask_said(found: Attention) -> list[str]:
    """Return in words how much of the attention lies inside the masks, against their area."""
    if found.inside is None or found.gain is None:
        return []
    interval = "" if found.gain.low is None else f" ({100 * found.gain.low:+.1f} to {100 * found.gain.high:+.1f})"
    return [f"{100 * found.inside.value:.1f} % of the attention lies inside the masks, which take {100 * found.area:.1f} % of "
            f"the image: {100 * found.gain.value:+.1f} points{interval} against a flat map, {counted(found.gain.n, 'image')}."]


def _metric(one: Metric | None) -> dict[str, Any] | None:
    return None if one is None else {"value": one.value, "low": one.low, "high": one.high, "n": one.n}


def _curves(found: Faithfulness | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"n": found.n, "parts": found.parts.tolist(), "verdict": verdict(found), "idle": dict(found.idle),
            **{kind: {order: {"curve": found.curves[kind, order].tolist(), "area": _metric(found.areas[kind, order]),
                              "map_better_by": _metric(found.better.get((kind, order)))} for order in ORDERS}
               for kind in ("deletion", "insertion")}}


def _spectrum(one: Spectrum) -> dict[str, Any]:
    return {"n": one.n, "share_high": _metric(one.share_high), "log10_power": one.mean.tolist()}
