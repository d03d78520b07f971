"""Protocols: is a detector any good on what it never saw? Each is a study of a few arms x seeds, planned from a table.

    leave-one-generator-out   an arm a generator: it is in the test alone, the others are learnt from, and tested too
    chronological             an arm a moment: learn from what is older, and score what comes next
    cross-collection          one arm: learn from one table, and score others, your own test set among them

What came of one is in `gilt.studies.protocol_results`.
"""
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from gilt.config import REAL, SplitConfig, TrialConfig
from gilt.data.join import join
from gilt.data.periods import cut_points, moments
from gilt.data.table import ImageTable
from gilt.errors import ConfigError, GiltError, StoreError, TableError, listed, near
from gilt.files import read_json, write_json
from gilt.settings import Config, Moment, merge, parse
from gilt.studies.executors import Executor
from gilt.studies.runner import Watch, run_study
from gilt.studies.store import TrialRecord
from gilt.studies.study import Study
from gilt.training import detects

log = logging.getLogger(__name__)
SEEDS, WINDOWS = 3, 4
FROM = "from_table"  # the column of a joined table that names the table each row is from
PLAN, TABLE, STUDY = "protocol.json", "table.parquet", "study"
Kind = Literal["leave-one-generator-out", "chronological", "cross-collection"]
NEW = {"leave-one-generator-out": "unseen", "chronological": "next", "cross-collection": "other"}
KNOWN = {"leave-one-generator-out": "seen", "chronological": "seen", "cross-collection": "own"}


class Plan(Config):
    """What a protocol asks of a table, as its folder's `protocol.json` keeps it.

    Chronological: `by` is a column, or `years` the generators' moments; `starts` is where each window but the first begins (as
    numbers: microseconds since 1970 for dates), `labels` how that is written, arm by arm. Cross-collection: `home` is the table
    that is learnt from. `shortcuts` are lines that belong above the result.
    """

    kind: Kind
    name: str
    by: str | None = None
    years: dict[str, Moment] = {}
    starts: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    home: str | None = None
    shortcuts: tuple[str, ...] = ()

    @property
    def split(self) -> SplitConfig:
        """The settings that say a row's moment."""
        return SplitConfig(by=self.by) if self.by else SplitConfig(years=self.years)


@dataclass(frozen=True)
class Protocol:
    """A plan and the study that carries it out; `joined` is the table to be written first, where there is no such file."""

    plan: Plan
    study: Study
    joined: ImageTable | None = None


def leave_one_out(table: Path, base: Mapping[str, Any] | None = None, *, seeds: int = SEEDS, only: Sequence[str] = (),
                  root: Path | None = None) -> Protocol:
    """Return the plan to hold out each generator of a table in turn, or `only` some; the others are tested on too.

    `base` holds settings of every trial. Raises TableError below two generators, ConfigError for a name that is none.
    """
    known = _rows(ImageTable.load(table, root=root), base).generated.origins
    if len(known) < 2:
        there = f"one generator only, {known[0]}" if known else "no generated image"
        raise TableError(f"{table} has {there}: to hold one out, another must be left to learn from")
    for name in only:
        if name not in known:
            raise ConfigError(f"no generator {name!r} in {table} (has: {listed(known)}).{near(name, known)}")
    arms: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(only or known):
        arms[_arm("without", name, arms)] = {"split": {"hold_out": [name], "seen_in_test": True}}
    plan = Plan(kind="leave-one-generator-out", name=table.stem)
    return Protocol(plan, _study(plan, table, base, arms, seeds))


