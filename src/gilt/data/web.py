"""Web: one image from an http or https address, with limits on size, time and redirections, and no way into a private network.

Every host, also that of a redirection, is looked up once, and the connection goes to the address that was checked. Proxies in
the environment are not used.
"""
import http.client
import ipaddress
import socket
import ssl
import threading
import time
import urllib.parse

from gilt.errors import ImageError

MOST_BYTES = 64 << 20
SECONDS = 30.0  # for one address, redirections and all
REDIRECTIONS = 5
_SAFE = "/%:@!$&'()*+,;=~"
_MOVED = (301, 302, 303, 307, 308)


def is_address(text: str) -> bool:
    """Tell whether a text is an address rather than a path: it has a scheme, as https:// or ftp://."""
    scheme, found, _ = text.partition("://")
    return bool(found) and scheme.isalnum()


def fetch(url: str, *, private: bool = False, seconds: float = SECONDS) -> bytes:
    """Return what lies at an address. `private` lets hosts of this machine and of its own network answer.

    Raises ImageError, naming the address and the reason, where there is nothing to be had within the limits.
    """
    at, late, end = url, threading.Event(), time.monotonic() + seconds
    try:
        for _ in range(REDIRECTIONS + 1):
            said = _asked(at, private, end, late)
            if isinstance(said, bytes):
                return said
            at = urllib.parse.urljoin(at, said)
        raise OSError(f"more than {REDIRECTIONS} redirections")
    except (OSError, http.client.HTTPException, ValueError) as error:
        slow = late.is_set() or isinstance(error, TimeoutError)
        why = f"no answer within {seconds:g} seconds" if slow else str(error) or type(error).__name__
        raise ImageError(f"{url} cannot be read: {' '.join(why.split())[:200]}") from None


def _asked(url: str, private: bool, end: float, late: threading.Event) -> bytes | str:
    """Return the body, or where else to look. `late` is set where the answer was cut off at `end`, a monotonic time."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise OSError(f"{parts.scheme or 'no scheme'}: only http and https are fetched")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    sock = _connected(parts.hostname, port, private, end)
    # a server that sends a letter a second never lets the socket's own clock run out
    clock = threading.Timer(max(0.0, end - time.monotonic()), lambda: _shut(sock, late))
    clock.daemon = True
    clock.start()
    connection = http.client.HTTPConnection(parts.hostname, port)
    try:
        if parts.scheme == "https":
            sock = ssl.create_default_context().wrap_socket(sock, server_hostname=parts.hostname, do_handshake_on_connect=False)
            sock.do_handshake()
        connection.sock = sock
        path = urllib.parse.quote(parts.path or "/", safe=_SAFE)
        query = f"?{urllib.parse.quote(parts.query, safe=_SAFE + '?')}" if parts.query else ""
        connection.request("GET", path + query, headers={"User-Agent": "gilt", "Accept": "image/*"})
        with connection.getresponse() as answer:
            return _body(answer, late)
    finally:
        clock.cancel()
        connection.close()
        sock.close()


def _shut(sock: socket.socket, late: threading.Event) -> None:
    late.set()
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:  # it has gone already
        return


def _body(answer: http.client.HTTPResponse, late: threading.Event) -> bytes | str:
    if answer.status in _MOVED and answer.headers.get("Location"):
        return answer.headers["Location"]
    if answer.status != 200:
        raise OSError(f"the server answered {answer.status} {answer.reason}")
    parts, held = [], 0
    while (part := answer.read1(1 << 16)) and not late.is_set():
        parts.append(part)
        held += len(part)
        if held > MOST_BYTES:
            raise OSError(f"larger than {MOST_BYTES >> 20} MB")
    if late.is_set():
        raise TimeoutError
    if answer.length:  # the line broke off
        raise OSError(f"cut short: {answer.length:,} bytes are missing")
    return b"".join(parts)


def _connected(host: str, port: int, private: bool, end: float) -> socket.socket:
    """Return a socket to the first address of a host that may be asked. Raises OSError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        raise OSError(f"no host {host}") from None
    for family, kind, protocol, _, place in found:
        number = ipaddress.ip_address(place[0].partition("%")[0])
        number = getattr(number, "ipv4_mapped", None) or number
        if not private and (not number.is_global or number.is_multicast):
            raise OSError(f"{host} is in a private network ({number})")
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(min(max(0.01, end - time.monotonic()), 10))
        try:
            sock.connect(place)
        except OSError:
            sock.close()
            continue
        return sock
    raise OSError(f"{host} does not answer")
