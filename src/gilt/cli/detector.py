"""How `gilt evaluate` prints a detector: the shortcuts on top, then what it is worth at its threshold, and where it fails."""
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gilt.cli.show import print_table
from gilt.reports.limits import EQUALISED

if TYPE_CHECKING:
    from gilt.data.findings import Finding
    from gilt.evaluation.detection import Detection
    from gilt.models.classifier import Classifier

SOURCES, COLUMNS = 15, 12  # printed at most
CHOSEN = ("FLATTERED: these rows had a part in the training (the validation rows chose the threshold, if no more). Only the "
          "test rows, or another collection, say what the detector is worth.")


def shortcut_lines(found: "Sequence[Finding]", skipped: str | None, *, equal: bool = False) -> list[str]:
    """Return what must stand on top of a detector's result: what tells the origin without a pixel, and the remedy.

    `equal`: the detector itself brings all images to one encoding, so what files say of themselves does not reach it.
    """
    if skipped:
        return [f"shortcuts were not looked for: {skipped}"]
    if equal:
        return [f"SHORTCUT IN THE FILES ({one.severity}): {one.meaning} {EQUALISED}" for one in found]
    return [f"SHORTCUT ({finding.severity}): {finding.meaning} {finding.remedy}" for finding in found]


def trained_lines(classifier: "Classifier") -> list[str]:
    """Return the shortcuts that the detector was trained with, as its file says; none where it sees images made equal."""
    if classifier.preprocessing.equal:
        return []
    return [f"TRAINED WITH A SHORTCUT ({one['severity']}): {one['meaning']}"
            for one in classifier.provenance.get("shortcuts", [])]


def trained_note(classifier: "Classifier", model: Path) -> str:
    """Return in one line that a detector may have learnt its files' format, where it may; else ""."""
    if not trained_lines(classifier) or all(one["severity"] == "low" for one in classifier.provenance["shortcuts"]):
        return ""
    return f"TRAINED WITH A SHORTCUT: it may have learnt how files are saved in place of what is in them. See gilt card {model}"


def print_detection(found: "Detection", warnings: Sequence[str], *, every: bool = False) -> None:
    """Print all that was judged of a detector; of many sources the worst, unless `every`."""
    from gilt.evaluation.detection import AT_THRESHOLD
    from gilt.evaluation.metrics import spoken

    for line in warnings:
        click.echo(f"{line}\n")
    click.echo(threshold_line(found))
    click.echo(f"{found.n_real:,} real and {found.n_generated:,} generated images")
    rows: list[list[Any]] = [[spoken(name) + (" *" if name in AT_THRESHOLD else ""), m.value, m.low, m.high, m.n]
                             for name, m in found.metrics.items()]
    print_table(["metric (* at the threshold)", "value", "low", "high", "n"], rows)
    if found.reliability:
        click.echo(f"a perfectly calibrated detector would show a calibration error of {found.reliability.floor:.3f} on so "
                   f"many images ({found.reliability.floor_high:.3f} at most, 95 %)")
    names = ("real", "generated")
    click.echo("\nconfusion matrix at the threshold")
    print_table(["true \\ called", *names], [[name, *row] for name, row in zip(names, found.confusion, strict=True)])
    _print_undecided(found)
    _print_generators(found)
    _print_attribution(found)
    _print_sources(found, every)
    if found.oracle:
        click.echo(f"\n{found.oracle.label}: threshold {found.oracle.threshold:.3f}, balanced accuracy "
                   f"{found.oracle.balanced_accuracy:.4f}")
    for note in found.notes:
        click.echo(f"note: {note}")
    for reason, count in found.left_out.items():
        click.echo(f"left out: {count:,} ({reason})")


