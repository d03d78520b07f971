"""Audit: run every check on a table and gather what they found."""
import logging
from collections.abc import Sequence

import numpy as np

from gilt.config import REAL
from gilt.data import checks as rows
from gilt.data import oddities, shortcuts
from gilt.data.checks import Check, Evidence, SkippedError
from gilt.data.containers import is_there
from gilt.data.findings import Audit, Finding, ranked
from gilt.data.pixels import Progress
from gilt.data.seen import seen
from gilt.data.table import ImageTable
from gilt.errors import ConfigError, TableError, listed, near

log = logging.getLogger(__name__)
LOOKED_AT = 1_500  # rows of either side that `origin_shortcuts` looks at, at most
CHECKS: dict[str, Check] = {
    "unreadable": rows.unreadable,
    "exact-duplicates": rows.exact_duplicates,
    "near-duplicates": rows.near_duplicates,
    "leaks": rows.leaks,
    "source-leaks": rows.source_leaks,
    "seen": seen,
    "class-conflicts": rows.class_conflicts,
    "origin-conflicts": rows.origin_conflicts,
    "imbalance": rows.imbalance,
    "shortcuts": shortcuts.shortcuts,
    "pixel-shortcuts": shortcuts.pixel_shortcuts,
    "watermark": oddities.watermark,
    "grid": oddities.grid,
    "out-of-context": oddities.out_of_context,
    "too-small": rows.too_small,
    "too-dark": rows.too_dark,
    "blurred": rows.blurred,
}


def audit(table: ImageTable, *, checks: Sequence[str] | None = None, seed: int = 0,
          progress: Progress | None = None) -> Audit:
    """Return what the checks (default: all of CHECKS) find in a table; nothing is changed.

    A check that the table has no columns for is listed in `Audit.skipped` with the reason. Samples (for watermarks and
    shortcuts) are drawn by `seed`. `progress(done, all)` is called while near-duplicates are read.
    Raises ConfigError for an unknown check, TableError for a table without usable rows.
    """
    names = list(CHECKS) if checks is None else list(dict.fromkeys(checks))
    unknown = next((name for name in names if name not in CHECKS), None)
    if unknown is not None:
        raise ConfigError(f"no check {unknown!r} (known: {listed(CHECKS, most=20)}).{near(unknown, CHECKS)}")
    evidence = Evidence(table, seed, progress)
    if not len(evidence.frame):
        raise TableError(f"the table of {table.root} has no usable row to audit ({len(table):,} are left out)")
    if not is_there(table.root / evidence.frame["path"].iloc[0]):
        log.warning("images are not where the table says, such as %s: checks that look at pixels find less or nothing",
                    table.root / evidence.frame["path"].iloc[0])
    findings: list[Finding] = []
    skipped: dict[str, str] = {}
    for name in names:
        try:
            findings += CHECKS[name](evidence)
        except SkippedError as reason:
            skipped[name] = str(reason)
    return Audit(ranked(findings), tuple(names), table.fingerprint, len(evidence.frame), skipped)


def origin_shortcuts(table: ImageTable, *, seed: int = 0) -> tuple[list[Finding], str | None]:
    """Return (the metadata that tell real from generated without a pixel, why that could not be looked for, or None).

    What a detector's result must not be read without. Of many rows, a sample of either side is looked at. Empty where metadata
    say nothing of the origin.
    """
    rows = table.usable
    real = (rows.frame["origin"] == REAL).to_numpy()
    order = np.random.default_rng(seed).permutation(len(rows))
    sample = np.sort(np.concatenate([order[real[order]][:LOOKED_AT], order[~real[order]][:LOOKED_AT]]))
    try:
        found = shortcuts.shortcuts(Evidence(rows.take(sample), seed), targets=("origin",))
    except SkippedError as reason:
        return [], str(reason).replace("no two classes, nor real and generated, have", "real and generated images do not have")
    return [finding for finding in found if finding.severity != "none"], None


def generator_shortcuts(table: ImageTable, *, seed: int = 0) -> list[Finding]:
    """Return the metadata that tell generators from each other without a pixel: what naming them must not be read without.

    Of many generated rows, a sample is looked at. Empty where metadata say nothing, and where there is one generator only.
    """
    rows = table.usable.generated
    sample = np.sort(np.random.default_rng(seed).permutation(len(rows))[:LOOKED_AT])
    try:
        found = shortcuts.shortcuts(Evidence(rows.take(sample), seed), targets=("generator",))
    except SkippedError:
        return []
    return [finding for finding in found if finding.severity != "none"]
