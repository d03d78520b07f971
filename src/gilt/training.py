"""Every knob of training on one page: `TrainConfig`, the names of augmentations, and the recipes of `recipes.toml`."""
import functools
import tomllib
import typing
from collections.abc import Mapping
from importlib import resources
from typing import Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from gilt.errors import listed, near
from gilt.settings import Above0, Config, Names, Part, Several, Size


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
    "zoom": Strength(0.1, 0, 0.9, "part of the size by which it grows or shrinks, at most"),
    "crop": Strength(0.5, 0.01, 1, "smallest part of the area that a random crop keeps, resized to the whole"),
    "brightness": Strength(0.2, 0, 1, "part by which light grows or shrinks, at most"),
    "channel_shift": Strength(0.1, 0, 1, "added to each colour or taken from it, at most; the whole range is 1"),
    "noise": Strength(0.05, 0, 1, "standard deviation of Gaussian noise; the whole range is 1"),
    "blur": Strength(1.0, 0, 20, "standard deviation of a Gaussian blur, pixels, at most"),
    "jpeg": Strength(50, 1, 100, "lowest quality of a JPEG that the image passes through"),
    "randaugment": Strength(9, 0, 30, "magnitude of two operations drawn by chance"),
    "trivialaugment": Strength(30, 0, 30, "largest magnitude of one operation drawn by chance"),
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


Penalty = typing.Annotated[float, Field(ge=0)]
Augmentations = typing.Annotated[tuple[typing.Annotated[str, AfterValidator(_augmentation)], ...], Several]


class HeadConfig(Config):
    """What is trained on frozen features.

    `linear`: the network's last layer, by gradient steps. `logistic`: the same layer, fitted by scikit-learn. `svm`: a
    support vector machine with an RBF kernel. `knn`: a vote of the nearest training images. Several values of `c`, `gamma` or
    `neighbours` are tried, and the best in `folds`-fold cross-validation on the training rows is taken.
    """

    kind: Literal["linear", "logistic", "svm", "knn"] = "linear"
    c: typing.Annotated[tuple[Above0, ...], Several, Field(min_length=1)] = (1.0,)  # of svm and logistic: less is smoother
    gamma: typing.Annotated[tuple[Above0 | Literal["scale", "auto"], ...], Several, Field(min_length=1)] = ("scale",)
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


class TrainConfig(Config):
    """How one network is trained.

    `recipe` names settings that `recipes.toml` holds; what is given beside it wins. `arguments` are those of the network
    itself (`gilt models NAME` lists them). `weights` is where it starts from: a file (a classifier of gilt's, plain
    safetensors, or a torch state dict), `pretrained` (those that the network was published with) or `hf:OWNER/NAME`.
    `frozen` keeps all layers but the last as they are: their features are computed once, without augmentation, and only the
    `head` is trained on them. `freeze` and `rates` name layers, or beginnings of their names.
    """

    target: Literal["class", "origin"] = "class"
    recipe: str | None = None
    model: str = "thesis2"
    arguments: dict[str, Any] = {}
    dropout: Part | None = None  # None: the network's own
    image_size: Size | None = None  # pixels; None: the network's own
    epochs: Size = 30
    steps: Size | None = None  # fixed optimiser steps instead of fixed epochs
    batch_size: Size = 100
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: Above0 = 1e-3
    momentum: Part = 0.9  # of sgd
    weight_decay: Penalty | None = None  # None: 0.01 for adamw, 0 for the others
    schedule: Literal["constant", "cosine", "one_cycle", "plateau"] = "constant"
    warmup: Penalty = 0  # epochs in which the learning rate rises from nothing
    plateau_patience: Size = 10  # of `plateau`: epochs without a better `monitor` before the rate is lowered
    plateau_factor: typing.Annotated[float, Field(gt=0, lt=1)] = 0.1
    early_stopping: Size | None = None  # epochs without a better `monitor` before training stops
    monitor: Literal["val_loss", "val_accuracy"] = "val_loss"
    keep: Literal["last", "best"] = "last"  # which epoch's weights: the last one's, or those of the best `monitor`
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
    def _from_recipe(cls, data: Any) -> Any:
        """Lay what is given over what the recipe says."""
        if not isinstance(data, Mapping) or not isinstance(data.get("recipe"), str):
            return data
        name = data["recipe"]
        if name not in recipes():
            raise ValueError(f"no recipe {name!r} (there are: {listed(recipes(), most=30)}).{near(name, recipes())}")
        return {**recipes()[name].get("train", {}), **data}

    @model_validator(mode="after")
    def _freezes(self) -> Self:
        for name in ("augment", "dropout", "freeze", "rates"):
            if self.frozen and getattr(self, name):
                raise ValueError(f"train.frozen computes features once and as in prediction: leave train.{name} out")
        if self.head.kind != "linear" and not self.frozen:
            raise ValueError(f"train.head {self.head.kind!r} needs frozen features: set train.frozen=true and train.weights")
        return self

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.schedule == "one_cycle" and self.warmup:
            raise ValueError("schedule 'one_cycle' has its own warm-up: leave train.warmup out")
        for name in ("plateau_patience", "plateau_factor"):
            if name in self.model_fields_set and self.schedule != "plateau" and self.recipe is None \
                    and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"train.{name} belongs to train.schedule='plateau'")
        return self


@functools.cache
def recipes() -> dict[str, dict[str, Any]]:
    """Return the recipes by name: each has `source`, what it `reports` where its document says, and settings for `train`."""
    return tomllib.loads(resources.files("gilt").joinpath("recipes.toml").read_text())
