"""Once: a store that is read once, however often a report asks for the same records."""
from typing import Any, Literal

from gilt.evaluation.predictions import Predictions
from gilt.studies.store import Store, TrialRecord

KEPT = 256 * 2**20  # bytes of logits that are kept


class Once(Store):
    """A store as it stood when it was first asked: its records, and as many predictions as KEPT bytes hold, are kept.

    Everything else goes to the store itself.
    """

    def __init__(self, store: Store) -> None:
        self.__dict__.update(store.__dict__)
        self._itself, self._bytes = store, 0
        self._known: dict[Any, Any] = {}

    @property
    def summary(self) -> dict[str, Any]:
        """What `study.json` says."""
        return self._first("summary", lambda: self._itself.summary)

    def records(self) -> list[TrialRecord]:
        """Return the records of the study's trials."""
        return list(self._first("records", self._itself.records))

    def missing(self) -> list[dict[str, Any]]:
        """Return arm, seed and id of the trials that have no record yet."""
        return list(self._first("missing", self._itself.missing))

    def predictions(self, trial: str, part: Literal["val", "test"] = "test") -> Predictions:
        """Return a trial's predictions. Raises StoreError where there are none."""
        if (trial, part) in self._known:
            return self._known[trial, part]
        found = self._itself.predictions(trial, part)
        if self._bytes + found.logits.nbytes <= KEPT:
            self._bytes += found.logits.nbytes
            self._known[trial, part] = found
        return found

    def _first(self, name: str, read: Any) -> Any:
        if name not in self._known:
            self._known[name] = read()
        return self._known[name]
