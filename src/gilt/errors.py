"""What can go wrong, as one tree; every message names the thing, the place, the choices and the remedy.

    GiltError                the command line prints it as one line and exits with 2
    ├── ConfigError          a setting: unknown key, value out of range, TOML that does not parse
    ├── LayoutError          a layout pattern that is wrong, or that no path fits
    ├── TableError           a table: no such file or column, rows that are missing, files that moved
    ├── ImageError           an image that cannot be read
    ├── ModelError           an unknown network, weights that do not fit, a file that is no classifier
    ├── StoreError           a study's store: another study's records, a full disk
    └── MissingExtraError    an optional package that is not installed; names the extra that brings it
"""
import difflib
from collections.abc import Iterable


class GiltError(Exception):
    """Base of every error that gilt raises on purpose."""


class ConfigError(GiltError):
    """A setting is unknown or out of range."""


class LayoutError(GiltError):
    """A layout pattern is wrong, or no path fits it."""


class TableError(GiltError):
    """A table cannot be read, or lacks what is asked of it."""


class ImageError(GiltError):
    """An image cannot be read."""


class ModelError(GiltError):
    """A network is unknown, or a file holds no classifier of ours."""


class StoreError(GiltError):
    """A study's store cannot be used or written."""


class MissingExtraError(GiltError):
    """An optional package is missing."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: pip install 'gilt[{extra}]'")


def near(name: str, choices: Iterable[object]) -> str:
    """Return " Did you mean 'x'?" for the choice nearest to `name`, or "" where none is near."""
    texts = {str(choice).lower(): str(choice) for choice in choices}
    close = difflib.get_close_matches(str(name).lower(), texts, n=1, cutoff=0.6)
    return f" Did you mean {texts[close[0]]!r}?" if close else ""


def listed(items: Iterable[object], *, most: int = 12) -> str:
    """Return "a, b, c" with at most `most` items, then "... (N in all)"."""
    texts = [str(item) for item in items]
    more = f", ... ({len(texts)} in all)" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def counted(count: int, noun: str) -> str:
    """Return "1 image", "2 images", "2 classes": a count with its noun, which takes an s."""
    return f"{count:,} {noun}{'' if count == 1 else 'es' if noun.endswith('s') else 's'}"
