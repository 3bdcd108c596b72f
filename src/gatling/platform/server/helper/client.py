"""Asking root's helper (service.py) for what only it can do."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from typing import Any

from gatling.errors import HelperFailed
from gatling.platform.server.units import OWNER as USER
from gatling.platform.server.units import RUN

SOCKET = f"{RUN}/helper.sock"
READERS = {"logs": f"{RUN}/logs.sock"}
"""Verbs with a socket of their own: any number of readers leave the other one free."""


INVALID = "invalid-input"
"""The helper's code for what a person gave and can correct; its text is for that person."""


class Call:
    """A request under way: programs go on until `answer` has their end."""

    def __init__(self, verb: str, arguments: dict[str, Any], files: tuple[int, ...] = ()) -> None:
        actor = os.environ.get("GATLING_ACTOR") or USER  # for the helper's log
        payload = json.dumps({"verb": verb, "actor": actor, **arguments}).encode()
        self.verb = verb
        self._data = b""
        self.connection = socket.socket(socket.AF_UNIX)
        try:
            self.connection.connect(READERS.get(verb, SOCKET))
            head = struct.pack("!I", len(payload))
            socket.send_fds(self.connection, [head], list(files))
            self.connection.sendall(payload)
        except OSError as error:
            self.connection.close()
            if verb in READERS and isinstance(error, (BrokenPipeError, ConnectionResetError)):
                raise _crowded() from None
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

        A caller that is interrupted while waiting can call it again.
        """
        with contextlib.suppress(ConnectionResetError):  # by systemd, of a request too many
            while piece := self.connection.recv(65536):
                self._data += piece
        self.connection.close()
        try:
            answer: dict[str, Any] = json.loads(self._data)
        except ValueError:
            if self.verb in READERS:
                raise _crowded() from None
            raise HelperFailed(
                f"The helper ended without an answer to {self.verb}.",
                hint="`journalctl -u gatling-helper` says why.",
            ) from None
        if answer.get("code") == INVALID:
            raise HelperFailed(answer["refused"], hint=answer.get("hint", ""), reason=INVALID)
        if "refused" in answer:
            raise HelperFailed(
                f"The helper refuses {self.verb}: {answer['refused']}.",
                reason=answer.get("code", "refused"),
            )
        if "failed" in answer:
            raise HelperFailed(
                f"{self.verb}: {answer['failed']}.", log=answer.get("log", "").splitlines()
            )
        return answer


def _crowded() -> HelperFailed:
    return HelperFailed(
        "The journal cannot be read: too many commands read logs on this server.",
        hint="Try again later. `systemctl status gatling-logs.socket` counts them.",
    )


def ask(verb: str, **arguments: Any) -> dict[str, Any]:
    """A request that ends by itself; its answer."""
    return Call(verb, arguments).answer()
