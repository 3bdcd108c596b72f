"""The embedded home's supervisor: supervisord (supervisord.org), run by the user without root.

It keeps instances and the proxy running; what it is told stands in configuration.py. Whether it
runs, and what an instance does that runs well, is found out without calling it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

from gatling import files, proc, process
from gatling.errors import CommandFailed, SupervisorFailed
from gatling.paths import exclusively
from gatling.platform import enter, logs, restarts
from gatling.platform.base import Instance, Slot, State, Status
from gatling.platform.embedded import clock, configuration, launch, logout
from gatling.platform.embedded.configuration import CLOCK, PROXY, SETTLED_SECONDS
from gatling.platform.logs import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from gatling.paths import Home
    from gatling.platform.logs import Line, Wanted
    from gatling.platform.restarts import End

STARTUP_SECONDS = 15.0
ORPHAN_SECONDS = 30.0

BAD_NAME, NOT_RUNNING = 10, 70
"""Of supervisor.xmlrpc.Faults, which is slow to load: no such program, and none to stop."""

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


class EmbeddedSupervisor:
    """supervisord of one home. Implements `Supervisor`; see there for the calls."""

    def __init__(self, home: Home) -> None:
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
            deadline = time.monotonic() + STARTUP_SECONDS
            while not self.running():
                if time.monotonic() > deadline:
                    lines = log.read_text(errors="replace").splitlines()[-10:]
                    raise SupervisorFailed(
                        "supervisord was started but does not answer.", log=lines
                    )
                time.sleep(0.02)
        return True

    def advice(self) -> str | None:
        """See Supervisor."""
        try:
            pid = int((self._home.run / "supervisord.pid").read_text())
        except (OSError, ValueError):
            return None
        return logout.advice(pid)

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

    def add(self, app: str) -> None:
        """See Supervisor."""
        paths = self._home.app(app)
        for slot in (1, 2):
            paths.slot(slot).mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._app_conf(app)
        text = "".join(
            configuration.program(f"{app}.{slot}", paths.slot(slot)) for slot in paths.slots()
        )
        if not path.exists() or path.read_text() != text:
            files.write(path, text)
            if self.running():
                self._update()

    def ends(self, app: str, slot: Slot) -> list[End]:
        """See Supervisor."""
        return restarts.read(self._home.app(app).slot(slot) / enter.ENDS)

    def discard(self, app: str, slot: str) -> None:
        """See Supervisor."""
        shutil.rmtree(self._home.app(app).slot(slot), ignore_errors=True)
        self.add(app)

    def remove(self, app: str) -> None:
        """See Supervisor."""
        self._app_conf(app).unlink(missing_ok=True)
        if self.running():
            self._update()

    def start(self, instance: Instance) -> None:
        """See Supervisor."""
        self.prepare(instance)
        if isinstance(instance.slot, str):
            self.add(instance.app)
            if self._info(f"{instance.app}.{instance.slot}") is None:
                self._update()  # a command was killed before supervisord was told
        self.start_program(f"{instance.app}.{instance.slot}")

    def booted(self, app: str, slot: Slot) -> int | None:
        """See Supervisor."""
        process_ = _launched(self._home.app(app).slot(slot))
        return process_[2] if process_ is not None else None

    def prepare(self, instance: Instance) -> None:
        """See Supervisor."""
        directory = self._home.app(instance.app).slot(instance.slot)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write(
            directory / "instance.json",
            json.dumps(
                {
                    "release": instance.release,
                    "argv": instance.argv,
                    "cwd": str(instance.cwd),
                    "env": instance.env,
                    "nice": instance.nice,
                    "check": instance.check,
                }
            ),
        )

    def start_program(self, name: str) -> None:
        """Start a program by its name in supervisord, in which it does not run now."""
        deadline = time.monotonic() + STARTUP_SECONDS
        while (info := self._info(name)) and info["statename"] in ("STOPPING", "BACKOFF"):
            # supervisord takes a start while it still waits for an exit, and forgets about it;
            # while it waits for the time of its own next try, it refuses one
            if info["statename"] == "BACKOFF":
                self.stop_program(name, STARTUP_SECONDS)
            if time.monotonic() > deadline:
                raise SupervisorFailed(f"{name} is still being stopped.")
            time.sleep(0.02)
        self._call("startProcess", name, False)

    def stop(self, app: str, slot: Slot, timeout: float) -> None:
        """See Supervisor; what the instance has started goes with it."""
        directory = self._home.app(app).slot(slot)
        self.stop_program(f"{app}.{slot}", timeout)
        proc.end_marked(launch.mark(str(directory)))
        restarts.forget(directory / enter.ENDS)

    def stop_program(self, name: str, timeout: float) -> None:
        """End a program by its name; returns when its OS process is gone."""
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
            if pid and not proc.wait_gone(pid, max(0.0, deadline - time.monotonic())):
                if killed:
                    raise SupervisorFailed(f"{name} (pid {pid}) cannot be ended.")
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                killed = True
                deadline = time.monotonic() + 5
            time.sleep(0.005)

    def stop_all(self, slots: Sequence[tuple[str, Slot]]) -> None:
        """Send SIGTERM to all these instances at once, without waiting."""
        for app, slot in slots:
            with contextlib.suppress(SupervisorFailed):
                self._call("stopProcess", f"{app}.{slot}", False)

    def stop_proxy(self) -> None:
        """End the proxy."""
        self.stop_program(PROXY, STARTUP_SECONDS)

    def status(self, app: str, slot: Slot) -> Status:
        """See Supervisor."""
        return self.program_status(f"{app}.{slot}")

    def program_status(self, name: str) -> Status:
        """What a program does, by its name in supervisord."""
        info = self._info(name)
        return Status(State.STOPPED) if info is None else self._status(info)

    def statuses(self, slots: Sequence[tuple[str, Slot]]) -> dict[tuple[str, Slot], Status]:
        """See Supervisor."""
        if not slots or not self.running():
            return {}
        found: dict[tuple[str, Slot], Status] = {}
        for app, slot in slots:
            settled = _settled(self._home.app(app).slot(slot))
            if settled is None:
                break
            found[app, slot] = settled
        else:
            return found
        for info in self._call("getAllProcessInfo"):
            app, _, name = info["name"].partition(".")
            if name:
                found[app, int(name) if name.isdecimal() else name] = self._status(info)
        return found

    def _status(self, info: dict[str, Any]) -> Status:
        state = _STATES[info["statename"]]
        app, _, slot = info["name"].partition(".")
        if state == State.RESTARTING and slot and restarts.hopeless(self.ends(app, slot)):
            state = State.FAILED
        pid = info["pid"] or None
        uptime = max(0.0, float(info["now"] - info["start"])) if pid else 0.0
        return Status(state, pid, uptime)

    def guard(self, ports: Mapping[str, Sequence[int]]) -> None:
        """See Supervisor."""

    def schedule(self, app: str, jobs: Mapping[str, str]) -> None:
        """See Supervisor: by the clock, a program that there is while any app has jobs."""
        with exclusively(self._home, "clock"):
            clock.write(self._home, app, jobs)
            conf = self._home.supervisor / "apps" / "_clock.conf"
            text = configuration.clock(self._home) if clock.is_needed(self._home) else None
            if text == (conf.read_text() if conf.exists() else None):
                if text is not None and self.running():
                    self._ensure_clock()
                return
            self.stop_clock()  # what runs is not changed or removed by supervisord
            if text is None:
                conf.unlink()
            else:
                files.write(conf, text)
            if self.running():
                self._update()

    def _ensure_clock(self) -> None:
        """Start a clock that was ended, or that a killed command has not told supervisord of."""
        info = self._info(CLOCK)
        if info is None:
            self._update()
        elif info["statename"] in _ENDED:
            self.start_program(CLOCK)

    def stop_clock(self) -> None:
        """End the clock; what it has started goes on."""
        self.stop_program(CLOCK, STARTUP_SECONDS)

    def log(
        self, app: str, *, lines: int, since: str | None = None, wanted: Wanted = EVERYTHING
    ) -> list[Line]:
        """See Supervisor."""
        log = self._home.app(app).instance_log
        return logs.read(log, lines=lines, since=since, wanted=wanted)

    def follow_log(
        self, app: str, *, lines: int = 0, since: str | None = None, wanted: Wanted = EVERYTHING
    ) -> Iterator[Line]:
        """See Supervisor."""
        log = self._home.app(app).instance_log
        return logs.follow(log, lines=lines, since=since, wanted=wanted)

    def proxy_settled(self) -> bool:
        """Whether the proxy has been running for a while, as far as its process tells."""
        return self.running() and _settled(self._home.nginx) is not None

    @property
    def _conf(self) -> Path:
        return self._home.supervisor / "supervisord.conf"

    def _app_conf(self, app: str) -> Path:
        return self._home.supervisor / "apps" / f"{app}.conf"

    def _update(self) -> None:
        """Make supervisord take over added, changed and removed programs."""
        with self._exclusively():
            added, changed, removed = self._call("reloadConfig")[0]
            for name in (*changed, *removed):
                self._call("removeProcessGroup", name)
            for name in (*added, *changed):
                self._call("addProcessGroup", name)

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
                launched = _launched(file.parent)
                if launched is not None:
                    orphans.append(launched[:2])
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


def _launched(directory: Path) -> tuple[int, int, int] | None:
    """The process that launch.py became there: pid, start time, release; None when it is gone."""
    try:
        words = (directory / "pid").read_text().split()
        pid, started, release = map(int, words[:3])
    except (OSError, ValueError):
        return None
    same_boot = words[3:] in ([], [launch.boot()])
    return (pid, started, release) if same_boot and proc.alive(pid, started) else None


def _settled(directory: Path) -> Status | None:
    """The status of a program that launch.py started and that has been running for a while."""
    launched = _launched(directory)
    if launched is None:
        return None
    pid, started, _ = launched
    uptime = proc.age(started)
    return Status(State.RUNNING, pid, uptime) if uptime > SETTLED_SECONDS + 1 else None


def _clean_environment() -> dict[str, str]:
    """What supervisord and the proxy need, and nothing of the command that starts them."""
    kept = {name: os.environ[name] for name in ("HOME", "USER", "TZ") if name in os.environ}
    path = os.environ.get("PATH", os.defpath)
    return kept | {"PATH": path, "LANG": "C.UTF-8"}
