"""Explain: where in images a classifier looked, how far the maps can be trusted, and what the spectra say.

Shapes: B batch, C classes, H W pixels. Images are decoded while the maps are drawn; memory is bounded by a batch and the maps
that are kept, whatever the number of images.
"""
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from gilt.config import GENERATED, REAL
from gilt.data.containers import is_there
from gilt.data.order import draw_of
from gilt.data.pixels import decode, decode_stream
from gilt.data.table import ImageTable
from gilt.engine.attribution import Mapper
from gilt.engine.batches import to_images
from gilt.engine.deletion import Deleter
from gilt.engine.frequencies import spectra_of
from gilt.engine.frozen import device_of
from gilt.engine.predict import as_predictions, find_images
from gilt.errors import ConfigError, ImageError, TableError, counted, listed, near
from gilt.evaluation.attention import Attention, Gatherer, share
from gilt.evaluation.calibration import calibrated, named, p_generated, undecided
from gilt.evaluation.explanation import ALL, ExplainConfig, Explained, Explanation
from gilt.evaluation.faithfulness import summed_up
from gilt.models.classifier import Classifier

Source = ImageTable | Path | str | Sequence[Path | str]


def explain(classifier: Classifier, source: Source, settings: ExplainConfig | None = None, *,
            masks: Path | str | None = None, each: Callable[[Explained], None] | None = None,
            progress: Callable[[int, int], None] | None = None) -> Explanation:
    """Return where a classifier looked in images of a table (its usable rows), a folder, or a list of files and folders.

    `settings.count` images are explained, as many of each origin (or class) as can be; the same ones every time. `masks` is a
    folder of masks, PNG files called as the images are, white inside. `each` is called with every image's explanation, its map
    and pixels included, so that pictures can be written as they come. An unreadable image is listed with its `error`.
    Raises TableError (no image, no mask), ConfigError (a class that is not there) and what `Mapper` raises.
    """
    settings = settings or ExplainConfig()
    if settings.explain != "predicted" and settings.explain not in classifier.classes:
        raise ConfigError(f"no class {settings.explain!r} to explain (there are: predicted, {listed(classifier.classes)})."
                          f"{near(settings.explain, ['predicted', *classifier.classes])}")
    mapper = Mapper(classifier, settings)
    rows = _rows(source)
    chosen = _chosen(rows, settings, classifier.target)
    run = _Run(classifier, mapper, settings, _Masks(masks, [row.name for row in chosen], classifier))
    for images, places in _batches(chosen, classifier, settings, run):
        run.add(images, [chosen[i] for i in places], places)
        if progress:
            progress(places[-1] + 1, len(chosen))
        for one in run.fresh():
            if each:
                each(one)
    spectra, size, notes = _spectra(rows, settings)
    return Explanation(
        classifier.model, tuple(classifier.classes), classifier.target, mapper.method,
        mapper.layer.name if mapper.layer else "", mapper.grid, settings.model_dump(), tuple(run.images), run.attention(),
        run.faithfulness(), spectra, size, [note for note in (mapper.note, *run.masks.notes, *notes) if note])


@dataclass(frozen=True)
class _Row:
    """An image to explain: its file, its name in what is written, and what is known of it."""

    path: Path
    name: str
    origin: str | None = None
    class_: str | None = None

    def truth(self, classifier: Classifier) -> str | None:
        """Return the true class of the classifier's target, or None where it is unknown."""
        if classifier.target == "class":
            return self.class_
        named = self.origin is None or self.origin in classifier.classes or GENERATED not in classifier.classes
        return self.origin if named else GENERATED


def _rows(source: Source) -> list[_Row]:
    if not isinstance(source, ImageTable):
        return [_Row(path, str(path)) for path in find_images([source] if isinstance(source, (str, Path)) else source)]
    table = source.usable
    if not len(table):
        raise TableError("there is no usable row to explain")
    table.check_files()
    columns = (table.frame[name].to_numpy(object, na_value=None) for name in ("path", "origin", "class"))
    return [_Row(path, *row) for path, *row in zip(table.paths, *columns, strict=True)]


def _chosen(rows: Sequence[_Row], settings: ExplainConfig, target: str) -> list[_Row]:
    """Return the rows to explain, in a seeded order whose every beginning holds the groups as evenly as can be."""
    if len(rows) <= settings.count and not any(row.origin for row in rows):
        return list(rows)
    seen: dict[str | None, int] = {}
    ranked = []
    for row in sorted(rows, key=lambda row: draw_of(row.name, settings.seed)):
        group = row.origin if target == "origin" else row.class_
        seen[group] = seen.get(group, -1) + 1
        ranked.append((seen[group], row))
    return [row for _, row in sorted(ranked, key=lambda item: item[0])][:settings.count]


def _batches(rows: Sequence[_Row], classifier: Classifier, settings: ExplainConfig, run: "_Run"
             ) -> Iterator[tuple[torch.Tensor, list[int]]]:
    """Yield (images_BCHW, places) of the readable images; the others' reasons go to the run."""
    device, places, pixels = device_of(classifier.network), [], []
    decoded = decode_stream([row.path for row in rows], classifier.preprocessing, ahead=2 * settings.batch)
    for i, (_, image) in enumerate(decoded):
        if isinstance(image, ImageError):
            run.images.append(Explained(rows[i].name, rows[i].truth(classifier), error=str(image)))
        else:
            places.append(i)
            pixels.append(image)
        if places and (len(places) == settings.batch or i + 1 == len(rows)):
            yield to_images(torch.from_numpy(np.stack(pixels)).to(device)), places
            places, pixels = [], []


