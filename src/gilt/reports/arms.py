"""Arms as a report shows them: the table in the thesis's form, each arm's settings beside the benchmark's, names for links."""
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gilt.config import MixConfig, TrialConfig
from gilt.data.choose import in_words
from gilt.evaluation.metrics import spoken
from gilt.reports.tuning import tuning_markdown
from gilt.studies.store import Store, TrialRecord

MUCH = 60  # letters of a setting's value at most


def arm_rows(summary: Mapping[str, Any], finished: Sequence[TrialRecord]) -> list[dict[str, Any]]:
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
                     "accuracy": spread(values["accuracy"], 100, 1), "loss": spread(values["loss"], 1, 3),
                     "metric": (metric, spread(values[metric], *((1, 3) if metric == "loss" else (100, 1))))})
    return sorted(rows, key=lambda row: row["arm"] == summary["benchmark"])


def thesis_table(arms: Sequence[Mapping[str, Any]], benchmark: str | None) -> list[list[str]]:
    """Return the table in the thesis's form: settings as rows, arms as columns, the benchmark last.

    How classes are balanced, how generated images were chosen, and the study's metric, stand there where they are set.
    """
    metric = arms[0]["metric"][0] if arms else "accuracy"
    balanced = any(row["config"].mix.balance for row in arms)
    chosen = any(row["config"].mix.choose for row in arms)

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
        line("Test Set Type", lambda row: _tested(row["record"], row["config"])),
        line("# AI Images", lambda row: _range(row, "n_generated") + _short(row["trials"])),
        line("# Real Images", lambda row: _range(row, "n_real")),
        *([line("Balance", lambda row: _balance(row["config"].mix)),
           line("# Drawn an Epoch", lambda row: _range(row, "n_drawn"))] if balanced else []),
        *([line("AI Images Chosen", lambda row: _chosen(row["config"].mix)),
           line("# Kept of Candidates", _candidates)] if chosen else []),
        line("Mix Mode", lambda row: row["config"].mix.mode),
        line("# Test Images", lambda row: f"{row['record'].n_test:,}"),
        line("Test Accuracy", lambda row: row["accuracy"]),
        line("Test Loss", lambda row: row["loss"]),
        *([line(f"Test {spoken(metric)}", lambda row: row["metric"][1])] if metric not in ("accuracy", "loss") else []),
        line("Seeds", lambda row: row["n"]),
    ]


def markdown(store: Store) -> str:
    """Return the study's table in the thesis's form as Markdown."""
    summary = store.summary
    if summary["kind"] == "tuning":
        return tuning_markdown(store)
    finished = [record for record in store.records() if record.state == "finished"]
    head, *rows = thesis_table(arm_rows(summary, finished), summary["benchmark"])
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def differing(config: Mapping[str, Any], base: Mapping[str, Any] | None) -> list[tuple[str, str, str]]:
    """Return (setting, this arm's value, the benchmark's) of every setting in which two arms differ.

    Without a benchmark there is nothing to differ from: [].
    """
    mine, theirs = dict(_flat(config)), dict(_flat(base or {}))
    return [(name, written(mine.get(name)), written(theirs.get(name))) for name in dict.fromkeys([*mine, *theirs])
            if base is not None and mine.get(name) != theirs.get(name)]


def anchors(arms: Iterable[str]) -> dict[str, str]:
    """Return arm -> the name that links on the page lead to: letters, digits and "-" only, each its own."""
    names: dict[str, str] = {}
    for arm in arms:
        name = plain = "arm-" + (re.sub(r"[^A-Za-z0-9]+", "-", arm).strip("-").lower() or "x")
        number = 1
        while name in names.values():
            name = f"{plain}-{(number := number + 1)}"
        names[arm] = name
    return names


def spread(values: Sequence[float | None], scale: float, digits: int) -> str:
    """Return mean and standard deviation over seeds; one seed has no spread, and says so."""
    known = scale * np.array([v for v in values if v is not None], float)
    unit = " %" if scale == 100 else ""
    if not len(known):
        return "-"
    if len(known) < 2:
        return f"{known.mean():.{digits}f}{unit} (one seed)"
    return f"{known.mean():.{digits}f} ± {known.std(ddof=1):.{digits}f}{unit}"


def written(value: Any) -> str:
    """Return a setting's value as a study file would say it, long ones cut short."""
    if value is None:
        return "-"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= MUCH else text[:MUCH - 1] + "…"


def _flat(value: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    return [pair for key, inner in value.items() for pair in
            (_flat(inner, f"{before}{key}.") if isinstance(inner, Mapping) and inner else [(f"{before}{key}", inner)])]


def _tested(record: TrialRecord, config: TrialConfig) -> str:
    """Return what an arm was tested on; records of older versions do not say, and photographs were all that there was."""
    return record.test_set or ("Real" if config.target == "class" and config.mix.test == "real" else "-")


def _balance(mix: MixConfig) -> str:
    return "-" if mix.balance is None else f"{mix.balance} {mix.degree:g}"


def _chosen(mix: MixConfig) -> str:
    return "-" if mix.choose is None else in_words(mix.choose)


def _candidates(row: Mapping[str, Any]) -> str:
    """Return how many generated images an arm could take of how many; where seeds differ, the smallest and largest numbers."""
    pairs = [(record.choice["kept"], record.choice["candidates"]) for record in row["trials"] if record.choice]
    if not pairs:
        return "-"
    return " of ".join(f"{min(n):,}" if min(n) == max(n) else f"{min(n):,} to {max(n):,}" for n in zip(*pairs, strict=True))


def _range(row: Mapping[str, Any], name: str) -> str:
    """Return a number of rows; where seeds differ, the smallest and the largest."""
    counts = [getattr(record, name) or 0 for record in row["trials"]]
    return f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,} to {max(counts):,}"


def _short(trials: Sequence[TrialRecord]) -> str:
    most = max(sum(record.short.values()) for record in trials)
    return f" ({'up to ' if len(trials) > 1 else ''}{most:,} short)" if most else ""


def _each(names: Iterable[str | None]) -> str:
    return ", ".join(dict.fromkeys(str(name) for name in names))
