"""How far two sets of features lie apart: FD, KID, precision and recall, density and coverage, C2ST.

Shapes: N, M rows of the two sets, D features. Where the sets have roles, the first is the photographs'.
"""
import numpy as np
from scipy import linalg

from gilt.evaluation.neighbours import BLOCK, neighbour_distances

SHARPNESS = 0.01  # C of the logistic classifier, on standardised features: strong, since there may be more features than rows
FOLDS = 5
REACH, SHELL = 3, 5  # neighbours whose distance is a row's radius: of precision and recall, of density and coverage


def frechet(first_ND: np.ndarray, second_MD: np.ndarray) -> float:
    """Return |mu - mu'|^2 + tr(S + S' - 2 (S S')^(1/2)) of two normal distributions fitted to the rows (Heusel et al. 2017).

    The trace of the root is the sum of the singular values of a product of factors of S and S', so that no root of a matrix
    is taken, and fewer rows than features do no harm. Below about 2,000 rows the number is too large: it is biased.
    """
    (mean, factor), (other_mean, other) = (_normal(np.asarray(rows, np.float64)) for rows in (first_ND, second_MD))
    both = linalg.svdvals(factor @ other.T, overwrite_a=True, check_finite=False).sum()
    return float(((mean - other_mean) ** 2).sum() + (factor ** 2).sum() + (other ** 2).sum() - 2 * both)


def _normal(rows_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows' mean (D,) and a factor F of their covariance F.T @ F, of N or D rows, whichever is less."""
    mean = rows_ND.mean(0)
    factor = (rows_ND - mean) / np.sqrt(max(len(rows_ND) - 1, 1))
    if len(factor) > factor.shape[1]:
        factor = linalg.qr(factor, mode="r", overwrite_a=True, check_finite=False)[0][:factor.shape[1]]
    return mean, factor


def kid(first_ND: np.ndarray, second_MD: np.ndarray) -> float:
    """Return the unbiased MMD^2 of two sets with the kernel (x.y / D + 1)^3: KID (Binkowski et al. 2018), two rows or more.

    Without bias it is 0 on average for two sets of one source, and so is often a little below 0.
    """
    n, m = len(first_ND), len(second_MD)
    own, own_diagonal = _kernel_sums(first_ND, first_ND)
    other, other_diagonal = _kernel_sums(second_MD, second_MD)
    return ((own - own_diagonal) / (n * (n - 1)) + (other - other_diagonal) / (m * (m - 1))
            - 2 * _kernel_sums(first_ND, second_MD)[0] / (n * m))


def _kernel_sums(first_ND: np.ndarray, second_MD: np.ndarray) -> tuple[float, float]:
    """Return the sum of the kernel over all pairs, and over the pairs of a row with the one at its own place."""
    columns, scale = np.asarray(second_MD, np.float32).T, first_ND.shape[1]
    whole, size = 0.0, max(1, BLOCK // len(second_MD))
    for first in range(0, len(first_ND), size):
        values = np.asarray(first_ND[first:first + size], np.float32) @ columns
        values /= scale
        values += 1
        whole += float(np.einsum("nm,nm,nm->n", values, values, values, dtype=np.float64).sum())
    if first_ND is not second_MD:
        return whole, 0.0
    norms = np.einsum("nd,nd->n", first_ND, first_ND, dtype=np.float64)
    return whole, float(((norms / scale + 1) ** 3).sum())


def kid_subsets(first_ND: np.ndarray, second_MD: np.ndarray, *, size: int = 1_000, subsets: int = 100, seed: int = 0
                ) -> tuple[float, float]:
    """Return mean and standard deviation of `kid` over random subsets of `size` rows a side, as papers print it."""
    rng = np.random.default_rng(seed)
    both = first_ND, second_MD
    size = min(size, *map(len, both))
    values = [kid(*(rows[rng.choice(len(rows), size, replace=False)] for rows in both)) for _ in range(subsets)]
    return float(np.mean(values)), float(np.std(values))


def manifold(real_ND: np.ndarray, generated_MD: np.ndarray) -> dict[str, float]:
    """Return precision, recall (Kynkaanniemi et al. 2019, k = 3), density and coverage (Naeem et al. 2020, k = 5).

    A row's ball reaches to its k-th nearest row of its own set. precision: generated rows in a ball of a photograph; recall:
    photographs in a ball of a generated row; coverage: photographs whose ball holds a generated row; density: how many
    balls of photographs a generated row is in, over k.
    """
    real_NK = _radii(real_ND)
    reach_M = _radii(generated_MD)[:, REACH - 1]
    middle = real_ND.mean(0)  # around 0, float32 loses fewer digits
    real, generated = ((np.asarray(rows, np.float64) - middle).astype(np.float32) for rows in (real_ND, generated_MD))
    squares = np.einsum("nd,nd->n", real, real)
    precise, dense = 0, 0
    recalled, covered = np.zeros((2, len(real)), bool)
    size = max(1, BLOCK // len(real))
    for first in range(0, len(generated), size):
        some = generated[first:first + size]
        apart = np.einsum("md,md->m", some, some)[:, None] + squares - 2 * (some @ real.T)
        apart = np.sqrt(np.maximum(apart, 0, out=apart), out=apart)
        shell = apart <= real_NK[:, SHELL - 1]
        precise += int((apart <= real_NK[:, REACH - 1]).any(1).sum())
        dense += int(shell.sum())
        covered |= shell.any(0)
        recalled |= (apart <= reach_M[first:first + size, None]).any(0)
    return {"precision": precise / len(generated), "recall": float(recalled.mean()),
            "density": dense / (SHELL * len(generated)), "coverage": float(covered.mean())}


def _radii(rows_ND: np.ndarray) -> np.ndarray:
    places = np.arange(len(rows_ND))
    return neighbour_distances(rows_ND, rows_ND, k=SHELL, apart=(places, places))[0]


def c2st(first_ND: np.ndarray, second_MD: np.ndarray, units: np.ndarray, *, seed: int = 0) -> float:
    """Return the cross-validated AUROC of a logistic classifier that tells the second set from the first; 0.5 is chance.

    `units` (N + M,) numbers what belongs together, such as an image and its source: no fold parts it. NaN where a side has
    fewer units than folds. After Lopez-Paz and Oquab 2017, who take the accuracy.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold

    sides = np.repeat([0, 1], [len(first_ND), len(second_MD)])
    if min(len(np.unique(units[sides == side])) for side in (0, 1)) < FOLDS:
        return float("nan")
    rows = _rotated(np.concatenate([first_ND, second_MD]))
    areas = []
    for fit, judge in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(rows, sides, units):
        if len(np.unique(sides[fit])) == len(np.unique(sides[judge])) == 2:  # large units may leave a fold with one side only
            classifier = LogisticRegression(C=SHARPNESS, max_iter=1_000).fit(rows[fit], sides[fit])
            areas.append(roc_auc_score(sides[judge], classifier.decision_function(rows[judge])))
    return float(np.mean(areas)) if areas else float("nan")


def _rotated(rows_ND: np.ndarray) -> np.ndarray:
    """Return the rows standardised, in at most N dimensions: a penalty on the squares of the weights sees no rotation."""
    rows = np.asarray(rows_ND, np.float64)
    rows = (rows - rows.mean(0)) / np.maximum(rows.std(0), 1e-9)
    if rows.shape[0] >= rows.shape[1]:
        return rows
    left, scales, _ = linalg.svd(rows, full_matrices=False, check_finite=False)
    return left * scales
