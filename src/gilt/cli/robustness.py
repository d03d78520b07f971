"""The command robustness: a detector judged on images that went through JPEG, messengers, screenshots and the like."""
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gilt.cli.detector import CHOSEN, shortcut_lines, trained_lines
from gilt.cli.show import SEED, bar, check_output, print_table, say, warnings_shown

if TYPE_CHECKING:
    from gilt.evaluation.robustness import Point, Robustness


def _list_changes(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    """Print the changes and leave: an option that needs no detector."""
    if not wanted:
        return
    from gilt.data.perturb import KINDS

    print_table(["change", "strength", "tried where none is named"],
                [[name, kind.meaning, ", ".join(f"{value:g}" for value in kind.grid)] for name, kind in KINDS.items()])
    context.exit()


@click.command(epilog="""\b
Example:
  gilt robustness detector.safetensors groceries.parquet -o robust/
  gilt robustness detector.safetensors groceries.parquet -o robust/ --change jpeg=90,70,50 --change messenger --most 500
  gilt robustness --list""")
@click.argument("detector", type=click.Path(path_type=Path))
@click.argument("table", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True,
              help="The folder for the predictions under each change, and robustness.html.")
@click.option("--change", "texts", multiple=True, metavar="KIND[=STRENGTHS]",
              help="Make this change only, as in jpeg=90,50, or jpeg for its own strengths. May be repeated. [default: all]")
@click.option("--list", is_flag=True, is_eager=True, expose_value=False, callback=_list_changes,
              help="List the changes and their strengths, and exit.")
@click.option("--split", "part", default="test", show_default=True, type=click.Choice(["train", "val", "test", "all"]),
              help="The rows to judge on. A table without splits is judged whole.")
@click.option("--most", type=click.IntRange(1), help="Judge on so many images of each origin at most, drawn by --seed.")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--root", type=click.Path(path_type=Path), help="Where the table's images are now, if they moved.")
@click.option("--html", type=click.Path(path_type=Path), help="The page to write [default: OUTPUT/robustness.html].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: calibration, notes, plain, points, shortcuts.")
def robustness(detector: Path, table: Path, output: Path, texts: tuple[str, ...], html: Path | None, as_json: bool,
               **choices: Any) -> None:
    """Judge a detector on images that all went through the same change, real and generated ones alike.

    Each change is made by a real encoder to the file's own pixels. The threshold is the detector's own, from validation.
    Run again to go on: a change that is predicted already is not predicted again.
    """
    from gilt.data.perturb import changes_of
    from gilt.data.table import ImageTable
    from gilt.engine.judge import judged_rows
    from gilt.engine.robustness import robustness as run
    from gilt.engine.robustness import sampled
    from gilt.models.classifier import load_classifier
    from gilt.models.device import pick_device

    changes, page = changes_of(texts), html or output / "robustness.html"
    check_output(page)
    known = load_classifier(detector, device=pick_device())
    with warnings_shown(), bar("predicting") as progress:
        whole = ImageTable.load(table, root=choices["root"])
        rows = judged_rows(known, whole, choices["part"])
        rows = sampled(rows, choices["most"], seed=choices["seed"]) if choices["most"] else rows
        found = run(known, rows, changes, folder=output, progress=progress)
    own = whole.fingerprint == known.provenance.get("source_table")
    shortcuts, warnings = _warnings(rows, known, own and choices["part"] != "test")
    if as_json:
        click.echo(json.dumps(found.as_json() | {"shortcuts": shortcuts}, indent=1))
    else:
        _print(found, warnings)
    from gilt.reports.robustness import robustness_page

    about = f"{'' if choices['part'] == 'all' else choices['part'] + ' '}images of {table.name}"
    about += f", at most {choices['most']} of each origin" if choices["most"] else ""
    robustness_page(found, to=page, name=detector.name, about=about, warnings=warnings)
    say(f"wrote {page}; predictions under each change in {output / 'predictions'}")


def _warnings(rows: Any, known: Any, chosen_by: bool) -> tuple[list[Any], list[str]]:
    from gilt.data.audit import origin_shortcuts

    shortcuts, skipped = origin_shortcuts(rows)
    lines = shortcut_lines(shortcuts, skipped, equal=known.preprocessing.equal is not None)
    return [one.as_json() for one in shortcuts], [*lines, *trained_lines(known), *([CHOSEN] if chosen_by else [])]


def _print(found: "Robustness", warnings: list[str]) -> None:
    from gilt.evaluation.metrics import spoken
    from gilt.evaluation.robustness import SHOWN
    from gilt.reports.robustness import in_order, robustness_verdict

    for line in warnings:
        click.echo(f"{line}\n")
    for sentence in robustness_verdict(found):
        click.echo(sentence)
    names = [name for name in SHOWN if name in found.plain.metrics]
    click.echo("")
    print_table(["change", *(spoken(name) + ("" if name in ("auroc", "tpr_at_5_fpr") else " *") for name in names), "flipped *",
                 "worst generator *", "n"], [_row(point, names) for point in in_order(found)])
    click.echo("* at the detector's own threshold; intervals: --json and the page")
    for note in found.notes:
        click.echo(f"note: {note}")


def _row(point: "Point", names: list[str]) -> list[Any]:
    worst = f"{point.worst} {point.generators[point.worst].value:.3f}" if point.worst else None
    flipped = point.metrics.get("flipped")
    return [point.name, *(point.metrics[name].value for name in names), flipped and flipped.value, worst,
            point.n_real + point.n_generated]
