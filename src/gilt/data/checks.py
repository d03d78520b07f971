"""Checks: one function a defect. Each takes the `Evidence` on a table and returns its findings.

Duplicates, leaks, labels that contradict each other, imbalance, and images that no one can learn from. What tells an origin
away without looking at what is shown stands in `shortcuts.py`; marks, grids and strangers in `oddities.py`.
"""
import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from gilt.config import REAL
from gilt.data.findings import Finding, Severity
from gilt.data.near import SAME, Pairs, near_pairs
from gilt.data.pixels import Progress
from gilt.data.table import SPLITS, ImageTable
from gilt.errors import counted, listed

Check = Callable[["Evidence"], list[Finding]]
_STRICTER = (" Different pictures are much alike here: chains of likeness join whole classes. So more likeness was asked than "
             "usual ({:g} in place of {:g}); some copies may be missed, and some pairs be none.")


class SkippedError(Exception):
    """A check cannot be run on this table; says why. Caught by `audit`, which lists it."""


@dataclass(frozen=True)
class Evidence:
    """A table's usable rows, and what several checks need of them, worked out once."""

    table: ImageTable  # every row
    seed: int = 0
    progress: Progress | None = field(default=None, compare=False)

    @functools.cached_property
    def frame(self) -> pd.DataFrame:
        """The usable rows, numbered from 0."""
        return self.table.usable.frame

    @functools.cached_property
    def pairs(self) -> Pairs:
        """The near-duplicates among the usable rows."""
        if not self.frame["phash"].notna().any():
            raise SkippedError("the table has no perceptual hashes: scan the folder again")
        return near_pairs(self.table.usable, progress=self.progress)

    def severity(self, exact: int) -> Severity:
        """Return how grave it is that images are the same: less where only likeness says so, and likeness says little here."""
        return "high" if exact or self.pairs.same <= SAME else "medium"

    @functools.cached_property
    def content(self) -> np.ndarray:
        """A number for each row, the same for equal content."""
        return pd.factorize(self.frame["sha256"].fillna(self.frame["path"]))[0]

    @functools.cached_property
    def picture(self) -> np.ndarray:
        """A number for each row, the same for equal content and for near-duplicates."""
        group = self.pairs.groups(len(self.frame))
        first = pd.Series(np.arange(len(self.frame))).groupby(self.content).transform("first").to_numpy()
        return group[first]

    def directly(self, mask: np.ndarray) -> np.ndarray:
        """Mask the rows with the content of a row in `mask`, or a near-duplicate of one without a third between them."""
        content = np.unique(self.content[mask])
        pairs = self.content[self.pairs.rows]
        near = [pairs[np.isin(pairs[:, side], content), 1 - side] for side in (0, 1)]
        return np.isin(self.content, np.concatenate([content, *near]))

    def statistic(self, *names: str) -> pd.DataFrame:
        """Return columns that a scan measures. Raises SkippedError where the table lacks them."""
        missing = [name for name in names if name not in self.frame.columns or self.frame[name].isna().all()]
        if missing:
            raise SkippedError(f"the table has no {listed(missing)}: scan the folder again")
        return self.frame[list(names)]

    def groups(self, number: np.ndarray, *, differ: str | None = None) -> list[tuple[str, ...]]:
        """Return the paths of rows that share a number, for groups of several (in which column `differ` differs)."""
        frame = self.frame.assign(number=number)[["path", "number", *([differ] if differ else [])]]
        frame = frame[frame["number"].duplicated(keep=False)]
        if differ:
            frame = frame[frame.dropna(subset=differ).groupby("number")[differ].transform("nunique").reindex(
                frame.index).fillna(0) > 1]
        return [tuple(paths) for _, paths in frame.groupby("number", sort=False)["path"]]


def unreadable(evidence: Evidence) -> list[Finding]:
    """Find files that cannot be decoded to their end: broken, cut short, empty, or no image at all."""
    rows = evidence.table.frame[evidence.table.frame["excluded"].fillna("").str.startswith("unreadable")]
    if not len(rows):
        return []
    reasons = rows["excluded"].str.removeprefix("unreadable: ").value_counts().head(20)
    return [Finding(
        "unreadable", "medium", len(rows) / len(evidence.table),
        f"{counted(len(rows), 'file')} of {len(evidence.table):,} cannot be read as images "
        f"({listed(reasons.index, most=3)}). They are left out already. Where one origin or class loses more than others, "
        "the comparison is no longer fair.",
        "Get these files again from their source, or delete them; nothing in gilt uses them.",
        tuple(rows["path"]), details={"reasons": reasons.to_dict(), "by_origin": rows["origin"].value_counts().to_dict()})]


