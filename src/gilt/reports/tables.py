"""Tables: all that a study measured as CSV, Markdown and LaTeX. The page's numbers, to take along into a paper or a program."""
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from gilt.errors import ConfigError, StoreError, counted, listed
from gilt.evaluation.metrics import spoken
from gilt.evaluation.uncertainty import t_interval
from gilt.files import read_json, write_json, write_text, writing
from gilt.reports.arms import arm_rows, thesis_table
from gilt.reports.plots import p_text
from gilt.reports.typeset import Table, as_csv, as_latex, as_markdown
from gilt.reports.worth import HEADER, worth_rows
from gilt.settings import Config
from gilt.studies.class_changes import class_changes
from gilt.studies.compare import compare, effect_rows, taken
from gilt.studies.published import published_rows, published_table
from gilt.studies.regret import regret_rows, regrets
from gilt.studies.store import Store, TrialRecord, rows_shown
from gilt.studies.worth import worth

log = logging.getLogger(__name__)
LIST = "tables.json"  # in a folder of tables: whose they are, and which files are ours to replace
FORMS: Mapping[str, Callable[[Table, str], str]] = {
    "csv": lambda table, label: as_csv(table), "md": lambda table, label: as_markdown(table), "tex": as_latex}
SIDE = 6  # arms beside one another in LaTeX, as in the thesis


class _Held(Config):
    """What a folder of tables says of itself."""

    study: str
    files: tuple[str, ...]


def tables(store: Store | Path | str) -> dict[str, Table]:
    """Return a study's tables by name, those that it has something for.

    `arms` in the thesis's form (tidy: one row an arm), `effects` against the benchmark, `classes` that they helped and hurt,
    `worth` in photographs, `regret` of validation, `published` beside measured, and every one of the `trials`.
    Raises StoreError for a tuning, and where no trial is finished yet.
    """
    store = store if isinstance(store, Store) else Store(store)
    finished = [record for record in taken(store)[0] if record.state == "finished"]
    summary = store.summary
    if not finished:
        raise StoreError(f"no trial of {store.address} is finished yet: run gilt study run again")
    title = f"{summary['name']}, {counted(len({record.seed for record in finished}), 'seed')}"
    made = (_arms(summary, finished), _effects(store, summary), _classes(store), _worth(store), _regret(store),
            _published(store), _trials(store, summary["metric"]))
    return {name: Table(name, f"{title}: {caption}", *rest)
            for name, caption, *rest in (table for table in made if table is not None)}


def write_tables(store: Store | Path | str, folder: Path | str) -> list[Path]:
    """Write each table as CSV, Markdown and LaTeX to `folder` and return the files; what this replaces are tables of ours.

    Raises StoreError where the folder holds anything else, or the tables of another study.
    """
    store, folder = store if isinstance(store, Store) else Store(store), Path(folder)
    name = store.summary["name"]
    before = check_folder(store, folder)
    files = {f"{table.name}.{ending}": form(table, name) for table in tables(store).values() for ending, form in FORMS.items()}
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / LIST, {"study": name, "files": sorted({*before, *files})})  # first, so that a kill leaves no stranger
    for file, text in files.items():
        write_text(folder / file, text)
    for file in before - set(files):  # what the study no longer says must not stay beside what it does
        (folder / file).unlink(missing_ok=True)
    write_json(folder / LIST, {"study": name, "files": sorted(files)})
    return [folder / file for file in files]


def check_folder(store: Store, folder: Path | str) -> set[str]:
    """Return the tables that the folder holds already. Raises StoreError where anything in it is not this study's."""
    folder, summary = Path(folder), store.summary
    name = summary["name"]
    if summary["kind"] != "study":
        taken(store)  # which says so
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())  # folders below it will be made
    if not nearest.is_dir():
        raise StoreError(f"{nearest} is a file: name a folder for the tables")
    inside = {item.name for item in folder.iterdir()} if folder.is_dir() else set()
    held = _held(folder) if LIST in inside else _Held(study=name, files=())
    ours = set(held.files)
    if others := sorted(file for file in inside - ours - {LIST} if not file.startswith(".")):
        raise StoreError(f"{folder} holds other things than tables ({listed(others, most=4)}): choose a new or empty folder "
                         "for the tables")
    if held.study != name:
        raise StoreError(f"{folder} holds the tables of the study {held.study!r}, not of {name!r}: choose another folder")
    return ours & inside


