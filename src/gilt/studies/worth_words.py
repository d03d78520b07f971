"""Worth in words: what failed first, then one plain sentence an arm, then what limits it."""
from typing import TYPE_CHECKING

import numpy as np

from gilt.errors import ConfigError, counted, listed
from gilt.evaluation.exchange import Interval, Saturation
from gilt.evaluation.metrics import spoken
from gilt.evaluation.significance import interval_width, seeds_needed
from gilt.studies.equivalents import ArmWorth, Key, Setting

if TYPE_CHECKING:
    from gilt.studies.worth import Worth

ENOUGH = 6  # seeds
FEW = 3  # sizes below which a curve is no more than a line
NARROW = 0.2  # width of an interval of rho that tells most questions apart
POSED = {"held_back": "held-back photographs posing as generated images", "duplicates": "copies of its own photographs",
         "shuffled": "images with shuffled labels"}
MUST = {"held_back": "must be worth 1", "duplicates": "must be worth 0", "shuffled": "must be worth 0 at most"}


def alarms(worth: "Worth") -> list[str]:
    """Return the controls that failed, and what that means; nothing where none did."""
    failed = [control_sentence(arm, setting) for setting in worth.settings for arm in setting.arms
              if arm.control and arm.verdict == "fails"]
    more = "So the worths below cannot be taken at their word: look for what the controls have in common with the other arms."
    return [*failed, more] if failed else []


def answers(worth: "Worth") -> list[str]:
    """Return the verdict: one sentence an arm, in the study's order."""
    said = [arm_sentence(arm, setting) for setting in worth.settings for arm in setting.arms if not arm.control]
    return said or ([] if worth.controls else ["No arm holds generated images: there is nothing to value yet."])


def notes(worth: "Worth") -> list[str]:
    """Return what stands behind the verdict: the other controls, how gains level off, what limits it, what has no worth."""
    said = [control_sentence(arm, setting) for setting in worth.settings for arm in setting.arms
            if arm.control and arm.verdict != "fails"]
    said += [_levels_off(key, found) for setting in worth.settings for key, found in setting.saturation.items()]
    said += [text for setting in worth.settings for text in _limits(setting, worth.metric)]
    if worth.arms and not worth.controls:
        said.append("No control was run: an arm with mix.control = \"held_back\" shows whether a photograph is worth 1 here.")
    gone = {**worth.left_out, **{arm: why for setting in worth.settings for arm, why in setting.left_out.items()}}
    return [*said, *(f"Not valued: {arm} ({why})." for arm, why in gone.items())]


def _levels_off(key: Key, found: Saturation) -> str:
    """Return how gains grow with the number of generated images."""
    start = (f"Added to {_n(key[1])} photographs" if key[1] else "Alone") + (f" ({key[2]})" if key[2] else "")
    rate = _one(found.rate.value) + (f" (95 % interval {_range(found.rate)})" if found.rate.low is not None else "")
    if not np.isfinite(found.ceiling.value or np.inf):
        return (f"{start}, generated images bring {rate} photographs each, with no sign of levelling off up to the "
                f"{_n(max(found.rows))} that were tried.")
    ceiling = _n(found.ceiling.value) + (f" (95 % interval {_rows(found.ceiling)})" if found.ceiling.low is not None else "")
    return (f"{start}, the first generated images bring {rate} photographs each. The gain levels off: the curve through the "
            f"{len(found.rows)} numbers of them that were tried tends to {ceiling} photographs in all.")


def arm_sentence(arm: ArmWorth, setting: Setting) -> str:
    """Return one arm's worth as a plain sentence."""
    did = {"add": f"Adding {counted(round(arm.m), 'generated image')} to {_n(arm.n)} photographs",
           "replace": f"Replacing {_n(arm.m)} of {_n(arm.n + arm.m)} photographs by generated images",
           "ai": f"{counted(round(arm.m), 'generated image')} alone"}[arm.mode]
    did += f" ({setting.name})" if setting.name else ""
    rho, seeds = arm.rho, f"(95 % interval, {len(arm.seeds)} seeds)"
    if arm.verdict == "unknown":
        return f"{did}: {_lone(arm, setting)}"
    if not np.isfinite([rho.low, rho.high]).any():
        return (f"{did}: the interval over {len(arm.seeds)} seeds reaches beyond both ends of the learning curve, so nothing "
                "can be said. More seeds, or more sizes of real-only arms, are needed.")
    if arm.verdict == "unshown":
        what = "no gain" if arm.mode == "add" else "no worth"
        said = f"{did}: {what} could be shown. One generated image is worth {_range(rho)} photographs {seeds}."
    elif 0 in (rho.low, rho.high):  # surely better, or worse, than all that was measured, which ends at its own photographs
        said = f"{did} {'helped' if arm.verdict == 'gain' else 'harmed'} this model; how much cannot be said {seeds}."
    else:
        said = f"{did} {_done(arm)} {seeds}: one generated image is worth {_range(rho)} photographs."
    return said + _beyond(arm, setting)


