"""No request fails while code is switched that loses a function which live pages call."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Self

import pytest

from gatling.platform import ports
from tests.conftest import until
from tests.hot.test_calls import FMT, ROUTER
from tests.scale import scaled

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.hot.conftest import Hot

pytestmark = pytest.mark.timeout(3600)

SWAPS = scaled(4, 100)
RATE = scaled(40, 100)
"""Requests a second, through each of the two proxies."""
CLIENTS = 30
PAUSE_MS = 1200
"""New requests wait for 800 ms at most until the others have left, and then for the switch."""
# a page that lasts a few milliseconds, some of which it waits
PAGE = """
defmodule Counter.Slow do
  def page do
    Counter.Store.count()
    Process.sleep(:rand.uniform(16))
    Enum.each(1..20_000, fn n -> n end)
    Counter.Fmt.{name}(3)
  end
end
"""
# as an app's owner may have it in front of Gatling's instance: connections to it are kept
KEPT = """
daemon off; pid {root}/pid; error_log {root}/error.log; worker_processes 1;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {root}/1; proxy_temp_path {root}/2; fastcgi_temp_path {root}/3;
  uwsgi_temp_path {root}/4; scgi_temp_path {root}/5;
  upstream app {{ server {instance}; keepalive 32; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_next_upstream off;
    }}
  }}
}}
"""


class Load:
    """Requests at a fixed rate, whether or not those before have been answered."""

    def __init__(self, port: int) -> None:
        self._port, self._due, self._turn = port, time.monotonic(), threading.Lock()
        self.failures: list[str] = []
        self.waits: list[float] = []
        self.texts: set[str] = set()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        until(lambda: self.waits, "the first answer")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        client = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        while not self._stop.is_set():
            with self._turn:
                due = self._due = max(self._due + 1 / RATE, time.monotonic() - 1)
            time.sleep(max(0, due - time.monotonic()))
            begun = time.monotonic()
            try:
                client.request("GET", "/slow", headers={"Host": "shop.localhost"})
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


@contextlib.contextmanager
def keeping(root: Path, instance: int, port: int) -> Iterator[None]:
    """An nginx at a port that keeps its connections to the instance."""
    text = KEPT.format(root=root, instance=f"127.0.0.1:{instance}", port=port)
    (root / "nginx.conf").write_text(text)
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    process = subprocess.Popen(
        [nginx, "-e", root / "error.log", "-p", root, "-c", root / "nginx.conf"]
    )
    try:
        until(lambda: ports.answers(port), "nginx")
        yield
    finally:
        process.terminate()
        process.wait()


def page(hot: Hot, name: str) -> None:
    hot.write("lib/counter/fmt.ex", FMT.format(name=name))
    hot.write("lib/counter/slow.ex", PAGE.format(name=name))


def test_no_request_is_lost(hot: Hot, tmp_path: Path) -> None:
    hot.replace(ROUTER, '    "/count" =>', '    "/slow" => ["GET"],\n    "/count" =>')
    hot.replace(
        ROUTER, '  defp answer("/events")',
        '  defp answer("/slow"), do: text(200, Counter.Slow.page())\n  defp answer("/events")',
    )  # fmt: skip
    for name in ("price", "cost"):
        page(hot, name)
        hot.push()
    # on a busy machine, requests take much longer than on an idle one
    hot.world.run("settings", "set", "shop", "hot.suspend=60")
    releases = [hot.world.last()["previous"], hot.world.status()["release"]]
    status = hot.world.status()
    pauses = []
    first, kept = hot.world.port, hot.world.port - 1
    with keeping(tmp_path, status["port"], kept), Load(first) as one, Load(kept) as two:
        for number in range(SWAPS):
            hot.world.run("deploy", "shop", releases[number % 2])
            assert hot.strategy() == "hot", hot.reasons()
            pauses.append(hot.world.last()["probe"]["paused_ms"])
    for load in (one, two):
        assert load.failures == []
        assert load.texts == {"price 3", "cost 3"}
    assert all(0 < pause < PAUSE_MS for pause in pauses)
    hot.world.run("settings", "unset", "shop", "hot.suspend")
    assert hot.pid() == status["pid"]
