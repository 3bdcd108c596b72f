"""Bring a node back to the release that the records say, after a hot upgrade was killed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gatling.beam.control import NodeBusy, SwapFailed
from gatling.deploy import live_node
from gatling.deploy.cutover import pages
from gatling.deploy.plan import inspection
from gatling.errors import GatlingError
from gatling.state import releases

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatling.platform.open import Gatling
    from gatling.state.apps import App

RECOVERY_PATIENCE_SECONDS = 90.0
"""How long recovery waits for a command that is connected to the node, such as `gatling plan`."""
SWAP_ENDS_SECONDS = 120.0
"""How long recovery waits for a swap whose command was killed, before it replaces the node."""


def back_to_records(gatling: Gatling, app: App) -> bool:
    """Bring a node that runs another release than recorded back to it; whether it runs it now.

    A swap that is under way in the node is waited for. False means that the node has to be
    replaced: it does not answer as it should, its swap does not end, or swapping back fails.
    """
    if app.live_release is None or app.live_slot is None:
        return False
    booted = gatling.instances.started_as(app.name, app.live_slot)
    if booted is None:
        return False
    live = releases.kept(gatling.db, app.name, app.live_release)
    try:
        with live_node.connected(gatling, app, RECOVERY_PATIENCE_SECONDS) as node:
            number = _when_swapped(lambda: live_node.running(node, booted))
            if number != live.number:
                runs = releases.kept(gatling.db, app.name, number)
                with inspection.compared(gatling, app, node, runs, live) as (found, answers):
                    if node.swap(runs, live, answers, suspend=10, insist=True).failed:
                        return False
                    pages.go_back(gatling, app, node, runs, found)
    except (GatlingError, SwapFailed, OSError):
        return False
    live_node.prepare(gatling, app, live)
    return True


def _when_swapped(ask: Callable[[], int]) -> int:
    """The answer when no swap is under way any more; raises NodeBusy when that takes too long."""
    deadline = time.monotonic() + SWAP_ENDS_SECONDS
    while True:
        late = time.monotonic() >= deadline
        try:
            return ask()
        except NodeBusy as busy:
            if busy.broken or late:
                raise
            time.sleep(0.1)
