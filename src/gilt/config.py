"""Every knob on one page.

What is read from a file is a frozen pydantic model that forbids unknown keys. `TrialConfig` is one whole trial; its
hash, with the table's fingerprint, names the trial. `override` applies `--set train.epochs=5`.
"""
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from gilt.errors import ConfigError, listed, near

REAL = "real"  # the origin of every photograph; any other origin is a generator's name
GENERATED = "generated"  # the label of those, where the target is `origin`
Share = typing.Annotated[float, Field(ge=0, le=1)]
Count = typing.Annotated[int, Field(ge=0)]
Size = typing.Annotated[int, Field(ge=1)]
Several = BeforeValidator(lambda value: value if isinstance(value, (list, tuple)) else [value])  # one name is a list of one
Moment = typing.Annotated[float | str, BeforeValidator(lambda value: getattr(value, "isoformat", lambda: value)())]
Balance = Literal["over", "under", "smote", "weights", "generated"]


class Config(BaseModel):
    """A frozen group of settings that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


C = typing.TypeVar("C", bound=Config)


class SplitConfig(Config):
    """How rows are dealt into train, val and test.

    Existing splits are kept (`keep`); only rows without one are dealt. Where a table has no val rows, they come from
    the training rows, or from the test rows when `val_from_test` is set (the thesis's 50-50: 0.5).
    `groups`: what may never straddle splits, beside equal content, an image's source and near-duplicates that the table's
    column `group` names: "near" (look for near-duplicates where it names none), and any column. Existing splits that
    overlap: the laxer row is left out, or the table is refused (`overlap`).

    Three other ways, of which one at most: `folds` (k-fold: `fold` is the test; nothing: the seed chooses it), `hold_out`
    (generators that are test rows only), `by` a column of dates, years or numbers (oldest rows train, newest test, at
    `cuts` or by the ratios) or by the generators' `years`.
    """

    train: Share = 0.7
    val: Share = 0.15
    test: Share = 0.15
    val_from_test: Share = 0.0
    keep: bool = True
    seed: int | None = None  # None: the trial's own seed; a number: one split for all seeds
    groups: typing.Annotated[tuple[str, ...], Several] = ()
    overlap: Literal["exclude", "refuse"] = "exclude"
    folds: typing.Annotated[int, Field(ge=2)] | None = None
    fold: Count | None = None  # 0 to folds - 1; None: seed s is fold s % folds of partition s // folds
    hold_out: typing.Annotated[tuple[str, ...], Several] = ()
    seen_in_test: bool = False  # with hold_out: the other generators are tested on too
    by: str | None = None
    cuts: typing.Annotated[tuple[Moment, ...], Several, Field(max_length=2)] = ()  # where val (if two) and test begin
    years: dict[str, Moment] = {}  # generator -> its year or date

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if abs(self.train + self.val + self.test - 1) > 1e-6:
            raise ValueError(f"train + val + test must be 1, not {self.train + self.val + self.test:g}")
        ways = [name for name in ("folds", "hold_out", "by", "years") if getattr(self, name)]
        if len(ways) > 1:
            raise ValueError(f"{ways[0]} and {ways[1]} are two ways to choose the test rows: keep one")
        if self.fold is not None and (self.folds is None or self.fold >= self.folds):
            raise ValueError(f"fold {self.fold} needs folds, and counts from 0 to folds - 1 (folds: {self.folds})")
        if self.val_from_test and ways and not self.hold_out:
            raise ValueError(f"val_from_test and {ways[0]} do not go together: with {ways[0]}, val comes from train")
        if self.seen_in_test and not self.hold_out:
            raise ValueError("seen_in_test belongs to hold_out: name the generators that are held out")
        if self.cuts and not (self.by or self.years):
            raise ValueError("cuts need by (a column of dates, years or numbers), or years")
        return self


class MixConfig(Config):
    """How real and generated rows make a training set.

    `share`: a set whose generated part is `share`, as large as the rows allow or `total` rows.
    `add`: all real rows + `generated` rows (or as many as give `share`; neither: all).
    `replace`: `generated` rows (or the part `share`) of the real ones replaced, the total fixed.
    Neither mode nor share set: real rows only for target `class`, all rows for target `origin`.

    `imbalance` and `max_real_by_class` thin the photographs of the classes out first, to study what too few of them do;
    `balance` evens out what came of it, to the `degree` 0 (as it is) to 1 (all classes alike): see `gilt.data.balance`.
    """

    mode: Literal["share", "add", "replace"] = "share"
    share: Share | None = None
    generated: Count | None = None
    total: Size | None = None
    max_real: Count | None = None
    max_generated: Count | None = None
    val: Literal["real", "generated", "mix"] | None = None  # None: real for target `class`, mix for `origin`
    imbalance: typing.Annotated[float, Field(ge=1)] | None = None  # photographs of the largest class : of the smallest
    max_real_by_class: dict[str, Count] | None = None
    balance: Balance | None = None
    degree: Share = 1.0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.mode == "share" and self.generated is not None:
            raise ValueError("mix.generated belongs to mode 'add' or 'replace'; mode 'share' takes mix.share")
        if self.mode != "share" and self.total is not None:
            raise ValueError(f"mix.total belongs to mode 'share', not {self.mode!r}")
        if self.share is not None and self.generated is not None:
            raise ValueError("mix.share and mix.generated say the same thing twice: keep one")
        if self.mode == "replace" and self.share is None and self.generated is None:
            raise ValueError("mode 'replace' needs mix.share or mix.generated")
        return self

    @model_validator(mode="after")
    def _balances(self) -> Self:
        if self.balance is None and self.degree != 1:
            raise ValueError(f"mix.degree belongs to mix.balance: name one of {listed(typing.get_args(Balance))}")
        if self.imbalance is not None and self.max_real_by_class is not None:
            raise ValueError("mix.imbalance and mix.max_real_by_class both say how many photographs a class has: keep one")
        said = {"mode": self.mode != "share", "share": self.share is not None, "generated": self.generated is not None,
                "total": self.total is not None}
        if self.balance == "generated" and any(said.values()):
            raise ValueError("mix.balance='generated' takes all photographs and counts out the generated rows by itself: "
                             f"leave out {listed(f'mix.{name}' for name, there in said.items() if there)}")
        return self


class BalanceConfig(Config):
    """How `gilt balance` evens out a table's training rows: `mix.balance` and `mix.degree` by themselves."""

    method: Balance
    degree: Share = 1.0


Drop = Literal["unreadable", "class-conflicts", "origin-conflicts", "leaks", "source-leaks", "exact-duplicates",
               "near-duplicates", "watermark", "grid", "out-of-context", "too-small", "too-dark", "blurred"]
DROPS: tuple[Drop, ...] = ("unreadable", "class-conflicts", "origin-conflicts", "leaks", "source-leaks", "exact-duplicates",
                           "near-duplicates")  # whose rows no setting can mend
Strip = typing.Annotated[float, Field(ge=0, allow_inf_nan=False)]
Names = typing.Annotated[tuple[str, ...], Several]


class CropConfig(Config):
    """How much is cut off each side of an image: pixels where 1 or more (whole ones), else a part of the side."""

    top: Strip = 0
    bottom: Strip = 0
    left: Strip = 0
    right: Strip = 0

    @model_validator(mode="after")
    def _leaves_something(self) -> Self:
        for name, value in self:
            if value >= 1 and value != int(value):
                raise ValueError(f"{name} must be a whole number of pixels, or a part below 1, not {value:g}")
        if not any(dict(self).values()):
            raise ValueError("crop cuts nothing: give top, bottom, left or right")
        for one, other in ((self.top, self.bottom), (self.left, self.right)):
            if one < 1 and other < 1 and one + other >= 1:
                raise ValueError(f"parts of {one:g} and {other:g} leave nothing of the image")
        return self


class CleanConfig(Config):
    """What is done about an audit's findings. Rows are marked; images are written anew into another folder.

    Steps, in this order: rows of the `drop` findings are left out (one of each group of duplicates stays); images are
    turned upright, cropped, cut into parts, made `mode`, and with `equalise` all brought to one size and one encoding.
    """

    drop: typing.Annotated[tuple[Drop, ...], Several] = DROPS
    conflicts: Literal["leave_out", "keep_first"] = "leave_out"  # one image under two labels: out with all, or keep one
    crop: CropConfig | None = None  # {bottom = 32} pixels, {bottom = 0.05} of the height
    crop_rows: Literal["all", "finding"] = "all"  # finding: only rows of the `watermark` finding
    crop_origins: Names = ()  # only images of these origins; (): all
    grid: str | None = None  # "finding": cut the rows of the `grid` finding; "2x2" (rows x columns): those of grid_rows
    grid_rows: Names = ()  # patterns of paths for a grid such as 2x2: ["painter/*"]
    upright: bool = False  # turn as EXIF says; every image that is written anew is turned
    mode: Literal["RGB", "L"] | None = None  # colours; transparency is laid on white
    equalise: bool = False  # one size, colour mode and codec (JPEG) for every image
    size: Size | None = None  # side of the equalised square, pixels; None: the smallest image's shorter side, at most 512
    upscale: bool = False  # enlarge images smaller than `size`; else they are left out
    quality: typing.Annotated[int, Field(ge=1, le=100)] = 90  # of the equalised JPEG
    subsampling: Literal["4:4:4", "4:2:0"] = "4:4:4"  # of its colours
    precompress: typing.Annotated[int, Field(ge=1, le=100)] | None = None  # JPEG quality that all pass before resizing
    copy_all: bool = False  # write every usable image, also where nothing changes

    @model_validator(mode="after")
    def _fits(self) -> Self:
        given = self.model_fields_set
        for name in ("crop_rows", "crop_origins"):
            if name in given and self.crop is None:
                raise ValueError(f"{name} says which images are cropped: set crop too, as in crop.bottom=32")
        for name in ("size", "upscale", "quality", "subsampling", "precompress"):
            if name in given and not self.equalise:
                raise ValueError(f"{name} belongs to equalise=true")
        named = self.grid not in (None, "finding")
        if named and (not re.fullmatch(r"[1-9]\d?x[1-9]\d?", str(self.grid)) or self.grid == "1x1"):
            raise ValueError(f"grid must be 'finding', or rows x columns as in '2x2', not {self.grid!r}")
        if bool(self.grid_rows) != named:
            raise ValueError("grid=2x2 and grid_rows (patterns of paths, as in [\"painter/*\"]) belong together")
        return self

    @property
    def rewrites(self) -> bool:
        """Whether images are written anew, which needs a folder."""
        return bool(self.crop or self.grid or self.upright or self.mode or self.equalise or self.copy_all)


class Preprocessing(Config):
    """How a file becomes pixels: decoded by Pillow, made RGB, stretched to size x size pixels.

    `resample` is Pillow's filter; shrinking with it averages over the whole area, so there is no aliasing.
    """

    size: Size
    resample: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"


class TrainConfig(Config):
    """How one network is trained.

    `weights` names a file to start from: a classifier of gilt's, plain safetensors, or a torch state dict. `frozen` keeps
    all layers but the last as they are: their features are computed once, without augmentation, and only the last
    layer is trained on them.
    """

    target: Literal["class", "origin"] = "class"
    model: str = "thesis2"
    dropout: typing.Annotated[float, Field(ge=0, lt=1)] | None = None  # None: the network's own
    image_size: Size | None = None  # pixels; None: the network's own
    epochs: Size = 30
    steps: Size | None = None  # fixed optimiser steps instead of fixed epochs
    batch_size: Size = 100
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: typing.Annotated[float, Field(gt=0)] = 1e-3
    loss: Literal["auto", "binary", "cross_entropy"] = "auto"  # auto: binary for two classes
    l2: dict[str, float] | None = None  # layer name -> penalty; None: the network's own
    augment: tuple[Literal["hflip", "vflip", "shift"], ...] = ()
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    tensorboard: bool = False
    weights: str | None = None
    frozen: bool = False

    @model_validator(mode="after")
    def _freezes(self) -> Self:
        for name in ("augment", "dropout"):
            if self.frozen and getattr(self, name):
                raise ValueError(f"train.frozen computes features once and as in prediction: leave train.{name} out")
        return self


class TrialConfig(Config):
    """One trial, resolved: everything but its seed that can change its outcome."""

    classes: dict[str, list[str]] | list[str] | None = None  # pick classes, or merge: {"Fruit": ["Apple", "Banana"]}
    generators: list[str] | None = None  # origins to use beside `real`; None: all
    split: SplitConfig = SplitConfig()
    mix: MixConfig = MixConfig()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="before")
    @classmethod
    def _target_on_top(cls, data: Any) -> Any:
        """Accept `target = "class"` beside `train`, where an experiment's reader looks for it."""
        if isinstance(data, Mapping) and "target" in data:
            data = dict(data)
            group = data.get("train", {})
            if isinstance(group, Mapping):  # anything else is refused below, with its place
                data["train"] = {**group, "target": data.pop("target")}
            else:
                del data["target"]
        return data

    @model_validator(mode="after")
    def _balances(self) -> Self:
        if self.mix.balance == "smote" and not self.train.frozen:
            raise ValueError("mix.balance='smote' makes new points between frozen features, not between images: set "
                             "train.frozen=true (with train.weights), or choose 'over', 'under', 'weights' or 'generated'")
        if self.mix.balance == "generated" and self.target == "origin":
            raise ValueError("mix.balance='generated' fills classes up, and the target is the origin: choose 'over', "
                             "'under', 'weights' or 'smote', or set target='class'")
        return self

    @property
    def target(self) -> str:
        return self.train.target


