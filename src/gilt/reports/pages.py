"""Pages: every HTML page is rendered from its template here, and writes its numbers alike.

A template knows `version`, `spoken`, and the ways of writing a number below. `page.html` is what pages have in common, and
`parts.html` what several of them show.
"""
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

import gilt
from gilt.evaluation.metrics import Metric, spoken
from gilt.files import write_text


def page(template: str, /, **values: Any) -> str:
    """Return a page: a template of `templates/` with the values that it shows, all escaped but what it marks as safe."""
    return _PAGES.get_template(template).render(values)


def write_page(to: Path | str, template: str, /, **values: Any) -> Path:
    """Write a page to `to` and return its path."""
    write_text(to, page(template, **values))
    return Path(to)


def number(value: float | None, *, signed: bool = False) -> str:
    """Return "0.912", or "-" for None."""
    return "-" if value is None else f"{value:{'+' if signed else ''}.3f}"


def interval(found: Metric | None, without: str = "-") -> str:
    """Return "0.880 to 0.934"; `without` where there is no interval."""
    return without if found is None or found.low is None else f"{found.low:.3f} to {found.high:.3f}"


def percent(value: float | None) -> str:
    """Return "91.2 %", or "-" for None."""
    return "-" if value is None else f"{100 * value:.1f} %"


def percent_interval(found: Metric) -> str:
    """Return "88.0 to 93.4", in per cent; "none" where there is no interval."""
    return "none" if found.low is None else f"{100 * found.low:.1f} to {100 * found.high:.1f}"


_PAGES = Environment(loader=PackageLoader("gilt.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                     lstrip_blocks=True)
_PAGES.globals.update(version=gilt.__version__, spoken=spoken, number=number, interval=interval)
