"""Every knob on one page: those of a trial's rows here, those of its training in `training.py`.

`TrialConfig` is one whole trial; its hash, with the table's fingerprint, names the trial.
"""
import re
import typing
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from gilt.errors import listed
from gilt.settings import Config, Count, Moment, Names, Part, Several, Share, Size
from gilt.training import Encoding, Quality, TrainConfig, detects

REAL = "real"  # the origin of every photograph; any other origin is a generator's name
GENERATED = "generated"  # the label of all those, where the target is `origin`
Balance = Literal["over", "under", "smote", "weights", "generated"]
Control = Literal["held_back", "duplicates", "shuffled"]


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
    groups: Names = ()
    overlap: Literal["exclude", "refuse"] = "exclude"
    folds: typing.Annotated[int, Field(ge=2)] | None = None
    fold: Count | None = None  # 0 to folds - 1; None: seed s is fold s % folds of partition s // folds
    hold_out: Names = ()
    seen_in_test: bool = False  # with hold_out: the other generators are tested on too
    by: str | None = None
    cuts: typing.Annotated[tuple[Moment, ...], Several, Field(max_length=2)] = ()  # where val (if two) and test begin
    years: dict[str, Moment] = {}  # generator -> its year or date
    generated_in_test: bool = False  # for target `class`: generated rows are dealt into test too, for mix.test = "generated"

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
        if self.generated_in_test and (self.hold_out or self.by or self.years):
            raise ValueError("generated_in_test goes with ratios or folds, not with hold_out, by or years")
        return self


class FeaturesConfig(Config):
    """What images are compared in: the features of a named network, or hand-made ones.

    `pixels`: small pictures, colour histograms and spectra, which need no weights and are weak. `inception-fid`: the
    InceptionV3 that FID and KID are defined on, by torch-fidelity, from its own file of `weights`. Any other name is a network
    of `gilt models`, or of a library: what goes into its last layer, with `weights` as train.weights takes them.
    `size` in pixels; None: the network's own, for `inception-fid` the images' own where they are all of one.
    """

    model: str = "pixels"
    arguments: dict[str, Any] = {}  # of the network itself
    weights: str | None = None
    size: Size | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.model == "pixels" and (self.weights or self.arguments):
            raise ValueError("features.model='pixels' has no weights and no arguments: name the network that they are of")
        if self.model != "pixels" and not self.weights:
            raise ValueError(f"features.model={self.model!r} needs features.weights: features of random weights would measure "
                             "nothing. Without weights at hand, leave features.model out: 'pixels' needs none")
        return self


class ChooseConfig(Config):
    """Which generated training rows a mix may take at all, judged beside the trial's photographs: see `gilt.data.choose`.

    `copies`, `confidence` and `off_class` leave images out; of what is left, `keep` keeps the `part` of each class, or `count`
    images of it: `nearest` to the photographs of the class, `farthest`, `typical` (as far as photographs are from each other),
    `coverage` (the farthest from all that is there already, again and again), or `random`, the fair rival.
    `features` are what distances are measured and classes are judged in.
    """

    copies: Part | None = None  # quantile of photographs' distances to the nearest other one: what is nearer is a copy
    confidence: Share | None = None  # the least probability of its own class, by a judge that learnt the photographs
    off_class: bool = False  # leave out what that judge takes for another class
    keep: Literal["nearest", "farthest", "typical", "coverage", "random"] | None = None
    part: typing.Annotated[float, Field(gt=0, le=1)] | None = None
    count: Size | None = None
    features: FeaturesConfig = FeaturesConfig()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.keep is None and (self.part is not None or self.count is not None):
            raise ValueError("choose.part and choose.count say how many choose.keep keeps: set that too, as in keep='coverage'")
        if self.keep is not None and (self.part is None) == (self.count is None):
            raise ValueError(f"choose.keep={self.keep!r} needs to know how many of each class: set choose.part or "
                             "choose.count, one of the two")
        if not self.filters and self.keep is None:
            raise ValueError("mix.choose leaves nothing out: set copies, confidence, off_class or keep")
        return self

    @property
    def filters(self) -> bool:
        """Whether images are left out for what they are, before any are kept for where they lie."""
        return self.copies is not None or self.confidence is not None or self.off_class


