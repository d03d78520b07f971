"""The wire to an endpoint: questions over HTTP with a key, asked again where it is busy, with limits on time and size.

The key comes from the environment variable that is named, goes to the endpoint's address only, never over plain http to another
machine, never along a redirection, and is neither printed nor stored.
"""
import email.utils
import json
import logging
import os
import re
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException
from typing import Any

from gilt.errors import ConfigError, ModelError

log = logging.getLogger(__name__)
AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)  # answers after which the same question may be answered
MOST_BYTES = 64 << 20  # of an answer
LONGEST = 60.0  # seconds between two tries
_REFUSED = ("content_policy", "moderation", "safety", "content_filter", "contentfilter")  # in the code of an answer 400
_NO_MONEY = ("quota", "billing")  # in the code of an answer 429: waiting changes nothing
_WRONG = (ConnectionRefusedError, socket.gaierror, ssl.SSLCertVerificationError)  # at the first try: a wrong address
_LOCAL = ("localhost", "127.0.0.1", "::1")


class RefusedError(Exception):
    """The endpoint's rules refuse what was asked."""


class Wire:
    """A line to `host`: `timeout` seconds a try, `tries` in all, `wait` seconds after the first, doubling."""

    def __init__(self, host: str, key: str, *, timeout: float, tries: int, wait: float) -> None:
        self.host, self.timeout, self.tries, self.wait = host, timeout, tries, wait
        self._key = key
        self._answered = False
        self._opener = urllib.request.build_opener(_NoRedirect)

    def ask(self, url: str, question: dict[str, Any]) -> bytes:
        """Return the answer to a question in JSON. Raises RefusedError, or ModelError where there is none to be had."""
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "gilt"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        return self._patiently(urllib.request.Request(url, json.dumps(question).encode(), headers, method="POST"))

    def fetch(self, url: str) -> bytes:
        """Return what lies at an address, asked for without the key. Raises as `ask`."""
        return self._patiently(urllib.request.Request(url, headers={"User-Agent": "gilt"}))

    def safe(self, text: str) -> str:
        """Return a text of the endpoint's on one line, without the key, should it repeat it."""
        text = text.replace(self._key, "...") if self._key else text
        return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())

    def _patiently(self, request: urllib.request.Request) -> bytes:
        """Return the answer, asked for again where the endpoint is busy or fails."""
        for tried in range(1, self.tries + 1):
            try:
                return self._once(request)
            except _BusyError as busy:
                if tried == self.tries:
                    times = "once" if tried == 1 else f"{tried} times"
                    raise ModelError(f"{self.host} gives {self.safe(str(busy))}, asked {times}: "
                                     "run the same command again later; what came is kept") from None
                pause = min(LONGEST, busy.pause if busy.pause is not None else self.wait * 2 ** (tried - 1))
                log.info("%s gives %s: again in %.0f s", self.host, self.safe(str(busy)), pause)
                time.sleep(pause)
        raise AssertionError("tries is at least 1")

    def _once(self, request: urllib.request.Request) -> bytes:
        ends = time.monotonic() + 2 * self.timeout
        try:
            with self._opener.open(request, timeout=self.timeout) as answer:
                data = bytearray()
                while piece := answer.read1(1 << 16):
                    data += piece
                    if len(data) > MOST_BYTES:
                        raise ModelError(f"{self.host} answers with more than {MOST_BYTES >> 20} MiB: left unread")
                    if time.monotonic() > ends:  # a drop now and then keeps a line open for ever
                        raise TimeoutError
                if (told := answer.headers.get("Content-Length", "")).isdigit() and int(told) != len(data):
                    raise _BusyError("half an answer")
                self._answered = True
                return bytes(data)
        except urllib.error.HTTPError as error:
            with error:
                self._refuse(error)
        except TimeoutError:
            raise _BusyError(f"no answer in {self.timeout:g} s") from None
        except (urllib.error.URLError, OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                raise _BusyError(f"no answer in {self.timeout:g} s") from None
            if not self._answered and isinstance(reason, _WRONG):
                raise ModelError(f"{self.host} cannot be reached: {reason}. Is the address right?") from None
            raise _BusyError(f"no connection ({reason})") from None
        raise AssertionError("an answer is returned or refused")

    def _refuse(self, error: urllib.error.HTTPError) -> None:
        """Raise what an answer other than 200 means."""
        try:
            text = error.read(4096).decode(errors="replace")
        except (OSError, HTTPException):
            text = ""
        code, message = _complaint(text)
        if error.code == 400 and any(word in code.lower() for word in _REFUSED):
            raise RefusedError
        if error.code in AGAIN and not any(word in code for word in _NO_MONEY):
            raise _BusyError(f"{error.code} {error.reason}", _seconds(error.headers.get("Retry-After")))
        said = f"{self.host} answers {error.code} {error.reason}: {self.safe(message[:300]) or 'nothing more'}"
        if error.code in (401, 403):
            remedy = "is the key right?" if self._key else "it asks for a key: --key-from NAME of an environment variable"
            raise ModelError(f"{said}; {remedy}")
        if 300 <= error.code < 400:
            raise ModelError(f"{self.host} sends us elsewhere ({error.code}), which is not followed: give the right address")
        raise ModelError(said)


class _BusyError(Exception):
    """The endpoint may answer later: after `pause` seconds, where it says so."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow nothing: the key would go along."""


def key_of(name: str | None, url: str) -> str:
    """Return the key in the environment variable `name`, "" for no name. Raises ConfigError where it may not be sent."""
    if name is None:
        return ""
    key = os.environ.get(name, "").strip()
    if not key:
        raise ConfigError(f"the environment variable {name} is not set: the endpoint's key is read from it")
    if not key.isascii() or not key.isprintable():
        raise ConfigError(f"the environment variable {name} holds something else than a key")
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "http" and parts.hostname not in _LOCAL:
        raise ConfigError(f"a key is not sent over plain http to another machine ({parts.hostname}): use https")
    return key


def _complaint(text: str) -> tuple[str, str]:
    """Return (code, message) of an error's answer."""
    try:
        said = json.loads(text)["error"]
        return (f"{said.get('code') or ''} {said.get('type') or ''}", str(said.get("message") or "")) if isinstance(
            said, dict) else ("", str(said))
    except (ValueError, LookupError, TypeError, RecursionError):
        return "", text


def _seconds(text: str | None) -> float | None:
    """Return a Retry-After as seconds from now, or None where there is none."""
    if not text:
        return None
    if re.fullmatch(r"\d{1,9}(\.\d+)?", text.strip()):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None
