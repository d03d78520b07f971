"""The page of a protocol: a detector on what it never saw, beside what it knew, each number with its interval and spread."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gilt.errors import counted, listed
from gilt.evaluation.metrics import spoken
from gilt.evaluation.over_seeds import Cell
from gilt.reports.pages import write_page
from gilt.reports.plots import BLUE, GOLD, GREY, shortened, svg
from gilt.studies.protocol_results import NO_THRESHOLD, SHOWN, Line, ProtocolResult, in_mean

NEW_WORDS = {"leave-one-generator-out": "on generators that it never saw", "chronological": "on what came next",
             "cross-collection": "on other collections"}
KNOWN_WORDS = {"leave-one-generator-out": "on generators that it had learnt from",
               "chronological": "on what it had learnt from", "cross-collection": "on test images of its own collection"}
PEN = {"unseen": GOLD, "next": GOLD, "other": GOLD, "later": "#c05621", "seen": BLUE, "own": BLUE}
DRAWN = ("auroc", "balanced_accuracy")
HEADER = ("value", "low", "high", "sd over seeds", "generated", "real")


def protocol_page(result: ProtocolResult, *, to: Path | str, command: str = "") -> Path:
    """Write what came of a protocol to `to`, as one HTML page that opens offline, and return its path.

    `command` is what runs it again.
    """
    tables = [(name, *protocol_table(result, name)) for name in SHOWN]
    return write_page(
        to, "protocol.html", result=result, plan=result.plan, verdict=protocol_verdict(result), tables=tables,
        picture=protocol_picture(result) if result.lines else "", text=_text, command=command,
        warnings=[*result.plan.shortcuts, *_undone(result)], seeds=counted(len(result.seeds), "seed"))


def protocol_verdict(result: ProtocolResult) -> list[str]:
    """Return what came of a protocol in plain sentences, the main one first."""
    mean = result.mean.get(result.new, {}).get("auroc")
    if mean is None or mean.value is None:
        return ["Nothing can be said yet: no finished trial has real and generated images to test on."]
    new, known = NEW_WORDS[result.plan.kind], KNOWN_WORDS[result.plan.kind]
    lines = [line for line in in_mean(result.of(result.new)) if line.cells["auroc"].value is not None]
    worst = result.worst[result.new]["auroc"]
    first = f"{new[0].upper()}{new[1:]} the detector comes to AUROC {_with(mean)}"
    of = counted(len(lines), "score" if result.plan.kind == "chronological" else "generator")
    first += f", the mean of {of}; the worst is {_named(result, worst)} with {_with(worst.cells['auroc'])}." \
        if len(lines) > 1 else f" ({_named(result, worst)})."
    said = [first]
    other, gap = result.mean.get(result.known, {}).get("auroc"), result.gap.get("auroc")
    if other and other.value is not None and gap:
        reach = f" (95 % interval over seeds {gap.low:+.3f} to {gap.high:+.3f})" if gap.low is not None else ""
        said.append(f"{known[0].upper()}{known[1:]} it comes to {_with(other)}: the difference is {gap.value:+.3f}{reach}.")
    recall, false = (result.mean[result.new].get(name) for name in ("recall", "false_positive_rate"))
    if recall and recall.value is not None and false and false.value is not None:
        where = ", or at 0.5 where it had too few images for one," if NO_THRESHOLD in result.notes else ""
        said.append(f"At the threshold that validation chose{where} it finds {100 * recall.value:.1f} % of these generated "
                    f"images, and calls {100 * false.value:.1f} % of the real ones generated.")
    chance = [_named(result, line) for line in lines if (line.cells["auroc"].low or 0) <= 0.5]
    if chance:
        said.append(f"Not told from chance, as far as these images and seeds can say: {listed(chance)}.")
    return said + ([] if len(result.seeds) > 1 else ["One seed only: nothing is said of the spread from training to training."])


def protocol_table(result: ProtocolResult, name: str) -> tuple[list[str], list[list[Any]]]:
    """Return (header, rows) of a metric: a row a line, then the means, the worst and the difference.

    A cell is text, a number, or None. Where one generator is held out at a time, what it came to when seen stands beside.
    """
    return (_held_out if result.plan.kind == "leave-one-generator-out" else _scored)(result, name)


def _held_out(result: ProtocolResult, name: str) -> tuple[list[str], list[list[Any]]]:
    seen = {line.group: line.cells.get(name) for line in result.of("seen")}
    rows = [[line.group, *_numbers(line, name), *_pair(seen.get(line.group))] for line in result.of("unseen")]
    mean, worst = (found.get("unseen", {}).get(name) for found in (result.mean, result.worst))
    if mean and worst and len(rows) > 1:
        many = len(in_mean(result.of("unseen")))
        rows.append([f"mean of {many}", *_cell(mean), None, None, *_pair(result.mean.get("seen", {}).get(name))])
        rows.append([f"worst: {worst.group}", *_numbers(worst, name), *_pair(seen.get(worst.group))])
    if gap := result.gap.get(name):
        rows.append(["unseen - seen", *_cell(gap), None, None, None, None])
    return ["held out", *HEADER, "when seen", "sd when seen"], rows


def _scored(result: ProtocolResult, name: str) -> tuple[list[str], list[list[Any]]]:
    rows = [[line.arm, line.group, line.relation, *_numbers(line, name)] for line in result.lines]
    for relation in (result.new, result.known):
        mean, worst = (found.get(relation, {}).get(name) for found in (result.mean, result.worst))
        many = len(in_mean(result.of(relation)))
        if mean and worst and many > 1:
            rows.append([f"mean of {many}", None, relation, *_cell(mean), None, None])
            rows.append([f"worst: {worst.arm}", worst.group, relation, *_numbers(worst, name)])
    if gap := result.gap.get(name):
        rows.append([f"{result.new} - {result.known}", None, None, *_cell(gap), None, None])
    if len({line.arm for line in result.lines}) == 1:  # one training, which needs no column
        rows = [[f"worst: {row[1]}" if str(row[0]).startswith("worst: ") else row[1] or row[0], *row[2:]] for row in rows]
        return ["scored on", "it is", *HEADER], rows
    return ["trained", "scored on", "it is", *HEADER], rows


def protocol_picture(result: ProtocolResult) -> str:
    """Draw every line's AUROC and balanced accuracy: a diamond for the mean, a bar for its interval, dots for the seeds."""
    groups = list(dict.fromkeys((line.arm if line.arm and result.plan.kind == "chronological" else "", line.group)
                                for line in result.lines))
    if result.plan.kind == "leave-one-generator-out":
        groups.sort(key=lambda group: group[1])
    figure = Figure(figsize=(9.6, 1.2 + 0.42 * len(groups)))
    panels = figure.subplots(1, len(DRAWN), sharey=True)
    place = {group: len(groups) - 1 - i for i, group in enumerate(groups)}
    relations = list(dict.fromkeys(line.relation for line in result.lines))
    for axis, name in zip(panels, DRAWN, strict=True):
        for line in result.lines:
            group = (line.arm if line.arm and result.plan.kind == "chronological" else "", line.group)
            both = len({other.relation for other in result.lines if other.group == line.group}) > 1 and not group[0]
            shift = (0.14 if line.relation == result.new else -0.14) if both else 0.0
            _draw(axis, line, line.cells.get(name), place[group] + shift)
        axis.axvline(0.5, color=GREY, lw=0.8, ls=":")
        axis.set(xlabel=f"{spoken(name)}{'' if name == 'auroc' else ' at the validated threshold'}", xlim=(-0.02, 1.03))
    panels[0].set_yticks(list(place.values()), [shortened(" · ".join(filter(None, group)), 40) for group in place])
    panels[0].set_ylim(-0.6, len(groups) - 0.4)
    handles = [panels[0].plot([], [], "D", color=PEN[name], mec="black", mew=0.5, label=name)[0] for name in relations]
    figure.tight_layout()
    figure.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=len(handles), frameon=False, fontsize=9)
    return svg(figure)


