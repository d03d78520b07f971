"""A heat map of networks x data sets, as a picture, a page or a table."""
import csv
import io
from pathlib import Path

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from gilt.errors import ConfigError
from gilt.evaluation.metrics import LESS, spoken
from gilt.files import atomic_path, write_text
from gilt.reports.pages import page
from gilt.reports.plots import svg
from gilt.studies.literature import HeatTable

PALE_TO_DARK = LinearSegmentedColormap.from_list("gilt", ["#fbf6e6", "#e3c56b", "#b8860b", "#4f3804"])
ENDINGS = (".png", ".svg", ".html", ".csv", ".md")


def write_heatmap(table: HeatTable, path: Path | str) -> Path:
    """Write the heat map as what the ending of `path` says and return the path. Raises ConfigError for another ending."""
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in ENDINGS:
        raise ConfigError(f"{path}: a heat map is written as {', '.join(ENDINGS)}, not {kind or 'a name without an ending'}")
    if kind == ".png":
        with atomic_path(path) as temporary:
            heatmap_figure(table).savefig(temporary, format="png", dpi=150, bbox_inches="tight", facecolor="white")
    else:
        made = {".svg": _svg, ".html": _page, ".csv": _csv, ".md": _markdown}
        write_text(path, made[kind](table))
    return path


def _svg(table: HeatTable) -> str:
    return svg(heatmap_figure(table))


def heatmap_figure(table: HeatTable) -> Figure:
    """Draw the means: darker is better, every cell says its value, a network that a study did not run is hatched."""
    values = np.array([[np.nan if v is None else v for v in row] for row in table.means])
    rows, columns = values.shape
    figure = Figure(figsize=(2.2 + 0.95 * columns, 1.3 + 0.42 * rows))
    axis = figure.subplots()
    scale = 1 if table.metric == "loss" else 100
    known = scale * values[~np.isnan(values)]
    worst, best = (known.max(), known.min()) if table.metric in LESS else (known.min(), known.max())
    edges = sorted((worst, best)) if worst != best else (worst - 1, worst + 1)
    colours = PALE_TO_DARK.reversed() if table.metric in LESS else PALE_TO_DARK
    axis.set_facecolor("#eef0f2")
    picture = axis.imshow(scale * values, cmap=colours, vmin=edges[0], vmax=edges[1], aspect="auto")
    for i, j in np.ndindex(rows, columns):
        if np.isnan(values[i, j]):
            axis.text(j, i, "not run", ha="center", va="center", fontsize=7, color="#6b7280")
            continue
        dark = (scale * values[i, j] - worst) / (best - worst or 1) > 0.55
        axis.text(j, i, f"{scale * values[i, j]:.{3 if scale == 1 else 1}f}", ha="center", va="center", fontsize=8.5,
                  color="white" if dark else "#222222")
    axis.set_xticks(range(columns), [_wrapped(name) for name in table.columns], rotation=30, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(rows), table.networks)
    axis.tick_params(length=0)
    for side in axis.spines.values():
        side.set_visible(False)
    unit = " (nats)" if table.metric == "loss" else " (%)"
    figure.colorbar(picture, ax=axis, label=f"{_heading(table)}{unit}", pad=0.02, shrink=0.9).outline.set_visible(False)
    return figure


def _wrapped(name: str) -> str:
    """Return a column's name with its training set on a line of its own."""
    head, _, tail = name.partition(" ")
    return f"{head}\n{tail}" if tail else head


def _heading(table: HeatTable) -> str:
    words = spoken(table.metric)
    return words[0].upper() + words[1:]


def _cells(table: HeatTable) -> list[list[str]]:
    """Return each row's texts: mean, and ± the standard deviation over seeds where there are several."""
    scale, digits = (1, 3) if table.metric == "loss" else (100, 1)

    def cell(mean: float | None, sd: float | None) -> str:
        spread = "" if sd is None else f" ± {scale * sd:.{digits}f}"
        return "-" if mean is None else f"{scale * mean:.{digits}f}{spread}"

    return [[name, *map(cell, means, sds)] for name, means, sds in zip(table.networks, table.means, table.sds, strict=True)]


def _markdown(table: HeatTable) -> str:
    head = [f"network, {spoken(table.metric)}", *table.columns]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *_cells(table)]) + "\n"


def _csv(table: HeatTable) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["network", "data_set", "metric", "mean", "sd", "seeds"])
    for i, network in enumerate(table.networks):
        for j, column in enumerate(table.columns):
            if table.means[i][j] is not None:
                writer.writerow([network, column, table.metric, table.means[i][j], table.sds[i][j], table.seeds[i][j]])
    return out.getvalue()


def _page(table: HeatTable) -> str:
    seeds = [n for row in table.seeds for n in row if n]
    return page(
        "heatmap.html", title=f"Networks x data sets: {spoken(table.metric)}", picture=_svg(table), columns=table.columns,
        rows=_cells(table), seeds=f"{min(seeds)}" if min(seeds) == max(seeds) else f"{min(seeds)} to {max(seeds)}",
        generated=any("GENERATED" in name for name in table.columns))
