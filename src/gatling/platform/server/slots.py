"""Files about an app's slots on a server, beside those that root keeps about their units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gatling import names
from gatling.platform.server.helper import client

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.platform.base import Slot
    from gatling.platform.local_paths import LocalHome

HISTORY = ".history"


def limits_file(home: LocalHome, app: str, slot: Slot) -> Path:
    """The file of the limits with which a worker's unit, or both web units, were created."""
    directory = home.app(app).slot(slot)
    return (directory if isinstance(slot, str) else directory.parent) / "limits.json"


def make_unit(app: str, slot: Slot, values: dict[str, Any]) -> None:
    """Have root make the unit of a process's slot, or those of both of the app's own."""
    if isinstance(slot, str):
        client.ask("slot", app=app, slot=slot, **values)
    else:
        client.ask("app", app=app, **values)


def history(home: LocalHome, app: str, slot: Slot) -> Path:
    """The file of the releases that ran in a slot, each with its start time (journald.py)."""
    return home.app(app).root / "slots" / f"{slot}{HISTORY}"


def histories(home: LocalHome, app: str) -> dict[Slot, Path]:
    """Those of slots that are gone as well, whose lines are in the journal."""
    paths = home.app(app)
    known = [f.name.removesuffix(HISTORY) for f in (paths.root / "slots").glob(f"*{HISTORY}")]
    there = [*paths.slots(), *filter(names.is_process_slot, known)]
    return {slot: history(home, app, slot) for slot in there}
