"""Choose generated images by what they look like beside the trial's photographs, and mix what is left.

What is measured: distances in the features of a named network (or hand-made ones), and the class that a logistic judge sees,
which learnt the photographs alone. Only training rows are looked at: the trial's own photographs, and generated images.

Shapes: N candidates, R photographs, D features, C classes.
"""
import functools
import logging

import numpy as np
import pandas as pd

from gilt.config import ChooseConfig, FeaturesConfig, MixConfig
from gilt.data import mix as rows_only
from gilt.data.choose import Choice, Scores, choose
from gilt.data.pixels import PixelCache
from gilt.data.table import BALANCE, ImageTable
from gilt.data.ties import links, units
from gilt.engine.embed import embed
from gilt.errors import TableError, listed
from gilt.evaluation.neighbours import neighbour_distances

log = logging.getLogger(__name__)
SHARPNESS = 0.01  # C of the judge, on standardised features: strong, since there may be more features than photographs
FOLDS = 3  # in which it is asked how often the judge is right
_HAND_MADE: dict[int | None, dict[str, np.ndarray]] = {}  # side -> SHA-256 -> features: every trial of a study asks for them


def mix(table: ImageTable, config: MixConfig | None = None, *, target: str = "class", seed: int = 0,
        cache: PixelCache | None = None, **settings: object) -> ImageTable:
    """Return the rows that a trial uses: a mixed train, the asked kind of val, and test (for target `class` real,
    unless `test="generated"`).

    `settings` are MixConfig's fields by name: `mix(table, mode="add", generated=400, choose={"copies": 0.01})`.
    Raises TableError where a set comes out empty, or more generated rows are asked for than there are, and what `embed` raises
    where generated rows are chosen by their looks.
    """
    return mixed(table, config or MixConfig(**settings), target=target, seed=seed, cache=cache)[0]  # type: ignore[arg-type]


def mixed(table: ImageTable, config: MixConfig, *, target: str = "class", seed: int = 0,
          cache: PixelCache | None = None) -> tuple[ImageTable, Choice | None]:
    """Return what `mix` returns, and which generated rows were left out and why; None where the mix chooses nothing."""
    made: list[Choice] = []

    def chooser(real: ImageTable, generated: ImageTable) -> ImageTable:
        assert config.choose
        made.append(choice(real, generated, config.choose, seed=seed, cache=cache))
        return made[-1].kept

    rows = rows_only.mix(table, config, target=target, seed=seed, chooser=chooser)
    return rows, made[0] if made else None


def with_left_out(rows: ImageTable, choice: Choice) -> ImageTable:
    """Return a mix's rows and, after them, the generated rows that were left out, each marked with the reason."""
    out = choice.out
    for name, plain in BALANCE.items():
        if name in rows.frame:
            out = out.with_column(name, plain)
    return ImageTable(pd.concat([rows.frame, out.frame], ignore_index=True), rows.root) if len(out) else rows


def choice(real: ImageTable, generated: ImageTable, config: ChooseConfig, *, seed: int = 0,
           cache: PixelCache | None = None) -> Choice:
    """Return which generated rows may be taken beside the photographs `real`, both in the mix's order.

    Raises TableError where the photographs are too few to compare with, and what `embed` raises.
    """
    if (not config.filters and config.keep == "random") or not len(generated):
        return Choice(choose(generated, config), {})
    _enough(real, config)
    values, said = _features(_both(real, generated), config.features, cache)
    scores = _scores(real, generated, config, values, seed)
    known = {"features": said, "copies_below": scores.tau, "judge_accuracy": scores.rightness}
    result = Choice(choose(generated, config, scores), {name: value for name, value in known.items() if value is not None})
    counts = result.counts()
    right = scores.rightness
    judge = "" if right is None else f". Of photographs that it has not seen, the judge gets {right:.0%} right"
    log.info("chose %s of %s generated images; left out: %s%s", f"{counts['kept']:,}", f"{counts['candidates']:,}",
             listed(f"{count:,} {reason}" for reason, count in counts["left_out"].items()) or "none",
             judge)
    return result


@functools.cache  # once, not once a trial
def _say_weak(classes: int, rightness: float) -> None:
    log.warning("mix.choose: of photographs of %d classes that it has not seen, the judge gets %.0f %% right. Images that it "
                "leaves out may be fine: name a network with weights in choose.features", classes, 100 * rightness)


