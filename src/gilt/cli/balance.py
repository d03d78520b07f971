"""The command that evens out classes: balance."""
from pathlib import Path
from typing import get_args

import click

from gilt.cli.show import SEED, TARGET, check_output, print_table, say, settings_option, warnings_shown


@click.command(epilog="""\b
Example:
  gilt balance birds-split.parquet --set method=over --set degree=0.5 -o birds-even.parquet
  gilt train birds-even.parquet -o birds.safetensors""")
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--target", type=TARGET, default="class", show_default=True,
              help="What to even out: the classes, real against generated, or real and each generator.")
@click.option("--seed", type=SEED, default=0, show_default=True)
@settings_option
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The table to write.")
def balance(table: Path, target: str, seed: int, settings: tuple[str, ...], output: Path) -> None:
    """Even out the sizes of classes among a table's train rows; val and test rows are untouched.

    Settings: method (over: draw rows of small classes several times an epoch; under: leave rows of large ones out;
    generated: fill small classes up with generated images; weights: weigh small classes more in the loss; smote: new points
    between frozen features) and degree, 0 (as it is) to 1 (all alike). In a study, set mix.balance and mix.degree instead.
    """
    from gilt.config import Balance, BalanceConfig
    from gilt.data.balance import balance as run
    from gilt.data.table import ImageTable
    from gilt.settings import override, parse

    check_output(output)
    given = override({}, settings)
    if "method" not in given:
        raise click.UsageError(f"say how: --set method={'|'.join(get_args(Balance))}")
    config = parse(BalanceConfig, given, where="--set")
    before = ImageTable.load(table)
    with warnings_shown():
        result = run(before, config.method, degree=config.degree, target=target, seed=seed)
    result.save(output)
    _print_sizes(before.usable.where(split="train"), result.where(split="train"), target)
    say(f"wrote {output}: fingerprint {result.fingerprint}")
    if config.method in NEXT:
        say(NEXT[config.method])
    made = len(result.where(split="train").generated)
    if made and target == "class" and config.method != "generated":
        say(f"{made:,} generated rows are balanced along with the photographs: train on all with --set mix.mode=add, or make a "
            "table of photographs first (gilt mix)")


NEXT = {
    "generated": "train on it with --set mix.mode=add: by default photographs alone are trained on",
    "weights": "the rows are as they were: the column loss_weight acts on the loss in training, as mix.balance='weights' does",
    "smote": "the rows are as they were: new points are made between features in training, with --set train.frozen=true, as "
             "mix.balance='smote' does"}


def _print_sizes(before, after, target: str) -> None:
    """Print each class's train rows before and after: distinct ones, and what an epoch makes of them."""
    from gilt.data.balance import part_in_training

    parts = part_in_training(after, target)
    old, new, real = (rows.labels(target).value_counts() for rows in (before, after, after.real))
    whole = all(part == int(part) for part in parts.values())
    rows = [[name, int(old.get(name, 0)), int(new.get(name, 0)), int(new.get(name, 0) - real.get(name, 0)),
             int(parts.get(name, 0)) if whole else parts.get(name, 0.0)] for name in before.names(target)]
    print_table([target, "rows before", "rows after", "of them generated", "counts as"], rows)
