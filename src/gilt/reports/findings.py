"""The audit's page: every finding with its numbers and the pictures concerned, in one self-contained HTML file."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gilt.data.findings import Audit, Finding
from gilt.data.table import ImageTable
from gilt.reports.pages import write_page
from gilt.reports.thumbs import thumbnail_uris

GROUPS, MEMBERS, PICTURES, LISTED = 12, 6, 24, 500  # shown of a finding at most


def audit_page(audit: Audit, table: ImageTable, *, to: Path | str) -> Path:
    """Write an audit of `table` as one HTML page to `to` and return its path. Images that are gone are shown as such."""
    rows = table.frame.drop_duplicates("path").set_index("path")
    return write_page(
        to, "findings.html", audit=audit, table=table, sections=[_section(finding, table, rows) for finding in audit],
        clear=[name for name in audit.checks if name not in audit.skipped and not audit.of(name)],
        graves={severity: sum(finding.severity == severity for finding in audit) for severity in ("high", "medium", "low")})


def _section(finding: Finding, table: ImageTable, rows: pd.DataFrame) -> dict[str, Any]:
    """Return what the template shows of one finding."""
    groups = [group[:MEMBERS] for group in finding.groups[:GROUPS]] or (
        [finding.rows[:PICTURES]] if finding.rows else [])
    pictures = iter(thumbnail_uris([table.root / path for group in groups for path in group], 96))
    return {"finding": finding, "groups": [[{"uri": next(pictures), "path": path, "says": _caption(rows, path)}
                                            for path in group] for group in groups],
            "several": bool(finding.groups), "auroc": finding.details.get("auroc", {}),
            "counts": _bars(finding.details.get("counts", {})), "paths": finding.rows[:LISTED]}


def _caption(rows: pd.DataFrame, path: str) -> str:
    if path not in rows.index:
        return ""
    row = rows.loc[path]
    return " · ".join(str(row[name]) for name in ("class", "origin", "split") if row[name] is not None)


def _bars(counts: dict[str, int]) -> Sequence[tuple[str, int, float]]:
    """Return (name, count, per cent of the largest) for the largest and smallest classes."""
    items = sorted(counts.items(), key=lambda item: -item[1])
    kept = items if len(items) <= 20 else [*items[:10], *items[-10:]]
    return [(name, count, 100 * count / items[0][1]) for name, count in kept]
