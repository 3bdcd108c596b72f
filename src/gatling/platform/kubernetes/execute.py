"""A command in a pod that runs: a websocket of the API server, with a channel for each stream.

The frames are those of Kubernetes' remotecommand: the first byte of each message names its channel.
One thread does everything, so that an interruption ends it, and so that no thread is left behind
where a cluster does not answer any more.
"""

from __future__ import annotations

import json
import os
import select
import time
from base64 import b64encode
from typing import TYPE_CHECKING

from httpcore2 import ReadTimeout
from msgspec import Struct
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.utilities import ProtocolError

from gatling.errors import CommandFailed, TimedOut
from gatling.visible import one_line

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from httpcore2 import NetworkStream

    from gatling.errors import ClusterFailed

STDIN, STDOUT, STDERR, RESULT, SIZE = range(5)
"""Channels."""
_END, _NEWEST = 255, "v5.channel.k8s.io"
"""The channel that ends another one, which this protocol has (Kubernetes 1.30 and newer)."""
HEADERS = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": b64encode(os.urandom(16)).decode(),
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Protocol": f"{_NEWEST}, v4.channel.k8s.io",
}
PING_SECONDS = 15.0
LOST_SECONDS = 45.0
"""A connection on which so long nothing came, not even the answer to a ping, is lost."""
_CHUNK = 65536
_LEADING = 0.001
"""Seconds in which bytes are read that came with the answer to the request."""


class Ended(Struct, frozen=True):
    """A command that has ended."""

    status: int
    output: bytes
    errors: bytes


class Execution:
    """A command that runs in a pod. All calls raise ClusterFailed when the connection is lost."""

    def __init__(
        self,
        stream: NetworkStream,
        protocol: str,
        pod: str,
        lost: Callable[[Exception], ClusterFailed],
    ) -> None:
        self._stream, self._pod, self._lost = stream, pod, lost
        self._socket: socket.socket = stream.get_extra_info("socket")
        self._websocket = Connection(ConnectionType.CLIENT)
        self._halves = protocol == _NEWEST
        self._message = b""
        self._early: list[tuple[int, bytes]] = []
        self._asked, self._unanswered = time.monotonic(), 0
        self._leading = True
        self.status: int | None = None
        """The exit status, once it has ended."""

    def fileno(self) -> int:
        """Readable when `receive` has something; ask `waiting` first."""
        return self._socket.fileno()

    @property
    def waiting(self) -> bool:
        """Whether bytes may have been received that the socket does not show any more."""
        if self._leading:  # those that came with the answer to the request
            return True
        pending = getattr(self._socket, "pending", None)
        return pending is not None and pending() > 0

    def send(self, data: bytes, channel: int = STDIN) -> None:
        """Bytes for its standard input."""
        for at in range(0, len(data), _CHUNK):
            part = data[at : at + _CHUNK]
            self._write(self._websocket.send(BytesMessage(data=bytes([channel]) + part)))

    def resize(self, lines: int, columns: int) -> None:
        """The size of its terminal."""
        self.send(json.dumps({"Width": columns, "Height": lines}).encode(), SIZE)

    def end_input(self) -> bool:
        """Let it find the end of its standard input; False where the cluster is too old for that.

        The end of the connection is none either: the command goes on.
        """
        if self._halves:
            self._write(self._websocket.send(BytesMessage(data=bytes([_END, STDIN]))))
        return self._halves

    def to_its_end(
        self,
        timeout: float,
        limit: int,
    ) -> Ended:
        """Wait until it has ended; `Api.execute` says what is raised."""
        deadline = time.monotonic() + timeout
        kept: dict[int, bytearray] = {STDOUT: bytearray(), STDERR: bytearray()}
        while self.status is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimedOut(f"The command in the pod {self._pod} took over {timeout:.0f} s.")
            for channel, data in self.receive(left):
                kept[channel] += data
            if sum(map(len, kept.values())) > limit:
                raise CommandFailed(f"The command in the pod {self._pod} printed over {limit} B.")
        return Ended(self.status, bytes(kept[STDOUT]), bytes(kept[STDERR]))

    def receive(self, seconds: float) -> list[tuple[int, bytes]]:
        """Output that has come, with its channel; empty after so many seconds, and at the end.

        Raises CommandFailed for a command that could not be started.
        """
        found, self._early = self._early, []
        deadline = time.monotonic() + seconds
        while not found and self.status is None:
            now = time.monotonic()
            left = min(deadline, self._asked + PING_SECONDS) - now
            if not self.waiting and not select.select([self._socket], [], [], max(0.0, left))[0]:
                self.keep_alive()
                if time.monotonic() >= deadline:
                    break
                continue
            found = self._read()
        return found

    def put_back(self, data: bytes) -> None:
        """Output that `receive` is to return again."""
        if data:
            self._early.insert(0, (STDOUT, data))

    def keep_alive(self) -> None:
        """Ask for a sign of life when it is time; raises ClusterFailed if none came for long.

        Only questions without an answer count: when this process was suspended, nothing came
        because nothing was asked.
        """
        now = time.monotonic()
        if now - self._asked >= PING_SECONDS:
            if (self._unanswered + 1) * PING_SECONDS >= LOST_SECONDS:
                raise self._lost(TimeoutError())
            self._asked, self._unanswered = now, self._unanswered + 1
            self._write(self._websocket.send(Ping()))

    def _read(self) -> list[tuple[int, bytes]]:
        try:
            data = self._stream.read(_CHUNK, timeout=_LEADING if self._leading else LOST_SECONDS)
        except ReadTimeout as error:
            if self._leading:
                self._leading = False
                return []
            raise self._lost(error) from error
        except Exception as error:
            raise self._lost(error) from error
        self._leading = self._leading and len(data) == _CHUNK
        self._asked, self._unanswered = time.monotonic(), 0
        found: list[tuple[int, bytes]] = []
        try:
            self._websocket.receive_data(data or None)
            for event in self._websocket.events():
                if isinstance(event, Ping):
                    self._write(self._websocket.send(event.response()))
                elif isinstance(event, BytesMessage):
                    self._message += event.data
                    if event.message_finished:
                        message, self._message = self._message, b""
                        self._sort(message, found)
                elif isinstance(event, (CloseConnection, TextMessage)) and self.status is None:
                    raise self._lost(EOFError())
                elif not isinstance(event, (Pong, CloseConnection)):
                    raise ProtocolError(repr(event))
        except ProtocolError as error:
            raise self._lost(error) from error
        return found

    def _sort(self, message: bytes, found: list[tuple[int, bytes]]) -> None:
        channel, data = (message[0], message[1:]) if message else (STDOUT, b"")
        if channel == RESULT:
            self.status = self._result(data)
        elif channel in (STDOUT, STDERR) and data:
            found.append((channel, data))

    def _result(self, data: bytes) -> int:
        """The exit status, as Kubernetes has it; CommandFailed for another end."""
        said = data.decode(errors="replace")
        try:
            answer = json.loads(said)
            if answer["status"] == "Success":
                return 0
            for cause in (answer.get("details") or {}).get("causes") or ():
                if cause.get("reason") == "ExitCode":
                    return int(cause["message"])
            said = str(answer.get("message") or said)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass
        raise CommandFailed(
            f"The command did not run in the pod {self._pod}: {one_line(said)[:400].rstrip('.')}."
        )

    def _write(self, data: bytes) -> None:
        try:
            self._stream.write(data, timeout=LOST_SECONDS)
        except Exception as error:
            raise self._lost(error) from error
