"""Requests through a real nginx: what reaches the app, and what clients are answered."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gatling.project.proxy import Options, Wishes
from gatling.proxy import parts
from gatling.proxy.site import Site
from tests.conftest import until
from tests.proxy.bench import App, Bench, free_port, has_ipv6, over_ipv6

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECTIONS = 96
SHARE = parts.limits(CONNECTIONS)
CLOSE = "Connection: close\n\n"


@pytest.fixture(scope="module")
def app() -> Iterator[App]:
    made = App()
    yield made
    made.close()


@pytest.fixture(scope="module")
def bench(app: App, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Apps with and without passwords, one that is down, one that sends to https."""
    root = tmp_path_factory.mktemp("nginx")
    made = Bench(root)
    hashed = subprocess.run(
        ["openssl", "passwd", "-6", "-stdin"], input="pw\n", capture_output=True, text=True,
        check=True,
    ).stdout.strip()  # fmt: skip

    def site(name: str, *domains: str, port: int = app.port, wishes: Wishes | None = None) -> Site:
        route = root / f"route-{name}"
        route.mkdir()
        return Site(name, domains, {1: port, 2: port}, route, wishes or Wishes())

    guarded = Wishes(passwords={"admin.shop.example": {"ann": hashed}})
    sites = [
        site("shop", "shop.example", "admin.shop.example", wishes=guarded),
        site("blog", "blog.example", "*.blog.example"),
        site("down", "down.example", port=free_port()),
        site("safe", "safe.example", wishes=Wishes(Options(https="redirect"))),
    ]

    def fewer_connections(text: str) -> str:
        usual = parts.limits(parts.CONNECTIONS)
        for name, before, after in (
            ("worker_connections", parts.CONNECTIONS, CONNECTIONS),
            ("limit_conn gatling_apps", usual.app, SHARE.app),
            ("limit_conn gatling_clients", usual.client, SHARE.client),
        ):
            assert f"{name} {before};" in text
            text = text.replace(f"{name} {before};", f"{name} {after};")
        if has_ipv6():
            text = over_ipv6(text)
        return text.replace("worker_processes auto;", "worker_processes 1;")

    made.configure(sites, fewer_connections)
    with made.running():
        yield made


def seen(answer: str) -> list[str]:
    """The lines of the request that the app was sent, by its answer."""
    return answer.partition("\r\n\r\n")[2].splitlines()


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"ann:{password}".encode()).decode()


# ---------------------------------------------------------------- the host


def test_a_request_line_with_a_host_does_not_pass_by_the_passwords(bench: Bench) -> None:
    asked = f"GET / HTTP/1.1\nHost: admin.shop.example\n{CLOSE}"
    assert bench.raw(asked).startswith("HTTP/1.1 401 ")
    asked = f"GET http://admin.shop.example/ HTTP/1.1\nHost: shop.example\n{CLOSE}"
    assert bench.raw(asked).startswith("HTTP/1.1 401 ")
    for named in ("admin.shop.example", "evil.example", "evil.example:99"):
        asked = f"GET http://shop.example/ HTTP/1.1\nHost: {named}\n{CLOSE}"
        lines = seen(bench.raw(asked))
        assert {"Host: shop.example", "X-Forwarded-Host: shop.example"} <= {*lines}, named


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("shop.example", "shop.example"),
        ("SHOP.example:8080", "shop.example:8080"),
        ("shop.example:80", "shop.example:80"),
        ("shop.example.", "shop.example"),
    ],
)
def test_the_app_is_told_the_host_that_was_matched(bench: Bench, named: str, told: str) -> None:
    lines = seen(bench.raw(f"GET / HTTP/1.1\nHost: {named}\n{CLOSE}"))
    assert {f"Host: {told}", f"X-Forwarded-Host: {told}"} <= {*lines}


def test_a_host_with_a_star_is_the_one_that_was_asked_for(bench: Bench) -> None:
    lines = seen(bench.raw(f"GET / HTTP/1.1\nHost: a.blog.example:1\n{CLOSE}"))
    assert "Host: a.blog.example:1" in lines


