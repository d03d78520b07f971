"""`Store`: a study's (or a tuning's) results in a folder or at an address: an atomic record a trial, final once finished.

    DIR/study.json              what is being studied: arms, seeds, table and its fingerprint, where the file was
    DIR/trials/ID.json          the record: resolved config, numbers of rows, history, evaluations, seconds, machine
    DIR/trials/ID.val.parquet   predictions, written before any metric (and ID.test.parquet)
    DIR/trials/ID.rows.parquet  every row that the trial used, with its split and content hash
    DIR/trials/ID.running.json  a running trial's heartbeat
    DIR/trials/ID.checkpoint    where the training of an unfinished trial stands, so that it goes on from there
    DIR/pixels/                 decoded images, shared by all trials

At an address there are the same files, but for checkpoints, pixels and TensorBoard's: they stay in the mirror.
"""
import contextlib
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from filelock import FileLock
from pydantic import ValidationError

from gilt.data.table import ImageTable
from gilt.errors import GiltError, StoreError
from gilt.evaluation.predictions import Predictions
from gilt.files import read_json, write_json, writing
from gilt.settings import Config
from gilt.studies.leases import Lease
from gilt.studies.mirror import place

log = logging.getLogger(__name__)
OWN = {"trials", "pixels", "tensorboard", "report.html", "report-tables", "audit.json"}  # beside study.json
HERE = ("checkpoint", "lock", "running.json")  # endings of a trial's files that are not published with it
BEAT = 15.0  # seconds between two heartbeats at an address


