"""Receivers of logs: HTTP with lines of JSON, and syslog over TCP or TLS.

TLS connections end with the alert close_notify (RFC 5425, section 4.4; RFC 9112, section 9.8).

Syslog is RFC 5424, with a count of octets before each message (RFC 6587, section 3.4.1; RFC 5425,
section 4.3). It has no answer, so lines count as accepted once the other machine's kernel has
acknowledged all bytes (`SIOCOUTQ` in tcp(7)).
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote, urlsplit

from gatling import __version__, visible
from gatling.errors import GatlingError, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    import requests

    from gatling.platform.logs import Line

CLOSING_SECONDS = 1.0
"""How long the receiver's own close_notify is waited for."""
SECONDS = 15.0
"""Time limit for each wait: to connect, to send, for an answer or an acknowledgement."""
MAX_URL = 2000
MAX_MESSAGE = 8000
"""Bytes of a syslog message; rsyslog takes 8 KiB. A longer line is sent in parts."""
PORTS = {"syslog+tls": 6514, "syslog+tcp": 601}
"""The schemes of syslog, with their ports by IANA."""
_PRIORITY = 16 * 8 + 6
"""Facility local0, severity informational: an app's lines have none of their own."""
_SIOCOUTQ = 0x5411


class NotAccepted(GatlingError):
    """Lines were not accepted; they are sent again."""


class Sink(Protocol):
    """A receiver of an app's log."""

    def send(self, lines: Sequence[Line]) -> None:
        """Send lines, and wait until they are accepted; raises NotAccepted."""

    def close(self) -> None:
        """Let go of the connection."""


def check(url: str) -> None:
    """Raise InvalidInput for what cannot be the address of a sink."""
    try:
        parts = urlsplit(url)
        fine = parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        fine = False
    known = ("http", "https", *PORTS)
    if not fine or len(url) > MAX_URL or not url.isprintable() or " " in url:
        raise _no_sink()
    if urlsplit(url).scheme not in known:
        raise _no_sink()


