"""The command `gilt train`."""
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gilt.cli.show import SEED, TARGET, TrainLine, check_output, say, settings_option, warnings_shown

if TYPE_CHECKING:
    from gilt.config import TrialConfig
    from gilt.data.table import ImageTable
    from gilt.engine.train import Epoch
    from gilt.training import TrainConfig

WIDTH = 100
UNEVEN = 1.5  # times as many rows of one side as of the other: they are then weighed


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
  gilt train groceries.parquet --target origin --equalise -o detector.safetensors
  gilt train groceries.parquet --target generator -o attribution.safetensors
  gilt train groceries.parquet --recipe modern-small -o groceries.safetensors""")
@click.argument("table", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The classifier (safetensors) to write.")
@click.option("--target", type=TARGET, help="What to tell: the class; real or generated; or real or which generator. Short for "
              "--set target=TARGET.  [default: class]")
@click.option("--config", type=click.Path(path_type=Path), help="A TOML file of settings (a study's [base]).")
@click.option("--recipe", help="Start from a recipe's settings: short for --set train.recipe=NAME.")
@click.option("--recipes", is_flag=True, is_eager=True, expose_value=False, callback=_list_recipes,
              help="List the recipes with their source, settings and reported results, and exit.")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--root", type=click.Path(path_type=Path), help="Where the table's images are now, if they moved.")
@click.option("--equalise", is_flag=True, help="Bring all images to one size and one encoding, in training and in use: short "
              "for --set train.equalise=true.")
@settings_option
def train(table: Path, output: Path, config: Path | None, seed: int, root: Path | None, settings: tuple[str, ...],
          **short: Any) -> None:
    """Train one classifier on a table's train rows; the target is class, origin or generator.

    Rows without a split are dealt first (70-15-15). Test rows are not read: see gilt evaluate. A long training keeps its
    state in OUTPUT.part: after a kill or Ctrl-C, the same command goes on from there.
    """
    from gilt.config import TrialConfig
    from gilt.data.table import ImageTable
    from gilt.engine.judge import memory
    from gilt.engine.train import train as run
    from gilt.files import read_toml
    from gilt.settings import override, parse
    from gilt.studies.trial import logit_names
    from gilt.training import detects

    check_output(output)
    given = tuple(f"{name}={value}" for name, value in (
        ("train.recipe", short["recipe"]), ("target", short["target"]), ("train.equalise", "{}" if short["equalise"] else None))
        if value)
    trial = parse(TrialConfig, override(read_toml(config) if config else {}, given + settings), where=str(config or "--set"))
    part = output.with_name(f"{output.name}.part")
    with warnings_shown():
        whole = ImageTable.load(table, root=root)
        trial, dealt, rows = _dealt(whole, trial, seed)
        rows.check_files()
        kept, looked = part.exists(), _shortcuts(rows, trial.train) if detects(trial.target) else {}

        def tell(_epoch: "Epoch") -> None:
            nonlocal kept
            if part.exists() and not kept:
                kept = True
                say(f"the training's state is kept in {part}: after a kill or Ctrl-C, the same command goes on from there")

        try:
            classifier = run(rows, trial.train, seed=seed, progress=TrainLine(), classes=logit_names(dealt, trial.target),
                             log_dir=output.with_suffix(".tensorboard"), checkpoint=part, on_epoch=tell)
        except KeyboardInterrupt:
            if part.exists():
                say(f"\nthe training so far is in {part}: the same command goes on from there")
            raise
    classifier.provenance |= memory(whole, rows, trial) | looked
    classifier.save(output)
    say(_result(classifier, output))


def _dealt(whole: "ImageTable", trial: "TrialConfig", seed: int) -> "tuple[TrialConfig, ImageTable, ImageTable]":
    """Return (settings, all rows dealt, the rows to use); a detector whose sides are uneven weighs them, and says so."""
    from gilt.data.balance import balanced_by
    from gilt.errors import listed
    from gilt.studies.trial import prepare
    from gilt.training import detects

    dealt, rows = prepare(whole, trial, seed=seed)
    learnt = rows.where(split="train")
    counts = learnt.labels(trial.target).value_counts()
    if not detects(trial.target) or "balance" in trial.mix.model_fields_set or balanced_by(learnt) \
            or counts.max() < UNEVEN * counts.min():
        return trial, dealt, rows
    rows_said = listed(f"{name} {count:,}" for name, count in counts.items())
    say(f"the training rows are uneven ({rows_said}): each side counts the same in the loss, as mix.balance=weights has it "
        "(--set mix.balance=weights --set mix.degree=0 leaves them as they are)")
    trial = trial.model_copy(update={"mix": trial.mix.model_copy(update={"balance": "weights"})})
    return trial, *prepare(whole, trial, seed=seed)


def _shortcuts(rows: "ImageTable", config: "TrainConfig") -> dict[str, Any]:
    """Tell, before a detector is trained, what gives the origin away without a pixel; return it for the provenance."""
    from gilt.cli.detector import shortcut_lines
    from gilt.data.audit import generator_shortcuts, origin_shortcuts

    learnt = rows.where(split=("train", "val"))
    found, skipped = origin_shortcuts(learnt)
    found += generator_shortcuts(learnt) if config.target == "generator" else []
    for line in shortcut_lines(found, skipped, equal=config.equalise is not None):
        say(line)
    if any(one.severity == "high" for one in found) and not config.equalise:
        say("Or train with --equalise: this detector then sees all images at one size and in one encoding, here and in use.")
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
