"""The API behind a real nginx, with the site that docs/operations.md shows."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import ssl
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from gatling.state import deployments
from tests.api.served import Served, new_home, server
from tests.api.test_description import free_address
from tests.api.test_events import Stream, begin
from tests.conftest import ROOT, until
from tests.proxy.bench import NGINX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "api.example.com"
MAIN = """\
daemon off;
{user}pid nginx.pid;
error_log stderr warn;
events {{}}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {site}
}}
"""


def site() -> str:
    """The site on the page."""
    found = re.search(
        r"^# /etc/nginx/sites-enabled/gatling-api\n(.*?)^```",
        (ROOT / "docs/operations.md").read_text(), re.DOTALL | re.MULTILINE,
    )  # fmt: skip
    assert found
    return found[1]


class Behind(Served):
    """A home whose API is asked through nginx."""

    authority: Path
    port: int

    def connection(self) -> http.client.HTTPConnection:
        trusted = ssl.create_default_context(cafile=str(self.authority))

        class Connection(http.client.HTTPSConnection):
            def connect(self) -> None:
                plain = socket.create_connection(("127.0.0.1", self.port), 60)
                self.sock = trusted.wrap_socket(plain, server_hostname=NAME)

        return Connection(NAME, self.port, timeout=60)


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    root = tmp_path_factory.mktemp("nginx")
    chain, key = root / "chain.pem", root / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}",
         "-keyout", key, "-out", chain],
        check=True, capture_output=True,
    )  # fmt: skip
    with new_home() as home, server(home, free_address()) as place:
        port = int(free_address().rpartition(":")[2])
        text = site()
        for shown, used in (
            ("127.0.0.1:8090", place),
            ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
            ("listen [::]:443 ssl;", ""),
            (f"/etc/ssl/{NAME}.pem", str(chain)),
            (f"/etc/ssl/private/{NAME}.key", str(key)),
        ):
            assert shown in text
            text = text.replace(shown, used)
        (root / "nginx.conf").write_text(
            MAIN.format(site=text, user="user root;\n" if os.geteuid() == 0 else "")
        )
        argv = [NGINX, "-p", str(root), "-c", str(root / "nginx.conf"), "-e", "stderr"]
        with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as nginx:
            made = Behind(home.root, home.env, home.place)
            made.authority, made.port = chain, port
            try:
                until(lambda: answers(port) or nginx.poll() is not None, "nginx")
                assert nginx.poll() is None, nginx.stderr and nginx.stderr.read()
                yield made
            finally:
                nginx.terminate()


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def test_requests_and_changes(behind: Behind) -> None:
    token = behind.token("ann", "deployer", "shop")
    assert behind.ask("GET", "/v1/me", token).json["name"] == "ann"
    changed = behind.ask("PATCH", "/v1/apps/shop/config", token, {"A": "x" * 100_000})
    assert (changed.status, changed.json["changed"]) == (200, True)
    refused = behind.ask("GET", "/v1/apps/blog", token)
    assert (refused.status, refused.code) == (403, "not-allowed")
    assert behind.ask("GET", "/v1/apps", None).status == 401
    assert behind.ask("GET", "/v1/me", "x").headers["www-authenticate"]
    assert behind.ask("GET", "/", token).status == 404
    assert "nginx" in behind.ask("GET", "/metrics", token).text  # nothing else gets through
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLError):
        large = b'{"A": "' + b"x" * (1 << 20) + b'"}'
        assert behind.ask("PATCH", "/v1/apps/shop/config", token, large).status == 413


def test_events_come_at_once(behind: Behind) -> None:
    stream = Stream(behind, behind.token("rita", "reader", "shop"))
    assert stream.response.status == 200
    assert stream.next() == {"retry": "2000"}
    with behind.opened() as gatling:
        number = begin(gatling.db, "shop")
    started = time.monotonic()
    assert stream.next()["data"]["deployment"]["id"] == number
    with behind.opened() as gatling:
        deployments.end(gatling.db, number, "failed", seconds=1, error="It did.")
    assert stream.next()["event"] == "deployment.ended"
    assert time.monotonic() - started < 10
    stream.close()


def test_nothing_is_served_in_the_clear(behind: Behind) -> None:
    """A token that is sent over HTTP by mistake gets no further than nginx."""
    plain = http.client.HTTPConnection("127.0.0.1", behind.port, timeout=30)
    with contextlib.closing(plain):
        plain.request("GET", "/v1/me", headers={"Authorization": "Bearer x"})
        assert plain.getresponse().status == 400