def shown(url: str) -> str:
    """An address without user, password, path and query, which may be secret."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    hidden = "/…" if parts.path.strip("/") or parts.query else ""
    return f"{parts.scheme}://{parts.hostname}{port}{hidden}"


def opened(url: str, app: str) -> Sink:
    """The sink at an address. It connects when it sends."""
    return Http(url, app) if urlsplit(url).scheme in ("http", "https") else Syslog(url, app)


class _Connection(ssl.SSLSocket):
    """A TLS connection that says when it ends.

    Without the alert the receiver cannot distinguish the end from one that somebody on the way has
    forced, and reports an error. The receiver's alert is waited for as well. A socket that has
    something left to read resets the connection when it is closed, and lines that the receiver has
    not read yet are lost.
    """

    def close(self) -> None:
        """See socket.socket."""
        with contextlib.suppress(OSError, ValueError):
            self.settimeout(CLOSING_SECONDS)
            self.unwrap()
        super().close()


class Http:
    """A server that takes lines of JSON by POST (application/x-ndjson)."""

    def __init__(self, url: str, app: str) -> None:
        self._url, self._app = url, app
        self._host = socket.gethostname()
        self._session: requests.Session | None = None

    def send(self, lines: Sequence[Line]) -> None:
        """See Sink."""
        import requests

        if self._session is None:
            self._session = requests.Session()
            self._session.mount("https://", _adapter())
            self._session.trust_env = False  # no credentials of a .netrc file
            self._session.headers["User-Agent"] = f"gatling/{__version__}"
            self._session.headers["Content-Type"] = "application/x-ndjson"
        body = "".join(f"{json.dumps(self._content(line))}\n" for line in lines).encode()
        try:
            with self._session.post(
                self._url, data=body, timeout=SECONDS, allow_redirects=False, stream=True
            ) as answer:
                status = answer.status_code
        except requests.RequestException as error:
            raise NotAccepted(f"{shown(self._url)}: {_reason(error)}.") from None
        if not 200 <= status < 300:
            raise NotAccepted(f"{shown(self._url)} answered with status {status}.")

    def close(self) -> None:
        """See Sink."""
        if self._session is not None:
            self._session.close()

    def _content(self, line: Line) -> dict[str, str]:
        return {
            "time": line.time, "app": self._app, "process": line.process,
            "release": line.release, "host": self._host, "text": line.text,
        }  # fmt: skip


def _adapter() -> requests.adapters.HTTPAdapter:
    """The transport of `requests` for HTTPS, with the same authorities, over _Connection."""
    import requests.adapters
    from urllib3.util.ssl_ import create_urllib3_context

    class Adapter(requests.adapters.HTTPAdapter):
        def init_poolmanager(self, *args: Any, **more: Any) -> None:
            context = create_urllib3_context()
            context.sslsocket_class = _Connection
            super().init_poolmanager(*args, ssl_context=context, **more)

    return Adapter()


class Syslog:
    """A syslog server, over TCP or TLS."""

    def __init__(self, url: str, app: str) -> None:
        self._url, self._app = url, app
        self._host = _word(socket.gethostname(), 255)
        self._connection: socket.socket | None = None

    def send(self, lines: Sequence[Line]) -> None:
        """See Sink."""
        try:
            connection = self._connected()
            connection.sendall(b"".join(self._framed(line) for line in lines))
            _await_acknowledged(connection)
        except (OSError, ValueError) as error:
            self.close()
            raise NotAccepted(f"{shown(self._url)}: {_reason(error)}.") from None

    def close(self) -> None:
        """See Sink."""
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.close()
            self._connection = None

    def _connected(self) -> socket.socket:
        if self._connection is not None and _is_closed(self._connection):
            self.close()
        if self._connection is None:
            parts = urlsplit(self._url)
            host = parts.hostname or ""
            plain = socket.create_connection((host, parts.port or PORTS[parts.scheme]), SECONDS)
            try:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                if parts.scheme == "syslog+tls":
                    context = ssl.create_default_context()
                    context.sslsocket_class = _Connection
                    self._connection = context.wrap_socket(plain, server_hostname=host)
                else:
                    self._connection = plain
            except BaseException:
                plain.close()
                raise
        return self._connection

    def _framed(self, line: Line) -> bytes:
        """A line as syslog messages, each after its length."""
        text = visible.one_line(line.text).encode()
        head = (
            f"<{_PRIORITY}>1 {line.time} {self._host} {_word(self._app, 48)}"
            f" {_word(line.process, 128)} {_word(line.release, 32)} - "
        ).encode()
        room = MAX_MESSAGE - len(head)
        parts = [text[at : at + room] for at in range(0, len(text), room)] or [b""]
        return b"".join(b"%d %s" % (len(head + part), head + part) for part in parts)


def _await_acknowledged(connection: socket.socket) -> None:
    """Wait until the other side has acknowledged all that was sent; raises OSError."""
    deadline, waiting, pause = time.monotonic() + SECONDS, array.array("i", [0]), 0.001
    while True:
        fcntl.ioctl(connection.fileno(), _SIOCOUTQ, waiting)
        if not waiting[0]:
            break
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(pause)
        pause = min(2 * pause, 0.1)
    if _is_closed(connection):
        raise ConnectionResetError


def _is_closed(connection: socket.socket) -> bool:
    """Whether the other side has closed a connection on which it sends nothing."""
    connection.setblocking(False)
    try:
        return not connection.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(SECONDS)


def _word(text: str, most: int) -> str:
    """A word of a syslog header: printable ASCII without blanks (RFC 5424, section 6)."""
    word = "".join(c if "!" <= c <= "~" else "_" for c in unquote(text))[:most]
    return word or "-"


def _reason(error: Exception) -> str:
    text = type(error).__name__
    if isinstance(error, ssl.SSLError) or "SSL" in text:
        return "its certificate is not valid"
    if isinstance(error, TimeoutError) or "Timeout" in text:
        return "no answer in time"
    return "the connection failed"


def _no_sink() -> InvalidInput:
    return InvalidInput(
        "This is no address for a log drain.",
        hint="Give https://HOST/PATH, syslog+tls://HOST:PORT or syslog+tcp://HOST:PORT"
        " (docs/how-to/log-drains.md).",
    )
