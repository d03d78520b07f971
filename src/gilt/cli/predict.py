"""The command predict: a classifier over files, folders, archives and addresses."""
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gilt.cli.detector import trained_note
from gilt.cli.show import bar, check_outputs, say, warnings_shown
from gilt.errors import counted

if TYPE_CHECKING:
    import pandas as pd

    from gilt.engine.stream import Look
    from gilt.models.classifier import Classifier
    from gilt.training import Calibration

NAMINGS = ("stem", "file", "path")


@click.command(epilog="""\b
Example:
  gilt predict detector.safetensors inbox/ photo.jpg -o out.csv
  gilt predict detector.safetensors archive.zip -o out.parquet --no-stable
  gilt predict detector.safetensors https://example.org/photo.jpg --urls --json
  gilt predict birds.safetensors inbox/ --top 5
  gilt predict birds.safetensors test/ --submission out.csv --sample sample_submission.csv""")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path),
              help="The .csv, .parquet or .jsonl to write (default: print CSV). A run that was stopped goes on when run again.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
@click.option("--stable/--no-stable", default=None,
              help="Of a detector: try each verdict on five mild changes of the image (default: yes; the time of six images).")
@click.option("--trust", type=click.Path(path_type=Path), metavar="PEM",
              help="Certificates of signers that you trust, for Content Credentials.")
@click.option("--urls", is_flag=True, help="Fetch the http and https addresses among PATHS.")
@click.option("--allow-private", is_flag=True, help="With --urls: also from this machine and private networks.")
@click.option("--top", type=click.IntRange(min=1), metavar="K",
              help="Columns label_1, p_1 ... of the K likeliest classes instead of one a class.")
@click.option("--submission", type=click.Path(path_type=Path), help="A competition's file to write: an image and its class.")
@click.option("--columns", metavar="IMAGE,CLASS", help="Its two columns' names (default: the sample's, else id,label).")
@click.option("--name", type=click.Choice(NAMINGS), help="What it calls an image (default: what fits the sample, else file).")
@click.option("--sample", type=click.Path(path_type=Path), help="A sample submission: which images, in which order.")
def predict(model: Path, paths: tuple[str, ...], output: Path | None, as_json: bool, stable: bool | None, trust: Path | None,
            urls: bool, allow_private: bool, top: int | None, submission: Path | None, columns: str | None, name: Any,
            sample: Path | None) -> None:
    """Say what images show, or whether they are generated.

    PATHS are files, folders and archives. Of a detector: path, label, p_generated, verdict (generated, real, or uncertain:
    within the band that validation gave, or turned by a mild change), stable, flips, credentials, software, p_GENERATOR where
    it names them, error; of another classifier: path, label, p_<class> ..., error. An unreadable image
    keeps its line, with the reason under `error`; in a submission it gets the class of most training images, and is named on
    standard error.
    """
    from gilt.data.credentials import anchors, reading
    from gilt.data.parts import check_kind
    from gilt.engine.stream import Look
    from gilt.models.classifier import load_classifier
    from gilt.models.device import pick_device

    inputs = [model, *map(Path, _checked(paths, urls)), *filter(None, (sample, trust))]
    check_outputs([output, submission], inputs=inputs)
    named = _columns(submission, columns, name, sample)
    _check_options(output, as_json, urls, allow_private, submission)
    if output:
        check_kind(output)
    trusted = anchors(trust) if trust else ""
    classifier = load_classifier(model, device=pick_device())
    _check_top(top, len(classifier.classes))
    if submission:
        return _submit(classifier, paths, output, top, submission, {"columns": named, "name": name, "sample": sample})
    detects = classifier.detects and not top
    if stable and not detects:
        raise click.UsageError("--stable asks whether a detector's verdict holds: "
                               + ("leave out --top" if classifier.detects else f"{model} is no detector"))
    with reading(trusted) as credentials:
        look = Look(stable=detects if stable is None else stable, software=detects,
                    credentials=credentials if detects else None, addresses=urls, private=allow_private)
        _verdicts(classifier, model, paths, look, _Written(output, as_json, top, classifier.calibration))
    return None


class _Written:
    """Where the rows go, and what they come to in the end."""

    def __init__(self, output: Path | None, as_json: bool, top: int | None, calibration: "Calibration | None" = None) -> None:
        self.output, self.as_json, self.top, self.calibration = output, as_json, top, calibration
        self.images, self.bad, self.within, self.verdicts = 0, 0, 0, Counter[str]()

    def print(self, frame: "pd.DataFrame") -> None:
        """Print rows on standard output."""
        from gilt.data.parts import as_text

        click.echo(as_text(frame, ".jsonl" if self.as_json else ".csv", header=not self.images), nl=False)
        self.count(frame)

    def count(self, frame: "pd.DataFrame") -> None:
        """Count rows that were written."""
        from gilt.evaluation.calibration import undecided

        self.images += len(frame)
        self.bad += int(frame["error"].notna().sum())
        if "verdict" in frame:
            self.verdicts.update(frame["verdict"].dropna())
            self.within += int(undecided(frame["p_generated"], self.calibration).sum())

    def say(self) -> None:
        """Say what was written, and what it holds."""
        bad = f"{self.bad:,} of them unreadable" if self.bad else ""
        called = [f"{self.verdicts[word]:,} {word}" for word in ("generated", "real", "uncertain") if self.verdicts]
        if self.verdicts["uncertain"] and self.calibration and self.calibration.band:
            low, high = self.calibration.band
            flip = self.verdicts["uncertain"] - self.within  # of those outside the band
            why = [f"{self.within:,} within {low:.2f} to {high:.2f}" if self.within else "",
                   f"{flip:,} flip{'s' if flip == 1 else ''}" if flip else ""]
            called[-1] += f": {', '.join(filter(None, why))}"
        more = "; ".join(filter(None, (bad, ", ".join(called))))
        if self.output:
            say(f"wrote {self.output}: {self.images:,} images{f', {more}' if more else ''}")
        elif self.bad:
            say(f"{self.bad:,} of {counted(self.images, 'image')} cannot be read")


