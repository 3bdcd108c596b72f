"""The control channel: calls into a running node over Erlang's distribution, without epmd.

A hidden node on loopback for the time of some calls; it listens nowhere, and the cookie goes over
no command line. Source: the Erlang documentation, "Distribution Protocol" (erl_dist_protocol),
version 6 of the handshake, which OTP 23 and later speak.

The node runs an app's code, and any code there can answer in place of OTP. So an answer counts only
when it is addressed to the process that asked, whatever comes besides is bounded, and so are the
time, the bytes and the elements of each answer. All that can go wrong is NodeUnreachable.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from gatling import files
from gatling.beam import etf, until
from gatling.beam.etf import Atom, Opaque
from gatling.beam.handshake import LENGTH, Handshake, InUse
from gatling.errors import NodeUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gatling.platform.base import Address

    Way = Address | Callable[[], socket.socket]
    """The address of a node, or what connects to it in another way."""

CONNECT_SECONDS = 5.0
PATIENCE_SECONDS = 5.0
HANDSHAKES = 5
"""Tries to connect to a node that ends the connection within the handshake."""
TICK_SECONDS = 2.0
MAX_STRAYS = 1000
"""Messages besides the answer, ticks included, that one call puts up with."""
MAX_STRAY_BYTES = 32 << 20
_CONTROL_BYTES, _CONTROL_ELEMENTS = 4096, 64

_SEND, _REG_SEND, _MONITOR, _MONITOR_EXIT, _SEND_SENDER = 2, 6, 19, 21, 22
_PASS_THROUGH = 112
_TICK = b"\0\0\0\0"


class Limit(Struct, frozen=True):
    """How large an answer may be."""

    bytes: int
    elements: int


SMALL = Limit(64 << 10, 4_000)
LARGE = Limit(8 << 20, 400_000)


class Node:
    """A connection to a node; `connect` makes one."""

    def __init__(self, connection: socket.socket, own: Atom, creation: int) -> None:
        self._connection = connection
        self._own = own
        self._creation = creation
        # nobody has been asked by these before, nor by a command that was killed
        self._ident = secrets.randbits(31)
        self.pid = self._new_pid()
        """Stands for this connection: the node can monitor it."""
        self._sending, self._closed = threading.Lock(), threading.Event()
        threading.Thread(target=self._tick, daemon=True).start()

    def call(
        self,
        module: str,
        function: str,
        *arguments: Any,
        timeout: float = 30.0,
        limit: Limit = SMALL,
    ) -> Any:
        """The value of `module:function(arguments…)`, run in the node by a process of its own.

        Raises NodeUnreachable when the connection is lost, when no answer comes within `timeout`
        seconds or when it is no answer, and RemoteError when the function raises.
        """
        deadline = time.monotonic() + timeout
        asker = self._new_pid()
        # what it prints goes to the node's own output
        what = (Atom("call"), Atom(module), Atom(function), list(arguments), Atom("user"))
        # `rex` is the server behind rpc:call/4: {From, Request} is answered by {rex, Reply}
        self._send((_REG_SEND, asker, Atom(""), Atom("rex")), (asker, what), deadline)
        with _lost():
            message = self._answer(asker, limit, deadline)
        if not isinstance(message, tuple) or len(message) != 2 or message[0] != "rex":
            raise NodeUnreachable("The node sent a reply that belongs to no call.")
        value = message[1]
        if isinstance(value, tuple) and len(value) == 2 and value[0] == "badrpc":
            raise RemoteError(module, function, value[1])
        return value

    def close(self) -> None:
        """End the connection."""
        self._closed.set()
        self._connection.close()

    def _tick(self) -> None:
        """Keep the connection while nothing is asked: a boot check may take minutes.

        A node ends one over which nothing comes for its net_ticktime, 60 s unless the app sets it.
        """
        while not self._closed.wait(TICK_SECONDS):
            try:
                with self._sending:
                    self._connection.sendall(_TICK)
            except OSError:  # the next call says so
                return

    def _new_pid(self) -> Opaque:
        # NEW_PID_EXT: node, id, serial, creation
        self._ident += 1
        body = etf.encode(self._own)[1:] + struct.pack(">III", self._ident, 0, self._creation)
        return Opaque(b"\x58" + body)

    def _send(self, control: tuple[Any, ...], message: Any, deadline: float) -> None:
        data = bytes([_PASS_THROUGH]) + etf.encode(control)
        if message is not None:
            data += etf.encode(message)
        with _lost(), self._sending:
            self._connection.settimeout(until.left(deadline))
            self._connection.sendall(struct.pack(">I", len(data)) + data)

    def _answer(self, asker: Opaque, limit: Limit, deadline: float) -> Any:
        """Return the message to `asker`; drop all others."""
        dropped = 0
        for _ in range(MAX_STRAYS):
            (size,) = struct.unpack(">I", until.read(self._connection, 4, deadline))
            if size == 0:
                continue  # a tick; there are ticks of our own
            head = until.read(self._connection, min(size, _CONTROL_BYTES), deadline)
            if head[0] != _PASS_THROUGH:
                raise NodeUnreachable(f"The node sent a message of kind {head[0]}.")
            control, end = etf.decode_first(head[1:], _CONTROL_ELEMENTS)
            if not isinstance(control, tuple) or len(control) < 2:
                raise NodeUnreachable("The node sent a message without an address.")
            if control[0] in (_SEND, _SEND_SENDER) and control[-1] == asker:
                if size > limit.bytes:
                    raise NodeUnreachable(f"The node's answer has {size} bytes.")
                rest = until.read(self._connection, size - len(head), deadline)
                return etf.decode(head[1 + end :] + rest, limit.elements)
            dropped += size
            if dropped > MAX_STRAY_BYTES:
                break
            until.skip(self._connection, size - len(head), deadline)
            self._not_here(control, deadline)
        raise NodeUnreachable("The node floods the control connection with messages.")

    def _not_here(self, control: tuple[Any, ...], deadline: float) -> None:
        """Say that a process is gone which the node wants to monitor: one of an earlier command.

        {19, From, To, Reference} is answered by {21, To, From, Reference, Reason}.
        """
        if control[0] == _MONITOR and len(control) == 4 and control[2] != self.pid:
            gone = (_MONITOR_EXIT, control[2], control[1], control[3], Atom("noproc"))
            self._send(gone, None, deadline)


class RemoteError(NodeUnreachable):
    """A function that was called in the node raised; `reason` is its term.

    Users see only the kind of the error: the term may hold anybody's data.
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
    address: Way,
    node: str,
    cookie: str,
    patience: float = PATIENCE_SECONDS,
    gate: Path | None = None,
    within: float = CONNECT_SECONDS,
    length: struct.Struct = LENGTH,
) -> Iterator[Node]:
    """A connection to the node that listens there and is called `node`.

    One at a time: while another Gatling command is connected this waits for `patience` seconds,
    and then raises NodeInUse. `gate` is a file that commands lock while they are connected. Without
    it, of two that connect at the same moment the node may drop one after its handshake. Raises
    NodeUnreachable when nothing listens there, or another node, or one with another cookie.
    `length` is the form of lengths in the handshake.
    """
    waited_until = time.monotonic() + patience
    with _passed(gate, waited_until):
        connected = _waited_for(address, node, cookie, waited_until, within, length)
        try:
            yield connected
        finally:
            connected.close()


