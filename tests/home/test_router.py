"""What clients and apps see of the proxy."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import output_of, until
from tests.home import echo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Answer, Project, World

MB = 1 << 20
DOWN = "This app is not running"


@pytest.fixture(scope="module")
def world(shop: Project) -> World:
    """The home in which `shop` (the counter) and `echo` are live."""
    echo.load(shop.world).push()
    return shop.world


@contextlib.contextmanager
def connected(world: World, head: str) -> Iterator[socket.socket]:
    """A raw connection to the proxy, on which this head has been sent."""
    with socket.create_connection(("127.0.0.1", world.port), timeout=10) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        yield connection


def read_until(connection: socket.socket, end: bytes) -> bytes:
    read = b""
    while end not in read:
        piece = connection.recv(65536)
        assert piece, f"closed after {read!r}"
        read += piece
    return read


@contextlib.contextmanager
def socket_to_echo(world: World) -> Iterator[socket.socket]:
    """A websocket's connection, after its handshake."""
    head = (
        "GET /socket HTTP/1.1\nHost: echo.localhost\nUpgrade: websocket\nConnection: Upgrade\n"
        "Sec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    )
    with connected(world, head) as connection:
        answer = read_until(connection, b"hello")
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert b"\r\nUpgrade: websocket\r\n" in answer
        yield connection


@contextlib.contextmanager
def events(world: World) -> Iterator[socket.socket]:
    """The counter's stream of events, after its head."""
    head = "GET /events HTTP/1.1\nHost: shop.localhost\nAccept: text/event-stream"
    with connected(world, head) as connection:
        assert b"text/event-stream" in read_until(connection, b"data: ")
        yield connection


def ask(world: World, path: str, *, source: str = "127.0.0.1", **headers: str) -> list[str]:
    """What the app `echo` was asked, line by line."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", world.port, timeout=20, source_address=(source, 0)
    )
    with contextlib.closing(connection):
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET", path, headers={"Host": "echo.localhost"} | fields)
        response = connection.getresponse()
        assert response.status == 200
        return response.read().decode().splitlines()


def check_page(answer: Answer, status: int, title: str) -> None:
    """A page of Gatling's own."""
    assert answer.status == status
    assert f"<h1>{title}</h1>" in answer.text
    assert answer.headers["Content-Type"] == "text/html"
    assert "nginx" not in answer.text


def test_a_websocket_passes_both_ways(world: World) -> None:
    with socket_to_echo(world) as connection:
        for said in (b"one", bytes(range(256)), b"x" * 100_000):
            connection.sendall(said)
            got = b""
            while len(got) < len(said):
                got += connection.recv(65536)
            assert got == said
        connection.sendall(b"bye")
        assert connection.recv(1) == b"", "the app's end of it is the client's"


def test_events_are_not_held_back(world: World) -> None:
    with events(world) as first, events(world) as second:
        for _ in range(3):
            count = world.get("/increment", method="POST").text
            for stream in (first, second):
                stream.settimeout(60)
                read_until(stream, f"data: {count}\n\n".encode())


def test_open_connections_outlive_a_change_of_domains(world: World) -> None:
    with socket_to_echo(world) as connection, events(world) as stream:
        world.run("domains", "add", "echo", "while-connected.example")
        world.run("domains", "remove", "echo", "while-connected.example")
        count = world.get("/increment", method="POST").text
        read_until(stream, f"data: {count}\n\n".encode())
        connection.sendall(b"still there?")
        read_until(connection, b"still there?")


def test_what_is_under_way_ends_at_the_instance_it_reached(world: World) -> None:
    world.run("settings", "set", "echo", "instance.drain=6")
    before = world.status("echo")
    slow = "GET /after/1500 HTTP/1.1\nHost: echo.localhost\nConnection: close"
    with socket_to_echo(world) as connection, connected(world, slow) as request:
        connection.sendall(b"before")
        read_until(connection, b"before")
        restart = world.start("restart", "echo")
        until((world.home / f"apps/echo/route/{3 - before['slot']}").exists, "the switch")
        connection.sendall(b"after")
        read_until(connection, b"after")
        read_until(request, b"answered in the end")
        switched = time.monotonic()
        assert "at the previous instance, which ends in the background" in output_of(restart)
        assert world.last("echo")["outcome"] == "succeeded"
        # a socket that does not end by itself is ended with the instance
        assert connection.recv(1) == b""
        assert time.monotonic() < switched + 60
    until(lambda: world.last("echo")["probe"]["cut"] == 1, "the complete record")
    world.run("settings", "unset", "echo", "instance.drain")


def test_one_that_does_not_heed_its_end_is_killed_in_time(world: World) -> None:
    world.run("settings", "set", "echo", "instance.drain=0", "instance.stop=1.5")
    assert world.get("/stubborn", host="echo.localhost").text == "stays"
    old = world.status("echo")["pid"]
    world.run("restart", "echo")
    stop = next(s for s in world.last("echo")["steps"] if s["name"] == "stop_previous")
    assert 1.4 < stop["seconds"] < 25  # 30 if it were not set
    assert not Path(f"/proc/{old}").exists()
    world.run("settings", "unset", "echo", "instance.drain", "instance.stop")


def test_what_the_app_sees_of_a_request(world: World) -> None:
    host = f"echo.localhost:{world.port}"
    lines = ask(world, "/a%2Fb/c?x=1&y=%20z", Host=host)
    assert lines[0] == "GET /a%2Fb/c?x=1&y=%20z HTTP/1.1"
    for line in (
        f"Host: {host}",
        "X-Real-IP: 127.0.0.1",
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Proto: http",
        f"X-Forwarded-Host: {host}",
        f"X-Forwarded-Port: {world.port}",
    ):
        assert line in lines
    assert any(re.fullmatch("X-Request-Id: [0-9a-f]{32}", line) for line in lines)
    assert not any(line.startswith("Upgrade:") for line in lines)


def test_a_client_cannot_pretend(world: World) -> None:
    lines = ask(
        world, "/", source="127.0.0.2",
        X_Real_IP="203.0.113.9", X_Forwarded_For="203.0.113.9", X_Forwarded_Proto="https",
        X_Forwarded_Host="bank.example", X_Forwarded_Port="1", X_Request_Id="mine",
    )  # fmt: skip
    for line in (
        "X-Real-IP: 127.0.0.2", "X-Forwarded-For: 127.0.0.2", "X-Forwarded-Proto: http",
        "X-Forwarded-Host: echo.localhost",
        f"X-Forwarded-Port: {world.port}",
    ):  # fmt: skip
        assert line in lines
    assert "mine" not in "".join(lines)


def test_who_ends_tls_on_this_machine_is_believed(world: World) -> None:
    for said in ("https", "http", "https, http", "x"):
        lines = ask(world, "/", X_Forwarded_Proto=said, X_Forwarded_For="203.0.113.9")
        assert f"X-Forwarded-Proto: {'https' if said == 'https' else 'http'}" in lines
        assert "X-Forwarded-For: 203.0.113.9" in lines


def test_bodies_up_to_100_mb(world: World) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=30)
    with contextlib.closing(connection):
        connection.request("POST", "/", os.urandom(MB) * 20, headers={"Host": "echo.localhost"})
        response = connection.getresponse()
        assert response.status == 200
        assert f"Body-Bytes: {20 * MB}" in response.read().decode()
    # refused by what the client announces, before it sends anything
    head = f"POST / HTTP/1.1\nHost: echo.localhost\nContent-Length: {100 * MB + 1}"
    with connected(world, head) as raw:
        assert read_until(raw, b"\r\n").startswith(b"HTTP/1.1 413 ")
    head = f"POST / HTTP/1.1\nHost: echo.localhost\nContent-Length: {100 * MB}"
    with connected(world, f"{head}\nExpect: 100-continue") as raw:
        assert read_until(raw, b"\r\n").startswith(b"HTTP/1.1 100 ")
    # a chunked one reaches the app in chunks; nginx would count a small one that it has whole
    head = "POST / HTTP/1.1\nHost: echo.localhost\nTransfer-Encoding: chunked\nConnection: close"
    with connected(world, head) as raw:
        raw.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (MB, bytes(MB)))
        assert b"Transfer-Encoding: chunked" in read_until(raw, b"Body-Bytes: ")


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["/", "/some/where?x=1", "/unknown-host.html", "/down.html"])
def test_a_host_of_no_app(world: World, method: str, path: str) -> None:
    for host in ("nobody.localhost", "127.0.0.1", "localhost", "shop.localhost.example.com"):
        check_page(world.get(path, host=host, method=method), 404, "No app here")
    with connected(world, f"{method} {path} HTTP/1.0") as raw:
        assert b" 404 Not Found" in read_until(raw, b"</html>")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_an_app_without_an_answer(world: World, method: str) -> None:
    answer = world.get("/hangup", host="echo.localhost", method=method)
    check_page(answer, 502, "This request failed")
    assert answer.headers["Retry-After"] is None
    assert answer.headers["Cache-Control"] == "no-store"


