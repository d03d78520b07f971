"""Near-duplicates: the same picture re-encoded, resized, mirrored, recoloured or a little cropped.

Two steps, because no hash alone is both quick and right. The perceptual hashes of all rows propose pairs: each row's most
similar ones, found by matrix products within cells of similar rows, never over all pairs. Then the proposed pictures
themselves decide: the middle of one is looked for in the other at several sizes and places, without its low frequencies, on
which any two skies agree.

Shapes: N rows, D hash values, P pairs, T x T template pixels in an S x S thumbnail.
"""
import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.fft import irfft2, rfft2
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from gilt.data.facts import LUMA, WAVES, reduced, small
from gilt.data.pixels import UNREADABLE, Progress, open_image
from gilt.data.table import ImageTable
from gilt.errors import TableError

LIKE = 0.72  # cosine of two hashes from which a pair is looked at
MOST = 10  # pairs proposed a row, in each orientation
HOPE = 0.5  # correlation at the same size from which other sizes are tried
SAME = 0.87  # correlation of aligned details from which two pictures are one
EXACT_ROWS = 5_000  # up to here every row is compared with every other
MEMBERS = 20_000  # rows that a thousand others are compared with at a time, at most
NEAREST_CELLS = 6  # beyond: with those of the nearest cells
STRICTER = (0.9, 0.92, 0.94, 0.96, 0.97, 0.98, 0.99)  # asked in turn where likeness alone joins different pictures
CROWD, CROWD_PART = 100, 0.05  # rows, and part of all rows, of a chain that no series of one picture makes
STRANGERS = 0.005  # part of the pairs that may join two classes, where a crowd was found
SIDE, TEMPLATE = 32, 24
_FINE = (0.9, 0.95, 1.0, 1.05, 1.11)
# (sizes to try, across and down, as parts of the template's side; for pairs whose best agreement so far is from, below)
ROUNDS = ((((1.0, 1.0),), -1, 2), ([(s, s) for s in (0.8, 0.9, 0.95, 1.05, 1.11, 1.25)], HOPE, 2),
          ([(x, y) for x in _FINE for y in _FINE if x != y], 0.68, SAME))
_MIRROR = np.where(np.arange(1, WAVES * WAVES) % WAVES % 2, -1, 1).astype(np.float32)  # odd horizontal waves change sign


@dataclass(frozen=True)
class Pairs:
    """Near-duplicates: rows int64 (P, 2) by position, first < second; score (P,), the correlation of their details.

    `same` is the score from which they were taken for one picture.
    """

    rows: np.ndarray
    score: np.ndarray
    proposed: int  # pairs that were looked at
    unread: int  # pairs left undecided because an image is not there or cannot be read
    same: float = SAME

    def groups(self, count: int) -> np.ndarray:
        """Return a group number for each of `count` rows: rows that a chain of pairs joins share one."""
        ones = np.ones(len(self.rows), np.int8)
        return connected_components(coo_matrix((ones, (self.rows[:, 0], self.rows[:, 1])), (count, count)), False)[1]


def near_pairs(table: ImageTable, *, same: float = SAME, progress: Progress | None = None) -> Pairs:
    """Return the pairs of rows that show the same picture, among those with a hash; equal content is no pair here.

    Of rows with equal content the first stands for all. Where different pictures are as alike as one picture is elsewhere
    (small silhouettes on a plain ground), more than `same` is asked: see `_stricter`.
    Raises TableError where no row has a perceptual hash.
    """
    frame = table.frame
    known = frame["phash"].notna()
    if not known.any():
        raise TableError(f"the table of {table.root} has no perceptual hashes: scan the folder again")
    content = frame["sha256"].fillna(frame["path"])
    rows = np.flatnonzero((known & ~content.duplicated()).to_numpy())
    hashes = np.frombuffer(bytes.fromhex("".join(frame["phash"].iloc[rows])), np.int8).reshape(len(rows), -1)
    proposed, mirrored = propose(hashes)
    looked_at = np.unique(proposed)
    thumbs, readable = thumbnails(table.root, frame["path"].to_numpy()[rows[looked_at]], progress)
    places = np.searchsorted(looked_at, proposed)
    both = readable[places].all(1)
    score = np.zeros(len(proposed), np.float32)
    score[both] = agreement(thumbs, places[both], mirrored[both])
    found = Pairs(rows[proposed], score, len(proposed), int((~both).sum()), same)
    return _stricter(_from(found, same), frame["class"].to_numpy())


def _from(pairs: Pairs, same: float) -> Pairs:
    keep = pairs.score >= same
    return replace(pairs, rows=pairs.rows[keep], score=pairs.score[keep], same=same)


def _stricter(pairs: Pairs, classes: np.ndarray) -> Pairs:
    """Return the pairs, asking for more likeness where a crowd is joined by chains of pairs that also join classes.

    One picture has one class. Pairs that join two are wrong labels, or wrong pairs; where they come with a chain through a good
    part of the table, the pairs are wrong.
    """
    if np.bincount(pairs.groups(len(classes))).max(initial=0) <= max(CROWD, CROWD_PART * len(classes)):
        return pairs
    for same in (s for s in STRICTER if s > pairs.same):
        if _strangers(pairs, classes) <= STRANGERS:
            break
        pairs = _from(pairs, same)
    return pairs


