"""Commands that make tables: scan, split, mix."""
from pathlib import Path

import click

from gilt.cli.show import SEED, bar, check_output, print_table, say, settings_option, warnings_shown


@click.command(epilog="""\b
Example:
  gilt scan groceries/ --layout '{origin}/{split}/{class}' --layout '{origin}/{class}' -o groceries.parquet""")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--layout", "layouts", multiple=True, metavar="PATTERN", default=("{origin}/{class}",), show_default=True,
              help="What the folders of a path say: {origin}, {class}, {split} in any order, * for nothing. Several "
                   "patterns may be given: the first that fits a path's depth counts.")
@click.option("--constant", "constants", multiple=True, metavar="NAME=VALUE",
              help="What no path says, as in --constant origin=real.")
@click.option("--source", metavar="stem[:SPLIT]",
              help="Link each generated image to the real one of its class with the same file name, so that it follows "
                   "that one into its split. stem:train says that all were made from training images.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The table (Parquet) to write.")
def scan(folder: Path, layouts: tuple[str, ...], constants: tuple[str, ...], source: str | None, output: Path) -> None:
    """Read a folder of images into a table.

    Files are read, never changed. Unreadable images stay in the table, with the reason.
    """
    from gilt.data.scan import scan as run

    check_output(output)
    pairs = [text.partition("=") for text in constants]
    for name, equals, _ in pairs:
        if not equals:
            raise click.UsageError(f"--constant takes name=value, not {name!r}")
    with warnings_shown(), bar("reading images") as progress:
        table = run(folder, list(layouts), constants={name: value for name, _, value in pairs}, source=source,
                    progress=progress)
    table.save(output)
    _summary(table)
    say(f"wrote {output}: {len(table):,} rows, fingerprint {table.fingerprint}")


@click.command(epilog="""\b
Example:
  gilt split birds.parquet --set train=0.8 --set val=0.1 --set test=0.1 --seed 0 -o birds-split.parquet""")
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--target", type=click.Choice(["class", "origin"]), default="class", show_default=True,
              help="For `class`, test rows are photographs only.")
@click.option("--seed", type=SEED, default=0, show_default=True)
@settings_option
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The table to write.")
def split(table: Path, target: str, seed: int, settings: tuple[str, ...], output: Path) -> None:
    """Deal a table's rows into train, val and test.

    Existing splits are kept. Settings: train, val, test (parts that add up to 1), val_from_test, keep, seed.
    """
    from gilt.config import SplitConfig, override, parse
    from gilt.data.split import split as run
    from gilt.data.table import ImageTable

    config = parse(SplitConfig, override({}, settings), where="--set")
    result = run(ImageTable.load(table), config, target=target, seed=seed)
    result.save(output)
    _summary(result)
    say(f"wrote {output}: fingerprint {result.fingerprint}")


@click.command(epilog="""\b
Example:
  gilt mix birds-split.parquet --set mode=add --set generated=400 -o birds-plus-400.parquet""")
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--target", type=click.Choice(["class", "origin"]), default="class", show_default=True)
@click.option("--seed", type=SEED, default=0, show_default=True)
@settings_option
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The table to write.")
def mix(table: Path, target: str, seed: int, settings: tuple[str, ...], output: Path) -> None:
    """Make a training set of real and generated rows; test rows are untouched.

    Settings: mode (share, add, replace), share, generated, total, max_real, max_generated, val (real, generated, mix).
    """
    from gilt.config import MixConfig, override, parse
    from gilt.data.mix import mix as run
    from gilt.data.table import ImageTable

    config = parse(MixConfig, override({}, settings), where="--set")
    result = run(ImageTable.load(table), config, target=target, seed=seed)
    result.save(output)
    _summary(result)
    say(f"wrote {output}: fingerprint {result.fingerprint}")


def _summary(table) -> None:
    """Print rows by origin and split, and why rows are left out."""
    usable = table.usable
    frame = usable.frame.assign(split=usable.frame["split"].fillna("no split"))
    splits = [name for name in ("train", "val", "test", "no split") if (frame["split"] == name).any()]
    rows = [[origin, len(usable.where(origin=origin).classes),
             *(int(((frame["origin"] == origin) & (frame["split"] == name)).sum()) for name in splits),
             int((frame["origin"] == origin).sum())] for origin in usable.origins]
    print_table(["origin", "classes", *splits, "all"], rows)
    reasons = table.frame["excluded"].dropna()
    if len(reasons):
        kinds = reasons.map(lambda text: text.split(":")[0]).value_counts()
        say(f"left out: {', '.join(f'{count:,} {kind}' for kind, count in kinds.items())}")
