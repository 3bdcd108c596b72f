"""The pace at which sockets leave an instance that ends: a few at a time are asked to reconnect.

All clients of an instance that stops reconnect within moments of each other, and load the new one
with thousands of mounts. Phoenix' own message for this is sent to a few sockets at a time instead
(gatling_drain). Nothing is noted in the node, so another process goes on if this one is killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING

from gatling.deploy import live_node
from gatling.errors import GatlingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.beam.sight import Sight
    from gatling.platform.open import Gatling
    from gatling.state.apps import App

BATCH_SECONDS = 0.25
"""The pause between two batches, for a pace of several sockets in that time."""


class Pace:
    """Asks the sockets of a node to reconnect, `rate` of them a second."""

    def __init__(self, node: Sight | None, rate: int) -> None:
        self._node, self._rate = node, rate
        self.open, self.asked = 0, 0
        """Sockets at the beginning, and how many have been asked since."""
        self._next = time.monotonic()
        if rate:
            self._interval = max(BATCH_SECONDS, 1 / rate)
            self.open = self._ask(0)

    @property
    def seconds(self) -> float:
        """How long it takes until all have been asked."""
        return self.open / self._rate if self._rate else 0.0

    def step(self) -> None:
        """Ask the next batch of sockets, if it is time for it."""
        if self._node is None or not self._rate or time.monotonic() < self._next:
            return
        # never two batches at once, however long the node took for one
        self._next = time.monotonic() + self._interval
        self._ask(round(self._rate * self._interval))

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
            there = dataclasses.replace(app, live_slot=slot)
            with contextlib.suppress(GatlingError, OSError):
                node = connection.enter_context(live_node.observed(gatling, there))
        yield Pace(node, rate)
