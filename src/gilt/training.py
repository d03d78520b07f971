"""Every knob of training on one page: `TrainConfig`, the names of augmentations, and the recipes of `recipes.toml`.

`Calibration` is what a detector keeps of its validation.
"""
import functools
import tomllib
import typing
from collections.abc import Mapping
from importlib import resources
from typing import Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gilt.errors import listed, near
from gilt.settings import Above0, Config, Names, Part, Several, Share, Size, merge


class Strength(typing.NamedTuple):
    """How strong an augmentation is where nothing is said, between which bounds, and what the number means."""

    usual: float
    low: float
    high: float
    meaning: str


AUGMENTATIONS = {
    "hflip": Strength(0.5, 0, 1, "probability of a mirror image, left to right"),
    "vflip": Strength(0.5, 0, 1, "probability of a mirror image, top to bottom"),
    "rotate": Strength(15, 0, 180, "degrees at most, either way"),
    "shift": Strength(0.1, 0, 1, "part of the width and of the height, at most"),
    "shear": Strength(10, 0, 80, "degrees at most, either way"),
    "zoom": Strength(0.1, 0, 0.9, "part by which the width and the height grow or shrink, at most"),
    "crop": Strength(0.5, 0.01, 1, "smallest part of the area that a random crop keeps, resized to the whole"),
    "brightness": Strength(0.2, 0, 1, "part by which light grows or shrinks, at most"),
    "channel_shift": Strength(0.1, 0, 1, "added to each colour or taken from it, at most; the whole range is 1"),
    "noise": Strength(0.05, 0, 1, "standard deviation of Gaussian noise; the whole range is 1"),
    "blur": Strength(1.0, 0, 20, "standard deviation of a Gaussian blur of every second image, pixels, at most"),
    "jpeg": Strength(50, 1, 100, "lowest quality of a JPEG that every second image passes through"),
    "randaugment": Strength(9, 0, 30, "magnitude of two operations drawn by chance"),
    "trivialaugment": Strength(30, 0, 30, "largest magnitude of one operation; both are drawn by chance"),
    "mixup": Strength(0.2, 0.01, 10, "alpha of the Beta distribution that two images are blended by"),
    "cutmix": Strength(1.0, 0.01, 10, "alpha of the Beta distribution that a pasted rectangle's area is drawn from"),
}


def strength_of(text: str) -> tuple[str, float]:
    """Return (name, strength) of an augmentation such as `rotate` or `rotate=30`. Raises ValueError with the choices."""
    name, equals, number = (part.strip() for part in text.partition("="))
    if name not in AUGMENTATIONS:
        raise ValueError(f"no augmentation {name!r} (there are: {listed(AUGMENTATIONS, most=20)}).{near(name, AUGMENTATIONS)}")
    known = AUGMENTATIONS[name]
    if not equals:
        return name, known.usual
    try:
        value = float(number)
    except ValueError:
        raise ValueError(f"augmentation {text!r}: {number!r} is no number ({known.meaning})") from None
    if not known.low <= value <= known.high:
        raise ValueError(f"augmentation {text!r} is outside {known.low:g} to {known.high:g} ({known.meaning})")
    return name, value


def _augmentation(text: str) -> str:
    strength_of(text)
    return text


DETECTOR = "detector"  # the recipe of a detector where nothing else is said
METADATA = "metadata"  # the network that is told what files say of themselves, and sees no pixel
PRETRAINED = "pretrained"  # the weights that a network was published with; "pretrained:TAG" are others of the same library


def named_weights(weights: str) -> bool:
    """Tell whether `train.weights` is a name (`pretrained`, `pretrained:TAG`, `hf:OWNER/NAME`) and not a local file."""
    return weights == PRETRAINED or weights.startswith((f"{PRETRAINED}:", "hf:"))


Penalty = typing.Annotated[float, Field(ge=0)]
Augmentations = typing.Annotated[tuple[typing.Annotated[str, AfterValidator(_augmentation)], ...], Several]


def _gamma(value: float | str) -> float | str:
    if value not in ("scale", "auto") and not (isinstance(value, float) and 0 < value < float("inf")):
        raise ValueError(f"gamma is a number above 0, 'scale' or 'auto', not {value!r}.{near(str(value), ('scale', 'auto'))}")
    return value


Gamma = typing.Annotated[float | str, AfterValidator(_gamma)]


