"""`Store`: a study's results in a folder, one atomic record a trial, never changed once finished.

    DIR/study.json              what is being studied: arms, seeds, table and its fingerprint, where the file was
    DIR/trials/ID.json          the record: resolved config, numbers of rows, history, evaluations, seconds, machine
    DIR/trials/ID.val.parquet   predictions, written before any metric (and ID.test.parquet)
    DIR/trials/ID.rows.parquet  every row that the trial used, with its split and content hash
    DIR/pixels/                 decoded images, shared by all trials
"""
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock
from pydantic import ValidationError

from gilt.data.table import ImageTable
from gilt.errors import StoreError
from gilt.evaluation.predictions import Predictions
from gilt.files import read_json, write_json, writing
from gilt.settings import Config
from gilt.studies.study import Study

log = logging.getLogger(__name__)
OWN = {"trials", "pixels", "tensorboard", "report.html"}  # what a store holds beside study.json


class TrialRecord(Config):
    """All that is known of one trial. `seconds` holds train, predict and total; `error` a failed one's traceback.

    `n_real` and `n_generated` count distinct images, `n_drawn` the rows of an epoch, repeats and SMOTE's points among them;
    `short` says what each class lacked where generated images were to fill it up.
    `rows` and `test_rows` are fingerprints of all rows used, and of the test photographs: what makes two trials a pair.
    """

    id: str
    study: str
    arm: str
    seed: int
    state: Literal["finished", "failed"]
    target: str
    config: dict[str, Any]
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
    rows: str | None = None
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


class Store:
    """The folder of one study."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def open(self, study: Study, table: ImageTable) -> None:
        """Make the folder, or take it up again. Raises StoreError where it holds another study's records."""
        path = self.folder / "study.json"
        if path.exists() and (name := read_json(path).get("name")) != study.name:
            raise StoreError(f"{self.folder} holds the study {name!r}, not {study.name!r}: choose another --store")
        inside = [item.name for item in self.folder.iterdir()] if self.folder.is_dir() else []
        strange = {name for name in inside if not name.startswith(".")} - OWN
        if not path.exists() and strange:
            raise StoreError(f"{self.folder} holds other things than a study: choose a new or empty folder for --store")
        with writing(self.folder):
            (self.folder / "trials").mkdir(parents=True, exist_ok=True)
        fingerprint = table.fingerprint
        trials = [{"arm": trial.arm, "seed": trial.seed, "id": trial.id(fingerprint)} for trial in study.trials()]
        self._warn_of_hidden({trial["id"] for trial in trials})
        write_json(path, {
            "name": study.name, "description": study.description, "table": str(study.table.absolute()),
            "fingerprint": fingerprint, "seeds": list(study.seeds), "benchmark": study.benchmark, "metric": study.metric,
            "trials": trials,
            "arms": {arm: config.model_dump(mode="json") for arm, config in study.arms.items()},
            "root": str(table.root), "source": study.source, "settings": list(study.settings), "text": study.text,
            "opened": now()})

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
        return {"metric": "accuracy"} | read_json(self.folder / "study.json")  # stores of older versions name none

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
        return [record.model_copy(update={"arm": entry["arm"]}) for entry, record in found if record]

    def missing(self) -> list[dict[str, Any]]:
        """Return arm, seed and id of the trials that have no record yet."""
        return [entry for entry in self.summary["trials"] if not self.path(entry["id"], "json").exists()]

    def predictions(self, trial: str, part: Literal["val", "test"] = "test") -> Predictions:
        """Return a trial's predictions. Raises StoreError where there are none."""
        return Predictions.load(self.path(trial, f"{part}.parquet"))


def rows_shown(store: Store) -> list[dict[str, Any]]:
    """Return one plain dict a trial, as `gilt study show --json` prints them; a trial not yet run is `waiting`.

    Accuracy and loss stand there always, the study's metric where it is another.
    """
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