@pytest.mark.parametrize(
    "request_",
    [
        "GET / HTTP/1.0\n\n",
        f"GET / HTTP/1.1\nHost: nobody.example\n{CLOSE}",
        f"GET / HTTP/1.1\nHost: 127.0.0.1\n{CLOSE}",
        f"GET http://nobody.example/ HTTP/1.1\nHost: shop.example\n{CLOSE}",
    ],
)
def test_a_host_of_no_app_reaches_none(bench: Bench, app: App, request_: str) -> None:
    before = len(app.requests)
    answer = bench.raw(request_)
    assert answer.startswith("HTTP/1.1 404 ")
    assert "No app here" in answer
    assert len(app.requests) == before


# ---------------------------------------------------------------- protocols


@pytest.mark.parametrize("name", ["websocket", "WebSocket"])
def test_a_websocket_is_passed_on(bench: Bench, app: App, name: str) -> None:
    asked = f"GET /upgrade HTTP/1.1\nHost: shop.example\nUpgrade: {name}\nConnection: Upgrade\n\n"
    answer = bench.raw(asked)
    assert answer.startswith("HTTP/1.1 101 ")
    assert answer.endswith("hello")
    assert {"Upgrade: websocket", "Connection: upgrade"} <= {*app.requests[-1].splitlines()}


@pytest.mark.parametrize("name", ["h2c", "websocket, h2c", "tls/1.0", "x"])
def test_no_other_protocol_is(bench: Bench, app: App, name: str) -> None:
    asked = (
        f"GET / HTTP/1.1\nHost: shop.example\nUpgrade: {name}\nHTTP2-Settings: AAMAAABkAAQAAP__\n"
        "Connection: Upgrade, HTTP2-Settings\n\n"
    )
    with contextlib.suppress(TimeoutError):
        bench.raw(asked.replace("\n\n", "\nContent-Length: 0\n\n") + f"GET /x HTTP/1.1\n{CLOSE}")
    lines = app.requests[-1].splitlines()
    assert "Connection: close" in lines
    assert not any(line.lower().startswith("upgrade:") for line in lines)


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize("path", ["/hangup", "/invalid", "/headers/40"])
def test_a_request_that_the_app_fails_is_no_app_that_is_down(bench: Bench, path: str) -> None:
    status, headers, text = bench.get(path)
    assert status == 502
    assert "This request failed" in text
    assert headers["Retry-After"] is None
    assert headers["Cache-Control"] == "no-store"


def test_an_app_that_is_down(bench: Bench) -> None:
    status, headers, text = bench.get(host="down.example")
    assert (status, headers["Retry-After"]) == (503, "10")
    assert "This app is not running" in text


def test_nobody_asks_for_the_pages_themselves(bench: Bench) -> None:
    for name in ("busy", "failed", "slow", "down"):
        assert bench.get(f"/.gatling/{name}")[0] == 404


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize("count", [1, 4, 12, 20, 30])
def test_answers_with_many_headers(bench: Bench, count: int) -> None:
    status, headers, text = bench.get(f"/headers/{count}")
    assert (status, text) == (200, "many")
    assert headers[f"X-{count - 1}"] == "x" * 1000


@pytest.mark.parametrize("size", [4_000, 12_000, 16_000, 30_000])
def test_requests_with_large_headers(bench: Bench, app: App, size: int) -> None:
    assert bench.get(Cookie="c" * size)[0] == 200
    assert f"Cookie: {'c' * size}" in app.requests[-1]
    assert bench.get(f"/?{'q' * size}")[0] == 200


def test_uploads_are_not_collected_on_the_disk(bench: Bench, app: App) -> None:
    """The app has them as they come, so its own limits hold; and a slow one costs no room."""
    before = len(app.requests)
    with socket.create_connection(("127.0.0.1", bench.port), timeout=20) as sock:
        size = 20_000_000
        sock.sendall(f"POST /count HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {size}\r\n"
                     "Connection: close\r\n\r\n".encode())  # fmt: skip
        sock.sendall(bytes(size - 1))
        until(lambda: len(app.requests) > before, "the app to be asked")
        assert body_files(bench) == 0
        sock.sendall(b"x")
        data = b""
        while piece := sock.recv(65536):
            data += piece
    assert data.endswith(str(size).encode())


def body_files(bench: Bench) -> int:
    """Bytes of files, removed ones as well, that nginx has open for bodies."""
    total = 0
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if str(bench.root / "temporary") in os.readlink(link):  # noqa: PTH115 (as it is)
                total += link.stat().st_size
    return total