def exact_duplicates(evidence: Evidence) -> list[Finding]:
    """Find files with the same content (SHA-256)."""
    groups = evidence.groups(evidence.content)
    if not groups:
        return []
    extra = sum(len(group) - 1 for group in groups)
    return [Finding(
        "exact-duplicates", "medium", extra / len(evidence.frame),
        f"{counted(extra, 'more file')} with the very bytes of another one ({counted(len(groups), 'group')}). Copies "
        f"count an image several times, and make every interval narrower than it should be.",
        "Keep one of each group: gilt clean does. Splits keep copies together in any case.",
        _flat(groups), tuple(groups), {"groups": len(groups), "extra": extra})]


def near_duplicates(evidence: Evidence) -> list[Finding]:
    """Find images that show the same picture in different files: re-encoded, resized, mirrored, recoloured, cropped a little.

    Source: ciFAIR (Barz and Denzler 2020, arXiv:1902.00423) for the defect; `gilt.data.near` for the method.
    """
    pairs = evidence.pairs
    if not len(pairs.rows):
        if pairs.unread:
            raise SkippedError(f"{counted(pairs.unread, 'likely pair')} could not be compared: an image is gone or unreadable")
        return []
    groups = evidence.groups(pairs.groups(len(evidence.frame)))
    extra = sum(len(group) - 1 for group in groups)
    unread = f" {counted(pairs.unread, 'likely pair')} could not be compared: an image is gone or unreadable."
    return [Finding(
        "near-duplicates", "medium", extra / len(evidence.frame),
        f"{counted(extra, 'more image')} of a picture that is there in another file ({counted(len(groups), 'group')}): "
        "saved again, resized, mirrored or cropped a little. Look at some: plain shapes on a plain ground can be taken for "
        "one another."
        + (_STRICTER.format(pairs.same, SAME) if pairs.same > SAME else "") + (unread if pairs.unread else ""),
        "Keep them together when splitting: gilt split --set 'groups=[\"near\"]'; or keep one of each group: gilt clean.",
        _flat(groups), tuple(groups),
        {"groups": len(groups), "extra": extra, "pairs": len(pairs.rows), "proposed": pairs.proposed, "same_from": pairs.same})]


def leaks(evidence: Evidence) -> list[Finding]:
    """Find the same picture in several splits: the test then asks what the training told (arXiv:1902.00423)."""
    frame = evidence.frame
    if frame["split"].notna().sum() == 0:
        raise SkippedError("no row has a split yet")
    findings = []
    number = evidence.picture
    splits = frame["split"].fillna("")
    for strict, looser in (("test", ("train", "val")), ("val", ("train",))):
        laxer = [name for name in looser if (splits == name).any()]
        lax, held = splits.isin(laxer).to_numpy(), (splits == strict).to_numpy()
        shared = np.intersect1d(number[lax], number[held])
        hit = held & np.isin(number, shared)
        if not hit.any():
            continue
        exact = int((held & np.isin(evidence.content, evidence.content[lax])).sum())
        chained = int((hit & ~evidence.directly(lax)).sum())
        groups = evidence.groups(np.where((lax | held) & np.isin(number, shared), number, -1 - np.arange(len(frame))))
        part = hit.sum() / held.sum()
        third = f" ({chained:,} by way of a third one: look at these)" if chained else ""
        findings.append(Finding(
            "leaks", evidence.severity(exact) if strict == "test" else "medium", part,
            f"{int(hit.sum()):,} of {int(held.sum()):,} {strict} images ({100 * part:.1f} %) are also among the "
            f"{' and '.join(laxer)} images: {exact:,} the same file, the others the same picture in another file{third}. A "
            f"model may remember them, and its {strict} result is too good by an amount that no one can say afterwards.",
            "Leave the copies out of the training rows (gilt clean), or deal the splits anew with the copies kept together "
            "(gilt split --set keep=false --set 'groups=[\"near\"]').",
            _flat(groups), tuple(groups), {"split": strict, "images": int(hit.sum()), "of": int(held.sum()), "exact": exact,
                                           "chained": chained}))
    return findings


