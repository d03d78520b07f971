"""The command `gilt similarity`."""
import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gilt.cli.show import bar, check_output, plain, print_table, say, settings_option, warnings_shown

if TYPE_CHECKING:
    from gilt.evaluation.similarity import Comparison, Similarity

WIDTH, WORST = 110, 15  # letters of a line; classes listed where there are more


@click.command(epilog="""\b
Example:
  gilt similarity groceries.parquet --html similarity.html
  gilt similarity groceries.parquet --by class --set features.model=mobilenet_v2 --set features.weights=mobilenet_v2.pth
  gilt similarity groceries.parquet --flag -o groceries-flagged.parquet""")
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--by", type=click.Choice(["class"]), help="Also list the classes, the farthest from its photographs first.")
@click.option("--html", type=click.Path(path_type=Path),
              help="Also write a page: verdicts, classes, histograms, nearest pairs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: sentences, comparisons (value, low, high and their floor by "
              "measure), by_class, whole, copying, leak, notes.")
@click.option("--flag", is_flag=True, help="Mark the generated images that are leaks to test rows as left out: needs -o.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The table to write with --flag.")
@click.option("--root", type=click.Path(path_type=Path), help="Where the table's images are now, if they moved.")
@settings_option
def similarity(table: Path, by: str | None, html: Path | None, as_json: bool, flag: bool, output: Path | None,
               root: Path | None, settings: tuple[str, ...]) -> None:
    """Say how close generated images are to photographs, and whether they are copies. It decides nothing: a study does.

    Every number stands beside its floor: what one half of the photographs gives against the other. Without
    features.model and features.weights the features are hand-made ones, which are weak. Test photographs are looked at, as
    held-out ones of the copying test and for leaks, but neither their labels nor a prediction.
    """
    from gilt.config import SimilarityConfig
    from gilt.data.table import ImageTable
    from gilt.engine.copies import without_leaks
    from gilt.engine.similarity import similarity as run
    from gilt.errors import counted
    from gilt.settings import override, parse

    _check(table, html, flag, output)
    config = parse(SimilarityConfig, override({}, settings), where="--set")
    with warnings_shown(), bar("comparing") as progress:
        rows = ImageTable.load(table, root=root)
        if flag and not {"train", "test"} <= set(rows.usable.real.frame["split"]):
            raise click.UsageError("--flag: the table has no train or no test photographs, so there is no leak to look for: "
                                   "gilt split deals them")
        found = run(rows, config, progress=progress)
    if as_json:
        click.echo(json.dumps(found.as_json(), indent=1, ensure_ascii=False))
    else:
        _print(found, by == "class")
    if html:
        from gilt.reports.similarity import similarity_page

        say(f"wrote {similarity_page(found, rows, to=html, name=table.name)}")
    if output:
        without_leaks(rows, found.leak).save(output)
        say(f"wrote {output}: {counted(len(found.leak.flagged), 'generated image')} marked as left out")


def _check(table: Path, html: Path | None, flag: bool, output: Path | None) -> None:
    if flag != (output is not None):
        raise click.UsageError("--flag and -o TABLE.parquet go together: the table with the marked rows is written there")
    for path in filter(None, (html, output)):
        check_output(path)
        if path.resolve() == table.resolve():
            raise click.UsageError(f"{path} is read by this command: name another file to write")


def _print(found: "Similarity", by_class: bool) -> None:
    from gilt.evaluation.similarity_words import MEANINGS, spread

    for text in found.sentences:
        click.echo(textwrap.fill(plain(text), WIDTH, break_long_words=False, subsequent_indent="  "))
    for one in found.comparisons:
        rows = [[MEANINGS[name][0], spread(one.measures[name]), spread(one.measures[name], floor=True)]
                for name in MEANINGS if name in one.measures]
        click.echo("")
        print_table(["measure", f"{one.origin} - photographs", "photographs - photographs"], rows,
                    title=f"{one.origin}: {one.size:,} images a side, {found.settings['draws']} draws")
        click.echo("")
        print_table(["KS distance", f"{one.origin} - photographs", "photographs - photographs"],
                    [[name.removeprefix("ks_"), spread(value), spread(value, floor=True)]
                     for name, value in one.measures.items() if name.startswith("ks_")])
        if by_class:
            _print_classes([own for own in found.by_class if own.origin == one.origin], found)
    _print_whole(found)
    for note in found.notes:
        say(textwrap.fill(f"note: {plain(note)}", WIDTH, break_long_words=False, subsequent_indent="  "))


def _print_classes(own: "list[Comparison]", found: "Similarity") -> None:
    from gilt.evaluation.similarity_words import MEANINGS, spread

    if not own:
        return
    names = [name for name in MEANINGS if name not in ("kid", "fd")]
    shown = own if len(own) <= WORST else own[:WORST]
    click.echo("")
    print_table(["class", "images a side", "KID", "KID of photographs", *(MEANINGS[name][0] for name in names)],
                [[one.of, one.size, spread(one.measures["kid"]), spread(one.measures["kid"], floor=True),
                  *(one.measures[name].value if name in one.measures else None for name in names)] for one in shown],
                title=f"{own[0].origin} by class, the farthest first" + (
                    f" (the first {WORST} of {len(own)}; all: --json, --html)" if len(shown) < len(own) else ""))


def _print_whole(found: "Similarity") -> None:
    click.echo("")
    print_table(["all images, as papers print it", "generated", "photographs", "FD", "KID", "in subsets of"],
                [[one.origin, one.n_generated, one.n_real, f"{one.fd:.2f}", f"{one.kid:.4g} ± {one.kid_deviation:.2g}",
                  one.kid_size] for one in found.whole])
    click.echo("")
    print_table(["copying", "C_T", "without copies", "AuthPct", "of held-out photographs", "nearer than 95 % of those"],
                [[one.origin, f"{one.score.value:.2f}" if one.score else None,
                  f"{one.score.low:.2f} to {one.score.high:.2f}" if one.score else None,
                  *(None if part != part else f"{100 * part:.1f} %"
                    for part in (one.authentic.value, one.authentic.floor, one.nearer))] for one in found.copying])
