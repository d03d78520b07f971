"""The commands gilt generate train and gilt generate sample: our own generators."""
import sys
import time
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gilt.cli.show import CLEAR, SEED, check_output, clock, say, settings_option, warnings_shown

if TYPE_CHECKING:
    from gilt.generators.sampling import Made
    from gilt.generators.training import Look, Step

DIFFUSION = {"guidance": (float, "How far the class is pulled away from any class.  [default: 1.5]"),
             "steps": (int, "Evaluations of the network.  [default: 12]"),
             "sampler": (str, "euler, heun or adams.  [default: adams]")}


@click.group()
def generate() -> None:
    """Make images: train a generator on a table, and let it make a folder of images."""


@generate.command("train", epilog="""\b
Example:
  gilt generate train dealt.parquet --kind diffusion -o flow.safetensors
  gilt generate train dealt.parquet --kind gan --set size=32 --set steps=6000 --set flip=true -o gan.safetensors""")
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--kind", type=click.Choice(["diffusion", "gan"]), help="Flow matching on a U-Net, or a small GAN.  "
                                                                      "[default: diffusion]")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The generator (safetensors) to write.")
@click.option("--config", type=click.Path(path_type=Path), help="A TOML file of settings.")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--report/--no-report", default=True, help="Write OUTPUT's page (.html) with samples over time.")
@click.option("--root", type=click.Path(path_type=Path), help="Where the table's images are now, if they moved.")
@settings_option
def train(table: Path, kind: str | None, output: Path, config: Path | None, seed: int, report: bool, root: Path | None,
          settings: tuple[str, ...]) -> None:
    """Train a class-conditional generator on a table's training rows: photographs, unless learn says otherwise.

    Rows without a split are dealt first (70-15-15); deal them with gilt split before, so that a study deals them alike. Val and
    test rows are not read. The state is kept in OUTPUT.part: after a kill or Ctrl-C, the same command goes on from there.
    """
    from gilt.data.table import ImageTable
    from gilt.files import read_toml
    from gilt.generators.config import GeneratorConfig
    from gilt.generators.training import train_generator
    from gilt.settings import override, parse

    check_output(output)
    page = output.with_suffix(".html") if report else None
    if page:
        check_output(page)
    given = ((f"kind={kind}",) if kind else ()) + settings
    known = parse(GeneratorConfig, override(read_toml(config) if config else {}, given), where=str(config or "--set"))
    part = output.with_name(f"{output.name}.part")
    with warnings_shown():
        rows = ImageTable.load(table, root=root)
        rows.check_files()
        diary = _Diary(page, name=output.name, table=str(table))
        try:
            generator = train_generator(rows, known, seed=seed, checkpoint=part, progress=_TrainLine(), on_look=diary)
        except KeyboardInterrupt:
            if part.exists():
                say(f"\nthe training so far is in {part}: the same command goes on from there")
            raise
    generator.save(output)
    said = f"; its page: {page}" if page else ""
    say(f"wrote {output}: {generator!r}; two of its images of a class differ {generator.history[-1]['diversity']:.2f} times as "
        f"much as two that it learnt from{said}")


def sampling_options(origin: str, *, only: str = "") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command what every one takes that makes images by a trained generator.

    `origin` is the help of --origin, and `only` begins that of what no GAN takes.
    """
    options = [
        click.option("--seed", type=SEED, default=0, show_default=True), click.option("--origin", help=origin),
        *(click.option(f"--{name}", type=kind, help=f"{only}{text[0].lower() if only else text[0]}{text[1:]}")
          for name, (kind, text) in DIFFUSION.items()),
        click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)]
    return lambda command: reduce(lambda made, option: option(made), reversed(options), command)


@generate.command("sample", epilog="""\b
Example:
  gilt generate sample flow.safetensors -o made/flow --count 300
  gilt generate sample flow.safetensors -o made/pure --count wren=100 --count robin=20 --guidance 3 --origin flow-3""")
@click.argument("generator", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The folder for the images.")
@click.option("--count", "counts", multiple=True, default=("100",), show_default=True, metavar="N|CLASS=N",
              help="Images of each class, or of one class. May be repeated.")
@sampling_options("The generator's name in tables.  [default: its file's name]", only="Diffusion: ")
def sample(generator: Path, output: Path, counts: tuple[str, ...], seed: int, origin: str | None, device: str,
           **given: Any) -> None:
    """Make images with a trained generator: a folder that gilt scan reads, with class, origin and what the generator saw.

    An image depends on the seed, its class and its number only. Run again to go on after a kill, or with a larger --count to
    add images.
    """
    from gilt.generators.config import SampleConfig
    from gilt.generators.generator import load_generator
    from gilt.generators.sampling import generate as run
    from gilt.settings import parse

    count, chosen = counts_of(counts), {name: value for name, value in given.items() if value is not None}
    parse(SampleConfig, chosen, where="gilt generate sample")  # before the generator is read, which takes a while
    with warnings_shown():
        known = load_generator(generator, device=device)
        settings = SampleConfig(**{**known.config.sample.model_dump(), **chosen}) if chosen else None
        album = run(known, output, count=count, seed=seed, origin=origin or generator.stem, sample=settings,
                    progress=MadeLine())
    say(f"{output} holds {len(album.rows):,} images of {album.origin}, its manifest and the list of what the generator saw; "
        f"next: gilt scan {output} -o {output.name}.parquet")


def counts_of(texts: tuple[str, ...]) -> int | dict[str, int]:
    """Return one number for every class, or class -> number. Raises UsageError for anything else."""
    counts: dict[str, int] = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        if not number.isdigit() or bool(equals) != bool(name) or (not equals and len(texts) > 1):
            raise click.UsageError(f"--count takes one number for every class, or CLASS=N for some, not {' '.join(texts)!r}")
        counts[name] = int(number)
    return counts.get("", counts)


class _Diary:
    """Hears of each look and writes the page anew."""

    def __init__(self, page: Path | None, *, name: str, table: str) -> None:
        self.page, self.name, self.table, self.looks = page, name, table, []

    def __call__(self, look: "Look") -> None:
        from gilt.reports.generator import generator_page

        self.looks.append(look)
        if self.page:
            generator_page(self.looks, to=self.page, name=self.name, table=self.table)


class _Line:
    """A line of progress: redrawn on a terminal, else one in so many seconds and the last."""

    def __init__(self, pause: float = 30.0) -> None:
        self.live, self.pause, self.drawn = sys.stderr.isatty(), pause, time.monotonic()

    def draw(self, text: str, *, ended: bool) -> None:
        if not ended and time.monotonic() - self.drawn < (0.1 if self.live else self.pause):
            return
        click.echo(f"{CLEAR if self.live else ''}{text}", nl=ended or not self.live, err=True)
        self.drawn = time.monotonic()


class _TrainLine(_Line):
    def __call__(self, step: "Step") -> None:
        self.draw(f"step {step.step:,}/{step.steps:,}  loss {step.loss:.3f}  {step.images_per_second:,.0f} img/s  "
                  f"{clock(step.left)} left", ended=step.step == step.steps)


class MadeLine(_Line):
    def __call__(self, made: "Made") -> None:
        self.draw(f"{made.done:,}/{made.images:,} images  {made.images_per_second:,.1f} img/s  {clock(made.left)} left",
                  ended=made.done == made.images)
