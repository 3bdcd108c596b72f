"""Instances of an embedded home: programs of its supervisord."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from gatling import files, proc
from gatling.platform import enter, restarts
from gatling.platform.embedded import configuration, launch, node_key, supervisord
from gatling.platform.embedded.configuration import CLOCK, PROXY
from gatling.platform.embedded.supervisord import STARTUP_SECONDS, Supervisord
from gatling.platform.local import LocalInstances

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatling.platform.base import Address, Instance, Slot, Status
    from gatling.platform.embedded.home import EmbeddedHome, EmbeddedPaths
    from gatling.platform.restarts import End
    from gatling.state.apps import App


class EmbeddedInstances(LocalInstances):
    """Implements `Instances`; see there for the calls."""

    def __init__(self, home: EmbeddedHome, programs: Supervisord) -> None:
        super().__init__(home)
        self._own = home
        self._programs = programs

    def ensure_running(self) -> bool:
        """See Instances."""
        return self._programs.ensure_running()

    def advice(self) -> str | None:
        """See Instances."""
        pid = self._programs.pid()
        from gatling.platform.embedded import logout

        return logout.advice(pid) if pid is not None else None

    def start(self, instance: Instance) -> None:
        """See Instances."""
        self.prepare(instance)
        configure(self._own, self._programs, instance.app)
        # also of what was written by a command that was killed, or while the program was running
        self._programs.update()
        self._programs.start(program(instance.app, instance.slot))

    def prepare(self, instance: Instance) -> None:
        """See Instances."""
        record = self.record(instance.app, instance.slot)
        record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write(
            record,
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

    def node_address(self, app: App, slot: int) -> Address:
        """See Instances."""
        paths = self._own.app(app.name)
        address = super().node_address(app, slot)
        if not has_key(paths, slot):
            return address
        return structs.replace(address, options=node_key.options(paths.root / node_key.NAME))

    def started_as(self, app: str, slot: Slot) -> int | None:
        """See Instances."""
        launched = supervisord.launched(self._own.app(app).slot(slot))
        return launched[2] if launched is not None else None

    def stop(self, app: str, slot: Slot, timeout: float, *, unused: bool = False) -> None:
        """See Instances."""
        directory = self._own.app(app).slot(slot)
        self._programs.stop(program(app, slot), timeout, unused=unused)
        proc.end_marked(launch.mark(str(directory)))
        restarts.forget(directory / enter.ENDS)

    def discard(self, app: str, slot: str) -> None:
        """See Instances."""
        shutil.rmtree(self._own.app(app).slot(slot), ignore_errors=True)
        configure(self._own, self._programs, app)

    def status(self, app: str, slot: Slot) -> Status:
        """See Instances."""
        return self._programs.status(program(app, slot))

    def statuses(self, slots: Sequence[tuple[str, Slot]]) -> dict[tuple[str, Slot], Status]:
        """See Instances."""
        if not slots or not self._programs.running():
            return {}
        found: dict[tuple[str, Slot], Status] = {}
        for app, slot in slots:
            settled = supervisord.settled(self._own.app(app).slot(slot))
            if settled is None:
                break
            found[app, slot] = settled
        else:
            return found
        for name, status in self._programs.statuses().items():
            app, _, place = name.partition(".")
            if place:
                found[app, int(place) if place.isdecimal() else place] = status
        return found

    def ends(self, app: str, slot: Slot) -> list[End]:
        """See Instances."""
        return restarts.read(self._own.app(app).slot(slot) / enter.ENDS)

    def is_intruded(self, app: App, slot: int) -> bool:  # noqa: ARG002
        """See Instances: everything is one user's, who may have put something else there."""
        return False

    def begin_down(self) -> bool:
        """See Instances."""
        self._programs.stop(CLOCK, STARTUP_SECONDS)
        return self._programs.running()

    def begin_to_stop(self, slots: Sequence[tuple[str, Slot]]) -> None:
        """See Instances."""
        for app, slot in slots:
            self._programs.end(program(app, slot))

    def shut_down(self) -> None:
        """See Instances."""
        self._programs.stop(PROXY, STARTUP_SECONDS)
        self._programs.shut_down()


def program(app: str, slot: Slot) -> str:
    """The name of a slot's program."""
    return f"{app}.{slot}"


def configure(home: EmbeddedHome, programs: Supervisord, app: str) -> None:
    """Make supervisord know the slots of an app that there are."""
    paths = home.app(app)
    for slot in (1, 2):
        paths.slot(slot).mkdir(mode=0o700, parents=True, exist_ok=True)
    file = configuration_file(home, app)
    text = "".join(
        configuration.program(program(app, slot), paths.slot(slot)) for slot in paths.slots()
    )
    if not file.exists() or file.read_text() != text:
        files.write(file, text)
        if programs.running():
            programs.update()


def configuration_file(home: EmbeddedHome, app: str) -> Path:
    """Return the file in which supervisord finds the programs of an app."""
    return home.supervisor / "apps" / f"{app}.conf"


def has_key(paths: EmbeddedPaths, slot: Slot) -> bool | None:
    """Whether the node in a slot requires connections with the app's key; None when none runs."""
    launched = supervisord.launched(paths.slot(slot))
    if launched is None:
        return None
    try:
        words = Path(f"/proc/{launched[0]}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return None
    return node_key.is_in(words, paths.root / node_key.NAME)
