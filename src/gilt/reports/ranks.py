"""Arms over data sets: the critical-difference picture (Demsar 2006, figure 1), and the tables that go with it."""
import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from gilt.errors import ConfigError
from gilt.files import atomic_path, write_text
from gilt.reports.plots import BLUE, GOLD, svg
from gilt.studies.across import Across

ENDINGS = (".png", ".svg", ".csv", ".md")


def write_ranks(found: Across, path: Path | str) -> Path:
    """Write what the ending of `path` says, the picture or the table, and return the path. Raises ConfigError for another."""
    path = Path(path)
    kind = path.suffix.lower()
    check_ending(path)
    if kind == ".png":
        with atomic_path(path) as temporary:
            ranks_figure(found).savefig(temporary, format="png", dpi=150, bbox_inches="tight", facecolor="white")
    else:
        made = {".svg": ranks_picture, ".csv": _csv, ".md": _markdown}
        write_text(path, made[kind](found))
    return path


def check_ending(path: Path) -> None:
    """Raise ConfigError for a path whose ending is no picture and no table."""
    if path.suffix.lower() not in ENDINGS:
        raise ConfigError(f"{path}: ranks are written as {', '.join(ENDINGS)}, not {path.suffix or 'a name without an ending'}")


def ranks_picture(found: Across) -> str:
    """Return the critical-difference picture as inline SVG."""
    return svg(ranks_figure(found))


def ranks_figure(found: Across) -> Figure:
    """Draw the mean ranks on a line, the best to the left; a bar joins arms that Nemenyi's test does not tell apart.

    The length above is the critical difference. Bars stand only where Friedman's test finds a difference at all. Of two arms
    the ranks are drawn alone.
    """
    ranks, order = found.ranks, np.argsort(found.ranks, kind="stable")
    ranking, half = found.ranking, (len(order) + 1) // 2
    joined = ranking.groups if ranking is not None and ranking.p < 0.05 else ()
    floor = -0.55 - 0.22 * len(joined)
    figure = Figure(figsize=(8.6, 1.5 + 0.2 * len(joined) + 0.27 * half))
    axis = figure.subplots()
    axis.set_axis_off()
    axis.plot([1, len(order)], [0, 0], color="black", lw=1.2)
    for tick in range(1, len(order) + 1):
        axis.plot([tick, tick], [0, 0.12], color="black", lw=1)
        axis.text(tick, 0.2, str(tick), ha="center", va="bottom")
    edge, reach = 0.06 * (len(order) - 1), len(order) - 1
    for place, i in enumerate(order):
        left = place < half
        y = floor - 0.42 * (place if left else len(order) - 1 - place)
        x = 1 - edge if left else len(order) + edge
        axis.plot([ranks[i], ranks[i], x], [0, y, y], color="#4a5568", lw=0.9)
        axis.text(x - 0.01 * reach if left else x + 0.01 * reach, y, f"{found.arms[i]}  {ranks[i]:.2f}" if left else
                  f"{ranks[i]:.2f}  {found.arms[i]}", ha="right" if left else "left", va="center")
    for row, group in enumerate(joined):
        ends = ranks[list(group)]
        axis.plot([ends.min() - 0.01 * reach, ends.max() + 0.01 * reach], [-0.3 - 0.22 * row] * 2, color=GOLD, lw=4,
                  solid_capstyle="butt")
    if ranking is not None:
        axis.errorbar(1 + ranking.cd / 2, 1.0, xerr=ranking.cd / 2, color=BLUE, capsize=3, lw=1.2)
        axis.text(1 + ranking.cd / 2, 1.12, f"critical difference {ranking.cd:.2f}", ha="center", va="bottom", color=BLUE)
    return figure


def ranks_rows(found: Across) -> tuple[list[str], list[list[Any]]]:
    """Return (header, rows): an arm a row, the best first, with its mean rank and its figure on each data set."""
    ranks, scale, digits = found.ranks, *((1, 3) if found.metric == "loss" else (100, 1))
    rows = [[found.arms[i], f"{ranks[i]:.2f}", *(f"{scale * value:.{digits}f}" for value in found.values[:, i])]
            for i in np.argsort(ranks, kind="stable")]
    return ["arm", "mean rank", *found.datasets], rows


def _markdown(found: Across) -> str:
    header, rows = ranks_rows(found)
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *rows]) + "\n"


def _csv(found: Across) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["arm", "mean_rank", "data_set", "metric", "part", "mean", "seeds"])
    for i in np.argsort(found.ranks, kind="stable"):
        for d, name in enumerate(found.datasets):
            writer.writerow([found.arms[i], found.ranks[i], name, found.metric, found.part, found.values[d, i], found.seeds[d]])
    return out.getvalue()
