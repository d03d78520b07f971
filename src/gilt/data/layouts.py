"""Layout patterns: what the folders of a path, and where asked its file name, say about an image.

`{origin}/{split}/{class}` reads `real/train/Apple/001.jpg`. A part is `{name}`, `*` (says nothing) or plain text
(must be there); a part may mix them, as in `{class}_images`. A last part that ends as a file does, `{origin}_*.jpg` or
`{origin}_*.*`, reads the file's name. Other names than origin, split and class make columns of their own. With several
patterns, the first that fits a path counts.
"""
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass

from gilt.config import REAL
from gilt.data.table import SPLITS, STATISTICS
from gilt.data.tree import SUFFIXES
from gilt.errors import LayoutError, listed, near

KNOWN = ("origin", "class", "split")
_REAL = {"real", "reals", "real_image", "real_images", "0_real", "nature", "natural", "photo", "photos", "photograph",
         "photographs", "authentic", "genuine", "original", "originals", "human", "camera"}
_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
           "test": "test", "testing": "test"}
MEASURED = ("path", "width", "height", "format", "mode", "quality", "bytes", "modified", "sha256", "phash", "excluded",
            *STATISTICS)
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class Layout:
    """One pattern, compiled: `fits` returns what a path's folders say, or None."""

    pattern: str
    parts: tuple[re.Pattern[str], ...]
    names: tuple[str, ...]
    file: re.Pattern[str] | None = None  # what the file's name must be, where the pattern says so

    def fits(self, folders: Sequence[str], file: str = "") -> dict[str, str] | None:
        """Return name -> text for a path's folders and file, or None where their number or text does not fit."""
        if len(folders) != len(self.parts):
            return None
        said: dict[str, str] = {}
        for part, folder in zip(self.parts, folders, strict=True):
            match = part.fullmatch(folder)
            if match is None:
                return None
            said.update(match.groupdict())
        if self.file is not None:
            match = self.file.fullmatch(file)
            return None if match is None else said | match.groupdict()
        return said


def compile_layout(pattern: str) -> Layout:
    """Return `pattern` compiled. Raises LayoutError for a bad or misspelt placeholder, or none at all."""
    texts = [part for part in pattern.split("/") if part not in ("", ".")]
    names: list[str] = []
    parts = []
    for text in texts:
        expression = ""
        for i, piece in enumerate(_PLACEHOLDER.split(text)):
            if i % 2 == 0:
                expression += ".*".join(re.escape(plain) for plain in piece.split("*"))
                continue
            _check_name(piece, names, pattern)
            names.append(piece)
            expression += f"(?P<{piece}>.+)"
        parts.append(re.compile(expression))
    ending = posixpath.splitext(texts[-1])[1].lower() if texts else ""
    file = parts.pop() if ending == ".*" or ending in SUFFIXES else None
    return Layout(pattern, tuple(parts), tuple(names), file)


def _check_name(name: str, names: Sequence[str], pattern: str) -> None:
    if not name.isidentifier():
        raise LayoutError(f"layout {pattern!r}: {{{name}}} is no name; use {{origin}}, {{class}}, {{split}} or *")
    if name in names:
        raise LayoutError(f"layout {pattern!r}: {{{name}}} stands twice")
    guess = near(name, KNOWN)
    if name not in KNOWN and guess:
        raise LayoutError(f"layout {pattern!r}: unknown {{{name}}}.{guess}")
    if name in MEASURED:
        raise LayoutError(f"layout {pattern!r}: {{{name}}} is measured, not read from the path; choose another name")


def compile_layouts(patterns: Sequence[str], constants: dict[str, str]) -> list[Layout]:
    """Return the patterns compiled; each, with `constants`, must say the origin. Raises LayoutError."""
    layouts = [compile_layout(pattern) for pattern in patterns]
    for layout in layouts:
        both = sorted(set(layout.names) & set(constants))
        if both:
            raise LayoutError(f"layout {layout.pattern!r} and a constant both say {both[0]!r}: keep one")
        if "origin" not in layout.names and "origin" not in constants:
            raise LayoutError(f"layout {layout.pattern!r} does not say the origin: put {{origin}} where the path says "
                              "real or generated, or add --constant origin=real")
    return layouts


def split_in(name: str) -> str | None:
    """Return the split that a file's or folder's name speaks of (`train-00000-of-00005`, `trainLabels`), or None."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    return next((_SPLITS[word.lower()] for word in words if word.lower() in _SPLITS), None)


def is_split(name: str) -> bool:
    """Tell whether a folder's name is that of a split, as it stands."""
    return name.strip().lower() in _SPLITS


def origin_of(text: str) -> str:
    """Return `real` for real, REAL, 0_real, nature and the like; any other text is a generator's name, as it stands."""
    return REAL if re.sub(r"[\s-]+", "_", text.strip().lower()) in _REAL else text


def split_of(text: str, path: str) -> str:
    """Return train, val or test for the usual names. Raises LayoutError, naming the path, for any other."""
    try:
        return _SPLITS[text.strip().lower()]
    except KeyError:
        raise LayoutError(f"{path}: {text!r} is no split (known: {listed(_SPLITS)}). If that folder says something "
                          f"else, write * in its place.{near(text, SPLITS)}") from None