def parse(kind: type[C], data: Mapping[str, Any], *, where: str) -> C:
    """Return `data` as a `kind`. Raises ConfigError with one line that names the key, the place and the choices."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_first(kind, error, where)) from None


def _first(kind: type[Config], error: ValidationError, where: str) -> str:
    # an unknown key explains a missing one: it comes first
    problem = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        parent = _kind_at(kind, problem["loc"][:-1])
        names = [*parent.model_fields, *(["target"] if parent is TrialConfig else [])] if parent else []
        last = problem["loc"][-1]
        return f"{where}: unknown key {place!r} (known: {listed(names, most=20)}).{near(str(last), names)}"
    if problem["type"] == "value_error":
        return f"{where}: {place + ': ' if place else ''}{problem['ctx']['error']}"
    given = "" if problem["type"] == "missing" else f", not {problem['input']!r}"
    guess = near(str(problem["input"]), _choices(problem)) if problem["type"] == "literal_error" else ""
    return f"{where}: {place}: {problem['msg'].removeprefix('Input ')}{given}.{guess}"


def _choices(problem: Mapping[str, Any]) -> list[str]:
    return [part for part in problem.get("ctx", {}).get("expected", "").split("'") if part.strip(" ,or")]


def _kind_at(kind: type[Config], place: Sequence[int | str]) -> type[Config] | None:
    """Return the model that holds the key at `place`, following nested models and lists or dicts of them."""
    for part in place:
        field = kind.model_fields.get(str(part))
        if field is None:
            return kind if isinstance(part, str) else None
        inner = _models(field.annotation)
        if not inner:
            return None
        kind = inner[0]
    return kind


def _models(annotation: Any) -> list[type[Config]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias) and issubclass(annotation, Config):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in _models(part)]


def override(data: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Return `data` with `a.b=value` settings applied; a value is read as TOML, or taken as text.

    Raises ConfigError where a setting has no `=` or reaches into something that is no group.
    """
    import tomllib

    result = _copy(data)
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--set takes name=value, as in --set train.epochs=5, not {setting!r}")
        try:
            value = tomllib.loads(f"x = {text}")["x"]
        except tomllib.TOMLDecodeError:
            value = text
        *path, last = name.strip().split(".")
        group = result
        for part in path:
            group = group.setdefault(part, {})
            if not isinstance(group, dict):
                raise ConfigError(f"--set {setting}: {part!r} is a value, not a group of settings")
        group[last] = value
    return result


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `changes` laid over it, group by group."""
    result = _copy(base)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return result


def _copy(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in data.items()}
