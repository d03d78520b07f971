"""Worth: how many real images one generated image is worth, here. Read `worth` first; `worth_words.py` says it in sentences.

The real-only arms of several sizes are the learning curve. Every arm with generated rows is held against it: its real
equivalent n_eq is the number of photographs that would have given the same error. One image of it is worth

    rho = (n_eq - n) / m        n photographs and m generated images in the arm

which is (n_eq - n) / m when adding, 1 - (N - n_eq) / m when replacing (N = n + m is the fixed total), and n_eq / m for
generated images alone (n = 0): one formula. The intervals are those of `gilt.evaluation.exchange`, over seeds.
"""
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gilt.config import TrialConfig
from gilt.errors import ConfigError, listed, near
from gilt.evaluation.curves import FORMS
from gilt.evaluation.exchange import WAYS
from gilt.evaluation.metrics import NAMES
from gilt.files import fingerprint
from gilt.studies.equivalents import ArmWorth, NoCurveError, Setting, setting
from gilt.studies.store import Store, TrialRecord
from gilt.studies.worth_words import alarms, answers, break_even, notes


@dataclass(frozen=True)
class Worth:
    """The worth of generated images in a study, by setting; `metric` is what the error is 1 - (the loss itself, in nats)."""

    metric: str
    settings: tuple[Setting, ...]
    left_out: Mapping[str, str]

    @property
    def arms(self) -> list[ArmWorth]:
        """Every arm that is not a control, setting by setting."""
        return [arm for setting in self.settings for arm in setting.arms if not arm.control]

    @property
    def controls(self) -> list[ArmWorth]:
        """Every control."""
        return [arm for setting in self.settings for arm in setting.arms if arm.control]

    @property
    def sentences(self) -> list[str]:
        """All that is said: `alarms` (controls that failed), `answers` (one sentence an arm), `notes` (what limits them)."""
        return [*alarms(self), *answers(self), *notes(self)]

    def break_even(self, real: float, generated: float) -> list[str]:
        """Return, arm by arm, whether generated images at these costs each are a better buy than photographs.

        Raises ConfigError for costs that are not above 0.
        """
        return break_even(self, real, generated)

    def as_json(self) -> dict[str, Any]:
        """Return plain values; what nothing measured bounds, or what has no interval, is null."""
        return _plain({"metric": self.metric, "sentences": self.sentences, "left_out": self.left_out, "settings": [
            {"name": s.name, "steps": s.steps, "left_out": s.left_out,
             "curve": {"arms": s.curve.arms, "seeds": s.curve.seeds, "sizes": s.curve.sizes, "errors": s.curve.errors_SK,
                       "parameters": s.curve.mean.parameters, **asdict(s.curve.why)},
             "arms": [asdict(arm) for arm in s.arms],
             "saturation": [{"mode": mode, "n": n, "of": of, **asdict(found)} for (mode, n, of), found in s.saturation.items()]}
            for s in self.settings]})


def worth(records: Store | Path | str | Sequence[TrialRecord], *, metric: str | None = None, curve: str = "auto",
          way: str = "paired") -> Worth:
    """Return what generated images are worth in a study's finished trials.

    `metric`: what the error is taken from (default: the store's metric, else accuracy); `curve`: auto, power3, power2 or
    interpolation; `way`: paired or per_seed intervals (`gilt.evaluation.exchange`).
    Raises ConfigError for an unknown choice, a target other than `class`, and where no learning curve can be drawn: with what
    is missing.
    """
    if isinstance(records, (str, Path)):
        records = Store(records)
    if isinstance(records, Store):
        metric, records = metric or records.summary["metric"], records.records()
    metric = metric or "accuracy"
    for value, choices, name in ((metric, NAMES, "metric"), (curve, ("auto", *FORMS), "learning curve"), (way, WAYS, "way")):
        if value not in choices:
            raise ConfigError(f"no {name} {value!r} (there are: {listed(choices, most=20)}).{near(value, choices)}")
    finished = [record for record in records if record.state == "finished" and record.metric(metric) is not None]
    if not finished:
        raise ConfigError(f"no finished trial has the metric {metric!r}: run the study first (gilt study run)")
    if {record.target for record in finished} != {"class"}:
        raise ConfigError("worth is what generated images are worth for telling classes apart, and this study's target is the "
                          "origin: set target = \"class\"")
    names, groups = _by_setting(finished)
    found, left_out = [], {}
    for key, members in groups.items():
        try:
            found.append(setting(names[key], members, metric, curve, way))
        except NoCurveError as error:
            left_out |= {arm: str(error) for arm in dict.fromkeys(record.arm for record in members)}
    if not found:
        raise ConfigError(next(iter(left_out.values())))
    return Worth(metric, tuple(found), left_out)


def _by_setting(records: Sequence[TrialRecord]) -> tuple[dict[str, str], dict[str, list[TrialRecord]]]:
    """Return key -> the setting's name, and key -> its records. One setting is what one learning curve speaks for.

    What is mixed differs inside a setting, and so do generators and the validation rows; the rest does not.
    """
    flat: dict[str, dict[str, Any]] = {}
    groups: dict[str, list[TrialRecord]] = {}
    for record in records:
        config = TrialConfig.model_validate(record.config).model_dump(mode="json")
        mix = config.pop("mix")
        config.pop("generators")
        config["mix"] = {name: mix[name] for name in ("imbalance", "max_real_by_class", "balance", "degree")}
        key = fingerprint(config)
        flat.setdefault(key, dict(_flat(config)))
        groups.setdefault(key, []).append(record)
    differ = [name for name in next(iter(flat.values())) if len({str(c.get(name)) for c in flat.values()}) > 1]
    names = {key: " ".join(f"{name.split('.')[-1]}={values.get(name)}" for name in differ) for key, values in flat.items()}
    return names, groups


def _flat(value: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    return [pair for key, inner in value.items() for pair in
            (_flat(inner, f"{before}{key}.") if isinstance(inner, Mapping) and inner else [(f"{before}{key}", inner)])]


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it: arrays as lists, and numbers that are not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(inner) for inner in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value
