"""Commands in pods, with an API server that answers as it should, and ones that do not.

tests/cluster has a real one.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qs, urlsplit

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, Ping, RejectConnection, Request

from gatling.errors import ClusterFailed, CommandFailed, TimedOut
from gatling.platform.kubernetes import execute
from gatling.platform.kubernetes.api import Api
from gatling.platform.kubernetes.client import Client
from gatling.state.platforms import Connection
from tests.platform.kubernetes.test_check import TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
OK = b'\x03{"status":"Success"}'


def failed(**more: object) -> bytes:
    return b"\x03" + json.dumps({"status": "Failure", **more}).encode()


def status(number: int) -> bytes:
    causes = [{"reason": "ExitCode", "message": str(number)}]
    return failed(reason="NonZeroExitCode", details={"causes": causes})


class Pod:
    """One connection of an API server."""

    def __init__(self, socket: socket.socket) -> None:
        self._socket = socket
        self._websocket = WSConnection(ConnectionType.SERVER)
        self.request = self._next(Request)

    def accept(self, protocol: str = "v4.channel.k8s.io") -> None:
        self._socket.sendall(self._websocket.send(AcceptConnection(subprotocol=protocol)))

    def refuse(self, code: int, message: str) -> None:
        body = json.dumps({"kind": "Status", "message": message}).encode()
        self._socket.sendall(
            b"HTTP/1.1 %d No\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (code, len(body), body)
        )

    def say(self, *messages: bytes) -> None:
        for one in messages:
            self._socket.sendall(self._websocket.send(BytesMessage(data=one)))

    def heard(self) -> bytes:
        return bytes(self._next(BytesMessage).data)

    def pinged(self) -> None:
        self._next(Ping)

    def _next(self, kind: type[T]) -> T:
        while True:
            for event in self._websocket.events():
                if isinstance(event, kind):
                    return event
            data = self._socket.recv(65536)
            assert data, "the other side has ended"
            self._websocket.receive_data(data)


@contextlib.contextmanager
def pod(behave: Callable[[Pod], None]) -> Iterator[Api]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        wrong: list[BaseException] = []

        def serve() -> None:
            try:
                with server.accept()[0] as opened:
                    behave(Pod(opened))
            except BaseException as error:  # noqa: BLE001 (for the test)
                wrong.append(error)

        thread = threading.Thread(target=serve)
        thread.start()
        host = f"http://127.0.0.1:{server.getsockname()[1]}"
        with Client(Connection(server=host, namespace="shop", token=TOKEN)) as client:
            yield Api(client)
        thread.join()
        assert not wrong, wrong


def run(behave: Callable[[Pod], None], *, timeout: float = 20, limit: int = 99) -> execute.Ended:
    with pod(behave) as api:
        return api.execute("shop-1", ("echo", "a b&c"), timeout=timeout, limit=limit)


def test_a_command_has_its_output_errors_and_status() -> None:
    seen: list[Pod] = []

    def behave(one: Pod) -> None:
        seen.append(one)
        one.accept()
        one.say(b"\x01", b"\x02", b"\x01so", b"\x02no", b"\x01me\n", status(7))

    assert run(behave) == execute.Ended(7, b"some\n", b"no")
    asked = urlsplit(seen[0].request.target)
    assert asked.path == "/api/v1/namespaces/shop/pods/shop-1/exec"
    assert parse_qs(asked.query) == {
        "container": ["app"], "command": ["echo", "a b&c"], "stdin": ["false"],
        "stdout": ["true"], "stderr": ["true"], "tty": ["false"],
    }  # fmt: skip
    assert (b"authorization", f"Bearer {TOKEN}".encode()) in seen[0].request.extra_headers


def test_a_terminal_has_input_sizes_and_no_errors_of_its_own() -> None:
    heard: list[bytes] = []

    def behave(one: Pod) -> None:
        assert "stderr=false" in one.request.target
        one.accept("v5.channel.k8s.io")
        heard.extend(one.heard() for _ in range(3))
        one.say(OK)

    with pod(behave) as api, api.execution("shop-1", ("iex",), terminal=True, stdin=True) as one:
        one.resize(40, 120)
        one.send(b"1 + 1\n")
        assert one.end_input()
        assert one.receive(20) == []
        assert one.status == 0
    assert heard == [b'\x04{"Width": 120, "Height": 40}', b"\x001 + 1\n", b"\xff\x00"]


def test_an_older_cluster_cannot_end_the_input() -> None:
    def behave(one: Pod) -> None:
        one.accept()
        one.say(OK)

    with pod(behave) as api, api.execution("shop-1", ("cat",), stdin=True) as one:
        assert not one.end_input()


def test_output_that_is_put_back_comes_again() -> None:
    def behave(one: Pod) -> None:
        one.accept()
        one.say(b"\x011234\nrest", OK)

    with pod(behave) as api, api.execution("shop-1", ("sh",)) as one:
        found = one.receive(20)
        assert found[0] == (execute.STDOUT, b"1234\nrest")
        one.put_back(b"rest")
        assert one.receive(20)[0] == (execute.STDOUT, b"rest")


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ((failed(message='exec: "ls": not\x1b found.'),), r'exec: "ls": not\x1b found'),
        ((b"\x03[",), r"\["),
        ((status(7).replace(b'"7"', b'"x"'),), "Failure"),
    ],
)
def test_a_command_that_does_not_start_is_reported(messages: tuple[bytes, ...], said: str) -> None:
    def behave(one: Pod) -> None:
        one.accept()
        one.say(*messages)

    with pytest.raises(CommandFailed) as error:
        run(behave)
    assert "shop-1" in error.value.what
    assert said.replace("\\[", "[") in error.value.what


def test_what_is_refused_has_the_words_of_the_server() -> None:
    with pytest.raises(ClusterFailed, match="forbidden") as error:
        run(lambda one: one.refuse(403, "pods/exec is forbidden"))
    assert error.value.reason == "denied"
    with pytest.raises(ClusterFailed, match="not that of Kubernetes"):
        run(lambda one: one.refuse(200, ""))


def test_an_end_without_a_status_is_no_success() -> None:
    def behave(one: Pod) -> None:
        one.accept()
        one.say(b"\x01half")

    with pytest.raises(ClusterFailed, match=r"connection to the cluster .* broke") as error:
        run(behave)
    assert error.value.reason == "unreachable"


def test_a_connection_on_which_nothing_comes_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "PING_SECONDS", 0.05)
    monkeypatch.setattr(execute, "LOST_SECONDS", 0.3)
    over = threading.Event()

    def behave(one: Pod) -> None:
        one.accept()
        one.pinged()
        over.wait(20)

    with pod(behave) as api:
        with pytest.raises(ClusterFailed, match="no answer in time"):
            api.execute("shop-1", ("sleep",), timeout=20)
        over.set()


def test_a_connection_is_not_lost_because_nobody_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gatling was suspended for an hour, as with SIGSTOP or on a machine that was paused."""
    now, over = 0.0, threading.Event()
    monkeypatch.setattr(execute, "time", SimpleNamespace(monotonic=lambda: now))

    def behave(one: Pod) -> None:
        one.accept()
        one.pinged()
        one.say(b"\x01still here")
        over.wait(20)

    with pod(behave) as api, api.execution("shop-1", ("sh",)) as one:
        now = 3600
        found = one.receive(20)
        over.set()
    assert found == [(execute.STDOUT, b"still here")]