def _verdicts(classifier: "Classifier", model: Path, paths: Sequence[str], look: "Look", written: _Written) -> None:
    """Write or print the rows of all images."""
    from gilt.engine.predict import image_paths
    from gilt.engine.verdicts import pieces, verdicts
    from gilt.errors import MissingExtraError

    with warnings_shown(), bar("predicting") as progress:
        found = image_paths(paths, addresses=look.addresses)
        if look.credentials and not look.credentials.there:
            say(f"Content Credentials are not looked for: {MissingExtraError('c2pa-python', 'credentials')}")
        if look.credentials and classifier.calibration is None:
            say("the detector has no validated threshold: 0.5 decides")
        if look.credentials and (note := trained_note(classifier, model)):
            say(note)
        if written.output:
            _to_file(classifier, model, found, look, written, progress)
        else:
            count = _Counter(progress, len(found))
            for frame in verdicts(classifier, pieces(found), look, top=written.top, expected=len(found), seen=count.more):
                written.print(frame)
    written.say()


class _Counter:
    """Tells a progress bar how far things are."""

    def __init__(self, progress: Any, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def more(self, count: int) -> None:
        """Count images that are done."""
        self.done += count
        self.progress(self.done, self.total)


def _to_file(classifier: "Classifier", model: Path, found: list[str], look: "Look", written: _Written, progress: Any) -> None:
    """Write the rows piece by piece, but for those that an earlier run left, and put them together."""
    from gilt.data.parts import Parts
    from gilt.engine.verdicts import digest, pieces, verdicts

    assert written.output is not None
    groups, count = list(pieces(found)), _Counter(progress, len(found))
    with Parts(written.output, _key(model, look, written.top)) as parts:
        digests = [digest(group) for group in groups]
        todo = [place for place, group in enumerate(groups) if parts.rows(place, digests[place]) != len(group)]
        left = sum(len(groups[place]) for place in todo)
        if left < len(found):
            say(f"going on: {len(found) - left:,} of {len(found):,} images were done before")
            count.more(len(found) - left)
        rows = verdicts(classifier, (groups[place] for place in todo), look, top=written.top, expected=left, seen=count.more)
        for place, frame in zip(todo, rows, strict=True):
            parts.write(place, digests[place], frame)
        parts.finish(len(groups), each=written.count)


def _key(model: Path, look: "Look", top: int | None) -> str:
    """Return what rows depend on beside their images: pieces of another key are of no use."""
    from gilt import __version__
    from gilt.files import fingerprint, sha256

    credentials = [look.credentials.there, look.credentials.trusted] if look.credentials else None
    return fingerprint([__version__, sha256(model.read_bytes()), look.stable, look.addresses, look.private, credentials, top])


def _submit(classifier: "Classifier", paths: Sequence[str], output: Path | None, top: int | None, submission: Path,
            wanted: dict[str, Any]) -> None:
    """Write a competition's file, and the predictions where they are asked for too."""
    from gilt.data.parts import write_table
    from gilt.engine.predict import predict as run
    from gilt.evaluation.submission import read_sample
    from gilt.evaluation.submission import submission as fill

    if wanted["sample"]:
        read_sample(wanted["sample"])  # before any work
    with warnings_shown(), bar("predicting") as progress:
        predictions = run(classifier, list(paths), progress=progress)
    if output:
        frame = predictions.top(top) if top else predictions.frame
        write_table(output, [frame])
        written = _Written(output, False, top)
        written.count(frame)
        written.say()
    with warnings_shown():
        filled = fill(predictions, **wanted, stand_in=most_trained(classifier))
    filled.save(submission)
    say(f"wrote {submission}: {len(filled.lines):,} images, columns {', '.join(filled.columns)}")


def _checked(paths: Sequence[str], urls: bool) -> list[str]:
    """Return the paths that are no addresses. Raises UsageError for a table, and for addresses that nobody allowed."""
    from gilt.data.web import is_address

    for path in paths:
        if path.endswith(".parquet") and not is_address(path):
            raise click.UsageError(f"{path} is a table: gilt evaluate judges on one; gilt predict takes images and folders")
        if is_address(path) and not urls:
            raise click.UsageError(f"{path} is an address: nothing is fetched without --urls")
        if is_address(path) and not path.lower().startswith(("http://", "https://")):
            raise click.UsageError(f"{path}: only http and https addresses are fetched")
    return [path for path in paths if not is_address(path)]


def _check_options(output: Path | None, as_json: bool, urls: bool, allow_private: bool, submission: Path | None) -> None:
    if as_json and (output or submission):
        raise click.UsageError("--json prints; for a file of JSON lines: -o out.jsonl")
    if allow_private and not urls:
        raise click.UsageError("--allow-private belongs to --urls")
    if urls and submission:
        raise click.UsageError("--submission takes files and folders: leave out --urls")


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
