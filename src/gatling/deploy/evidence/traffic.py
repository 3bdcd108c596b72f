"""The requests that clients sent, before a release was switched to and since: from the proxy."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING

from gatling.deploy.evidence import judgement
from gatling.proxy import request_log
from gatling.proxy.figures import Figures
from gatling.state import deployments

if TYPE_CHECKING:
    from gatling.deploy.evidence.judgement import Served
    from gatling.platform.open import Gatling
    from gatling.state.apps import App

BEFORE_SECONDS = 300.0
"""Length of the time before a switch with which a release is compared."""
DEPLOYMENTS = 20
SERVING = frozenset({"hot_swap", "switch_proxy"})
"""The steps from which on a new release gets requests."""


def before(gatling: Gatling, app: App, switched: float) -> Served:
    """The figures of the release that was live before a switch, which was at that Unix time."""
    begin = max(switched - BEFORE_SECONDS, _live_since(gatling, app.name))
    found, begin = _read(gatling, app, begin, switched, None)
    return judgement.served(found, max(0.0, switched - begin))


def since(gatling: Gatling, app: App, slot: int, switched: float) -> Figures:
    """The figures of the release in a slot since it was switched to.

    None while the app is in maintenance, as clients do not reach it then.
    """
    if gatling.router.in_maintenance(app.name):
        return Figures()
    return _read(gatling, app, switched, time.time(), app.ports[slot])[0]


def _read(
    gatling: Gatling, app: App, begin: float, end: float, port: int | None
) -> tuple[Figures, float]:
    """The figures of a time, and when it began as far as the log goes back."""
    log = gatling.router.request_log()
    if log is None:
        return Figures(), begin
    try:
        window = request_log.read(log, begin, end, app=app.name, port=port, own=False)
    except OSError:  # not readable, say: without figures the other criteria remain
        return Figures(), begin
    return window.apps.get(app.name, Figures()), window.since


def _live_since(gatling: Gatling, app: str) -> float:
    """When the latest deployment whose release got requests had ended; 0: it is not known.

    Also one that was undone: requests that its release failed are not those of the release before.
    """
    for one in deployments.of_app(gatling.db, app, DEPLOYMENTS):
        if one.seconds is None:
            continue  # the deployment under way
        if one.outcome == "succeeded" or SERVING & {step.name for step in one.steps}:
            return datetime.fromisoformat(one.started_at).timestamp() + (one.seconds or 0)
    return 0.0
