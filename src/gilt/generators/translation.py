"""Translate images of other collections into the look of the one that a generator learnt. Read `translate` first.

An image goes part of the way to noise and is led back by the generator's flow, under its class (SDEdit, Meng and others 2022,
arXiv:2108.01073). What is coarse stays, what is fine is made as the generator's own collection has it. So a small set is
enlarged with rows of others, as RadialGAN (Yoon and others 2018, arXiv:1802.06403) does for tables.

Shapes: B images, S pixels of the side, K channels.
"""
import functools
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gilt.config import Preprocessing
from gilt.data.albums import SAW
from gilt.data.pixels import default_cache
from gilt.data.seen import HELD, hashes_in, seen_hashes
from gilt.data.table import ImageTable
from gilt.data.ties import keep_apart
from gilt.errors import ConfigError, TableError, counted, listed, near
from gilt.generators.config import TranslateConfig
from gilt.generators.generator import Generator
from gilt.generators.manifest import Album, Made
from gilt.generators.prompts import turn
from gilt.generators.sampling import fill
from gilt.settings import parse

log = logging.getLogger(__name__)
FURTHER = ("generator", "steps", "guidance", "sampler", "strength", "from", "translated")
_SHA256 = re.compile(r"[0-9a-f]{64}")
Key = tuple[str, int]  # the class and number of an image to come


@dataclass(frozen=True)
class Original:
    """An image to translate: `digest` is its SHA-256, `source` that of the photograph it goes back to (or its own)."""

    path: Path
    digest: str
    source: str
    origin: str


def translate(generator: Generator, table: ImageTable, folder: Path | str, *, seed: int = 0, origin: str | None = None,
              progress: Callable[[Made], None] | None = None, **settings: Any) -> Album:
    """Translate training rows of the table into the look of what the generator learnt, in `folder`; return its album.

    `settings` are TranslateConfig's fields by name: `strength=0.3`, `count=60`. A row of the manifest names, as `source`, the
    photograph that the translated image goes back to, else that image, so that no split parts them; `saw` lists what the
    generator was trained on, and the generators of the translated images. Val and test rows are never translated.
    An image depends on the generator, `seed`, its class and number, the image it is made from and the settings only. Images
    that are there already are not made again, so a run that was killed goes on. `origin` is the name in the tables to come.
    Raises ConfigError (a GAN, an unknown class or setting), TableError (no rows to translate), StoreError for a folder that
    holds other images, or images made with other settings.
    """
    config = parse(TranslateConfig, settings, where="translate")
    generator.check_translates()
    rows = translated_rows(table, config)
    rows.check_files()
    wanted = _wanted(generator, originals(table, rows), config, seed)
    sample = config.sample or generator.config.sample
    album = Album(folder, origin or f"{generator.config.kind}-translated", further=FURTHER)
    facts = {"seed": seed, "generator": generator.fingerprint, "steps": sample.steps, "guidance": sample.guidance,
             "sampler": sample.sampler, "strength": config.strength}
    own = {key: {"source": image.source, "translated": image.digest, "from": image.origin} for key, image in wanted.items()}
    images = _Images(generator, list(wanted.values()))

    def paint(part: list[Key]) -> np.ndarray:
        return generator.translated(part, images.of([wanted[key] for key in part]), strength=config.strength, seed=seed,
                                    sample=sample)

    fill(album, own, paint, facts=facts, seen=_seen(generator, rows, album), at_once=generator.at_once, progress=progress)
    return album


def translated_rows(table: ImageTable, config: TranslateConfig) -> ImageTable:
    """Return the rows to translate: training rows of the origins and classes that are asked for, with the classes' new names.

    A table without any split gives all its rows, and that is said. Rows that go back to a val or test photograph are left out.
    Raises TableError where no row is left, or one has no class.
    """
    near_duplicates = ("group",) if table.frame["group"].notna().any() else ()
    rows = keep_apart(table, near_duplicates).usable
    if unknown := next((name for name in config.origins or () if name not in rows.origins), None):
        raise TableError(f"no image of {unknown!r} in {table.root} (origins: {listed(rows.origins)})."
                         f"{near(unknown, rows.origins)}")
    rows = rows.pick(config.classes, None).where(lambda frame: frame["origin"].isin(config.origins or rows.origins))
    if table.frame["split"].isna().all():
        log.warning("no row of %s has a split yet, so each may be translated, %s in all. Scan the translations beside the "
                    "images they are made from, so that gilt split keeps them on one side; or deal the rows first",
                    table.root, counted(len(rows), "row"))
    else:
        held, above = set(table.frame["path"][table.frame["split"].isin(HELD)]), roots(table)
        rows = rows.where(split="train").where(lambda frame: ~frame["path"].map(above).isin(held))
    if not len(rows):
        raise TableError(f"no training row of {table.root} is left to translate (origins: "
                         f"{listed(config.origins or table.origins)}): translations are made of training rows only")
    if count := int(rows.frame["class"].isna().sum()):
        raise TableError(f"{counted(count, 'row')} to translate without a class, such as "
                         f"{rows.frame['path'][rows.frame['class'].isna()].iloc[0]}: scan with a layout that says {{class}}")
    return rows


