"""Notices: what a reader must know before the verdict: the table's grave defects, failed controls, failed and missing trials.

The audit of a study's table takes a while, so what it found is kept in the store, as `audit.json`: what `gilt audit TABLE
--json` prints does as well there.
"""
import contextlib
import logging
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gilt.data.audit import audit
from gilt.data.containers import absent
from gilt.data.findings import Audit, Finding
from gilt.data.table import ImageTable
from gilt.errors import GiltError, StoreError, TableError, counted
from gilt.studies.store import Store, TrialRecord
from gilt.studies.worth import Worth
from gilt.studies.worth_words import alarms

log = logging.getLogger(__name__)
GRAVE = ("leaks", "source-leaks", "seen", "origin-conflicts", "shortcuts", "watermark")  # whose findings can be high
AUDIT = "audit.json"
AUDITED = 20_000  # rows that a report audits by itself: some tens of seconds; of more, the command is given
LIKENESS = {"leaks", "source-leaks", "origin-conflicts"}  # checks that rest on what looks alike, beside equal files
SMALL = 64  # pixels below which things that merely look alike may pass for copies
NAMED = 6  # trials named in one notice


@dataclass(frozen=True)
class Notice:
    """One warning: its first words, paragraphs, and what is folded away below them: (its heading, text), code or prose."""

    title: str
    said: tuple[str, ...] = ()
    more: tuple[str, str] | None = None
    code: bool = False


@dataclass(frozen=True)
class Audited:
    """What the audit said of a study's table: its grave findings, how many checks ran, the command that shows more, and the
    median of the images' longer side in pixels, where it is known.

    `why` says why nothing was audited, where nothing was.
    """

    findings: tuple[Finding, ...] = ()
    checks: int = 0
    why: str = ""
    command: str = ""
    side: float = float("inf")

    @property
    def sentence(self) -> str:
        """What stands where nothing grave was found: that it was looked for, or why not."""
        if self.why:
            return self.why
        return "" if self.findings else f"The audit of the table ({counted(self.checks, 'check')}) found nothing grave."


def notices(audited: Audited, worth: Worth | None, records: Sequence[TrialRecord],
            missing: Sequence[dict[str, Any]]) -> list[Notice]:
    """Return the notices, the gravest kind first."""
    found = _warned(audited) if audited.findings else []
    if worth and (said := alarms(worth)):
        found.append(Notice(said[0], tuple(said[1:])))
    return [*found, *_failed(records), *_missing(missing)]


def _warned(audited: Audited) -> list[Notice]:
    """Return the grave findings as one notice; of small images with what to allow for where they rest on likeness."""
    said = [f"{finding.meaning} ({finding.check})" for finding in audited.findings]
    if audited.side < SMALL and {finding.check for finding in audited.findings} & LIKENESS:
        said.append(f"The images are small ({audited.side:.0f} pixels): things that merely look alike may have been taken for "
                    "one picture, so look at them first.")
    todo = " ".join([*(f"{finding.check}: {finding.remedy}" for finding in audited.findings),
                     f"To see the images: {audited.command}"])
    return [Notice("The audit of the table warns:", tuple(said), ("What to do", todo))]


def _failed(records: Sequence[TrialRecord]) -> list[Notice]:
    """Return a notice for each way in which trials failed."""
    ways: dict[str, list[TrialRecord]] = {}
    for record in records:
        if record.state == "failed":
            ways.setdefault(re.sub(r"^(?:\w+\.)+(?=\w+: )", "", record.reason), []).append(record)  # without the error's module
    return [Notice(f"Failed and not in any number below: {_named([(r.arm, r.seed) for r in failed])}.", (line,),
                   ("The traceback", failed[0].error or ""), code=True) for line, failed in ways.items()]


def _missing(missing: Sequence[dict[str, Any]]) -> list[Notice]:
    if not missing:
        return []
    trials = "trial has" if len(missing) == 1 else "trials have"
    return [Notice(f"{len(missing):,} {trials} not been run yet.",
                   (f"{_named([(m['arm'], m['seed']) for m in missing])}. Run the study again to finish it.",))]


def _named(trials: Sequence[tuple[str, int]]) -> str:
    more = f" and {len(trials) - NAMED:,} more" if len(trials) > NAMED else ""
    return "; ".join(f"{arm}, seed {seed}" for arm, seed in trials[:NAMED]) + more


def audited(store: Store, root: Path | None) -> Audited:
    """Return the grave findings on a study's table: those that the store keeps, else of an audit run now, which is then kept.

    Nothing is audited where the table is gone or another one than the study's, its images are gone, or it has more than
    AUDITED rows: `why` then says so, with the command.
    """
    summary = store.summary
    command = shlex.join(["gilt", "audit", summary["table"], *(["--root", str(root)] if root else [])])
    kept = _kept(store)
    if kept is not None and kept.table == summary["fingerprint"]:
        return _grave(kept, command, summary)
    try:
        table = ImageTable.load(summary["table"], root=root)
    except GiltError as error:
        return Audited(why=f"The table was not audited: {error}.")
    if table.fingerprint != summary["fingerprint"]:
        return Audited(why=f"The table was not audited: {summary['table']} has changed since the study was run.")
    usable = table.usable
    if absent(table.root, list(usable.frame["path"].iloc[:1])):
        return Audited(why="The table was not audited, since its images are not where it says. Where they are: "
                           f"{shlex.join(['gilt', 'audit', summary['table']])} --root FOLDER")
    if len(usable) > AUDITED:
        keeps = "" if store.place.remote else f" --json > {shlex.quote(str(store.folder / AUDIT))}"
        return Audited(why=f"The table was not audited: it has {len(usable):,} images, which takes minutes. To have the "
                           f"warnings here: {command}{keeps}")
    log.info("auditing %s once: its warnings stand on top of the report", summary["table"])
    found = audit(table, checks=GRAVE)
    _keep(store, found)
    return _grave(found, command, summary)


def _grave(found: Audit, command: str, summary: Mapping[str, Any]) -> Audited:
    grave = tuple(finding for finding in found if finding.severity == "high")
    side = float("inf")
    with contextlib.suppress(GiltError):  # the table may be gone since
        frame = ImageTable.load(summary["table"]).usable.frame
        side = float(frame[["width", "height"]].astype("Float64").max(axis=1).median())
    return Audited(grave, len(found.checks), command=f"{command} --html audit.html", side=side)


def _kept(store: Store) -> Audit | None:
    """Return the audit that the store keeps; None where there is none, or something else lies there."""
    if not store.place.has(AUDIT):
        return None
    store.place.fetch(AUDIT)
    try:
        return Audit.load(store.folder / AUDIT)
    except TableError:
        return None


def _keep(store: Store, found: Audit) -> None:
    try:
        found.save(store.folder / AUDIT)
        store.publish(AUDIT)
    except StoreError as error:  # a store that may only be read has its report elsewhere
        log.warning("the audit is not kept, and runs again for the next report: %s", error)
