"""Asking root's helper (service.py) for what only it can do."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from typing import Any

from gatling.errors import HelperFailed
from gatling.supervisor.units import RUN

SOCKET = f"{RUN}/helper.sock"


class Call:
    """A request under way: programs go on until `answer` has their end."""

    def __init__(self, verb: str, arguments: dict[str, Any], files: tuple[int, ...] = ()) -> None:
        payload = json.dumps({"verb": verb, **arguments}).encode()
        self.verb = verb
        self._data = b""
        self.connection = socket.socket(socket.AF_UNIX)
        try:
            self.connection.connect(SOCKET)
            head = struct.pack("!I", len(payload))
            socket.send_fds(self.connection, [head], list(files))
            self.connection.sendall(payload)
        except OSError as error:
            self.connection.close()
            raise HelperFailed(
                f"The helper does not take requests: {error.strerror or error}.",
                hint="`systemctl status gatling-helper.socket`; `gatling server check` (as root).",
            ) from None

    def cancel(self) -> None:
        """Say that the result is not waited for any more; once."""
        with contextlib.suppress(OSError):
            self.connection.sendall(b"c")

    def answer(self) -> dict[str, Any]:
        """Wait for the end; raises HelperFailed when the helper refuses or fails.

        Whoever is interrupted while he waits may call it again.
        """
        while piece := self.connection.recv(65536):
            self._data += piece
        self.connection.close()
        try:
            answer: dict[str, Any] = json.loads(self._data)
        except ValueError:
            raise HelperFailed(
                f"The helper ended without an answer to {self.verb}.",
                hint="`journalctl -u 'gatling-helper@*'` says why.",
            ) from None
        if "refused" in answer:
            raise HelperFailed(f"The helper refuses {self.verb}: {answer['refused']}.")
        if "failed" in answer:
            raise HelperFailed(
                f"{self.verb}: {answer['failed']}.", log=answer.get("log", "").splitlines()
            )
        return answer


def ask(verb: str, **arguments: Any) -> dict[str, Any]:
    """A request that ends by itself; its answer."""
    return Call(verb, arguments).answer()
