"""The command clean: act on an audit's findings, into another folder."""
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gilt.cli.show import bar, print_table, say, settings_option, warnings_shown

if TYPE_CHECKING:
    from gilt.data.clean import Cleaned
    from gilt.data.findings import Audit


@click.command(epilog="""\b
Example:
  gilt clean birds.parquet -o clean
  gilt clean groceries.parquet --set equalise=true --set size=256 -o groceries-equal
  gilt clean birds.parquet --no-audit --set crop.bottom=32 --set 'crop_origins=["painter"]' -o cropped""")
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--audit", "audit_file", type=click.Path(path_type=Path),
              help="The findings to act on, as gilt audit --json wrote them. Without it the table is audited first.")
@click.option("--no-audit", is_flag=True, help="Act on no findings: only do what the settings say.")
@click.option("--root", type=click.Path(path_type=Path), help="Where the table's images are now, if they moved.")
@settings_option
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True,
              help="The folder for table.parquet, log.jsonl and, where pixels change, images/.")
def clean(table: Path, audit_file: Path | None, no_audit: bool, root: Path | None, settings: tuple[str, ...],
          output: Path) -> None:
    """Leave out what an audit found, and crop, cut, convert or equalise images. Nothing is changed in place.

    Without settings, rows of the findings that no setting can mend are left out: unreadable images, conflicts, leaks and
    duplicates, of which one stays. Images are only written anew where a setting asks for it. Settings: drop, conflicts,
    crop (top, bottom, left, right), crop_rows, crop_origins, grid, grid_rows, upright, mode, equalise, size, upscale,
    quality, subsampling, precompress, copy_all. Run the same command again to go on after a stop.
    """
    from gilt.config import CleanConfig
    from gilt.data.clean import cleaned
    from gilt.data.findings import Audit
    from gilt.data.rewrite import check_folder
    from gilt.data.table import ImageTable
    from gilt.settings import override, parse

    config = parse(CleanConfig, override({}, settings), where="--set")
    if audit_file and no_audit:
        raise click.UsageError("--audit and --no-audit say opposite things: keep one")
    rows = ImageTable.load(table, root=root)
    if output.resolve() in table.resolve().parents:
        raise click.UsageError(f"{table} lies in {output}, and is never changed: name another folder")
    check_folder(output, rows)  # before an audit that may take its time
    with warnings_shown(), bar("looking for defects") as progress:
        if no_audit:
            audit = None
        elif audit_file:
            audit = Audit.load(audit_file)
        else:
            from gilt.data.audit import audit as run

            audit = run(rows, progress=progress)
    with warnings_shown(), bar("writing images") as progress:
        result = cleaned(rows, audit, config, to=output, progress=progress)
    _show(result, audit, output)


def _show(result: "Cleaned", audit: "Audit | None", output: Path) -> None:
    """Print what was done, where it lies, and what is left to do."""
    if result.steps:
        print_table(["step", "rows"], list(result.steps.items()))
    else:
        say("nothing to clean: no row was changed")
    for finding in result.unfixed:
        say(f"not fixed: {finding.check} ({finding.severity}): {finding.remedy}")
    for check, reason in audit.skipped.items() if audit is not None else ():
        say(f"not looked for: {check} ({reason})")
    usable = len(result.table.usable)
    say(f"wrote {output / 'table.parquet'}: {len(result.table):,} rows, {usable:,} of them usable, fingerprint "
        f"{result.table.fingerprint}")
    if result.files:
        say(f"wrote {output / 'images'}: {result.files:,} images")
    say(f"wrote {output / 'log.jsonl'}: what was done to which row, and why")
