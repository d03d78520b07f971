"""The command `gilt models`: which networks there are, one layer by layer, and published weights made a classifier."""
import inspect
import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gilt.cli.show import check_output, print_table, say

if TYPE_CHECKING:
    from gilt.models.registry import ModelEntry

WIDTH = 100
FAMILIES = ("thesis", "detector project", "CIFAKE", "comparison", "competition", "backbone", "forensic", "baseline")


@click.command(epilog="""\b
Example:
  gilt models
  gilt models cifake --set filters=64 --set dense=2 --size 32
  gilt models 'timm:*convnext*'
  gilt models resnet50 --weights resnet50.pth --classes imagenet.txt -o resnet50.safetensors""")
@click.argument("name", required=False)
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE",
              help="Set an argument of the network, as in --set filters=64. May be repeated.")
@click.option("--classes", metavar="N|NAMES", help="How many classes; or their names in the order of the logits: separated by "
                                                   "commas, or a text file with one a line.")
@click.option("--size", type=click.IntRange(1), metavar="PX", help="Side of the images, pixels (default: the network's own).")
@click.option("--weights", help="Published weights of the whole network (a file, or pretrained): with -o, makes a classifier.")
@click.option("--target", type=click.Choice(["class", "origin"]), default="class", show_default=True,
              help="What that classifier tells.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The classifier (safetensors) to write.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def models(name: str | None, settings: tuple[str, ...], classes: str | None, size: int | None, weights: str | None,
           target: str, output: Path | None, as_json: bool) -> None:
    """List the networks, or show one layer by layer.

    NAME is a network of gilt's, timm:NAME, torchvision:NAME or open_clip:NAME, or a pattern such as 'timm:*convnext*'. With
    --weights, --classes and -o, a network that others have trained becomes a classifier, without training.
    """
    from gilt.models.zoo import find, list_models, matching
    from gilt.settings import override

    if name is None:
        if settings or classes or size or weights or output:
            raise click.UsageError("name a network, as in gilt models cifake --set filters=64")
        _print_list(list_models(), as_json)
    elif any(letter in name for letter in "*?["):
        _print_names(name, matching(name), as_json)
    elif weights or output:
        _adopt(name, override({}, settings), size=size, weights=weights, classes=classes, target=target, output=output)
    else:
        _print_one(find(name), override({}, settings), outputs=_outputs(classes), size=size, as_json=as_json)


def _outputs(classes: str | None) -> int | None:
    """Return how many logits a network has for so many classes: one for two, as in training."""
    if classes is None:
        return None
    count = int(classes) if classes.isdecimal() else len(_names(classes))
    if count < 2:
        raise click.UsageError("--classes: two or more are needed to tell apart")
    return 1 if count == 2 else count


def _names(classes: str) -> list[str]:
    if Path(classes).is_file():
        return [line.strip() for line in Path(classes).read_text().splitlines() if line.strip()]
    return [name.strip() for name in classes.split(",") if name.strip()]


def _adopt(name: str, arguments: dict[str, Any], *, size: int | None, weights: str | None, classes: str | None, target: str,
           output: Path | None) -> None:
    from gilt.models.adopt import Design, adopt

    if not (weights and output and classes):
        missing = [option for option, value in (("--weights", weights), ("--classes", classes), ("-o", output)) if not value]
        raise click.UsageError(f"a classifier from published weights needs {' and '.join(missing)} too")
    if classes.isdecimal():
        raise click.UsageError("--classes: name the classes, in the order of the network's logits, as in --classes cat,dog")
    check_output(output)
    classifier = adopt(Design(name, size, arguments), weights, _names(classes), target=target)
    classifier.save(output)
    say(f"wrote {output}: {classifier!r}; the weights are those of {weights}, nothing was trained")


def _facts(entry: "ModelEntry", count: int) -> dict[str, Any]:
    return {"name": entry.name, "parameters": count, "input_size": entry.input_size, "smallest": entry.smallest,
            "outputs": entry.outputs, "family": entry.family, "source": entry.source, "dropout": entry.dropout,
            "arguments": entry.arguments, "pretrained": bool(entry.published)}


