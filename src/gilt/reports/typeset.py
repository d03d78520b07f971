"""Typeset: one table as CSV for programs, as Markdown, and as LaTeX for a paper."""
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

ROWS = 40  # more are set as a longtable, which breaks over pages
WIDE, TOO_WIDE, LONG = 75, 95, 40  # letters: a line in a smaller type, a line that is shrunk, a cell that is broken into lines
_LATEX = {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}",
          ">": r"\textgreater{}", "|": r"\textbar{}", "`": r"\textasciigrave{}", "±": r"$\pm$", "…": r"\ldots{}", "−": "$-$",
          **{letter: f"\\{letter}" for letter in "{}$&#%_"}}


@dataclass(frozen=True)
class Table:
    """A table twice: `fields` and `rows` are raw and tidy (one row a thing, numbers as they are), `header` and `shown` as read.

    `blocks`: columns that the LaTeX sets side by side, beside the first; of more it makes several tables, and the last column
    stands in each of them where `last` says so.
    """

    name: str
    caption: str
    fields: Sequence[str]
    rows: Sequence[Sequence[Any]]
    header: Sequence[str]
    shown: Sequence[Sequence[str]]
    blocks: int | None = None
    last: bool = False


def as_csv(table: Table) -> str:
    """Return the tidy rows as CSV: every digit, an empty cell for what is not known, `inf` for an open end."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([table.fields, *table.rows])
    return text.getvalue()


def as_markdown(table: Table) -> str:
    """Return the caption and the table as it is read, as GitHub's Markdown."""
    header, *rows = [[_markdown(cell) for cell in row] for row in (table.header, *table.shown)]
    marks = ["---:" if right else "---" for right in _right(table.shown, len(header))]
    lines = [f"| {' | '.join(row)} |" for row in (header, marks, *rows)]
    return f"{_markdown(table.caption)}\n\n" + "\n".join(lines) + "\n"


def as_latex(table: Table, label: str) -> str:
    """Return the table as it is read, as LaTeX with booktabs; `label` begins the names that \\ref finds it by.

    A table of many rows is a longtable, a wide one is set smaller and then shrunk to the width of the text (graphicx).
    """
    pieces = _pieces(table)
    names = [f"{label}-{table.name}" + (f"-{i + 1}" if len(pieces) > 1 else "") for i in range(len(pieces))]
    captions = [table.caption + (f" ({i + 1} of {len(pieces)})" if len(pieces) > 1 else "") for i in range(len(pieces))]
    set_ = [_set(*piece, latex_text(caption), re.sub(r"[^A-Za-z0-9:]+", "-", name).strip("-"))
            for piece, caption, name in zip(pieces, captions, names, strict=True)]
    signs = {"booktabs": "toprule", "longtable": "{longtable}", "graphicx": "resizebox"}
    packages = ", ".join(name for name, sign in signs.items() if any(sign in text for text in set_))
    return f"% needs the packages {packages}\n" + "\n".join(set_)


def latex_text(text: str) -> str:
    """Return a text in which LaTeX takes no letter for a command; signs of numbers become minus signs."""
    clean = "".join(letter if letter.isprintable() else "?" for letter in " ".join(str(text).split()))
    safe = "".join(_LATEX.get(letter, letter) for letter in clean)
    safe = re.sub(r"(?<![\w.$-])-(?=\d)", "$-$", safe)
    safe = re.sub(r"-(?=-)", "-{}", safe)  # two hyphens would become a dash
    return "{}" + safe if safe[:1] in ("[", "*") else safe  # which would belong to the line break before


def _pieces(table: Table) -> list[tuple[Sequence[str], Sequence[Sequence[str]]]]:
    """Return (header, rows) of the table, or of as many tables as its columns are dealt into."""
    count, most = len(table.header), table.blocks
    if most is None or count - 1 <= most:
        return [(table.header, table.shown)]
    end = [count - 1] if table.last else []
    places = [i for i in range(1, count) if i not in end]
    size = most - len(end)
    blocks = [[0, *places[at:at + size], *end] for at in range(0, len(places), size)]
    return [([table.header[i] for i in block], [[row[i] for i in block] for row in table.shown]) for block in blocks]


def _set(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str, label: str) -> str:
    letters = [max(len(str(row[i])) for row in (header, *rows)) for i in range(len(header))]
    columns = "".join("p{0.3\\textwidth}" if most > LONG else "r" if right else "l"
                      for most, right in zip(letters, _right(rows, len(header)), strict=True))
    width = sum(min(most, LONG) + 2 for most in letters)
    head = f"{_line(header)}\n\\midrule"
    body = "\n".join(map(_line, rows))
    if len(rows) > ROWS:
        size = "\\scriptsize" if width > TOO_WIDE else "\\footnotesize"
        return (f"{{{size}\n\\begin{{longtable}}{{{columns}}}\n\\caption{{{caption}}}\\label{{tab:{label}}}\\\\\n"
                f"\\toprule\n{head}\n\\endfirsthead\n\\toprule\n{head}\n\\endhead\n\\bottomrule\n\\endfoot\n{body}\n\\end{{longtable}}}}\n")
    grid = f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{head}\n{body}\n\\bottomrule\n\\end{{tabular}}"
    if width > TOO_WIDE:
        grid = f"\\resizebox{{\\textwidth}}{{!}}{{%\n{grid}}}"
    size = "\\footnotesize" if width > WIDE else "\\small"
    return (f"\\begin{{table}}[htbp]\n\\centering\n\\caption{{{caption}}}\\label{{tab:{label}}}\n{size}\n{grid}\n"
            "\\end{table}\n")


def _line(cells: Sequence[str]) -> str:
    return f"{' & '.join(map(latex_text, cells))} \\\\"


def _right(rows: Sequence[Sequence[str]], columns: int) -> list[bool]:
    """Tell which columns are set to the right: those whose cells begin with a number, or are empty."""
    number = re.compile(r"((< )?[+-]?\d[\d,.]*( %| ± .*| to [+-]?\d.*| \(one seed\))?|-|none.*)$")
    return [i > 0 and all(number.match(str(row[i])) for row in rows) for i in range(columns)]


def _markdown(cell: str) -> str:
    """Return a cell in which Markdown sees no mark-up, on one line."""
    text = " ".join(str(cell).split())
    link = r"\[" if "](" in text else r"\\"  # a bracket alone is none
    return re.sub(rf"[\\`*|<]|{link}|(?<!\w)_|_(?!\w)", lambda found: "\\" + found[0], text)
