"""Writes what instances print to their app's log, inside the supervisor's own process.

A plug-in of supervisord (`[rpcinterface:…]`, supervisord.org/configuration.html): it subscribes to
the output of the programs and writes lines `TIME vN text`, so that `gatling logs` knows time
and release. Loaded by supervisord; an error here must never reach its main loop.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from supervisor import events
from supervisor.process import Subprocess
from supervisor.states import ProcessStates

from gatling.platform import enter, logs, restarts
from gatling.platform.applog import AppLog
from gatling.platform.embedded import request_log

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
            match type(event):
                case events.ProcessStateExitedEvent | events.ProcessStateBackoffEvent:
                    said = self._ended(program, event.process)
                case events.ProcessStateStoppedEvent:
                    said = "instance stopped"
                case _:
                    return
            pid = event.process.pid or 0
            rest = self._rest.pop(program, b"")
            self._write(program, pid, [rest] if rest else [])
            self._write(program, pid, [f"-- {said}".encode()])

    def _ended(self, program: str, process: Any) -> str:
        """Record an end that nobody asked for, and have the next start wait; it, in words."""
        app, _, slot = program.partition(".")
        directory, now = self._apps / app / "slots" / slot, time.time()
        after = max(0.0, now - process.laststart)
        cause = _cause(getattr(process, "wait_status", None))
        count = enter.remember(str(directory), after, cause, now)
        pause = restarts.pause(restarts.read(directory / enter.ENDS))
        _wait(process, pause)
        waits = f", in {pause:g} s" if pause else ""
        return f"instance {cause} after {enter.span(after)}; restart {count} within an hour{waits}"

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


def _cause(wait_status: int | None) -> str:
    if wait_status is None:
        return "could not be started"
    status = os.waitstatus_to_exitcode(wait_status)
    return enter.cause(
        "", *(("killed", _signal(-status)) if status < 0 else ("exited", f"{status}"))
    )


def _wait(process: Any, pause: float) -> None:
    """Have supervisord start a program again after this pause.

    By itself it waits a second longer each time, without an end, and not at all for a program that
    has run for some seconds.
    """
    if pause:
        process.state, process.backoff = ProcessStates.BACKOFF, 1
    if process.state == ProcessStates.BACKOFF:
        process.delay = time.time() + pause


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


def remember_status(kind: Any) -> None:
    """Have supervisord's processes keep what waitpid(2) said of them, which its events lack."""
    finish = kind.finish

    def finish_and_keep(self: Any, pid: int, status: int) -> Any:
        self.wait_status = status
        return finish(self, pid, status)

    kind.finish = finish_and_keep


class Requests:
    """Rotates the log in which the home's nginx writes a line for each request."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def tick(self, _: Any) -> None:
        """A minute has passed."""
        with contextlib.suppress(Exception):
            request_log.tidy(self._log)


class _NoCalls:
    """supervisord wants an object with methods to call; there are none."""


def make(_supervisord: Any, apps: str, requests: str = "") -> _NoCalls:
    """The factory that supervisord.conf names as `supervisor.rpcinterface_factory`."""
    sink = Sink(Path(apps))
    if requests:
        events.subscribe(events.Tick60Event, Requests(Path(requests)).tick)
    remember_status(Subprocess)
    events.subscribe(events.ProcessLogEvent, sink.output)
    events.subscribe(events.ProcessStateEvent, sink.state)
    return _NoCalls()
