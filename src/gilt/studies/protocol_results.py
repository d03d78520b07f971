"""What came of a protocol: a detector on the generators, the time or the collections that it never saw, beside those it knew.

Everything is computed from the saved predictions of the test rows. A generator is judged against all real test images; by
collection, against that collection's own; by time, against those of the same time, where photographs are dated.
"""
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gilt.config import REAL
from gilt.data.periods import moments
from gilt.evaluation.metrics import LESS, Metric
from gilt.evaluation.operating import rare
from gilt.evaluation.over_seeds import Cell, difference, group_metrics, mean_of, over_seeds
from gilt.evaluation.predictions import Predictions
from gilt.studies.protocols import FROM, KNOWN, NEW, STUDY, Plan, read_plan
from gilt.studies.store import Store, TrialRecord

NO_THRESHOLD = "No validated threshold: some detectors had too few validation images, and 0.5 decided."
ENOUGH = 10  # test images that a generator must have to count in a mean
SHOWN = ("auroc", "balanced_accuracy", "tpr_at_5_fpr")
BySeed = dict[int, dict[str, Metric]]


@dataclass(frozen=True)
class _Key:
    """What makes a line: see Line. Of a generator that several arms had learnt from, `arm` is "": they are meaned."""

    arm: str
    group: str
    relation: str
    whole: bool = False


@dataclass(frozen=True)
class Line:
    """One group of test images under one arm, over the seeds.

    `relation` says what the group is to the arm: unseen or seen; next, later or seen; other or own. A `whole` line is all of a
    collection, and has no part in the means. `n_real` and `n_generated` are a seed's, the fewest.
    """

    arm: str
    group: str
    relation: str
    whole: bool
    n_real: int
    n_generated: int
    cells: dict[str, Cell]