class TrialRecord(Config):
    """All that is known of one trial. `seconds` holds train, predict and total; `error` a failed one's traceback.

    `drawn` are the settings that a tuning's search gave it; a `pruned` trial is one that the search gave up after the
    epochs that its history holds.
    `n_real` and `n_generated` count distinct images, `n_drawn` the rows of an epoch, repeats and SMOTE's points among them;
    `short` says what each class lacked where generated images were to fill it up.
    `choice` counts the generated candidates of `mix.choose`, those kept, and those left out by reason.
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
    choice: dict[str, Any] = {}
    classes: list[str] = []
    parameters: int | None = None
    dropout: float | None = None
    history: list[dict[str, Any]] = []
    val: dict[str, Any] | None = None
    test: dict[str, Any] | None = None
    machine: dict[str, Any] = {}
    gilt: str = ""
    error: str | None = None

    @property
    def reason(self) -> str:
        """The last line of why the trial failed."""
        return ((self.error or "").strip().splitlines() or ["no reason was written down"])[-1]

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
    """The place of one study or tuning: a folder, or an address of fsspec's (`s3://bucket/birds`) with a mirror here.

    `folder` is the folder, or the mirror's: trials are worked on there, and what comes of them is published. Networks fail
    and locks at addresses are best effort: what is finished is never changed, by no one.
    """

    def __init__(self, address: Path | str) -> None:
        self.place = place(address)
        self.folder = self.place.folder
        self._heard: tuple[float, dict[str, dict[str, Any]]] = (0.0, {})
        self._beaten: dict[str, float] = {}

    @property
    def address(self) -> str:
        """What to call the store by, and what opens it again."""
        return self.place.address

    @property
    def pixels(self) -> Path:
        """The folder of decoded images, on this machine always."""
        return self.folder / "pixels"

    def open(self, plan: Plan, table: ImageTable, **known: Any) -> None:
        """Make the folder, or take it up again; `known` is kept in `study.json` beside what the plan says of itself.

        Raises StoreError where it holds another study's records.
        """
        self.check(plan)
        with writing(self.folder):
            (self.folder / "trials").mkdir(parents=True, exist_ok=True)
        summary = plan.summary(table) | known
        self._warn_of_hidden({trial["id"] for trial in summary["trials"]} | set(summary.get("tested", ())))
        self._write("study.json", summary | {"opened": now()})
        self._catch_up(trial["id"] for trial in summary["trials"])

    def note(self, **known: Any) -> None:
        """Change what `study.json` says, atomically."""
        self._write("study.json", self.summary | known)

    def check(self, plan: Plan) -> None:
        """Raise StoreError where the folder holds anything but this study's or tuning's records."""
        held = self.held
        if held and (held["name"] != plan.name or held["kind"] != plan.kind):
            raise StoreError(f"{self.address} holds the {held['kind']} {held['name']!r}, not "
                             f"{'' if held['kind'] == plan.kind else f'the {plan.kind} '}{plan.name!r}: choose another --store")
        if not held and {name for name in self.place.names() if not name.startswith(".")} - OWN:
            raise StoreError(f"{self.address} holds other things than a study: choose a new or empty folder for --store")

    def _warn_of_hidden(self, wanted: set[str]) -> None:
        hidden = {name.removesuffix(".json") for name in self.place.names("trials")
                  if name.endswith(".json") and not name.endswith(".running.json")} - wanted
        if hidden:
            log.warning("%d trials of other settings stay in %s/trials; this study does not show them", len(hidden),
                        self.address)

    def _catch_up(self, trials: Iterable[str]) -> None:
        """Publish the records that an earlier run here finished and could not publish."""
        for trial in trials:
            if self.place.unsent(_name(trial, "json")):
                record = TrialRecord.model_validate(read_json(self.path(trial, "json")))
                if not self.finished(trial):
                    log.info("publishing trial %s (%s, seed %d), which ran here before", trial, record.arm, record.seed)
                    self.write(record)

    @property
    def summary(self) -> dict[str, Any]:
        """What `study.json` says. Raises StoreError where the folder is no store."""
        held = self.held
        if held is None:
            raise StoreError(f"{self.address} holds no study (no study.json): run one with gilt study run STUDY.toml "
                             f"--store {self.address}")
        return held

    @property
    def held(self) -> dict[str, Any] | None:
        """What `study.json` says, or None where the folder holds no study yet."""
        if not self.place.has("study.json"):
            return None
        self.place.fetch("study.json")
        older = {"kind": "study", "metric": "accuracy"}  # what stores of older versions do not say
        return older | read_json(self.folder / "study.json")

    def path(self, trial: str, ending: str) -> Path:
        """Return where a trial's file lies on this machine; `fetch` brings it there."""
        return self.folder / _name(trial, ending)

    def has(self, trial: str, ending: str) -> bool:
        """Tell whether the store holds a trial's file."""
        return self.place.has(_name(trial, ending))

    def fetch(self, trial: str, ending: str) -> Path:
        """Return where a trial's file lies on this machine, brought up to date where the store is at an address."""
        self.place.fetch(_name(trial, ending))
        return self.path(trial, ending)

    def lock(self, trial: str) -> FileLock | Lease:
        """Return the lock under which one process at a time runs a trial; at an address a lease, which is best effort."""
        return self.place.lock(_name(trial, "lock"))

    def read(self, trial: str) -> TrialRecord | None:
        """Return a trial's record, or None where it has none yet. Raises StoreError for a broken one."""
        if not self.has(trial, "json"):
            return None
        path = self.fetch(trial, "json")
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
        """Write a record, atomically; at an address all files of the trial, the record last.

        A finished record is never changed. In a folder, whose locks hold, that raises StoreError; at an address two machines
        may have run one trial, and the first record stays.
        """
        path, content = self.path(record.id, "json"), record.model_dump(mode="json")
        if self.place.remote:
            write_json(path, content)  # first: where the network fails now, the next run publishes it
        self.place.forget()
        if self.finished(record.id):
            if not self.place.remote:
                raise StoreError(f"trial {record.id} is finished: its record is never changed")
            log.info("trial %s was finished elsewhere meanwhile: that record stays", record.id)
            return
        write_json(path, content)
        self._publish(record.id)

    def publish(self, name: str) -> str:
        """Send a file or folder of the store's folder to its address; return where it is now."""
        self.place.publish(name)
        head, chained, rest = self.address.partition("::")
        return f"{head}/{name}{chained}{rest}" if self.place.remote else str(self.folder / name)

    def records(self) -> list[TrialRecord]:
        """Return the records of the study's trials, in the study's order; trials without one are left to `missing`."""
        trials = self.summary["trials"]
        self.place.fetch(*(_name(entry["id"], "json") for entry in trials))
        found = [(entry, self.read(entry["id"])) for entry in trials]
        return [record.model_copy(update={"arm": entry["arm"], "drawn": entry.get("drawn", {})})
                for entry, record in found if record]

    def missing(self) -> list[dict[str, Any]]:
        """Return arm, seed and id of the trials that have no record yet."""
        return [entry for entry in self.summary["trials"] if not self.has(entry["id"], "json")]

    def predictions(self, trial: str, part: Literal["val", "test"] = "test") -> Predictions:
        """Return a trial's predictions. Raises StoreError where there are none."""
        return Predictions.load(self.fetch(trial, f"{part}.parquet"))

    def rows(self, trial: str) -> ImageTable:
        """Return every row that a trial used, with its split. Raises StoreError where the file is gone or broken."""
        path = self.fetch(trial, "rows.parquet")
        if not path.is_file():
            raise StoreError(f"{path} is gone: the rows of trial {trial} are not known")
        try:
            return ImageTable.load(path)
        except GiltError as error:
            raise StoreError(str(error)) from None

    def beat(self, trial: str, state: Mapping[str, Any]) -> None:
        """Write a running trial's heartbeat: small JSON, replaced whole, that says where it stands.

        At an address every BEAT seconds is often enough: the ones between are left out.
        """
        since = time.monotonic() - self._beaten.get(trial, -BEAT)
        if not self.place.remote or since >= BEAT:
            self._write(_name(trial, "running.json"), dict(state))
            self._beaten[trial] = time.monotonic()

    def beats(self) -> dict[str, dict[str, Any]]:
        """Return trial -> heartbeat of the trials said to be running; a killed one's stays until it runs again."""
        when, found = self._heard
        if self.place.remote and time.monotonic() - when < BEAT / 3 and found:
            return found
        names = sorted(name for name in self.place.names("trials") if name.endswith(".running.json"))
        self.place.fetch(*(f"trials/{name}" for name in names))
        found = {}
        for name in names:
            with contextlib.suppress(StoreError):  # ended between the listing and the reading
                found[name.removesuffix(".running.json")] = read_json(self.folder / "trials" / name)
        self._heard = time.monotonic(), found
        return found

    def quiet(self, trial: str) -> None:
        """Remove a trial's heartbeat."""
        self._beaten.pop(trial, None)
        self.place.remove(_name(trial, "running.json"))

    def _write(self, name: str, value: Any) -> None:
        write_json(self.folder / name, value)
        self.place.publish(name)

    def _publish(self, trial: str) -> None:
        files = sorted(path.name for path in (self.folder / "trials").glob(f"{trial}.*"))
        kept = {f"{trial}.{ending}" for ending in ("json", *HERE)}
        self.place.publish(*(f"trials/{name}" for name in files if name not in kept), _name(trial, "json"))


