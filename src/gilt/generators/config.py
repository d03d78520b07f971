"""Every knob of our own generators on one page: `GeneratorConfig`, `SampleConfig`, and what they are where nothing is said."""
import math
import typing
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from gilt.config import SplitConfig
from gilt.settings import Above0, Config, Count, Names, Part, Several, Size

SMALLEST, LARGEST = 28, 128  # pixels of a square image's side
Sampler = Literal["euler", "heun", "adams"]
Change = Literal["colour", "translation", "cutout"]
CHANGES: tuple[Change, ...] = ("colour", "translation", "cutout")
_BELONGS = {"diffusion": ("unconditional",), "gan": ("latent", "r1", "augment")}


class SampleConfig(Config):
    """How a generator makes an image of a class. All three are of diffusion; a GAN makes an image at one go.

    `steps` evaluations of the network (twice as many passes where `guidance` is not 1), `guidance` how far the class is pulled
    away from "any class" (1: not at all; more: purer and less varied), `sampler` the solver of the flow.
    """

    steps: Annotated[int, Field(ge=1, le=1000)] = 12
    guidance: Annotated[float, Field(ge=0, le=20)] = 1.5
    sampler: Sampler = "adams"


class TranslateConfig(Config):
    """Which images are translated into a generator's look, how far, and how many.

    `strength` of the way to noise: near 0 an image stays as it is, at 1 it counts for nothing. `classes` picks, renames or
    merges the classes of the rows, so that the generator knows them: {"car": ["taxi"]}. `origins` are those of the rows to
    translate, "real" or generators' names; None: all. `count` images of each class, or of the named classes, the rows used
    equally often; None: one of each row. `sample` None: as the generator has it.
    """

    strength: Annotated[float, Field(gt=0, le=1)] = 0.5
    classes: dict[str, list[str]] | list[str] | None = None
    origins: Names | None = None
    count: Count | dict[str, Count] | None = None
    sample: SampleConfig | None = None


class GeneratorConfig(Config):
    """How a generator is trained, and on which rows. What is None is chosen by `resolved` from the images.

    Rows: `classes` picks or merges, `split` deals rows that have no split yet, `learn` says which training rows are learnt
    from: the photographs, or made images too (of `generators`; None: of all).
    `patch` folds patch x patch pixels into the channels, so that the network works on a side patch times smaller: quicker,
    and a little coarser. `flip` mirrors images by chance, left to right: all, or those of the named classes.
    """

    kind: Literal["diffusion", "gan"] = "diffusion"
    classes: dict[str, list[str]] | list[str] | None = None
    learn: Literal["real", "generated", "all"] = "real"
    generators: list[str] | None = None
    split: SplitConfig = SplitConfig()
    size: Annotated[int, Field(ge=SMALLEST, le=LARGEST)] | None = None  # pixels of the square's side
    steps: Size | None = None  # of the optimiser
    batch_size: Annotated[int, Field(ge=2, le=4096)] = 64
    rate: Above0 | None = None  # the highest learning rate
    warmup: Count | None = None  # steps in which the learning rate rises from nothing
    schedule: Literal["cosine", "constant"] | None = None  # of the learning rate, after the warm-up
    clip: Above0 | None = None  # largest norm of the gradient
    ema: Part | None = None  # decay a step of the running mean of the weights, which is what is kept
    width: Annotated[int, Field(ge=16, le=512, multiple_of=16)] | None = None  # channels of the widest layers' base
    flip: bool | Annotated[tuple[str, ...], Several] = False
    patch: Literal[1, 2, 4] | None = None
    unconditional: Annotated[float, Field(ge=0, lt=1)] = 0.1  # diffusion: part of the images whose class is not told
    latent: Annotated[int, Field(ge=8, le=1024)] = 64  # GAN: numbers that an image is drawn from
    r1: Annotated[float, Field(ge=0)] | None = None  # GAN: penalty on the discriminator's gradient at photographs
    augment: Annotated[tuple[Change, ...], Several] = CHANGES  # GAN: what all that the discriminator sees goes through
    looks: Annotated[int, Field(ge=1, le=100)] = 10  # grids of samples over the training
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    sample: SampleConfig = SampleConfig()  # what `gilt generate sample` takes where nothing is said

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for kind, names in _BELONGS.items():
            for name in names:
                if self.kind != kind and getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name} belongs to kind={kind!r}, not to {self.kind!r}")
        if self.generators is not None and self.learn == "real":
            raise ValueError("generators picks made images, and learn='real' learns from photographs only: set learn='all' or "
                             "'generated'")
        if self.split.generated_in_test or self.split.hold_out:
            name = "hold_out" if self.split.hold_out else "generated_in_test"
            raise ValueError(f"split.{name} is for judging classifiers: a generator learns from training rows only")
        if self.steps is not None and self.warmup is not None and self.warmup >= self.steps:
            raise ValueError(f"warmup={self.warmup} steps leave nothing of steps={self.steps}: give less")
        return self

    def resolved(self, *, images: int, side: int) -> "GeneratorConfig":
        """Return the settings with every None filled in, for so many training images of a usual shorter side in pixels.

        A hundred looks at each image, 3,000 to 60,000 steps; a network as wide as so many images can feed.
        """
        size = self.size or min(max(side, SMALLEST), 64)
        steps = self.steps or min(max(round(100 * images / self.batch_size, -2), 3000), 60_000)
        diffusion = self.kind == "diffusion"
        usual: dict[str, Any] = {
            "size": size, "steps": int(steps), "rate": 1e-3 if diffusion else 3e-3, "warmup": min(500, int(steps) // 20),
            "schedule": "cosine" if diffusion else "constant", "ema": 1 - 10 / min(max(steps, 1000), 100_000),
            "width": 32 if images < 500 else 64 if images < 20_000 else 128}
        if diffusion:
            usual |= {"patch": 2 if size <= 64 else 4, "clip": 1.0}
        else:  # a critic that works on patches does not see the seams between them
            usual |= {"patch": 1 if size <= 64 else 2, "r1": round((size / 32) ** 2, 4)}
        known = {name: value for name, value in self if value is not None}
        return type(self)(**{**usual, **known})

    @property
    def levels(self) -> int:
        """How many sides the diffusion network works on, each half the one before, down to 7 or 8 pixels."""
        side = math.ceil(typing.cast(int, self.size) / typing.cast(int, self.patch))
        return max(2, round(math.log2(side / 8)) + 1)
