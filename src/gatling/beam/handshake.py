"""The handshake of Erlang's distribution, as the node that connects.

Source: the Erlang documentation, "Distribution Protocol" (erl_dist_protocol), version 6 of the
handshake, which OTP 23 and later speak.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from typing import TYPE_CHECKING

from gatling.beam import until
from gatling.errors import NodeUnreachable

if TYPE_CHECKING:
    import socket

    from gatling.beam.etf import Atom

# Distribution flags of erl_dist_protocol: what OTP 25 demands of a node, and nothing that would
# change the messages' form (no atom cache, no fragments).
_FLAGS = sum(
    1 << bit
    for bit in (
        2,  # EXTENDED_REFERENCES
        3,  # DIST_MONITOR
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
_MAX_PACKET = 1 << 16
LENGTH, LENGTH_OVER_TLS = struct.Struct(">H"), struct.Struct(">I")
"""The length before each packet of a handshake; inet_tls_dist has it as after the handshake."""


class InUse(Exception):
    """The node has a connection from a node of this name, or has not noticed its end yet."""


class Handshake:
    """The packets by which two nodes get to know each other."""

    def __init__(self, connection: socket.socket, length: struct.Struct, deadline: float) -> None:
        self._connection, self._length, self._deadline = connection, length, deadline

    def run(self, own: Atom, creation: int, node: str, cookie: str) -> None:
        """Carry it out; raises NodeUnreachable for another node or cookie, and InUse."""
        name = own.encode()
        self._send(struct.pack(">cQIH", b"N", _FLAGS, creation, len(name)) + name)
        status = self._read()
        if status in (b"salive", b"snok"):
            # to answer `true` would end the other connection, which may carry out an upgrade
            raise InUse
        if status not in (b"sok", b"sok_simultaneous"):
            raise NodeUnreachable(
                f"The node refused a control connection: {status[1:].decode()!r}."
            )
        packet = self._read()
        kind, _flags, challenge, _creation, size = struct.unpack_from(">cQIIH", packet)
        theirs = packet[19 : 19 + size].decode()
        if kind != b"N" or theirs != node:
            raise NodeUnreachable(
                f"Another node listens on that port: {theirs!r} instead of {node!r}."
            )
        own_challenge = secrets.randbits(32)
        self._send(struct.pack(">cI", b"r", own_challenge) + _digest(cookie, challenge))
        answer = self._read()
        if answer[:1] != b"a" or not hmac.compare_digest(
            answer[1:], _digest(cookie, own_challenge)
        ):
            raise NodeUnreachable("The node has a different cookie.")

    def _send(self, data: bytes) -> None:
        self._connection.sendall(self._length.pack(len(data)) + data)

    def _read(self) -> bytes:
        head = until.read(self._connection, self._length.size, self._deadline)
        (size,) = self._length.unpack(head)
        if size > _MAX_PACKET:
            raise ValueError(size)
        return until.read(self._connection, size, self._deadline)


def _digest(cookie: str, challenge: int) -> bytes:
    # MD5 is what the protocol says
    return hashlib.md5(f"{cookie}{challenge}".encode(), usedforsecurity=False).digest()
