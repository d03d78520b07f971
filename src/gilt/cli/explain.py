"""The command `gilt explain`."""
import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gilt.cli.detector import trained_note
from gilt.cli.show import bar, check_outputs, plain, print_table, say, settings_option, warnings_shown

if TYPE_CHECKING:
    from gilt.data.table import ImageTable
    from gilt.evaluation.explanation import ExplainConfig, Explanation
    from gilt.models.classifier import Classifier

WIDTH, GROUPS = 110, 20  # letters of a line; groups printed
METHODS = ("auto", "gradcam", "gradcam++", "hirescam", "eigencam", "occlusion")


@click.command(epilog="""\b
Example:
  gilt explain detector.safetensors groceries.parquet -o explained --html explain.html
  gilt explain detector.safetensors groceries.parquet -o explained --origin real --method occlusion --count 20
  gilt explain detector.safetensors inbox/ photo.jpg -o explained --explain generated""")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("sources", nargs=-1, required=True, metavar="TABLE|PATHS...", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, file_okay=False),
              help="The folder for the pictures, a PNG an image, and for explained.csv.")
@click.option("--method", type=click.Choice(METHODS), default="auto", show_default=True,
              help="How maps are drawn; auto: gradcam where the network allows it, else occlusion.")
@click.option("--layer", metavar="NAME", help="The layer whose map is read (default: the last that has one).")
@click.option("--explain", "wanted", metavar="CLASS", default="predicted", show_default=True,
              help="Whose evidence is shown: that of the class named, or of a class by name.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="How many images (default: 50).")
@click.option("--class", "classes", multiple=True, metavar="NAME", help="Only rows of this class. May be repeated.")
@click.option("--origin", "origins", multiple=True, metavar="NAME", help="Only rows of this origin. May be repeated.")
@click.option("--split", "part", default="test", show_default=True, type=click.Choice(["train", "val", "test", "all"]),
              help="Which rows of a table.")
@click.option("--masks", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Masks called as the images are (PNG, white inside): the share of attention inside them is measured.")
@click.option("--html", type=click.Path(path_type=Path), help="Also write a page; it opens offline.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: sentences, attention, faithfulness, spectra, images, notes.")
@click.option("--root", type=click.Path(path_type=Path), help="Where the table's images are now, if they moved.")
@settings_option
def explain(model: Path, sources: tuple[Path, ...], output: Path, method: str, layer: str | None, wanted: str,
            count: int | None, classes: tuple[str, ...], origins: tuple[str, ...], part: str, masks: Path | None,
            html: Path | None, as_json: bool, root: Path | None, settings: tuple[str, ...]) -> None:
    """Show where in images a classifier looks, and measure how far that can be trusted.

    A picture an image, a map of where it looks in general, deletion and insertion curves against random maps, and the
    spectra of real and generated images. A heat map is no proof. --set changes what has no option of its own: curves, steps,
    spectra, patch, fill, batch, keep, seed.
    """
    from gilt.engine.explain import explain as run
    from gilt.models.classifier import load_classifier
    from gilt.models.device import pick_device
    from gilt.reports.overlays import OverlayFolder

    _check(model, sources, output, html, bool(classes or origins or root))
    config = _config(settings, method=method, layer=layer, explain=wanted, count=count)
    classifier = load_classifier(model, device=pick_device())
    if classifier.detects and (note := trained_note(classifier, model)):
        say(note)
    folder = OverlayFolder(output)
    with warnings_shown(), bar("explaining") as progress:
        shown, said = _shown(classifier, sources, part, root, classes, origins)
        found = run(classifier, shown, config, masks=masks, each=folder.add, progress=progress)
    listed = folder.finish(found)
    if as_json:
        click.echo(json.dumps(found.as_json(), indent=1, ensure_ascii=False))
    else:
        _print(found)
    say(f"wrote {output}: {len(folder.names):,} pictures and {listed.name}")
    if html:
        from gilt.reports.explanation import explanation_page

        say(f"wrote {explanation_page(found, to=html, name=model.name, images=said)}")


def _check(model: Path, sources: Sequence[Path], output: Path, html: Path | None, table_only: bool) -> None:
    """Raise, before any work is done, where the arguments do not go together."""
    tables = [path for path in sources if path.suffix == ".parquet"]
    if tables and len(sources) > 1:
        raise click.UsageError(f"{tables[0]} is a table: give one table, or images and folders")
    if table_only and not tables:
        raise click.UsageError("--class, --origin and --root belong to a table")
    check_outputs([html, output / "explained.csv"], inputs=[model, *sources])


def _config(settings: Sequence[str], **options: object) -> "ExplainConfig":
    from gilt.evaluation.explanation import ExplainConfig
    from gilt.settings import override, parse

    given = {name: value for name, value in options.items() if value is not None}
    return parse(ExplainConfig, given | override({}, settings), where="--set")


def _shown(classifier: "Classifier", sources: Sequence[Path], part: str, root: Path | None, classes: Sequence[str],
           origins: Sequence[str]) -> "tuple[ImageTable | list[Path], str]":
    """Return what to explain, and how a page calls it."""
    from gilt.data.table import ImageTable
    from gilt.engine.judge import judged_rows

    if sources[0].suffix != ".parquet":
        return list(sources), "images"
    rows = judged_rows(classifier, ImageTable.load(sources[0], root=root), part)
    rows = _only(_only(rows, "class", rows.classes, classes), "origin", rows.origins, origins)
    return rows, f"{'' if part == 'all' else part + ' '}images of {sources[0].name}"


def _only(rows: "ImageTable", column: str, known: Sequence[str], wanted: Sequence[str]) -> "ImageTable":
    from gilt.errors import TableError, listed, near

    for name in wanted:
        if name not in known:
            raise TableError(f"no row of the {column} {name!r} among the rows to explain (there are: {listed(known)})."
                             f"{near(name, known)}")
    return rows.where(lambda frame: frame[column].isin(wanted)) if wanted else rows


def _print(found: "Explanation") -> None:
    from gilt.evaluation.faithfulness import ORDERS

    for text in found.sentences:
        click.echo(textwrap.fill(plain(text), WIDTH, break_long_words=False, subsequent_indent="  "))
    click.echo("")
    masked = any(one.inside for one in found.attention)
    print_table(["images", "n", "in the middle half", "low", "high", "empty maps", *["in the masks", "their area"] * masked],
                [[one.name, one.n, one.centre.value, one.centre.low, one.centre.high, one.blank,
                  *[one.inside and one.inside.value, one.area] * masked] for one in found.attention[:GROUPS]],
                title="where it looks; a flat map has 0.5 in the middle half")
    if found.faithfulness:
        click.echo("")
        areas, better = found.faithfulness.areas, found.faithfulness.better
        print_table(["order", "deletion", "better by", "insertion", "better by"],
                    [[order, *(cell for kind in ("deletion", "insertion") for cell in
                               (areas[kind, order].value, better[kind, order].value if (kind, order) in better else None))]
                     for order in ORDERS],
                    title=f"areas under the curves, n = {found.faithfulness.n:,}")
    if found.spectra:
        click.echo("")
        print_table(["origin", "n", "high frequencies", "low", "high"],
                    [[one.name, one.n, one.share_high.value, one.share_high.low, one.share_high.high]
                     for one in found.spectra.values()], title="part of the power above 0.25 cycles a pixel")
    for note in found.notes:
        say(textwrap.fill(f"note: {plain(note)}", WIDTH, break_long_words=False, subsequent_indent="  "))
