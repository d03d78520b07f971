"""Orders: which images are asked for, each with its prompt, seed and photograph, and the loop that fills an album with them."""
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from PIL import Image

from gilt.data.table import ImageTable
from gilt.errors import StoreError, TableError, counted, listed, near
from gilt.generators.manifest import Album, Made
from gilt.generators.prompts import Prompts, check_counts, seed_of, turn

log = logging.getLogger(__name__)
Filter = Literal["nearest", "bilinear", "bicubic", "lanczos"]  # of Pillow, for pictures that are made smaller


@dataclass(frozen=True)
class Order:
    """One image that is asked for. Image to image: `photograph` is what it is made from, `source` that file's SHA-256."""

    class_name: str
    number: int
    seed: int
    prompt: str
    negative: str = ""
    photograph: Path | None = None
    source: str = ""


class Painter(Protocol):
    """What makes images: a pipeline on this machine, or an endpoint.

    `facts` are the columns that say how it works, `untold` those of an order that it makes no use of (seed, negative_prompt);
    `at_once` how many orders it is handed. `paint` yields each order with its image, or with None where it made none that may
    be kept; `refusal` says why that happens.
    """

    facts: Mapping[str, object]
    untold: frozenset[str]
    at_once: int
    refusal: str

    def paint(self, orders: Sequence[Order]) -> Iterator[tuple[Order, Image.Image | None]]:
        """Yield each order with its image."""
        ...


def orders(prompts: Prompts, counts: Mapping[str, int], *, seed: int = 0, photographs: ImageTable | None = None) -> list[Order]:
    """Return the images to make: `counts` of each class, with the prompts that (seed, class, number) draw.

    With `photographs` (rows of one kind, see `training_photographs`), each is made from one of its class: all are used equally
    often. Raises ConfigError for a class without prompts that fit.
    """
    check_counts(counts)
    sources = {} if photographs is None else _by_class(photographs)
    made = []
    for name, count in counts.items():
        for number in range(count):
            prompt, negative = prompts.prompt(name, number, seed=seed)
            given: tuple[Path | None, str] = (None, "")
            if sources:
                given = sources[name][turn((seed, name, "{photographs}"), number, len(sources[name]))]
            made.append(Order(name, number, seed_of(seed, name, number), prompt, negative, *given))
    return made


def training_photographs(table: ImageTable, classes: Iterable[str]) -> ImageTable:
    """Return the training photographs of the classes. Raises TableError where one has none, or no row has a split yet.

    An image made from a test photograph would carry it into the training.
    """
    rows = table.usable.real
    if rows.frame["split"].isna().all():
        raise TableError(f"no photograph of {table.root} has a split yet, and images are made from training photographs only: "
                         "deal them first (gilt split)")
    rows = rows.where(split="train")
    if lacking := next((name for name in classes if name not in rows.classes), None):
        raise TableError(f"class {lacking!r} has no training photograph in {table.root} (classes that have: "
                         f"{listed(rows.classes) or 'none'}).{near(lacking, rows.classes)}")
    return rows.where(class_=list(classes))


def _by_class(rows: ImageTable) -> dict[str, list[tuple[Path, str]]]:
    """Return class -> (path, SHA-256) of each photograph, once for each content, in the order of the hashes."""
    frame = rows.frame.drop_duplicates("sha256").sort_values("sha256")
    return {name: [(rows.root / path, digest) for path, digest in zip(part["path"], part["sha256"], strict=True)]
            for name, part in frame.groupby("class")}


def make_images(painter: Painter, folder: Path | str, wanted: Sequence[Order], *, origin: str, seen: Iterable[str] = (),
                progress: Callable[[Made], None] | None = None) -> Album:
    """Let the painter make what is wanted in `folder`, and return its album.

    Images that are there already are not made again, so a run that was killed goes on, and a longer list adds to the folder.
    `seen` are the SHA-256 of images that the generator is known to have been trained on. Images that the painter refused are
    counted in a warning; they leave a gap in the numbers.
    Raises StoreError where the folder holds other images, or images made otherwise.
    """
    album = Album(folder, origin, further=painter.facts)
    _same(album, painter, wanted)
    if seen := sorted(set(seen)):
        album.note_seen(seen)
    missing = [order for order in wanted if not album.has(order.class_name, order.number)]
    there = len(wanted) - len(missing)
    if there:
        log.info("%d of %d images are in %s already", there, len(wanted), folder)
    if "negative_prompt" in painter.untold and any(order.negative for order in missing):
        log.warning("the negative prompts are left out: this generator takes none")
    start, refused = time.perf_counter(), 0
    for first in range(0, len(missing), painter.at_once):
        for order, image in painter.paint(missing[first:first + painter.at_once]):
            if image is None:
                refused += 1
            else:
                album.add(image, order.class_name, order.number, **_told(painter, order), **painter.facts)
        done = min(first + painter.at_once, len(missing))
        if progress:
            speed = done / (time.perf_counter() - start)
            progress(Made(there + done, len(wanted), speed, (len(missing) - done) / speed))
    if refused:
        log.warning("%s not kept: %s. Their numbers stay empty; a larger count makes others", counted(refused, "image"),
                    painter.refusal)
    return album


def _told(painter: Painter, order: Order) -> dict[str, object]:
    """Return the columns that say what the painter was told of an order; "" for what it makes no use of."""
    said = {"seed": order.seed, "prompt": order.prompt, "negative_prompt": order.negative, "source": order.source}
    return {name: "" if name in painter.untold else value for name, value in said.items()}


def _same(album: Album, painter: Painter, wanted: Sequence[Order]) -> None:
    """Raise StoreError where the album's images were made otherwise than those that are wanted."""
    orders = {album.path(order.class_name, order.number): order for order in wanted}
    for path, row in album.rows.items():
        facts = {name: "" if value is None else value for name, value in painter.facts.items()}
        for name, value in (facts | (_told(painter, orders[path]) if path in orders else {})).items():
            if row[name] != " ".join(str(value).split()):
                raise StoreError(f"{album.folder} holds images made with {name} {row[name] or 'nothing'!r}, and "
                                 f"{str(value) or 'nothing'!r} is asked for ({path}): name another folder, or ask for the same")
