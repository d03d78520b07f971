"""Heads that are fitted at one go to frozen features, in place of a network's last layer: support vectors and neighbours.

They are layers as any other, so a classifier stays one file and everything downstream works unchanged. They compute in
float64, as scikit-learn does: a vote may hang on the last digit.

Shapes: B batch, D features, C classes of the logits, L of them that training rows had, S support vectors, N training rows.
"""
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from gilt.errors import ModelError

BELOW = 10.0  # nats that a class without training rows lies below the least likely other one
PIECE = 8192  # training rows that are compared at a time


class FittedHead(nn.Module):
    """A layer (B, in_features) -> logits (B, out_features): 1 for two classes behind a sigmoid, else one a class.

    `kind` is its name in a classifier's card, `rows_of` the tensor whose rows the card counts.
    """

    kind = ""
    rows_of = ""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features

    @property
    def classes(self) -> int:
        """The number of classes: two behind a single logit."""
        return max(2, self.out_features)

    def card(self) -> dict[str, Any]:
        """Return what rebuilding it needs beside its tensors."""
        return {"kind": self.kind, "rows": len(getattr(self, self.rows_of)), "features": self.in_features}

    def check(self) -> None:
        """Raise ModelError where the tensors, which came from a file, do not go together."""

    def _out(self, logits_BC: torch.Tensor) -> torch.Tensor:
        if self.out_features == 1:
            logits_BC = logits_BC[:, 1:] - logits_BC[:, :1]
        return logits_BC.float()

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, {self.rows_of}={len(getattr(self, self.rows_of))}"