def test_output_that_comes_with_the_answer_to_the_request_is_not_left_out() -> None:
    over = threading.Event()

    def behave(one: Pod) -> None:
        accepted = one._websocket.send(AcceptConnection(subprotocol="v4.channel.k8s.io"))
        one._socket.sendall(accepted + one._websocket.send(BytesMessage(data=b"\x01early")))
        over.wait(20)

    with pod(behave) as api, api.execution("shop-1", ("sh",)) as one:
        found = one.receive(5)
        over.set()
    assert found == [(execute.STDOUT, b"early")]


def test_time_and_output_have_limits() -> None:
    over = threading.Event()

    def behave(one: Pod) -> None:
        one.accept()
        one.say(b"\x01" + b"x" * 50, b"\x02" + b"y" * 50)
        over.wait(20)

    for limit, timeout, kind in ((99, 20.0, CommandFailed), (100, 0.3, TimedOut)):
        over.clear()
        with pod(behave) as api:
            with pytest.raises(kind):
                api.execute("shop-1", ("yes",), timeout=timeout, limit=limit)
            over.set()


def test_a_frame_that_is_none_is_a_broken_connection() -> None:
    def behave(one: Pod) -> None:
        one.accept()
        one._socket.sendall(b"\xff\xff\xff\xff")

    with pytest.raises(ClusterFailed, match="broke"):
        run(behave)


def test_what_is_no_websocket_is_refused() -> None:
    def behave(one: Pod) -> None:
        one._socket.sendall(one._websocket.send(RejectConnection(status_code=500)))

    with pytest.raises(ClusterFailed, match="500"):
        run(behave)