@dataclass(frozen=True)
class ProtocolResult:
    """What came of a protocol: its lines; by relation the mean over generators, and by metric the one that is worst.

    `gap` is, metric by metric, the mean over what is new less that over what was known, paired by seed; empty where nothing
    known was tested. `failed` and `missing` name the trials that say nothing; `notes` belong beside the numbers.
    """

    plan: Plan
    seeds: tuple[int, ...]
    lines: tuple[Line, ...]
    mean: dict[str, dict[str, Cell]]
    worst: dict[str, dict[str, Line]]
    gap: dict[str, Cell]
    failed: tuple[str, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def new(self) -> str:
        """The relation that the protocol is about."""
        return NEW[self.plan.kind]

    @property
    def known(self) -> str:
        """The relation that it is held against."""
        return KNOWN[self.plan.kind]

    def of(self, relation: str) -> list[Line]:
        """Return the lines of a relation."""
        return [line for line in self.lines if line.relation == relation]

    def as_json(self) -> dict[str, Any]:
        """Return plain values; the worst lines by group and arm."""
        return asdict(self) | {"plan": self.plan.model_dump(mode="json"), "worst": {
            relation: {name: {"arm": line.arm, "group": line.group} for name, line in found.items()}
            for relation, found in self.worst.items()}}


def protocol_result(folder: Path | str) -> ProtocolResult:
    """Return what came of the protocol in a folder, as far as its trials are finished. Raises StoreError for no protocol."""
    plan, store = read_plan(folder), Store(Path(folder) / STUDY)
    records = store.records()
    done = [record for record in records if record.state == "finished"]
    judged: dict[_Key, dict[int, list[dict[str, Metric]]]] = defaultdict(lambda: defaultdict(list))
    counts: dict[_Key, list[tuple[int, int]]] = defaultdict(list)
    notes: set[str] = set()
    for record in done:
        predictions = store.predictions(record.id)
        groups = _groups(plan, record, _rows(plan, store, record, predictions))
        readable, made = predictions.readable, np.array(predictions.origin, object) != REAL
        for key, metrics in group_metrics(predictions, groups).items():
            judged[key][record.seed].append(metrics)
            counts[key].append((int((groups[key] & ~made & readable).sum()), int((groups[key] & made & readable).sum())))
        notes.update(_notes(predictions))
    found = {key: {seed: _meaned(several) for seed, several in by_seed.items()} for key, by_seed in judged.items()}
    lines = [Line(key.arm, key.group, key.relation, key.whole, *np.min(counts[key], 0).tolist(), _cells(by_seed))
             for key, by_seed in found.items()]
    rich = in_mean(lines)
    told = {_Key(line.arm, line.group, line.relation) for line in rich}
    by_relation = {relation: _mean_by_seed({key: found[key] for key in found if key in told}, relation)
                   for relation in dict.fromkeys(line.relation for line in lines)}
    notes.update(f"{line.group} ({line.relation}) does not count in the mean or as the worst: generated test images: "
                 f"{line.n_generated}; others have {ENOUGH} or more." for line in lines if not (line.whole or line in rich))
    return ProtocolResult(
        plan, tuple(sorted({record.seed for record in done})), tuple(lines),
        {relation: _cells(by_seed) for relation, by_seed in by_relation.items()},
        {relation: _worst([line for line in rich if line.relation == relation]) for relation in by_relation},
        _gap(by_relation.get(NEW[plan.kind], {}), by_relation.get(KNOWN[plan.kind], {})),
        tuple(f"{record.arm} seed {record.seed}: {record.reason}" for record in records if record.state == "failed"),
        tuple(f"{entry['arm']} seed {entry['seed']}" for entry in store.missing()), tuple(sorted(notes)))


def in_mean(lines: Sequence[Line]) -> list[Line]:
    """Return the lines that count in a mean: no whole collection, and none of fewer than ENOUGH images beside others."""
    parts = [line for line in lines if not line.whole]
    rich = {line.relation for line in parts if line.n_generated >= ENOUGH}
    return [line for line in parts if line.n_generated >= ENOUGH or line.relation not in rich]


def _rows(plan: Plan, store: Store, record: TrialRecord, predictions: Predictions) -> pd.DataFrame:
    """Return what the table says of each prediction, in their order; of a chronological plan also `window` and `dated`."""
    frame = store.rows(record.id).frame
    if plan.kind == "chronological":  # over all rows: what is a date and what a number is decided on the whole column
        when = moments(frame, plan.split)[0].to_numpy(float)
        frame = frame.assign(window=np.searchsorted(plan.starts, when, side="right"), dated=~np.isnan(when))
    return frame[frame["split"] == "test"].set_index("path").loc[list(predictions.path)]


def _groups(plan: Plan, record: TrialRecord, frame: pd.DataFrame) -> dict[_Key, np.ndarray]:
    """Return the test images, real ones among them, that an arm is judged on together: masks (N,)."""
    origin, arm = frame["origin"].to_numpy(object), record.arm
    real = origin == REAL
    generators = sorted(set(origin[~real]))
    if plan.kind == "leave-one-generator-out":
        held = record.config["split"]["hold_out"]
        return {_Key(arm, name, "unseen") if name in held else _Key("", name, "seen"): real | (origin == name)
                for name in generators}
    found: dict[_Key, np.ndarray] = {}
    if plan.kind == "cross-collection":
        for table in sorted(set(frame[FROM]), key=lambda name: (name != plan.home, name)):
            mine, relation = (frame[FROM] == table).to_numpy(), "own" if table == plan.home else "other"
            found[_Key(arm, table, relation, whole=True)] = mine
            for name in sorted(set(origin[mine & ~real])):
                found[_Key(arm, f"{table}: {name}", relation)] = mine & (real | (origin == name))
        return found
    coming = 1 + [f"before-{label}" for label in plan.labels].index(arm)
    window, undated = frame["window"].to_numpy(), ~frame["dated"].to_numpy()
    for relation, mask in (("next", window == coming), ("later", window > coming), ("seen", window < coming)):
        for name in generators:
            if (mask & (origin == name)).any():
                found[_Key(arm, name, relation)] = (real & (undated | mask)) | (mask & (origin == name))
    return found


def _meaned(several: Sequence[Mapping[str, Metric]]) -> dict[str, Metric]:
    """Return the mean of each metric over several groups, or arms, of one seed."""
    names = dict.fromkeys(name for metrics in several for name in metrics)
    return {name: mean_of([metrics[name] for metrics in several if name in metrics]) for name in names}


def _cells(by_seed: BySeed) -> dict[str, Cell]:
    names = dict.fromkeys(name for metrics in by_seed.values() for name in metrics)
    return {name: over_seeds([metrics[name] for _, metrics in sorted(by_seed.items()) if name in metrics]) for name in names}


def _mean_by_seed(found: Mapping[_Key, BySeed], relation: str) -> BySeed:
    """Return seed -> the mean of each metric over a relation's lines."""
    gathered: dict[int, list[dict[str, Metric]]] = defaultdict(list)
    for key, by_seed in found.items():
        if key.relation == relation:
            for seed, metrics in by_seed.items():
                gathered[seed].append(metrics)
    return {seed: _meaned(several) for seed, several in gathered.items()}


def _worst(lines: Sequence[Line]) -> dict[str, Line]:
    """Return metric -> the line of one generator that is worst in it."""
    found = {}
    for name in dict.fromkeys(name for line in lines for name in line.cells):
        known = [line for line in lines if not line.whole and name in line.cells and line.cells[name].value is not None]
        if known:
            found[name] = (max if name in LESS else min)(known, key=lambda line: line.cells[name].value)
    return found


def _gap(new: BySeed, known: BySeed) -> dict[str, Cell]:
    names = dict.fromkeys(name for metrics in new.values() for name in metrics)
    gaps = {name: difference({seed: m[name] for seed, m in new.items() if name in m},
                             {seed: m[name] for seed, m in known.items() if name in m}) for name in names}
    return {name: gap for name, gap in gaps.items() if gap.value is not None}


def _notes(predictions: Predictions) -> list[str]:
    n_real = sum(origin == REAL for origin in predictions.origin)
    notes = [] if predictions.calibration else [NO_THRESHOLD]
    return notes + (rare(n_real, (0.05,)) if n_real else [])
