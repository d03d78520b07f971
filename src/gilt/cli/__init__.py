"""The command `gilt`: the package's verbs on the command line.

A command imports what it needs when it runs, so `gilt --help` is quick. Whatever is wrong with the input becomes one
line on standard error and exit code 2; Ctrl-C is 130; a study with failed trials is 1.
"""
import errno
import os
import sys

import click

from gilt import __version__
from gilt.cli.adopt import adopt, export
from gilt.cli.audit import audit
from gilt.cli.augment import augment
from gilt.cli.balance import balance
from gilt.cli.card import card
from gilt.cli.clean import clean
from gilt.cli.compare import compare, plan
from gilt.cli.explain import explain
from gilt.cli.generate import generate
from gilt.cli.judge import evaluate
from gilt.cli.look import show
from gilt.cli.predict import predict
from gilt.cli.presets import heatmap, presets
from gilt.cli.protocol import protocol
from gilt.cli.robustness import robustness
from gilt.cli.similarity import similarity
from gilt.cli.splits import split
from gilt.cli.studies import demo, study
from gilt.cli.tables import join, mix, scan
from gilt.cli.text_to_image import images
from gilt.cli.train import train
from gilt.cli.translate import translate
from gilt.cli.tuning import tune
from gilt.cli.watch import watch
from gilt.cli.worth import worth
from gilt.cli.zoo import models
from gilt.errors import GiltError

OVERVIEW = """Tell generated images from real ones, and measure what generated images are worth as training data.

\b
  gilt demo                                               the whole road, on the embedded sample
  gilt scan FOLDER --layout '{origin}/{class}' -o t.parquet
  gilt study run STUDY.toml --store runs/mine             does generated data help?
  gilt train t.parquet --target origin -o d.safetensors   is this image generated?
"""


@click.group(help=OVERVIEW, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, message="gilt %(version)s")
def gilt() -> None:
    """The group of all commands."""


for command in (watch, presets, heatmap, compare, plan):
    study.add_command(command)
generate.add_command(images)
generate.add_command(translate)
for command in (scan, join, show, audit, clean, split, mix, balance, models, adopt, augment, train, evaluate, predict, explain,
                robustness, protocol, card, export, generate, similarity, study, worth, tune, demo):
    gilt.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """Run a command line and exit: 0 done, 1 a study with failed trials, 2 bad input, 130 stopped by Ctrl-C."""
    try:
        code = gilt.main(arguments, prog_name="gilt", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as problem:
        click.echo(problem.ctx.get_help())
        code = 2
    except click.UsageError as problem:
        where = problem.ctx.command_path if problem.ctx else "gilt"
        code = _fail(f"{where}: {problem.format_message()} (see {where} --help)")
    except click.ClickException as problem:
        code = _fail(problem.format_message())
    except GiltError as problem:
        code = _fail(str(problem))
    except (KeyboardInterrupt, click.Abort):
        click.echo("\nstopped. What was finished is kept; a scan, a study, a training or a prediction to a file goes on from "
                   "there when it is run again.", err=True)
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as problem:
        if problem.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        code = _fail("the disk is full. Free some space and run the same command again; nothing finished is lost.")
    sys.exit(code if isinstance(code, int) else 0)


def _fail(line: str) -> int:
    click.echo(f"error: {' '.join(line.split())}", err=True)
    return 2
