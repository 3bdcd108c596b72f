"""The drain: the previous instance finishes what it has begun before it ends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gatling.text import counted

if TYPE_CHECKING:
    from gatling.deploy.context import Context
    from gatling.deploy.evidence.prober import Prober
    from gatling.platform.open import Gatling

DRAIN_POLL_SECONDS = 0.05
DRAIN_CHECKS = 3
"""So many looks in a row must find no connection: nginx may just be opening one."""


def drain(gatling: Gatling, context: Context, seconds: float, prober: Prober) -> int:
    """Wait until nobody is connected to the old instance, for so many seconds at most.

    How many connections are left then; they are closed when the instance ends.
    """
    app, journal, slot = context.app, context.journal, context.app.live_slot
    if slot is None or not gatling.instances.status(app.name, slot).up:
        return 0
    count = gatling.instances.connections(app, slot)
    deadline = time.monotonic() + seconds
    idle, told, connections = 0, False, 0
    while idle < DRAIN_CHECKS and time.monotonic() < deadline:
        connections = count()
        idle = 0 if connections else idle + 1
        prober.slow_down()
        if connections and not told and time.monotonic() > deadline - seconds + 1:
            journal.line(
                f"waiting up to {seconds:g} s for {counted(connections, 'connection')} to the"
                " previous instance to close"
            )
            told = True
        time.sleep(DRAIN_POLL_SECONDS)
    return connections