def test_an_app_may_refuse_a_body_before_it_has_come(bench: Bench) -> None:
    with socket.create_connection(("127.0.0.1", bench.port), timeout=20) as sock:
        sock.sendall(b"POST /early HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 50000000\r\n"
                     b"Connection: close\r\n\r\n")  # fmt: skip
        assert sock.recv(4096).startswith(b"HTTP/1.1 413 ")


# ---------------------------------------------------------------- shares


def test_one_app_cannot_take_the_connections_of_the_others(bench: Bench) -> None:
    held = []
    try:
        for client in range(2, 8):
            held += bench.hold(CONNECTIONS, host="shop.example", source=f"127.0.0.{client}")
        assert len(held) == SHARE.app
        status, _, text = bench.get(host="shop.example", source="127.0.0.99")
        assert status == 429
        assert "Too many connections" in text
        assert bench.get(host="blog.example", source="127.0.0.99")[0] == 200
    finally:
        for sock in held:
            sock.close()
    until(lambda: bench.get(host="shop.example")[0] == 200, "the app to have room again")


def test_one_client_cannot_take_the_connections_of_the_others(bench: Bench) -> None:
    held = bench.hold(CONNECTIONS, host="blog.example", source="127.0.0.5")
    try:
        assert len(held) == SHARE.client
        assert bench.get(host="blog.example", source="127.0.0.5")[0] == 429
        assert bench.get(host="blog.example", source="127.0.0.6")[0] == 200
    finally:
        for sock in held:
            sock.close()
    until(lambda: bench.get(host="blog.example", source="127.0.0.5")[0] == 200, "room again")


def test_passwords_cannot_be_guessed_quickly(bench: Bench) -> None:
    def status(password: str, source: str) -> int:
        host = "admin.shop.example"
        return bench.get(host=host, source=source, Authorization=basic(password))[0]

    assert 429 in {status("wrong", "127.0.0.7") for _ in range(400)}
    assert status("pw", "127.0.0.8") == 200
    assert bench.get(host="shop.example", source="127.0.0.7")[0] == 200


# ---------------------------------------------------------------- behind another proxy


FRONTS = ["127.0.0.1", *(["::1"] if has_ipv6() else [])]


@pytest.mark.parametrize("front", FRONTS)
def test_a_front_on_this_machine_names_the_client(bench: Bench, front: str) -> None:
    asked = (
        "GET / HTTP/1.1\nHost: shop.example\nX-Forwarded-Proto: https\n"
        f"X-Forwarded-For: 198.51.100.1, 203.0.113.9\n{CLOSE}"
    )
    lines = seen(bench.raw(asked, source=front, address=front))
    assert {
        "X-Real-IP: 203.0.113.9", "X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: https",
        "X-Forwarded-Port: 443", "Host: shop.example",
    } <= {*lines}  # fmt: skip


@pytest.mark.parametrize("front", FRONTS)
def test_a_front_on_this_machine_ends_the_way_to_https(bench: Bench, front: str) -> None:
    asked = f"GET /a HTTP/1.1\nHost: safe.example\n{CLOSE}"
    answer = bench.raw(asked, source=front, address=front)
    assert "Location: https://safe.example/a" in answer
    asked = f"GET /a HTTP/1.1\nHost: safe.example\nX-Forwarded-Proto: https\n{CLOSE}"
    assert bench.raw(asked, source=front, address=front).startswith("HTTP/1.1 200 ")


def test_no_one_else_does(bench: Bench) -> None:
    asked = (
        "GET / HTTP/1.1\nHost: shop.example\nX-Forwarded-Proto: https\nX-Real-IP: 203.0.113.9\n"
        f"X-Forwarded-For: 203.0.113.9\nX-Forwarded-Port: 1\nX-Forwarded-Host: evil\n{CLOSE}"
    )
    lines = seen(bench.raw(asked, source="127.0.0.2"))
    assert {
        "X-Real-IP: 127.0.0.2", "X-Forwarded-For: 127.0.0.2", "X-Forwarded-Proto: http",
        f"X-Forwarded-Port: {bench.port}", "X-Forwarded-Host: shop.example",
    } <= {*lines}  # fmt: skip
    assert "203.0.113.9" not in "".join(lines)


def test_a_port_of_a_front_is_kept(bench: Bench) -> None:
    asked = f"GET / HTTP/1.1\nHost: shop.example:8443\nX-Forwarded-Proto: https\n{CLOSE}"
    lines = seen(bench.raw(asked))
    assert {"Host: shop.example:8443", "X-Forwarded-Port: 8443"} <= {*lines}
