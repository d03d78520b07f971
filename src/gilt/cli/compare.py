"""Commands that weigh a study's arms: study compare, study plan."""
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gilt.cli.show import STORE, check_output, print_table, say

if TYPE_CHECKING:
    from gilt.studies.across import Across
    from gilt.studies.compare import Effect
    from gilt.studies.store import Store

metric_option = click.option("--metric", help="Any metric of gilt evaluate [default: the study's].")
benchmark_option = click.option("--benchmark", metavar="ARM", help="The arm to hold the others against [default: the study's].")
part_option = click.option("--part", type=click.Choice(["test", "val"]), default="test", show_default=True)
json_option = click.option("--json", "as_json", is_flag=True, help="Print all of it as JSON.")


@click.command(epilog="""\b
Example:
  gilt study compare runs/groceries
  gilt study compare runs/birds runs/fruit runs/hair --metric macro_f1 -o ranks.svg""")
@click.argument("stores", nargs=-1, required=True, type=STORE)
@metric_option
@benchmark_option
@part_option
@click.option("--arms", multiple=True, metavar="NAME", help="Of several stores: only arms of this name or pattern.")
@click.option("-o", "--output", type=click.Path(path_type=Path),
              help="Of several stores: a .png or .svg of the ranks, or .csv, .md.")
@json_option
def compare(stores: tuple[Path | str, ...], metric: str | None, benchmark: str | None, part: str, arms: tuple[str, ...],
            output: Path | None, as_json: bool) -> None:
    """Say which arms beat the benchmark, and which may be the best; or rank the same arms over several data sets.

    One store: paired differences with their intervals, p values corrected for the number of arms, the probability of being
    better, and the set of best arms, chosen on validation. Several stores, one a data set: Friedman's and Nemenyi's tests.
    """
    if len(stores) == 1:
        if arms or output:
            raise click.UsageError("--arms and --output are for several stores, one a data set")
        _one(stores[0], metric, benchmark, part, as_json)
    elif benchmark:
        raise click.UsageError("--benchmark is for one store: over several, every arm is ranked among the others")
    else:
        _several(stores, metric, part, arms or ("*",), output, as_json)


@click.command(epilog="""\b
Example:
  gilt study plan runs/groceries --width 2""")
@click.argument("store", type=STORE)
@click.option("--width", type=float, help="The wanted width of the interval: points, nats for the loss [default: 2 points].")
@click.option("--arm", help="Only this arm.")
@metric_option
@benchmark_option
@json_option
def plan(store: Path | str, width: float | None, arm: str | None, metric: str | None, benchmark: str | None,
         as_json: bool) -> None:
    """Say how many seeds a study needs for intervals of a wanted width, from the spread of the seeds that it has.

    Exact through Student's t, if the spread stays as it is; of few seeds it is known roughly, and so is the plan.
    """
    from gilt.errors import ConfigError, listed, near
    from gilt.studies.plan import plan as planned
    from gilt.studies.plan import plan_sentences

    effects = _effects(store, metric, benchmark, "test")[2]
    names = [effect.arm for effect in effects]
    if arm is not None and arm not in names:
        raise ConfigError(f"no arm {arm!r} is compared in {store} (there are: {listed(names) or 'none'}).{near(arm, names)}")
    effects = [effect for effect in effects if arm in (None, effect.arm)]
    rows = planned(effects, width)
    if not rows:
        raise ConfigError(f"{store}: a plan starts from the spread over two seeds or more, and no arm has one yet: run the "
                          "study under more seeds")
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=1))
        return
    for sentence in plan_sentences(effects, rows[0].width):
        click.echo(sentence)
    click.echo()
    print_table(["arm", "seeds", "width now", "sd of differences", "wanted", "seeds needed", "at least", "at most"],
                [[r.arm, r.seeds, f"{r.now:.3g}", f"{r.sd:.3g}", f"{r.width:g}", r.needed, r.few, r.many] for r in rows])


def _effects(store: Path | str, metric: str | None, benchmark: str | None, part: str) -> "tuple[Store, str, list[Effect]]":
    """Return (the store, the metric, the effects) of one study, with what the command line left to its file filled in."""
    from gilt.errors import ConfigError, listed, near
    from gilt.studies.compare import compare as run
    from gilt.studies.compare import taken
    from gilt.studies.store import Store

    opened = Store(store)
    taken(opened)
    summary = opened.summary
    against, arms = benchmark or summary["benchmark"], summary["arms"]
    if against is None:
        raise ConfigError(f"{store} has no benchmark to hold the arms against: --benchmark names one (arms: {listed(arms)})")
    if against not in arms:
        raise ConfigError(f"no arm {against!r} in {store} (arms: {listed(arms)}).{near(against, arms)}")
    return opened, metric or summary["metric"], run(opened, against, metric=metric or summary["metric"], part=part)


def _one(store: Path | str, metric: str | None, benchmark: str | None, part: str, as_json: bool) -> None:
    from gilt.studies.best import best_sentences, best_sets
    from gilt.studies.compare import effect_rows, verdicts
    from gilt.studies.plan import plan_sentences

    opened, metric, effects = _effects(store, metric, benchmark, part)
    against = benchmark or opened.summary["benchmark"]
    sentences = [*verdicts(opened, against, metric=metric, part=part), *best_sentences(opened, metric=metric),
                 *plan_sentences(effects)]
    if as_json:
        click.echo(json.dumps({"metric": metric, "part": part, "benchmark": against, "sentences": sentences,
                               "effects": [asdict(effect) for effect in effects],
                               "best": [asdict(best) for best in best_sets(opened, metric=metric)]}, indent=1))
        return
    for sentence in sentences:
        click.echo(sentence)
    if effects:
        click.echo()
        print_table(*effect_rows(effects))


def _several(stores: tuple[Path | str, ...], metric: str | None, part: str, arms: tuple[str, ...], output: Path | None,
             as_json: bool) -> None:
    from gilt.reports.ranks import check_ending, ranks_rows, write_ranks
    from gilt.studies.across import across

    if output:
        check_output(output)
        check_ending(output)
    found = across(stores, metric=metric or _metric_of(stores), arms=arms, part=part)
    if as_json:
        click.echo(json.dumps(_plain(found), indent=1))
    else:
        for sentence in found.sentences:
            click.echo(sentence)
        click.echo()
        print_table(*ranks_rows(found))
    if output:
        say(f"wrote {write_ranks(found, output)}")


def _metric_of(stores: tuple[Path | str, ...]) -> str:
    from gilt.errors import ConfigError, listed
    from gilt.studies.store import Store

    metrics = list(dict.fromkeys(Store(store).summary["metric"] for store in stores))
    if len(metrics) > 1:
        raise ConfigError(f"the studies have different metrics ({listed(metrics)}): name one with --metric")
    return metrics[0]


def _plain(found: "Across") -> dict[str, Any]:
    """Return values that JSON can hold."""
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        return value.tolist() if hasattr(value, "tolist") else value

    return plain(asdict(found)) | {"ranks": found.ranks.tolist(), "sentences": found.sentences}
