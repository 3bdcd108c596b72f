"""The common parts of instances that are OS processes of this machine."""

from __future__ import annotations

import abc
import contextlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from gatling.errors import CommandFailed, PortTaken
from gatling.platform import port_claims, ports
from gatling.platform.base import Address, Prepared

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatling.paths import Home
    from gatling.platform.base import Slot, Status
    from gatling.platform.local_paths import LocalHome
    from gatling.platform.usage import Usage
    from gatling.state.apps import App

LOOPBACK = "127.0.0.1"


def may_have(port: int, home: Home) -> bool:
    """Whether an app of this home may be given a port: no other home has it, and it is free."""
    return port_claims.owner(port, home.root) is None and ports.is_free(port)


def remove_tree(directory: Path) -> None:
    """Remove a directory that there may be; raises CommandFailed where that is not permitted."""
    try:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(str(directory))
    except PermissionError as error:
        raise CommandFailed(f"{error.filename} cannot be removed: permission denied.") from None


class LocalInstances(abc.ABC):
    """The part of `Instances` that follows from ports and processes; see there for the calls."""

    def __init__(self, home: LocalHome) -> None:
        self._home = home

    @abc.abstractmethod
    def status(self, app: str, slot: Slot) -> Status:
        """See Instances."""

    def user(self, app: str) -> int | None:  # noqa: ARG002 (for platforms whose apps have one)
        """The user id that an app's instances have, where it is not that of this process."""
        return None

    def record(self, app: str, slot: Slot) -> Path:
        """Return the file that records the last start or preparation of a slot."""
        return self._home.app(app).slot(slot) / "instance.json"

    def prepared(self, app: str, slot: Slot) -> Prepared | None:
        """See Instances."""
        try:
            known = json.loads(self.record(app, slot).read_text())
            return Prepared(int(known["release"]), tuple(known["argv"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def process_slots(self, app: str) -> list[str]:
        """See Instances."""
        return self._home.app(app).process_slots()

    def address(self, app: App, slot: int) -> Address:
        """See Instances."""
        return Address(LOOPBACK, app.ports[slot])

    def node_address(self, app: App, slot: int) -> Address:
        """See Instances."""
        return Address(LOOPBACK, app.node_ports[slot])

    def ephemeral_ports(self) -> range:
        """See Instances."""
        return ports.ephemeral()

    def check_free(self, app: App, slot: int) -> None:
        """See Instances."""
        for port in (app.ports[slot], app.node_ports[slot]):
            if ports.is_free(port):
                continue
            what = f"Port {port}, which belongs to {app.name}, is taken by {ports.owner(port)}."
            other = port_claims.owner(port, self._home.root)
            if other is None:
                raise PortTaken(what, hint="Stop that process, then try again.")
            raise PortTaken(
                f"{what} An app of the Gatling home {other} has the same port.",
                hint=(
                    f"`GATLING_HOME={other} gatling apps` lists its apps. Stop the one that uses"
                    " the port."
                ),
            )

    def is_intruded(self, app: App, slot: int) -> bool:
        """See Instances."""
        return bool(ports.listeners(app.ports[slot]) - {self.user(app.name)})

    def connections(self, app: App, slot: int) -> Callable[[], int]:
        """See Instances."""
        pid, port = self.status(app.name, slot).pid, app.ports[slot]
        return lambda: ports.open_connections(pid, port) if pid is not None else 0

    def listening(self, app: App, slot: int) -> list[str]:
        """See Instances."""
        pid = self.status(app.name, slot).pid
        found = ports.listening(pid, self.user(app.name)) if pid is not None else []
        # the other instance of an app has the same user, by whom its listeners are found here
        reserved = {*app.ports.values(), *app.node_ports.values()} - {app.ports[slot]}
        return [where for where in found if not where.endswith(tuple(f":{p}" for p in reserved))]

    def usages(self, statuses: Mapping[tuple[str, Slot], Status]) -> dict[tuple[str, Slot], Usage]:
        """See Instances."""
        from gatling.platform import usage

        pids = {slot: status.pid for slot, status in statuses.items() if status.pid is not None}
        used = usage.of_trees(set(pids.values()))
        return {slot: used[pid] for slot, pid in pids.items() if pid in used}

    def command_line(self, app: str, slot: Slot) -> list[str]:
        """See Instances."""
        status = self.status(app, slot)
        if not status.up:
            return []
        pid = status.pid
        try:
            raw = Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
        except OSError:
            return []
        return [word for word in raw.split("\0") if word]