@contextlib.contextmanager
def _passed(gate: Path | None, waited_until: float) -> Iterator[None]:
    try:
        fd = os.open(gate, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600) if gate else None
    except OSError:  # a full disk, say: the node refuses a second connection itself, nearly always
        fd = None
    if fd is None:
        yield
        return
    with os.fdopen(fd, "r+") as file:
        while not files.try_lock(file):
            if time.monotonic() > waited_until:
                raise NodeInUse
            time.sleep(0.02)
        yield


def _waited_for(
    address: Way,
    node: str,
    cookie: str,
    waited_until: float,
    within: float,
    length: struct.Struct,
) -> Node:
    dropped = 0
    while True:
        try:
            return _connected(address, node, cookie, within, length)
        except InUse:
            if time.monotonic() > waited_until:
                raise NodeInUse from None
            time.sleep(0.02)
        except _Dropped:
            dropped += 1
            if dropped == HANDSHAKES:
                raise NodeUnreachable(
                    "The node closed the connection during the handshake."
                ) from None
            time.sleep(secrets.randbelow(100) / 1000)


class NodeInUse(NodeUnreachable):
    """Another Gatling command is connected to the node; nothing was asked of it."""

    def __init__(self) -> None:
        super().__init__("Another Gatling command is connected to the node.")


class _Dropped(Exception):
    """The node has closed the connection within the handshake.

    Because of the cookie, or of another command that connects at the same moment: the emulator lets
    the later one go on.
    """


def _connected(address: Way, node: str, cookie: str, within: float, length: struct.Struct) -> Node:
    deadline = time.monotonic() + within
    own, creation = _own_name(node, cookie), secrets.randbelow((1 << 32) - 4) + 4
    connection = address() if callable(address) else _dialled(address, within)
    try:
        with _lost():
            try:
                handshake = Handshake(connection, length, deadline)
                handshake.run(own, creation, node, cookie)
            except ConnectionError:
                raise _Dropped from None
    except BaseException:
        connection.close()
        raise
    return Node(connection, own, creation)


def _dialled(address: Address, within: float) -> socket.socket:
    connection = socket.socket()
    try:
        with _lost():
            connection.settimeout(within)
            for option in address.options:
                connection.setsockopt(*option)
            connection.connect((address.host, address.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        connection.close()
        raise
    return connection


def _own_name(node: str, cookie: str) -> Atom:
    """The name under which Gatling connects to a node. A new name each time would be a new atom.

    A handshake with this name, even without the cookie, delays or ends Gatling's connection. So
    the name cannot be guessed.
    """
    secret = hmac.new(cookie.encode(), node.encode(), "sha256").hexdigest()[:16]
    return Atom(f"gatling-{secret}@127.0.0.1")


@contextlib.contextmanager
def _lost() -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise NodeUnreachable("The node did not answer in time.") from None
    except ConnectionRefusedError:
        raise NodeUnreachable(
            "The node does not listen for Gatling's control connection. Do env.sh or vm.args turn"
            " distribution off or replace ERL_AFLAGS?"
        ) from None
    except OSError as error:
        raise NodeUnreachable(
            f"The connection to the node failed: {error.strerror or error}."
        ) from None
    except (struct.error, ValueError):
        raise NodeUnreachable("The node does not speak Erlang's distribution protocol.") from None
