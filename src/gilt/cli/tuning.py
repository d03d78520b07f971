"""The command `gilt tune`."""
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gilt.cli.show import STORE, TrainLine, clock, print_table, say, settings_option, warnings_shown

if TYPE_CHECKING:
    from gilt.studies.runner import Watch
    from gilt.studies.store import TrialRecord


def _list_presets(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    if wanted:
        from gilt.studies.tuning import tuning_presets

        print_table(["preset", "what it searches"], list(tuning_presets().items()))
        context.exit()


@click.command(epilog="""\b
Example:
  gilt tune lenet.toml --store runs/lenet
  gilt tune cifake-grid --data cifake.parquet --store runs/cifake-grid
  gilt tune cifake-grid --data cifake.parquet --store runs/quick --set train.epochs=1 --set seeds=[1]""")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--store", type=STORE, required=True, help="The folder, or address (s3://...), for its records.")
@click.option("--data", type=click.Path(path_type=Path), help="The table to use in place of the file's. A preset needs one.")
@click.option("--root", type=click.Path(path_type=Path), help="Where the table's images are now, if they moved.")
@click.option("--final/--no-final", default=True, show_default=True, help="Train the best settings for the test.")
@click.option("--retry", is_flag=True, help="Run the trials that failed again.")
@click.option("--presets", is_flag=True, is_eager=True, expose_value=False, callback=_list_presets,
              help="List the presets, and exit.")
@settings_option
def tune(file: Path, store: Path | str, data: Path | None, root: Path | None, final: bool, retry: bool,
         settings: tuple[str, ...]) -> None:
    """Search for settings by val figures (a grid, at random, or TPE), then train the best for the test.

    FILE is a study file with a table [tune], or the name of a preset. Run again to resume, or with more --set tune.trials=N to
    go on. --set changes the base, or the search itself (tune.trials, tune.epochs, seeds ...). Test rows are read once, after
    the search. The exit code is 1 where a trial failed.
    """
    from gilt.studies.outcome import outcome, tuning_verdict
    from gilt.studies.store import Store
    from gilt.studies.tune import tune as search
    from gilt.studies.tuning import Tuning

    logging.getLogger("gilt.engine.checkpoint").setLevel(logging.WARNING)  # not a line for each of many trials
    plan = Tuning.load(file, settings, data=data)
    with warnings_shown():
        records = search(plan, store, watch=_watch(plan.tune.metric), root=root, final=final, retry=retry)
    print_search(store)
    for sentence in tuning_verdict(outcome(Store(store))):
        say(sentence)
    failed = [record for record in records if record.state == "failed"]
    for record in failed:
        say(f"failed: {record.arm}: {record.reason}")
    say(f"records in {store}; next: gilt study report {store}")
    raise SystemExit(1 if failed else 0)


def print_search(folder: Path | str) -> None:
    """Print a tuning's trials; many settings are left to the report, which has room for them."""
    from gilt.studies.outcome import FEW, outcome, short_names, tuning_rows
    from gilt.studies.store import Store

    store = Store(folder)
    names = short_names(list(outcome(store).space.dimensions))
    rows = tuning_rows(store)
    if not rows:
        say(f"{folder} holds no trial yet")
        return
    if len(names) > FEW:
        rows = [{key: value for key, value in row.items() if key not in names} for row in rows]
        say(f"the settings of the trials: gilt study report {folder}, or gilt study show {folder} --json")
    print_table([names.get(key, key) for key in rows[0]], [list(row.values()) for row in rows])


def _watch(metric: str) -> "Watch":
    """Return callbacks that draw one line a trial, with its settings and what it came to on the val (or test) rows."""
    from gilt.errors import counted
    from gilt.evaluation.metrics import spoken
    from gilt.studies.outcome import FEW, figure, settings_text
    from gilt.studies.runner import Watch

    line = TrainLine()

    def start(trial, number: int, count: int) -> None:
        line.prefix, line.epoch, line.last = f"[{number}/{count}] {trial.arm}  ", 0, None
        line.live_only = True

    def done(record: "TrialRecord") -> None:
        part = "val" if record.test is None else "test"
        if record.state == "failed":
            said = f"failed: {record.reason}"
        elif record.state == "pruned":
            said = f"given up after {counted(len(record.history), 'epoch')}"
        else:
            said = f"{part} {spoken(metric)} {figure(metric, record.metric(metric, part))}"  # type: ignore[arg-type]
        few = f"{settings_text(record.drawn, short=True)}: " if len(record.drawn) <= FEW else ""
        say(f"{line.prefix}{f'seed {record.seed}: ' if part == 'test' else few}{said} in {clock(record.seconds['total'])}")

    return Watch(start, line, done)