def threshold_line(found: "Detection") -> str:
    """Return where the threshold comes from, as one line."""
    known = found.calibration
    if known is None:
        return "no validated threshold: an image is called generated from 0.5 on; probabilities are not calibrated"
    return (f"threshold {known.threshold:.3f} ({known.rule}, n = {known.n:,}; temperature {known.temperature:.2f}, bias "
            f"{known.bias:.2f}); there it came to balanced accuracy {known.balanced_accuracy:.3f}, false-positive rate "
            f"{known.false_positive_rate:.3f}")


def _print_undecided(found: "Detection") -> None:
    """Print what comes of saying "uncertain" within the band."""
    from gilt.evaluation.band import OUTCOMES, PROMISED
    from gilt.evaluation.calibration import ALPHA

    known = found.undecided
    if known is None:
        return
    click.echo(f"\nuncertain from {known.low:.3f} to {known.high:.3f}, the band that validation gave; * promised to be at most "
               f"{100 * ALPHA:.0f} % on images like the validation images")
    print_table(["verdicts", "value", "low", "high", "n"],
                [[OUTCOMES[name] + (" *" if name in PROMISED else ""), m.value, m.low, m.high, m.n]
                 for name, m in known.metrics.items()])


def _print_attribution(found: "Detection") -> None:
    """Print how rightly generators are named, and what each origin's images are called."""
    from gilt.evaluation.attribution import NAMING

    known = found.attribution
    if known is None:
        return
    click.echo("\nnaming the generator, at the threshold")
    print_table(["metric", "value", "low", "high", "n"],
                [[NAMING[name], m.value, m.low, m.high, m.n] for name, m in known.metrics.items()])
    wide = len(known.called) > COLUMNS
    rows = [[f"{name} (unknown to it)" if name in known.unknown else name,
             *([sum(counts), _taken(name, counts, known.called)] if wide else counts),
             *(known.origins[name][key].value if name in known.origins else None for key in ("recall", "precision"))]
            for name, counts in zip(known.true, known.confusion, strict=True)]
    click.echo("")
    first = ["true", "n", "else most often called"] if wide else ["true \\ called", *known.called]
    print_table([*first, "recall", "precision"], rows)


def _taken(name: str, counts: Sequence[int], called: Sequence[str]) -> str | None:
    """Return what an origin's images are wrongly called most often, with how many are."""
    wrong = {other: count for other, count in zip(called, counts, strict=True) if other != name and count}
    most = max(wrong, key=lambda other: wrong[other], default="")
    return f"{most} ({wrong[most]:,})" if wrong else None


def _print_generators(found: "Detection") -> None:
    """Print each generator against all real images, the mean, and the worst beside it."""
    from gilt.evaluation.detection import BY_GENERATOR
    from gilt.evaluation.metrics import spoken

    names = [name for name in BY_GENERATOR if name in found.mean]
    rows: list[list[Any]] = [[generator, *(m[name].value if name in m else None for name in names), m["recall"].n]
                             for generator, m in found.generators.items()]
    if len(rows) > 1:
        rows.append([f"mean of {len(rows)}", *(found.mean[name].value for name in names), None])
        names_of = {found.worst[name] for name in names}
        rows.append([f"worst: {names_of.pop()}" if len(names_of) == 1 else "worst",
                     *(found.generators[found.worst[name]][name].value for name in names), None])
    if rows:
        header = ["generator", *(spoken(name) + (" *" if name == "recall" else "") for name in names), "n"]
        click.echo("\nby generator, against all real images (intervals: --json, --html)")
        print_table(header, rows)


def _print_sources(found: "Detection", every: bool) -> None:
    if not found.sources:
        return
    items = list(found.sources.items())[:None if every else SOURCES]
    more = f": the {len(items)} worst of {len(found.sources)} (all: --all)" if len(items) < len(found.sources) else ""
    click.echo(f"\nreal images called generated, by {found.source}{more}")
    print_table([found.source, "false-positive rate *", "low", "high", "n"],
                [[name, m.value, m.low, m.high, m.n] for name, m in items])
