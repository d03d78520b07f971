"""Presets: the experiments of the reference systems, listed and described. Their files are `presets/*.toml`."""
import itertools
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gilt.errors import ConfigError, listed, near
from gilt.files import read_toml
from gilt.settings import parse
from gilt.studies.about import About, preset_files
from gilt.studies.factors import all_arms


@dataclass(frozen=True)
class Preset:
    """One preset in short: `kind` is study or tuning, `arms` how many settings it runs, `published` how many have figures."""

    name: str
    kind: str
    category: str
    what: str
    arms: int
    seeds: int
    published: int
    source: str
    data: str

    @property
    def command(self) -> str:
        """The command that runs it."""
        verb = "tune" if self.kind == "tuning" else "study run"
        return f"gilt {verb} {self.name} --data TABLE.parquet --store runs/{self.name}"


def presets() -> list[Preset]:
    """Return all presets: the thesis's data sets in its order, then the others by name."""
    found = [_preset(name, path) for name, path in preset_files().items()]
    return sorted(found, key=lambda preset: (_thesis_table(preset), preset.name))


def describe(name: str) -> dict[str, Any]:
    """Return all that a preset says of itself: what `presets` has, its command, `[about]`, `[published]`, and its file's text.

    Raises ConfigError for an unknown name.
    """
    files = preset_files()
    if name not in files:
        raise ConfigError(f"no preset {name!r} (there are: {listed(files, most=40)}).{near(name, files)}")
    raw, text = read_toml(files[name]), files[name].read_text()
    preset = _preset(name, files[name])
    claim = itertools.takewhile(lambda line: line.startswith("# "), text.splitlines())
    return {**asdict(preset), "command": preset.command, "claim": " ".join(line[2:] for line in claim),
            "about": _about(name, raw).model_dump(mode="json"), "figures": raw.get("published", {}), "text": text}


def _preset(name: str, path: Path) -> Preset:
    raw = tomllib.loads(path.read_text())
    about, figures = _about(name, raw), raw.get("published", {})
    kind = "tuning" if "tune" in raw else "study"
    if kind == "tuning":
        arms, known = _searched(raw["tune"]), sum(len(row) for row in next(iter(figures.get("tables", {}).values()), []))
    else:
        arms = len(all_arms(raw.get("cross", {}), raw.get("arms", {}), where=name))
        known = sum(any(entry.get(part) for part in ("test", "val", "others")) for entry in figures.values())
    return Preset(name, kind, about.category, raw["description"], arms, len(raw["seeds"]), known, about.source, about.data)


def _about(name: str, raw: Mapping[str, Any]) -> About:
    return parse(About, raw.get("about", {}), where=f"{name}, [about]")


def _searched(tune: Mapping[str, Any]) -> int:
    """Return how many settings a tuning tries: its number of trials, or the size of its grid."""
    if "trials" in tune:
        return int(tune["trials"])
    size = 1
    for values in tune["space"].values():
        size *= len(values if isinstance(values, list) else values.get("values", [None]))
    return size


def _thesis_table(preset: Preset) -> int:
    """Return the number of the thesis's table that a preset's source ends with; others come after."""
    return int(preset.source.rpartition(".")[2]) if preset.name.startswith("thesis-") else 99
