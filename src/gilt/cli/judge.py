"""The command evaluate: a classifier judged on a table."""
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gilt.cli.detector import CHOSEN, print_detection, shortcut_lines, trained_lines
from gilt.cli.show import bar, check_outputs, print_table, say, warnings_shown

if TYPE_CHECKING:
    from gilt.data.table import ImageTable
    from gilt.evaluation.evaluate import Evaluation
    from gilt.evaluation.metrics import Metric
    from gilt.evaluation.predictions import Predictions
    from gilt.models.classifier import Classifier

MATRIX, CLASSES, WORST, BEST, PAIRS = 12, 20, 10, 5, 10  # classes printed as a matrix, as a whole table; rows of short ones


@click.command(epilog="""\b
Example:
  gilt evaluate groceries.safetensors groceries.parquet --html judged.html
  gilt evaluate detector.safetensors groceries.parquet --by camera --html judged.html
  gilt evaluate detector.safetensors groceries.parquet --split val --json""")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--split", "part", default="test", show_default=True, type=click.Choice(["train", "val", "test", "all"]),
              help="The rows to judge on. A table without splits is judged whole.")
@click.option("--root", type=click.Path(path_type=Path), help="Where the table's images are now, if they moved.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Also write the predictions (Parquet).")
@click.option("--html", type=click.Path(path_type=Path),
              help="Also write a page: confusion matrix, classes, mistakes in pictures; it opens offline.")
@click.option("--by", metavar="COLUMN", help="Of a detector: count false positives by this column (default: a collection, a "
              "camera, or the folders of the real images).")
@click.option("--all", "every", is_flag=True, help="List every class or source, not only the best and worst.")
@click.option("--json", "as_json", is_flag=True,
              help="Print JSON: metrics by name, each value, low, high, n; then by (class, origin), confusion, classes, "
                   "target, left_out, worst (classes) and confused (pairs of classes); of a detector also detection, "
                   "shortcuts and trained_shortcuts.")
def evaluate(model: Path, table: Path, part: str, root: Path | None, output: Path | None, html: Path | None,
             by: str | None, every: bool, as_json: bool) -> None:
    """Judge a classifier on a table: metrics with 95 % intervals and n, by class and by origin.

    For target `class`, only photographs are judged. A class merged at training (Fruit = Apple, ...) is merged here too.
    A detector is judged at the threshold that it brought along, by generator and by source of the real images, and on which
    generator it names, where it names them; what gives the origin away without a pixel stands on top.
    """
    from gilt.data.sources import real_sources
    from gilt.data.table import ImageTable
    from gilt.engine.judge import judged_rows
    from gilt.engine.predict import predict as run
    from gilt.evaluation.evaluate import evaluate as judge
    from gilt.models.classifier import load_classifier
    from gilt.models.device import pick_device

    check_outputs([output, html], inputs=[model, table])
    classifier = load_classifier(model, device=pick_device())
    detects = classifier.detects
    if by and not detects:
        raise click.UsageError(f"--by counts a detector's false positives, and the target of {model} is {classifier.target!r}")
    with warnings_shown(), bar("predicting") as progress:
        whole = ImageTable.load(table, root=root)
        rows = judged_rows(classifier, whole, part)
        sources = real_sources(rows, by) if detects else None
        predictions = run(classifier, rows, progress=progress)
    if output:
        predictions.save(output)
        say(f"wrote {output}: {len(predictions):,} predictions")
    evaluation = judge(predictions)
    said = f"{'' if part == 'all' else part + ' '}images of {table.name}"
    own = whole.fingerprint == classifier.provenance.get("source_table")
    wanted = _Wanted(said, model.name, html, sources, own and part != "test", every, as_json)
    (_judge_detector if detects else _judge_classes)(classifier, rows, predictions, evaluation, wanted)


@dataclass(frozen=True)
class _Wanted:
    """What a user wants to see, and where a detector's real images come from."""

    said: str
    name: str
    html: Path | None
    sources: tuple[str, list[str | None]] | None
    chosen_by: bool  # the rows judged had a part in the training: they chose its threshold, or more
    every: bool
    as_json: bool


def _values(evaluation: "Evaluation") -> dict[str, Any]:
    from gilt.evaluation.mistakes import mistakes_json

    values = evaluation.as_json()
    return values.pop("metrics") | values | mistakes_json(evaluation)


def _judge_classes(classifier: "Classifier", rows: "ImageTable", predictions: "Predictions", evaluation: "Evaluation",
                   wanted: _Wanted) -> None:
    """Print or write what a classifier of classes is worth."""
    if wanted.as_json:
        click.echo(json.dumps(_values(evaluation), indent=1))
    else:
        _print_evaluation(evaluation, wanted.every)
    if wanted.html:
        from gilt.reports.judgement import judgement

        with warnings_shown():
            judgement(predictions, to=wanted.html, root=rows.root, rows=wanted.said, name=wanted.name, about=_about(classifier))
        say(f"wrote {wanted.html}")


