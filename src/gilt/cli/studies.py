"""Commands that run studies: study run, show, report; demo."""
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gilt.cli.show import TrainLine, clock, print_table, say, settings_option, warnings_shown

if TYPE_CHECKING:
    from gilt.studies.runner import Watch
    from gilt.studies.store import TrialRecord


@click.group()
def study() -> None:
    """Run a study: arms x seeds, from a TOML file; then show it, or report on it."""


@study.command("run", epilog="""\b
Example:
  gilt study run groceries.toml --store runs/groceries
  gilt study run thesis-hair --data hair.parquet --store runs/hair --seeds 1""")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--store", type=click.Path(path_type=Path), required=True, help="The folder for its records.")
@click.option("--data", type=click.Path(path_type=Path), help="The table to use in place of the file's. A preset needs one.")
@click.option("--seeds", type=click.IntRange(1), help="Run under seeds 0 to SEEDS - 1 in place of the file's.")
@click.option("--root", type=click.Path(path_type=Path), help="Where the table's images are now, if they moved.")
@settings_option
def run(file: Path, store: Path, data: Path | None, seeds: int | None, root: Path | None, settings: tuple[str, ...]) -> None:
    """Run every trial of a study that is not finished yet. Run again to resume.

    FILE is a study file, or the name of a preset (gilt study presets). A failed trial is recorded with its traceback and the
    rest goes on; the exit code is then 1.
    """
    from gilt.studies.best import best_sentences
    from gilt.studies.compare import verdicts
    from gilt.studies.runner import run_study
    from gilt.studies.store import Store
    from gilt.studies.study import Study

    with warnings_shown():
        plan = Study.load(file, settings, data=data, seeds=seeds)
        records = run_study(plan, store, watch=_watch(plan.metric), root=root)
    _print_trials(Store(store))
    for sentence in [*verdicts(Store(store), plan.benchmark, metric=plan.metric), *best_sentences(records, metric=plan.metric)]:
        say(sentence)
    failed = [record for record in records if record.state == "failed"]
    for record in failed:
        say(f"failed: {record.arm} seed {record.seed}: {(record.error or '').strip().splitlines()[-1]}")
    say(f"records in {store}; next: gilt study report {store}")
    raise SystemExit(1 if failed else 0)


@study.command("show", epilog="""\b
Example:
  gilt study show runs/groceries --json""")
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects, one a trial.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the report's table of arms as Markdown.")
@click.option("--published", is_flag=True, help="Print the figures of the document beside those measured here.")
def show(store: Path, as_json: bool, as_markdown: bool, published: bool) -> None:
    """List a study's trials: finished, failed and waiting."""
    from gilt.studies.store import Store, rows_shown

    if published:
        from gilt.cli.presets import print_published

        print_published(Store(store), as_json=as_json)
    elif as_markdown:
        from gilt.reports.report import markdown

        click.echo(markdown(Store(store)), nl=False)
    elif as_json:
        click.echo(json.dumps(rows_shown(Store(store)), indent=1))
    else:
        _print_trials(Store(store))


@study.command("report", epilog="""\b
Example:
  gilt study report runs/groceries""")
@click.argument("store", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The HTML file [default: STORE/report.html].")
def report(store: Path, output: Path | None) -> None:
    """Write one self-contained HTML page: verdict, table, curves, confusion matrices, samples."""
    from gilt.reports.report import report as write

    click.echo(write(store, to=output))


@click.command(epilog="""\b
Example:
  gilt demo --to my-first-study""")
@click.option("--to", type=click.Path(path_type=Path), default=Path("gilt-demo"), show_default=True,
              help="The folder to work in.")
def demo(to: Path) -> None:
    """Run the whole road on the embedded sample, offline: scan, study, report.

    The sample holds Fashion-MNIST photographs and images from a small generator trained on them. Run again to resume.
    """
    from gilt.data.sample import STUDY, unpack_sample
    from gilt.data.scan import scan
    from gilt.files import write_text
    from gilt.reports.report import report as write
    from gilt.studies.compare import verdicts
    from gilt.studies.runner import run_study
    from gilt.studies.study import Study

    images = unpack_sample(to / "images")
    with warnings_shown():
        say(f"gilt scan {images} --layout '{{origin}}/{{split}}/{{class}}' --layout '{{origin}}/{{class}}' "
            f"-o {to / 'sample.parquet'}")
        table = scan(images, ["{origin}/{split}/{class}", "{origin}/{class}"])
        table.save(to / "sample.parquet")
        say(repr(table))
        write_text(to / "study.toml", STUDY)
        say(f"gilt study run {to / 'study.toml'} --store {to / 'store'}")
        plan = Study.load(to / "study.toml")
        records = run_study(plan, to / "store", watch=_watch())
    for sentence in verdicts(records, plan.benchmark):
        say(sentence)
    say(f"gilt study report {to / 'store'}")
    click.echo(write(to / "store"))


def _watch(metric: str = "accuracy") -> "Watch":
    """Return callbacks that draw one line a trial, with its accuracy and, where the study has another, its metric."""
    from gilt.evaluation.metrics import spoken
    from gilt.studies.runner import Watch

    line = TrainLine()

    def start(trial, number: int, count: int) -> None:
        line.prefix, line.epoch, line.last = f"[{number}/{count}] {trial.arm} seed {trial.seed}  ", 0, ""
        line.live_only = True

    def done(record: "TrialRecord") -> None:
        if record.state == "failed":
            say(f"{line.prefix}failed: {(record.error or '').strip().splitlines()[-1]}")
            return
        accuracy, seconds = record.metric("accuracy"), record.seconds["total"]
        rows = f"{record.n_real:,} real + {record.n_generated:,} generated"
        if record.n_drawn != record.n_real + record.n_generated:
            rows += f" drawn as {record.n_drawn:,}"
        value = None if metric in ("accuracy", "loss") else record.metric(metric)
        also = "" if value is None else f", {spoken(metric)} {100 * value:.1f}"
        say(f"{line.prefix}{record.train_set}: {rows}, test accuracy {100 * (accuracy or 0):.1f} %{also} in {clock(seconds)}")

    return Watch(start, line, done)


def _print_trials(store) -> None:
    from gilt.studies.store import rows_shown

    if store.summary["kind"] == "tuning":
        from gilt.cli.tuning import print_search

        print_search(store.folder)
        return
    rows = rows_shown(store)
    print_table(list(rows[0]), [list(row.values()) for row in rows])
