"""What a generator saw: whether its images train a classifier that is judged on photographs the generator learnt from.

A made image carries traces of what its generator was trained on. The column `saw` of a table names, for each made row, a file
beside the images (path under the table's root) that lists the SHA-256 of every image its generator was trained on, one a line.
"""
import functools
from pathlib import Path

import pandas as pd

from gilt.config import REAL
from gilt.data.checks import Evidence, SkippedError
from gilt.data.containers import is_there, read_image
from gilt.data.findings import Finding
from gilt.data.table import ImageTable
from gilt.errors import ImageError, TableError, counted

SAW = "saw"
HELD = ("test", "val")


def seen_hashes(table: ImageTable) -> frozenset[str]:
    """Return the SHA-256 of all that the generators of these rows were trained on, as far as the rows say.

    Raises TableError where a list is gone or is none.
    """
    if SAW not in table.frame:
        return frozenset()
    names = table.frame[SAW].dropna().astype(str)
    return frozenset().union(*(hashes_in(table.root / name) for name in sorted(set(names) - {""})))


def seen_rows(rows: ImageTable) -> dict[str, dict[str, pd.Series]]:
    """Return generator -> split -> mask of the test and val rows that a generator used in training was trained on.

    Generators and splits without such a row are left out. The masks are over `rows.frame`. Raises as `seen_hashes`.
    """
    if SAW not in rows.frame:
        return {}
    frame, made = rows.frame, rows.where(split="train").where(lambda frame: frame["origin"] != REAL)
    found: dict[str, dict[str, pd.Series]] = {}
    for name in made.where(lambda frame: frame[SAW].fillna("") != "").origins:
        known = frame["sha256"].isin(seen_hashes(made.where(origin=name)))
        masks = {part: known & (frame["split"] == part) for part in HELD}
        if hit := {part: mask for part, mask in masks.items() if mask.any()}:
            found[name] = hit
    return found


def refuse_seen(rows: ImageTable) -> None:
    """Raise TableError where rows to judge on were seen by a generator whose images are among the training rows."""
    for name, masks in seen_rows(rows).items():
        said = [f"{int(mask.sum()):,} of the {int((rows.frame['split'] == part).sum()):,} {part} rows"
                for part, mask in masks.items()]
        raise TableError(f"the generator {name!r} was trained on {' and '.join(said)}, and its images are training rows: what "
                         "is measured on them says nothing. Deal the rows once (gilt split) and train the generator on that "
                         f"table (gilt generate train), or leave its images out: generators = [...] without {name!r}")


def seen(evidence: Evidence) -> list[Finding]:
    """Find test and val images that a generator was trained on whose images are training rows."""
    table = evidence.table.usable
    if SAW not in table.frame or not (table.frame[SAW].fillna("") != "").any():
        raise SkippedError("no row says what its generator saw (column saw)")
    if table.frame["split"].notna().sum() == 0:
        raise SkippedError("no row has a split yet")
    try:
        found = seen_rows(table)
    except TableError as error:
        raise SkippedError(str(error)) from None
    return [_finding(table, name, part, mask) for name, masks in found.items() for part, mask in masks.items()]


def _finding(table: ImageTable, name: str, part: str, mask: pd.Series) -> Finding:
    count, all_of = int(mask.sum()), int((table.frame["split"] == part).sum())
    return Finding(
        "seen", "high" if part == "test" else "medium", count / all_of,
        f"The generator {name!r} was trained on {count:,} of the {all_of:,} {part} images ({100 * count / all_of:.1f} %), and "
        f"its images are training rows. They carry the {part} images into the training, as copies or as traces that no one can "
        f"see, and a {part} result is too good by an amount that no one can say afterwards.",
        "Deal the rows once (gilt split) and train the generator on that table; or leave its images out with "
        "generators = [...]. A study refuses such trials.",
        tuple(table.frame["path"][mask]), details={"generator": name, "split": part, "images": count, "of": all_of})


def hashes_in(path: Path) -> frozenset[str]:
    """Return the SHA-256 that a list names. Raises TableError where it is gone or is none."""
    if not is_there(path):
        raise TableError(f"{path} is gone, the list of what a generator saw: put it back, or no one can say what leaks")
    return _read(path, path.stat().st_mtime_ns if path.exists() else 0)


@functools.lru_cache(maxsize=16)
def _read(path: Path, _modified: int) -> frozenset[str]:
    try:
        lines = read_image(path).decode("ascii").split()
    except (ImageError, UnicodeDecodeError) as error:
        raise TableError(f"{path} cannot be read as a list of SHA-256: {error}") from None
    if strange := [line for line in lines if len(line) != 64 or set(line) - set("0123456789abcdef")]:
        raise TableError(f"{path} lists something else than SHA-256, such as {strange[0][:80]!r} "
                         f"({counted(len(strange), 'line')})")
    return frozenset(lines)