class SvmHead(FittedHead):
    """A support vector machine with an RBF kernel, as scikit-learn's SVC: one against one for every pair of classes.

    It tells the class that SVC tells (`break_ties=True`): the one of most votes, and of equal ones that of the largest sum of
    margins. Its logits are the sums over the pairs of log sigmoid(margin / temperature), as if each pair were a trial of its
    own; where that would put another class on top, the two change places. With two classes the logit is margin / temperature.
    """

    kind, rows_of = "svm", "vectors"

    def __init__(self, in_features: int, out_features: int, *, vectors: int, labels: int) -> None:
        super().__init__(in_features, out_features)
        self.register_buffer("vectors", torch.zeros(vectors, in_features))
        self.register_buffer("coefficients", torch.zeros(labels - 1, vectors, dtype=torch.float64))
        self.register_buffer("intercepts", torch.zeros(labels * (labels - 1) // 2, dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(labels, dtype=torch.int64))  # support vectors of each label, in order
        self.register_buffer("labels", torch.arange(labels))
        self.register_buffer("gamma", torch.ones((), dtype=torch.float64))
        self.register_buffer("temperature", torch.ones((), dtype=torch.float64))

    def check(self) -> None:
        """Raise ModelError where the tensors do not go together."""
        labels = self.labels.tolist()
        if int(self.counts.sum()) != len(self.vectors) or bool((self.counts < 0).any()):
            raise ModelError(f"its {len(self.vectors)} support vectors are not those of its labels ({self.counts.tolist()})")
        if labels != sorted(set(labels)) or not 0 <= labels[0] <= labels[-1] < self.classes:
            raise ModelError(f"its labels {labels} are not among {self.classes} classes")

    def forward(self, features_BD: torch.Tensor) -> torch.Tensor:
        return self.tell(self.margins(features_BD), self.temperature)

    def tell(self, margins_BLL: torch.Tensor, temperature: torch.Tensor | float) -> torch.Tensor:
        """Return the logits that margins come to at a temperature."""
        alone = torch.eye(len(self.labels), dtype=torch.bool, device=margins_BLL.device)
        logits_BL = F.logsigmoid(margins_BLL / temperature).masked_fill(alone, 0).sum(2)
        winner_B1, top_B1 = decisions(margins_BLL).argmax(1, keepdim=True), logits_BL.argmax(1, keepdim=True)
        highest, other = logits_BL.gather(1, top_B1), logits_BL.gather(1, winner_B1)
        logits_BL = logits_BL.scatter(1, top_B1, other).scatter(1, winner_B1, highest)
        return self._out(with_absent(logits_BL, self.labels, self.classes))

    def margins(self, features_BD: torch.Tensor) -> torch.Tensor:
        """Return float64 (B, L, L): how far each row lies on the side of one label, against another; 1 is the margin's edge."""
        distances = torch.cdist(features_BD.double(), self.vectors.double(),
                                compute_mode="use_mm_for_euclid_dist_if_necessary").square()
        blocks = (-self.gamma * distances).exp().split(self.counts.tolist(), 1)
        weights = self.coefficients.split(self.counts.tolist(), 1)
        against = [block @ weight.T for block, weight in zip(blocks, weights, strict=True)]  # (B, L - 1): the other labels
        count, rows = len(blocks), []
        first, second = torch.triu_indices(count, count, 1).tolist()
        intercept = {pair: self.intercepts[place] for place, pair in enumerate(zip(first, second, strict=True))}
        for i in range(count):
            rows.append([against[i][:, j - 1] + against[j][:, i] + intercept[i, j] if i < j else
                         torch.zeros_like(against[0][:, 0]) if i == j else -rows[j][i] for j in range(count)])
        return torch.stack([torch.stack(row, 1) for row in rows], 1)


def decisions(margins_BLL: torch.Tensor) -> torch.Tensor:
    """Return float64 (B, L): what SVC calls its decision_function ("ovr"): votes, and sums of margins squeezed below a vote."""
    upper = torch.ones_like(margins_BLL[0]).triu(1).bool()  # a margin of 0 counts for the first label of the pair
    votes = torch.where(upper, margins_BLL >= 0, margins_BLL > 0).sum(2)
    sums = margins_BLL.sum(2)
    return votes + sums / (3 * (sums.abs() + 1))


class KnnHead(FittedHead):
    """A vote of the nearest training rows: the logits are the logs of the classes' shares of it.

    Near is Euclidean distance between features of length one, which is the angle between them. With k votes and C classes a
    share is (votes + 1 / C) / (k + 1), so that no class is impossible; a vote counts its class's weight.
    """

    kind, rows_of = "knn", "points"

    def __init__(self, in_features: int, out_features: int, *, points: int) -> None:
        super().__init__(in_features, out_features)
        self.register_buffer("points", torch.zeros(points, in_features))  # each of length one
        self.register_buffer("labels", torch.zeros(points, dtype=torch.int64))
        self.register_buffer("weights", torch.ones(self.classes, dtype=torch.float64))
        self.register_buffer("neighbours", torch.ones((), dtype=torch.int64))

    def check(self) -> None:
        """Raise ModelError where the tensors do not go together."""
        if not 1 <= int(self.neighbours) <= len(self.points):
            raise ModelError(f"it has {len(self.points)} points, and {int(self.neighbours)} neighbours to ask")
        if len(self.labels) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < self.classes:
            raise ModelError(f"its points have labels that are not among {self.classes} classes")

    def forward(self, features_BD: torch.Tensor) -> torch.Tensor:
        own_DB = F.normalize(features_BD.double()).T
        alike_BN = torch.cat([(piece.double() @ own_DB).T for piece in self.points.split(PIECE)], 1)
        nearest_BK = alike_BN.topk(int(self.neighbours), dim=1).indices
        votes_BK = self.weights[self.labels[nearest_BK]]
        votes_BC = torch.zeros(len(features_BD), self.classes, dtype=torch.float64, device=features_BD.device)
        votes_BC.scatter_add_(1, self.labels[nearest_BK], votes_BK)
        share_BC = (votes_BC + 1 / self.classes) / (votes_BC.sum(1, keepdim=True) + 1)
        return self._out(share_BC.log())


def with_absent(scores_BL: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Return scores (B, C) from those of the `labels` (L,) that training rows had; the others lie BELOW all of them."""
    if len(labels) == classes:
        return scores_BL
    least = scores_BL.amin(1, keepdim=True) - BELOW
    return least.expand(-1, classes).clone().index_copy_(1, labels, scores_BL)


def rebuilt(card: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], old: nn.Module) -> FittedHead | None:
    """Return the empty head that a classifier's card describes, in place of the layer `old`; None where `old` is right.

    `tensors` are the file's under that layer's names: the card must say of them what they are, so that a file cannot ask
    for more memory than it holds. Raises ModelError where it does not.
    """
    kind = card.get("kind")
    if kind in (None, "linear", "logistic"):
        return None
    if kind not in ("svm", "knn"):
        raise ModelError(f"it has a head of the kind {kind!r}, which this version of gilt does not know")
    rows = tensors.get(SvmHead.rows_of if kind == "svm" else KnnHead.rows_of)
    size = (card.get("rows"), card.get("features"))
    if rows is None or tuple(rows.shape) != size or size[1] != old.in_features:
        held = "none" if rows is None else "x".join(map(str, rows.shape))
        raise ModelError(f"its card says {size[0]} rows of {size[1]} features for the head {kind!r}; the file holds {held}, "
                         f"and the network gives {old.in_features} features")
    if kind == "knn":
        return KnnHead(old.in_features, old.out_features, points=len(rows))
    labels = tensors.get("labels")
    if labels is None or labels.ndim != 1 or not 2 <= len(labels) <= max(2, old.out_features):
        raise ModelError("the labels of its support vectors are missing or too many")
    return SvmHead(old.in_features, old.out_features, vectors=len(rows), labels=len(labels))
