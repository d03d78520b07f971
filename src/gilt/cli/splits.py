"""Commands about splits: split, split verify."""
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gilt.cli.show import SEED, TARGET, bar, check_output, print_table, say, settings_option, warnings_shown
from gilt.cli.tables import _summary

if TYPE_CHECKING:
    from gilt.config import SplitConfig
    from gilt.data.table import ImageTable


class DefaultGroup(click.Group):
    """A group that is a command too: words that name none of its commands go to `default`, and so does --help."""

    def __init__(self, *arguments: Any, default: click.Command, **settings: Any) -> None:
        super().__init__(*arguments, help=default.help, **settings)
        self.default = default

    def make_context(self, info_name: str | None, args: list[str], parent: click.Context | None = None,
                     **extra: Any) -> click.Context:
        """Return the group's context where the first word is one of its commands, else the default command's."""
        if args and args[0] in self.commands:
            return super().make_context(info_name, args, parent, **extra)
        return self.default.make_context(info_name, args, parent, **extra)


@click.command("split", epilog="""\b
Example:
  gilt split birds.parquet --set train=0.8 --set val=0.1 --set test=0.1 --seed 0 -o birds-split.parquet
  gilt split birds.parquet --set groups=near -o birds-split.parquet --save-split birds.csv
  gilt split elsewhere.parquet --from birds.csv -o birds-again.parquet
  gilt split birds.parquet --folds 5 -o folds/
  gilt split verify birds-split.parquet birds.csv""")
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--target", type=TARGET,
              help="For `class`, test rows are photographs only.  [default: class; origin where generators are held out]")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--folds", type=click.IntRange(2), metavar="K", help="Write K tables into the folder OUTPUT: fold-0.parquet ... "
              "Each photograph is tested in one of them.")
@click.option("--leave-one-generator-out", "each", is_flag=True,
              help="Write a table for each generator into the folder OUTPUT: it is test only, the others are train and val.")
@click.option("--from", "split_file", type=click.Path(path_type=Path), metavar="FILE",
              help="Put the split of a file back, image by image by content, also where files moved or were renamed.")
@click.option("--new", type=click.Choice(["exclude", "free"]), default="exclude", show_default=True,
              help="With --from: images that the file does not know are left out, or stay without a split.")
@click.option("--root", type=click.Path(path_type=Path),
              help="Where the table's images are now, if they moved; only a search for near-duplicates reads them.")
@settings_option
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The table to write, or the folder.")
@click.option("--save-split", "saved", type=click.Path(path_type=Path), metavar="FILE",
              help="Also write the split as a text file to share: one line an image, keyed by its SHA-256. (A folder, where "
                   "several tables are written.)")
def deal(table: Path, output: Path, saved: Path | None, split_file: Path | None, new: str, **choices: Any) -> None:
    """Deal a table's rows into train, val and test.

    Existing splits are kept. Equal content, and an image and what was made of it, never straddle splits. --save-split
    writes the split as a file to share, --from puts it back, `gilt split verify` holds it against the images.

    Settings: train, val, test (parts that add up to 1), val_from_test, keep, seed, groups (near, or a column), overlap
    (exclude, refuse), folds and fold, hold_out (generators) and seen_in_test, by (a column of dates or numbers), cuts and
    years.
    """
    from gilt.data.table import ImageTable

    if split_file is not None:
        _put_back(table, split_file, output, saved, new, choices)
        return
    config, target = _config(choices)
    several = choices["folds"] is not None or choices["each"]
    for path in filter(None, (output, saved)):
        _check_folder(path) if several else check_output(path)
    seed = choices["seed"] if config.seed is None else config.seed
    settings = {**config.model_dump(mode="json"), "target": target, "seed": seed}
    with warnings_shown():
        for name, result, more in _results(ImageTable.load(table, root=choices["root"]), config, target, choices):
            _write(result, output / f"{name}.parquet" if name else output, name)
            if saved:
                _save(result, saved / f"{name}.csv" if name else saved, settings | more)


@click.command("verify", epilog="""\b
Example:
  gilt split verify birds-split.parquet birds.csv""")
@click.argument("table", type=click.Path(path_type=Path))
@click.argument("split_file", type=click.Path(path_type=Path), required=False)
@click.option("--quick", is_flag=True, help="Do not read the files again: trust the hashes in the table.")
@click.option("--group", "groups", multiple=True, metavar="COLUMN",
              help="What may not straddle splits either: near, or a column. What SPLIT_FILE was made with is looked at anyway.")