class MixConfig(Config):
    """How real and generated rows make a training set.

    `share`: a set whose generated part is `share`, as large as the rows allow or `total` rows.
    `add`: all real rows + `generated` rows (or as many as give `share`; neither: all).
    `replace`: `generated` rows (or the part `share`) of the real ones replaced, the total fixed.
    Neither mode nor share set: real rows only for target `class`, all rows for a detector (target `origin` or `generator`).

    `imbalance` and `max_real_by_class` thin the photographs of the classes out first, to study what too few of them do;
    `balance` evens out what came of it, to the `degree` 0 (as it is) to 1 (all classes alike): see `gilt.data.balance`.
    `control` lets rows of known worth pose as generated, to check a study of worth: see `gilt.data.controls`.
    `choose` leaves generated rows out before any are taken: copies, images off their class, and all but the ones to keep.
    """

    mode: Literal["share", "add", "replace"] = "share"
    share: Share | None = None
    generated: Count | None = None
    total: Size | None = None
    max_real: Count | None = None
    max_generated: Count | None = None
    val: Literal["real", "generated", "mix"] | None = None  # None: real for target `class`, mix for a detector
    val_share: Share | None = None  # generated part of val = "mix"; None: that of the training set
    test: Literal["real", "generated"] = "real"  # for target `class`; "generated" judges the generated images, not a classifier
    imbalance: typing.Annotated[float, Field(ge=1)] | None = None  # photographs of the largest class : of the smallest
    max_real_by_class: dict[str, Count] | None = None
    balance: Balance | None = None
    degree: Share = 1.0
    control: Control | None = None
    own_sources: bool = False  # generated rows only of photographs that are at hand too (or of none that is known)
    choose: ChooseConfig | None = None

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
        if self.val_share is not None and self.val != "mix":
            raise ValueError("mix.val_share is the generated part of mix.val='mix': set that, or leave it out")
        return self

    @model_validator(mode="after")
    def _controls(self) -> Self:
        if self.control is None:
            return self
        if other := next((name for name in ("balance", "own_sources", "choose") if getattr(self, name)), None):
            raise ValueError(f"mix.control and mix.{other} do not go together")
        if self.mode == "share" and not self.share:
            raise ValueError(f"mix.control={self.control!r} poses as generated rows, and this mix takes none: set mix.share, "
                             "or mix.mode = \"add\" or \"replace\" with mix.generated")
        if self.control == "duplicates" and self.share == 1:
            raise ValueError("mix.control='duplicates' copies the arm's photographs, and a share of 1 leaves none")
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
    quality: Quality = 90  # of the equalised JPEG
    subsampling: Literal["4:4:4", "4:2:0"] = "4:4:4"  # of its colours
    precompress: Quality | None = None  # JPEG quality that all pass before resizing
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
    """How a file becomes pixels: decoded by Pillow, made RGB, encoded like all others (`equal`), brought to size x size pixels.

    `fit` stretches the whole image, or crops its middle: at its own resolution, or once its shorter side has `shortest` pixels.
    `resample` is Pillow's filter; shrinking with it averages over the whole area, so there is no aliasing.
    """

    size: Size
    resample: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    fit: Literal["stretch", "crop"] = "stretch"
    shortest: Size | None = None
    equal: Encoding | None = None


class SimilarityConfig(Config):
    """How `gilt similarity` compares generated images with photographs.

    Every number is taken over `draws`: each takes at most `rows` generated images and two disjoint sets of as many
    photographs, and compares one of these sets with the generated images and with the other set. With `match_classes` a draw
    holds as many of each class on every side.
    """

    features: FeaturesConfig = FeaturesConfig()
    classes: dict[str, list[str]] | list[str] | None = None  # pick classes, or merge: {"Fruit": ["Apple", "Banana"]}
    generators: list[str] | None = None  # None: all
    draws: typing.Annotated[int, Field(ge=3)] = 10
    rows: typing.Annotated[int, Field(ge=10)] = 2_000
    match_classes: bool = True
    pairs: Count = 12  # of images shown beside the photograph nearest to them, a generator
    seed: Count = 0


class TrialConfig(Config):
    """One trial, resolved: everything but its seed that can change its outcome."""

    also: ClassVar[tuple[str, ...]] = ("target",)  # for `train.target`, where an experiment's reader looks for it
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
    def _tests(self) -> Self:
        kept = self.split.generated_in_test
        if detects(self.target) and (kept or self.mix.test == "generated"):
            raise ValueError(f"{'split.generated_in_test' if kept else 'mix.test'} is for target 'class': for the origin, both "
                             "kinds are tested")
        if self.mix.test == "generated" and not kept:
            raise ValueError("mix.test='generated' tests on generated rows: set split.generated_in_test=true in every arm, so "
                             "that some are kept for that")
        return self

    @model_validator(mode="after")
    def _balances(self) -> Self:
        if self.mix.balance == "smote" and not self.train.frozen:
            raise ValueError("mix.balance='smote' makes new points between frozen features, not between images: set "
                             "train.frozen=true (with train.weights), or choose 'over', 'under', 'weights' or 'generated'")
        if self.mix.control and detects(self.target):
            raise ValueError("mix.control lets photographs pose as generated, and the target is the origin: set target='class'")
        if self.mix.balance == "generated" and detects(self.target):
            raise ValueError("mix.balance='generated' fills classes up, and the target is the origin: choose 'over', "
                             "'under', 'weights' or 'smote', or set target='class'")
        return self

    @property
    def target(self) -> str:
        return self.train.target