class _Run:
    """What is gathered while images go through."""

    def __init__(self, classifier: Classifier, mapper: Mapper, settings: ExplainConfig, masks: "_Masks") -> None:
        self.classifier, self.mapper, self.settings, self.masks = classifier, mapper, settings, masks
        self.deleter = Deleter(classifier, grid=mapper.grid, steps=settings.steps, batch=4 * settings.batch, seed=settings.seed)
        self.measured = self.kept = 0
        self.images: list[Explained] = []
        self.groups = {ALL: Gatherer(ALL)}
        self._fresh: list[Explained] = []

    def add(self, images_BCHW: torch.Tensor, rows: Sequence[_Row], places: Sequence[int]) -> None:
        """Explain a batch of images."""
        said = as_predictions(self.classifier, self.classifier.logits(images_BCHW).cpu().numpy())
        p_BC = calibrated(said)
        called = named(p_BC, said)
        band = said.calibration and said.calibration.band
        unsure = undecided(p_generated(said), said.calibration).tolist() if band else [None] * len(rows)
        wanted = self.settings.explain
        explained = called if wanted == "predicted" else np.full(len(rows), list(self.classifier.classes).index(wanted))
        maps = self.mapper.maps(images_BCHW, explained)
        pixels = (images_BCHW.permute(0, 2, 3, 1) * 255).round().byte().cpu().numpy()
        names = self.classifier.classes
        for i, row in enumerate(rows):
            mask = self.masks.of(row.name)
            inside = None if mask is None else share(maps[i], mask)
            truth = row.truth(self.classifier)
            told = row.origin if self.classifier.target == "origin" else row.class_
            for group in (ALL, told or f"called {names[called[i]]}"):
                self.groups.setdefault(group, Gatherer(group)).add(maps[i], mask)
            if self.measured < self.settings.curves:
                self.measured += 1
                self.deleter.add(images_BCHW[i], maps[i], int(explained[i]))
            self._fresh.append(Explained(
                row.name, truth, names[called[i]], unsure[i], float(p_BC[i, explained[i]]), names[explained[i]],
                _known(self.groups[ALL].centre[-1]), _known(inside), None if mask is None else float(mask.mean()),
                maps[i].astype(np.float16), pixels[i]))

    def fresh(self) -> Iterator[Explained]:
        """Yield what the last batch gave, with maps and pixels; beyond the number to keep, it is kept without them."""
        for one in self._fresh:
            keep = self.kept < self.settings.keep
            self.kept += keep
            self.images.append(one if keep else replace(one, map=None, pixels=None))
            yield one
        self._fresh = []

    def attention(self) -> list[Attention]:
        """Return what the maps come to: all of them, then by group where there are several."""
        found = [group.result() for group in self.groups.values() if group.total is not None]
        return found if len(found) > 2 else found[:1]

    def faithfulness(self):
        """Return the summary of the curves; None where none was measured."""
        return summed_up(self.deleter.parts, self.deleter.curves()) if self.measured else None


def _known(value: float | None) -> float | None:
    return None if value is None or value != value else value


class _Masks:
    """Masks by the image's name: `{folder}/{path}.png`, or `{folder}/{file name}.png`."""

    def __init__(self, folder: Path | str | None, names: Sequence[str], classifier: Classifier) -> None:
        self.preprocessing, self.notes, self.paths = classifier.preprocessing, [], {}
        if folder is None:
            return
        folder = Path(folder)
        if not folder.is_dir():
            raise TableError(f"no folder of masks {folder}")
        for name in names:
            own = Path(name).with_suffix(".png")
            places = [folder / own.name] if own.is_absolute() else [folder / own, folder / own.name]
            if found := next(filter(is_there, places), None):
                self.paths[name] = found
        if not self.paths:
            raise TableError(f"no mask in {folder} fits an image: {places[0].relative_to(folder)} was looked for, and "
                             f"{counted(len(names) - 1, 'other')}")
        if missing := len(names) - len(self.paths):
            self.notes.append(f"{counted(missing, 'image')} of {len(names):,} had no mask in {folder}")

    def of(self, name: str) -> np.ndarray | None:
        """Return an image's mask (H, W), 1 inside and 0 outside. Raises ImageError where it cannot be read."""
        if name not in self.paths:
            return None
        return (decode(self.paths[name], self.preprocessing).mean(2) > 127).astype(float)


def _spectra(rows: Sequence[_Row], settings: ExplainConfig):
    """Return the spectra of at most `settings.spectra` images of each origin, drawn by the seed."""
    counts: dict[str, int] = {}
    drawn: list[tuple[Path, str]] = []
    for row in sorted(rows, key=lambda row: draw_of(row.name, settings.seed)):
        group = row.origin or "images"
        counts[group] = counts.get(group, 0) + 1
        if counts[group] <= settings.spectra:
            drawn.append((row.path, group))
    drawn.sort(key=lambda item: (item[1] != REAL, item[1]))
    return spectra_of(*zip(*drawn, strict=True)) if drawn else ({}, 0, [])
