"""The command `gilt worth`."""
import json
import shlex
from pathlib import Path

import click

from gilt.cli.show import STORE, check_output, print_table, say


@click.command(epilog="""\b
Example:
  gilt worth runs/groceries
  gilt worth runs/groceries --cost 0.50 0.01 --html worth.html""")
@click.argument("store", type=STORE)
@click.option("--metric", help="What the error is taken from: 1 - metric, or the loss [default: the study's metric].")
@click.option("--curve", default="auto", show_default=True, type=click.Choice(["auto", "power3", "power2", "interpolation"]),
              help="The form of the learning curve.")
@click.option("--interval", "way", default="paired", show_default=True, type=click.Choice(["paired", "per_seed"]),
              help="Hold the arm against its seed's curve, or invert every seed's curve and take the spread of what comes out.")
@click.option("--cost", type=float, nargs=2, metavar="REAL GENERATED",
              help="What one photograph and one generated image cost: says which is the better buy.")
@click.option("--html", type=click.Path(path_type=Path), help="Also write one self-contained page, with the curve.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON; null: nothing measured bounds it.")
def worth(store: Path | str, metric: str | None, curve: str, way: str, cost: tuple[float, float] | None, html: Path | None,
          as_json: bool) -> None:
    """Say how many photographs one generated image is worth in a study, with 95 % intervals over seeds.

    The study needs real-only arms of three sizes or more (mix.max_real): they are the learning curve that every other arm is
    held against. Arms with mix.control check the answer. Outside the sizes that were measured there are bounds, no guesses.
    """
    from gilt.studies.store import Store
    from gilt.studies.worth import worth as run

    if html:
        check_output(html)
    found = run(Store(store), metric=metric, curve=curve, way=way)
    bought = found.break_even(*cost) if cost else []
    if as_json:
        click.echo(json.dumps(found.as_json() | ({"break_even": bought} if cost else {}), indent=1))
    else:
        for text in [*found.sentences, *bought]:
            click.echo(text)
        _print_arms(found)
    if html:
        from gilt.reports.worth import worth_page

        worth_page(found, to=html, title=Store(store).summary["name"], command=_command(store, found.metric, curve, way, cost),
                   bought=bought)
        say(f"wrote {html}")


def _print_arms(found) -> None:
    from gilt.reports.worth import HEADER, worth_rows

    if rows := worth_rows(found):
        click.echo()
        print_table(HEADER, rows)


def _command(store: Path | str, metric: str, curve: str, way: str, cost: tuple[float, float] | None) -> str:
    words = ["gilt", "worth", str(store), "--metric", metric]
    words += [] if curve == "auto" else ["--curve", curve]
    words += [] if way == "paired" else ["--interval", way]
    return shlex.join(words + (["--cost", *(f"{x:g}" for x in cost)] if cost else []))
