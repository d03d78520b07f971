"""The command `gilt study watch`, and the line that `gilt study run` draws of several trials at once."""
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gilt.cli.show import CLEAR, STORE, clock, plain

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from gilt.studies.heartbeat import Beat
    from gilt.studies.watching import Standing

PAUSE = 2.0  # seconds between two looks
FEW = 10  # failures that are listed
WIDTH = 60  # letters of the bar


@click.command(epilog="""\b
Example:
  gilt study watch runs/groceries
  gilt study watch runs/groceries --once""")
@click.argument("store", type=STORE)
@click.option("--once", is_flag=True, help="Print where it stands and exit, as where the output is no terminal.")
def watch(store: Path | str, once: bool) -> None:
    """Show a running study in the terminal: done, running, failed, waiting, time left.

    Everything is read from the store, so a study that runs on other machines can be watched too. Ends with the study; Ctrl-C
    ends the watching alone.
    """
    from rich.console import Console
    from rich.live import Live

    from gilt.studies.store import Store
    from gilt.studies.watching import Watcher

    watcher, terminal = Watcher(Store(store)), Console().is_terminal
    standing = watcher.look()
    # names of arms are no markup: "[red]" is printed as it is
    console = Console(width=None if terminal else 200, markup=False, emoji=False, highlight=False)
    if once or not terminal:
        console.print(page(standing))
        return
    try:
        with Live(page(standing), console=console, auto_refresh=False) as live:
            while not standing.over:
                time.sleep(PAUSE)
                standing = watcher.look()
                live.update(page(standing), refresh=True)
    except KeyboardInterrupt:
        click.echo("the study goes on; this was the watching", err=True)


def page(standing: "Standing") -> "Group":
    """Return all that is shown of a study."""
    from rich.console import Group
    from rich.text import Text

    counts = [f"{standing.done} of {standing.total} done", f"{len(standing.running)} running", f"{standing.waiting} waiting"]
    if standing.failed:
        counts.append(f"{len(standing.failed)} failed")
    full = WIDTH * standing.done // max(1, standing.total)
    parts: list[Any] = [Text(f"{plain(standing.name)}: {', '.join(counts)}", style="bold"),
             Text("━" * full, style="green").append("─" * (WIDTH - full), style="dim"), Text(pace(standing))]
    if standing.running:
        parts.append(running(standing.running))
    for beat in standing.lost:
        parts.append(Text(f"stopped: {plain(beat.arm)} seed {beat.seed}, epoch {beat.epoch}: {plain(beat.gone)}. Run the study "
                          "again to go on.", style="yellow"))
    for failure in standing.failed[:FEW]:
        parts.append(Text(f"failed: {plain(failure.arm)} seed {failure.seed}: {plain(failure.reason)}", style="red"))
    if more := standing.failed[FEW:]:
        parts.append(Text(f"... and {len(more)} more: gilt study show", style="red"))
    return Group(*parts)


def pace(standing: "Standing") -> str:
    """Return how quickly it goes and when it will be over, as far as that is known."""
    said = []
    if standing.per_hour is not None:
        said.append(f"{standing.per_hour:,.0f} trials an hour" if standing.per_hour >= 10 else
                    f"{standing.per_hour:.1f} trials an hour")
    if standing.left is not None:
        said.append(f"about {clock(standing.left)} left")
    if not standing.running:
        said.append("nothing waits" if not standing.waiting else "nothing runs (yet, or any more): gilt study run goes on")
    if standing.seconds:
        said.append(f"{clock(standing.seconds)} of training and testing so far")
    return ", ".join(said)


def running(beats: "tuple[Beat, ...]") -> "Table":
    """Return a table of the trials that run."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in (("running", "left"), ("seed", "right"), ("epoch", "right"), ("val", "right"), ("left", "right"),
                          ("where", "left")):
        table.add_column(name, justify=justify, no_wrap=name != "running")  # type: ignore[arg-type]
    for beat in sorted(beats, key=lambda beat: beat.started):
        epoch = f"{beat.epoch}/{beat.epochs}" if beat.epochs and beat.stage != "starting" else "-"
        val = "-" if beat.val_accuracy is None else f"{100 * beat.val_accuracy:.1f} %"
        left = clock(beat.left) if beat.left is not None and beat.stage == "training" else beat.stage
        table.add_row(plain(beat.arm), str(beat.seed), epoch, val, left, plain(f"{beat.host}:{beat.pid}"))
    return table


class RunningLine:
    """The line `2 running: real seed 0 epoch 7/20 val 91.3 %, ai seed 0 starting`, redrawn on a terminal; nothing elsewhere."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()

    def __call__(self, beats: "Mapping[str, Beat]") -> None:
        """Draw what runs now."""
        import shutil

        if self.live and beats:
            text = f"{len(beats)} running: {', '.join(map(brief, sorted(beats.values(), key=lambda beat: beat.started)))}"
            click.echo(f"{CLEAR}{text[:shutil.get_terminal_size().columns - 1]}", nl=False, err=True)

    def clear(self) -> None:
        """Make room for another line."""
        if self.live:
            click.echo(CLEAR, nl=False, err=True)


def brief(beat: "Beat") -> str:
    """Return where a trial stands in a few words."""
    val = "" if beat.val_accuracy is None else f" val {100 * beat.val_accuracy:.1f} %"
    stage = f"epoch {beat.epoch}/{beat.epochs}{val}" if beat.stage == "training" else beat.stage
    return f"{plain(beat.arm)} seed {beat.seed} {stage}"
