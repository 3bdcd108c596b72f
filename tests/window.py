"""Requests at a fixed rate through proxies, while code is switched below them."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Self

from gatling.platform import ports
from tests.conftest import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLIENTS = 30
PAUSE_MS = 3000
"""New requests wait for some 50 ms, and for a second at most, but longer on a busy machine."""
# as an app's owner may have it in front of an instance, with kept connections to it and without
NGINX = """
daemon off; pid {root}/pid; error_log {root}/error.log; worker_processes 1;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {root}/1; proxy_temp_path {root}/2; fastcgi_temp_path {root}/3;
  uwsgi_temp_path {root}/4; scgi_temp_path {root}/5;
  proxy_next_upstream off;
  upstream app {{ server 127.0.0.1:{instance}; keepalive 32; }}
  server {{
    listen 127.0.0.1:{kept};
    location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
  server {{
    listen 127.0.0.1:{closed};
    location / {{ proxy_pass http://127.0.0.1:{instance}; }}
  }}
}}
"""


class Load:
    """Requests at a fixed rate, whether or not those before have been answered."""

    def __init__(self, port: int, path: str, rate: float) -> None:
        self._port, self._path, self._apart = port, path, 1 / rate
        self._due, self._turn = time.monotonic(), threading.Lock()
        self.failures: list[str] = []
        self.waits: list[float] = []
        self.texts: set[str] = set()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        until(lambda: self.waits or self.failures, "the first answer")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def see(self, text: str) -> None:
        """Wait until a text has been answered: a proxy may stand still on a busy machine."""
        until(lambda: text in self.texts, f"the answer {text!r}")

    def _run(self) -> None:
        client = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        while not self._stop.is_set():
            with self._turn:
                due = self._due = max(self._due + self._apart, time.monotonic() - 1)
            time.sleep(max(0, due - time.monotonic()))
            begun = time.monotonic()
            try:
                client.request("GET", self._path, headers={"Host": "shop.localhost"})
                response = client.getresponse()
                text = response.read().decode()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                client.close()
                continue
            if response.status == 200:
                self.texts.add(text)
            else:
                self.failures.append(f"{response.status} {text[:60]}")
            self.waits.append(time.monotonic() - begun)
        client.close()


def free_port() -> int:
    """A port on which nobody listens now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def proxies(root: Path, instance: int, kept: int, closed: int) -> Iterator[None]:
    """An nginx that keeps connections to the instance at one port, and none at the other."""
    text = NGINX.format(root=root, instance=instance, kept=kept, closed=closed)
    (root / "nginx.conf").write_text(text)
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    process = subprocess.Popen(
        [nginx, "-e", root / "error.log", "-p", root, "-c", root / "nginx.conf"]
    )
    try:
        until(lambda: ports.answers(closed), "nginx")
        yield
    finally:
        process.terminate()
        process.wait()
