"""Report: a study's records to one self-contained HTML page, which opens without a network."""
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

import gilt
from gilt.config import MixConfig, TrialConfig
from gilt.data.mix import ordered
from gilt.data.table import ImageTable
from gilt.errors import GiltError, StoreError
from gilt.evaluation.metrics import spoken
from gilt.files import write_text
from gilt.reports.matrix import confusion_matrix
from gilt.reports.plots import effects_forest, learning_curves, sample_sheet
from gilt.reports.tuning import tuning_markdown, tuning_report
from gilt.studies.best import best_sentences
from gilt.studies.compare import compare, effect_rows, verdicts
from gilt.studies.plan import plan_sentences
from gilt.studies.store import Store, TrialRecord

SAMPLE_CLASSES, SAMPLES = 10, 5


def report(store: Store | Path | str, *, to: Path | str | None = None) -> Path:
    """Write the report of a study's store to `to` (default: report.html in the store) and return its path.

    Raises StoreError where the folder holds no study, or no trial is finished yet.
    """
    store = store if isinstance(store, Store) else Store(store)
    if store.summary["kind"] == "tuning":
        return tuning_report(store, to=to)
    summary, records = store.summary, store.records()
    finished = [record for record in records if record.state == "finished"]
    if not finished:
        raise StoreError(f"no trial of {store.folder} is finished yet: run gilt study run again")
    benchmark, metric = summary["benchmark"], summary["metric"]
    effects = compare(store, benchmark, metric=metric) if benchmark else []
    page = _template().render(
        study=summary, version=gilt.__version__, verdicts=verdicts(store, benchmark, metric=metric),
        best=best_sentences(store, metric=metric), planned=plan_sentences(effects), effect_table=effect_rows(effects),
        arms=(arms := arm_rows(summary, finished)), table=thesis_table(arms, benchmark), metric=metric, spoken=spoken,
        effects=effects, forest=effects_forest(effects, benchmark) if effects else "",
        curves=learning_curves(finished), confusions=_confusions(finished), samples=_samples(summary, finished),
        failed=[record for record in records if record.state == "failed"], missing=store.missing(),
        left_out=_left_out(finished), machine=finished[0].machine,
        command=_command(summary, store), trials=finished)
    path = Path(to) if to else store.folder / "report.html"
    write_text(path, page)
    return path


def arm_rows(summary: dict[str, Any], finished: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """Return one dict an arm, the benchmark last: its settings, rows, and test accuracy, loss and metric over seeds."""
    rows, metric = [], summary["metric"]
    for arm in summary["arms"]:
        trials = [record for record in finished if record.arm == arm]
        if not trials:
            continue
        config = TrialConfig.model_validate(summary["arms"][arm])
        values = {name: [record.metric(name) for record in trials] for name in ("accuracy", "loss", metric)}
        rows.append({"arm": arm, "config": config, "n": len(trials), "record": trials[0], "trials": trials,
                     "length": f"{config.train.steps} steps" if config.train.steps else str(config.train.epochs),
                     "accuracy": _spread(values["accuracy"], 100, 1), "loss": _spread(values["loss"], 1, 3),
                     "metric": (metric, _spread(values[metric], 100, 1))})
    return sorted(rows, key=lambda row: row["arm"] == summary["benchmark"])


def thesis_table(arms: Sequence[dict[str, Any]], benchmark: str | None) -> list[list[str]]:
    """Return the table in the thesis's form: settings as rows, arms as columns, the benchmark last.

    How classes are balanced, and the study's metric, stand there where they are set.
    """
    metric = arms[0]["metric"][0] if arms else "accuracy"
    balanced = any(row["config"].mix.balance for row in arms)

    def line(name: str, cell: Any) -> list[str]:
        return [name, *(str(cell(row)) for row in arms)]

    return [
        ["Trials", *("Benchmark: " * (row["arm"] == benchmark) + row["arm"] for row in arms)],
        line("Batch Size", lambda row: row["config"].train.batch_size),
        line("Epochs", lambda row: row["length"]),
        line("Dropout", lambda row: "-" if row["record"].dropout is None else f"{row['record'].dropout:g}"),
        line("Model", lambda row: row["config"].train.model),
        line("Train Set Type", lambda row: _each(record.train_set for record in row["trials"])),
        line("Val Set Type", lambda row: row["record"].val_set),
        line("# AI Images", lambda row: _range(row, "n_generated") + _short(row["trials"])),
        line("# Real Images", lambda row: _range(row, "n_real")),
        *([line("Balance", lambda row: _balance(row["config"].mix)),
           line("# Drawn an Epoch", lambda row: _range(row, "n_drawn"))] if balanced else []),
        line("Mix Mode", lambda row: row["config"].mix.mode),
        line("# Test Images", lambda row: f"{row['record'].n_test:,}"),
        line("Test Accuracy", lambda row: row["accuracy"]),
        line("Test Loss", lambda row: row["loss"]),
        *([line(f"Test {spoken(metric)}", lambda row: row["metric"][1])] if metric not in ("accuracy", "loss") else []),
        line("Seeds", lambda row: row["n"]),
    ]


def _balance(mix: MixConfig) -> str:
    return "-" if mix.balance is None else f"{mix.balance} {mix.degree:g}"


def _range(row: dict[str, Any], name: str) -> str:
    """Return a number of rows; where seeds differ, the smallest and the largest."""
    counts = [getattr(record, name) or 0 for record in row["trials"]]
    return f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,} to {max(counts):,}"


