"""Deletion and insertion: what becomes of a class's probability while an image is taken away, or put back, place by place.

Shapes: B images, H W pixels, S steps.
"""
from collections.abc import Iterator

import numpy as np
import torch

from gilt.engine.attribution import blurred, stretched
from gilt.engine.predict import as_predictions
from gilt.evaluation.calibration import calibrated
from gilt.evaluation.faithfulness import MAP, MIDDLE, RANDOM, middle_map
from gilt.models.classifier import Classifier

DRAWS = 3  # random maps an image, whose curves are meaned
Curves = dict[tuple[str, str], np.ndarray]


class Deleter:
    """Measures the curves of one image after the other.

    `grid` is how coarse the method's maps are: random ones are drawn as coarse, because scattered pixels would be another
    kind of damage. Deletion fills with the image's mean colour, insertion begins with the image blurred.
    """

    def __init__(self, classifier: Classifier, *, grid: tuple[int, int], steps: int, batch: int, seed: int) -> None:
        self.classifier, self.grid, self.batch = classifier, grid, batch
        self.parts = np.linspace(0, 1, steps + 1)
        self.rng = np.random.default_rng(seed)
        self.found: dict[tuple[str, str], list[np.ndarray]] = {}

    def add(self, image_CHW: torch.Tensor, map_HW: np.ndarray, place: int) -> None:
        """Measure one image (values in [0, 1], on the device) with its map, for the class at `place`."""
        size = image_CHW.shape[-1]
        draws = stretched(self.rng.random((DRAWS + 1, *self.grid)), size)
        orders = {(MAP, 0): map_HW, (MIDDLE, 0): middle_map(size, size)} | {(RANDOM, i): draws[i] for i in range(DRAWS)}
        ties = draws[-1].ravel()  # equal places go in a random order, coarse too: not from the top left
        ranks = {key: _ranks(values.ravel(), ties).reshape(size, size) for key, values in orders.items()}
        grey = image_CHW.mean((1, 2), keepdim=True).expand_as(image_CHW)
        for kind, start, end in (("deletion", image_CHW, grey), ("insertion", blurred(image_CHW[None])[0], image_CHW)):
            p = iter(self._p(self._between(start, end, list(ranks.values())), place))
            first, last = next(p), next(p)
            curves: dict[str, list[list[float]]] = {}
            for name, _ in ranks:
                curves.setdefault(name, []).append([first, *(next(p) for _ in self.parts[1:-1]), last])
            for name, own in curves.items():
                self.found.setdefault((kind, name), []).append(np.mean(own, 0))

    def curves(self) -> Curves:
        """Return the curves (N, S) by (deletion or insertion, order)."""
        return {key: np.array(values) for key, values in self.found.items()}

    def _between(self, start: torch.Tensor, end: torch.Tensor, ranks: list[np.ndarray]) -> Iterator[torch.Tensor]:
        """Yield start, end, and for each order the images between them."""
        yield start
        yield end
        for rank_HW in ranks:
            rank = torch.from_numpy(rank_HW).to(start.device)
            for part in self.parts[1:-1]:
                yield torch.where(rank < round(part * rank.numel()), end, start)

    def _p(self, images: Iterator[torch.Tensor], place: int) -> list[float]:
        found: list[float] = []
        waiting: list[torch.Tensor] = []
        for image in images:
            waiting.append(image)
            if len(waiting) == self.batch:
                found += self._scores(waiting, place)
                waiting = []
        return found + (self._scores(waiting, place) if waiting else [])

    def _scores(self, images: list[torch.Tensor], place: int) -> list[float]:
        batch = torch.stack(images).contiguous(memory_format=torch.channels_last)
        logits = self.classifier.logits(batch).cpu().numpy()
        return calibrated(as_predictions(self.classifier, logits))[:, place].tolist()


def _ranks(values: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """Return the place of each value when the largest come first."""
    order = np.lexsort((ties, -values))
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return ranks
