"""`Study`: arms x seeds, read from a TOML file whose first lines say what it claims, or from a preset."""
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from gilt.config import TrialConfig
from gilt.data.table import ImageTable
from gilt.errors import ConfigError, listed, near
from gilt.evaluation.metrics import NAMES
from gilt.files import fingerprint, read_toml, sha256
from gilt.settings import Config, merge, override, parse
from gilt.studies.about import About, Published, check_data, instructions, study_file
from gilt.studies.factors import Arm, all_arms, keeps_its_own, with_settings
from gilt.training import named_weights

log = logging.getLogger(__name__)
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
    arms: dict[str, dict[str, Any]] = {}
    cross: dict[str, Any] = {}  # factors: see gilt.studies.factors
    about: About | None = None
    published: dict[str, Published] = {}


@dataclass(frozen=True)
class Trial:
    """One arm under one seed; or, in a tuning, one point of its search, with the `drawn` settings that made it."""

    arm: str
    seed: int
    config: TrialConfig
    drawn: Mapping[str, Any] = field(default_factory=dict)
    search: bool = False  # judged on val rows only, so never the same trial as one that is tested

    def id(self, table: str) -> str:
        """Return the hash of the resolved config, the seed and the table's fingerprint: what makes a study resume.

        Weights to start from count by their content, wherever the file lies, and published ones by their name. A setting at
        its default does not count, so a version of gilt that has more settings finds the trials of an older one.
        """
        config = self.config.model_dump(mode="json", exclude_defaults=True)
        weights = self.config.train.weights
        if weights is not None and not named_weights(weights) and Path(weights).is_file():
            config["train"]["weights"] = sha256(Path(weights).read_bytes())
        choose = self.config.mix.choose
        if choose and choose.features.weights and Path(choose.features.weights).is_file():
            config["mix"]["choose"]["features"]["weights"] = sha256(Path(choose.features.weights).read_bytes())
        kind = {"search": True} if self.search else {}
        return fingerprint({"format": FORMAT, "config": config, "seed": self.seed, "table": table} | kind)


@dataclass(frozen=True)
class Study:
    """Arms by name, each a whole `TrialConfig`, and the seeds under which every arm is run.

    `benchmark` is the arm that the others are held against: the one named, else the first with real rows only; `metric`
    what they are held against it by. `levels` has each arm's level of each crossed factor, `published` what a document
    prints of an arm, and `options` the command line's options that it was loaded with.
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
    levels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    about: About | None = None
    published: Mapping[str, Published] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    kind: ClassVar[str] = "study"

    @classmethod
    def load(cls, path: Path | str, settings: Sequence[str] = (), *, data: Path | str | None = None,
             seeds: int | None = None) -> "Study":
        """Read a study file, or the preset of that name (`gilt study presets`).

        `settings` are `--set` texts for its base, as in `train.epochs=5`, for one arm (`arms.NAME.train.epochs=5`; `*` is
        every one), or for `metric`, `benchmark` and the like. `data` is the table in place of the file's, `seeds` runs under
        seeds 0 to `seeds` - 1 in place of the file's. Raises ConfigError with one line: the key or arm, the file, the choices.
        """
        place, preset = study_file(path)
        raw, where = read_toml(place), str(path)
        if "tune" in raw:
            raise ConfigError(f"{where} is a tuning (it has a table [tune]): run it with gilt tune {where} --store DIR")
        file = parse(_StudyFile, override(raw, [text for text in settings if _of_file(text)]), where=where)
        settings = tuple(settings)
        base, arms = with_settings(file.base, all_arms(file.cross, file.arms, where=where),
                                   [text for text in settings if not _of_file(text)])
        table = base.pop("table", None)
        if data is None and preset:
            raise ConfigError(f"the preset {where!r} needs its images: --data TABLE.parquet. "
                              f"{instructions(where, file.about) if file.about else ''}")
        if data is None and not isinstance(table, str):
            raise ConfigError(f"{where}: [base] needs table = \"TABLE.parquet\" (made by gilt scan), or --data TABLE.parquet")
        home = Path() if preset else place.parent  # what paths in the file start from
        configs = {name: beside(home / "file", parse(TrialConfig, merge(base, arm.changes), where=f"{where}, arm {name!r}"))
                   for name, arm in arms.items()}
        chosen = tuple(range(seeds)) if seeds else tuple(file.seeds)
        _check(file, configs, chosen, where)
        _say(arms, configs, settings)
        options = (["--data", str(data)] if data else []) + (["--seeds", str(seeds)] if seeds else [])
        return cls(file.name, Path(data) if data else home / str(table), chosen, configs, file.benchmark or _real_only(configs),
                   file.metric, file.description, file.keep_models, where, place.read_text(), settings,
                   {name: arm.levels for name, arm in arms.items() if arm.levels}, file.about, file.published, tuple(options))

    def summary(self, table: ImageTable) -> dict[str, Any]:
        """Return what the store keeps of the study in `study.json`."""
        fingerprint = table.fingerprint
        trials = [{"arm": trial.arm, "seed": trial.seed, "id": trial.id(fingerprint)} for trial in self.trials()]
        return {
            "kind": self.kind, "name": self.name, "description": self.description, "table": str(self.table.absolute()),
            "fingerprint": fingerprint, "seeds": list(self.seeds), "benchmark": self.benchmark, "metric": self.metric,
            "trials": trials, "arms": {arm: config.model_dump(mode="json") for arm, config in self.arms.items()},
            "root": str(table.root), "source": self.source, "settings": list(self.settings), "text": self.text,
            "options": list(self.options), "levels": {arm: dict(levels) for arm, levels in self.levels.items()},
            "about": self.about.model_dump(mode="json") if self.about else None, "images": self._images(table),
            "published": {arm: figures.model_dump(mode="json") for arm, figures in self.published.items()}}

    def check_data(self, table: ImageTable) -> None:
        """Raise TableError where the table lacks what an experiment with `[about]` needs, with where to get it."""
        for config in self.arms.values() if self.about else ():
            check_data(self.source, self.about, table, classes=config.classes, generators=config.generators or [])

    def _images(self, table: ImageTable) -> dict[str, int]:
        """Return how many real and generated images of the study's classes and generators the table holds."""
        config = next(iter(self.arms.values()))
        names = {name for arm in self.arms.values() for name in arm.generators or table.generated.origins}
        rows = table.usable.pick(config.classes, sorted(names))
        return {"real": len(rows.real), "generated": len(rows.generated)}

    def trials(self) -> Iterator[Trial]:
        """Yield every trial, seed by seed, so that a study cut short still holds whole pairs."""
        for seed in self.seeds:
            for arm, config in self.arms.items():
                yield Trial(arm, seed, config)


