"""The control channel: calls into a running node over Erlang's distribution, without epmd.

A hidden node on loopback for the time of some calls; it listens nowhere, and the cookie goes over
no command line. Source: the Erlang documentation, "Distribution Protocol" (erl_dist_protocol),
version 6 of the handshake, which OTP 23 and later speak.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

from gatling.beam import etf
from gatling.beam.etf import Atom, Opaque
from gatling.errors import NodeUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_SECONDS = 5.0
PATIENCE_SECONDS = 5.0
MAX_MESSAGE = 256 << 20

# Distribution flags of erl_dist_protocol: what OTP 25 demands of a node, and nothing that would
# change the messages' form (no atom cache, no fragments).
_FLAGS = sum(
    1 << bit
    for bit in (
        2,  # EXTENDED_REFERENCES
        4,  # FUN_TAGS
        7,  # NEW_FUN_TAGS
        8,  # EXTENDED_PIDS_PORTS
        9,  # EXPORT_PTR_TAG
        10,  # BIT_BINARIES
        11,  # NEW_FLOATS
        16,  # UTF8_ATOMS
        17,  # MAP_TAG
        18,  # BIG_CREATION
        24,  # HANDSHAKE_23
        25,  # UNLINK_ID
        34,  # V4_NC
    )
)
_REG_SEND, _SEND, _SEND_SENDER = 6, 2, 22
_PASS_THROUGH = 112
_TICK = b"\0\0\0\0"


class Node:
    """A connection to a node; `connect` makes one."""

    def __init__(self, connection: socket.socket, own: Atom, creation: int) -> None:
        self._connection = connection
        self._own = own
        self._creation = creation
        self._calls = 0

    def call(self, module: str, function: str, *arguments: Any, timeout: float = 30.0) -> Any:
        """The value of `module:function(arguments…)`, run in the node by a process of its own.

        Raises NodeUnreachable when the connection is lost or no answer comes within `timeout`
        seconds, and RemoteError when the function raises.
        """
        self._calls += 1
        own = self._pid()
        # what it prints goes to the node's own output
        what = (Atom("call"), Atom(module), Atom(function), list(arguments), Atom("user"))
        # `rex` is the server behind rpc:call/4: {From, Request} is answered by {rex, Reply}
        self._send((_REG_SEND, own, Atom(""), Atom("rex")), (own, what))
        deadline = time.monotonic() + timeout
        while True:
            control, message = self._receive(deadline)
            if control[0] in (_SEND, _SEND_SENDER) and message[0] == "rex":
                break
        value = message[1]
        if isinstance(value, tuple) and len(value) == 2 and value[0] == "badrpc":
            raise RemoteError(module, function, value[1])
        return value

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def _pid(self) -> Opaque:
        # NEW_PID_EXT: node, id, serial, creation; another one for each call
        body = etf.encode(self._own)[1:] + struct.pack(">III", self._calls, 0, self._creation)
        return Opaque(b"\x58" + body)

    def _send(self, control: tuple[Any, ...], message: Any) -> None:
        data = bytes([_PASS_THROUGH]) + etf.encode(control) + etf.encode(message)
        with _lost():
            self._connection.sendall(struct.pack(">I", len(data)) + data)

    def _receive(self, deadline: float) -> tuple[tuple[Any, ...], Any]:
        """The next message. Ticks are answered meanwhile."""
        while True:
            with _lost():
                (size,) = struct.unpack(">I", _read(self._connection, 4, deadline))
                if size == 0:
                    self._connection.sendall(_TICK)
                    continue
                if size > MAX_MESSAGE:
                    raise NodeUnreachable(f"The node sent a message of {size} bytes.")
                data = _read(self._connection, size, deadline)
            if data[0] != _PASS_THROUGH:
                raise NodeUnreachable(f"The node sent a message of kind {data[0]}.")
            with _lost():
                control, rest = etf.decode_first(data[1:])
                return control, etf.decode(rest) if rest else None


class RemoteError(NodeUnreachable):
    """A function that was called in the node raised; `reason` is its term.

    Only the kind of error is told to users: the term may hold anybody's data.
    """

    def __init__(self, module: str, function: str, reason: Any) -> None:
        super().__init__(f"{module}:{function} failed in the node ({_kind(reason)}).")
        self.reason = reason


def _kind(reason: Any) -> str:
    """`undef` of `{'EXIT', {undef, Stack}}`."""
    while isinstance(reason, tuple) and reason:
        reason = reason[1] if reason[0] == "EXIT" and len(reason) > 1 else reason[0]
    return reason if isinstance(reason, Atom) else "an error"


@contextlib.contextmanager
def connect(
    port: int, node: str, cookie: str, patience: float = PATIENCE_SECONDS
) -> Iterator[Node]:
    """A connection to the node that listens on `port` of loopback and is called `node`.

    One at a time: while another Gatling command is connected this waits for `patience` seconds.
    Raises NodeUnreachable when nothing listens there, it is another node, it has another cookie, or
    the wait was in vain.
    """
    waited_until = time.monotonic() + patience
    while True:
        try:
            connected = _connected(port, node, cookie)
            break
        except _InUse:
            if time.monotonic() > waited_until:
                raise NodeUnreachable("Another Gatling command is talking to the node.") from None
            time.sleep(0.02)
    try:
        yield connected
    finally:
        connected.close()


class _InUse(Exception):
    """The node has a connection from a node of this name, or has not noticed its end yet."""


def _connected(port: int, node: str, cookie: str) -> Node:
    deadline = time.monotonic() + CONNECT_SECONDS
    # One name for all: each new one would be a new atom in the node, for ever.
    own, creation = Atom("gatling@127.0.0.1"), secrets.randbelow((1 << 32) - 4) + 4
    with _lost():
        connection = socket.create_connection(("127.0.0.1", port), timeout=CONNECT_SECONDS)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with _lost():
            _handshake(connection, own, creation, node, cookie, deadline)
    except BaseException:
        connection.close()
        raise
    return Node(connection, own, creation)


def _handshake(
    connection: socket.socket, own: Atom, creation: int, node: str, cookie: str, deadline: float
) -> None:
    name = own.encode()
    _send_packet(connection, struct.pack(">cQIH", b"N", _FLAGS, creation, len(name)) + name)
    status = _read_packet(connection, deadline)
    if status in (b"salive", b"snok"):
        # to answer `true` would end the other connection, which may be in the midst of an upgrade
        raise _InUse
    if status not in (b"sok", b"sok_simultaneous"):
        raise NodeUnreachable(f"The node refuses a control connection: {status[1:].decode()!r}.")
    packet = _read_packet(connection, deadline)
    kind, _flags, challenge, _creation, size = struct.unpack_from(">cQIIH", packet)
    theirs = packet[19 : 19 + size].decode()
    if kind != b"N" or theirs != node:
        raise NodeUnreachable(f"Another node listens there: {theirs!r} instead of {node!r}.")
    own_challenge = secrets.randbits(32)
    _send_packet(connection, struct.pack(">cI", b"r", own_challenge) + _digest(cookie, challenge))
    answer = _read_packet(connection, deadline)
    if answer[:1] != b"a" or not hmac.compare_digest(answer[1:], _digest(cookie, own_challenge)):
        raise NodeUnreachable("The node has another cookie.")


def _digest(cookie: str, challenge: int) -> bytes:
    # MD5 is what the protocol says
    return hashlib.md5(f"{cookie}{challenge}".encode(), usedforsecurity=False).digest()


def _send_packet(connection: socket.socket, data: bytes) -> None:
    connection.sendall(struct.pack(">H", len(data)) + data)


def _read_packet(connection: socket.socket, deadline: float) -> bytes:
    (size,) = struct.unpack(">H", _read(connection, 2, deadline))
    return _read(connection, size, deadline)


def _read(connection: socket.socket, size: int, deadline: float) -> bytes:
    data = bytearray()
    while len(data) < size:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        chunk = connection.recv(min(size - len(data), 1 << 20))
        if not chunk:
            raise ConnectionResetError("closed")
        data += chunk
    return bytes(data)


@contextlib.contextmanager
def _lost() -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise NodeUnreachable("The node did not answer in time.") from None
    except OSError as error:
        raise NodeUnreachable(f"The connection to the node failed: {error}.") from None
    except (struct.error, ValueError):
        raise NodeUnreachable("The node does not speak Erlang's distribution protocol.") from None