def _done(arm: ArmWorth) -> str:
    """Return what an arm's generated images did, counted in photographs."""
    gain = arm.n_eq.scaled(arm.n, 1.0)
    if arm.verdict == "harm":
        lost = _rows(Interval(None, -gain.high, -gain.low))
        return f"harmed this model as much as taking away {lost} of its {_n(arm.n)} photographs would have"
    if arm.mode == "replace":
        return f"left this model as good as {_rows(arm.n_eq)} photographs would have made it"
    return f"did for this model what {_rows(gain)}{' more' if arm.mode == 'add' else ''} photographs would have done"


def control_sentence(arm: ArmWorth, setting: Setting) -> str:
    """Return what a control shows; one that fails says so in its first words."""
    what = f"{_n(arm.m)} {POSED[str(arm.control)]} ({arm.arm}{f', {setting.name}' if setting.name else ''})"
    must = MUST[str(arm.control)]
    if arm.verdict == "none" and arm.control == "duplicates" and setting.steps is None:
        return (f"No control: {what} {must} under fixed steps, and here the epochs are fixed, so copies also mean more steps "
                f"(set train.steps). They came to {_range(arm.rho) if arm.rho.low is not None else _one(arm.rho.value)}.")
    if arm.rho.low is None:
        return f"No verdict on the control {what}: {counted(len(arm.seeds), 'seed')} and no interval."
    values = f"{_range(arm.rho)} each (95 % interval, {len(arm.seeds)} seeds)"
    if not np.isfinite([arm.rho.low, arm.rho.high]).any():
        return f"A control says nothing: {what} {must}, and its interval reaches beyond both ends of the learning curve."
    if arm.verdict == "fails":
        return f"A control failed: {what} {must}, and came to {values}."
    if arm.verdict == "vague":
        return f"A control says nothing: {what} {must}, and came to {values}, which holds 0 and 1. More seeds are needed."
    return f"A control holds: {what} {must}, and came to {values}."


def break_even(worth: "Worth", real: float, generated: float) -> list[str]:
    """Return, arm by arm, whether generated images are the better buy at these costs each."""
    if not (real > 0 and generated >= 0 and np.isfinite([real, generated]).all()):
        raise ConfigError(f"costs are those of one photograph (above 0) and one generated image (0 or more), not {real:g} and "
                          f"{generated:g}")
    ratio = generated / real
    said = [f"At {generated:g} for a generated image and {real:g} for a photograph, a generated image must be worth more than "
            f"{ratio:g} photographs."]
    for setting in worth.settings:
        for arm in (arm for arm in setting.arms if not arm.control and arm.rho.low is not None):
            sure = "pays" if arm.rho.low > ratio else "does not pay" if arm.rho.high < ratio else "is not known to pay"
            said.append(f"{arm.arm}{f' ({setting.name})' if setting.name else ''}: worth {_range(arm.rho)}, so it {sure}.")
        said += [_buy(key, found, ratio) for key, found in setting.saturation.items()]
    return said


def _buy(key: Key, found: Saturation, ratio: float) -> str:
    most, best = max(found.rows), found.worth_buying(ratio)
    start = (f"{_n(key[1])} photographs" if key[1] else "alone") + (f" ({key[2]}): " if key[2] else ": ")
    if best <= 0:
        return f"{start}not even the first generated image brings what it costs ({_one(found.rate.value)} photographs)."
    if best >= most:
        return f"{start}up to the {_n(most)} generated images that were tried, each further one brings more than it costs."
    return f"{start}buy about {_n(best)} generated images; beyond that the next one brings less than it costs."


def _lone(arm: ArmWorth, setting: Setting) -> str:
    """Return what can be said without an interval."""
    why = "one seed" if len(arm.seeds) == 1 else f"{len(arm.seeds)} seeds without spread, or one of them off the curve"
    if arm.n_eq.value is None:
        sizes, errors = setting.curve.sizes, setting.curve.errors_SK.mean(0)
        side = f"worse than {_n(sizes[0])}" if (arm.error.value or 0) > errors[0] else f"better than {_n(sizes[-1])}"
        return f"{side} photographs, where the learning curve ends; {why}, no interval, no verdict."
    return (f"as good as about {_n(arm.n_eq.value)} photographs, {_one(arm.rho.value)} photographs a generated image; {why}, "
            "no interval, no verdict.")


