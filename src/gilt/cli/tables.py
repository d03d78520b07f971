"""Commands that make tables: scan, join, mix."""
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gilt.cli.show import SEED, TARGET, bar, check_output, print_table, say, settings_option, warnings_shown

if TYPE_CHECKING:
    from gilt.data.table import ImageTable


def _show_layouts(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    """Print the presets with their examples, and leave."""
    if not wanted:
        return
    from gilt.data.presets import PRESETS

    for preset in PRESETS.values():
        click.echo(f"{preset.name}: {preset.says}")
        for line in preset.example:
            click.echo(f"    {line}")
        if preset.unsaid:
            click.echo(f"    needs --constant {preset.unsaid}=real (or a generator's name), or --column {preset.unsaid}=COLUMN")
        click.echo(f"    {preset.source}\n")
    click.echo("or patterns, as in '{origin}/{split}/{class}' or '{class}/{origin}_*.jpg'")
    context.exit()


@click.command(epilog="""\b
Example:
  gilt scan groceries/ --layout '{origin}/{split}/{class}' --layout '{origin}/{class}' -o groceries.parquet
  gilt scan photos.zip --layout '{class}' --constant origin=real -o photos.parquet
  gilt scan hf:uoft-cs/cifar10 --layout huggingface --constant origin=real -o cifar10.parquet""")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--layout", "layouts", multiple=True, metavar="NAME|PATTERN",
              help="A preset's name (--layouts lists them), or what the folders of a path say: {origin}, {class}, {split} in "
                   "any order, * for nothing. Of several patterns the first that fits a path's depth counts.  "
                   "[default: {origin}/{class}; huggingface for Parquet files]")
@click.option("--layouts", "show", is_flag=True, is_eager=True, expose_value=False, callback=_show_layouts,
              help="List the presets with examples, and leave.")
@click.option("--constant", "constants", multiple=True, metavar="NAME=VALUE",
              help="What the collection does not say, as in --constant origin=real.")
@click.option("--column", "columns", multiple=True, metavar="NAME=COLUMN",
              help="Which column of the collection's lists says a thing, as in --column class=label.")
@click.option("--source", metavar="stem[:SPLIT]",
              help="Link each generated image to the real one of its class with the same file name, so that it follows "
                   "that one into its split. stem:train says that all were made from training images.")
@click.option("--containers/--no-containers", default=None,
              help="Whether zip and tar files in the folder count as folders.  [default: where it has no other image]")
@click.option("--afresh", is_flag=True, help="Read every file again, also where OUTPUT has it as it is now.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The table (Parquet) to write.")
def scan(folder: Path, layouts: tuple[str, ...], constants: tuple[str, ...], columns: tuple[str, ...], source: str | None,
         containers: bool | None, afresh: bool, output: Path) -> None:
    """Read a collection of images into a table: a folder, a zip, tar or Parquet file, hf:owner/name, kaggle:owner/name.

    Files are read, never changed. Unreadable images stay in the table, with the reason. Where OUTPUT is a table of the
    same folder, only new and changed files are read; a scan that was stopped goes on where it was.
    """
    from gilt.data.hub import fetched
    from gilt.data.scan import scan as run

    check_output(output)
    journal = output.with_name(f".{output.name}.journal")
    with warnings_shown():
        root = fetched(folder)
        known = _known(output, root, afresh)
        if afresh:
            journal.unlink(missing_ok=True)
        with bar("reading images") as progress:
            table = run(root, list(layouts) or None, known=known, journal=journal, progress=progress, source=source,
                        constants=_pairs("--constant", constants), columns=_pairs("--column", columns), containers=containers)
    table.save(output)
    journal.unlink(missing_ok=True)
    _summary(table)
    say(f"wrote {output}: {len(table):,} rows, fingerprint {table.fingerprint}")


def _known(output: Path, root: Path, afresh: bool) -> "ImageTable | None":
    """Return the table in `output` where it is one of the same root. Raises where it is a file of another kind."""
    from gilt.data.table import ImageTable
    from gilt.errors import TableError

    if not output.exists():
        return None
    if output.resolve() == root.resolve():
        raise click.UsageError(f"{output} is what is to be read: name another file to write")
    try:
        table = ImageTable.load(output)
    except TableError as error:
        raise click.UsageError(f"{output} is there, and is no table to go on from or to write over ({error}): name another "
                               "file, or delete it") from None
    return table if table.root.resolve() == root.resolve() and not afresh else None


def _pairs(option: str, texts: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for name, equals, value in pairs:
        if not equals or not name.strip() or not value.strip():
            raise click.UsageError(f"{option} takes name=value, not {name + equals + value!r}")
    return {name.strip(): value.strip() for name, _, value in pairs}


@click.command(epilog="""\b
Example:
  gilt mix birds-split.parquet --set mode=add --set generated=400 -o birds-plus-400.parquet""")
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--target", type=TARGET, default="class", show_default=True)
@click.option("--seed", type=SEED, default=0, show_default=True)
@settings_option
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The table to write.")
def mix(table: Path, target: str, seed: int, settings: tuple[str, ...], output: Path) -> None:
    """Make a training set of real and generated rows; test rows are untouched.

    Settings: mode (share, add, replace), share, generated, total, max_real, max_generated, val (real, generated, mix).
    To make classes uneven: imbalance (largest to smallest), or max_real_by_class. To even them out again: balance (over,
    under, smote, weights, generated) and degree (0 to 1); see gilt balance. To leave generated images out first, marked with
    the reason: choose.copies, choose.off_class, choose.confidence, and choose.keep (nearest, farthest, typical, coverage,
    random) with choose.part or choose.count.
    """
    from gilt.config import MixConfig
    from gilt.data.balance import times
    from gilt.data.table import ImageTable
    from gilt.engine.choose import mixed, with_left_out
    from gilt.settings import override, parse

    config = parse(MixConfig, override({}, settings), where="--set")
    with warnings_shown():
        result, choice = mixed(ImageTable.load(table), config, target=target, seed=seed)
    if choice:
        result = with_left_out(result, choice)
    result.save(output)
    _summary(result)
    train = result.usable.where(split="train")
    if (drawn := int(times(train).sum())) != len(train):
        say(f"an epoch draws {drawn:,} rows: some of the {len(train):,} train rows several times")
    say(f"wrote {output}: fingerprint {result.fingerprint}")


@click.command(epilog="""\b
Example:
  gilt join photographs.parquet flow.parquet -o both.parquet""")
@click.argument("tables", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The table (Parquet) to write.")
def join(tables: tuple[Path, ...], output: Path) -> None:
    """Join tables of several folders into one, such as photographs of here and generated images of there.

    Images are neither moved nor copied. What was made from a photograph of another of the tables is linked to it, so that it
    follows it into its split. Splits are taken as they are: gilt split deals the rest.
    """
    from gilt.data.join import join as run
    from gilt.data.table import ImageTable

    if len(tables) < 2:
        raise click.UsageError("join takes two tables or more")
    check_output(output)
    with warnings_shown():
        result = run([ImageTable.load(path) for path in tables])
    result.save(output)
    _summary(result)
    say(f"wrote {output}: {len(result):,} rows under {result.root}, fingerprint {result.fingerprint}")


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
