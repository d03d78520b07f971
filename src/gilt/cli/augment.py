"""The command `gilt augment`: which augmentations there are, and what they do to images."""
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gilt.cli.show import SEED, check_output, print_table, say, settings_option

if TYPE_CHECKING:
    from gilt.data.table import ImageTable


@click.command(epilog="""\b
Example:
  gilt augment
  gilt augment --preview -o augment.png
  gilt augment --preview groceries.parquet -o augment.png --set train.augment='["rotate=30", "jpeg=40"]'
  gilt augment --preview photo.jpg -o augment.png --set train.augment=randaugment --size 224""")
@click.argument("images", nargs=-1, type=click.Path(path_type=Path))
@click.option("--preview", is_flag=True, help="Draw a picture of them instead of a list.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The picture (PNG) to write.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Draws the images of a table, and the augmentations.")
@click.option("--size", type=click.IntRange(8, 512), default=128, show_default=True,
              help="Pixels of an image's side, as a network of that input would see it.")
@click.option("--root", type=click.Path(path_type=Path), help="Where the table's images are now, if they moved.")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
@settings_option
def augment(images: tuple[Path, ...], preview: bool, output: Path | None, seed: int, size: int, root: Path | None,
            as_json: bool, settings: tuple[str, ...]) -> None:
    """List the augmentations, or draw what they do: --preview [TABLE | IMAGE ...] -o FILE.

    The picture has a row an augmentation: two images of a table, up to three files, or two of the embedded sample, each
    followed by what training would make of it. With --set train.augment=... (or a train.recipe that has one), these, and a
    last row with all of them together; else every augmentation there is, as strong as it usually is.
    """
    if not preview:
        if images or output or settings:
            raise click.UsageError("to draw a picture, say --preview; the list takes no images and no settings")
        _list(as_json)
        return
    if output is None:
        raise click.UsageError("name the picture to write: -o augment.png")
    check_output(output)
    if output.resolve() in {image.resolve() for image in images}:
        raise click.UsageError(f"{output} is one of the images: name another file for the picture")
    chosen = _chosen(settings)
    from gilt.reports.augmentations import augment_preview

    rows = _images(images, root)
    say(f"wrote {augment_preview(rows, to=output, augment=chosen, seed=seed, size=size)}")


def _list(as_json: bool) -> None:
    from gilt.training import AUGMENTATIONS

    rows = [{"name": name, **strength._asdict()} for name, strength in AUGMENTATIONS.items()]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    print_table(["name", "strength", "from", "to", "meaning"],
                [[row["name"], *(f"{row[key]:g}" for key in ("usual", "low", "high")), row["meaning"]] for row in rows])


def _chosen(settings: tuple[str, ...]) -> tuple[str, ...]:
    """Return the augmentations that the settings ask for; none where there are no settings."""
    from gilt.config import TrialConfig
    from gilt.settings import override, parse

    chosen = parse(TrialConfig, override({}, settings), where="--set").train.augment
    if settings and not chosen:
        raise click.UsageError("these settings name no augmentation: --set train.augment='[\"rotate=30\", \"hflip\"]'")
    return chosen


def _images(images: tuple[Path, ...], root: Path | None) -> "ImageTable | tuple[Path, ...]":
    from gilt.data.table import ImageTable

    tables = [image for image in images if image.suffix == ".parquet"]
    if not tables:
        if root:
            raise click.UsageError("--root says where a table's images are, and there is no table")
        folder = next((image for image in images if image.is_dir()), None)
        if folder:
            raise click.UsageError(f"{folder} is a folder: name images, or a table of it (gilt scan)")
        return images
    if len(images) > 1:
        raise click.UsageError(f"{tables[0]} is a table: name it alone, or images alone")
    return ImageTable.load(tables[0], root=root)
