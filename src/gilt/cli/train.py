"""The command `gilt train`."""
from pathlib import Path

import click

from gilt.cli.show import SEED, TrainLine, check_output, say, settings_option, warnings_shown


@click.command(epilog="""\b
Example:
  gilt train groceries.parquet --set train.model=thesis2 --set train.epochs=5 -o groceries.safetensors
  gilt train groceries.parquet --set target=origin -o detector.safetensors""")
@click.argument("table", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The classifier (safetensors) to write.")
@click.option("--config", type=click.Path(path_type=Path), help="A TOML file of settings (a study's [base]).")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--root", type=click.Path(path_type=Path), help="Where the table's images are now, if they moved.")
@settings_option
def train(table: Path, output: Path, config: Path | None, seed: int, root: Path | None,
          settings: tuple[str, ...]) -> None:
    """Train one classifier on a table's train rows; the target is class or origin.

    Rows without a split are dealt first (70-15-15). Test rows are not read: see gilt evaluate.
    """
    from gilt.config import TrialConfig
    from gilt.data.table import ImageTable
    from gilt.engine.judge import memory
    from gilt.engine.train import train as run
    from gilt.files import read_toml
    from gilt.settings import override, parse
    from gilt.studies.runner import prepare

    check_output(output)
    trial = parse(TrialConfig, override(read_toml(config) if config else {}, settings), where=str(config or "--set"))
    with warnings_shown():
        whole = ImageTable.load(table, root=root)
        dealt, rows = prepare(whole, trial, seed=seed)
        rows.check_files()
        classifier = run(rows, trial.train, seed=seed, progress=TrainLine(), classes=dealt.usable.names(trial.target),
                         log_dir=output.with_suffix(".tensorboard"))
    classifier.provenance |= memory(whole, rows, trial)
    classifier.save(output)
    last = classifier.history[-1]
    val = "no val rows" if last["val_accuracy"] is None else f"val accuracy {last['val_accuracy']:.3f}"
    say(f"wrote {output}: {classifier!r}; {val} (n = {classifier.provenance['n_val']}) after {len(classifier.history)} epochs")
