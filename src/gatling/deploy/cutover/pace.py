"""The pace at which sockets leave an instance that ends: a few at a time are asked to reconnect.

All clients of an instance that stops reconnect within moments of each other, and load the new one
with thousands of mounts. Phoenix' own message for this is sent to a few sockets at a time instead
(gatling_drain). Nothing is noted in the node, so another process goes on if this one is killed.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from msgspec import structs

from gatling.deploy import live_node
from gatling.errors import GatlingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.beam.sight import Sight
    from gatling.platform.open import Gatling
    from gatling.state.apps import App

BATCH_SECONDS = 0.1
"""The shortest pause between two batches."""
MISSED_SECONDS = 2.0
"""So many seconds' worth of sockets are asked together at most."""


class Pace:
    """Asks the sockets of a node to reconnect, `rate` of them a second."""

    def __init__(self, node: Sight | None, rate: int) -> None:
        self._node, self._rate = node, rate
        self.open, self.asked = 0, 0
        """Sockets at the beginning, and how many have been asked since."""
        if rate:
            self.open = self._ask(0)
        self._last = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it takes until all have been asked."""
        return self.open / self._rate if self._rate else 0.0

    def step(self) -> None:
        """Ask the next batch of sockets, if it is time for it."""
        passed = time.monotonic() - self._last
        # what a slow look has missed is made up for, up to a limit
        most = int(self._rate * min(passed, MISSED_SECONDS))
        if self._node is None or passed < BATCH_SECONDS or most < 1:
            return
        self._last += most / self._rate if passed < MISSED_SECONDS else passed
        self._ask(most)

    def _ask(self, most: int) -> int:
        found = None
        if self._node is not None:
            with contextlib.suppress(GatlingError):
                found = self._node.reconnect(most)
        if found is None:  # no Phoenix that knows how, or the node has gone
            self._node = None
            return 0
        self.asked += found[1]
        return found[0]


@contextlib.contextmanager
def paced(gatling: Gatling, app: App, slot: int, rate: int) -> Iterator[Pace]:
    """The pace for an instance in a slot. Without a rate, or if the node does not answer: none."""
    with contextlib.ExitStack() as connection:
        node = None
        if rate and gatling.instances.status(app.name, slot).up:
            there = structs.replace(app, live_slot=slot)
            with contextlib.suppress(GatlingError, OSError):
                node = connection.enter_context(live_node.observed(gatling, there))
        yield Pace(node, rate)
