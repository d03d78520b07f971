"""The command show: the first look at a collection, in numbers and pictures."""
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gilt.cli.show import SEED, check_output, plain, print_table, say, warnings_shown

if TYPE_CHECKING:
    from gilt.data.table import ImageTable

CLASSES = 6  # rows of the picture in the terminal


@click.command(epilog="""\b
Example:
  gilt show groceries.parquet
  gilt show groceries.parquet --html groceries.html --seed 3
  gilt show groceries.parquet --json""")
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--html", type=click.Path(path_type=Path), help="Also write a page with larger pictures; it opens offline.")
@click.option("--all", "every", is_flag=True, help="Count every class, not only the largest and smallest.")
@click.option("--samples", type=click.IntRange(0, 24), default=6, show_default=True,
              help="Pictures of a class and origin at most; 0 for none.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Draws the samples.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON instead.")
@click.option("--root", type=click.Path(path_type=Path), help="Where the table's images are now, if they moved.")
def show(table: Path, html: Path | None, every: bool, samples: int, seed: int, as_json: bool, root: Path | None) -> None:
    """Show what a collection holds: counts by class, origin and split, sizes, formats, and random samples.

    Rows that are left out are counted by their reason, and in no other number. The pictures are drawn in a terminal with
    colours, and on the page.
    """
    from gilt.data.overview import overview
    from gilt.data.table import ImageTable

    if html:
        check_output(html)
        if html.resolve() == table.resolve():
            raise click.UsageError(f"{html} is the table: name another file for the page")
    with warnings_shown():
        rows = ImageTable.load(table, root=root)
        numbers = overview(rows)
        if as_json:
            click.echo(json.dumps(numbers, indent=1, ensure_ascii=False))
        else:
            _print(table, numbers, every)
            if samples and numbers["images"]:
                _pictures(rows, numbers, samples, seed, html)
        if html:
            from gilt.reports.collection import show as run

            say(f"wrote {run(rows, to=html, seed=seed, samples=samples, every=every)}")


def _print(table: Path, numbers: dict[str, Any], every: bool) -> None:
    from gilt.reports.sections import headline, sections

    for line in (f"{table}: images under {numbers['root']}", *headline(numbers)):
        click.echo(plain(line))
    for section in sections(numbers, every=every):
        click.secho(f"\n{section.title}", italic=True)
        print_table(section.header, section.rows)
        if section.note:
            click.echo(f"{section.note}{' --all shows every class.' if 'classes' in section.note else ''}")


def _pictures(rows: "ImageTable", numbers: dict[str, Any], samples: int, seed: int, html: Path | None) -> None:
    """Draw random samples where the terminal can, else say where they are to be had."""
    from rich.console import Console

    from gilt.cli.picture import can_draw, draw
    from gilt.data.overview import largest, sampled
    from gilt.reports.sections import class_name

    console = Console(highlight=False)
    if not can_draw(console):
        if not html:
            say("pictures: --html FILE writes a page with random samples")
        return
    classes = [row["class"] for row in largest(numbers["by_class"], CLASSES)]
    drawn = sampled(rows, samples=samples, seed=seed, classes=classes)
    named = {class_name(name): by for name, by in drawn.items()}
    click.echo()
    origins = list(numbers["origins"])
    columns, count, missing = draw(console, named, origins)
    shown = [f"{some} of {every:,} {name}" for name, some, every in (
        ("classes", len(classes), len(numbers["by_class"])), ("origins", columns, len(origins))) if some < every]
    if shown:
        click.echo(f"Random samples of {' and '.join(shown)}; --html FILE shows more.")
    if missing:
        say(f"{missing:,} of {count:,} pictures are grey: the images are not under {rows.root}, or cannot be read. "
            "If they moved, give their folder with --root.")
