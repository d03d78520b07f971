"""Content Credentials: what a signed C2PA manifest inside an image file says of its making, and whether the signature holds.

Read by c2pa-python, in a process of its own: a broken manifest that crashes or never ends costs its own file a line, and
nothing else. Nothing is fetched: neither manifests at an address nor lists of revoked certificates.
"""
import contextlib
import importlib.util
import io
import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from gilt.errors import ConfigError

NOT_LOOKED = "not looked for"
MARK = b"jumb"  # begins every manifest inside a file
ELSEWHERE = b"dcterms:provenance"  # in XMP: a manifest at an address
SECONDS = 20.0  # for one manifest
MEMORY = 4 << 30  # bytes that the process may take
LONGEST = 100  # letters of a name in a manifest
_STATES = {"Trusted": "signature valid, signer trusted", "Valid": "signature valid, signer not on a list of trusted ones",
           "Invalid": "INVALID"}
_SHOWN = 3  # reasons why a manifest is invalid


def available() -> bool:
    """Tell whether c2pa-python is installed."""
    return importlib.util.find_spec("c2pa") is not None


def anchors(path: Path | str) -> str:
    """Return the certificates in a PEM file, for `Credentials`. Raises ConfigError where it holds none."""
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}") from None
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise ConfigError(f"{path} holds no certificate: a list of trusted signers is a PEM file "
                          "(-----BEGIN CERTIFICATE----- ...)")
    return text


class Credentials:
    """Reads manifests, one after the other, whatever thread asks. `trusted` is a PEM list of certificates, "" for none."""

    def __init__(self, trusted: str = "", *, seconds: float = SECONDS) -> None:
        self.trusted, self.seconds = trusted, seconds
        self.there = available()
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def of(self, data: bytes) -> str | None:
        """Return one line on the Content Credentials in an image file's bytes, None where there are none. Never raises."""
        if not self.there:
            return NOT_LOOKED
        if MARK not in data:
            return "at an address, which was not fetched" if ELSEWHERE in data else None
        with self._lock:
            try:
                return self._asked(data)
            except (OSError, struct.error, ValueError):
                self.close()
                return "present, but reading them crashed or took too long"

    def _asked(self, data: bytes) -> str | None:
        if self._child is None or self._child.poll() is not None:
            self.close()
            self._child = _started(self.trusted)
        child = self._child
        clock = threading.Timer(self.seconds, child.kill)
        clock.start()
        try:
            send(child.stdin, data)
            return json.loads(receive(child.stdout))
        finally:
            clock.cancel()

    def close(self) -> None:
        """End the process, where one was started."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            for pipe in (child.stdin, child.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()
            child.wait()


@contextlib.contextmanager
def reading(trusted: str = "", *, seconds: float = SECONDS) -> Iterator[Credentials]:
    """Yield a `Credentials` whose process ends with the block."""
    reader = Credentials(trusted, seconds=seconds)
    try:
        yield reader
    finally:
        reader.close()


def _started(trusted: str) -> "subprocess.Popen[bytes]":
    import gilt

    home = str(Path(gilt.__file__).parent.parent)
    path = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    child = subprocess.Popen([sys.executable, "-c", "from gilt.data.credentials import serve; serve()"], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": path},
                             start_new_session=os.name == "posix")  # Ctrl-C is the caller's
    send(child.stdin, trusted.encode())
    return child


def send(pipe: BinaryIO, data: bytes) -> None:
    """Write `data` with its length in front."""
    pipe.write(struct.pack("<Q", len(data)))
    pipe.write(data)
    pipe.flush()


def receive(pipe: BinaryIO) -> bytes:
    """Return what `send` wrote. Raises struct.error, ValueError where the other side has gone."""
    size, = struct.unpack("<Q", pipe.read(8))
    data = pipe.read(size)
    if len(data) < size:
        raise ValueError("the other side has gone")
    return data


def serve() -> None:
    """Answer on standard output what comes on standard input, until that ends: the process's whole life."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    source = sys.stdin.buffer
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what a library prints is no answer
    trusted = receive(source).decode()
    with contextlib.suppress(struct.error, BrokenPipeError):
        while True:
            send(answers, json.dumps(described(receive(source), trusted)).encode())


def described(data: bytes, trusted: str) -> str | None:
    """Return one line on the manifest in a file's bytes, None where there is none. For broken ones, the reason."""
    import c2pa

    settings = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_trust": True},
                **({"trust": {"trust_anchors": trusted}} if trusted else {})}
    try:
        with c2pa.Context.from_dict(settings) as context:
            reader = c2pa.Reader.try_create(None, io.BytesIO(data), context=context)
            if reader is None:
                return None
            with reader:
                return in_words(json.loads(reader.json()))
    except (c2pa.C2paError, ValueError, MemoryError) as error:
        return f"present, but cannot be read: {line(error)}"


def in_words(found: Mapping[str, Any]) -> str:
    """Return what a manifest store says, in one line: maker, kind of source, signature."""
    manifests = found.get("manifests") or {}
    active = manifests.get(found.get("active_manifest")) or {}
    signer = active.get("signature_info") or {}
    who = line(signer.get("common_name") or signer.get("issuer") or "unknown")
    house = line(signer.get("issuer") or "")
    state = str(found.get("validation_state"))
    said = [f"signed by {who}{f' ({house})' if house not in ('', who) else ''}"]
    if maker := _maker(active):
        said.append(f"made with {maker}")
    if kinds := sorted({kind for manifest in manifests.values() for kind in _kinds(manifest)}):
        said.append(f"digital source: {', '.join(kinds)}")
    said.append(_STATES.get(state, f"signature {line(state)}"))
    if state == "Invalid":
        codes = dict.fromkeys(line(one.get("code", "")) for one in found.get("validation_status") or [])
        codes.pop("signingCredential.untrusted", None)
        said[-1] += f" ({', '.join(list(codes)[:_SHOWN])})"
    return "; ".join(said)


def _maker(manifest: Mapping[str, Any]) -> str:
    known = manifest.get("claim_generator_info") or []
    tools = [line(f"{one.get('name', '')} {one.get('version', '') or ''}") for one in known]
    return ", ".join(filter(None, tools[:_SHOWN])) or line(manifest.get("claim_generator") or "")


def _kinds(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Yield the digital source types of a manifest's actions, without their address."""
    for assertion in manifest.get("assertions") or []:
        data = assertion.get("data")
        for action in (data.get("actions") or []) if isinstance(data, Mapping) else []:
            if isinstance(action, Mapping) and isinstance(kind := action.get("digitalSourceType"), str):
                yield line(kind.rpartition("/")[2])


def line(value: object) -> str:
    """Return an untrusted text as one short line that steers no terminal."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in str(value)[:10 * LONGEST]).split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST - 3]}..."