def source_leaks(evidence: Evidence) -> list[Finding]:
    """Find generated training images made from test photographs, or near copies of one.

    They carry the test into the training set by another door (DataDream's issue tracker has published cases).
    """
    frame = evidence.frame
    if frame["split"].notna().sum() == 0:
        raise SkippedError("no row has a split yet")
    generated = (frame["origin"] != REAL) & (frame["split"] != "test")
    test = (frame["split"] == "test") & (frame["origin"] == REAL)
    made = generated & frame["source"].isin(frame.loc[test, "path"])
    close = generated & ~made & pd.Series(np.isin(evidence.picture, evidence.picture[test]), frame.index)
    rows = frame[made | close]
    if not len(rows):
        return []
    return [Finding(
        "source-leaks", evidence.severity(int(made.sum())), len(rows) / max(1, int(generated.sum())),
        f"Made from a test photograph: {counted(int(made.sum()), 'generated image')}; {int(close.sum()):,} more with "
        f"the looks of one. Trained on them, a model has seen its exam in disguise.",
        "Leave these generated images out: gilt split does so for known sources, gilt clean for the others.",
        tuple(rows["path"]), details={"made_from_test": int(made.sum()), "close_to_test": int(close.sum())})]


def class_conflicts(evidence: Evidence) -> list[Finding]:
    """Find one picture under two classes."""
    return _conflicts(evidence, "class", "medium", "At least one label of each is wrong, or the picture shows both; as it is, "
                      "no model can get them all right.",
                      "Look at them and correct the folder or the label; gilt clean leaves them all out.")


def origin_conflicts(evidence: Evidence) -> list[Finding]:
    """Find one picture as both real and generated, or under two generators."""
    exact = len(evidence.groups(evidence.content, differ="origin"))
    return _conflicts(evidence, "origin", evidence.severity(exact), "Each is a photograph among the generated images, a "
                      "generated image among the photographs, or the work of a generator that copies what it was trained on.",
                      "Look at them: a wrong folder is put right by hand, a copy is no evidence of anything. gilt clean leaves "
                      "them all out.")


def _conflicts(evidence: Evidence, column: str, severity: Severity, says: str, remedy: str) -> list[Finding]:
    groups = evidence.groups(evidence.picture, differ=column)
    if column == "origin":
        groups = _without_own_edits(evidence.frame, groups)
    if not groups:
        return []
    rows = _flat(groups)
    return [Finding(f"{column}-conflicts", severity, len(rows) / len(evidence.frame),
                    f"{counted(len(groups), 'picture')} under more than one {column} ({len(rows):,} images). {says}", remedy,
                    rows, tuple(groups), {"groups": len(groups)})]


