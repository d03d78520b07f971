"""Published beside measured: what a document printed of a study's arms, and what came of them here."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gilt.errors import StoreError, counted
from gilt.evaluation.metrics import spoken
from gilt.evaluation.uncertainty import t_interval
from gilt.studies.about import About, Published
from gilt.studies.store import Store, TrialRecord


@dataclass(frozen=True)
class PublishedRow:
    """One published figure beside the arm's own: `metric` on the rows of `part` ("test", "val", or another test set's name).

    Values are as the metric is (accuracies in [0, 1], losses in nats); `difference` is measured - published; `low` and `high`
    are the 95 % interval of the measured mean over `seeds` seeds (None below two). `real` and `generated` are the numbers of
    the document; `real_here` the photographs at hand, `generated_here` the generated train and val rows of the arm's first
    trial. What was not measured is None.
    """

    arm: str
    part: str
    metric: str
    published: float
    measured: float | None
    sd: float | None
    low: float | None
    high: float | None
    seeds: int
    train_set: str | None
    train_set_here: str | None
    real: int | None
    real_here: int | None
    generated: int | None
    generated_here: int | None
    note: str

    @property
    def difference(self) -> float | None:
        """Measured - published, or None."""
        return None if self.measured is None else self.measured - self.published


def published_rows(store: Store) -> list[PublishedRow]:
    """Return every published figure of a store's study beside what was measured; none where its file held none."""
    summary = store.summary
    if summary["kind"] != "study":
        return []
    finished = [record for record in store.records() if record.state == "finished"]
    rows = []
    for arm, raw in summary.get("published", {}).items():
        figures = Published.model_validate(raw)
        trials = [record for record in finished if record.arm == (figures.same_as or arm)]
        used = _generated(store, trials[0]) if trials else None
        for part, metrics in {"test": figures.test, "val": figures.val, **figures.others}.items():
            for metric, value in metrics.items():
                own = {"arm": arm, "part": part, "metric": metric, "published": value, "note": _note(figures)}
                counts = {"real": figures.real, "real_here": summary.get("images", {}).get("real"),
                          "generated": figures.generated, "generated_here": used}
                sets = {"train_set": figures.train_set, "train_set_here": trials[0].train_set if trials else None}
                rows.append(PublishedRow(**own, **counts, **sets, **_measured(trials, part, metric)))
    return rows


def how_it_differs(store: Store) -> list[str]:
    """Return, in sentences, how a run of a published experiment differs from the document's: images, settings, what is open."""
    summary = store.summary
    if not summary.get("about"):
        return []
    about, here = About.model_validate(summary["about"]), summary.get("images", {})
    sentences = [f"The document had {counted(there, 'photograph' if kind == 'real' else 'generated image')}; here there are "
                 f"{here[kind]:,}." for kind, there in about.images.items() if there and kind in here and here[kind] != there]
    if summary["settings"]:
        sentences.append(f"Run with {', '.join(f'--set {setting}' for setting in summary['settings'])}.")
    return [*sentences, *about.differs, *(f"Not clear from the document: {text}" for text in about.unclear)]


def published_table(rows: Sequence[PublishedRow]) -> tuple[list[str], list[list[Any]]]:
    """Return (header, cells) of published beside measured, in per cent and points; a loss stays in nats."""
    header = ["arm", "figure", "published", "here", "difference", "seeds", "train set", "train set here", "# AI", "# AI here",
              "note"]
    return header, [
        [row.arm, f"{row.part} {spoken(row.metric)}", _shown(row.published, row.metric), _mean(row), _difference(row),
         row.seeds, row.train_set, row.train_set_here, row.generated, row.generated_here, row.note] for row in rows]


def _measured(trials: Sequence[TrialRecord], part: str, metric: str) -> dict[str, Any]:
    values = [record.metric(metric, part) for record in trials] if part in ("test", "val") else []  # type: ignore[arg-type]
    known = np.array([value for value in values if value is not None], float)
    if not len(known):
        return {"measured": None, "sd": None, "low": None, "high": None, "seeds": 0}
    if len(known) < 2:
        return {"measured": float(known[0]), "sd": None, "low": None, "high": None, "seeds": 1}
    mean, low, high = t_interval(known)
    return {"measured": mean, "sd": float(known.std(ddof=1)), "low": low, "high": high, "seeds": len(known)}


def _generated(store: Store, record: TrialRecord) -> int | None:
    """Return how many generated images a trial trained and validated on, or None where its rows are gone."""
    try:
        return len(store.rows(record.id).where(split=["train", "val"]).generated)
    except StoreError:
        return None


def _note(figures: Published) -> str:
    return figures.note or (f"same settings as {figures.same_as}" if figures.same_as else "")


def _scale(metric: str) -> tuple[float, int, str]:
    return (1, 3, "") if metric == "loss" else (100, 1, " %")


def _shown(value: float, metric: str) -> str:
    scale, digits, unit = _scale(metric)
    return f"{scale * value:.{digits}f}{unit}"


def _mean(row: PublishedRow) -> str | None:
    if row.measured is None:
        return None
    scale, digits, unit = _scale(row.metric)
    spread = " (one seed)" if row.sd is None else f" ± {scale * row.sd:.{digits}f}"
    return f"{scale * row.measured:.{digits}f}{spread}{unit if row.sd is not None else ''}"


def _difference(row: PublishedRow) -> str | None:
    if row.difference is None:
        return None
    scale, digits, _ = _scale(row.metric)
    return f"{scale * row.difference:+.{digits}f}"


def images_there(images: Mapping[str, int]) -> str:
    """Return "2,000 real, 12,000 generated" of a document's numbers; a 0 stands for any number."""
    return ", ".join(f"{count:,} {kind}" if count else f"any number of {kind}" for kind, count in images.items())
