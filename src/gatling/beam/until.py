"""Bytes from a socket until a deadline, in seconds of time.monotonic()."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket


def read(connection: socket.socket, size: int, deadline: float) -> bytes:
    """So many bytes. Raises TimeoutError after the deadline, and OSError."""
    data = bytearray()
    while len(data) < size:
        data += _chunk(connection, size - len(data), deadline)
    return bytes(data)


def skip(connection: socket.socket, size: int, deadline: float) -> None:
    """Leave so many bytes out; raises as `read`."""
    while size > 0:
        size -= len(_chunk(connection, size, deadline))


def _chunk(connection: socket.socket, most: int, deadline: float) -> bytes:
    connection.settimeout(left(deadline))
    chunk = connection.recv(min(most, 1 << 16))
    if not chunk:
        raise ConnectionResetError("closed")
    return chunk


def left(deadline: float) -> float:
    """The seconds until a deadline of time.monotonic(); raises TimeoutError when there are none."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds
