"""`Tuning`: a search over settings and the training that follows it, from a TOML file or a preset."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from gilt.config import TrialConfig
from gilt.data.table import ImageTable
from gilt.errors import ConfigError, listed, near
from gilt.evaluation.metrics import NAMES
from gilt.files import fingerprint, read_toml
from gilt.settings import Config, Count, Names, Size, merge, override, parse
from gilt.studies.about import About, check_data, instructions, preset_files, study_file
from gilt.studies.space import Space, laid
from gilt.studies.study import FORMAT, Trial, beside


class TuneConfig(Config):
    """How settings are searched for: the table `[tune]`.

    `grid` takes every combination, `random` draws `trials` of them, `tpe` (a tree-structured Parzen estimator, Bergstra et
    al. 2011) draws near what has done well, after ten random ones. `seed` draws them. `metric` is on val rows; of the loss
    the least is best, of any other the most. `epochs` are those of a search trial. `prune` gives hopeless trials up:
    `median` those below the median of the finished ones at the same epoch, `halving` all but the best third at epochs
    E / 9, E / 3 (successive halving, Li et al. 2020). `final` is laid over the best settings for the training that is tested.
    """

    sampler: Literal["grid", "random", "tpe"]
    trials: Size | None = None
    seed: Count = 0
    metric: str = "accuracy"
    epochs: Size | None = None
    prune: Literal["none", "median", "halving"] = "none"
    space: dict[str, Any]
    final: dict[str, Any] = {}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.sampler == "grid" and self.trials is not None:
            raise ValueError("trials belongs to the samplers 'random' and 'tpe': a grid runs every combination")
        if self.sampler != "grid" and self.trials is None:
            raise ValueError(f"the sampler {self.sampler!r} needs trials, as in trials = 20")
        if self.metric not in NAMES:
            raise ValueError(f"no metric {self.metric!r} (there are: {listed(NAMES, most=20)}).{near(self.metric, NAMES)}")
        return self


class Reported(Config):
    """What a document prints of the same search: sentences, and tables by metric.

    `rows` are values of the first dimension, `columns` of the second; a table's name in the document stands in `titles`.
    """

    says: Names = ()
    rows: list[Any] = []
    columns: list[Any] = []
    tables: dict[str, list[list[float]]] = {}
    titles: dict[str, str] = {}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name, table in self.tables.items():
            if len(table) != len(self.rows) or any(len(row) != len(self.columns) for row in table):
                raise ValueError(f"the table {name!r} must have {len(self.rows)} rows of {len(self.columns)} values, for "
                                 "published.rows and published.columns")
        return self


class _TuningFile(Config):
    """The file as it stands."""

    name: str
    description: str = ""
    seeds: list[Annotated[int, Field(ge=0, lt=2**32)]] = Field(min_length=1)
    keep_models: bool = False
    about: About | None = None
    base: dict[str, Any]
    arms: dict[str, dict[str, Any]] = Field(default={}, max_length=1)
    tune: TuneConfig
    published: Reported = Reported()


@dataclass(frozen=True)
class Tuning:
    """A search, and the final training of its best settings under every one of `seeds`.

    All trials share one split, that of the first seed (or of `split.seed`): no test row is ever a val row of the search.
    """

    name: str
    table: Path
    seeds: tuple[int, ...]
    base: Mapping[str, Any]
    tune: TuneConfig
    space: Space
    description: str = ""
    keep_models: bool = False
    about: About | None = None
    published: Reported = field(default_factory=Reported)
    source: str = ""
    text: str = ""
    settings: tuple[str, ...] = ()
    data: str = ""  # the table that was given in place of the file's
    kind: ClassVar[str] = "tuning"

    @classmethod
    def load(cls, path: Path | str, settings: Sequence[str] = (), *, data: Path | str | None = None) -> "Tuning":
        """Read a tuning file, or the preset of that name; `data` is the table to use in place of the file's.

        `settings` are `--set` texts for its base, as in `train.epochs=5`, or for `tune.trials`, `seeds` and the like.
        Raises ConfigError with one line: the key or dimension, the file, the choices.
        """
        path, preset = study_file(path)
        where = path.stem if preset else str(path)
        raw = override(read_toml(path), [_in_file(setting) for setting in settings])
        if "tune" not in raw:
            raise ConfigError(f"{where} has no table [tune]: it is no tuning. A study is run with gilt study run {where}")
        file = parse(_TuningFile, raw, where=where)
        base = file.base if not file.arms else merge(file.base, next(iter(file.arms.values())))
        table = base.pop("table", None)
        if data is None and preset:
            says = instructions(where, file.about) if file.about else ""
            raise ConfigError(f"the preset {where} needs its images: --data TABLE.parquet. {says}".rstrip())
        if data is None and not isinstance(table, str):
            raise ConfigError(f"{where}: [base] needs table = \"TABLE.parquet\" (made by gilt scan)")
        if len(set(file.seeds)) < len(file.seeds):
            raise ConfigError(f"{where}: a seed stands twice in {file.seeds}")
        space = Space.read(file.tune.space, where=where)
        base = _checked_base(base, file, space, where)
        found = Path(data) if data is not None else path.parent / str(table)
        return cls(file.name, found, tuple(file.seeds), base, file.tune, space, file.description, file.keep_models,
                   file.about, file.published, where, path.read_text(), tuple(settings), str(data or ""))

    @property
    def epochs(self) -> int:
        """How many epochs a trial of the search is long."""
        return self.tune.epochs or parse(TrialConfig, self.base, where=self.source).train.epochs

    def searched(self, number: int, drawn: Mapping[str, Any]) -> Trial:
        """Return the search's trial with the drawn settings. Raises ConfigError where they do not go together."""
        short = {"train.epochs": self.tune.epochs} if self.tune.epochs else {}
        config = self._config({**short, **drawn}, {}, f"trial {number}")
        return Trial(f"trial {number}", self.seeds[0], config, dict(drawn), search=True)

    def final(self, drawn: Mapping[str, Any], seed: int) -> Trial:
        """Return the trial that trains these settings for the test, under one seed."""
        return Trial("best", seed, self._config(drawn, self.tune.final, "[tune.final]"), dict(drawn))

    def _config(self, drawn: Mapping[str, Any], over: Mapping[str, Any], what: str) -> TrialConfig:
        config = parse(TrialConfig, merge(laid(self.base, drawn), over), where=f"{self.source}, {what}")
        return beside(Path(self.source), config)

    def check_data(self, table: ImageTable) -> None:
        """Raise TableError where a preset is given a table that lacks what it needs, with where to get that."""
        if self.about:
            config = self._config({}, {}, "[base]")
            check_data(self.source, self.about, table, classes=config.classes, generators=config.generators or [])

    def summary(self, table: ImageTable) -> dict[str, Any]:
        """Return what the store keeps of the tuning in `study.json`; `search` names all that decides what is drawn."""
        tune = self.tune.model_dump(mode="json")
        decisive = {name: value for name, value in tune.items() if name not in ("trials", "final")}
        key = fingerprint({"format": FORMAT, "base": self.base, "tune": decisive, "seed": self.seeds[0],
                           "table": table.fingerprint})
        return {
            "kind": self.kind, "name": self.name, "description": self.description, "table": str(self.table.absolute()),
            "fingerprint": table.fingerprint, "seeds": list(self.seeds), "benchmark": None, "metric": self.tune.metric,
            "trials": [], "tuning": tune, "search": key, "published": self.published.model_dump(),
            "about": self.about and self.about.model_dump(), "data": self.data, "root": str(table.root),
            "source": self.source, "settings": list(self.settings), "text": self.text}