def _print_list(entries: Sequence["ModelEntry"], as_json: bool) -> None:
    from gilt.models.zoo import size_of

    if as_json:
        click.echo(json.dumps([_facts(entry, size_of(entry.name)) for entry in entries], indent=1))
        return
    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns) if sys.stdout.isatty() else WIDTH
    first = max(len(entry.name) for entry in entries) + 2
    click.echo(f"{'name':{first}}{'parameters':>12}{'pixels':>8}  source")
    for family in dict.fromkeys([*FAMILIES, *(entry.family for entry in entries)]):
        click.echo(f"\n{family or 'other'}")
        for entry in (entry for entry in entries if entry.family == family):
            start = f"{entry.name:{first}}{size_of(entry.name):>12,}{_pixels(entry):>8}  "
            click.echo(textwrap.fill(entry.source, max(width, len(start) + 20), initial_indent=start,
                                     subsequent_indent=" " * len(start)))
    click.echo("\nParameters and pixels as the source has them. Layers and arguments of one: gilt models NAME.\n"
               "Many others, by name: gilt models 'timm:*', 'torchvision:*', 'open_clip:*'.")


def _pixels(entry: "ModelEntry") -> int | str:
    from gilt.training import METADATA

    return "-" if entry.name == METADATA else entry.input_size


def _print_names(pattern: str, names: Sequence[str], as_json: bool) -> None:
    from gilt.errors import ModelError

    if not names:
        raise ModelError(f"no network fits {pattern!r}: try a wider pattern, such as '*{pattern.strip('*')[-6:].strip(':*')}*'")
    click.echo(json.dumps(names, indent=1) if as_json else "\n".join(names))


def _print_one(entry: "ModelEntry", arguments: dict[str, Any], *, outputs: int | None, size: int | None, as_json: bool) -> None:
    from gilt.models.summary import described

    rows, totals = described(entry, outputs=outputs, input_size=size, arguments=arguments)
    header = ["layer", "kind", "output shape", "parameters"]
    if as_json:
        facts = _facts(entry, totals.trainable) | {"input_size": size or entry.input_size, "outputs": outputs or entry.outputs}
        facts["arguments"] |= arguments
        click.echo(json.dumps(facts | {"layers": [dict(zip(header, row, strict=True)) for row in rows], **totals._asdict()},
                              indent=1))
        return
    pixels, logits = size or entry.input_size, outputs or entry.outputs
    click.echo(f"{entry.name}  {pixels}x{pixels} pixels, {logits:,} {'logit' if logits == 1 else 'logits'}  ({entry.source})")
    if text := inspect.getdoc(entry.build):
        click.echo(f"\n{text}")
    if entry.arguments:
        click.echo("\n--set, or train.arguments:")
        print_table(["argument", "value", "takes"], _arguments(entry, arguments))
    click.echo("")
    print_table(header, rows)
    for word, count in zip(("total", "trainable", "fixed"), totals, strict=True):
        click.echo(f"{word + ' parameters':22}{count:>14,}  ({count * 4 / 2**20:,.2f} MB)")


def _arguments(entry: "ModelEntry", given: dict[str, Any]) -> list[list[str]]:
    schema = entry.settings.model_json_schema()["properties"]
    return [[name, json.dumps(given.get(name, default)).strip('"'), _takes(schema[name])]
            for name, default in entry.arguments.items()]


def _takes(schema: dict[str, Any]) -> str:
    """Return in words which values an argument takes."""
    if "enum" in schema:
        return ", ".join(schema["enum"])
    if schema.get("type") == "boolean":
        return "true, false"
    if schema.get("type") == "array":
        return f"{schema['minItems']} numbers"
    low, high, below = schema.get("minimum"), schema.get("maximum"), schema.get("exclusiveMaximum")
    kind = "whole numbers, " if schema.get("type") == "integer" else ""
    end = f" to {high}" if high is not None else f" to less than {below}" if below is not None else " or more"
    return f"{kind}{low:g}{end}"
