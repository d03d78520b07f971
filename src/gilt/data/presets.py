"""Presets: the layouts of well-known collections by name, `gilt scan cifake/ --layout cifake`.

A preset's reader takes the `Tree` of a collection and the user's `Hints`, opens no image, and returns one row an image:
path, class, origin (or None where the collection does not say), split, and columns of the collection's own.
"""
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pandas as pd

from gilt.config import REAL
from gilt.data.layouts import is_split
from gilt.data.listings import Hints, artifact, competition, imagefolder
from gilt.data.rows import huggingface
from gilt.data.tree import Tree
from gilt.errors import LayoutError, listed, near

Reader = Callable[[Tree, Hints], pd.DataFrame]
_CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAKE = re.compile(r"\d+(?: \((\d+)\))?")


@dataclass(frozen=True)
class Preset:
    """One collection's layout: how it looks on disk, where that is described, and how it is read."""

    name: str
    says: str
    example: tuple[str, str]  # two paths, with what they say
    source: str
    read: Reader
    kinds: tuple[str, ...] = ()  # lists or Parquet files that it reads beside images
    unsaid: str = ""  # what the collection does not say and a constant must


def by_path(tree: Tree, say: Callable[[list[str], str], Mapping[str, str] | None], *, files: bool = False
            ) -> tuple[pd.DataFrame, list[str]]:
    """Return (what `say(folders, file name)` reads from each image's path, the paths of which it reads nothing).

    `say` is asked once a folder, or once an image where the file's name matters (`files`).
    """
    known: dict[str, int] = {}
    distinct: dict[tuple[Any, ...], int] = {}
    paths, codes, astray = [], [], []
    for path in tree.images:
        folder, _, name = path.rpartition("/")
        key = path if files else folder
        if key not in known:
            said = say(folder.split("/") if folder else [], name)
            known[key] = -1 if said is None else distinct.setdefault(tuple(said.items()), len(distinct))
        code = known.pop(key) if files else known[key]
        if code < 0:
            astray.append(path)
        else:
            paths.append(path)
            codes.append(code)
    said_frame = pd.DataFrame([dict(items) for items in distinct], dtype=object)
    return said_frame.iloc[codes].reset_index(drop=True).assign(path=paths), astray


def _thesis(tree: Tree, hints: Hints) -> pd.DataFrame:
    def say(folders: list[str], name: str) -> dict[str, str] | None:
        split = next((folder for folder in folders if is_split(folder)), None) if len(folders) == 3 else None
        rest = [folder for folder in folders if folder is not split] if split else folders
        return {"origin": rest[0], "class": rest[1], "split": split} if len(rest) == 2 else None  # type: ignore[dict-item]

    return _all_of(tree, hints, "thesis", by_path(tree, say))


def _cifake(tree: Tree, hints: Hints) -> pd.DataFrame:
    def say(folders: list[str], name: str) -> dict[str, str] | None:
        match = _CIFAKE.fullmatch(PurePosixPath(name).stem)
        kinds = {"REAL": REAL, "FAKE": "stable-diffusion-1.4"}
        number = int(match[1] or 1) if match else 0
        if len(folders) < 2 or folders[-1].upper() not in kinds or not is_split(folders[-2]) or not 1 <= number <= 10:
            return None
        return {"origin": kinds[folders[-1].upper()], "class": _CIFAR[number - 1], "split": folders[-2]}

    return _all_of(tree, hints, "cifake", by_path(tree, say, files=True))


def _all_of(tree: Tree, hints: Hints, name: str, placed: tuple[pd.DataFrame, list[str]]) -> pd.DataFrame:
    """Return the placed rows, the others counted. Raises LayoutError where there is none, or for columns."""
    frame, astray = placed
    hints.refuse_columns(f"layout {name!r} reads paths only")
    if frame.empty:
        like = " or ".join(repr(re.split(r"  +", text)[0]) for text in PRESETS[name].example)
        raise LayoutError(f"no path under {tree.root} is laid out as {name!r}: {astray[0]!r} is not like {like}. "
                          f"Other layouts: {listed(PRESETS)}, or a pattern as in '{{origin}}/{{class}}'")
    hints.say_astray(astray)
    return frame


_ALL = (
    Preset("thesis", "two folders of origins, each with one of every class; train, val and test above or below, or not at all",
           ("AI/apple/01.jpg               origin AI, class apple",
            "real/train/banana/07.jpg      real, class banana, split train"),
           "thesis: augmentation by generated images, 17 data sets in 5 categories", _thesis),
    Preset("cifake", "the file's number names the CIFAR-10 class: none airplane, (2) automobile, ... (10) truck",
           ("train/REAL/0001 (2).jpg       real, class automobile, split train",
            "test/FAKE/17.jpg              origin stable-diffusion-1.4, class airplane, split test"),
           "Bird & Lotfi 2024, arXiv:2303.14126; kaggle:birdy654/cifake-real-and-ai-generated-synthetic-images", _cifake),
    Preset("artifact", "one folder a source with a metadata.csv: filename, image_path, target (0 real), category",
           ("stable_diffusion/metadata.csv  origin stable_diffusion where target is not 0, class: category",
            "coco/metadata.csv              real, column collection: coco"),
           "Rahman et al. 2023 (ArtiFact), arXiv:2302.11970; kaggle:awsaf49/artifact-dataset", artifact, ("sheets",)),
    Preset("competition", "lists of image names and classes beside folders of images; unlisted images are for the test",
           ("train.csv: id,label            class: label of the image that id names, split train",
            "test/0001.jpg                  class nothing, split test"),
           "the usual form of image classification competitions", competition, ("sheets",), "origin"),
    Preset("huggingface", "Parquet files with images as {bytes, path} and labels named in the file's own schema",
           ("data/train-00000-of-00005.parquet   split train, class: the label's name",
            "test.parquet/0000017                the image in row 17"),
           "https://huggingface.co/docs/hub/datasets-image", huggingface, ("parquets",), "origin"),
    Preset("imagefolder", "folders of classes, or a metadata.csv / .jsonl / .parquet in a folder that lists its files",
           ("train/metadata.csv: file_name,label   class: label, split train",
            "train/dog/1.png                       class dog where nothing is listed"),
           "https://huggingface.co/docs/datasets/image_dataset", imagefolder, ("sheets", "parquets"), "origin"),
)
PRESETS: dict[str, Preset] = {preset.name: preset for preset in _ALL}


def preset_of(layouts: Sequence[str], folders: Callable[[str], bool]) -> Preset | None:
    """Return the preset that `layouts` names, or None for patterns; `folders(name)` tells whether there is such a folder.

    Raises LayoutError for a name that is neither, and for a preset beside patterns.
    """
    named = [layout for layout in layouts if layout in PRESETS]
    if named and len(layouts) > 1:
        others = listed(layout for layout in layouts if layout != named[0])
        raise LayoutError(f"layout {named[0]!r} is a preset and stands alone, not beside {others or 'itself'}")
    for layout in layouts:
        if layout not in PRESETS and not re.search(r"[{*/]", layout) and not folders(posixpath.normpath(layout)):
            raise LayoutError(f"layout {layout!r} is no preset (known: {listed(PRESETS)}) and no pattern such as "
                              f"'{{origin}}/{{class}}'.{near(layout, PRESETS)}")
    return PRESETS[named[0]] if named else None
