"""Watching: where a study stands, read from its store alone, so that it can be asked from anywhere. No torch."""
import time
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean

from gilt.studies.heartbeat import Beat, beats
from gilt.studies.store import Store, TrialRecord

RECENT = 20  # finished trials that the pace is taken from


@dataclass(frozen=True)
class Failure:
    """A trial that failed, and the last line of why."""

    arm: str
    seed: int
    reason: str


@dataclass(frozen=True)
class Standing:
    """Where a study stands. `done` trials are finished, or were given up by a search.

    `lost` are trials whose process has ended or gone silent: they wait too. `per_hour` is what the running trials' number
    and the mean seconds of the last finished ones give, `left` the seconds until all is done; None where nothing runs, or
    where nothing tells how long a trial takes. `seconds` were spent on the trials that are done or failed.
    """

    name: str
    total: int
    done: int
    running: tuple[Beat, ...]
    lost: tuple[Beat, ...]
    failed: tuple[Failure, ...]
    waiting: int
    per_hour: float | None
    left: float | None
    seconds: float

    @property
    def over(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return not self.running and not self.waiting


class Watcher:
    """Looks at a store again and again; a finished record, which never changes, is read once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._settled: dict[str, TrialRecord] = {}

    def look(self) -> Standing:
        """Return where the study stands now. Raises StoreError where the store holds none."""
        summary = self.store.summary
        entries = {entry["id"]: entry for entry in summary["trials"]}
        heard = {trial_id: beat for trial_id, beat in beats(self.store).items() if trial_id in entries}
        records = {trial_id: record for trial_id in entries if (record := self._record(trial_id))}
        # a killed process may leave a heartbeat beside the record that it wrote, a second try a record of the first
        done = [record for record in records.values() if record.state != "failed"]
        alive = {trial_id: beat for trial_id, beat in heard.items()
                 if not beat.gone and not (trial_id in records and records[trial_id].state != "failed")}
        lost = tuple(beat for trial_id, beat in heard.items() if beat.gone and trial_id not in records)
        failures = tuple(Failure(entries[trial_id]["arm"], entries[trial_id]["seed"], record.reason)
                         for trial_id, record in records.items() if record.state == "failed" and trial_id not in alive)
        waiting = [entry for trial_id, entry in entries.items() if trial_id not in records and trial_id not in alive]
        pace = _Pace(done, [*alive.values()], {trial_id: entry["arm"] for trial_id, entry in entries.items()})
        return Standing(
            summary["name"], len(entries), len(done), tuple(alive.values()), lost, failures, len(waiting), pace.per_hour,
            pace.left([entry["arm"] for entry in waiting]),
            sum(record.seconds.get("total", 0.0) for record in records.values()))

    def _record(self, trial_id: str) -> TrialRecord | None:
        record = self._settled.get(trial_id) or self.store.read(trial_id)
        if record is not None and record.state == "finished":
            self._settled[trial_id] = record
        return record


class _Pace:
    """How quickly trials come to an end: what an arm's trials took, or what those that run say of themselves."""

    def __init__(self, done: list[TrialRecord], running: list[Beat], arms: dict[str, str]) -> None:
        self.running = running
        recent = sorted(done, key=lambda record: record.started)[-RECENT:]
        self.by_arm: dict[str, list[float]] = {}
        for record in done:
            self.by_arm.setdefault(arms[record.id], []).append(record.seconds.get("total", 0.0))
        took = [record.seconds.get("total", 0.0) for record in recent]
        self.usual = fmean(took or [_since(beat) + beat.left for beat in running if beat.left is not None] or [0.0])

    @property
    def per_hour(self) -> float | None:
        return 3600 * len(self.running) / self.usual if self.running and self.usual else None

    def left(self, waiting: list[str]) -> float | None:
        """Return the seconds until the arms that wait are done too, by the trials that run at a time now."""
        if not self.running or not self.usual:
            return None
        rest = [beat.left if beat.left is not None else max(0.0, self._takes(beat.arm) - _since(beat)) for beat in self.running]
        return max(max(rest), (sum(rest) + sum(map(self._takes, waiting))) / len(self.running))

    def _takes(self, arm: str) -> float:
        return fmean(self.by_arm.get(arm) or [self.usual])


def _since(beat: Beat) -> float:
    return max(0.0, time.time() - datetime.fromisoformat(beat.started).timestamp())
