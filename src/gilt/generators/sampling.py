"""Make images with a generator: a folder that `gilt scan` reads, with what the generator saw."""
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from gilt.errors import ConfigError, StoreError
from gilt.generators.config import SampleConfig
from gilt.generators.generator import Generator
from gilt.generators.manifest import Album, Made

log = logging.getLogger(__name__)
FURTHER = ("generator", "steps", "guidance", "sampler")


def generate(generator: Generator, folder: Path | str, *, count: int | Mapping[str, int] = 100, seed: int = 0,
             origin: str | None = None, sample: SampleConfig | None = None,
             progress: Callable[[Made], None] | None = None) -> Album:
    """Make `count` images of each class (or of the named classes) in `folder`, and return its album.

    An image depends on the generator, `seed`, its class, its number and `sample` only. Images that are there already are not
    made again, so a run that was killed goes on, and a larger `count` adds to the folder. `origin` is the generator's name in
    the tables to come (default: its kind).
    Raises ConfigError for an unknown class or settings that the generator does not take, StoreError for a folder that holds
    other images, or images made with other settings.
    """
    sample = _settings(generator, sample)
    wanted = _wanted(generator, count)
    album = Album(folder, origin or generator.config.kind, further=FURTHER)
    facts: dict[str, object] = {"seed": seed, "generator": generator.fingerprint}
    if generator.config.kind == "diffusion":
        facts |= {"steps": sample.steps, "guidance": sample.guidance, "sampler": sample.sampler}
    fill(album, {image: {} for image in wanted}, lambda part: generator.images(part, seed=seed, sample=sample), facts=facts,
         seen=generator.seen, at_once=generator.at_once, progress=progress)
    return album


def fill(album: Album, wanted: Mapping[tuple[str, int], Mapping[str, object]],
         paint: Callable[[list[tuple[str, int]]], np.ndarray], *, facts: Mapping[str, object], seen: Iterable[str],
         at_once: int, progress: Callable[[Made], None] | None = None) -> None:
    """Let `paint` make, `at_once` at a time, what the album lacks of `wanted`: (class, number) -> what only its row says.

    `facts` is what every row says, `seen` the SHA-256 of what the generator was trained on.
    Raises StoreError where the album's images were made otherwise, before anything is written.
    """
    _same(album, facts, {album.path(*image): told for image, told in wanted.items()})
    album.note_seen(seen)
    missing = [image for image in wanted if not album.has(*image)]
    if len(missing) < len(wanted):
        log.info("%d of %d images are in %s already", len(wanted) - len(missing), len(wanted), album.folder)
    start = time.perf_counter()
    for first in range(0, len(missing), at_once):
        part = missing[first:first + at_once]
        for image, pixels in zip(part, paint(part), strict=True):
            picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
            album.add(picture, *image, **facts, **wanted[image])
        done = first + len(part)
        if progress:
            speed = done / (time.perf_counter() - start)
            progress(Made(len(wanted) - len(missing) + done, len(wanted), speed, (len(missing) - done) / speed))


def _settings(generator: Generator, sample: SampleConfig | None) -> SampleConfig:
    if generator.config.kind == "gan" and sample is not None and sample != SampleConfig():
        raise ConfigError("a GAN makes an image at one go: it takes no steps, guidance or sampler")
    return sample or generator.config.sample


def _wanted(generator: Generator, count: int | Mapping[str, int]) -> list[tuple[str, int]]:
    counts = count if isinstance(count, Mapping) else dict.fromkeys(generator.classes, count)
    generator.check_classes(counts)
    for name, number in counts.items():
        if number < 0:
            raise ConfigError(f"count of class {name!r} is {number}: 0 or more")
    return [(name, i) for name, number in counts.items() for i in range(number)]


def _same(album: Album, facts: Mapping[str, object], told: Mapping[str, Mapping[str, object]]) -> None:
    """Raise StoreError where the album's images were made otherwise; `told` is path -> what only that image's row says."""
    for path, row in album.rows.items():
        for name, value in {**facts, **told.get(path, {})}.items():
            if row[name] != str(value):
                raise StoreError(f"{album.folder} holds images made with {name} {row[name]}, and {value} is asked for: name "
                                 "another folder, or ask for the same")
