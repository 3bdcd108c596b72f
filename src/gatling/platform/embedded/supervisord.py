"""supervisord (supervisord.org) of an embedded home, run by the user without root.

It keeps programs running: instances, the proxy and the clock. Their configuration is written by
configuration.py. Whether supervisord runs, and what a program does that runs well, is found out
without calling it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

from gatling import files, proc, process, times
from gatling.errors import CommandFailed, SupervisorFailed
from gatling.paths import exclusively
from gatling.platform import enter, limits, ports, restarts
from gatling.platform.base import State, Status, local_status
from gatling.platform.embedded import configuration, launch
from gatling.platform.embedded.configuration import SETTLED_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gatling.platform.embedded.home import EmbeddedHome

STARTUP_SECONDS = 15.0
ORPHAN_SECONDS = 30.0

BAD_NAME, NOT_RUNNING, STILL_RUNNING = 10, 70, 91
"""Of supervisor.xmlrpc.Faults, which is slow to load: no such program, none to stop, and one that
would have to be stopped first."""

_ENDED = ("STOPPED", "FATAL", "EXITED")

_STATES = {
    "STOPPED": State.STOPPED,
    "STARTING": State.STARTING,
    "RUNNING": State.RUNNING,
    "BACKOFF": State.RESTARTING,
    "STOPPING": State.RUNNING,
    "EXITED": State.RESTARTING,
    "FATAL": State.FAILED,
    "UNKNOWN": State.FAILED,
}


class Supervisord:
    """The supervisord of one home, and its programs by their names."""

    def __init__(self, home: EmbeddedHome) -> None:
        self._home = home

    def running(self) -> bool:
        """Whether supervisord listens: its socket refuses when its process is gone."""
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
            return probe.connect_ex(str(self._home.supervisor_socket)) == 0

    def ensure_running(self) -> bool:
        """Start supervisord when it does not run; True when this call started it.

        Instances that outlived a supervisord which was killed are ended first: nothing would
        restart them. Raises SupervisorFailed.
        """
        if self.running():
            return False
        with self._exclusively():
            if self.running():
                return False
            self._end_orphans()
            text = configuration.main_configuration(self._home, as_root=os.geteuid() == 0)
            files.write(self._conf, text)
            log = self._home.supervisor / "supervisord.log"
            from gatling.platform.embedded import logout

            argv, needed = logout.outliving(
                [sys.executable, "-I", "-m", "supervisor.supervisord", "-c", str(self._conf)]
            )
            try:
                process.spawn_detached(
                    argv,
                    env=_clean_environment() | needed,
                    cwd=self._home.root,
                    log=log,
                )
            except CommandFailed as error:
                raise SupervisorFailed("supervisord could not be started.", log=error.log) from None
            if not any(self.running() for _ in times.looks(STARTUP_SECONDS, 0.02)):
                lines = log.read_text(errors="replace").splitlines()[-10:]
                raise SupervisorFailed("supervisord was started but does not answer.", log=lines)
        return True

    def shut_down(self) -> None:
        """End supervisord, whose programs have been stopped; returns when it is gone."""
        if self.running():
            pid = int(self._call("getPID"))
            with contextlib.suppress(SupervisorFailed):
                self._call("shutdown")
            if not proc.wait_gone(pid, STARTUP_SECONDS):
                os.kill(pid, signal.SIGKILL)
        with self._exclusively():
            self._end_orphans()

    def start(self, name: str) -> None:
        """Start a program by its name in supervisord, in which it does not run now."""
        for last in times.looks(STARTUP_SECONDS, 0.02):
            # supervisord takes a start while it still waits for an exit, and forgets about it;
            # while it waits for the time of its own next try, it refuses one
            info = self._info(name)
            if not info or info["statename"] not in ("STOPPING", "BACKOFF"):
                break
            if info["statename"] == "BACKOFF":
                self.stop(name, STARTUP_SECONDS)
            elif last:
                raise SupervisorFailed(f"{name} is still being stopped.")
        self._call("startProcess", name, False)

    def stop(self, name: str, timeout: float, *, unused: bool = False) -> None:
        """End a program by its name; returns when its OS process is gone. As Instances.stop."""
        if not self.running():
            return
        deadline = time.monotonic() + timeout
        killed = False
        while (info := self._info(name)) and info["statename"] not in _ENDED:
            if info["statename"] != "STOPPING":
                try:
                    self._call("stopProcess", name, False)
                except SupervisorFailed as error:
                    if error.fault != NOT_RUNNING:
                        raise
            pid = info["pid"]
            left = max(0.0, deadline - time.monotonic())
            if pid and unused and not killed and not ports.listening(pid):
                left = min(left, limits.TERM_AGAIN_SECONDS)
            if pid and not proc.wait_gone(pid, left):
                if killed:
                    raise SupervisorFailed(f"{name} (pid {pid}) cannot be stopped.")
                killed = time.monotonic() >= deadline
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if killed else signal.SIGTERM)
                if killed:
                    deadline = time.monotonic() + 5
            time.sleep(0.005)

    def status(self, name: str) -> Status:
        """Return the status of a program, by its name in supervisord."""
        info = self._info(name)
        return Status(State.STOPPED) if info is None else self._status(info)

    def statuses(self) -> dict[str, Status]:
        """Return the status of all programs, by name."""
        return {info["name"]: self._status(info) for info in self._call("getAllProcessInfo")}

    def knows(self, name: str) -> bool:
        """Whether there is such a program in the configuration that supervisord has read."""
        return self._info(name) is not None

    def has_ended(self, name: str) -> bool:
        """Whether a program that there is does not run, nor is started again."""
        info = self._info(name)
        return info is not None and info["statename"] in _ENDED

    def end(self, name: str) -> None:
        """Send SIGTERM to a program, without waiting."""
        with contextlib.suppress(SupervisorFailed):
            self._call("stopProcess", name, False)

    def pid(self) -> int | None:
        """The process id of the supervisord that was started last."""
        try:
            return int((self._home.run / "supervisord.pid").read_text())
        except (OSError, ValueError):
            return None

    def _status(self, info: dict[str, Any]) -> Status:
        state = _STATES[info["statename"]]
        app, _, slot = info["name"].partition(".")
        if state == State.RESTARTING and slot:
            ends = restarts.read(self._home.app(app).slot(slot) / enter.ENDS)
            state = State.FAILED if restarts.hopeless(ends) else state
        pid = info["pid"] or None
        uptime = max(0.0, float(info["now"] - info["start"])) if pid else 0.0
        return local_status(state, pid, uptime)

    @property
    def _conf(self) -> Path:
        return self._home.supervisor / "supervisord.conf"

    def update(self) -> None:
        """Make supervisord take over added, changed and removed programs.

        One that runs stays as it is, and is taken over by the first call after it has ended: the
        text of all of them changes with the Python that Gatling runs in, for instance.
        """
        with self._exclusively():
            added, changed, removed = self._call("reloadConfig")[0]
            for name in (*changed, *removed):
                if self._forget(name) and name in changed:
                    added.append(name)
            for name in added:
                self._call("addProcessGroup", name)

    def _forget(self, name: str) -> bool:
        """Whether supervisord no longer knows a program: not when it runs."""
        try:
            self._call("removeProcessGroup", name)
        except SupervisorFailed as error:
            if error.fault != STILL_RUNNING:
                raise
            return False
        return True

    def _info(self, name: str) -> dict[str, Any] | None:
        try:
            info: dict[str, Any] = self._call("getProcessInfo", name)
        except SupervisorFailed as error:
            if error.fault == BAD_NAME:
                return None
            raise
        return info

    def _call(self, method: str, *arguments: object) -> Any:
        from gatling.platform.embedded import rpc

        return rpc.Client(self._home.supervisor_socket).call(method, *arguments)

    def _end_orphans(self) -> None:
        """End what a killed supervisord left: the processes that launch.py recorded."""
        orphans, directories = [], []
        for file in (*self._home.root.glob("apps/*/slots/*/pid"), self._home.nginx / "pid"):
            with contextlib.suppress(OSError, ValueError):
                process_ = launched(file.parent)
                if process_ is not None:
                    orphans.append(process_[:2])
                directories.append(file.parent)
                launch.end_rest(str(file.parent))
            file.unlink(missing_ok=True)
        for pid, _ in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + ORPHAN_SECONDS
        for pid, started in orphans:
            proc.wait_gone(pid, max(0.0, deadline - time.monotonic()))
            if proc.alive(pid, started):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                proc.wait_gone(pid, 5)
        for directory in directories:
            launch.end_marked(launch.mark(str(directory)))

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        """One command at a time starts or ends supervisord; the lock dies with its process."""
        with exclusively(self._home, "supervisor"):
            yield


def launched(directory: Path) -> tuple[int, int, int] | None:
    """The process that launch.py became there: pid, start time, release; None when it is gone."""
    try:
        words = (directory / "pid").read_text().split()
        pid, started, release = map(int, words[:3])
    except (OSError, ValueError):
        return None
    same_boot = words[3:] in ([], [launch.boot()])
    return (pid, started, release) if same_boot and proc.alive(pid, started) else None


def settled(directory: Path) -> Status | None:
    """The status of a program that launch.py started and that has been running for a while."""
    process_ = launched(directory)
    if process_ is None:
        return None
    pid, started, _ = process_
    uptime = proc.age(started)
    return local_status(State.RUNNING, pid, uptime) if uptime > SETTLED_SECONDS + 1 else None


def _clean_environment() -> dict[str, str]:
    """The environment of supervisord and the proxy, without variables of the starting command."""
    kept = {name: os.environ[name] for name in ("HOME", "USER", "TZ") if name in os.environ}
    path = os.environ.get("PATH", os.defpath)
    return kept | {"PATH": path, "LANG": "C.UTF-8"}