def _strangers(pairs: Pairs, classes: np.ndarray) -> float:
    """Return the part of the pairs, of those whose classes are known, that join two classes."""
    of_classes = classes[pairs.rows]
    known = ~pd.isna(of_classes).any(1)
    return float((of_classes[known, 0] != of_classes[known, 1]).mean()) if known.any() else 0.0


def near_groups(table: ImageTable, *, same: float = SAME, progress: Progress | None = None) -> pd.Series:
    """Return each row's group of near-duplicates or equal content by name, None for a row that stands alone."""
    frame = table.frame
    pairs = near_pairs(table, same=same, progress=progress)
    content = frame["sha256"].fillna(frame["path"])
    first = pd.Series(np.arange(len(frame)), index=content.to_numpy())
    stands_for = first[~first.index.duplicated()].reindex(content).to_numpy()
    number = pairs.groups(len(frame))[stands_for]
    size = np.bincount(number)[number]
    first_path = frame["path"].groupby(number).transform("min")
    return ("near:" + first_path).astype(object).where(size > 1, None)


def propose(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return candidate pairs int64 (P, 2), first < second, of hashes int8 (N, D), and whether each is alike mirrored (P,).

    A pair is a row and one of its MOST likeliest partners, as they stand or mirrored. Memory grows with N, not with pairs.
    """
    count = len(hashes)
    vectors = hashes.astype(np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1)
    like = np.full((count, MOST), LIKE, np.float32)
    partner = np.full((count, MOST), -1, np.int64)  # twice the row, and one more where mirrored
    for queries, members in _blocks(vectors):
        base = vectors[members].T
        for mirrored in (0, 1):
            score = (vectors[queries] * _MIRROR if mirrored else vectors[queries]) @ base
            score[queries[:, None] == members[None, :]] = -1
            hit = score.max(1) >= like[queries].min(1)
            _keep_likeliest(like, partner, queries[hit], score[hit], 2 * members + mirrored)
    row, place = np.nonzero(partner >= 0)
    other, mirrored = np.divmod(partner[row, place], 2)
    keys = np.unique((np.minimum(row, other) * count + np.maximum(row, other)) * 2 + mirrored)
    return np.stack(np.divmod(keys // 2, count), 1), (keys % 2).astype(bool)


def _keep_likeliest(like: np.ndarray, partner: np.ndarray, rows: np.ndarray, score: np.ndarray, names: np.ndarray) -> None:
    """Take into `like` and `partner` (N, MOST), in place, what beats them among `score` (R, M) of `rows` with `names` (M,)."""
    if not len(rows):
        return
    best = np.argpartition(-score, min(MOST, len(names)) - 1, axis=1)[:, :MOST]
    likes = np.concatenate([like[rows], np.take_along_axis(score, best, 1)], 1)
    partners = np.concatenate([partner[rows], names[best]], 1)
    kept = np.argpartition(-likes, MOST - 1, axis=1)[:, :MOST]
    like[rows], partner[rows] = np.take_along_axis(likes, kept, 1), np.take_along_axis(partners, kept, 1)


def _blocks(vectors: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (queries, members): blocks of row numbers to be compared, about a thousand queries at a time."""
    count = len(vectors)
    if count <= EXACT_ROWS:
        everyone = np.arange(count)
        for first in range(0, count, 1000):
            yield everyone[first:first + 1000], everyone
        return
    from sklearn.cluster import MiniBatchKMeans

    cells = int(2 * np.sqrt(count))
    sample = np.random.default_rng(0).permutation(count)[:50 * cells]
    centres = MiniBatchKMeans(cells, random_state=0, batch_size=4096, n_init=1, max_iter=20).fit(
        vectors[sample]).cluster_centers_
    lengths = (centres ** 2).sum(1) / 2
    asked = np.empty((count, NEAREST_CELLS + 1), np.int32)  # the last is the nearest to the mirrored picture
    own = np.empty(count, np.int32)
    for part in (slice(i, i + 4096) for i in range(0, count, 4096)):
        far = lengths - vectors[part] @ centres.T
        own[part] = far.argmin(1)
        asked[part, :-1] = np.argpartition(far, NEAREST_CELLS, 1)[:, :NEAREST_CELLS]
        asked[part, -1] = (lengths - (vectors[part] * _MIRROR) @ centres.T).argmin(1)
    yield from _cell_blocks(own, asked, cells)


def _cell_blocks(own: np.ndarray, asked: np.ndarray, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each of `count` cells' members, by `own` (N,), with the rows that ask for it, by `asked` (N, Q), as queries."""
    who = np.repeat(np.arange(len(own), dtype=np.int32), asked.shape[1])
    order = np.argsort(asked.ravel(), kind="stable")
    who, wanted = who[order], asked.ravel()[order]
    by_cell = np.argsort(own, kind="stable")
    cells = np.arange(count)
    begin, end = (np.searchsorted(own[by_cell], cells, side) for side in ("left", "right"))
    first, last = (np.searchsorted(wanted, cells, side) for side in ("left", "right"))
    for cell in cells:
        members, queries = by_cell[begin[cell]:end[cell]], np.unique(who[first[cell]:last[cell]])
        for j in range(0, len(members), MEMBERS):  # plain images may all be in one cell
            for i in range(0, len(queries), 1000):
                yield queries[i:i + 1000], members[j:j + MEMBERS]


def thumbnails(root: Path, paths: np.ndarray, progress: Progress | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return luma uint8 (N, S, S) of images under `root`, decoded in parallel, and a mask (N,) of those that could be read."""
    out = np.zeros((len(paths), SIDE, SIDE), np.uint8)
    readable = np.zeros(len(paths), bool)

    def one(i: int) -> None:
        try:
            with open_image(root / paths[i]) as image:
                out[i] = np.round(small(np.asarray(reduced(image, 2 * SIDE), np.float32) @ LUMA, SIDE))
                readable[i] = True
        except UNREADABLE:
            pass

    with ThreadPoolExecutor() as pool:
        for first in range(0, len(paths), 512):
            list(pool.map(one, range(first, min(first + 512, len(paths)))))
            if progress:
                progress(min(first + 512, len(paths)), len(paths))
    return out, readable


def agreement(thumbs: np.ndarray, pairs: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """Return (P,) in [-1, 1]: how well the middle of each pair's one picture is found in the other, which may be mirrored.

    The measure is the normalised correlation of details (luma less its low frequencies) at the best size and place.
    """
    def part(first: int) -> np.ndarray:
        used, places = np.unique(pairs[first:first + 500], return_inverse=True)
        details = _details(thumbs[used])
        a, b = details[places.reshape(-1, 2).T]
        b[mirrored[first:first + 500]] = b[mirrored[first:first + 500], :, ::-1]
        return _found(a, b)

    with ThreadPoolExecutor() as pool:
        return np.concatenate([np.empty(0, np.float32), *pool.map(part, range(0, len(pairs), 500))])


def _details(thumbs: np.ndarray) -> np.ndarray:
    values = thumbs.astype(np.float32)
    return values - gaussian_filter(values, (0, 3, 3))


def _found(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the best correlation of templates from `a` over all places in `b`, details (P, S, S).

    Pairs that agree somewhat at one size are tried at others, and then at others in width and height apart, as where a strip
    was cut off and the rest stretched.
    """
    norms, spectrum = _window_norms(b), np.conj(rfft2(b))
    best = np.full(len(a), -1, np.float32)
    for sizes, low, high in ROUNDS:
        hopeful = np.flatnonzero((best >= low) & (best < high))
        for across, down in sizes if len(hopeful) else ():
            padded = np.zeros((len(hopeful), SIDE, SIDE), np.float32)
            padded[:, :TEMPLATE, :TEMPLATE] = _middle(a[hopeful], across, down)
            hits = irfft2(rfft2(padded) * spectrum[hopeful], s=(SIDE, SIDE))
            places = -np.arange(SIDE - TEMPLATE + 1)  # the conjugate turns the shift round
            hits = hits[:, places[:, None], places] / norms[hopeful]
            best[hopeful] = np.maximum(best[hopeful], hits.max((1, 2)))
    return best


def _middle(details: np.ndarray, across: float, down: float) -> np.ndarray:
    """Return the middle of each picture (P, S, S), TEMPLATE x `across` pixels wide, as unit templates (P, T, T)."""
    out = _steps(down) @ details @ _steps(across).T
    out -= out.mean((1, 2), keepdims=True)
    return out / (np.linalg.norm(out, axis=(1, 2), keepdims=True) + 1e-6)


@functools.cache
def _steps(scale: float) -> np.ndarray:
    """Return the weights (T, S) that read TEMPLATE points, `scale` pixels apart, around the middle of a line."""
    points = (np.arange(TEMPLATE) - (TEMPLATE - 1) / 2) * scale + (SIDE - 1) / 2
    low = np.clip(np.floor(points).astype(int), 0, SIDE - 2)
    part = (points - low).astype(np.float32)
    weights = np.zeros((TEMPLATE, SIDE), np.float32)
    weights[np.arange(TEMPLATE), low] = 1 - part
    weights[np.arange(TEMPLATE), low + 1] = part
    return weights


def _window_norms(b: np.ndarray) -> np.ndarray:
    """Return the norm of each T x T window of `b` less its mean, (P, S - T + 1, S - T + 1); at least that of faint noise."""
    def box(values: np.ndarray) -> np.ndarray:
        total = np.pad(values.cumsum(1).cumsum(2), ((0, 0), (1, 0), (1, 0)))
        t = TEMPLATE
        return total[:, t:, t:] - total[:, :-t, t:] - total[:, t:, :-t] + total[:, :-t, :-t]

    spread = box(b.astype(np.float64) ** 2) - box(b.astype(np.float64)) ** 2 / TEMPLATE ** 2
    return np.sqrt(np.maximum(spread, 1.5 ** 2 * TEMPLATE ** 2)).astype(np.float32)
