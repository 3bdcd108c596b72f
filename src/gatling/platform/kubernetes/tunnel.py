"""A TCP connection to a port of a pod, through the API server: what `kubectl port-forward` does.

Nothing listens for it anywhere: one end of a pair of sockets is given away, and a thread carries
what is written there to the pod and back. The protocol is `v4.channel.k8s.io` over WebSocket, which
all versions of Kubernetes understand: the first byte of a message is 0 for data and 1 for an
error, and the first message of each kind only repeats the number of the port.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from typing import TYPE_CHECKING, Any

import httpx2
import wsproto.connection
from wsproto.events import BytesMessage, CloseConnection, Message, Ping
from wsproto.utilities import ProtocolError

from gatling.errors import ClusterFailed
from gatling.platform.kubernetes import execute
from gatling.visible import one_line

if TYPE_CHECKING:
    from gatling.platform.kubernetes.client import Client

HEADERS = execute.HEADERS | {"Sec-WebSocket-Protocol": "v4.channel.k8s.io"}
DATA, ERROR = 0, 1
CHUNK = 1 << 16
STUCK_SECONDS = 30.0
"""For a write that the API server does not take, and for the rest of a record of TLS."""
FIRST_SECONDS = 10.0
_MAX_SAID = 300


def opened(client: Client, path: str, port: int, about: str) -> socket.socket:
    """A connection to the port of the pod with this path; raises ClusterFailed.

    The caller closes it. Whether the pod listens there shows only at the first read.
    """
    stack = contextlib.ExitStack()
    try:
        asked = [("ports", str(port))]
        stream, _ = stack.enter_context(
            client.upgraded(f"{path}/portforward", about, asked, HEADERS)
        )
        inner, outer = socket.socketpair()
        stack.callback(inner.close)
        pump = _Pump(stream, inner)
        threading.Thread(target=pump.run, args=(stack,), daemon=True).start()
    except BaseException:
        stack.close()
        raise
    return outer


class _Pump:
    """Carries bytes between a WebSocket and a socket, until one of them ends."""

    def __init__(self, stream: Any, inner: socket.socket) -> None:
        self._stream, self._inner = stream, inner
        self._remote: socket.socket = stream.get_extra_info("socket")
        self._frames = wsproto.connection.Connection(wsproto.connection.ConnectionType.CLIENT)
        self._message = bytearray()
        self._seen: set[int] = set()
        """The channels whose first message has come, with the number of the port."""

    def run(self, stack: contextlib.ExitStack) -> None:
        """Carry, and close both ends."""
        with (
            stack,
            contextlib.suppress(
                OSError, ValueError, httpx2.HTTPError, ProtocolError, ClusterFailed
            ),
        ):
            # what came with the answer to the upgrade is not in the socket any more
            if not self._received(self._stream.read(CHUNK, timeout=FIRST_SECONDS)):
                return
            self._remote.settimeout(STUCK_SECONDS)
            while self._carried():
                pass

    def _carried(self) -> bool:
        """Carry what is there; whether both ends are open still."""
        pending = getattr(self._remote, "pending", lambda: 0)()
        waits = [self._inner] if pending else [self._inner, self._remote]
        ready, _, _ = select.select(waits, [], [], 0 if pending else None)
        if (pending or self._remote in ready) and not self._received(self._remote.recv(CHUNK)):
            return False
        if self._inner in ready:
            data = self._inner.recv(CHUNK)
            if not data:
                self._remote.sendall(self._frames.send(CloseConnection(1000)))
                return False
            self._remote.sendall(self._frames.send(BytesMessage(bytes([DATA]) + data)))
        return True

    def _received(self, data: bytes) -> bool:
        if not data:
            return False
        self._frames.receive_data(data)
        for event in self._frames.events():
            if isinstance(event, CloseConnection):
                return False
            if isinstance(event, Ping):
                self._remote.sendall(self._frames.send(event.response()))
            if isinstance(event, Message):
                piece = event.data
                self._message += piece.encode() if isinstance(piece, str) else piece
                if event.message_finished:
                    whole, self._message = bytes(self._message), bytearray()
                    self._take(whole)
        return True

    def _take(self, message: bytes) -> None:
        channel = message[0] if message else DATA
        if channel not in self._seen:
            self._seen.add(channel)
        elif channel == DATA:
            self._inner.sendall(message[1:])
        elif channel == ERROR:
            said = one_line(message[1:].decode(errors="replace"))[:_MAX_SAID]
            raise ClusterFailed(f"The pod's node ended the connection: {said}.", reason="refused")