def _of_file(setting: str) -> bool:
    """Tell whether a `--set` text is for the whole file, not for its base or an arm."""
    return setting.partition("=")[0].strip() in {"name", "description", "seeds", "benchmark", "metric", "keep_models"}


def _say(arms: Mapping[str, Arm], configs: Mapping[str, TrialConfig], settings: Sequence[str]) -> None:
    """Warn of settings that some arms do not take, and of arms that are tested on generated images."""
    for text, names in keeps_its_own(arms, settings).items():
        log.warning("--set %s does not change %s, which say%s otherwise: --set 'arms.*.%s' changes every arm", text,
                    listed(names, most=4), "" if names[1:] else "s", text)
    if unreal := [name for name, config in configs.items() if config.mix.test == "generated"]:
        log.warning("%s: tested on GENERATED images, which judges the images and not a classifier", listed(unreal, most=4))


def beside(path: Path, config: TrialConfig) -> TrialConfig:
    """Return an arm's settings with weights (`train.weights`, and those of `mix.choose`) found from the study file's folder."""
    choose = config.mix.choose
    if choose and choose.features.weights and not named_weights(choose.features.weights):
        features = choose.features.model_copy(update={"weights": str(path.parent / choose.features.weights)})
        mix = config.mix.model_copy(update={"choose": choose.model_copy(update={"features": features})})
        config = config.model_copy(update={"mix": mix})
    if config.train.weights is None or named_weights(config.train.weights):
        return config
    train = config.train.model_copy(update={"weights": str(path.parent / config.train.weights)})
    return config.model_copy(update={"train": train})


def _check(file: _StudyFile, arms: Mapping[str, TrialConfig], seeds: Sequence[int], where: str) -> None:
    """Raise ConfigError for a seed or trial that stands twice, and for arms and metrics that there are not."""
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"{where}: a seed stands twice in {list(seeds)}")
    seen: dict[str, str] = {}
    for arm, config in arms.items():
        twin = seen.setdefault(fingerprint(config.model_dump(mode="json")), arm)
        if twin != arm:
            raise ConfigError(f"{where}: arms {twin!r} and {arm!r} are the same trial: change a setting, or drop one")
    named = {"benchmark": [file.benchmark] if file.benchmark is not None else [], "published": list(file.published),
             "published same_as": [figures.same_as for figures in file.published.values() if figures.same_as]}
    repeats = {arm for arm, figures in file.published.items() if figures.same_as}
    for kind, names in named.items():
        for name in names:
            if name not in arms and not (kind == "published" and name in repeats):
                raise ConfigError(f"{where}: {kind} {name!r} is no arm (arms: {listed(arms)}).{near(name, arms)}")
    if file.metric not in NAMES:
        raise ConfigError(f"{where}: no metric {file.metric!r} (there are: {listed(NAMES)}).{near(file.metric, NAMES)}")


def _real_only(arms: Mapping[str, TrialConfig]) -> str | None:
    """Return the first arm that trains on real rows only, or None."""
    for arm, config in arms.items():
        mix = config.mix
        plain = mix.balance is None and (mix.generated == 0 or (mix.mode == "share" and not mix.share))
        if config.target == "class" and plain:
            return arm
    return None
