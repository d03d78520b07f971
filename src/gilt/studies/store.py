"""`Store`: a study's (or a tuning's) results in a folder, one atomic record a trial, never changed once finished.

    DIR/study.json              what is being studied: arms, seeds, table and its fingerprint, where the file was
    DIR/trials/ID.json          the record: resolved config, numbers of rows, history, evaluations, seconds, machine
    DIR/trials/ID.val.parquet   predictions, written before any metric (and ID.test.parquet)
    DIR/trials/ID.rows.parquet  every row that the trial used, with its split and content hash
    DIR/trials/ID.checkpoint    where the training of an unfinished trial stands, so that it goes on from there
    DIR/pixels/                 decoded images, shared by all trials
"""
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from filelock import FileLock
from pydantic import ValidationError

from gilt.data.table import ImageTable
from gilt.errors import StoreError
from gilt.evaluation.predictions import Predictions
from gilt.files import read_json, write_json, writing
from gilt.settings import Config

log = logging.getLogger(__name__)
OWN = {"trials", "pixels", "tensorboard", "report.html", "report-tables"}  # what a store holds beside study.json


class TrialRecord(Config):
    """All that is known of one trial. `seconds` holds train, predict and total; `error` a failed one's traceback.

    `drawn` are the settings that a tuning's search gave it; a `pruned` trial is one that the search gave up after the
    epochs that its history holds.
    `n_real` and `n_generated` count distinct images, `n_drawn` the rows of an epoch, repeats and SMOTE's points among them;
    `short` says what each class lacked where generated images were to fill it up.
    `rows`, `val_rows` and `test_rows` are fingerprints of all rows used, of the val rows, and of the test photographs: what
    makes two trials a pair.
    """

    id: str
    study: str
    arm: str
    seed: int
    state: Literal["finished", "failed", "pruned"]
    target: str
    config: dict[str, Any]
    drawn: dict[str, Any] = {}
    table: str
    started: str
    seconds: dict[str, float]
    n_real: int | None = None
    n_generated: int | None = None
    n_drawn: int | None = None
    short: dict[str, int] = {}
    n_val: int | None = None
    n_test: int | None = None
    train_set: str | None = None
    val_set: str | None = None
    test_set: str | None = None
    rows: str | None = None
    val_rows: str | None = None
    test_rows: str | None = None
    left_out: dict[str, int] = {}
    classes: list[str] = []
    parameters: int | None = None
    dropout: float | None = None
    history: list[dict[str, Any]] = []
    val: dict[str, Any] | None = None
    test: dict[str, Any] | None = None
    machine: dict[str, Any] = {}
    gilt: str = ""
    error: str | None = None

    def metric(self, name: str, part: Literal["val", "test"] = "test") -> float | None:
        """Return a metric's value on the val or test rows, or None where there is none."""
        evaluation = getattr(self, part)
        return None if evaluation is None else evaluation["metrics"].get(name, {}).get("value")


class Plan(Protocol):
    """What a store is opened for: a study, or a tuning (its `kind`)."""

    name: str
    kind: str

    def summary(self, table: ImageTable) -> dict[str, Any]:
        """Return what the store keeps of it in `study.json`."""