@click.option("--root", type=click.Path(path_type=Path), help="Where the table's images are now, if they moved.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(table: Path, split_file: Path | None, quick: bool, groups: tuple[str, ...], root: Path | None,
           as_json: bool) -> None:
    """Hold a split against its files, against SPLIT_FILE, and against itself.

    Every file in use is read and hashed again; every image must lie in the split that SPLIT_FILE says; no content, no image
    and what was made of it, and no group may lie in two splits. The exit code is 0 where all holds, 1 where not.
    """
    from gilt.data.table import ImageTable
    from gilt.data.verify import verify_split

    with warnings_shown(), bar("reading images") as progress:
        result = verify_split(ImageTable.load(table, root=root), split_file, quick=quick, groups=groups, progress=progress)
    if as_json:
        click.echo(json.dumps(result.as_json(), indent=1))
    else:
        words = {True: "holds", False: "FAILS", None: "-"}
        print_table(["", "check", "what was found"], [[words[check.holds], check.name, check.text] for check in result])
    failed = [check.name for check in result if check.holds is False]
    say(f"the split does not hold: {', '.join(failed)}" if failed else "the split holds")
    raise SystemExit(1 if failed else 0)


split = DefaultGroup("split", default=deal)
split.add_command(verify)


def _config(choices: dict[str, Any]) -> "tuple[SplitConfig, str]":
    """Return the settings and the target; --folds is a setting too."""
    from gilt.config import SplitConfig
    from gilt.settings import override, parse

    settings = override({}, choices["settings"])
    if choices["folds"] is not None:
        settings["folds"] = choices["folds"]
    config = parse(SplitConfig, settings, where="--set")
    if choices["folds"] is not None and choices["each"]:
        raise click.UsageError("--folds and --leave-one-generator-out are two ways to choose the test rows: keep one")
    held = choices["each"] or bool(config.hold_out)
    return config, choices["target"] or ("origin" if held else "class")


def _results(table: "ImageTable", config: "SplitConfig", target: str,
             choices: dict[str, Any]) -> "Iterator[tuple[str, ImageTable, dict[str, Any]]]":
    """Yield (name, dealt table, settings of its own); the name is "" where there is one table only."""
    from gilt.data.split import folds, leave_one_generator_out
    from gilt.data.split import split as run
    from gilt.training import detects

    if choices["folds"] is not None:
        for i, result in enumerate(folds(table, config, target=target, seed=choices["seed"])):
            yield f"fold-{i}", result, {"fold": i}
    elif choices["each"]:
        if not detects(target):
            raise click.UsageError("--leave-one-generator-out is for --target origin or generator: for `class`, the test is on "
                                   "photographs")
        for name, result in leave_one_generator_out(table, config, seed=choices["seed"]):
            yield re.sub(r"[^\w.-]", "_", name), result, {"hold_out": [name]}
    else:
        yield "", run(table, config, target=target, seed=choices["seed"]), {}


def _put_back(table: Path, split_file: Path, output: Path, saved: Path | None, new: str, choices: dict[str, Any]) -> None:
    from gilt.data.splitfile import apply_split
    from gilt.data.table import ImageTable

    if choices["settings"] or choices["folds"] or choices["each"] or saved:
        raise click.UsageError("--from puts a split back as it is: --set, --folds, --leave-one-generator-out and --save-split "
                               "do not go with it")
    check_output(output)
    with warnings_shown():
        result = apply_split(ImageTable.load(table, root=choices["root"]), split_file, new=new)  # type: ignore[arg-type]
    _write(result, output, "")


def _write(result: "ImageTable", path: Path, name: str) -> None:
    if name:
        click.echo(f"{name}:")
    result.save(path)
    _summary(result)
    say(f"wrote {path}: fingerprint {result.fingerprint}")


def _save(result: "ImageTable", path: Path, settings: dict[str, Any]) -> None:
    from gilt.data.splitfile import save_split

    say(f"wrote {path}: split {save_split(result, path, settings=settings)}")


def _check_folder(path: Path) -> None:
    """Raise where `path` cannot become a folder of tables."""
    if path.exists() and not path.is_dir():
        raise click.UsageError(f"{path} is a file: several tables are written, so name a folder")