def chronological(table: Path, base: Mapping[str, Any] | None = None, *, seeds: int = SEEDS, by: str | None = None,
                  years: Mapping[str, Moment] | None = None, cuts: Sequence[Moment] = (), root: Path | None = None) -> Protocol:
    """Return the plan to learn from what is older than a moment and score the next window, moment by moment.

    `by` is a column of dates, years or numbers, or `years` says one a generator. `cuts` is where windows begin; else there are
    at most WINDOWS, about equally full. Where photographs are undated and each generator has one moment, whole generators are
    held out, the photographs are the same for all arms, and generators that were learnt from are tested beside. Else all
    dated rows are cut by time. Raises TableError and ConfigError for what cannot be cut.
    """
    if bool(by) == bool(years):
        raise ConfigError("a chronological protocol needs to know when: give by, a column of dates or years (--by), or years, "
                          "one a generator (--year)" + (", not both" if by else ""))
    rows = _rows(ImageTable.load(table, root=root), base)
    ask = parse(SplitConfig, {"by": by} if by else {"years": dict(years or {})}, where=str(table))
    when, kind = moments(rows.frame, ask)
    real, made = (when[(rows.frame["origin"] == REAL) == own] for own in (True, False))
    starts = _starts(made.dropna(), kind, cuts, ask)
    labels = [_label(start, kind) for start in starts]
    own = made.groupby(rows.frame["origin"]).agg(["min", "max", "count", "size"])
    if real.isna().all() and (own["min"] == own["max"]).all() and (own["count"] == own["size"]).all():
        arms = {f"before-{label}": {"split": {"hold_out": sorted(own.index[own["min"] >= start]), "seen_in_test": True}}
                for label, start in zip(labels, starts, strict=True)}
    else:
        said = rows.frame["split"].notna().any()
        if said:
            log.warning("the splits of %s are not kept: rows are cut by time", table)
        cut = {"by": by} if by else {"years": dict(years or {})}
        arms = {f"before-{label}": {"split": cut | {"cuts": [_written(start, kind)]} | ({"keep": False} if said else {})}
                for label, start in zip(labels, starts, strict=True)}
    plan = Plan(kind="chronological", name=table.stem, by=by, years=dict(years or {}), starts=tuple(starts),
                labels=tuple(labels))
    return Protocol(plan, _study(plan, table, base, arms, seeds))


def cross_collection(table: Path, others: Sequence[Path], base: Mapping[str, Any] | None = None, *, seeds: int = SEEDS,
                     folder: Path) -> Protocol:
    """Return the plan to learn from `table` and score its own test rows and all usable rows of the other tables.

    Their rows become one table, which is kept in `folder`: content that lies in both is not learnt from. `split.keep=false`
    deals the rows of `table` anew, never those of the others. Raises TableError as `join` does, ConfigError for no other table
    and for other ways to choose the test rows.
    """
    if not others:
        raise ConfigError("cross-collection needs at least one other table to score")
    asked = _settings(base).split
    for name in ("folds", "hold_out", "by", "years"):
        if getattr(asked, name):
            raise ConfigError(f"cross-collection tests on the rows of the other tables: leave split.{name} out")
    names = _names([table, *others])
    home = ImageTable.load(table).with_column(FROM, names[0])
    if not asked.keep:  # only at home: the other tables' rows stay test rows
        home, base = home.with_column("split", None), merge(base or {}, {"split": {"keep": True}})
    tests = [ImageTable.load(path).with_column(FROM, name).with_column("split", "test")
             for path, name in zip(others, names[1:], strict=True)]
    plan = Plan(kind="cross-collection", name=names[0], home=names[0])
    study = _study(plan, folder / TABLE, base, {_arm("on", names[0], {}): {}}, seeds)
    return Protocol(plan, study, join([home, *tests]))


def run_protocol(protocol: Protocol, folder: Path | str, *, executor: Executor | str = "local", watch: Watch | None = None,
                 root: Path | None = None) -> list[TrialRecord]:
    """Run a protocol's trials into `folder` and return their records; run again to resume.

    The plan is in `protocol.json`, records and predictions in `study/`, a study's store. Raises StoreError where the folder
    holds something else, and as `run_study`.
    """
    folder = Path(folder)
    held = read_plan(folder) if (folder / PLAN).is_file() else None
    if held and (held.kind, held.name) != (protocol.plan.kind, protocol.plan.name):
        raise StoreError(f"{folder} holds the protocol {held.kind} of {held.name}: choose another folder")
    if held is None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError(f"{folder} holds other things than a protocol: choose a new or empty folder")
    write_json(folder / PLAN, protocol.plan.model_dump(mode="json"))
    if protocol.joined is not None:
        protocol.joined.save(folder / TABLE)
    try:
        return run_study(protocol.study, folder / STUDY, executor=executor, watch=watch, root=root)
    except GiltError:
        if held is None and not (folder / STUDY).exists():  # refused before anything was trained: nothing is left behind
            for name in (PLAN, TABLE):
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()
        raise


def read_plan(folder: Path | str) -> Plan:
    """Return the plan that a protocol's folder holds. Raises StoreError where there is none."""
    path = Path(folder) / PLAN
    if not path.is_file():
        raise StoreError(f"{folder} holds no protocol (no {PLAN}): run one with gilt protocol")
    return parse(Plan, read_json(path), where=str(path))