def _held(folder: Path) -> _Held:
    try:
        return _Held.model_validate(read_json(folder / LIST))
    except ValidationError:
        raise StoreError(f"{folder / LIST} is no list of tables of gilt's: choose a new or empty folder for them") from None


def _arms(summary: Mapping[str, Any], finished: Sequence[TrialRecord]) -> tuple[Any, ...]:
    found = arm_rows(summary, finished)
    header, *shown = thesis_table(found, summary["benchmark"])
    metrics = list(dict.fromkeys(("accuracy", "loss", summary["metric"])))
    fields = ["arm", "benchmark", "seeds", "model", "batch_size", "epochs", "steps", "dropout", "train_set", "val_set",
              "mix_mode", "balance", "n_real", "n_generated", "n_drawn", "n_val", "n_test",
              *(f"{metric}_{what}" for metric in metrics for what in ("mean", "sd", "low", "high"))]
    rows = [_arm(row, summary["benchmark"], metrics) for row in found]
    return ("arms", "the arms, and what they come to on test (mean ± standard deviation over seeds)", fields, rows, header,
            shown, SIDE, any(row[1] for row in rows))


def _arm(row: Mapping[str, Any], benchmark: str | None, metrics: Sequence[str]) -> list[Any]:
    """Return an arm's tidy row: numbers of rows are means over seeds, low and high Student's t interval of the mean."""
    train, mix, first = row["config"].train, row["config"].mix, row["record"]
    counts = [_mean([getattr(trial, name) for trial in row["trials"]])
              for name in ("n_real", "n_generated", "n_drawn", "n_val", "n_test")]
    return [row["arm"], row["arm"] == benchmark, row["n"], train.model, train.batch_size, train.epochs, train.steps,
            first.dropout, first.train_set, first.val_set, mix.mode, mix.balance, *counts,
            *(value for metric in metrics for value in _spread([trial.metric(metric) for trial in row["trials"]]))]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    mean = float(np.mean(known)) if known else None
    return int(mean) if mean is not None and mean == int(mean) and isinstance(known[0], int) else mean


def _spread(values: Sequence[float | None]) -> list[float | None]:
    known = np.array([value for value in values if value is not None], float)
    if len(known) < 2:
        return [_mean(values), None, None, None]
    mean, low, high = t_interval(known)
    return [mean, float(known.std(ddof=1)), low, high]


def _effects(store: Store, summary: Mapping[str, Any]) -> tuple[Any, ...] | None:
    effects = compare(store, summary["benchmark"], metric=summary["metric"]) if summary["benchmark"] else []
    if not effects:
        return None
    unit = "nats" if summary["metric"] == "loss" else "points"
    fields = ["arm", "benchmark", "metric", f"difference_{unit}", "low", "high", "seeds", "verdict", "p_holm", "p_t",
              "p_sign_flip", "p_mcnemar", "better", "better_low", "better_high"]
    rows = [[e.arm, e.benchmark, e.metric, e.mean, e.low, e.high, len(e.seeds), e.verdict, e.p_holm, e.p_t, e.p,
             e.mcnemar.p if e.mcnemar else None, *((e.better.value, e.better.low, e.better.high) if e.better else [None] * 3)]
            for e in effects]
    header, shown = effect_rows(effects)
    return ("effects", f"test {spoken(summary['metric'])} against the benchmark {summary['benchmark']}, paired over seeds",
            fields, rows, header, _text(shown))


