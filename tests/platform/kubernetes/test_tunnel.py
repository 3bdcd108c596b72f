"""Connections to pods, over a server that speaks as the API server of Kubernetes does."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import struct
import threading
from typing import TYPE_CHECKING

import pytest

from gatling.errors import ClusterFailed
from gatling.platform.kubernetes.api import Api
from gatling.platform.kubernetes.client import Client
from gatling.state.platforms import Connection
from tests.platform.kubernetes.test_check import TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PORT = struct.pack("<H", 4370)
FIRST = (b"\0" + PORT, b"\1" + PORT)
"""The messages with which each channel begins."""


class Pod:
    """The server's end of a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.request = b""
        while b"\r\n\r\n" not in self.request:
            self.request += connection.recv(4096)

    def accept(self, *first: bytes) -> None:
        """Answer the request, with the first messages in the same packet."""
        (key,) = (
            line.partition(b": ")[2]
            for line in self.request.split(b"\r\n")
            if line.lower().startswith(b"sec-websocket-key")
        )
        accepted = base64.b64encode(hashlib.sha1(key + KEY.encode()).digest())  # noqa: S324
        answer = (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Protocol: v4.channel.k8s.io\r\nSec-WebSocket-Accept: "
            + accepted + b"\r\n\r\n"
        )  # fmt: skip
        self.connection.sendall(answer + b"".join(map(frame, first)))

    def send(self, message: bytes) -> None:
        self.connection.sendall(frame(message))

    def receive(self) -> bytes:
        """The content of the next message of the client, which is masked."""
        head = self._exactly(2)
        size = head[1] & 0x7F
        if size == 126:
            (size,) = struct.unpack(">H", self._exactly(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", self._exactly(8))
        mask = self._exactly(4)
        data = self._exactly(size)
        return bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.connection.recv(size - len(data))
            if not more:
                raise ConnectionResetError
            data += more
        return data


def frame(message: bytes) -> bytes:
    if len(message) < 126:
        return bytes([0x82, len(message)]) + message
    return bytes([0x82, 126]) + struct.pack(">H", len(message)) + message


@contextlib.contextmanager
def cluster(serve: Callable[[Pod], None]) -> Iterator[Api]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                serve(Pod(connection))

        thread = threading.Thread(target=run)
        thread.start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with Client(Connection(server=address, namespace="shop", token=TOKEN)) as client:
            yield Api(client)
        thread.join(10)


def test_bytes_go_there_and_back() -> None:
    seen = []

    def serve(pod: Pod) -> None:
        seen.append(pod.request)
        pod.accept(*FIRST)
        for _ in range(2):
            message = pod.receive()
            assert message[0] == 0
            pod.send(b"\0" + message[1:].upper())

    with cluster(serve) as api, api.connect("shop-1", 4370) as connection:
        connection.settimeout(10)
        connection.sendall(b"hello")
        assert connection.recv(100) == b"HELLO"
        connection.sendall(b"a" * 300)
        assert connection.recv(300, socket.MSG_WAITALL) == b"A" * 300
    (request,) = seen
    assert request.startswith(b"GET /api/v1/namespaces/shop/pods/shop-1/portforward?ports=4370 ")
    assert b"v4.channel.k8s.io" in request
    assert f"Bearer {TOKEN}".encode() in request


def test_data_that_comes_with_the_answer_is_not_lost() -> None:
    def serve(pod: Pod) -> None:
        pod.accept(*FIRST, b"\0first")
        pod.receive()

    with cluster(serve) as api, api.connect("shop-1", 4370) as connection:
        connection.settimeout(10)
        assert connection.recv(100) == b"first"


@pytest.mark.parametrize("end", ["close", "error", "garbage"])
def test_the_end_of_the_pod_s_side_is_the_end(end: str) -> None:
    def serve(pod: Pod) -> None:
        pod.accept(*FIRST)
        if end == "error":
            pod.send(b"\1an error forwarding port 4370: connection refused")
            pod.receive()
        elif end == "garbage":
            pod.connection.sendall(b"\xff" * 64)

    with cluster(serve) as api, api.connect("shop-1", 4370) as connection:
        connection.settimeout(10)
        assert connection.recv(100) == b""


def test_a_missing_right_is_named() -> None:
    def serve(pod: Pod) -> None:
        body = b'{"kind":"Status","message":"pods is forbidden: cannot create pods/portforward"}'
        pod.connection.sendall(
            b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )

    with cluster(serve) as api, pytest.raises(ClusterFailed, match="portforward") as raised:
        api.connect("shop-1", 4370)
    assert raised.value.reason == "denied"
    assert "Role" in raised.value.hint