def roots(table: ImageTable) -> dict[str, str]:
    """Return path -> the path of the image that a row goes back to: its source, or the source of that, as far as rows say."""
    source = dict(zip(table.frame["path"], table.frame["source"], strict=True))

    def root(path: str) -> str:
        been = {path}
        while (above := source[path]) in source and above not in been:
            been.add(path := above)
        return path

    return {path: root(path) for path in source}


def originals(table: ImageTable, rows: ImageTable) -> dict[str, list[Original]]:
    """Return class -> the rows' images, once for each content, by their hashes; `table` says where they go back."""
    above = roots(table)
    digests, sources = (dict(zip(table.frame["path"], table.frame[name], strict=True)) for name in ("sha256", "source"))

    def source(path: str) -> str:
        root = above[path]
        said = sources[root] or ""  # the photograph may be in no table, and yet be known
        return said if _SHA256.fullmatch(said) else digests[root] or digests[path]

    frame = rows.frame.drop_duplicates(["class", "sha256"]).sort_values("sha256")
    return {str(name): [Original(rows.root / path, digest, source(path), origin) for path, digest, origin in
                        zip(part["path"], part["sha256"], part["origin"], strict=True)]
            for name, part in frame.groupby("class")}


def _wanted(generator: Generator, images: Mapping[str, list[Original]], config: TranslateConfig, seed: int
            ) -> dict[Key, Original]:
    """Return what is to be made, and of what: each class's images in a seeded order, again and again."""
    counts = config.count if isinstance(config.count, Mapping) else {
        name: len(part) if config.count is None else config.count for name, part in images.items()}
    if lacking := next((name for name in counts if name not in images), None):
        raise ConfigError(f"count names the class {lacking!r}, and no row to translate has it (classes: {listed(images)})."
                          f"{near(lacking, images)}")
    if unknown := [name for name in counts if name not in generator.classes]:
        raise ConfigError(f"the generator knows no class {unknown[0]!r}, which rows to translate have (it knows: "
                          f"{listed(generator.classes)}; {counted(len(unknown), 'class')} of {len(counts)} unknown)."
                          f"{near(unknown[0], generator.classes)} Pick or rename the rows' classes with "
                          f"--set 'classes={{{generator.classes[0]} = [\"{unknown[0]}\"]}}', or name some with --count CLASS=N")
    return {(name, number): images[name][turn((seed, name, "{translated}"), number, len(images[name]))]
            for name, count in counts.items() for number in range(count)}


def _seen(generator: Generator, rows: ImageTable, album: Album) -> set[str]:
    """Return what the images carry traces of: what this generator saw, those of the rows did, and earlier runs' did."""
    before = hashes_in(album.folder / SAW) if album.saw else frozenset()
    return {*generator.seen, *seen_hashes(rows), *before}


class _Images:
    """The pixels of images, as the generator takes them: its size, and grey where it is grey. Decoded when first asked for."""

    def __init__(self, generator: Generator, images: Sequence[Original]) -> None:
        self.generator, self.paths = generator, {image.digest: image.path for image in images}

    @functools.cached_property
    def decoded(self) -> tuple[np.ndarray, dict[str, int]]:
        """The pack of pixels, and SHA-256 -> place in it."""
        pack, places = default_cache().pixels(list(self.paths.values()), list(self.paths),
                                              Preprocessing(size=self.generator.config.size))
        return pack, dict(zip(self.paths, places.tolist(), strict=True))

    def of(self, images: Sequence[Original]) -> np.ndarray:
        """Return uint8 (B, S, S, K)."""
        pack, places = self.decoded
        colour = pack[[places[image.digest] for image in images]]
        if self.generator.mode == "RGB":
            return colour
        return np.stack([np.asarray(Image.fromarray(pixels).convert("L")) for pixels in colour])[..., None]
