"""Commands on published experiments: study presets, study heatmap; and the table of published beside measured."""
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gilt.cli.show import STORE, check_output, print_table, say

if TYPE_CHECKING:
    from gilt.config import TrialConfig
    from gilt.studies.about import Published
    from gilt.studies.store import Store


@click.command(epilog="""\b
Example:
  gilt study presets
  gilt study presets thesis-hair""")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print all of it as JSON.")
@click.option("--toml", "as_toml", is_flag=True, help="Print the preset's file, to start a study of your own from.")
def presets(name: str | None, as_json: bool, as_toml: bool) -> None:
    """List the experiments that come with gilt, or show one: its data, its trials, its published figures.

    A preset is run on a table of your own: gilt study run NAME --data TABLE.parquet --store DIR (a tuning with gilt tune).
    """
    from dataclasses import asdict

    from gilt.studies.presets import describe
    from gilt.studies.presets import presets as found

    if name is None and as_toml:
        raise click.UsageError("--toml prints one preset's file: name it")
    if name is None:
        every = found()
        if as_json:
            click.echo(json.dumps([asdict(preset) | {"command": preset.command} for preset in every], indent=1))
            return
        rows = [[p.name, p.category, p.what, f"{p.arms} x {p.seeds}", p.published, p.kind] for p in every]
        print_table(["preset", "category", "what", "arms x seeds", "published", "kind"], rows)
        say("gilt study presets NAME shows one: where to get its data, how to lay it out, and its published figures")
        return
    preset = describe(name)
    if as_toml:
        click.echo(preset["text"], nl=False)
    elif as_json:
        click.echo(json.dumps({key: value for key, value in preset.items() if key != "text"}, indent=1))
    else:
        _print(preset)


def _print(preset: dict[str, Any]) -> None:
    from gilt.studies.published import images_there

    about = preset["about"]
    click.secho(preset["name"], bold=True)
    click.echo(f"{preset['claim']}\n")
    lines = {name: about[name] for name in ("source", "data", "layout")}
    lines |= {"images": images_there(about["images"]), "scan": about["scan"], "run": preset["command"]}
    for key, text in lines.items():
        if text:
            click.echo(f"{key:<7} {text}")
    for key, title in (("says", "The document says"), ("differs", "gilt does otherwise"), ("unclear", "Not clear")):
        said = [*about[key], *(preset["figures"].get("says", []) if key == "says" and preset["kind"] == "tuning" else [])]
        if said:
            click.secho(f"\n{title}", italic=True)
        for text in said:
            click.echo(f"- {text}")
    if preset["kind"] == "study":
        _print_arms(preset)


def _print_arms(preset: dict[str, Any]) -> None:
    """Print each arm's settings with its published figures."""
    from gilt.studies.study import Study

    plan = Study.load(preset["name"], data="TABLE.parquet")
    rows = []
    for name in plan.published or plan.arms:
        figures = plan.published.get(name)
        config = plan.arms[figures.same_as if figures and figures.same_as else name]
        said = [getattr(figures, key, None) for key in ("train_set", "val_set", "generated", "real")]
        rows.append([name, config.train.model, config.train.batch_size, config.train.epochs, _mix(config), *said,
                     _figures(figures), (figures and figures.note) or None])
    header = ["arm", "model", "batch", "epochs", "mix", "train set", "val set", "# AI", "# real", "published", "note"]
    kept = [i for i in range(len(header)) if any(row[i] is not None for row in rows)]
    click.echo()
    print_table([header[i] for i in kept], [[row[i] for i in kept] for row in rows])


def _mix(config: "TrialConfig") -> str | None:
    """Return what an arm's mix says beyond the defaults, as in "share 0.2, val mix"."""
    said = config.mix.model_dump(exclude_defaults=True)
    return ", ".join(f"{key} {value}" for key, value in said.items()) or None


def _figures(figures: "Published | None") -> str | None:
    parts = {"test": figures.test, "val": figures.val, **figures.others} if figures else {}
    return "; ".join(f"{part} " + ", ".join(f"{metric} {value:g}" for metric, value in found.items())
                     for part, found in parts.items() if found) or None


def print_published(store: "Store", *, as_json: bool = False) -> None:
    """Print the figures of a study's document beside those measured, and how the two differ."""
    from dataclasses import asdict

    from gilt.errors import StoreError
    from gilt.studies.published import how_it_differs, published_rows, published_table

    rows = published_rows(store)
    if as_json:
        click.echo(json.dumps([asdict(row) | {"difference": row.difference} for row in rows], indent=1))
        return
    if not rows:
        raise StoreError(f"{store.address} is no run of a study with published figures: a study file holds them under "
                         "[published.ARM]; gilt study presets lists those that do")
    print_table(*published_table(rows))
    for sentence in how_it_differs(store):
        say(f"- {sentence}")


@click.command(epilog="""\b
Example:
  gilt study heatmap runs/birds runs/fruit --metric auroc -o heat.html""")
@click.argument("stores", nargs=-1, required=True, type=STORE)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A .png, .svg, .html, .csv or .md.")
@click.option("--metric", default="auroc", show_default=True, help="Any metric of gilt evaluate.")
@click.option("--arms", multiple=True, metavar="NAME", help="Only arms of this name, or pattern. May be repeated.")
@click.option("--part", type=click.Choice(["test", "val"]), default="test", show_default=True)
def heatmap(stores: tuple[Path | str, ...], output: Path | None, metric: str, arms: tuple[str, ...], part: str) -> None:
    """Show networks x data sets in one metric, over the stores of several studies: a table, and a picture of it.

    A row is a network, a column a study; a study whose networks have several training sets has a column for each. A cell is
    the mean over seeds.
    """
    from gilt.reports.heatmap import write_heatmap
    from gilt.studies.literature import heat_table

    if output:
        check_output(output)
    table = heat_table(stores, metric=metric, arms=arms or ("*",), part=part)
    print_table(["network", *table.columns], [[name, *row] for name, row in zip(table.networks, table.means, strict=True)])
    if output:
        say(f"wrote {write_heatmap(table, output)}")