def _judge_detector(classifier: "Classifier", rows: "ImageTable", predictions: "Predictions", evaluation: "Evaluation",
                    wanted: _Wanted) -> None:
    """Print or write what a detector is worth, the shortcuts on top."""
    from gilt.data.audit import generator_shortcuts, origin_shortcuts
    from gilt.evaluation.detection import detection

    found = detection(predictions, sources=wanted.sources)
    shortcuts, skipped = origin_shortcuts(rows)
    shortcuts += generator_shortcuts(rows) if found.attribution else []
    equal = classifier.preprocessing.equal is not None
    warnings = [*shortcut_lines(shortcuts, skipped, equal=equal), *trained_lines(classifier),
                *([CHOSEN] if wanted.chosen_by else [])]
    if wanted.as_json:
        values = _values(evaluation) | {"detection": found.as_json(), "shortcuts": [one.as_json() for one in shortcuts],
                   "trained_shortcuts": classifier.provenance.get("shortcuts", [])}
        click.echo(json.dumps(values, indent=1))
    else:
        print_detection(found, warnings, every=wanted.every)
    if wanted.html:
        from gilt.reports.detection import detection_page

        with warnings_shown():
            detection_page(found, predictions, to=wanted.html, root=rows.root, name=wanted.name,
                           about={"judged on": wanted.said} | _about(classifier), warnings=warnings)
        say(f"wrote {wanted.html}")


def _about(classifier: "Classifier") -> dict[str, str]:
    """Return what a classifier says of itself, for its page."""
    known = classifier.provenance
    lines = {"network": repr(classifier).strip("<>").removeprefix("Classifier ")}
    if "n_real" in known:
        rows = ", ".join(f"{known.get(f'n_{kind}') or 0:,} {kind}" for kind in ("real", "generated"))
        lines["trained on"] = f"{rows} images; {len(classifier.history)} epochs, seed {known.get('seed')}"
    if "train" in known:
        lines["settings"] = ", ".join(f"{key}={known['train'][key]}" for key in (
            "recipe", "epochs", "steps", "batch_size", "optimizer", "learning_rate", "schedule", "augment", "weights", "frozen")
            if known["train"].get(key) not in (None, (), [], {}, False))
    return lines | {"table": str(known.get("table", ""))} if known.get("table") else lines


def _print_evaluation(evaluation: "Evaluation", every: bool) -> None:
    header = ["metric", "value", "low", "high", "n"]
    print_table(header, [[name, m.value, m.low, m.high, m.n] for name, m in evaluation.metrics.items()])
    for group, values in evaluation.by.items():
        _print_groups(group, values, evaluation, every)
    if len(evaluation.classes) <= MATRIX:
        print_table(["true \\ predicted", *evaluation.classes],
                    [[name, *row] for name, row in zip(evaluation.classes, evaluation.confusion, strict=True)],
                    title="\nconfusion matrix")
    if len(evaluation.classes) > 2:
        _print_pairs(evaluation)
    for reason, count in evaluation.left_out.items():
        say(f"left out: {count:,} ({reason})")


def _print_groups(group: str, values: "dict[str, dict[str, Metric]]", evaluation: "Evaluation", every: bool) -> None:
    """Print one line a class or origin; of many classes, the worst and the best."""
    from gilt.evaluation.mistakes import worst_classes

    title, between = f"by {group} (intervals: --json)", 0
    items: list[Any] = list(values.items())
    if group == "class" and len(items) > CLASSES and not every:
        ranked = worst_classes(evaluation)
        items, between = [*ranked[:WORST], *ranked[-BEST:]], len(ranked) - WORST - BEST
        title = f"by class: the {WORST} worst and {BEST} best of {len(ranked)} (all: --all, --json, --html)"
    names = list(dict.fromkeys(name for metrics in values.values() for name in metrics))
    rows = [[value, *(metrics[name].value if name in metrics else None for name in names), metrics["accuracy"].n]
            for value, metrics in items]
    if between:
        rows.insert(WORST, [f"... {between} more", *[None] * (len(names) + 1)])
    print_table([group, *names, "n"], rows, title=f"\n{title}")


def _print_pairs(evaluation: "Evaluation") -> None:
    from gilt.evaluation.mistakes import confused_pairs

    pairs = confused_pairs(evaluation, most=PAIRS)
    if pairs:
        print_table(["true class", "taken for", "images", "of n", "part", "low", "high"],
                    [[p.true, p.predicted, p.count, p.share.n, p.share.value, p.share.low, p.share.high] for p in pairs],
                    title="\nmost often confused")
