"""The command audit: what is wrong with a collection, before anything is trained on it."""
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gilt.cli.show import bar, check_output, say, warnings_shown

if TYPE_CHECKING:
    from gilt.data.findings import Audit

COLOURS = {"high": "red", "medium": "yellow", "low": "cyan", "none": "green"}


@click.command(epilog="""\b
Example:
  gilt audit groceries.parquet --html groceries-audit.html
  gilt audit groceries.parquet --json > audit.json""")
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--check", "checks", multiple=True, metavar="NAME", help="Run this check only. May be repeated.")
@click.option("--html", type=click.Path(path_type=Path), help="Also write a page with the pictures concerned.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: check, severity, score, meaning, remedy, rows, groups, "
              "details of each finding; gilt clean --audit reads it.")
@click.option("--fail-on", type=click.Choice(["high", "medium", "low"]),
              help="Exit with 1 where a finding is as grave as this, or graver.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="For the samples looked at.")
@click.option("--root", type=click.Path(path_type=Path), help="Where the table's images are now, if they moved.")
def audit(table: Path, checks: tuple[str, ...], html: Path | None, as_json: bool, fail_on: str | None, seed: int,
          root: Path | None) -> None:
    """Look for what makes results wrong: duplicates, leaks, shortcuts, marks, grids, strangers. Changes nothing.

    Every finding says what it means and what to do. Severities: high (results would be wrong), medium, low (have a look),
    none (measured, and all is well).
    """
    from gilt.data.audit import audit as run
    from gilt.data.findings import SEVERITIES
    from gilt.data.table import ImageTable

    if html:
        check_output(html)
    with warnings_shown(), bar("comparing pictures") as progress:
        rows = ImageTable.load(table, root=root)
        result = run(rows, checks=checks or None, seed=seed, progress=progress)
    if as_json:
        click.echo(json.dumps(result.as_json(), indent=1))
    else:
        _print(result)
    if html:
        from gilt.reports.findings import audit_page

        say(f"wrote {audit_page(result, rows, to=html)}")
    grave = SEVERITIES[:SEVERITIES.index(fail_on) + 1] if fail_on else ()
    raise SystemExit(1 if any(finding.severity in grave for finding in result) else 0)


def _print(result: "Audit") -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    from gilt.data.shortcuts import summary
    from gilt.errors import counted

    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    console.print(f"{counted(result.n, 'image')}, {counted(len(result.checks), 'check')}, {counted(len(result), 'finding')}",
                  highlight=False)
    for finding in result:
        head = Text.assemble((f"{finding.severity:<7}", f"bold {COLOURS[finding.severity]}"), (finding.check, "bold"),
                             f"  {counted(len(finding.rows), 'image')}" if finding.rows else "")
        console.print("", head, sep="\n")
        texts = [finding.meaning, *([summary(finding)] if "auroc" in finding.details else []), f"-> {finding.remedy}"]
        for text in texts:
            console.print(Padding(Text(text), (0, 0, 0, 7)))
    found = {finding.check for finding in result} | set(result.skipped)
    clear = [name for name in result.checks if name not in found]
    if clear:
        console.print(f"\nnothing found: {', '.join(clear)}", highlight=False)
    for name, reason in result.skipped.items():
        console.print(Text(f"not looked for: {name} ({reason})"))
