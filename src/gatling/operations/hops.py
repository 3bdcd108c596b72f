"""Fetching a path of a domain as a CA does, over HTTP and through redirects.

The server that answers may be a stranger's. So there is one deadline for all redirects, little is
read of an answer, and nothing of a redirect's body. A redirect leads to ports 80 and 443 of public
addresses only: Gatling itself may reach ports that others may not.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import ipaddress
import re
import socket
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urljoin, urlsplit

from gatling import names

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PORT, TLS_PORT = 80, 443
MAX_REDIRECTS = 10
MAX_READ = 64 << 10
"""Bytes that are read of one answer, with its headers."""
MAX_TEXT = 1024
"""Bytes of the text of an answer."""
REDIRECTS = (301, 302, 303, 307, 308)
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}\Z")
_TARGET = re.compile(r"/[!-~]*\Z")


class Refused(Exception):
    """A redirect that is not followed; the text completes `the server …`."""


@dataclass(frozen=True, slots=True)
class _Hop:
    """One request: the first, or one after a redirect."""

    host: str
    address: str
    target: str
    tls: bool = False

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{names.host(self.host)}{self.target}"


def fetched(domain: str, address: str, path: str, deadline: float) -> tuple[int, str]:
    """The status and the text of the answer from one address of a domain, after redirects.

    `deadline` is a time of `time.monotonic`. Raises OSError, HTTPException, ValueError; Refused
    for a redirect that is not followed.
    """
    hop = _Hop(domain, address, path)
    for _ in range(MAX_REDIRECTS + 1):
        status, text, location = _asked(hop, deadline)
        if not location:
            return status, text
        hop = _next(hop, location, (domain, address))
    raise Refused(f"redirects more than {MAX_REDIRECTS} times")


def is_allowed(address: str) -> bool:
    """Whether an address is on the internet, or is this machine's own, but no loopback address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    one = getattr(found, "ipv4_mapped", None) or found
    if one.is_loopback or one.is_multicast or one.is_unspecified:
        return False
    return one.is_global or _is_own(str(one))


def is_loopback(address: str) -> bool:
    """Whether an address is this machine's, for itself: as /etc/hosts may have its own name."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _is_ipv6(host: str) -> bool:
    try:
        return bool(ipaddress.IPv6Address(host))
    except ValueError:
        return False


def _is_own(address: str) -> bool:
    """Whether an interface of this machine has an address: only then it can be bound."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((address, 0))
        return True
    return False


def _next(hop: _Hop, location: str, first: tuple[str, str]) -> _Hop:
    url = urlsplit(urljoin(hop.url, location))
    host, target = url.hostname or "", (url.path or "/") + (f"?{url.query}" if url.query else "")
    port = url.port or {"http": PORT, "https": TLS_PORT}.get(url.scheme)
    if (url.scheme, port) not in (("http", PORT), ("https", TLS_PORT)):
        raise Refused("redirects to another port or protocol, which no CA follows")
    if not (_HOST.match(host) or _is_ipv6(host)) or not _TARGET.match(target):
        raise Refused("redirects to an address that is no valid one")
    address = first[1]
    if host != first[0]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError:
            raise Refused(f"redirects to {host}, which does not resolve") from None
        addresses = [str(entry[4][0]) for entry in found]
        if not addresses or not all(map(is_allowed, addresses)):
            raise Refused(f"redirects to {host}, which is not on the internet")
        address = addresses[0]
    return _Hop(host, address, target, tls=url.scheme == "https")


def _asked(hop: _Hop, deadline: float) -> tuple[int, str, str]:
    """The status of an answer, with its text, or the place to which it redirects."""
    request = (
        f"GET {hop.target} HTTP/1.1\r\nHost: {names.host(hop.host)}\r\nConnection: close\r\n\r\n"
    )
    place = (hop.address, TLS_PORT if hop.tls else PORT)
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(socket.create_connection(place, _left(deadline)))
        if hop.tls:
            connection.settimeout(_left(deadline))
            secured = _context().wrap_socket(connection, server_hostname=hop.host)
            connection = stack.enter_context(secured)
        connection.settimeout(_left(deadline))
        connection.sendall(request.encode("ascii"))
        # of a socket it needs only what it reads from
        source = cast("socket.socket", _Source(connection, deadline))
        answer = stack.enter_context(contextlib.closing(http.client.HTTPResponse(source)))
        answer.begin()
        location = answer.getheader("Location") if answer.status in REDIRECTS else None
        if location:
            return answer.status, "", location
        return answer.status, answer.read(MAX_TEXT).decode("latin-1"), ""


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # a CA does not check it either (RFC 8555, section 8.3)
    return context


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class _Source:
    """A connection as HTTPResponse wants it."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._raw = _Raw(connection, deadline)

    def makefile(self, *_: Any) -> io.BufferedReader:
        """The file from which the answer is read."""
        return io.BufferedReader(self._raw)


class _Raw(io.RawIOBase):
    """The bytes of a connection until a deadline, up to a size."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        super().__init__()
        self._connection, self._deadline, self._left = connection, deadline, MAX_READ

    def readable(self) -> bool:
        """See RawIOBase."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read a part. Raises TimeoutError, and HTTPException for an answer that is too long."""
        if self._left <= 0:
            raise http.client.HTTPException("the answer is too long")
        self._connection.settimeout(_left(self._deadline))
        count = self._connection.recv_into(memoryview(buffer)[: self._left])
        self._left -= count
        return count
