"""Image changes: which test images an arm gets right that the benchmark gets wrong, and the other way round."""
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from gilt.errors import ConfigError
from gilt.studies.pairs import Pair, Pairs, Said, benchmark_of, check_arm
from gilt.studies.store import Store


@dataclass(frozen=True)
class ImageChange:
    """One test image under the benchmark and under an arm, over the `seeds` seeds in which both were tested on it.

    `benchmark_right` and `right` are the parts of those seeds in which it was named rightly, `change` the arm's minus the
    benchmark's, in [-1, 1]. `benchmark_answer` and `answer` are the commonest wrong names (the first by name of equally
    common ones; None where it was never wrong), `benchmark_p` and `p` the mean probabilities of the true name.
    `path` is as in the table, `class_` an origin where the study's target is the origin.
    """

    path: str
    class_: str
    seeds: int
    benchmark_right: float
    right: float
    change: float
    benchmark_answer: str | None
    answer: str | None
    benchmark_p: float
    p: float


def image_changes(store: Store | Path | str, arm: str, benchmark: str | None = None) -> list[ImageChange]:
    """Return every test image that the arm and the benchmark share, most helped first and most hurt last.

    Of images with the same change, those whose true name became likelier stand first. Where every seed deals its own test
    rows, an image's figures are over the seeds that tested it. It describes: one image is no evidence, and with many images
    some move by chance. `class_changes` tests. Raises ConfigError for an unknown arm or where there is no benchmark.
    """
    store = store if isinstance(store, Store) else Store(store)
    against = benchmark_of(store, benchmark)
    check_arm(store, arm)
    if against is None:
        raise ConfigError(f"{store.summary['name']} has no benchmark to hold {arm!r} against: name one (arms: "
                          f"{', '.join(store.summary['arms'])})")
    pairs = Pairs(store, against).of(arm)
    return _changes(pairs) if pairs else []


def _changes(pairs: Sequence[Pair]) -> list[ImageChange]:
    mine, theirs = _frame([pair.arm for pair in pairs]), _frame([pair.benchmark for pair in pairs])
    by_image = mine.groupby("path", sort=True).agg(class_=("name", "first"), seeds=("right", "size"), right=("right", "mean"),
                                                  p=("p", "mean"))
    base = theirs.groupby("path", sort=True).agg(right=("right", "mean"), p=("p", "mean"))
    found = by_image.assign(benchmark_right=base["right"], benchmark_p=base["p"], change=by_image["right"] - base["right"],
                            gain=by_image["p"] - base["p"]).reset_index()
    found = found.sort_values(["change", "gain", "path"], ascending=[False, False, True], kind="stable")
    wrong, wrong_base = _commonest_wrong(mine), _commonest_wrong(theirs)
    return [ImageChange(row.path, str(row.class_), int(row.seeds), float(row.benchmark_right), float(row.right),
                        float(row.change), wrong_base.get(row.path), wrong.get(row.path), float(row.benchmark_p), float(row.p))
            for row in found.itertuples()]


def _frame(sides: Sequence[Said]) -> pd.DataFrame:
    """Return one row an image and seed."""
    return pd.concat([pd.DataFrame({"path": side.paths, "name": side.names, "answer": side.answers, "right": side.right,
                                    "p": side.p}) for side in sides], ignore_index=True)


def _commonest_wrong(frame: pd.DataFrame) -> dict[str, str]:
    """Return path -> the wrong answer that was given under the most seeds; images that were always right have none."""
    counts = frame[~frame["right"]].groupby(["path", "answer"]).size().reset_index(name="count")
    first = counts.sort_values(["path", "count", "answer"], ascending=[True, False, True]).drop_duplicates("path")
    return dict(zip(first["path"], first["answer"], strict=True))
