"""Talking to supervisord: XML-RPC over its unix socket (supervisord.org/api.html).

Apart from the rest since it is slow to load, and most commands can do without. supervisor has a
transport of its own, which is slower to load by as much again, and waits for an answer without end.
"""

from __future__ import annotations

import http.client
import socket
import xmlrpc.client
from typing import TYPE_CHECKING, Any

from gatling.errors import SupervisorFailed

if TYPE_CHECKING:
    from pathlib import Path


class Client:
    """The calls of supervisord's main interface."""

    def __init__(self, path: Path) -> None:
        self._transport = _UnixTransport(path)
        self._proxy = xmlrpc.client.ServerProxy("http://supervisor/RPC2", transport=self._transport)

    def call(self, method: str, *arguments: object) -> Any:
        """Call a method of the `supervisor` namespace; raises SupervisorFailed."""
        try:
            return getattr(self._proxy.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            raise SupervisorFailed(
                f"supervisord refuses {method}: {fault.faultString}.", fault=fault.faultCode
            ) from None
        except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
            raise SupervisorFailed(
                f"supervisord does not answer: {error}.", hint="`gatling up` starts it."
            ) from None
        finally:
            self._transport.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("supervisor", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        # A connection for each call: supervisord may have been restarted in between.
        made = _UnixConnection(self._path)
        self._connection = (host, made)  # what `close` closes
        return made
