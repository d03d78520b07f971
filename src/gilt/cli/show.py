"""What the commands share: progress on standard error, tables, and the --set option."""
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from gilt.engine.train import Tick

settings_option = click.option("--set", "settings", multiple=True, metavar="NAME=VALUE",
                               help="Change a setting, as in --set train.epochs=5. May be repeated.")
CLEAR = "\r\x1b[2K"  # takes a line of progress away
SEED = click.IntRange(0, 2**32 - 1)
TARGET = click.Choice(["class", "origin", "generator"])


class _Place(click.ParamType):
    """A store's folder, or its address, which a Path would take a slash from."""

    name = "store"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        """Return an address as text, anything else as a path."""
        return value if isinstance(value, Path) or "://" in value or "::" in value else Path(value)


STORE = _Place()


def check_output(path: Path) -> None:
    """Raise, before any work is done, where `path` cannot become a file."""
    if path.is_dir():
        raise click.UsageError(f"{path} is a folder: name a file to write")
    folder = next(parent for parent in path.absolute().parents if parent.exists())  # folders below it will be made
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        why = "cannot be written to" if folder.is_dir() else "is no folder"
        raise click.UsageError(f"{folder} {why}: name a file elsewhere")


def check_outputs(outputs: Sequence[Path | None], *, inputs: Sequence[Path]) -> None:
    """Raise, before any work is done, where a file cannot be written, or is one that is read."""
    for output in filter(None, outputs):
        check_output(output)
        for path in inputs:
            if output.resolve() == path.resolve():
                raise click.UsageError(f"{output} is read by this command: name another file to write")


def say(text: str) -> None:
    """Write a line for the user to standard error, where it does not mix with results."""
    click.echo(text, err=True)


@contextmanager
def warnings_shown() -> Iterator[None]:
    """Show what the library logs (info and warnings) on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain(CLEAR if sys.stderr.isatty() else ""))
    logger = logging.getLogger("gilt")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Plain(logging.Formatter):
    def __init__(self, clear: str) -> None:
        super().__init__()
        self.clear = clear  # a line of progress that stands there

    def format(self, record: logging.LogRecord) -> str:
        return f"{self.clear}{'note: ' if record.levelno >= logging.WARNING else ''}{record.getMessage()}"


@contextmanager
def bar(text: str) -> Iterator[Callable[..., None]]:
    """Yield a callback (done, all[, images/s]) that draws a progress bar on a terminal, and nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(text, total=None)
        yield lambda done, total, *rest: progress.update(task, completed=done, total=total)


class TrainLine:
    """The line `epoch 7/20  loss 0.412  val 91.3 %  1,840 img/s  0:42 left`: redrawn on a terminal, else one an epoch.

    Val is measured when an epoch is over. So a running line shows that of the epoch before; a line that stays, its own or none.
    """

    def __init__(self, prefix: str = "") -> None:
        self.prefix, self.live = prefix, sys.stderr.isatty()
        self.live_only = False  # inside a study: a terminal sees every epoch, a log file only what comes of the trial
        self.drawn, self.epoch = 0.0, 0
        self.last: Tick | None = None

    def __call__(self, tick: "Tick") -> None:
        ended = tick.step == tick.steps
        if self.live and not ended and time.monotonic() - self.drawn < 0.1:
            return
        if self.live:
            line = "" if ended and self.live_only else self.text(tick, None if ended else tick.val_accuracy)
            click.echo(CLEAR + line, nl=ended and not self.live_only, err=True)
            self.drawn = time.monotonic()
        elif not self.live_only:
            if tick.epoch != self.epoch and self.last:
                say(self.text(self.last, tick.val_accuracy))
            if ended:
                say(self.text(tick, None))
        self.epoch, self.last = tick.epoch, tick

    def text(self, tick: "Tick", val_accuracy: float | None) -> str:
        """Return the line for one tick, with a val accuracy or without."""
        val = "" if val_accuracy is None else f"  val {100 * val_accuracy:.1f} %"
        loss = "" if tick.loss != tick.loss else f"  loss {tick.loss:.3f}"
        return (f"{self.prefix}epoch {tick.epoch}/{tick.epochs}{loss}{val}  {tick.images_per_second:,.0f} img/s  "
                f"{clock(tick.left)} left")


def clock(seconds: float) -> str:
    """Return seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def print_table(header: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str = "") -> None:
    """Print a table on standard output; numbers are set to the right, None is a dash."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for i, name in enumerate(header):
        numeric = bool(rows) and all(isinstance(row[i], (int, float, type(None))) for row in rows)
        table.add_column(plain(str(name)), justify="right" if numeric else "left", no_wrap=i == 0)
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console = Console()
    # names of classes and files are no markup: "[red]" and ":bird:" are printed as they are
    Console(width=console.width if console.is_terminal else 200, markup=False, emoji=False).print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else plain(str(value))


def plain(text: str) -> str:
    """Return a text in which no letter steers the terminal: names come from files and folders that anybody may have made."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
