"""Oddities: marks in a corner or strip, several pictures in one image, and images that do not belong with the others.

Shapes: N images of one origin, k x k pixels of a corner, H W pixels.
"""
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import uniform_filter

from gilt.data.checks import Evidence, SkippedError
from gilt.data.facts import GRIDS, LUMA, SEAM, grid_of, reduced
from gilt.data.findings import Finding
from gilt.data.pixels import UNREADABLE, open_image, plain_rgb, upright
from gilt.errors import counted

LEAST = 64  # pixels of the shorter side below which an image is too small to be several
MARKED = 300  # images of an origin that are looked at for marks
FEWEST = 30  # fewer could not show a mark beyond chance, though all bore it
EVERY = 20_000  # rows of an origin that are all looked at once a mark is found in its sample
CORNER = 24  # pixels of a corner at least, which is at most a third of an image
STEP = 10 / 255  # a smaller change of brightness is no edge
LEAST_ROWS = 50  # different images of an origin from which some may be called strangers
COMMON = 0.25  # a mark's edges stand at the same pixels, the same way round, in a quarter of the images at least
PLACES = ("top left", "top right", "bottom left", "bottom right", "top strip", "bottom strip")


def grid(evidence: Evidence) -> list[Finding]:
    """Find images that are a grid of several pictures, as some generators return four at once."""
    seam = evidence.statistic("seam")["seam"]
    large = evidence.frame[["width", "height"]].min(axis=1) >= LEAST
    if not large.any():
        raise SkippedError(f"no image has {LEAST} pixels on its shorter side")
    rows = evidence.frame[(seam > SEAM) & large]
    if not len(rows):
        return []
    shapes = {path: list(_shape(evidence.table.root / path)) for path in rows["path"]}
    return [Finding("grid", "medium", len(rows) / len(evidence.frame),
                    f"{counted(len(rows), 'image')} with the look of several pictures in a grid. A model then sees four "
                    f"small pictures with a cross between them where the other images show one, and learns the cross.",
                    "Cut them into their parts: gilt clean --set grid=finding. Look first: a window or a chequered floor may "
                    "look like one.", tuple(rows["path"]), details={"grids": shapes, "seam_from": SEAM})]


def _shape(path: Path) -> tuple[int, int]:
    """Return (rows, columns) of a grid; the usual (2, 2) where the image is gone."""
    try:
        with open_image(path) as image:
            luma = np.asarray(reduced(image), np.float32) / 255 @ LUMA
    except UNREADABLE:
        return GRIDS[0]
    return grid_of(np.abs(np.diff(luma, axis=1)), np.abs(np.diff(luma, axis=0)))[0]


