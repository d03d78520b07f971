"""Web: one image from an http or https address, with limits on size, time and redirections, and no way into a private network.

Every host, also that of a redirection, is looked up once, and the connection goes to the address that was checked. Proxies in
the environment are not used.
"""
import http.client
import ipaddress
import socket
import ssl
import threading
import urllib.parse

from gilt.errors import ImageError

MOST_BYTES = 64 << 20
SECONDS = 30.0  # for one address, redirections and all
REDIRECTIONS = 5
_MOVED = (301, 302, 303, 307, 308)


def is_address(text: str) -> bool:
    """Tell whether a text is an address rather than a path: it has a scheme, as https:// or ftp://."""
    scheme, found, _ = text.partition("://")
    return bool(found) and scheme.isalnum()


def fetch(url: str, *, private: bool = False, seconds: float = SECONDS) -> bytes:
    """Return what lies at an address. `private` lets hosts of this machine and of its own network answer.

    Raises ImageError, naming the address and the reason, where there is nothing to be had within the limits.
    """
    at, late = url, threading.Event()
    clock: list[threading.Timer] = []
    try:
        for _ in range(REDIRECTIONS + 1):
            said = _asked(at, private, seconds, late, clock)
            if isinstance(said, bytes):
                return said
            at = urllib.parse.urljoin(at, said)
        raise OSError(f"more than {REDIRECTIONS} redirections")
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = f"no answer within {seconds:g} seconds" if late.is_set() or isinstance(error, TimeoutError) else \
            str(error) or type(error).__name__
        raise ImageError(f"{url} cannot be read: {' '.join(why.split())[:200]}") from None
    finally:
        for timer in clock:
            timer.cancel()


def _asked(url: str, private: bool, seconds: float, late: threading.Event, clock: list[threading.Timer]) -> bytes | str:
    """Return the body, or where else to look."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise OSError(f"{parts.scheme or 'no scheme'}: only http and https are fetched")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    sock = _connected(parts.hostname, port, private, seconds)
    if not clock:  # one clock for all: a server that sends a letter a second resets the socket's own
        clock.append(threading.Timer(seconds, lambda: late.set()))
        clock[0].daemon = True
        clock[0].start()
    cut = threading.Timer(seconds, lambda: _shut(sock, late))
    cut.daemon = True
    clock.append(cut)
    cut.start()
    connection = http.client.HTTPConnection(parts.hostname, port, timeout=seconds)
    try:
        if parts.scheme == "https":
            sock = ssl.create_default_context().wrap_socket(sock, server_hostname=parts.hostname)
        connection.sock = sock
        path = urllib.parse.quote(parts.path or "/", safe="/%:@!$&'()*+,;=~") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", path, headers={"User-Agent": "gilt", "Accept": "image/*"})
        return _body(connection.getresponse(), late)
    finally:
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


def _connected(host: str, port: int, private: bool, seconds: float) -> socket.socket:
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
        sock.settimeout(min(seconds, 10))
        try:
            sock.connect(place)
        except OSError:
            sock.close()
            continue
        return sock
    raise OSError(f"{host} does not answer")
