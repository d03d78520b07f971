"""The command card: what a saved model says of itself."""
import json
from pathlib import Path

import click

from gilt.cli.show import check_outputs, plain, say


@click.command(epilog="""\b
Example:
  gilt card detector.safetensors
  gilt card detector.safetensors --judged test.parquet --html card.html
  gilt card detector.safetensors --judged test.parquet -o detector-judged.safetensors""")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--judged", type=click.Path(path_type=Path), metavar="PREDICTIONS",
              help="Predictions that gilt evaluate -o wrote: what they are worth goes into the card.")
@click.option("--html", type=click.Path(path_type=Path), help="Also write the card as a page; it opens offline.")
@click.option("-o", "--output", type=click.Path(path_type=Path),
              help="With --judged: write a copy of the model (safetensors) whose own card says so too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: headings, each with its lines.")
def card(model: Path, judged: Path | None, html: Path | None, output: Path | None, as_json: bool) -> None:
    """Print the card of a classifier, a detector or a generator: what it is, learnt from, is worth, and cannot know.

    All of it stands in the model's own file. Reading it runs nothing.
    """
    from gilt.reports.modelcard import judged_by, model_card, write_card

    if output and not judged:
        raise click.UsageError("-o writes a copy that knows what it is worth: it belongs to --judged PREDICTIONS")
    check_outputs([html, output], inputs=[model, *([judged] if judged else [])])
    result = judged_by(model, judged) if judged else None
    found = model_card(model, judged=result)
    if as_json:
        click.echo(json.dumps(found.as_json(), indent=1))
    else:
        click.echo(plain(found.title))
        for section in found.sections:
            click.echo(f"\n{section.heading}")
            wide = max(24, *(len(plain(label)) for label, _ in section.lines), 0)
            for label, text in section.lines:
                click.echo(f"  {plain(label):<{wide}} {plain(text)}" if label else f"  {plain(text)}")
    if html:
        write_card(found, to=html)
        say(f"wrote {html}")
    if output and result:
        from gilt.models.classifier import load_classifier

        classifier = load_classifier(model)
        classifier.provenance["judged"] = result
        classifier.save(output)
        say(f"wrote {output}: {model.name} with what {judged} says of it")