def _classes(store: Store) -> tuple[Any, ...] | None:
    changes = class_changes(store)
    if not changes:
        return None
    rows = [[*(len(v) if k == "seeds" else v for k, v in asdict(change).items())] for change in changes]
    fields = [name.rstrip("_") if name != "difference" else "difference_points" for name in asdict(changes[0])]
    over = ["images" if c.kind == "images" else counted(len(c.seeds), "seed") for c in changes]
    one = len(set(over)) == 1  # what every row says is said once, above
    shown = [[c.arm, c.class_, f"{100 * c.benchmark_recall:.1f} %", f"{100 * c.recall:.1f} %", f"{c.difference:+.1f}",
              "none" if c.low is None else f"{c.low:+.1f} to {c.high:+.1f}", *([] if one else [of]), f"{c.images:,}",
              p_text(c.p_holm), c.verdict] for c, of in zip(changes, over, strict=True)]
    header = ["arm", "class", "benchmark", "arm's", "points", "95 % interval", *([] if one else ["over"]), "images", "p (Holm)",
              "verdict"]
    return ("classes", f"recall of each class beside the benchmark's ({changes[0].benchmark}), on the same test images"
            f"{f'; intervals over {over[0]}' if one else ''}", fields, rows, header, _text(shown))


def _worth(store: Store) -> tuple[Any, ...] | None:
    try:
        found = worth(store)
    except ConfigError as error:
        log.info("no table of worth: %s", error)
        return None
    arms = [(setting, arm) for setting in found.settings for arm in setting.arms]
    if not arms:
        return None
    ends = [f"{name}{end}" for name in ("error", "n_eq", "rho") for end in ("", "_low", "_high")]
    rows = [[setting.name, a.arm, a.mode, a.control, a.n, a.m,
             *(end for x in (a.error, a.n_eq, a.rho) for end in (x.value, x.low, x.high)), len(a.seeds), a.verdict]
            for setting, a in arms]
    fields = ["setting", "arm", "mode", "control", "n_real", "n_generated", *ends, "seeds", "verdict"]
    return ("worth", "what generated images are worth in photographs, with 95 % intervals", fields, rows, HEADER,
            _text(worth_rows(found)))


def _regret(store: Store) -> tuple[Any, ...] | None:
    found = regrets(store)
    if not found:
        return None
    joined = {"arms", "against", "chosen", "by_seed"}
    rows = [[len(v) if k == "seeds" else "; ".join(map(str, v)) if k in joined else v for k, v in asdict(r).items()]
            for r in found]
    unit = "nats" if found[0].metric == "loss" else "points"
    header, shown = regret_rows(found)
    return ("regret", f"test {spoken(found[0].metric)} ({unit}) lost by what was validated on",
            [f"lost_{unit}" if name == "lost" else name for name in asdict(found[0])], rows, header, _text(shown))


def _published(store: Store) -> tuple[Any, ...] | None:
    found = published_rows(store)
    if not found:
        return None
    header, shown = published_table(found)
    return ("published", "published figures beside those measured here (mean ± standard deviation over seeds)",
            [*asdict(found[0]), "difference"], [[*asdict(row).values(), row.difference] for row in found], header, _text(shown))


def _trials(store: Store, metric: str) -> tuple[Any, ...]:
    found = rows_shown(store)
    more = [] if metric in ("accuracy", "loss") else [metric]
    header = ["arm", "seed", "state", "# real", "# AI", "val accuracy", "test accuracy", "test loss",
              *(f"test {spoken(name)}" for name in more), "seconds"]
    shown = [[r["arm"], r["seed"], r["state"], r["n_real"], r["n_generated"],
              *(_share(r[name]) for name in ("val_accuracy", "test_accuracy")), _digits(r["test_loss"], 3),
              *(_share(r[f"test_{name}"]) for name in more), _digits(r["seconds"], 0)] for r in found]
    return ("trials", "every trial, and those that wait", list(found[0]), [list(row.values()) for row in found], header,
            _text(shown))


def _share(value: float | None) -> str | None:
    return None if value is None else f"{100 * value:.1f} %"


def _digits(value: float | None, digits: int) -> str | None:
    return None if value is None else f"{value:,.{digits}f}"


def _text(rows: Sequence[Sequence[Any]]) -> list[list[str]]:
    return [["-" if v is None else f"{v:,}" if isinstance(v, int) and not isinstance(v, bool) else str(v) for v in row]
            for row in rows]
