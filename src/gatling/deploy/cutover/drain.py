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
DRAIN_POLL_SHARE, DRAIN_POLL_MOST = 0.05, 0.25
"""A look costs milliseconds of CPU: the longer connections stay, the rarer they are looked for. So
the wait is longer than needed by this share of it, and by so many seconds at most."""
DRAIN_CHECKS = 3
"""So many looks in a row must find no connection: nginx may just be opening one."""


def drain(gatling: Gatling, context: Context, seconds: float, prober: Prober) -> int:
    """Wait until nobody is connected to the old instance, for so many seconds at most.

    How many connections are left then; they are closed when the instance ends.
    """
    app, journal, slot = context.app, context.journal, context.app.live_slot
    if slot is None or not gatling.instances.status(app.name, slot).up:
        return 0
    if seconds <= 0:
        return 0
    count = gatling.instances.connections(app, slot)
    began = time.monotonic()
    idle, told = 0, False
    while True:
        # A slow machine may have taken all of the time for one look. That look may have come just
        # before nginx opened a connection, so it is not enough.
        late = time.monotonic() >= began + seconds
        connections = count()
        idle = 0 if connections else idle + 1
        prober.slow_down()
        if idle == DRAIN_CHECKS or (late and connections):
            return connections
        if connections and not told and time.monotonic() > began + 1:
            journal.line(
                f"waiting up to {seconds:g} s for {counted(connections, 'connection')} to the"
                " previous instance to close"
            )
            told = True
        time.sleep(_pause(time.monotonic() - began) if connections else DRAIN_POLL_SECONDS)


def _pause(waited: float) -> float:
    """Seconds to the next look, after so many seconds."""
    return max(DRAIN_POLL_SECONDS, min(DRAIN_POLL_SHARE * waited, DRAIN_POLL_MOST))
