"""Commands that use a classifier: evaluate, predict."""
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gilt.cli.show import bar, check_output, print_table, say, warnings_shown

if TYPE_CHECKING:
    from gilt.evaluation.evaluate import Evaluation
    from gilt.evaluation.metrics import Metric
    from gilt.evaluation.predictions import Predictions
    from gilt.models.classifier import Classifier

MATRIX, CLASSES, WORST, BEST, PAIRS = 12, 20, 10, 5, 10  # classes printed as a matrix, as a whole table; rows of short ones
NAMINGS = ("stem", "file", "path")


@click.command(epilog="""\b
Example:
  gilt evaluate groceries.safetensors groceries.parquet --html judged.html
  gilt evaluate detector.safetensors groceries.parquet --split val --json""")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--split", "part", default="test", show_default=True, type=click.Choice(["train", "val", "test", "all"]),
              help="The rows to judge on. A table without splits is judged whole.")
@click.option("--root", type=click.Path(path_type=Path), help="Where the table's images are now, if they moved.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Also write the predictions (Parquet).")
@click.option("--html", type=click.Path(path_type=Path),
              help="Also write a page: confusion matrix, classes, mistakes in pictures; it opens offline.")
@click.option("--all", "every", is_flag=True, help="List every class, not only the best and worst.")
@click.option("--json", "as_json", is_flag=True,
              help="Print JSON: metrics by name, each value, low, high, n; then by (class, origin), confusion, classes, "
                   "target, left_out, worst (classes) and confused (pairs of classes).")
def evaluate(model: Path, table: Path, part: str, root: Path | None, output: Path | None, html: Path | None, every: bool,
             as_json: bool) -> None:
    """Judge a classifier on a table: metrics with 95 % intervals and n, by class and by origin.

    For target `class`, only photographs are judged. A class merged at training (Fruit = Apple, ...) is merged here too.
    """
    from gilt.data.table import ImageTable
    from gilt.engine.judge import judged_rows
    from gilt.engine.predict import predict as run
    from gilt.evaluation.evaluate import evaluate as judge
    from gilt.evaluation.mistakes import mistakes_json
    from gilt.models.classifier import load_classifier
    from gilt.models.device import pick_device

    _check_outputs([output, html], inputs=[model, table])
    classifier = load_classifier(model, device=pick_device())
    with warnings_shown(), bar("predicting") as progress:
        rows = judged_rows(classifier, ImageTable.load(table, root=root), part)
        predictions = run(classifier, rows, progress=progress)
    if output:
        predictions.save(output)
        say(f"wrote {output}: {len(predictions):,} predictions")
    evaluation = judge(predictions)
    if as_json:
        values = evaluation.as_json()
        click.echo(json.dumps(values.pop("metrics") | values | mistakes_json(evaluation), indent=1))
    else:
        _print_evaluation(evaluation, every)
    if html:
        from gilt.reports.judgement import judgement

        said = f"{'' if part == 'all' else part + ' '}images of {table.name}"
        with warnings_shown():
            judgement(predictions, to=html, root=rows.root, rows=said, name=model.name, about=_about(classifier))
        say(f"wrote {html}")


@click.command(epilog="""\b
Example:
  gilt predict detector.safetensors inbox/ photo.jpg -o out.csv
  gilt predict birds.safetensors inbox/ --top 5
  gilt predict birds.safetensors test/ --submission out.csv --sample sample_submission.csv""")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The CSV to write (default: print it).")
@click.option("--top", type=click.IntRange(min=1), metavar="K",
              help="Columns label_1, p_1 ... of the K likeliest classes instead of one a class.")
@click.option("--submission", type=click.Path(path_type=Path), help="A competition's file to write: an image and its class.")
@click.option("--columns", metavar="IMAGE,CLASS", help="Its two columns' names (default: the sample's, else id,label).")
@click.option("--name", type=click.Choice(NAMINGS), help="What it calls an image (default: what fits the sample, else file).")
@click.option("--sample", type=click.Path(path_type=Path), help="A sample submission: which images, in which order.")
def predict(model: Path, paths: tuple[Path, ...], output: Path | None, top: int | None, submission: Path | None,
            columns: str | None, name: Any, sample: Path | None) -> None:
    """Say what images show: path, label, p_<class> ..., error.

    PATHS are files and folders. An unreadable image keeps its line, with the reason under `error`; in a submission it gets
    the class of most training images, and is named on standard error.
    """
    from gilt.engine.predict import predict as run
    from gilt.evaluation.submission import read_sample
    from gilt.evaluation.submission import submission as fill
    from gilt.models.classifier import load_classifier
    from gilt.models.device import pick_device

    _check_outputs([output, submission], inputs=[model, *paths, *([sample] if sample else [])])
    named = _columns(submission, columns, name, sample)
    for path in paths:
        if path.suffix == ".parquet":
            raise click.UsageError(f"{path} is a table: gilt evaluate judges on one; gilt predict takes images and folders")
    classifier = load_classifier(model, device=pick_device())
    _check_top(top, len(classifier.classes))
    if sample:
        read_sample(sample)  # before any work
    with warnings_shown(), bar("predicting") as progress:
        predictions = run(classifier, list(paths), progress=progress)
    if output or not submission:
        _write_predictions(predictions, output, top)
    if submission:
        with warnings_shown():
            filled = fill(predictions, columns=named, name=name, sample=sample, stand_in=most_trained(classifier))
        filled.save(submission)
        say(f"wrote {submission}: {len(filled.lines):,} images, columns {', '.join(filled.columns)}")


def _check_outputs(outputs: Sequence[Path | None], *, inputs: Sequence[Path]) -> None:
    """Raise, before any work is done, where a file cannot be written, or is one that is read."""
    for output in filter(None, outputs):
        check_output(output)
        for path in inputs:
            if output.resolve() == path.resolve():
                raise click.UsageError(f"{output} is read by this command: name another file to write")


def _columns(submission: Path | None, columns: str | None, name: str | None, sample: Path | None) -> tuple[str, str] | None:
    """Return the two names that --columns gives. Raises UsageError for others, and for options without --submission."""
    for option, value in (("--columns", columns), ("--name", name), ("--sample", sample)):
        if value and not submission:
            raise click.UsageError(f"{option} belongs to --submission FILE")
    if columns is None:
        return None
    names = tuple(part.strip() for part in columns.split(","))
    if len(names) != 2 or not all(names) or names[0] == names[1]:
        raise click.UsageError(f"--columns takes two names, as in --columns Image,Class, not {columns!r}")
    return names


def _check_top(top: int | None, classes: int) -> None:
    if top is not None and top > classes:
        raise click.UsageError(f"--top {top}: the classifier knows {classes} classes")


def most_trained(classifier: "Classifier") -> str | None:
    """Return the class of most training images, or None where the classifier does not say."""
    counts = classifier.provenance.get("n_by_class") or {}
    known = [name for name in classifier.classes if name in counts]
    return max(known, key=lambda name: counts[name]) if known else None


def _write_predictions(predictions: "Predictions", output: Path | None, top: int | None) -> None:
    from gilt.files import write_text

    frame = predictions.top(top) if top else predictions.frame
    text = frame.to_csv(index=False, float_format="%.6f")
    bad = int((~predictions.readable).sum())
    if output:
        write_text(output, text)
        say(f"wrote {output}: {len(predictions):,} images{f', {bad:,} of them unreadable' if bad else ''}")
    else:
        click.echo(text, nl=False)
        if bad:
            say(f"{bad:,} of {len(predictions):,} images are unreadable")


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
