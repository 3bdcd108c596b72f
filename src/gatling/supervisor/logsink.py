"""Writes what instances print to their app's log, inside the supervisor's own process.

A plug-in of supervisord (`[rpcinterface:…]`, supervisord.org/configuration.html): it subscribes to
the output of the programs and writes lines `TIME vN text`, so that `gatling logs` can tell time
and release. Loaded by supervisord; an error here must never reach its main loop.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from gatling import logs
from gatling.supervisor.applog import AppLog
from supervisor import events

MAX_LINE = 16 * 1024


class Sink:
    """Receives supervisord's events for programs named `APP.SLOT`; app names have no dots."""

    def __init__(self, apps: Path) -> None:
        self._apps = apps
        self._rest: dict[str, bytes] = {}
        self._release: dict[str, tuple[tuple[int, int], str]] = {}

    def output(self, event: Any) -> None:
        """A piece of a program's output."""
        with contextlib.suppress(Exception):
            program = event.process.config.name
            data = event.data if isinstance(event.data, bytes) else event.data.encode()
            *lines, rest = (self._rest.pop(program, b"") + data).split(b"\n")
            if len(rest) > MAX_LINE:
                lines, rest = [*lines, rest], b""
            if rest:
                self._rest[program] = rest
            self._write(program, event.pid, lines)

    def state(self, event: Any) -> None:
        """A program was started or has exited: worth a line of its own."""
        with contextlib.suppress(Exception):
            program = event.process.config.name
            if "." not in program:
                return
            pid = event.process.pid or 0
            match type(event):
                case events.ProcessStateExitedEvent:
                    said = "instance exited" + ("" if event.expected else " unexpectedly")
                case events.ProcessStateBackoffEvent:
                    said = "instance exited soon after its start; it will be started again"
                case events.ProcessStateFatalEvent:
                    said = "instance crashed too often and is not started again"
                case events.ProcessStateStoppedEvent:
                    said = "instance stopped"
                case _:
                    return
            rest = self._rest.pop(program, b"")
            self._write(program, pid, [rest] if rest else [])
            self._write(program, pid, [f"-- {said}".encode()])

    def _write(self, program: str, pid: int, lines: list[bytes]) -> None:
        app, _, slot = program.partition(".")
        if not slot or not lines:
            return
        log = AppLog(self._apps / app / "logs" / "instances.log")
        try:
            release = self._label(program, app, slot, pid)
            for line in lines:
                log.write(release, line)
        finally:
            log.close()

    def _label(self, program: str, app: str, slot: str, pid: int) -> str:
        file = self._apps / app / "slots" / slot / "instance.json"
        state = (pid, file.stat().st_mtime_ns)
        known = self._release.get(program)
        if known is not None and known[0] == state:
            return known[1]
        instance = json.loads(file.read_bytes())
        own = logs.CHECK if instance.get("check") else logs.WEB
        label = logs.label(f"v{instance['release']}", slot if "." in slot else own)
        self._release[program] = (state, label)
        return label


class _NoCalls:
    """supervisord wants an object with methods to call; there are none."""


def make(_supervisord: Any, apps: str) -> _NoCalls:
    """What supervisord.conf names as `supervisor.rpcinterface_factory`."""
    sink = Sink(Path(apps))
    events.subscribe(events.ProcessLogEvent, sink.output)
    events.subscribe(events.ProcessStateEvent, sink.state)
    return _NoCalls()
