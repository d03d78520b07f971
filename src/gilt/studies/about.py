"""What a preset says beside its trials: `[about]` (source, data, layout) and `[published.ARM]` (the figures of a document).

Presets are study and tuning files that come with gilt, `studies/presets/*.toml`; any study file may hold these tables too.
"""
import functools
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator

from gilt.data.table import ImageTable
from gilt.errors import ConfigError, TableError, listed, near
from gilt.evaluation.metrics import NAMES
from gilt.settings import Config, Count, Names


def _metric(name: str) -> str:
    if name not in NAMES:
        raise ValueError(f"no metric {name!r} (there are: {listed(NAMES, most=20)}).{near(name, NAMES)}")
    return name


Figures = dict[Annotated[str, AfterValidator(_metric)], float]  # metric -> value, accuracies as parts of 1


class About(Config):
    """Where an experiment comes from, and what data it needs.

    `data` says where to get the images, `layout` how their folders must look, and `scan` is the command that makes the table;
    `images` are the numbers of the document by origin (0: any number is needed). `says` is what the document concludes in
    words, `differs` what gilt does otherwise, and `unclear` what the document leaves open.
    """

    source: str
    category: str = ""
    data: str = ""
    layout: str = ""
    scan: str = ""
    images: dict[Literal["real", "generated"], Count] = {}
    says: Names = ()
    differs: Names = ()
    unclear: Names = ()


class Published(Config):
    """What a document prints of one arm: figures on the test rows, on the val rows and on `others`; numbers of images.

    `same_as` names the arm that holds the same settings, where a document prints two trials of one setting.
    """

    test: Figures = {}
    val: Figures = {}
    others: dict[str, Figures] = {}
    real: Count | None = None
    generated: Count | None = None
    train_set: str | None = None
    val_set: str | None = None
    same_as: str | None = None
    note: str = ""


@functools.cache
def preset_files() -> Mapping[str, Path]:
    """Return the presets by name: name -> file."""
    folder = Path(str(resources.files("gilt.studies").joinpath("presets")))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def study_file(name: Path | str) -> tuple[Path, bool]:
    """Return the file of a study or tuning, and whether it is a preset's. A file that exists goes before a preset's name.

    Raises ConfigError where there is neither.
    """
    text, files = str(name), preset_files()
    if Path(name).exists() or Path(name).suffix or len(Path(name).parts) > 1:
        return Path(name), False
    if text not in files:
        raise ConfigError(f"no file and no preset {text!r} (presets: {listed(files, most=40)}).{near(text, files)}")
    return files[text], True


def instructions(name: str, about: About) -> str:
    """Return one line on where to get a preset's data and how to lay it out."""
    parts = [f"Get it: {about.data}." if about.data else "", f"Lay it out as {about.layout}." if about.layout else "",
             f"Then: {about.scan}" if about.scan else ""]
    return " ".join(part for part in (*parts, f"(gilt study presets {name} says more)") if part)


def check_data(name: str, about: About, table: ImageTable, *, classes: Mapping[str, list[str]] | list[str] | None,
               generators: list[str]) -> None:
    """Raise TableError where a table lacks the classes, generators or photographs that an experiment needs.

    The line says what is missing, what there is, where to get the data and how to lay it out.
    """
    rows = table.usable
    members = [m for group in classes.values() for m in group] if isinstance(classes, Mapping) else list(classes or [])
    lacking = [f"no class {c!r} (it has: {listed(rows.classes) or 'none'})" for c in members if c not in rows.classes]
    origins = rows.generated.origins
    lacking += [f"no generator {g!r} (it has: {listed(origins) or 'none'})" for g in generators if g not in origins]
    if "generated" in about.images and not origins:
        lacking.append("no generated images")
    if "real" in about.images and not len(rows.real):
        lacking.append("no photographs (origin real)")
    if lacking:
        raise TableError(f"{name}: the table of {table.root} holds {lacking[0]}. {instructions(name, about)}")
