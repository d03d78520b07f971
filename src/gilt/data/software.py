"""Software: what an image file says of the camera or the programs that made it, in EXIF, XMP and PNG text.

Anybody can write or erase these lines: they are a hint, and their absence is none.
"""
import re
import struct
from collections.abc import Callable, Mapping

from PIL import Image

from gilt.data.credentials import line

MOST = 1 << 20  # bytes of XMP that are looked through
_MAKE, _MODEL, _SOFTWARE, _EXIF, _COMMENT = 0x010F, 0x0110, 0x0131, 0x8769, 0x9286
_BROKEN = (struct.error, OSError, TypeError, KeyError, IndexError, ValueError, AttributeError, OverflowError, SyntaxError)
_TOOL = re.compile(rb"xmp:CreatorTool(?:\s*=\s*[\"']|>)([^\"'<]{1,200})")
_SOURCE = re.compile(rb"DigitalSourceType(?:\s*=\s*[\"']|>|\s+rdf:resource\s*=\s*[\"'])([^\"'<]{1,200})")
_STEPS, _NAME = re.compile(r"\bSteps: ?\d+"), re.compile(r"\bModel: ?([^,\n]{1,80})")
# PNG text chunks that programs write for themselves -> the program
_CHUNKS = {"sd-metadata": "InvokeAI", "invokeai_metadata": "InvokeAI", "dream": "InvokeAI", "workflow": "ComfyUI",
           "prompt": "ComfyUI", "fooocus_scheme": "Fooocus", "generation_data": "a diffusion program"}


def software(image: Image.Image, data: bytes) -> str | None:
    """Return "camera: ...; software: ...; AI parameters: ..." of a decoded image and its file's bytes, None for nothing.

    Never raises: a broken block says nothing.
    """
    info = {str(key): value for key, value in image.info.items()}
    said: dict[str, list[str]] = {}
    for word, value in (*_exif(image), *_xmp(data), *_chunks(info)):
        text = line(value)
        if text and text not in said.setdefault(word, []):
            said[word].append(text)
    return "; ".join(f"{word}: {', '.join(texts)}" for word, texts in said.items() if texts) or None


def _quiet(read: Callable[[], object]) -> object:
    try:
        return read()
    except _BROKEN:
        return None


def _exif(image: Image.Image) -> list[tuple[str, object]]:
    exif = _quiet(image.getexif)
    if not exif:
        return []
    make, model, tool = (_quiet(lambda tag=tag: exif.get(tag)) for tag in (_MAKE, _MODEL, _SOFTWARE))
    make, model = (value.strip("\0 ") if isinstance(value, str) else "" for value in (make, model))
    camera = model if make and model.startswith(make) else f"{make} {model}".strip()
    inner = _quiet(lambda: exif.get_ifd(_EXIF))
    comment = inner.get(_COMMENT) if isinstance(inner, Mapping) else None
    return [("camera", camera), ("software", tool if isinstance(tool, str) else ""), *_parameters(_decoded(comment))]


def _decoded(comment: object) -> str:
    """Return an EXIF user comment as text: eight letters name its alphabet."""
    if isinstance(comment, bytes):
        kind, body = comment[:8], comment[8:MOST]
        if kind.startswith(b"UNICODE"):
            return body.decode("utf-16-be" if body[:1] == b"\0" else "utf-16-le", "replace")
        return body.decode("utf-8", "replace")
    return comment if isinstance(comment, str) else ""


def _parameters(text: str) -> list[tuple[str, object]]:
    """Return what a text of the form that Stable Diffusion's web interfaces write says: steps and model."""
    text = text[:MOST]
    steps, name = _STEPS.search(text), _NAME.search(text)
    return [("AI parameters", f"Stable Diffusion web UI ({steps[0]}{f', model {name[1]}' if name else ''})")] if steps else []


def _chunks(info: Mapping[str, object]) -> list[tuple[str, object]]:
    texts = {key: value for key, value in info.items() if isinstance(value, str)}
    found: list[tuple[str, object]] = [("software", texts.get("Software", ""))]
    found += _parameters(texts.get("parameters", ""))
    for key, value in texts.items():
        # ComfyUI's `prompt` is JSON; a plain text under that name may be anything
        if key.lower() in _CHUNKS and (key.lower() != "prompt" or value.lstrip().startswith("{")):
            found.append(("AI parameters", _CHUNKS[key.lower()]))
    if "Job ID:" in texts.get("Description", ""):
        found.append(("AI parameters", "Midjourney"))
    return found


def _xmp(data: bytes) -> list[tuple[str, object]]:
    start = data.find(b"<x:xmpmeta")
    if start < 0:
        return []
    block = data[start:start + MOST].partition(b"</x:xmpmeta>")[0]
    tools = [("software", match[1].decode("utf-8", "replace")) for match in _TOOL.finditer(block)]
    kinds = [("digital source", match[1].decode("utf-8", "replace").rpartition("/")[2]) for match in _SOURCE.finditer(block)]
    return [*tools[:3], *kinds[:3]]
