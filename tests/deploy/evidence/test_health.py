"""When a new instance counts as healthy, and what is said of one that is not."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from msgspec import structs

from gatling import proc
from gatling.deploy.evidence import health
from gatling.errors import Exit, UnhealthyRelease
from gatling.platform.base import State, Status, local_status
from gatling.platform.local import LocalInstances
from gatling.project.settings import Health
from gatling.state.apps import App
from tests.deploy.evidence.conftest import Server, raw_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gatling.platform.base import Slot

RUNNING = local_status(State.RUNNING, os.getpid())


def wait(
    port: int,
    timeout: float = 0.4,
    path: str = "/",
    status: Callable[[], Status] = lambda: RUNNING,
    interval: float = 0.02,
    process: str | None = None,
) -> str | None:
    settings = Health(path=path, timeout=timeout, interval=interval)
    return health.wait_healthy(One(status), app(port), 1, settings, process)


class One(LocalInstances):
    """An instance of which nothing is true but its status, and whose ports are real."""

    def __init__(self, status: Callable[[], Status], user: int | None = None) -> None:
        self._status, self._user = status, user

    def status(self, app: str, slot: Slot) -> Status:  # noqa: ARG002
        return self._status()

    def user(self, app: str) -> int | None:  # noqa: ARG002
        return os.getuid() if self._user is None else self._user


def app(port: int, node_port: int = 0) -> App:
    return App(
        name="shop", created_at="", wanted="running", live_release=1, live_slot=1, settings={},
        domains=("shop.example.com",), ports={1: port}, node_ports={1: node_port},
    )  # fmt: skip


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """A clock that goes on only between two checks, however slow the machine is."""
    now = 0.0

    def sleep(_: int, seconds: float) -> bool:
        nonlocal now
        now += seconds
        return False

    monkeypatch.setattr(health, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(proc, "wait_gone", sleep)
    return lambda: now


def sick(
    port: int,
    timeout: float = 0.4,
    path: str = "/",
    interval: float = 0.02,
    clock: Callable[[], float] = time.monotonic,
) -> UnhealthyRelease:
    started = clock()
    with pytest.raises(UnhealthyRelease) as caught:
        wait(port, timeout, path, interval=interval)
    assert timeout / 2 <= clock() - started < timeout + 20
    assert caught.value.exit_status == Exit.UNHEALTHY
    assert f"within {timeout:g} s: GET {path}: " in caught.value.what
    return caught.value


@pytest.mark.parametrize("status", [200, 204, 302, 404, 499])
def test_any_answer_below_500_will_do(server: Server, status: int) -> None:
    server.statuses = [status]
    wait(server.port, timeout=60, path="/up?full=1")
    ((path, headers),) = server.requests
    assert path == "/up?full=1"
    assert headers["Host"] == "shop.example.com"
    assert headers["User-Agent"] == "gatling-health-check"


@pytest.mark.parametrize("status", [500, 503, 599])
def test_an_error_will_not(server: Server, status: int, clock: Callable[[], float]) -> None:
    server.statuses = [status]
    error = sick(server.port, path="/up", clock=clock)
    assert f"it answered {status}" in error.what
    assert "health.path" in error.hint
    assert len(server.requests) > 1


def test_an_app_that_sends_to_https_is_asked_as_by_https(server: Server) -> None:
    server.wants_https = True
    wait(server.port, timeout=60, path="/up")
    assert [headers.get("X-Forwarded-Proto") for _, headers in server.requests] == [None, "https"]
    server.statuses = [500]
    assert "it answered 500" in sick(server.port, path="/up").what


def test_what_it_answered_counts_more_than_a_last_look_without_time() -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(10_000)
        time.sleep(0.1)  # longer than the last look, which begins when the time is up
        connection.sendall(b"HTTP/1.1 501 Sorry\r\nContent-Length: 0\r\n\r\n")
        connection.close()

    with raw_server(serve) as port:
        assert "it answered 501" in sick(port, timeout=2).what


def test_a_redirect_that_stays_one_will_do() -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(10_000)
        head = b"HTTP/1.1 302 Found\r\nLocation: https://login.example.com/\r\n"
        connection.sendall(head + b"Content-Length: 0\r\n\r\n")
        connection.close()

    with raw_server(serve) as port:
        wait(port, timeout=60)


def test_how_often_it_is_asked(server: Server, clock: Callable[[], float]) -> None:
    server.statuses = [503]
    asked = []
    for interval in (0.2, 0.02):
        server.requests.clear()
        sick(server.port, timeout=0.9, interval=interval, clock=clock)
        asked.append(len(server.requests))
    assert 2 <= asked[0] <= 6
    assert asked[1] > asked[0] + 1


def test_errors_at_first_are_no_failure(server: Server) -> None:
    server.statuses = [503, 0, 500, 200]
    wait(server.port, timeout=20)
    assert len(server.requests) == 4


def test_nothing_listens(closed_port: int) -> None:
    error = sick(closed_port)
    assert f"nothing listens on port {closed_port}" in error.what
    assert "PORT" in error.hint


@pytest.mark.parametrize(
    ("family", "address", "shown"),
    [
        (socket.AF_INET6, "::1", "[::1]:{port}"),
        (socket.AF_INET, "127.0.0.2", "127.0.0.2:{port}"),
        (socket.AF_UNIX, "socket", "{path}"),
    ],
    ids=["IPv6", "another address", "unix socket"],
)
def test_it_listens_elsewhere(
    closed_port: int, tmp_path: Path, family: socket.AddressFamily, address: str, shown: str
) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(family) as listening, socket.socket() as distribution:
        listening.bind(path if family == socket.AF_UNIX else (address, closed_port))
        listening.listen()
        distribution.bind(("127.0.0.1", 0))
        distribution.listen()
        node_port = distribution.getsockname()[1]
        with pytest.raises(UnhealthyRelease) as caught:
            health.wait_healthy(
                One(lambda: local_status(State.RUNNING, os.getpid())),
                app(closed_port, node_port),
                1,
                Health(timeout=0.3),
            )
    where = shown.format(port=closed_port, path=path)
    assert f"nothing listens on port {closed_port}, the app listens on {where}" in caught.value.what
    assert str(node_port) not in caught.value.what
    assert ("127.0.0.1" if family != socket.AF_UNIX else "PORT") in caught.value.hint


def test_the_ports_of_the_other_instance_are_not_shown(closed_port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as web, socket.create_server(("127.0.0.1", 0)) as n:
        other, node = web.getsockname()[1], n.getsockname()[1]
        both = structs.replace(
            app(closed_port), ports={1: closed_port, 2: other}, node_ports={1: 0, 2: node}
        )
        with pytest.raises(UnhealthyRelease) as caught:
            health.wait_healthy(
                One(lambda: local_status(State.RUNNING, os.getpid())),
                both, 1, Health(timeout=0.3),
            )  # fmt: skip
    assert caught.value.what.endswith(f"nothing listens on port {closed_port}.")
    assert "health.timeout" in caught.value.hint


def test_a_server_that_begins_to_listen_late(closed_port: int) -> None:
    looks = 0
    listening: list[socket.socket] = []

    def status() -> Status:
        nonlocal looks
        looks += 1
        if looks == 5:
            listening.append(socket.create_server(("127.0.0.1", closed_port)))
            threading.Thread(target=answer, daemon=True).start()
        return local_status(State.STARTING if looks < 5 else State.RUNNING, os.getpid())

    def answer() -> None:
        connection, _ = listening[0].accept()
        with connection:
            connection.recv(10_000)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    wait(closed_port, timeout=20, status=status)
    assert looks >= 5
    listening[0].close()


def test_a_server_that_never_answers() -> None:
    with raw_server(lambda _connection: None) as port:
        error = sick(port)
    assert "took the connection but did not answer" in error.what
    assert "health.timeout" in error.hint


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", "it closed the connection without an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "its answer was not HTTP"),
        (b"HTTP/1.1 2", "its answer was not HTTP"),
    ],
)
def test_a_server_that_closes_the_connection_or_is_no_http_server(
    sent: bytes, said: str, clock: Callable[[], float]
) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(10_000)
        connection.sendall(sent)
        connection.close()

    with raw_server(serve) as port:
        error = sick(port, clock=clock)
    assert said in error.what


@pytest.mark.parametrize("state", [State.STOPPED, State.RESTARTING, State.FAILED])
def test_an_instance_that_exits_is_not_waited_for(closed_port: int, state: State) -> None:
    answers = iter([RUNNING, RUNNING, Status(state)])
    started = time.monotonic()
    with pytest.raises(UnhealthyRelease, match="exited at boot") as caught:
        wait(closed_port, timeout=60, status=lambda: next(answers))
    assert time.monotonic() - started < 10
    assert caught.value.hint == "Its last lines are above."


def test_an_instance_that_was_restarted_meanwhile_has_exited_too(closed_port: int) -> None:
    answers = iter([RUNNING, local_status(State.STARTING, os.getppid())])
    with pytest.raises(UnhealthyRelease, match="exited at boot"):
        wait(closed_port, timeout=60, status=lambda: next(answers))


def test_the_status_is_not_asked_for_with_each_check(closed_port: int) -> None:
    looks: list[float] = []

    def status() -> Status:
        looks.append(time.monotonic())
        return local_status(State.STARTING, os.getpid())

    with pytest.raises(UnhealthyRelease):
        wait(closed_port, timeout=0.4, status=status, interval=0.002)
    seldom = 1 + (looks[-1] - looks[0]) / health.STATUS_SECONDS
    assert len(looks) <= seldom + 1  # the last one is for the ports on which it listens instead


def test_the_end_of_its_process_is_noticed_at_once(closed_port: int) -> None:
    with subprocess.Popen(["sleep", "0.3"]) as ends:

        def status() -> Status:
            gone = ends.poll() is not None
            return Status(State.FAILED) if gone else local_status(State.STARTING, ends.pid)

        with pytest.raises(UnhealthyRelease, match="exited at boot"):
            wait(closed_port, timeout=60, status=status, interval=50)


def test_it_must_be_the_process_that_was_seen_before(server: Server) -> None:
    assert wait(server.port, timeout=60) == RUNNING.process
    assert wait(server.port, timeout=60, process=RUNNING.process) == RUNNING.process
    with pytest.raises(UnhealthyRelease, match="exited at boot"):
        wait(server.port, process="6")


def test_a_stranger_that_answers_does_not_make_up_for_an_exit(server: Server) -> None:
    with pytest.raises(UnhealthyRelease, match="exited at boot"):
        wait(server.port, timeout=60, status=lambda: Status(State.STOPPED))
    assert server.requests == []


def test_one_check_takes_no_longer_than_the_whole_time() -> None:
    entered = threading.Event()

    def serve(_connection: socket.socket) -> None:
        entered.set()

    with raw_server(serve) as port:
        sick(port, timeout=0.2)
        assert entered.wait(60)


def test_the_answer_of_another_user_does_not_count(server: Server) -> None:
    other = One(lambda: RUNNING, os.getuid() + 1)
    with pytest.raises(UnhealthyRelease, match=f"Another user .* listens on port {server.port}"):
        health.wait_healthy(other, app(server.port), 1, Health())


def test_an_answer_of_another_users_process_is_not_the_apps(server: Server) -> None:
    own, other = One(lambda: RUNNING), One(lambda: RUNNING, os.getuid() + 1)
    assert health.check(own, app(server.port), 1, "/", 20).healthy
    answer = health.check(other, app(server.port), 1, "/", 20)
    assert not answer.healthy
    assert "another user of this machine listens" in str(answer)
