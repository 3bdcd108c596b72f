"""TLS over a connection to a pod, for callers that read and write in threads of their own.

An object of `ssl` belongs to one thread at a time. So one end of a pair of sockets is given away,
and a thread carries what is written there.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time

from gatling.errors import NodeUnreachable

CHUNK = 1 << 16
STUCK_SECONDS = 30.0
"""For a write that one of the two ends does not take."""


def over(connection: socket.socket, context: ssl.SSLContext, name: str, within: float
         ) -> socket.socket:  # fmt: skip
    """A connection over TLS, whose other end must show a certificate with this name.

    The caller closes it, and `connection` goes with it. Raises NodeUnreachable.
    """
    connection.settimeout(within)
    try:
        encrypted = context.wrap_socket(connection, server_hostname=name)
    except (OSError, ValueError) as error:
        connection.close()
        raise NodeUnreachable(f"The node is not reached over TLS: {_why(error)}.") from error
    inner, outer = socket.socketpair()
    threading.Thread(target=_carry, args=(encrypted, inner), daemon=True).start()
    return outer


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return "it closed the connection"


def _carry(encrypted: ssl.SSLSocket, inner: socket.socket) -> None:
    """Carry bytes both ways until one of the two ends."""
    with encrypted, inner, contextlib.suppress(OSError, ValueError):
        encrypted.setblocking(False)
        while True:
            pending = encrypted.pending()
            ready, _, _ = select.select([encrypted, inner], [], [], 0 if pending else None)
            if pending or encrypted in ready:
                try:
                    data = encrypted.recv(CHUNK)
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    data = None
                if data == b"":
                    return
                if data:
                    inner.sendall(data)
            if inner in ready:
                data = inner.recv(CHUNK)
                if not data:
                    return
                _send(encrypted, data)


def _send(encrypted: ssl.SSLSocket, data: bytes) -> None:
    deadline = time.monotonic() + STUCK_SECONDS
    rest = memoryview(data)
    while rest:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        try:
            rest = rest[encrypted.send(rest) :]
        except ssl.SSLWantWriteError:
            select.select([], [encrypted], [], left)
        except ssl.SSLWantReadError:
            select.select([encrypted], [], [], left)
