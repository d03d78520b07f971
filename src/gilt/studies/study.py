"""`Study`: arms x seeds, read from a TOML file whose first lines say what it claims."""
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from gilt.config import TrialConfig
from gilt.errors import ConfigError, listed, near
from gilt.evaluation.metrics import NAMES
from gilt.files import fingerprint, read_toml, sha256
from gilt.settings import Config, merge, override, parse

FORMAT = 2  # raised when the same configuration would give other results, or when a default changes


class _StudyFile(Config):
    """The file as it stands."""

    name: str
    description: str = ""
    seeds: list[Annotated[int, Field(ge=0, lt=2**32)]] = Field(min_length=1)
    benchmark: str | None = None
    metric: str = "accuracy"
    keep_models: bool = False
    base: dict[str, Any]
    arms: dict[str, dict[str, Any]] = Field(min_length=1)


@dataclass(frozen=True)
class Trial:
    """One arm under one seed."""

    arm: str
    seed: int
    config: TrialConfig

    def id(self, table: str) -> str:
        """Return the hash of the resolved config, the seed and the table's fingerprint: what makes a study resume.

        Weights to start from count by their content, wherever the file lies. A setting at its default does not count, so a
        version of gilt that has more settings finds the trials of an older one.
        """
        config = self.config.model_dump(mode="json", exclude_defaults=True)
        if self.config.train.weights is not None:
            config["train"]["weights"] = sha256(Path(self.config.train.weights).read_bytes())
        return fingerprint({"format": FORMAT, "config": config, "seed": self.seed, "table": table})


@dataclass(frozen=True)
class Study:
    """Arms by name, each a whole `TrialConfig`, and the seeds under which every arm is run.

    `benchmark` is the arm that the others are held against: the one named, else the first with real rows only; `metric`
    what they are held against it by.
    """

    name: str
    table: Path
    seeds: tuple[int, ...]
    arms: Mapping[str, TrialConfig]
    benchmark: str | None
    metric: str = "accuracy"
    description: str = ""
    keep_models: bool = False
    source: str = ""
    text: str = ""
    settings: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: Path | str, settings: Sequence[str] = ()) -> "Study":
        """Read a study file; `settings` are `--set` texts for its base, as in `train.epochs=5`.

        Raises ConfigError with one line: the key or arm, the file, the choices.
        """
        path = Path(path)
        file = parse(_StudyFile, read_toml(path), where=str(path))
        base = override(file.base, settings)
        table = base.pop("table", None)
        if not isinstance(table, str):
            raise ConfigError(f"{path}: [base] needs table = \"TABLE.parquet\" (made by gilt scan)")
        arms = {arm: _beside(path, parse(TrialConfig, merge(base, changes), where=f"{path}, arm {arm!r}"))
                for arm, changes in file.arms.items()}
        _distinct(arms, file.seeds, path)
        if file.benchmark is not None and file.benchmark not in arms:
            raise ConfigError(f"{path}: benchmark {file.benchmark!r} is no arm (arms: {listed(arms)})."
                              f"{near(file.benchmark, arms)}")
        if file.metric not in NAMES:
            raise ConfigError(f"{path}: no metric {file.metric!r} (there are: {listed(NAMES)}).{near(file.metric, NAMES)}")
        return cls(file.name, path.parent / table, tuple(file.seeds), arms, file.benchmark or _real_only(arms),
                   file.metric, file.description, file.keep_models, str(path), path.read_text(), tuple(settings))

    def trials(self) -> Iterator[Trial]:
        """Yield every trial, seed by seed, so that a study cut short still holds whole pairs."""
        for seed in self.seeds:
            for arm, config in self.arms.items():
                yield Trial(arm, seed, config)


def _beside(path: Path, config: TrialConfig) -> TrialConfig:
    """Return an arm's settings with `train.weights` found from the study file's folder, as the table is."""
    if config.train.weights is None:
        return config
    train = config.train.model_copy(update={"weights": str(path.parent / config.train.weights)})
    return config.model_copy(update={"train": train})


def _distinct(arms: Mapping[str, TrialConfig], seeds: Sequence[int], path: Path) -> None:
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"{path}: a seed stands twice in {list(seeds)}")
    seen: dict[str, str] = {}
    for arm, config in arms.items():
        twin = seen.setdefault(fingerprint(config.model_dump(mode="json")), arm)
        if twin != arm:
            raise ConfigError(f"{path}: arms {twin!r} and {arm!r} are the same trial: change a setting, or drop one")


def _real_only(arms: Mapping[str, TrialConfig]) -> str | None:
    """Return the first arm that trains on real rows only, or None."""
    for arm, config in arms.items():
        mix = config.mix
        plain = mix.balance is None and (mix.generated == 0 or (mix.mode == "share" and not mix.share))
        if config.target == "class" and plain:
            return arm
    return None