def _settings(base: Mapping[str, Any] | None) -> TrialConfig:
    """Return what the settings of every trial say. Raises ConfigError for a mistake in them, and for another target."""
    return parse(TrialConfig, _of_detector(base), where="--set")


def _of_detector(base: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the base settings with a detector's target, `origin` where none is said. Raises ConfigError for another one."""
    base = dict(base or {})
    target = base.get("target", base.get("train", {}).get("target", "origin"))
    if not detects(target):
        raise ConfigError(f"a protocol judges detectors: its target is 'origin' or 'generator', not {target!r}")
    return base | {"target": target}


def _study(plan: Plan, table: Path, base: Mapping[str, Any] | None, arms: Mapping[str, Mapping[str, Any]],
           seeds: int) -> Study:
    """Return the study of some arms, each a detector's base settings with its own laid over them."""
    whole = _of_detector(base)
    configs = {arm: parse(TrialConfig, merge(whole, changes), where=f"arm {arm!r}") for arm, changes in arms.items()}
    return Study(f"{plan.kind} of {plan.name}", table, tuple(range(seeds)), configs, None, "auroc",
                 f"{plan.kind}: {len(configs)} arms x {seeds} seeds")


def _rows(table: ImageTable, base: Mapping[str, Any] | None) -> ImageTable:
    """Return the usable rows that the settings of every trial pick."""
    config = _settings(base)
    return table.pick(config.classes, config.generators).usable


def _arm(word: str, name: str, taken: Mapping[str, Any]) -> str:
    """Return an arm's name that no other has and that can be a file's: generators are named by anyone."""
    plain = f"{word}-" + re.sub(r"[^\w.+-]+", "-", name)
    return plain if plain not in taken else f"{plain}-{len(taken) + 1}"


def _starts(made: pd.Series, kind: str, cuts: Sequence[Moment], ask: SplitConfig) -> list[float]:
    """Return where the windows but the first begin: at `cuts`, or so that windows hold about as many generated images."""
    distinct, counts = np.unique(made, return_counts=True)
    said = f"column {ask.by!r}" if ask.by else "years"
    if len(distinct) < 2:
        there = f"one value only, {_label(distinct[0], kind)}," if len(distinct) else "no value"
        raise TableError(f"{said} holds {there} for the generated images: there is nothing to cut by time")
    if not cuts and len(distinct) <= WINDOWS:
        return distinct[1:].tolist()
    if not cuts:
        before = np.cumsum(counts)[:-1] / counts.sum()  # of the images, what lies before each later moment
        nearest = {int(np.abs(before - part / WINDOWS).argmin()) for part in range(1, WINDOWS)}
        return [float(distinct[place + 1]) for place in sorted(nearest)]
    starts = [cut_points(made, kind, ask.model_copy(update={"cuts": (cut,)}))[0] for cut in cuts]
    if sorted(set(starts)) != starts:
        raise ConfigError(f"cuts must rise: {listed(cuts)}")
    ends = f"{said} goes from {_label(distinct[0], kind)} to {_label(distinct[-1], kind)}"
    if distinct[0] >= starts[0]:
        raise ConfigError(f"no generated image lies before {cuts[0]}, to learn from ({ends})")
    for cut, low, high in zip(cuts, starts, [*starts[1:], np.inf], strict=True):
        if not ((distinct >= low) & (distinct < high)).any():
            raise ConfigError(f"no generated image lies in the window from {cut} on ({ends})")
    return starts


def _label(moment: float, kind: str) -> str:
    if kind == "number":
        return f"{moment:g}"
    stamp = pd.Timestamp(int(moment), unit="us")
    return stamp.date().isoformat() if stamp == stamp.normalize() else stamp.isoformat(timespec="seconds")


def _written(moment: float, kind: str) -> Moment:
    return moment if kind == "number" else pd.Timestamp(int(moment), unit="us").isoformat()


def _names(tables: Sequence[Path]) -> list[str]:
    """Return a name a table: its file's, with its folder's where two are alike. Raises ConfigError for one given twice."""
    paths = [path.resolve() for path in tables]
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise ConfigError(f"{twice.name} is given twice: name each table once")
    stems = [path.stem for path in paths]
    return [stem if stems.count(stem) == 1 else f"{path.parent.name}/{stem}" for path, stem in zip(paths, stems, strict=True)]