def _limits(setting: Setting, metric: str) -> list[str]:
    """Return what limits a setting's numbers: the curve's shape, its sizes, the seeds, the compute rule."""
    curve, said = setting.curve, []
    sizes, rises, where = curve.sizes, curve.why.rises, f" ({setting.name})" if setting.name else ""
    if not curve.falls:
        said.append(f"More photographs do not surely lower this model's error between {_n(sizes[0])} and {_n(sizes[-1])}{where}"
                    ": without a falling curve there is no exchange rate to speak of.")
    if rises:
        said.append(f"The error rises between {_n(rises[0])} and {_n(rises[1])} photographs{where}, more than noise explains: "
                    "there the curve is taken to be level, and what lies on it is vague.")
    if len(sizes) < FEW:
        said.append(f"The learning curve has {len(sizes)} sizes only{where} and is taken to be straight between them (log-log)."
                    " Add real-only arms with mix.max_real.")
    said += [text for text in (_planned(setting),) if text]
    rule = f"every arm took {setting.steps:,} optimiser steps" if setting.steps else \
        "epochs are fixed, so arms with more rows also took more optimiser steps"
    error = "the test loss" if metric == "loss" else f"1 - test {spoken(metric)}"
    said.append(f"Error is {error}; {rule}{where}. Learning curve: {listed(_n(n) for n in sizes)} photographs, "
                f"{curve.why.form} ({curve.why.why}).{_compared(setting, metric)}")
    return said


def _compared(setting: Setting, metric: str) -> str:
    """Return how the forms of the curve compare, as a sentence; "" below three sizes."""
    why = setting.curve.why
    if why.best is None:
        return ""
    off = f"{abs(why.left_out[why.best]):.3f} nats" if metric == "loss" else f"{100 * abs(why.left_out[why.best]):.1f} points"
    missing = f"; {listed(why.missing)} misses what was measured" if why.missing else ""
    return f" Fitted to all sizes but the largest, {why.best} foretells that one best, {off} off{missing}."


def _planned(setting: Setting) -> str:
    """Return a sentence on the number of seeds: whether it is small, and how many would make the widest interval NARROW."""
    seeds = len(setting.curve.seeds)
    said = f"With {seeds} seeds the intervals are wide; {ENOUGH} or more are better." if 1 < seeds < ENOUGH else ""
    widths = [(arm.rho.high - arm.rho.low, len(arm.seeds)) for arm in setting.arms
              if not arm.control and arm.rho.low is not None and np.isfinite([arm.rho.low, arm.rho.high]).all()]
    if not widths or max(widths)[0] <= NARROW:
        return said
    width, seeds = max(widths)
    return (f"{said} The widest interval of a worth is {width:.2g} photographs; one of {NARROW:g} would take about "
            f"{seeds_for(NARROW, width, seeds)} seeds.").strip()


def seeds_for(wanted: float, width: float, seeds: int) -> int:
    """Return how many seeds would make a t interval `wanted` wide, when `seeds` gave one that is `width` wide."""
    return seeds_needed(wanted, width / interval_width(1.0, seeds))


def _beyond(arm: ArmWorth, setting: Setting) -> str:
    """Return a sentence that says where the learning curve ends, if that is what bounds the arm."""
    sizes = setting.curve.sizes
    if arm.n_eq.high is not None and not np.isfinite(arm.n_eq.high):
        return f" The learning curve ends at {_n(sizes[-1])} photographs: beyond that nothing was measured."
    if arm.n_eq.low is not None and not np.isfinite(arm.n_eq.low):
        return f" The learning curve begins at {_n(sizes[0])} photographs: below that nothing was measured."
    return ""


def _rows(gain: Interval) -> str:
    """Return an interval of photographs as "60 to 140", "at least 60" or "at most 140"."""
    if not np.isfinite(gain.high):
        return f"at least {_n(gain.low)}"
    return f"at most {_n(gain.high)}" if not np.isfinite(gain.low) else f"{_n(gain.low)} to {_n(gain.high)}"


def _range(rho: Interval) -> str:
    """Return an interval of worth as "0.15 to 0.35", "at least 0.15" or "at most 0.35"."""
    if not np.isfinite(rho.high):
        return f"at least {_one(rho.low)}" if np.isfinite(rho.low) else "an unknown number of"
    return f"at most {_one(rho.high)}" if not np.isfinite(rho.low) else f"{_one(rho.low)} to {_one(rho.high)}"


def _one(x: float | None) -> str:
    """Return a worth with two digits behind the point; of a small one, two digits that count."""
    if x is None:
        return "unknown"
    return f"{x:.2g}" if 0.001 <= abs(x) < 0.1 else f"{x:.2f}".replace("-0.00", "0.00")


def _n(x: float | None) -> str:
    """Return a number of rows with three digits that count."""
    if x is None or not np.isfinite(x):
        return "an unknown number of"
    digits = 0 if abs(x) < 1000 else 2 - int(np.floor(np.log10(abs(x))))
    rounded = round(x, digits) if abs(x - round(x)) > 1e-6 else x  # numbers that were set are said as they are
    return f"{rounded:,.0f}"
