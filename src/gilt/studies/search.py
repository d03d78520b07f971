"""The search itself, through Optuna: what to try next, what to give up, and what mattered.

Nothing is kept between two questions: the search is told again what came of the trials before, in their order, and its draws
are seeded by the trial's number. So a search that was killed goes on as if it had not been.
"""
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gilt.errors import MissingExtraError
from gilt.evaluation.metrics import LESS
from gilt.files import fingerprint
from gilt.studies.space import Dimension, Space, written
from gilt.studies.store import TrialRecord
from gilt.studies.tuning import Tuning

log = logging.getLogger(__name__)
ATTEMPTS = 100  # draws of one trial that may be old ones, or be refused, before the search counts as exhausted
STARTUP = 10  # random draws before TPE has something to go by
THIRD = 3  # successive halving keeps one of so many
ENOUGH = 10  # finished trials below which importance is not spoken of


class Pruned(Exception):  # noqa: N818 (no error: a search gives a trial up)
    """Raised by `on_epoch` to end a trial that has no hope."""


def optuna_package() -> Any:
    """Return Optuna, quiet. Raises MissingExtraError where it is not installed."""
    try:
        import optuna
    except ImportError:
        raise MissingExtraError("optuna", "tune") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def better_low(metric: str) -> bool:
    """Tell whether less of the metric is better."""
    return metric in LESS


def propose(plan: Tuning, number: int, known: Sequence[tuple[Mapping[str, Any], TrialRecord | None]],
            new: Callable[[Mapping[str, Any]], bool]) -> dict[str, Any] | None:
    """Return the settings of trial `number`, drawn from what `known` trials came to; None where nothing new is found.

    A draw that is not `new` is drawn again, so that no setting is trained twice.
    """
    study = _told(plan, known)
    for attempt in range(ATTEMPTS):
        study.sampler = _sampler(plan, number, attempt)
        trial = study.ask()
        drawn = suggested(plan.space, trial)
        if new(drawn):
            return drawn
        study.tell(trial, state=optuna_package().trial.TrialState.FAIL)
    return None


def watcher(plan: Tuning, epochs: int, drawn: Mapping[str, Any],
            known: Sequence[tuple[Mapping[str, Any], TrialRecord | None]]) -> Callable[[Any], None] | None:
    """Return what is to hear of a trial's epochs, and raises Pruned where it has no hope; None where nothing is pruned."""
    if plan.tune.prune == "none":
        return None
    trial = _enqueued(_told(plan, known), plan.space, drawn)

    def heard(epoch: Any) -> None:
        value = epoch.val_loss if better_low(plan.tune.metric) else epoch.val_accuracy
        if value is not None and epoch.epoch < epochs and _hopeless(trial, epoch.epoch, value):
            raise Pruned(f"given up after epoch {epoch.epoch} of {epochs}")

    return heard


def epochs_of(train: Mapping[str, Any]) -> int:
    """Return how many epochs the training of a trial has, by its settings: one for a head that is fitted at one go."""
    return train["epochs"] if train.get("head", {}).get("kind", "linear") == "linear" else 1


def suggested(space: Space, trial: Any) -> dict[str, Any]:
    """Return the settings that an Optuna trial takes."""
    def choose(name: str, dimension: Dimension) -> Any:
        if dimension.values is not None:
            return json.loads(trial.suggest_categorical(name, [written(value) for value in dimension.values]))
        if dimension.whole:
            return trial.suggest_int(name, dimension.low, dimension.high, step=dimension.step or 1, log=dimension.log)
        value = trial.suggest_float(name, dimension.low, dimension.high, step=dimension.step, log=dimension.log)
        return value if dimension.step is None else round(value, 12)  # 0.3, not 0.30000000000000004

    return space.walk(choose)


def importances(space: Space, values: Sequence[tuple[Mapping[str, Any], float]]) -> dict[str, tuple[float, int]]:
    """Return dimension -> (its part of the metric's variance, over so many trials), by fANOVA (Hutter et al. 2014).

    A conditional dimension is judged beside the unconditional ones, over the trials that have it. Empty below ENOUGH
    trials, and where all came to the same. Raises MissingExtraError without Optuna.
    """
    optuna = optuna_package()
    found: dict[str, tuple[float, int]] = {}
    always = [name for name, dimension in space.dimensions.items() if not dimension.when]
    groups = [always, *([*always, name] for name, dimension in space.dimensions.items() if dimension.when)]
    for names in groups:
        inside = [(drawn, value) for drawn, value in values if set(names) <= set(drawn)]
        varied = [name for name in names if len({written(drawn[name]) for drawn, _ in inside}) > 1]
        if len(inside) < ENOUGH or not varied or len({value for _, value in inside}) < 2:
            continue
        study = optuna.create_study()
        for drawn, value in inside:
            study.tell(_enqueued(study, space, drawn), value)
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        parts = optuna.importance.get_param_importances(study, evaluator=evaluator, params=varied)
        found |= {name: (float(parts.get(name, 0.0)), len(inside)) for name in names if name not in found}
    return found


def _told(plan: Tuning, known: Sequence[tuple[Mapping[str, Any], TrialRecord | None]]) -> Any:
    """Return a new Optuna study that knows what came of the trials before, in their order."""
    optuna = optuna_package()
    state = optuna.trial.TrialState
    metric = plan.tune.metric
    study = optuna.create_study(direction="minimize" if better_low(metric) else "maximize", pruner=_pruner(plan),
                                sampler=optuna.samplers.RandomSampler(seed=0))
    for drawn, record in known:
        if record is None:
            continue
        trial, curve = _enqueued(study, plan.space, drawn), "val_loss" if better_low(metric) else "val_accuracy"
        for epoch in record.history if plan.tune.prune != "none" else ():
            if epoch[curve] is not None and epoch["epoch"] < epochs_of(record.config["train"]):
                _hopeless(trial, epoch["epoch"], epoch[curve])
        value = record.metric(metric, "val")
        if record.state == "finished" and value is not None:
            study.tell(trial, value)
        else:
            study.tell(trial, state=state.PRUNED if record.state == "pruned" else state.FAIL)
    return study


def _enqueued(study: Any, space: Space, drawn: Mapping[str, Any]) -> Any:
    """Return a new trial of an Optuna study that has these settings."""
    study.enqueue_trial({name: written(value) if space.dimensions[name].values is not None else value
                         for name, value in drawn.items()})
    trial = study.ask()
    suggested(space, trial)
    return trial


def _hopeless(trial: Any, epoch: int, value: float) -> bool:
    trial.report(value, epoch)
    return trial.should_prune()


def _sampler(plan: Tuning, number: int, attempt: int) -> Any:
    samplers = optuna_package().samplers
    seed = int(fingerprint({"seed": plan.tune.seed, "trial": number, "attempt": attempt}), 16) % 2**32
    if plan.tune.sampler == "tpe":
        return samplers.TPESampler(n_startup_trials=STARTUP, seed=seed)
    return samplers.RandomSampler(seed=seed)


def _pruner(plan: Tuning) -> Any:
    """Return the pruner: the median one waits for 5 finished trials and a fifth of the epochs."""
    pruners = optuna_package().pruners
    if plan.tune.prune == "median":
        return pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=plan.epochs // 5)
    if plan.tune.prune == "halving":
        return pruners.SuccessiveHalvingPruner(min_resource=max(1, plan.epochs // THIRD**2), reduction_factor=THIRD)
    return pruners.NopPruner()
