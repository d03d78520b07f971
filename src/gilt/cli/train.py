"""The command `gilt train`."""
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gilt.cli.show import SEED, TrainLine, check_output, say, settings_option, warnings_shown

if TYPE_CHECKING:
    from gilt.data.table import ImageTable
    from gilt.engine.train import Epoch

WIDTH = 100


def _list_recipes(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    """Print the recipes and leave: an option that needs no table."""
    if not wanted:
        return
    from gilt.training import recipes

    for name, recipe in recipes().items():
        unstated = recipe.get("unstated", {})
        settings = [f"{key}={_said(value)}{'*' if key in unstated else ''}" for key, value in recipe["train"].items()]
        came = recipe.get("reported", {})
        lines = {"source": recipe["source"], "settings": "  ".join(settings),
                 "reported": "; ".join([*(f"{key} {_said(value)}" for key, value in came.items() if key != "on"),
                                        *([f"on {came['on']}"] if "on" in came else [])])}
        heading = textwrap.fill(f"{name}: {recipe['about']}", WIDTH, subsequent_indent="  ", break_on_hyphens=False)
        click.echo(click.style(name, bold=True) + heading.removeprefix(name))
        for key, text in lines.items():
            if text:
                click.echo(textwrap.fill(text, WIDTH, initial_indent=f"  {key:<9} ", subsequent_indent=" " * 12,
                                         break_long_words=False, break_on_hyphens=False))
        click.echo("")
    click.echo("* not stated in the source: docs/recipes.md says where each is from")
    context.exit()


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={_said(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_said(item) for item in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


@click.command(epilog="""\b
Example:
  gilt train groceries.parquet --set train.model=thesis2 --set train.epochs=5 -o groceries.safetensors
  gilt train groceries.parquet --set target=origin -o detector.safetensors
  gilt train groceries.parquet --recipe modern-small -o groceries.safetensors""")
@click.argument("table", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The classifier (safetensors) to write.")
@click.option("--config", type=click.Path(path_type=Path), help="A TOML file of settings (a study's [base]).")
@click.option("--recipe", help="Start from a recipe's settings: short for --set train.recipe=NAME.")
@click.option("--recipes", is_flag=True, is_eager=True, expose_value=False, callback=_list_recipes,
              help="List the recipes with their source, settings and reported results, and exit.")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--root", type=click.Path(path_type=Path), help="Where the table's images are now, if they moved.")
@settings_option
def train(table: Path, output: Path, config: Path | None, recipe: str | None, seed: int, root: Path | None,
          settings: tuple[str, ...]) -> None:
    """Train one classifier on a table's train rows; the target is class or origin.

    Rows without a split are dealt first (70-15-15). Test rows are not read: see gilt evaluate. A long training keeps its
    state in OUTPUT.part: after a kill or Ctrl-C, the same command goes on from there.
    """
    from gilt.config import TrialConfig
    from gilt.data.table import ImageTable
    from gilt.engine.judge import memory
    from gilt.engine.train import train as run
    from gilt.files import read_toml
    from gilt.settings import override, parse
    from gilt.studies.trial import prepare

    check_output(output)
    given = ((f"train.recipe={recipe}",) if recipe else ()) + settings
    trial = parse(TrialConfig, override(read_toml(config) if config else {}, given), where=str(config or "--set"))
    part = output.with_name(f"{output.name}.part")
    with warnings_shown():
        whole = ImageTable.load(table, root=root)
        dealt, rows = prepare(whole, trial, seed=seed)
        rows.check_files()
        kept, looked = part.exists(), _shortcuts(rows) if trial.target == "origin" else {}

        def tell(_epoch: "Epoch") -> None:
            nonlocal kept
            if part.exists() and not kept:
                kept = True
                say(f"the training's state is kept in {part}: after a kill or Ctrl-C, the same command goes on from there")

        try:
            classifier = run(rows, trial.train, seed=seed, progress=TrainLine(), classes=dealt.usable.names(trial.target),
                             log_dir=output.with_suffix(".tensorboard"), checkpoint=part, on_epoch=tell)
        except KeyboardInterrupt:
            if part.exists():
                say(f"\nthe training so far is in {part}: the same command goes on from there")
            raise
    classifier.provenance |= memory(whole, rows, trial) | looked
    classifier.save(output)
    say(_result(classifier, output))


def _shortcuts(rows: "ImageTable") -> dict[str, Any]:
    """Tell, before a detector is trained, what gives the origin away without a pixel; return it for the provenance."""
    from gilt.cli.detector import shortcut_lines
    from gilt.data.audit import origin_shortcuts

    found, skipped = origin_shortcuts(rows.where(split=("train", "val")))
    for line in shortcut_lines(found, skipped):
        say(line)
    return {"shortcuts": [{"severity": one.severity, "score": round(one.score, 4), "meaning": one.meaning} for one in found]}


def _result(classifier, output: Path) -> str:
    """Return the line on what came of it: the epoch that was kept, and what it was worth on val."""
    from gilt.errors import counted

    known, history = classifier.provenance, classifier.history
    kept = history[known.get("kept_epoch", len(history)) - 1]
    val = "no val rows" if kept["val_accuracy"] is None else f"val accuracy {kept['val_accuracy']:.3f}"
    if "head" in known:
        return (f"wrote {output}: {classifier!r}; {val} (n = {known['n_val']}), the head fitted at one go"
                f"{_threshold(classifier)}")
    epochs = counted(len(history), "epoch")
    ended = f"after {epochs}" if len(history) == kept["epoch"] else f"in epoch {kept['epoch']} of {len(history)}"
    why = f"; stopped: {known['stopped']}" if known.get("stopped", "").startswith("no better") else ""
    return f"wrote {output}: {classifier!r}; {val} (n = {known['n_val']}) {ended}{why}{_threshold(classifier)}"


def _threshold(classifier) -> str:
    found = classifier.calibration
    return f"; threshold {found.threshold:.3f} ({found.rule}), temperature {found.temperature:.2f}" if found else ""
