"""A real nginx with Gatling's configuration, in front of a tiny app that does as it is asked."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import re
import shutil
import socket
import subprocess
import threading
from typing import TYPE_CHECKING

from gatling.proxy import nginx, passwords
from gatling.proxy.pages import PAGES
from gatling.proxy.site import Listen, Site
from tests.conftest import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin") or "nginx"


PORTS = 30000, 32767
"""Below those that the kernel gives to clients (ip(7), ip_local_port_range): a client of another
test may take one of those between the choice and nginx's start."""


def free_port() -> int:
    """A port on which nothing listens, at any address."""
    while True:
        port = random.randint(*PORTS)
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.bind(("", port))
            return port


class App:
    """What the path of a request names, it does; otherwise it answers with the request's head.

    /hangup      closes the connection without an answer
    /invalid     answers with a header that is none
    /headers/9   answers with so many headers of 1000 bytes each
    /early       answers 413 before it has read the body, and closes
    /count       reads the body to its end, and answers how many bytes it had
    /hold        answers with a head, and leaves the connection open
    /upgrade     answers 101
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self.requests: list[str] = []
        self._held: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._held:
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            data = b""
            while b"\r\n\r\n" not in data:
                piece = sock.recv(65536)
                if not piece:
                    return
                data += piece
            head, _, body = data.partition(b"\r\n\r\n")
            text = head.decode("latin-1")
            self.requests.append(text)
            self._answer(sock, text, body)

    def _answer(self, sock: socket.socket, head: str, body: bytes) -> None:
        path = head.split(" ")[1]
        close = "Connection: close\r\n\r\n"
        if path == "/hold":
            self._held.append(sock)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nhello")
            return
        with contextlib.closing(sock):
            if path == "/invalid":
                sock.sendall(b"HTTP/1.1 200 OK\r\nX: \0\r\n\r\n")
            elif path == "/early":
                sock.sendall(f"HTTP/1.1 413 No\r\nContent-Length: 0\r\n{close}".encode())
            elif path == "/upgrade":
                sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                             b"Connection: upgrade\r\n\r\nhello")  # fmt: skip
            elif path == "/count":
                length = int(head.lower().partition("content-length: ")[2].split("\r\n")[0])
                read = len(body)
                while read < length and (piece := sock.recv(65536)):
                    read += len(piece)
                sock.sendall(
                    f"HTTP/1.1 200 OK\r\nContent-Length: {len(str(read))}\r\n{close}{read}".encode()
                )
            elif path.startswith("/headers/"):
                many = "".join(f"X-{n}: {'x' * 1000}\r\n" for n in range(int(path[9:])))
                sock.sendall(f"HTTP/1.1 200 OK\r\n{many}{close}many".encode())
            elif path != "/hangup":
                sock.sendall(f"HTTP/1.1 200 OK\r\n{close}{head}".encode())


def has_ipv6() -> bool:
    """Whether this machine has IPv6, at least for itself."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        return True
    return False


def over_ipv6(text: str) -> str:
    """A configuration of nginx that listens at the same ports of ::1 as well."""
    return re.sub(r"listen 127\.0\.0\.1:([^;]*);", r"\g<0> listen [::1]:\1;", text)


class Bench:
    """nginx in a directory; where its app listens is what the sites say."""

    def __init__(self, root: Path, *, tls: bool = False) -> None:
        self.root = root
        self.tls_port = free_port()
        self.tls: tuple[str, ...] = (f"127.0.0.1:{self.tls_port}",) if tls else ()
        self.http3 = False
        self.port = free_port()
        for name in ("temporary", "conf.d", "pages"):
            (root / name).mkdir()
        for name, text in PAGES.items():
            (root / "pages" / name).write_text(text)

    def configure(
        self, sites: Sequence[Site], change: Callable[[str], str] = lambda text: text
    ) -> None:
        """Write nginx.conf and the files of passwords."""
        listen = Listen((f"127.0.0.1:{self.port}",), self.tls, http3=self.http3)
        text = nginx.main_configuration(self.root, listen, sites, as_root=os.geteuid() == 0)
        (self.root / "nginx.conf").write_text(change(text))
        passwords.write(sites, self.root / "auth").remove_others()

    @contextlib.contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        argv = [NGINX, "-p", str(self.root), "-c", str(self.root / "nginx.conf"),
                "-g", "daemon off;"]  # fmt: skip
        with subprocess.Popen(argv) as process:
            try:
                until(lambda: self.answers() or process.poll() is not None, "nginx")
                assert process.poll() is None, "nginx has ended, and says why above"
                yield process
            finally:
                process.terminate()

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        return False

    def raw(self, request: str, *, source: str = "127.0.0.1", address: str = "127.0.0.1") -> str:
        """Send a request as it is (its lines end with LF here); all of the answer, as text."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family) as sock:
            sock.settimeout(20)
            sock.bind((source, 0))
            sock.connect((address, self.port))
            sock.sendall(request.replace("\n", "\r\n").encode())
            data = b""
            with contextlib.suppress(OSError):
                while piece := sock.recv(65536):
                    data += piece
        return data.decode("latin-1")

    def get(
        self, path: str = "/", *, host: str = "shop.example", source: str = "127.0.0.2",
        **headers: str,
    ) -> tuple[int, http.client.HTTPMessage, str]:  # fmt: skip
        """The status, headers and text of an answer, for a client on another machine."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=20, source_address=(source, 0)
        )
        with contextlib.closing(connection):
            fields = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request("GET", path, headers={"Host": host} | fields)
            response = connection.getresponse()
            return response.status, response.headers, response.read().decode("latin-1")

    def hold(self, count: int, *, host: str, source: str) -> list[socket.socket]:
        """Open this many streams that do not end; those that reached the app."""
        held = []
        for _ in range(count):
            sock = socket.create_connection(
                ("127.0.0.1", self.port), timeout=20, source_address=(source, 0)
            )
            sock.sendall(f"GET /hold HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            if b" 200 OK" in sock.recv(65536):
                held.append(sock)
            else:
                sock.close()
        return held
