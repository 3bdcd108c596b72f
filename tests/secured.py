"""TLS on a connection that the other side may reset at any time."""

from __future__ import annotations

import ssl
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket


def wrapped(raw: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    """`raw` after a handshake; it is closed when that fails.

    Python (3.11 to 3.13) leaves the new socket to the collector when the connection was reset
    before the handshake, and the tests would report that.

    Raises:
        OSError: also an `ssl.SSLError`.

    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "unclosed <ssl.SSLSocket", ResourceWarning)
            try:
                return context.wrap_socket(raw, server_hostname=host)
            except ssl.SSLError:
                raise
            except OSError as error:
                number, text = error.errno, error.strerror
            # the error is gone, and its socket with it
        raise OSError(number, text)
    except BaseException:
        raw.close()
        raise
