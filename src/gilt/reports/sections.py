"""Sections: an overview as tables of text, the same in the terminal and on the page."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from gilt.data.overview import ends

ORIGINS, SIZES, NAMES, ENDS = 8, 8, 4, 12  # shown at most: origins as columns, sizes, formats and such a cell, classes an end


@dataclass(frozen=True)
class Section:
    """A table: its title, its columns' names, rows of cells (int, text or None), and a sentence below it."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[int | str | None]]
    note: str = ""


def headline(numbers: Mapping[str, Any]) -> list[str]:
    """Return the first lines: how many images there are, of how many classes and origins, and why rows are left out."""
    origins = ", ".join(f"{name} {count:,}" for name, count in _most(numbers["origins"], ORIGINS).items())
    lines = [f"{_count(numbers['images'], 'image')}, {_count(numbers['classes'], 'class', 'classes')}, "
             f"{_count(len(numbers['origins']), 'origin')}{f' ({origins})' if origins else ''}"]
    if numbers["no_class"]:
        lines.append(f"without a class: {numbers['no_class']:,}")
    if numbers["left_out"]:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in numbers["left_out"].items())
        lines.append(f"left out and not counted below: {numbers['rows'] - numbers['images']:,} ({reasons})")
    if groups := numbers["groups"]:
        across = ", ".join(f"{groups[f'across_{name}']:,} across {name}" for name in ("splits", "classes", "origins"))
        lines.append(f"near-duplicates: {groups['images']:,} images in {_count(groups['groups'], 'group')}, the largest of "
                     f"{groups['largest']:,} ({across})")
    if numbers["columns"]:
        lines.append(f"more columns: {', '.join(numbers['columns'])}")
    return lines


def sections(numbers: Mapping[str, Any], *, every: bool = False) -> list[Section]:
    """Return an overview's tables; of many classes the largest and smallest, or `every` one. [] without images."""
    if not numbers["images"]:
        return []
    return [_splits(numbers), _classes(numbers, every), *_measures(numbers), *_encoding(numbers)]


def _splits(numbers: Mapping[str, Any]) -> Section:
    splits = list(numbers["splits"])
    rows = [[origin, *(by.get(name, 0) for name in splits), numbers["origins"][origin]]
            for origin, by in numbers["by_split"].items()]
    if len(rows) > 1:
        rows.append(["all", *numbers["splits"].values(), numbers["images"]])
    return Section("Origins and splits", ["origin", *splits, "all"], rows)


def _classes(numbers: Mapping[str, Any], every: bool) -> Section:
    names, header = _columns(numbers)
    cells = partial(_cells, names=names, header=header)
    named, none = [row for row in numbers["by_class"] if row["class"] is not None], numbers["by_class"][numbers["classes"]:]
    first, last, between = (named, [], 0) if every else ends(named, ENDS)
    rows: list[list[Any]] = [[class_name(row["class"]), *cells(row)] for row in first]
    if between:
        rows.append([f"... {between:,} more", *[None] * len(header)])
    rows += [[class_name(row["class"]), *cells(row)] for row in (*last, *none)]
    note = f"The {len(first)} largest and the {len(last)} smallest of {len(named):,} classes." if between else ""
    return Section("Classes and origins", ["class", *header], rows, note)


def class_name(name: str | None) -> str:
    """Return a class's name, or what stands for none."""
    return "(no class)" if name is None else name


def _measures(numbers: Mapping[str, Any]) -> list[Section]:
    """Return the tables of sizes, [] where nothing was measured."""
    measured = {origin: by for origin, by in numbers["measures"].items() if by["width"] or by["bytes"]}
    if not measured:
        return []
    rows = [[origin, _triple(by["width"]), _triple(by["height"]), _triple(by["aspect"], "{:.2f}".format),
             _triple(by["bytes"], size_text), size_text(by["bytes"]["sum"]) if by["bytes"] else None]
            for origin, by in measured.items()]
    names, header = _columns(numbers)
    common = [[f"{row['width']} x {row['height']}", *_cells(row, names, header)] for row in numbers["sizes"][:SIZES]]
    count = numbers["distinct_sizes"]
    note = f"The {SIZES} commonest of {count:,} sizes." if count > SIZES else ""
    header_of_sizes = ["origin", "width", "height", "width : height", "file", "all files"]
    return [Section("Sizes: smallest / median / largest", header_of_sizes, rows),
            Section("Commonest sizes", ["pixels", *header], common, note)]


def _encoding(numbers: Mapping[str, Any]) -> list[Section]:
    rows = [[origin, *(_text(numbers[name][origin]) for name in ("formats", "modes", "qualities"))]
            for origin in numbers["origins"]]
    if not any(any(row[1:]) for row in rows):
        return []
    return [Section("Encoding", ["origin", "formats", "colour modes", "JPEG qualities"], rows)]


def _columns(numbers: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the origins that get a column of their own, and the names of all columns of counts."""
    names = list(numbers["origins"])
    kept = names if len(names) <= ORIGINS else names[:ORIGINS - 1]
    others = [f"{len(names) - len(kept)} others"] if len(kept) < len(names) else []
    return kept, [*kept, *others, *(["all"] if len(names) > 1 else [])]


def _cells(row: Mapping[str, Any], names: Sequence[str], header: Sequence[str]) -> list[int]:
    counts = [row["origins"][name] for name in names]
    others = [row["all"] - sum(counts)] if len(header) == len(names) + 2 else []
    return [*counts, *others, *([row["all"]] if len(header) > len(names) else [])]


def _triple(spread: Mapping[str, Any] | None, text: Any = "{:,}".format) -> str | None:
    """Return "min / median / max", or one number where they are the same."""
    if spread is None:
        return None
    values = [text(spread[name]) for name in ("min", "median", "max")]
    return values[0] if len(set(values)) == 1 else " / ".join(values)


def _text(counts: Mapping[str, int]) -> str | None:
    more = f", ... ({len(counts)} in all)" if len(counts) > NAMES else ""
    return ", ".join(f"{name}: {count:,}" for name, count in list(counts.items())[:NAMES]) + more or None


def _most(counts: Mapping[str, int], most: int) -> dict[str, int]:
    """Return the first `most` counts, the others summed under "N others"."""
    items = list(counts.items())
    if len(items) <= most:
        return dict(items)
    return dict(items[:most - 1]) | {f"{len(items) - most + 1} others": sum(count for _, count in items[most - 1:])}


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def size_text(count: float) -> str:
    """Return a number of bytes as text: 812 B, 21.9 kB, 88.9 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
