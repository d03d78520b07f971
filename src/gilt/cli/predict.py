"""The command predict: a classifier over files and folders."""
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gilt.cli.show import bar, check_outputs, say, warnings_shown

if TYPE_CHECKING:
    from gilt.evaluation.predictions import Predictions
    from gilt.models.classifier import Classifier

NAMINGS = ("stem", "file", "path")


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

    check_outputs([output, submission], inputs=[model, *paths, *([sample] if sample else [])])
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