def tuning_presets() -> dict[str, str]:
    """Return the presets that are tunings, by name, each with its description."""
    found = {name: read_toml(path) for name, path in preset_files().items()}
    return {name: data.get("description", "") for name, data in found.items() if "tune" in data}


def _in_file(setting: str) -> str:
    """Return a `--set` text as one for the whole file: `train.epochs=5` is meant for its base."""
    first = setting.partition("=")[0].strip().split(".")[0]
    own = {"tune", "name", "description", "seeds", "keep_models"}
    return setting if first in own or not setting.partition("=")[1] else f"base.{setting}"


def _checked_base(base: Mapping[str, Any], file: _TuningFile, space: Space, where: str) -> dict[str, Any]:
    """Return the base with one split for all seeds. Raises ConfigError where the search's settings contradict it."""
    train = base.get("train", {})
    if file.tune.epochs and "train.epochs" in space.dimensions:
        raise ConfigError(f"{where}: tune.epochs and the dimension 'train.epochs' both say how long a trial is: keep one")
    if "train.steps" in space.dimensions or (isinstance(train, Mapping) and "steps" in train):
        for name in [name for name, said in (("epochs", file.tune.epochs), ("prune", file.tune.prune != "none")) if said]:
            raise ConfigError(f"{where}: tune.{name} goes by epochs, and train.steps says how long a trial is: keep one")
    split, seed = parse(TrialConfig, base, where=f"{where}, [base]").split, file.seeds[0]
    fixed: dict[str, int] = {"seed": seed}
    if split.folds and split.fold is None:  # else every seed would test another fold, some of whose rows the search judged by
        fixed = {"seed": seed // split.folds, "fold": seed % split.folds}
    merged = merge({"split": fixed}, base)
    parse(TrialConfig, merge(merged, file.tune.final), where=f"{where}, [tune.final]")
    return merged