class Store:
    """The folder of one study or tuning."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def open(self, plan: Plan, table: ImageTable, **known: Any) -> None:
        """Make the folder, or take it up again; `known` is kept in `study.json` beside what the plan says of itself.

        Raises StoreError where it holds another study's records.
        """
        self.check(plan)
        with writing(self.folder):
            (self.folder / "trials").mkdir(parents=True, exist_ok=True)
        summary = plan.summary(table) | known
        self._warn_of_hidden({trial["id"] for trial in summary["trials"]} | set(summary.get("tested", ())))
        write_json(self.folder / "study.json", summary | {"opened": now()})

    def note(self, **known: Any) -> None:
        """Change what `study.json` says, atomically."""
        write_json(self.folder / "study.json", self.summary | known)

    def check(self, plan: Plan) -> None:
        """Raise StoreError where the folder holds anything but this study's or tuning's records."""
        held = self.held
        if held and (held["name"] != plan.name or held["kind"] != plan.kind):
            raise StoreError(f"{self.folder} holds the {held['kind']} {held['name']!r}, not "
                             f"{'' if held['kind'] == plan.kind else f'the {plan.kind} '}{plan.name!r}: choose another --store")
        inside = [item.name for item in self.folder.iterdir()] if self.folder.is_dir() else []
        if not held and {name for name in inside if not name.startswith(".")} - OWN:
            raise StoreError(f"{self.folder} holds other things than a study: choose a new or empty folder for --store")

    def _warn_of_hidden(self, wanted: set[str]) -> None:
        hidden = {path.stem for path in (self.folder / "trials").glob("*.json")} - wanted
        if hidden:
            log.warning("%d trials of other settings stay in %s; this study does not show them", len(hidden),
                        self.folder / "trials")

    @property
    def summary(self) -> dict[str, Any]:
        """What `study.json` says. Raises StoreError where the folder is no store."""
        if not (self.folder / "study.json").is_file():
            raise StoreError(f"{self.folder} holds no study (no study.json): run one with gilt study run STUDY.toml "
                             f"--store {self.folder}")
        older = {"kind": "study", "metric": "accuracy"}  # what stores of older versions do not say
        return older | read_json(self.folder / "study.json")

    @property
    def held(self) -> dict[str, Any] | None:
        """What `study.json` says, or None where the folder holds no study yet."""
        return self.summary if (self.folder / "study.json").exists() else None

    def path(self, trial: str, ending: str) -> Path:
        """Return where a trial's file lies."""
        return self.folder / "trials" / f"{trial}.{ending}"

    def lock(self, trial: str) -> FileLock:
        """Return the lock under which one process at a time runs a trial."""
        return FileLock(self.path(trial, "lock"))

    def read(self, trial: str) -> TrialRecord | None:
        """Return a trial's record, or None where it has none yet. Raises StoreError for a broken one."""
        path = self.path(trial, "json")
        if not path.exists():
            return None
        try:
            return TrialRecord.model_validate(read_json(path))
        except ValidationError as error:
            raise StoreError(f"{path} is no trial record of this version of gilt: {error.errors()[0]['msg']}. "
                             "Remove it to have the trial run again.") from None

    def finished(self, trial: str) -> bool:
        """Tell whether a trial's record is there and finished."""
        record = self.read(trial)
        return record is not None and record.state == "finished"

    def write(self, record: TrialRecord) -> None:
        """Write a record, atomically. Raises StoreError rather than change a finished one."""
        if self.finished(record.id):
            raise StoreError(f"trial {record.id} is finished: its record is never changed")
        write_json(self.path(record.id, "json"), record.model_dump(mode="json"))

    def records(self) -> list[TrialRecord]:
        """Return the records of the study's trials, in the study's order; trials without one are left to `missing`."""
        found = [(entry, self.read(entry["id"])) for entry in self.summary["trials"]]
        return [record.model_copy(update={"arm": entry["arm"], "drawn": entry.get("drawn", {})})
                for entry, record in found if record]

    def missing(self) -> list[dict[str, Any]]:
        """Return arm, seed and id of the trials that have no record yet."""
        return [entry for entry in self.summary["trials"] if not self.path(entry["id"], "json").exists()]

    def predictions(self, trial: str, part: Literal["val", "test"] = "test") -> Predictions:
        """Return a trial's predictions. Raises StoreError where there are none."""
        return Predictions.load(self.path(trial, f"{part}.parquet"))


def rows_shown(store: Store) -> list[dict[str, Any]]:
    """Return one plain dict a trial, as `gilt study show --json` prints them; a trial not yet run is `waiting`.

    Accuracy and loss stand there always, the study's metric where it is another. A tuning's trials show their settings.
    """
    if store.summary["kind"] == "tuning":
        from gilt.studies.outcome import tuning_rows  # which reads stores

        return tuning_rows(store)
    names = ["accuracy", "loss", *({store.summary["metric"]} - {"accuracy", "loss"})]
    rows: Sequence[dict[str, Any]] = [
        {"arm": r.arm, "seed": r.seed, "state": r.state, "n_real": r.n_real, "n_generated": r.n_generated,
         "n_drawn": r.n_drawn, "val_accuracy": r.metric("accuracy", "val"),
         **{f"test_{name}": r.metric(name) for name in names}, "seconds": r.seconds.get("total")} for r in store.records()]
    empty = dict.fromkeys(["n_real", "n_generated", "n_drawn", "val_accuracy", *(f"test_{name}" for name in names), "seconds"])
    waiting = [{"arm": e["arm"], "seed": e["seed"], "state": "waiting", **empty} for e in store.missing()]
    place = {(e["arm"], e["seed"]): i for i, e in enumerate(store.summary["trials"])}
    return sorted([*rows, *waiting], key=lambda row: place[row["arm"], row["seed"]])


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
