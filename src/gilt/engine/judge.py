"""Judge fairly: what a classifier must remember of its training, and which rows of a table it may be judged on."""
import logging
from typing import Any

import pandas as pd

from gilt.config import TrialConfig
from gilt.data.seen import seen_hashes
from gilt.data.split import split
from gilt.data.table import ImageTable
from gilt.errors import TableError, listed
from gilt.models.classifier import Classifier
from gilt.models.weights import card_of
from gilt.training import named_weights

log = logging.getLogger(__name__)
SEEN_DIGITS = 12  # of each training image's SHA-256, in hexadecimal: enough to tell it from any other


def memory(table: ImageTable, rows: ImageTable, config: TrialConfig) -> dict[str, Any]:
    """Return what goes into a classifier's provenance: its settings, its table, and the hashes of what it learnt from.

    `table` is the whole table, `rows` those that training used; `n_by_class` counts the training rows of each class. What the
    classifier learnt from whose weights it started from (`train.weights`) counts as learnt from too, and what the
    generators saw whose images it learnt from.
    """
    learnt = rows.where(split="train")
    seen = [*(digest[:SEEN_DIGITS] for digest in learnt.frame["sha256"])]
    before = learnt_before(config.train.weights) | {digest[:SEEN_DIGITS] for digest in seen_hashes(learnt)}
    seen = sorted([*seen, *(before - set(seen))])
    counts = {str(name): int(count) for name, count in learnt.labels(config.target).value_counts().items()}
    return {"trial": config.model_dump(mode="json"), "source_table": table.fingerprint, "seen": "".join(seen),
            "n_by_class": counts}


def learnt_before(weights: str | None) -> set[str]:
    """Return the hashes of what the classifier in the file `weights` had learnt from; none for the weights of others."""
    known = {} if weights is None or named_weights(weights) else card_of(weights).get("provenance", {})
    return _digests(known.get("seen", ""))


def warn_of_seen(rows: ImageTable, weights: str | None, *, name: str, setting: str = "train.weights") -> None:
    """Log a warning where the val or test rows hold images that the classifier in the file `weights` had learnt from."""
    seen = learnt_before(weights)
    for part in ("val", "test") if seen else ():
        held = rows.where(split=part)
        if count := int(_among(held, seen).sum()):
            log.warning("%s: %s (%s) had learnt from %d of the %d %s rows, so what they say flatters it", name,
                        setting, weights, count, len(held), part)


def judged_rows(classifier: Classifier, table: ImageTable, part: str = "test") -> ImageTable:
    """Return the rows of `part` (train, val, test or all), picked and merged as at the training.

    The table that the classifier was trained on is dealt as it was then; for target `class` only photographs are kept.
    Images that it learnt from are left out, unless `part` is train, and counted in a note. Raises TableError where
    no row remains.
    """
    known = classifier.provenance
    trial = TrialConfig.model_validate(known.get("trial", {"target": classifier.target}))
    if table.fingerprint == known.get("source_table"):
        rows = split(table.pick(trial.classes, trial.generators), trial.split, target=trial.target, seed=known["seed"])
    else:
        rows = _picked(table, trial)
    rows = rows.usable.real if classifier.target == "class" else rows.usable
    if part != "all" and rows.frame["split"].notna().any():
        counts = listed(f"{name} {count}" for name, count in rows.counts("split").items())
        if undealt := int(rows.frame["split"].isna().sum()):
            log.warning("left out: %d rows without a split, beside those of %s: --split all judges them too", undealt, counts)
        rows = rows.where(split=part)
        if not len(rows):
            raise TableError(f"no {part} row to judge on (splits: {counts})")
    elif part != "all":
        log.warning("the table has no splits, so it is judged whole")
    return rows if part == "train" else _unseen(rows, known.get("seen", ""))


def _picked(table: ImageTable, trial: TrialConfig) -> ImageTable:
    """Return another table's rows, merged and picked as at the training, as far as they are there."""
    classes, generators = trial.classes, trial.generators
    if isinstance(classes, dict):
        classes = {name: [m for m in members if m in table.classes] for name, members in classes.items()}
    elif classes is not None:
        classes = [name for name in classes if name in table.classes]
    if generators is not None:
        generators = [name for name in generators if name in table.origins]
    return table.pick(classes, generators)


def _unseen(rows: ImageTable, text: str) -> ImageTable:
    learnt = _among(rows, _digests(text))
    if len(rows) and learnt.all():
        raise TableError(f"all {len(rows)} rows to judge on were training rows of this classifier: nothing can be said of it")
    if learnt.any():
        log.warning("left out: %d rows that the classifier learnt from", int(learnt.sum()))
    return rows.where(lambda frame: ~learnt)


def _digests(text: str) -> set[str]:
    return {text[i:i + SEEN_DIGITS] for i in range(0, len(text), SEEN_DIGITS)}


def _among(rows: ImageTable, seen: set[str]) -> pd.Series:
    """Return which rows are among those whose hashes begin so."""
    return rows.frame["sha256"].map(lambda digest: str(digest)[:SEEN_DIGITS] in seen).astype(bool)