def _draw(axis: Axes, line: Line, cell: Cell | None, y: float) -> None:
    if cell is None or cell.value is None:
        return
    pen = PEN[line.relation]
    if cell.low is not None:
        axis.plot([cell.low, cell.high], [y, y], color=pen, lw=2.2, alpha=0.8)
    axis.plot(cell.seeds, np.full(len(cell.seeds), y), "o", color=GREY, ms=3, alpha=0.8)
    axis.plot(cell.value, y, "D", color=pen, mec="black", mew=0.5, ms=6.5)


def _numbers(line: Line, name: str) -> list[Any]:
    cell = line.cells.get(name)
    return [*(_cell(cell) if cell else [None] * 4), line.n_generated, line.n_real]


def _cell(cell: Cell) -> list[Any]:
    return [cell.value, cell.low, cell.high, cell.sd]


def _pair(cell: Cell | None) -> list[Any]:
    return [cell.value, cell.sd] if cell else [None, None]


def _named(result: ProtocolResult, line: Line) -> str:
    return f"{line.group} ({line.arm})" if result.plan.kind == "chronological" else line.group


def _with(cell: Cell) -> str:
    return f"{cell.value:.3f}" + (f" (95 % interval {cell.low:.3f} to {cell.high:.3f})" if cell.low is not None else "")


def _undone(result: ProtocolResult) -> Sequence[str]:
    return [*(f"A trial failed and says nothing: {text}" for text in result.failed),
            *([f"Not yet run: {listed(result.missing)}."] if result.missing else [])]


def _text(value: Any) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) \
        else str(value)
