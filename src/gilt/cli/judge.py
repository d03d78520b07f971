"""Commands that use a classifier: evaluate, predict."""
import json
from pathlib import Path

import click

from gilt.cli.show import bar, check_output, print_table, say, warnings_shown


@click.command(epilog="""\b
Example:
  gilt evaluate groceries.safetensors groceries.parquet
  gilt evaluate detector.safetensors groceries.parquet --split val --json""")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--split", "part", default="test", show_default=True, type=click.Choice(["train", "val", "test", "all"]),
              help="The rows to judge on. A table without splits is judged whole.")
@click.option("--root", type=click.Path(path_type=Path), help="Where the table's images are now, if they moved.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Also write the predictions (Parquet).")
@click.option("--json", "as_json", is_flag=True,
              help="Print JSON: metrics by name, each value, low, high, n; then by (class, origin), confusion, classes, "
                   "target, left_out.")
def evaluate(model: Path, table: Path, part: str, root: Path | None, output: Path | None, as_json: bool) -> None:
    """Judge a classifier on a table: metrics with 95 % intervals and n, by class and by origin.

    For target `class`, only photographs are judged. A class merged at training (Fruit = Apple, ...) is merged here too.
    """
    from gilt.data.table import ImageTable
    from gilt.engine.judge import judged_rows
    from gilt.engine.predict import predict as run
    from gilt.evaluation.evaluate import evaluate as judge
    from gilt.models.classifier import load_classifier
    from gilt.models.device import pick_device

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
        click.echo(json.dumps(values.pop("metrics") | values, indent=1))
        return
    _print_evaluation(evaluation)


@click.command(epilog="""\b
Example:
  gilt predict detector.safetensors inbox/ photo.jpg -o out.csv""")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The CSV to write (default: print it).")
def predict(model: Path, paths: tuple[Path, ...], output: Path | None) -> None:
    """Say what images show: path, label, p_<class> ..., error.

    PATHS are files and folders. An unreadable image keeps its line, with the reason under `error`.
    """
    from gilt.engine.predict import predict as run
    from gilt.files import write_text
    from gilt.models.classifier import load_classifier
    from gilt.models.device import pick_device

    if output:
        check_output(output)
    for path in paths:
        if path.suffix == ".parquet":
            raise click.UsageError(f"{path} is a table: gilt evaluate judges on one; gilt predict takes images and folders")
    classifier = load_classifier(model, device=pick_device())
    with warnings_shown(), bar("predicting") as progress:
        predictions = run(classifier, list(paths), progress=progress)
    text = predictions.frame.to_csv(index=False, float_format="%.6f")
    bad = int((~predictions.readable).sum())
    if output:
        write_text(output, text)
        say(f"wrote {output}: {len(predictions):,} images{f', {bad:,} of them unreadable' if bad else ''}")
    else:
        click.echo(text, nl=False)
        if bad:
            say(f"{bad:,} of {len(predictions):,} images are unreadable")


def _print_evaluation(evaluation) -> None:
    header = ["metric", "value", "low", "high", "n"]
    print_table(header, [[name, m.value, m.low, m.high, m.n] for name, m in evaluation.metrics.items()])
    for group, values in evaluation.by.items():
        names = list(dict.fromkeys(name for metrics in values.values() for name in metrics))
        rows = [[value, *(metrics[name].value if name in metrics else None for name in names), metrics["accuracy"].n]
                for value, metrics in values.items()]
        print_table([group, *names, "n"], rows, title=f"\nby {group} (intervals: --json)")
    if len(evaluation.classes) <= 12:
        print_table(["true \\ predicted", *evaluation.classes],
                    [[name, *row] for name, row in zip(evaluation.classes, evaluation.confusion, strict=True)],
                    title="\nconfusion matrix")
    for reason, count in evaluation.left_out.items():
        say(f"left out: {count:,} ({reason})")
