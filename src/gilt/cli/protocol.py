"""The commands protocol leave-one-generator-out, chronological, cross-collection."""
import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gilt.cli.detector import shortcut_lines
from gilt.cli.show import check_output, print_table, say, settings_option, warnings_shown
from gilt.cli.studies import _watch

if TYPE_CHECKING:
    from gilt.data.table import ImageTable
    from gilt.studies.protocol_results import ProtocolResult
    from gilt.studies.protocols import Protocol

TABLE = click.argument("table", type=click.Path(path_type=Path))
ROOT = click.option("--root", type=click.Path(path_type=Path), help="Where the table's images are now, if they moved.")


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command what all protocols take."""
    for option in reversed((
            click.option("-o", "--output", type=click.Path(path_type=Path), required=True,
                         help="The folder for the records, the predictions and protocol.html."),
            click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Train every arm so often."),
            click.option("--config", type=click.Path(path_type=Path), help="A TOML file of settings (a study's [base])."),
            click.option("--workers", type=click.IntRange(1), help="Run so many trials at once [default: 1]."),
            click.option("--html", type=click.Path(path_type=Path), help="The page to write [default: OUTPUT/protocol.html]."),
            click.option("--json", "as_json", is_flag=True, help="Print JSON: plan, lines, mean, worst, gap, notes."),
            click.option("--equalise", is_flag=True, help="Bring all images to one size and one encoding, in training and in "
                         "use: short for --set train.equalise=true."), settings_option)):
        command = option(command)
    return command


@click.group()
def protocol() -> None:
    """Judge detectors on what they never saw: another generator, the time to come, another collection."""


@protocol.command("leave-one-generator-out", epilog="""\b
Example:
  gilt protocol leave-one-generator-out groceries.parquet -o unseen/ --set train.model=resnet20
  gilt protocol leave-one-generator-out groceries.parquet -o unseen/ --only painter --seeds 5""")
@TABLE
@click.option("--only", multiple=True, metavar="GENERATOR", help="Hold out only this one. May be repeated.")
@ROOT
@_options
def leave_one_generator_out(table: Path, only: tuple[str, ...], root: Path | None, **choices: Any) -> None:
    """Hold each generator out in turn: train on the others, test on it and on test rows of the others.

    Photographs are dealt alike under all of them. The threshold comes from validation rows, which hold none of the generator.
    Run again to resume.
    """
    from gilt.studies.protocols import leave_one_out

    with warnings_shown():
        plan = leave_one_out(table, _base(choices), seeds=choices["seeds"], only=only, root=root)
    _run(plan, table, root, choices)


@protocol.command("chronological", epilog="""\b
Example:
  gilt protocol chronological groceries.parquet --by released -o later/
  gilt protocol chronological groceries.parquet --year painter=2021 --year etcher=2023-05 -o later/""")
@TABLE
@click.option("--by", metavar="COLUMN", help="The column of dates, years or numbers.")
@click.option("--year", "years", multiple=True, metavar="GENERATOR=WHEN",
              help="A generator's year or date, where no column has it. Repeat for each.")
@click.option("--cut", "cuts", multiple=True, metavar="WHEN",
              help="Where a window begins. May be repeated. [default: up to 4 windows, about equally full]")
@ROOT
@_options
def chronological(table: Path, by: str | None, years: tuple[str, ...], cuts: tuple[str, ...], root: Path | None,
                  **choices: Any) -> None:
    """Train on the past and score what comes next, window by window.

    Where photographs are undated and each generator has one moment, whole generators are held out. Else every dated row is
    cut by time. Run again to resume.
    """
    from gilt.studies.protocols import chronological as plan_it

    said = dict(_year(text) for text in years)
    with warnings_shown():
        plan = plan_it(table, _base(choices), seeds=choices["seeds"], by=by, years=said,
                       cuts=[_moment(cut) for cut in cuts], root=root)
    _run(plan, table, root, choices)


@protocol.command("cross-collection", epilog="""\b
Example:
  gilt protocol cross-collection groceries.parquet our-own-test-set.parquet -o elsewhere/
  gilt protocol cross-collection groceries.parquet web.parquet phones.parquet -o elsewhere/ --seeds 5""")
@TABLE
@click.argument("others", nargs=-1, required=True, type=click.Path(path_type=Path))
@_options
def cross_collection(table: Path, others: tuple[Path, ...], **choices: Any) -> None:
    """Train on TABLE, and score its own test rows and all usable rows of OTHERS: your own test set, say.

    Content that lies in TABLE and in another is not learnt from. Run again to resume.
    """
    from gilt.studies.protocols import cross_collection as plan_it

    with warnings_shown():
        plan = plan_it(table, others, _base(choices), seeds=choices["seeds"], folder=choices["output"])
    _run(plan, table, None, choices)


def _base(choices: dict[str, Any]) -> dict[str, Any]:
    from gilt.files import read_toml
    from gilt.settings import override

    equal = ("train.equalise={}",) if choices["equalise"] else ()
    return override(read_toml(choices["config"]) if choices["config"] else {}, (*equal, *choices["settings"]))


def _year(text: str) -> tuple[str, float | str]:
    name, equals, when = text.rpartition("=")
    if not equals or not name or not when:
        raise click.UsageError(f"--year takes GENERATOR=WHEN, as in --year painter=2021, not {text!r}")
    return name, _moment(when)


def _moment(text: str) -> float | str:
    return int(text) if text.isdecimal() else float(text) if text.replace(".", "", 1).isdecimal() else text


def _run(plan: "Protocol", table: Path, root: Path | None, choices: dict[str, Any]) -> None:
    """Run a protocol, print what came of it, and write its page."""
    from gilt.data.table import ImageTable
    from gilt.reports.protocol import protocol_page
    from gilt.studies.executors import Executor
    from gilt.studies.protocol_results import protocol_result
    from gilt.studies.protocols import run_protocol

    output, page = choices["output"], choices["html"] or choices["output"] / "protocol.html"
    check_output(page)
    equal = all(config.train.equalise for config in plan.study.arms.values())
    lines = _shortcuts(plan.joined if plan.joined is not None else ImageTable.load(table, root=root), equal=equal)
    plan = replace(plan, plan=plan.plan.model_copy(update={"shortcuts": tuple(lines)}))
    for line in lines:
        say(line)
    say(f"{plan.study.description} = {len(plan.study.arms) * len(plan.study.seeds)} trainings")
    with warnings_shown():
        run_protocol(plan, output, executor=Executor(workers=choices["workers"]), watch=_watch("auroc"), root=root)
    result = protocol_result(output)
    if choices["as_json"]:
        click.echo(json.dumps(result.as_json(), indent=1))
    else:
        _print(result)
    protocol_page(result, to=page, command=shlex.join(["gilt", *sys.argv[1:]]))
    say(f"wrote {page}; records and predictions in {output / 'study'}: gilt study report {output / 'study'}")
    raise SystemExit(1 if result.failed else 0)


def _shortcuts(table: "ImageTable", *, equal: bool) -> list[str]:
    from gilt.data.audit import origin_shortcuts

    return shortcut_lines(*origin_shortcuts(table), equal=equal)


def _print(result: "ProtocolResult") -> None:
    from gilt.errors import counted
    from gilt.evaluation.metrics import spoken
    from gilt.reports.protocol import protocol_table, protocol_verdict
    from gilt.studies.protocol_results import SHOWN

    for line in result.plan.shortcuts:
        click.echo(f"{line}\n")
    for sentence in protocol_verdict(result):
        click.echo(sentence)
    for name in SHOWN:
        where = " at the validated threshold" if name == "balanced_accuracy" else ""
        print_table(*protocol_table(result, name), title=f"\n{spoken(name)}{where}")
    seeds = counted(len(result.seeds), "seed")
    click.echo(f"95 % intervals: over {seeds} or over images, the wider; of a difference, over seeds")
    for note in result.notes:
        click.echo(f"note: {note}")
    for text in result.failed:
        say(f"failed: {text}")