def _short(trials: Sequence[TrialRecord]) -> str:
    most = max(sum(record.short.values()) for record in trials)
    return f" ({'up to ' if len(trials) > 1 else ''}{most:,} short)" if most else ""


def _each(names: Iterable[str | None]) -> str:
    return ", ".join(dict.fromkeys(str(name) for name in names))


def markdown(store: Store) -> str:
    """Return the study's table in the thesis's form as Markdown."""
    summary = store.summary
    if summary["kind"] == "tuning":
        return tuning_markdown(store)
    finished = [record for record in store.records() if record.state == "finished"]
    head, *rows = thesis_table(arm_rows(summary, finished), summary["benchmark"])
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _spread(values: Sequence[float | None], scale: float, digits: int) -> str:
    """Return mean and standard deviation over seeds; one seed has no spread, and says so."""
    known = scale * np.array([v for v in values if v is not None], float)
    unit = " %" if scale == 100 else ""
    if not len(known):
        return "-"
    if len(known) < 2:
        return f"{known.mean():.{digits}f}{unit} (one seed)"
    return f"{known.mean():.{digits}f} ± {known.std(ddof=1):.{digits}f}{unit}"


def _confusions(finished: Sequence[TrialRecord]) -> list[str]:
    pictures = []
    for arm in dict.fromkeys(record.arm for record in finished):
        trials = [record for record in finished if record.arm == arm and record.test]
        if trials:
            counts = np.sum([record.test["confusion"] for record in trials if record.test], 0)
            seeds = f"{len(trials)} seeds together" if len(trials) > 1 else "1 seed"
            pictures.append(confusion_matrix(counts, trials[0].classes, f"{arm} ({seeds})"))
    return pictures


def _samples(summary: dict[str, Any], finished: Sequence[TrialRecord]) -> str:
    """Return the sheet of real beside generated images of the most common classes, or "" without the images."""
    try:
        config = TrialConfig.model_validate(finished[0].config)
        table = ImageTable.load(summary["table"], root=summary.get("root")).usable.pick(config.classes, config.generators)
    except GiltError:
        return ""
    counts = table.counts("class")
    if not table.root.exists() or not counts:
        return ""
    classes = sorted(sorted(counts, key=lambda name: -counts[name])[:SAMPLE_CLASSES])
    return sample_sheet({name: {origin: ordered(table.where(class_=name, origin=origin), 0).paths[:SAMPLES]
                                for origin in table.origins} for name in classes})


def _left_out(finished: Sequence[TrialRecord]) -> dict[str, int]:
    """Return reason -> the most rows that any trial left out for it."""
    worst: dict[str, int] = {}
    for record in finished:
        for reason, count in record.left_out.items():
            worst[reason] = max(worst.get(reason, 0), count)
    return worst


def _command(summary: dict[str, Any], store: Store) -> str:
    words = ["gilt", "study", "run", summary["source"], "--store", str(store.folder), *summary.get("options", [])]
    for setting in summary["settings"]:
        words += ["--set", setting]
    return shlex.join(words)


def _template() -> Any:
    loader = PackageLoader("gilt.reports")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                       lstrip_blocks=True).get_template("report.html")
