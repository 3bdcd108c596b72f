"""Instances of a server: units of systemd.

Units are root's (units.py); root's helper starts and ends them and writes what they run. Any user
may ask systemd for their state.
"""

from __future__ import annotations

import json
import pwd
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatling import files, process
from gatling.errors import CommandFailed, InvalidInput, SupervisorFailed
from gatling.platform import enter, restarts
from gatling.platform.base import Instance, Slot, State, Status, local_status
from gatling.platform.local import LocalInstances
from gatling.platform.server import journald, slots, units
from gatling.platform.server.helper import client

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatling.platform.restarts import End

PROPERTIES = "Id,ActiveState,SubState,MainPID,ExecMainStartTimestampMonotonic"

RUNTIME = Path(units.INSTANCES)
"""The directory in which systemd creates one per instance, for its launcher's files (enter.py)."""
HISTORY_SECONDS = 90 * 86400
"""Since which nothing was started in a slot that is gone, for its history to go as well."""

_STATES = {
    "active": State.RUNNING,
    "reloading": State.RUNNING,
    "deactivating": State.RUNNING,
    "activating": State.STARTING,
    "failed": State.FAILED,
}


class UnitInstances(LocalInstances):
    """Implements `Instances`; see there for the calls."""

    def ensure_running(self) -> bool:
        """systemd runs and has started all units of the boot."""
        return False

    def advice(self) -> None:
        """None: instances are units of the system's, which no session ends."""

    def discard(self, app: str, slot: str) -> None:
        """See Instances."""
        # first: without it the unit is made again before anything is started there
        slots.limits_file(self._home, app, slot).unlink(missing_ok=True)
        client.ask("discard", app=app, slot=slot)
        shutil.rmtree(self._home.app(app).slot(slot), ignore_errors=True)
        there, long_ago = self._home.app(app).slots(), time.time() - HISTORY_SECONDS
        for other, history in slots.histories(self._home, app).items():
            if other not in there and history.stat().st_mtime < long_ago:
                history.unlink()

    def start(self, instance: Instance) -> None:
        """See Instances."""
        self._tell("start", instance)

    def prepare(self, instance: Instance) -> None:
        """See Instances."""
        self._tell("prepare", instance)

    def started_as(self, app: str, slot: Slot) -> int | None:
        """See Instances: the BEAM's own command line says whose tree it was started from."""
        words = self.command_line(app, slot)
        if not words:
            return None
        releases = re.escape(str(self._home.app(app).releases))
        found = re.search(rf"{releases}/v(\d{{1,9}})/", " ".join(words))
        prepared = self.prepared(app, slot)
        if found:
            return int(found[1])
        return prepared.release if prepared else None

    def stop(self, app: str, slot: Slot, timeout: float, *, unused: bool = False) -> None:
        """See Instances."""
        if self.status(app, slot).state != State.STOPPED or self.record(app, slot).exists():
            client.ask("stop", app=app, slot=slot, timeout=timeout, unused=unused)
            self.record(app, slot).unlink(missing_ok=True)
        if self.status(app, slot).pid is not None:
            raise SupervisorFailed(f"{units.instance(app, slot)} cannot be stopped.")

    def status(self, app: str, slot: Slot) -> Status:
        """See Instances."""
        return self.statuses([(app, slot)])[app, slot]

    def statuses(self, slots: Sequence[tuple[str, Slot]]) -> dict[tuple[str, Slot], Status]:
        """See Instances."""
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
        """See Instances."""
        return restarts.read(_runtime(app, slot) / enter.ENDS)

    def user(self, app: str) -> int:
        """See LocalInstances."""
        return pwd.getpwnam(units.user(app)).pw_uid

    def begin_down(self) -> bool:
        """See Instances."""
        raise InvalidInput(
            "On a server systemd keeps apps running; there is no `down` for all of them.",
            hint="`gatling stop APP` stops one; `systemctl stop 'gatling@*'`, as root, all.",
        )

    def begin_to_stop(self, slots: Sequence[tuple[str, Slot]]) -> None:
        """See Instances."""
        for app, slot in slots:
            client.ask("stop", app=app, slot=slot, timeout=0, wait=False)
            self.record(app, slot).unlink(missing_ok=True)

    def shut_down(self) -> None:
        """See Instances: systemd goes on."""

    def _tell(self, verb: str, instance: Instance) -> None:
        app, slot = instance.app, instance.slot
        self.record(app, slot).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        limits = {
            "limits": instance.limits._asdict(),
            "stop": instance.stop_seconds,
            "ports": list(instance.ports),
        }
        known, wanted = slots.limits_file(self._home, app, slot), json.dumps(limits)
        if not known.exists() or known.read_text() != wanted:
            slots.make_unit(app, slot, limits)
            files.write(known, wanted)
        record = {"release": instance.release, "argv": instance.argv}
        files.write(self.record(app, slot), json.dumps(record))
        journald.note(slots.history(self._home, app, slot), instance.release, check=instance.check)
        client.ask(
            verb, app=app, slot=slot, argv=list(instance.argv), env=instance.env,
            cwd=str(instance.cwd), nice=instance.nice,
        )  # fmt: skip


def _pairs(block: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in block.splitlines() if "=" in line)


def _status(shown: dict[str, Any], runtime: Path) -> Status:
    pid = int(shown.get("MainPID", "0")) or None
    state = _STATES.get(shown.get("ActiveState", ""), State.STOPPED)
    if shown.get("SubState") == "auto-restart" or (pid is not None and _waiting(pid, runtime)):
        ends = restarts.read(runtime / enter.ENDS)
        return local_status(State.FAILED if restarts.hopeless(ends) else State.RESTARTING, pid)
    started = int(shown.get("ExecMainStartTimestampMonotonic", "0")) / 1e6
    uptime = max(0.0, _now() - started) if pid else 0.0
    return local_status(state, pid, uptime)


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