def test_supervisord_keeps_what_nginx_logs(world: World) -> None:
    """In a file that supervisord rotates: nginx would let its own grow without end."""
    world.get("/hangup", host="echo.localhost")
    log = world.home / "nginx/nginx.out.log"
    until(lambda: "prematurely closed connection" in log.read_text(), "a line from nginx")
    assert not (world.home / "nginx/error.log").exists()


def test_an_error_of_the_app_is_its_own(world: World) -> None:
    for status in (404, 500, 502, 503):
        answer = world.get(f"/says/{status}", host="echo.localhost")
        assert (answer.status, answer.text) == (status, "the app's own page")
        assert answer.headers["Retry-After"] is None


def test_stopped_and_started(world: World) -> None:
    before = world.status("shop")
    for _ in range(2):
        assert "shop is stopped" in world.run("stop", "shop")
    assert world.status("shop")["state"] == "stopped"
    assert before["pid"] not in world.beams()
    for method in ("GET", "POST"):
        answer = world.get("/increment", method=method)
        check_page(answer, 503, DOWN)
        assert answer.headers["Retry-After"] == "10"
    assert world.get(host="echo.localhost").status == 200
    for _ in range(2):
        assert "shop is running" in world.run("start", "shop")
        assert world.get().status == 200
    after = world.status("shop")
    assert (after["release"], after["slot"]) == (before["release"], before["slot"])
    assert world.json("audit", "shop")[0]["action"] == "start"
