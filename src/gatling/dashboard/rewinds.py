"""The page of a rollback with the data of that time: what has been written since then.

The database and the repository of its backups are asked in a thread, as clusters are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gatling.dashboard import confirmations
from gatling.operations import rewinding
from gatling.operations.session import opened

if TYPE_CHECKING:
    from gatling.dashboard.visit import Visit
    from gatling.operations.rewinding import Rewind
    from gatling.platform.open import Gatling

SHOWN = 20
"""Tables that are listed."""


def page(gatling: Gatling, visit: Visit) -> dict[str, Any]:
    """The release, by records alone."""
    number = confirmations.release_of(gatling, visit)
    return {"number": number, "asked": f"{visit.app}/{number}", "shown": SHOWN}


def ask(name: str) -> Rewind:
    """The effects of a rollback of an app to a release, both in `name`; raises as `plan` does."""
    app, _, number = name.partition("/")
    with opened() as gatling:
        return rewinding.plan(gatling, app, int(number))
