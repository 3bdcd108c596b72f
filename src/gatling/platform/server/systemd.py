"""The server home's supervisor: systemd.

Units are root's (units.py); root's helper starts and ends them and writes what they run. What they
do anybody may ask systemd.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatling import files, names, process
from gatling.errors import CommandFailed, HelperFailed, SupervisorFailed
from gatling.platform import enter, restarts
from gatling.platform.base import Instance, Slot, State, Status
from gatling.platform.logs import EVERYTHING
from gatling.platform.server import journald, units
from gatling.platform.server.helper import client

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gatling.paths import Home
    from gatling.platform.logs import Line, Wanted
    from gatling.platform.restarts import End

PROPERTIES = "Id,ActiveState,SubState,MainPID,ExecMainStartTimestampMonotonic"

RUNTIME = Path(units.INSTANCES)
"""Where systemd makes the directories in which launchers leave what they know (enter.py)."""
HISTORY = ".history"
HISTORY_SECONDS = 90 * 86400
"""Since which nothing was started in a slot that is gone, for its history to go as well."""

_STATES = {
    "active": State.RUNNING,
    "reloading": State.RUNNING,
    "deactivating": State.RUNNING,
    "activating": State.STARTING,
    "failed": State.FAILED,
}


class SystemdSupervisor:
    """systemd. Implements `Supervisor`; see there for the calls."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def ensure_running(self) -> bool:
        """systemd runs, and what it shall start at boot it has started."""
        return False

    def advice(self) -> None:
        """None: instances are units of the system's, which no session ends."""

    def add(self, app: str) -> None:
        """See Supervisor; makes the app's user and directories, too."""
        self._guarded.unlink(missing_ok=True)  # a user that is made has another id
        for slot in self._home.app(app).slots()[1:]:
            try:
                values = json.loads(self._limits(app, slot).read_text())
            except (OSError, ValueError):
                values = {"limits": {}, "stop": 30.0}
            self._make_unit(app, slot, values)

    def discard(self, app: str, slot: str) -> None:
        """See Supervisor."""
        # first: without it the unit is made again before anything is started there
        self._limits(app, slot).unlink(missing_ok=True)
        client.ask("discard", app=app, slot=slot)
        shutil.rmtree(self._home.app(app).slot(slot), ignore_errors=True)
        there, long_ago = self._home.app(app).slots(), time.time() - HISTORY_SECONDS
        for other, history in self._histories(app).items():
            if other not in there and history.stat().st_mtime < long_ago:
                history.unlink()

    def remove(self, app: str) -> None:
        """See Supervisor; all that the app's user could write goes with it."""
        client.ask("forget", app=app)

    def start(self, instance: Instance) -> None:
        """See Supervisor."""
        self._tell("start", instance)

    def prepare(self, instance: Instance) -> None:
        """See Supervisor."""
        self._tell("prepare", instance)

    def booted(self, app: str, slot: Slot) -> int | None:
        """See Supervisor: the BEAM's own command line says whose tree it was started from."""
        status = self.status(app, slot)
        if not status.up or status.pid is None:
            return None
        try:
            words = Path(f"/proc/{status.pid}/cmdline").read_text(errors="replace")
        except OSError:
            return None
        releases = re.escape(str(self._home.app(app).releases))
        found = re.search(rf"{releases}/v(\d{{1,9}})/", words)
        return int(found[1]) if found else self._prepared(app, slot)

    def stop(self, app: str, slot: Slot, timeout: float) -> None:
        """See Supervisor."""
        if self.status(app, slot).state != State.STOPPED or self._file(app, slot).exists():
            client.ask("stop", app=app, slot=slot, timeout=timeout)
            self._file(app, slot).unlink(missing_ok=True)
        if self.status(app, slot).pid is not None:
            raise SupervisorFailed(f"{units.instance(app, slot)} cannot be ended.")

    def status(self, app: str, slot: Slot) -> Status:
        """See Supervisor."""
        return self.statuses([(app, slot)])[app, slot]

    def statuses(self, slots: Sequence[tuple[str, Slot]]) -> dict[tuple[str, Slot], Status]:
        """See Supervisor."""
        if not slots:
            return {}
        asked = [units.instance(app, slot) for app, slot in slots]
        try:
            text = process.output(["systemctl", "show", f"--property={PROPERTIES}", *asked])
        except CommandFailed as error:
            raise SupervisorFailed("systemd does not answer.", log=error.log) from None
        told = [_pairs(block) for block in text.strip().split("\n\n")]
        return {
            place: _status(shown, _runtime(*place))
            for place, shown in zip(slots, told, strict=True)
        }

    def ends(self, app: str, slot: Slot) -> list[End]:
        """See Supervisor."""
        return restarts.read(_runtime(app, slot) / enter.ENDS)

    def guard(self, ports: Mapping[str, Sequence[int]]) -> None:
        """See Supervisor: by root's table of nftables; `gatling server check` says if it is not."""
        known, wanted = self._guarded, json.dumps(ports, sort_keys=True)
        if not known.exists() or known.read_text() != wanted:
            with contextlib.suppress(HelperFailed):  # a kernel without nftables serves as well
                client.ask("ports", apps={app: list(each) for app, each in ports.items()})
                files.write(known, wanted)

    def schedule(self, app: str, jobs: Mapping[str, str]) -> None:
        """See Supervisor: by timers."""
        known = self._slots(app) / "schedule.json"
        if not jobs and not known.exists():
            return
        from gatling.project.schedule import calendars

        wanted = [{"name": name, "calendars": calendars(cron)} for name, cron in jobs.items()]
        files.write(known, json.dumps(dict(jobs)))  # before, so that no timer is unknown
        client.ask("schedule", app=app, jobs=wanted)
        if not jobs:
            known.unlink()

    def log(
        self, app: str, *, lines: int, since: str | None = None, wanted: Wanted = EVERYTHING
    ) -> list[Line]:
        """See Supervisor."""
        return journald.read(app, self._histories(app), lines=lines, since=since, wanted=wanted)

    def follow_log(
        self, app: str, *, lines: int = 0, since: str | None = None, wanted: Wanted = EVERYTHING
    ) -> Iterator[Line]:
        """See Supervisor."""
        return journald.follow(
            app, lambda: self._histories(app), lines=lines, since=since, wanted=wanted
        )

    def _tell(self, verb: str, instance: Instance) -> None:
        app, slot = instance.app, instance.slot
        self._file(app, slot).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        limits = {
            "limits": dataclasses.asdict(instance.limits),
            "stop": instance.stop_seconds,
            "ports": list(instance.ports),
        }
        known, wanted = self._limits(app, slot), json.dumps(limits)
        if not known.exists() or known.read_text() != wanted:
            self._make_unit(app, slot, limits)
            files.write(known, wanted)
        argv = list(instance.argv)
        if instance.nice:
            argv = ["/usr/bin/nice", "-n", str(instance.nice), *argv]
        record = {"release": instance.release, "argv": instance.argv}
        files.write(self._file(app, slot), json.dumps(record))
        history = self._slots(app) / f"{slot}{HISTORY}"
        journald.note(history, instance.release, check=instance.check)
        client.ask(verb, app=app, slot=slot, argv=argv, env=instance.env, cwd=str(instance.cwd))

    def _make_unit(self, app: str, slot: Slot, values: dict[str, Any]) -> None:
        """Have the unit of a process's slot made, or those of both of the app's own."""
        if isinstance(slot, str):
            client.ask("slot", app=app, slot=slot, **values)
        else:
            client.ask("app", app=app, **values)

    def _prepared(self, app: str, slot: Slot) -> int | None:
        try:
            number: int = json.loads(self._file(app, slot).read_text())["release"]
        except (OSError, ValueError, KeyError):
            return None
        return number

    def _limits(self, app: str, slot: Slot) -> Path:
        """What the unit of a process's slot was made with, or those of both of the app's own."""
        directory = self._home.app(app).slot(slot)
        return (directory if isinstance(slot, str) else directory.parent) / "limits.json"

    @property
    def _guarded(self) -> Path:
        """The ports that root's table was made for."""
        return self._home.run / "ports.json"

    def _slots(self, app: str) -> Path:
        return self._home.app(app).root / "slots"

    def _file(self, app: str, slot: Slot) -> Path:
        return self._home.app(app).slot(slot) / "instance.json"

    def _histories(self, app: str) -> dict[Slot, Path]:
        """Those of slots that are gone as well, whose lines are in the journal."""
        known = [file.name.removesuffix(HISTORY) for file in self._slots(app).glob(f"*{HISTORY}")]
        slots = [*self._home.app(app).slots(), *filter(names.is_process_slot, known)]
        return {slot: self._slots(app) / f"{slot}{HISTORY}" for slot in slots}


def _pairs(block: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in block.splitlines() if "=" in line)


def _status(shown: dict[str, Any], runtime: Path) -> Status:
    pid = int(shown.get("MainPID", "0")) or None
    state = _STATES.get(shown.get("ActiveState", ""), State.STOPPED)
    if shown.get("SubState") == "auto-restart" or (pid is not None and _waiting(pid, runtime)):
        ends = restarts.read(runtime / enter.ENDS)
        return Status(State.FAILED if restarts.hopeless(ends) else State.RESTARTING, pid)
    started = int(shown.get("ExecMainStartTimestampMonotonic", "0")) / 1e6
    uptime = max(0.0, _now() - started) if pid else 0.0
    return Status(state, pid, uptime)


def _waiting(pid: int, runtime: Path) -> bool:
    """Whether the launcher pauses before it starts a program that has crashed (enter.py)."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        launcher = any(word.endswith(b"/enter.py") for word in words)
        return launcher and (runtime / enter.PAUSE).exists()
    except OSError:
        return False


def _runtime(app: str, slot: Slot) -> Path:
    return RUNTIME / f"{app}.{slot}"


def _now() -> float:
    return float(Path("/proc/uptime").read_text().split()[0])