class HeadConfig(Config):
    """What is trained on frozen features.

    `linear`: the network's last layer, by gradient steps. `logistic`: the same layer, fitted by scikit-learn. `svm`: a
    support vector machine with an RBF kernel. `knn`: a vote of the nearest training images. Several values of `c`, `gamma` or
    `neighbours` are tried, and the best in `folds`-fold cross-validation on the training rows is taken. `scale` and `auto` are
    scikit-learn's: 1 / (features x their variance), and 1 / features.
    """

    kind: Literal["linear", "logistic", "svm", "knn"] = "linear"
    c: typing.Annotated[tuple[Above0, ...], Several, Field(min_length=1)] = (1.0,)  # of svm and logistic: less is smoother
    gamma: typing.Annotated[tuple[Gamma, ...], Several, Field(min_length=1)] = ("scale",)  # of svm; less is smoother
    neighbours: typing.Annotated[tuple[Size, ...], Several, Field(min_length=1)] = (5,)
    folds: typing.Annotated[int, Field(ge=2)] = 5

    @model_validator(mode="after")
    def _fits(self) -> Self:
        takes = {"linear": (), "logistic": ("c", "folds"), "svm": ("c", "gamma", "folds"), "knn": ("neighbours", "folds")}
        for name in sorted(self.model_fields_set - {"kind"} - set(takes[self.kind])):
            if getattr(self, name) != type(self).model_fields[name].default:
                kinds = [kind for kind, names in takes.items() if name in names]
                raise ValueError(f"{name} belongs to the head {' or '.join(kinds)}, not to {self.kind!r}")
        return self


Quality = typing.Annotated[int, Field(ge=1, le=100)]


def _off(value: Any) -> Any:
    return None if value is False else value


class Encoding(Config):
    """What `equalise` makes of images of every origin: the middle square of `size` x `size` pixels, a JPEG of `quality`.

    `precompress` is a JPEG quality that all pass before they are resized: photographs have mostly been a JPEG once already, and
    generated images have not. `auto` is the median quality of the JPEG files among the images that are learnt from, if any.
    """

    size: Size | None = None  # pixels; None: chosen from the images that are learnt from
    quality: Quality = 90
    subsampling: Literal["4:4:4", "4:2:0"] = "4:4:4"  # of the JPEG's colours
    precompress: typing.Annotated[Quality | Literal["auto"] | None, BeforeValidator(_off)] = "auto"

    def __str__(self) -> str:
        before = f"a JPEG of quality {self.precompress}, then " if self.precompress else ""
        return f"{before}the middle square at {self.size} pixels, a JPEG of quality {self.quality} ({self.subsampling})"


def _encoding(value: Any) -> Any:
    return {} if value is True else _off(value)


Target = Literal["class", "origin", "generator"]


def detects(target: str) -> bool:
    """Tell whether training for `target` makes a detector: `origin` (real or generated), `generator` (real, or whose it is)."""
    return target in ("origin", "generator")