def watermark(evidence: Evidence) -> list[Finding]:
    """Find marks in a fixed corner or strip: edges that stand at the same pixels in many images of one origin.

    After Dekel et al. 2017 ("On the effectiveness of visible watermarks"), who recover a mark from the gradients that a
    collection has in common.
    """
    findings, looked_at = [], 0
    content = pd.Series(evidence.content, evidence.frame.index)
    for origin, rows in evidence.frame.groupby("origin", sort=False):
        rows = rows[rows[["width", "height"]].min(axis=1) >= 3 * CORNER]
        once = rows[~content[rows.index].duplicated()]  # copies have all their edges in common
        if len(once) < FEWEST:
            continue
        sample = once.sample(min(MARKED, len(once)), random_state=evidence.seed)
        side = int(min(128, sample[["width", "height"]].min(axis=1).quantile(0.1) // 3))
        steps, read = _corner_steps([evidence.table.root / path for path in sample["path"]], side)
        if read.sum() < FEWEST:
            continue
        looked_at += int(read.sum())
        marks = {i: mark for i in range(len(PLACES)) if (mark := _common(steps[read, i])) is not None}
        if marks:
            findings += _marked(evidence, str(origin), rows if len(rows) <= EVERY else sample, marks)
    if not looked_at:
        raise SkippedError(f"no origin has {FEWEST} different images of {3 * CORNER} pixels or more that can be read")
    return findings


def _marked(evidence: Evidence, origin: str, rows: pd.DataFrame, marks: Mapping[int, np.ndarray]) -> list[Finding]:
    """Return a finding for each mark, by its place, with those of `rows` that bear it; every image is read once."""
    side = next(iter(marks.values())).shape[-1]
    paths = [evidence.table.root / path for path in rows["path"]]
    parts: dict[int, list[np.ndarray]] = {place: [] for place in marks}
    for i in range(0, len(paths), 200):
        steps = _corner_steps(paths[i:i + 200], side)[0]
        for place, mark in marks.items():
            parts[place].append(_borne(steps[:, place], mark))
    bearers = {place: rows["path"][np.concatenate(part) > 0.4] for place, part in parts.items()}
    return [_mark(origin, rows, bearers[place], PLACES[place], mark) for place, mark in marks.items() if len(bearers[place])]


def _mark(origin: str, rows: pd.DataFrame, bearers: pd.Series, name: str, mark: np.ndarray) -> Finding:
    side = mark.shape[-1]
    down, across = np.nonzero(mark.any(0))
    edge = name.split()[0]
    depth = int(down.max()) + 1 if edge == "top" else side - int(down.min())
    return Finding(
        "watermark", "high" if len(bearers) > len(rows) / 5 else "medium", len(bearers) / len(rows),
        f"The same mark at the {name} of {len(bearers):,} of the {len(rows):,} {origin} images that were looked at: a "
        "signature, a credential or a frame. A detector needs nothing else to recognise them, and recognises nothing "
        "without it.",
        f"Look at them, and crop the mark off all images of every origin: gilt clean --set crop.{edge}={depth}. Then level "
        "their sizes: --set equalise=true.", tuple(bearers),
        details={"origin": origin, "place": name, "looked_at": len(rows), "corner_pixels": side,
                 "box": [int(down.min()), int(across.min()), int(down.max()) + 1, int(across.max()) + 1]})


def _corner_steps(paths: list[Path], side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return int8 (N, 6, 2, k, k): for each place, whether brightness steps up (1), down (-1) or not across and downwards;
    and a mask (N,) of the images that could be read and are large enough."""
    out = np.zeros((len(paths), len(PLACES), 2, side, side), np.int8)
    read = np.zeros(len(paths), bool)

    def one(i: int) -> None:
        try:
            with open_image(paths[i]) as image:
                picture = plain_rgb(upright(image))
        except UNREADABLE:
            return
        (width, height), k = picture.size, side
        if min(width, height) < k:
            return
        right, below = width - k, height - k
        corners = [picture.crop((x, y, x + k, y + k)) for x, y in ((0, 0), (right, 0), (0, below), (right, below))]
        strips = [picture.resize((k, k), Image.Resampling.BOX, box=(0, y, width, y + k)) for y in (0, below)]
        for place, part in enumerate(corners + strips):
            crop = np.asarray(part, np.float32) @ LUMA / 255
            for axis in (0, 1):
                step = np.diff(crop, axis=axis, append=crop.take([-1], axis))
                out[i, place, axis] = np.sign(step) * (np.abs(step) > STEP)
        read[i] = True

    with ThreadPoolExecutor() as pool:
        list(pool.map(one, range(len(paths))))
    return out, read


def _common(steps: np.ndarray) -> np.ndarray | None:
    """Return the mark int8 (2, k, k) in steps (N, 2, k, k): which way brightness steps where it does so in many; or None.

    A mark is a cell of 8 x 8 pixels or more in which an eighth of the pixels have a common edge.
    """
    mean = steps.mean(0, dtype=np.float32)
    noise = np.sqrt((steps != 0).mean(0) / len(steps)) + 1e-6
    common = (np.abs(mean) > COMMON) & (np.abs(mean) > 5 * noise)
    dense = uniform_filter(common.any(0).astype(np.float32), 8, mode="constant")
    if dense.max() < 1 / 8 or common.sum() < 12:
        return None
    return (np.sign(mean) * (common & (dense >= 1 / 16))).astype(np.int8)


def _borne(steps: np.ndarray, mark: np.ndarray) -> np.ndarray:
    """Return (N,) in [-1, 1]: the part of a mark's edges that each image's steps (N, 2, k, k) have."""
    return (steps[:, mark != 0] * mark[mark != 0]).mean(1)


def out_of_context(evidence: Evidence) -> list[Finding]:
    """Find images unlike the others of their origin: screenshots, drawings, scans, pictures from another collection.

    Outliers by robust Mahalanobis distance (minimum covariance determinant, Rousseeuw and Van Driessen 1999) over light,
    colour, sharpness and flat areas: a cheap space that sees how an image looks, not what it shows.
    """
    values = evidence.statistic("brightness", "contrast", "red", "green", "blue", "saturation", "sharpness", "flat")
    frame = evidence.frame
    space = np.column_stack([values["brightness"], values["contrast"], values["red"] - values["green"],
                             values["blue"] - values["green"], values["saturation"], np.log(values["sharpness"] + 0.02),
                             np.log(values["flat"] + 0.02)]).astype(float)
    far = pd.Series(0.0, frame.index)
    if frame["origin"].value_counts().max() < LEAST_ROWS:
        raise SkippedError(f"no origin has {LEAST_ROWS} images")
    for _, index in frame.groupby("origin", sort=False).indices.items():
        if len(index) >= LEAST_ROWS:
            far.iloc[index] = _farness(space[index], evidence.seed)
    order = far[far > 1].sort_values(ascending=False)
    if not len(order):
        return []
    rows = frame.loc[order.index]
    screens = int((values.loc[order.index, "flat"] > 0.5).sum())
    return [Finding("out-of-context", "low", len(rows) / len(frame),
                    f"{counted(len(rows), 'image')} unlike the others of the same origin, {screens:,} of them with "
                    f"large flat areas, as screenshots and drawings have. The list begins with the strangest.",
                    "Look at them; what does not belong is left out by gilt clean --set 'drop=[\"out-of-context\"]'.",
                    tuple(rows["path"]), details={"flat": screens, "strangeness": [round(v, 2) for v in order.head(50)]})]


def _farness(space: np.ndarray, seed: int) -> np.ndarray:
    """Return each row's robust distance over the line beyond which it is a stranger (1), for values (N, D).

    What is usual is learnt from different rows: copies would make a narrow crowd, and all others strangers. A row that lacks
    a value is no stranger (0).
    """
    from sklearn.covariance import MinCovDet

    known = np.isfinite(space).all(1)
    far, space = np.zeros(len(space)), space[known]
    different = np.unique(space, axis=0)
    if len(different) < LEAST_ROWS:
        return far
    spread = different.std(0)
    space, different = (rows[:, spread > 1e-6] / spread[spread > 1e-6] for rows in (space, different))
    if space.shape[1] < 2:
        return far
    sample = different[np.random.default_rng(seed).permutation(len(different))[:3000]]
    noisy = sample + np.random.default_rng(seed).normal(0, 1e-3, sample.shape)  # a constant half would have no inverse
    fitted = MinCovDet(random_state=seed, support_fraction=0.9).fit(noisy)
    distance, others = (np.log(fitted.mahalanobis(rows) + 1e-9) for rows in (space, different))
    usual = np.median(others)
    line = 4 * 1.4826 * np.median(np.abs(others - usual))
    far[known] = (distance - usual) / max(line, 1e-6)
    return far