def _enough(real: ImageTable, config: ChooseConfig) -> None:
    """Raise TableError where the photographs are too few for what the settings compare with."""
    asks, have = "mix.choose compares generated images with the trial's photographs", len(real)
    if not have:
        raise TableError(f"{asks}, and this mix takes none: take some, or set choose.keep='random' alone")
    if have < 2 and (config.copies is not None or config.keep == "typical"):
        raise TableError(f"{asks}, and those with each other, and this mix takes one only: take more, or leave out "
                         "choose.copies and choose.keep='typical'")
    if (config.off_class or config.confidence is not None) and len(real.classes) < 2:
        raise TableError(f"{asks} of two classes or more, and these are all of one ({listed(real.classes) or 'none'}): leave "
                         "choose.off_class and choose.confidence out")


def _both(real: ImageTable, generated: ImageTable) -> ImageTable:
    return ImageTable(pd.concat([real.frame, generated.frame], ignore_index=True), real.root)


def _features(rows: ImageTable, config: FeaturesConfig, cache: PixelCache | None) -> tuple[np.ndarray, str]:
    """Return features (R + N, D), and what they are; hand-made ones are kept for other trials, as a network's are on disk."""
    if config.model != "pixels":
        return embed(rows, config, cache=cache)[:2]
    known = _HAND_MADE.setdefault(config.size, {})
    missing = rows.where(lambda frame: ~frame["sha256"].isin(known) & ~frame["sha256"].duplicated())
    if len(missing):
        known.update(zip(missing.frame["sha256"], embed(missing, config, cache=cache).values_ND, strict=True))
    return np.stack([known[digest] for digest in rows.frame["sha256"]]), "pixels, which are weak"


def _scores(real: ImageTable, generated: ImageTable, config: ChooseConfig, values: np.ndarray, seed: int) -> Scores:
    """Return what the settings ask to know of the generated rows; `values` are the features of photographs, then of those."""
    ours, theirs = values[:len(real)], values[len(real):]
    classes, asked = (table.frame["class"].fillna("").astype(str).to_numpy(object) for table in (real, generated))
    tied = units(links(real.frame, ("group",)))  # a near-duplicate is no measure of how far photographs are apart
    tau = None
    if config.copies is not None:
        apart = neighbour_distances(ours, ours, apart=(tied, tied))[0][:, 0]
        tau = float(np.quantile(apart[np.isfinite(apart)], config.copies)) if np.isfinite(apart).any() else 0.0
    distances, places = (found[:, 0] for found in neighbour_distances(theirs, ours))
    own, usual = np.full(len(generated), np.inf), {}
    for name in dict.fromkeys(classes):
        mine, made = classes == name, asked == name
        own[made] = neighbour_distances(theirs[made], ours[mine])[0][:, 0]
        usual[name] = _median(neighbour_distances(ours[mine], ours[mine], apart=(tied[mine], tied[mine]))[0][:, 0])
    middle = _median(np.array(list(usual.values())))
    if config.keep == "typical" and not np.isfinite(middle):
        raise TableError("mix.choose: keep='typical' asks how far photographs of a class are apart, and no class has two: "
                         "take more photographs, or another choose.keep")
    usual = {name: value if np.isfinite(value) else middle for name, value in usual.items()}  # a class of one photograph
    judged = _judged(ours, classes, theirs, asked, tied, seed) if config.off_class or config.confidence is not None else ()
    return Scores(theirs, ours, classes, distances, real.frame["path"].to_numpy(object)[places], own, usual, tau, *judged)


def _median(distances: np.ndarray) -> float:
    known = distances[np.isfinite(distances)]
    return float(np.median(known)) if len(known) else np.inf


def _judged(ours: np.ndarray, classes: np.ndarray, theirs: np.ndarray, asked: np.ndarray, tied: np.ndarray,
            seed: int) -> tuple[np.ndarray, np.ndarray, float | None]:
    """Return each candidate's probability of its own class, its likeliest class, and how often the judge is right.

    The judge is a logistic classifier that weighs all classes alike and has learnt the photographs, of which no candidate is.
    How often it is right is cross-validated over photographs that are not tied; None where a class has fewer than the folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    judge = make_pipeline(StandardScaler(), LogisticRegression(C=SHARPNESS, max_iter=1_000, class_weight="balanced"))
    rightness = None
    if min(len(np.unique(tied[classes == name])) for name in np.unique(classes)) >= FOLDS:
        folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
        rightness = float(cross_val_score(judge, ours, classes, groups=tied, cv=folds).mean())
        if rightness < (1 + 1 / len(np.unique(classes))) / 2:  # half-way from chance to always
            _say_weak(len(np.unique(classes)), round(rightness, 1))
    probabilities_NC = judge.fit(ours, classes).predict_proba(theirs)
    names = list(judge.classes_)
    own = np.array([probabilities[names.index(name)] if name in names else 0.0
                    for probabilities, name in zip(probabilities_NC, asked, strict=True)])
    return own, judge.classes_[probabilities_NC.argmax(1)], rightness
