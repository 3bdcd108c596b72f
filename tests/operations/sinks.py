"""Receivers of notifications: an HTTP server that does as it is made to, and an SMTP server."""

from __future__ import annotations

import http.server
import socketserver
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from email.message import Message


@dataclass
class Got:
    """A request that came."""

    headers: Message
    body: bytes


@dataclass
class Sink:
    """What an HTTP server answers, and what it was sent."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    pause: float = 0
    got: list[Got] = field(default_factory=list)
    url: str = ""
    ended: threading.Event = field(default_factory=threading.Event)


def http_sink(stop: Callable[[Callable[[], None]], object]) -> Sink:
    """Start an HTTP server; `stop` is given what ends it."""
    sink = Sink()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            sink.ended.wait(sink.pause)
            sink.got.append(Got(self.headers, body))
            self.send_response(sink.status)
            for name, value in sink.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    sink.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    stop(sink.ended.set)
    stop(server.server_close)
    stop(server.shutdown)
    return sink


@dataclass
class Mailbox:
    """What an SMTP server (RFC 5321) has taken."""

    port: int = 0
    refuse: bool = False
    mails: list[str] = field(default_factory=list)


def smtp_sink(stop: Callable[[Callable[[], None]], object]) -> Mailbox:
    """Start an SMTP server; `stop` is given what ends it."""
    box = Mailbox()

    class Handler(socketserver.StreamRequestHandler):
        def say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

        def handle(self) -> None:
            self.say("220 sink")
            while line := self.rfile.readline():
                verb = line[:4].upper()
                if verb == b"DATA":
                    self.say("354 go on")
                    box.mails.append(self.message())
                    self.say("250 taken")
                elif verb == b"RCPT" and box.refuse:
                    self.say("550 no such user")
                elif verb == b"QUIT":
                    self.say("221 bye")
                    return
                else:
                    self.say("250 fine")

        def message(self) -> str:
            lines = []
            while (line := self.rfile.readline()) not in (b".\r\n", b""):
                lines.append(line.decode())
            return "".join(lines)

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    box.port = server.server_address[1]
    stop(server.server_close)
    stop(server.shutdown)
    return box


def until(true: Callable[[], object], seconds: float = 60) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