def _without_own_edits(frame: pd.DataFrame, groups: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return the groups without the generated images that were made from an image of their own group: they may look like it."""
    rows = frame.drop_duplicates("path").set_index("path")[["source", "origin"]]
    kept = [tuple(path for path in group if rows.at[path, "source"] not in group) for group in groups]
    return [group for group in kept if rows.loc[list(group), "origin"].nunique() > 1]


def imbalance(evidence: Evidence) -> list[Finding]:
    """Find classes, or origins, of very different sizes among the training rows (or all rows, before a split)."""
    frame = evidence.frame
    train = frame[frame["split"] == "train"] if (frame["split"] == "train").any() else frame
    findings = []
    for column, rows in (("class", train[train["origin"] == REAL] if (train["origin"] == REAL).any() else train),
                         ("origin", train.assign(origin=train["origin"].where(train["origin"] == REAL, "generated")))):
        counts = rows[column].value_counts()
        if len(counts) < 2 or counts.max() < 2 * counts.min():
            continue
        ratio = counts.max() / counts.min()
        severity: Severity = "medium" if ratio >= 10 else "low"
        images = "photographs" if column == "class" and (rows["origin"] == REAL).all() else "images"
        most, least = counts.index[0], counts.index[-1]
        remedy = ("Judge by macro F1 or by class, not by accuracy alone; gilt mix --set balance=... resamples, weighs, or "
                  "fills small classes up with generated images." if column == "class" else
                  "Judge by AUROC and balanced accuracy; gilt mix --set share=0.5 takes as many of each.")
        findings.append(Finding(
            "imbalance", severity, 1 - 1 / ratio,
            f"The largest {column} ({most}, {counts.max():,} {images}) has {ratio:.1f} times the {images} of the smallest "
            f"({least}, {counts.min():,}). A model that always says {most} is right in "
            f"{100 * counts.max() / counts.sum():.0f} % of them.",
            remedy, details={"column": column, "counts": {str(k): int(v) for k, v in counts.items()}}))
    return findings + _absent(frame)


def _absent(frame: pd.DataFrame) -> list[Finding]:
    """Find classes without an image in a split that others have."""
    known = frame.dropna(subset=["class", "split"])
    counts = pd.crosstab(known["class"], known["split"])
    empty = {split: list(counts.index[counts[split] == 0]) for split in SPLITS if split in counts}
    empty = {split: names for split, names in empty.items() if names}
    if not empty:
        return []
    said = "; ".join(f"{split}: {listed(names, most=5)}" for split, names in empty.items())
    return [Finding("imbalance", "medium", max(map(len, empty.values())) / len(counts),
                    f"Some classes have no image in a split ({said}). What is never trained cannot be learnt, and what is "
                    "never tested counts for nothing. A class that is spelt in two ways looks like this too.",
                    "Correct the names, deal the splits anew (gilt split --set keep=false), or pick the classes.",
                    details={"column": "split", "absent": empty})]


def too_small(evidence: Evidence) -> list[Finding]:
    """Find images far smaller than the others: enlarged, they are blurred, and the blur can be learnt."""
    frame = evidence.frame
    side = frame[["width", "height"]].min(axis=1).astype(float)
    usual = side.median()
    rows = frame[side < 0.35 * usual]
    if not len(rows):
        return []
    return [Finding("too-small", "low", len(rows) / len(frame),
                    f"{counted(len(rows), 'image')} far smaller than the usual {usual:.0f} pixels (shorter side). "
                    f"Enlarged to the same size as the others they look blurred, and a model may learn the blur.",
                    "Leave them out: gilt clean --set 'drop=[\"too-small\"]', or get larger ones.", tuple(rows["path"]),
                    details={"usual_side": usual, "below": 0.35 * usual})]


def too_dark(evidence: Evidence) -> list[Finding]:
    """Find images that are almost black, almost white, or one plain colour."""
    light = evidence.statistic("brightness", "contrast")
    mask = (light["brightness"] < 0.06) | (light["brightness"] > 0.985) | (light["contrast"] < 0.015)
    rows = evidence.frame[mask]
    if not len(rows):
        return []
    return [Finding("too-dark", "low", len(rows) / len(evidence.frame),
                    f"{counted(len(rows), 'image')} almost black, almost white or one plain colour: nothing there to "
                    "learn; the filter of a generator's service returns such images in place of others.",
                    "Look at them; gilt clean --set 'drop=[\"too-dark\"]' leaves them out.", tuple(rows["path"]),
                    details={"dark": int((light["brightness"] < 0.06).sum()), "plain": int((light["contrast"] < 0.015).sum()),
                             "bright": int((light["brightness"] > 0.985).sum())})]


BLURRED = 0.11  # standard deviation of the Laplacian over contrast, on the reduced picture


def blurred(evidence: Evidence) -> list[Finding]:
    """Find images without any fine detail (variance of the Laplacian; Pech-Pacheco et al. 2000)."""
    values = evidence.statistic("sharpness", "contrast")
    mask = (values["sharpness"] < BLURRED) & (values["contrast"] >= 0.015)
    rows = evidence.frame[mask]
    if not len(rows):
        return []
    by_origin = {str(k): int(v) for k, v in rows["origin"].value_counts().items()}
    return [Finding("blurred", "low", len(rows) / len(evidence.frame),
                    f"{counted(len(rows), 'image')} without fine detail "
                    f"({listed(f'{k} {v}' for k, v in by_origin.items())}). Where one "
                    "origin or class has more of them, sharpness itself gives it away.",
                    "Look at them; gilt clean --set 'drop=[\"blurred\"]' leaves them out.", tuple(rows["path"]),
                    details={"by_origin": by_origin})]


def _flat(groups: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(path for group in groups for path in group)