class TrainConfig(Config):
    """How one network is trained.

    `target` is what it tells: the `class`, the `origin` (real or generated), or the `generator` (real, or which of them).
    `recipe` names settings that `recipes.toml` holds; what is given beside it wins. `arguments` are those of the network
    itself (`gilt models NAME` lists them). `weights` is where it starts from: a file (a classifier of gilt's, plain
    safetensors, or a torch state dict), `pretrained` (those that the network was published with; `pretrained:TAG` for others
    of the same library) or `hf:OWNER/NAME`.
    `frozen` keeps all layers but the last as they are: their features are computed once, without augmentation, and only the
    `head` is trained on them. `freeze` and `rates` name layers, or beginnings of their names; `*` is all but the last.
    """

    target: Target = "class"
    recipe: str | None = None
    model: str = "thesis2"
    arguments: dict[str, Any] = {}
    dropout: Part | None = None  # None: the network's own
    image_size: Size | None = None  # pixels; None: the network's own, of a crop at most what the images have
    fit: Literal["stretch", "crop"] = "stretch"  # the whole image brought to that size, or a part of it at its own resolution
    equalise: typing.Annotated[Encoding | None, BeforeValidator(_encoding)] = None  # true: as Encoding has it
    epochs: Size = 30
    steps: Size | None = None  # fixed optimiser steps instead of fixed epochs
    batch_size: Size = 100
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: Above0 = 1e-3
    momentum: Part = 0.9  # of sgd
    weight_decay: Penalty | None = None  # None: 0.01 for adamw, 0 for the others
    schedule: Literal["constant", "cosine", "one_cycle", "plateau"] = "constant"  # of the learning rate
    warmup: Penalty = 0  # epochs in which the learning rate rises from nothing
    plateau_patience: Size = 10  # of `plateau`: epochs without a better `monitor` before the rate is lowered
    plateau_factor: typing.Annotated[float, Field(gt=0, lt=1)] = 0.1
    early_stopping: Size | None = None  # epochs without a better `monitor` before training stops
    monitor: Literal["val_loss", "val_accuracy"] = "val_loss"
    keep: Literal["last", "best", "val_loss", "val_accuracy"] = "last"  # which epoch's weights; best: by `monitor`
    label_smoothing: Part = 0.0
    ema: Part | None = None  # decay a step of the running mean of the weights, which is then what is judged and kept
    gradient_clip: Above0 | None = None  # largest norm of the gradient
    loss: Literal["auto", "binary", "cross_entropy"] = "auto"  # auto: binary for two classes
    l2: dict[str, Penalty] | None = None  # layer name -> penalty; None: the network's own
    augment: Augmentations = ()  # in this order; "rotate=30" says how strong: see gilt.training.AUGMENTATIONS
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    tensorboard: bool = False
    weights: str | None = None
    frozen: bool = False
    head: HeadConfig = HeadConfig()
    freeze: Names = ()
    rates: dict[str, Above0] = {}  # layer -> factor of the learning rate
    layer_decay: typing.Annotated[float, Field(gt=0, le=1)] = 1.0  # factor of the learning rate from a block to the one below

    @model_validator(mode="before")
    @classmethod
    def _metadata_is_frozen(cls, data: Any) -> Any:
        """Train the baseline without pixels on its facts, as frozen training does on features, and fit it at one go.

        Runs after `_from_recipe`.
        """
        if not isinstance(data, Mapping) or data.get("model") != METADATA:
            return data
        if data.get("frozen") is False:
            raise ValueError(f"train.model='{METADATA}' has one layer, which is fitted to facts: leave train.frozen out")
        head = data.get("head", {})
        return {"frozen": True, **data, "head": {"kind": "logistic", **head} if isinstance(head, Mapping) else head}

    @model_validator(mode="before")
    @classmethod
    def _from_recipe(cls, data: Any) -> Any:
        """Lay what is given over what the recipe says; a detector of which no network is said takes the recipe DETECTOR."""
        if not isinstance(data, Mapping):
            return data
        if detects(str(data.get("target"))) and not any(data.get(name) for name in ("model", "weights", "recipe")):
            data = {**data, "recipe": DETECTOR}
        if not isinstance(data.get("recipe"), str):
            return data
        name = data["recipe"]
        if name not in recipes():
            raise ValueError(f"no recipe {name!r} (there are: {listed(recipes(), most=30)}).{near(name, recipes())}")
        return merge(_held(recipes()[name].get("train", {}), data), data)

    @model_validator(mode="after")
    def _freezes(self) -> Self:
        for name in ("augment", "dropout", "freeze", "rates", "layer_decay"):
            if self.frozen and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"train.frozen computes features once and as in prediction: leave train.{name} out")
        if self.head.kind != "linear" and not self.frozen:
            raise ValueError(f"train.head {self.head.kind!r} needs frozen features: set train.frozen=true and train.weights")
        return self

    @model_validator(mode="after")
    def _sees_pixels(self) -> Self:
        if self.model == METADATA:
            for name in ("weights", "image_size", "equalise"):
                if getattr(self, name) is not None:
                    raise ValueError(f"train.model='{METADATA}' sees no pixels: leave train.{name} out")
        return self

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.schedule == "one_cycle" and self.warmup:
            raise ValueError("schedule 'one_cycle' has its own warm-up: leave train.warmup out")
        if self.steps is None and 0 < self.epochs <= self.warmup:
            raise ValueError(f"train.warmup={self.warmup:g} epochs leave nothing of train.epochs={self.epochs}: give less")
        belongs = {"plateau_patience": ("schedule", "plateau"), "plateau_factor": ("schedule", "plateau"),
                   "momentum": ("optimizer", "sgd")}
        for name, (other, value) in belongs.items():
            if getattr(self, name) != type(self).model_fields[name].default and getattr(self, other) != value \
                    and self.recipe is None:  # what a recipe says of a setting that was changed counts for nothing
                raise ValueError(f"train.{name} belongs to train.{other}={value!r}")
        return self


class Calibration(Config):
    """How a detector's logits become a verdict: fitted on validation images, never on those it is judged on.

    Logits are divided by `temperature`, and `bias` is added to the log-odds of generated against real; an image is called
    generated where the probability that comes of it is `threshold` or more.
    `rule` says how the threshold was chosen, `n` and `n_real` on how many images of `seen_split`; `accuracy`,
    `balanced_accuracy` and `false_positive_rate` are what it came to on these, which flatters it a little.
    `band` is from where to where the honest verdict is "uncertain": see `gilt.evaluation.calibration.fit_band`. Without one, as
    in older files, the threshold alone decides.
    """

    temperature: Above0
    bias: typing.Annotated[float, Field(allow_inf_nan=False)] = 0.0
    threshold: Share
    rule: str
    n: Size
    n_real: Size
    seen_split: str = "val"
    accuracy: Share
    balanced_accuracy: Share
    false_positive_rate: Share
    band: tuple[Share, Share] | None = None

    @model_validator(mode="after")
    def _spans(self) -> Self:
        if self.band and not (self.band[0] <= self.threshold <= self.band[1] and self.band[0] < self.band[1]):
            raise ValueError(f"band {self.band} must rise, and hold the threshold {self.threshold}")
        return self


def _held(recipe: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's settings without those that belong to another network, or another head, than `data` asks for."""
    out: set[str] = set()
    if data.get("model", recipe.get("model")) != recipe.get("model"):
        out |= {"arguments", "dropout", "image_size", "l2"}
    head = data.get("head")
    if isinstance(head, Mapping) and head.get("kind", "") not in ("", recipe.get("head", {}).get("kind")):
        out.add("head")
    return {name: value for name, value in recipe.items() if name not in out}


@functools.cache
def recipes() -> dict[str, dict[str, Any]]:
    """Return the recipes by name: `source`, `about`, settings for `train`; what is `unstated`, what was `reported`, if any."""
    return tomllib.loads(resources.files("gilt").joinpath("recipes.toml").read_text())
