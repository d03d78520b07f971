"""Commands that run studies: study run, show, report; demo."""
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gilt.cli.show import STORE, TrainLine, check_output, clock, print_table, say, settings_option, warnings_shown
from gilt.cli.watch import RunningLine

if TYPE_CHECKING:
    from gilt.studies.runner import Watch
    from gilt.studies.store import TrialRecord


@click.group()
def study() -> None:
    """Run a study: arms x seeds, from a TOML file; then show it, or report on it."""


@study.command("run", epilog="""\b
Example:
  gilt study run groceries.toml --store runs/groceries
  gilt study run groceries.toml --store runs/groceries --workers 2
  gilt study run thesis-hair --data hair.parquet --store runs/hair --seeds 1""")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--store", type=STORE, required=True, help="The folder, or address (s3://...), for its records.")
@click.option("--data", type=click.Path(path_type=Path), help="The table to use in place of the file's. A preset needs one.")
@click.option("--seeds", type=click.IntRange(1), help="Run under seeds 0 to SEEDS - 1 in place of the file's.")
@click.option("--root", type=click.Path(path_type=Path), help="Where the table's images are now, if they moved.")
@click.option("--executor", "kind", default="local", show_default=True, metavar="local|ray",
              help="Where trials run: on this machine, or on a Ray cluster.")
@click.option("--workers", type=click.IntRange(1), help="Run so many trials at once [default: 1; ray: as there is room].")
@click.option("--address", help="The address of the Ray cluster [default: one of this machine's own].")
@click.option("--gpus", type=click.FloatRange(0), help="The part of a GPU that one trial on Ray takes, as in 0.25.")
@settings_option
def run(file: Path, store: Path | str, data: Path | None, seeds: int | None, root: Path | None, settings: tuple[str, ...],
        **where: Any) -> None:
    """Run every trial of a study that is not finished yet. Run again to resume.

    FILE is a study file, or the name of a preset (gilt study presets). A failed trial is recorded with its traceback and the
    rest goes on; the exit code is then 1. The same command may run several times at once, on several machines that share the
    store: each trial is run by one of them.
    """
    from gilt.studies.best import best_sentences
    from gilt.studies.compare import verdicts
    from gilt.studies.executors import Executor
    from gilt.studies.runner import run_study
    from gilt.studies.store import Store
    from gilt.studies.study import Study

    executor = Executor(**where)
    with warnings_shown():
        plan = Study.load(file, settings, data=data, seeds=seeds)
        records = run_study(plan, store, executor=executor, watch=_watch(plan.metric), root=root)
    _print_trials(Store(store))
    for sentence in [*verdicts(Store(store), plan.benchmark, metric=plan.metric), *best_sentences(records, metric=plan.metric)]:
        say(sentence)
    failed = [record for record in records if record.state == "failed"]
    for record in failed:
        say(f"failed: {record.arm} seed {record.seed}: {record.reason}")
    say(f"records in {store}; next: gilt study report {store}")
    raise SystemExit(1 if failed else 0)


@study.command("show", epilog="""\b
Example:
  gilt study show runs/groceries --json""")
@click.argument("store", type=STORE)
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects, one a trial.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the report's table of arms as Markdown.")
@click.option("--published", is_flag=True, help="Print the figures of the document beside those measured here.")
def show(store: Path | str, as_json: bool, as_markdown: bool, published: bool) -> None:
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
  gilt study report runs/groceries
  gilt study report runs/groceries --tables paper/tables""")
@click.argument("store", type=STORE)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The HTML file [default: STORE/report.html].")
@click.option("--tables", type=click.Path(path_type=Path),
              help="Also write every table to this folder, each as CSV, Markdown and LaTeX.")
@click.option("--root", type=click.Path(path_type=Path), help="Where the table's images are now, if they moved.")
def report(store: Path | str, output: Path | None, tables: Path | None, root: Path | None) -> None:
    """Write one self-contained HTML page: warnings, verdict, worth, effects, and every arm down to its images.

    The first report audits the study's table, which takes some tens of seconds for thousands of images.
    """
    from gilt.reports.report import report as write
    from gilt.reports.tables import check_folder, write_tables
    from gilt.studies.store import Store

    if output:
        check_output(output)
    if tables:
        check_folder(Store(store), tables)  # before any work is done
    with warnings_shown():
        page = write(store, to=output, root=root)
    click.echo(page)
    if output is None and "://" in str(store):
        say(f"published as {str(store).rstrip('/')}/{page.name}")
    if tables:
        with warnings_shown():
            written = write_tables(store, tables)
        say(f"wrote {len(written)} files to {tables}: {', '.join(dict.fromkeys(path.stem for path in written))}")


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

    line, running, prefixes = TrainLine(), RunningLine(), {}

    def start(trial, number: int, count: int) -> None:
        line.prefix, line.epoch, line.last = f"[{number}/{count}] {trial.arm} seed {trial.seed}  ", 0, None
        line.live_only = True
        prefixes[trial.arm, trial.seed] = line.prefix

    def done(record: "TrialRecord") -> None:
        prefix = prefixes.pop((record.arm, record.seed), f"{record.arm} seed {record.seed}  ")
        running.clear()
        if record.state == "failed":
            say(f"{prefix}failed: {record.reason}")
            return
        accuracy, seconds = record.metric("accuracy"), record.seconds["total"]
        rows = f"{record.n_real:,} real + {record.n_generated:,} generated"
        if record.n_drawn != record.n_real + record.n_generated:
            rows += f" drawn as {record.n_drawn:,}"
        value = None if metric in ("accuracy", "loss") else record.metric(metric)
        also = "" if value is None else f", {spoken(metric)} {100 * value:.1f}"
        say(f"{prefix}{record.train_set}: {rows}, test accuracy {100 * (accuracy or 0):.1f} %{also} in {clock(seconds)}")

    return Watch(start, line, done, running)


def _print_trials(store) -> None:
    from gilt.studies.store import rows_shown

    if store.summary["kind"] == "tuning":
        from gilt.cli.tuning import print_search

        print_search(store.address)
        return
    rows = rows_shown(store)
    print_table(list(rows[0]), [list(row.values()) for row in rows])