def _name(trial: str, ending: str) -> str:
    return f"trials/{trial}.{ending}"


def rows_shown(store: Store) -> list[dict[str, Any]]:
    """Return one plain dict a trial, as `gilt study show --json` prints them; a trial not yet run is `waiting`.

    Accuracy and loss stand there always, the study's metric where it is another. A tuning's trials show their settings.
    """
    if store.summary["kind"] == "tuning":
        from gilt.studies.outcome import tuning_rows  # which reads stores

        return tuning_rows(store)
    records = store.records()
    chose = any(r.choice for r in records)
    names = ["accuracy", "loss", *({store.summary["metric"]} - {"accuracy", "loss"})]
    rows: Sequence[dict[str, Any]] = [
        {"arm": r.arm, "seed": r.seed, "state": r.state, "n_real": r.n_real, "n_generated": r.n_generated,
         "n_drawn": r.n_drawn, **(_choice(r) if chose else {}), "val_accuracy": r.metric("accuracy", "val"),
         **{f"test_{name}": r.metric(name) for name in names}, "seconds": r.seconds.get("total")} for r in records]
    more = ["candidates", "kept"] if chose else []
    empty = dict.fromkeys(["n_real", "n_generated", "n_drawn", *more, "val_accuracy", *(f"test_{name}" for name in names),
                           "seconds"])
    waiting = [{"arm": e["arm"], "seed": e["seed"], "state": "waiting", **empty} for e in store.missing()]
    place = {(e["arm"], e["seed"]): i for i, e in enumerate(store.summary["trials"])}
    return sorted([*rows, *waiting], key=lambda row: place[row["arm"], row["seed"]])


def _choice(record: TrialRecord) -> dict[str, int | None]:
    return {name: record.choice.get(name) for name in ("candidates", "kept")}


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
