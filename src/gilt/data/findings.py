"""Findings: what an audit says, one defect each, in words, in rows and in numbers."""
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gilt.errors import TableError
from gilt.files import write_json

Severity = Literal["high", "medium", "low", "none"]
SEVERITIES: tuple[Severity, ...] = ("high", "medium", "low", "none")


@dataclass(frozen=True)
class Finding:
    """One defect of a table.

    `check` names the check that found it (its page: docs/defects/), `severity` is high (results would be wrong),
    medium, low (look at it) or none (measured, and all is well), `score` the check's own measure in [0, 1], `meaning` a
    sentence for somebody who has never heard of it, `remedy` what to do. `rows` are the paths concerned; `groups` are
    lists of paths that belong together (duplicates, leaks); `details` are the numbers behind it.
    """

    check: str
    severity: Severity
    score: float
    meaning: str
    remedy: str
    rows: tuple[str, ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        return {"check": self.check, "severity": self.severity, "score": round(float(self.score), 4), "meaning": self.meaning,
                "remedy": self.remedy, "rows": list(self.rows), "groups": [list(group) for group in self.groups],
                "details": dict(self.details)}


@dataclass(frozen=True)
class Audit:
    """All findings on one table, the gravest first; `checks` names every check that ran, also those that found nothing."""

    findings: tuple[Finding, ...]
    checks: tuple[str, ...]
    table: str  # fingerprint of the audited table
    n: int  # rows audited
    skipped: Mapping[str, str] = field(default_factory=dict)  # check -> why it could not run

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def of(self, *checks: str) -> list[Finding]:
        """Return the findings of the named checks."""
        return [finding for finding in self.findings if finding.check in checks]

    def as_json(self) -> dict[str, Any]:
        """Return the audit as JSON values."""
        return {"table": self.table, "n": self.n, "checks": list(self.checks), "skipped": dict(self.skipped),
                "findings": [finding.as_json() for finding in self.findings]}

    def save(self, path: Path | str) -> None:
        """Write the audit as JSON, atomically."""
        write_json(path, self.as_json())

    @classmethod
    def load(cls, path: Path | str) -> "Audit":
        """Read an audit that `save` or `gilt audit --json` wrote. Raises TableError where it is none."""
        try:
            data = json.loads(Path(path).read_text())
            findings = [Finding(**{**item, "rows": tuple(item["rows"]), "groups": tuple(map(tuple, item["groups"]))})
                        for item in data["findings"]]
            return cls(tuple(findings), tuple(data["checks"]), data["table"], data["n"], data["skipped"])
        except FileNotFoundError:
            raise TableError(f"no file {path}") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TableError(f"{path} is no audit of gilt's: make one with gilt audit TABLE --json ({error})") from None


def ranked(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the findings, the gravest first, then by score."""
    return tuple(sorted(findings, key=lambda finding: (SEVERITIES.index(finding.severity), -finding.score)))
