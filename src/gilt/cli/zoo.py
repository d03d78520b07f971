"""The command `gilt models`: which networks there are, and one layer by layer."""
import json
from typing import Any

import click

from gilt.cli.show import print_table


@click.command(epilog="""\b
Example:
  gilt models thesis2""")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def models(name: str | None, as_json: bool) -> None:
    """List the networks, or show one layer by layer."""
    from gilt.models.zoo import create, find, list_models, size_of

    entries = [find(name)] if name else list_models()
    rows: list[dict[str, Any]] = [
        {"name": e.name, "parameters": size_of(e.name), "input_size": e.input_size, "source": e.source} for e in entries]
    if as_json:
        click.echo(json.dumps(rows[0] if name else rows, indent=1))
        return
    print_table(["name", "parameters", "input_size", "source"], [list(row.values()) for row in rows])
    if name:
        from gilt.models.summary import layer_table

        click.echo("")
        print_table(["layer", "kind", "output shape", "parameters"],
                    layer_table(create(name, outputs=entries[0].outputs), entries[0].input_size))
