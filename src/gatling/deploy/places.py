"""Remove an app from the places that are not its own: after a move, or one that was not decided."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gatling.cleanup import text_of
from gatling.errors import GatlingError
from gatling.project import settings as project_settings
from gatling.runtime import workers
from gatling.state import apps, moves, platforms

if TYPE_CHECKING:
    from gatling.platform.kubernetes.api import Api
    from gatling.platform.open import Gatling
    from gatling.state.apps import App

WORKERS_SECONDS = 60.0
"""For the workers of the place before, until those of the new one start in any case."""


def leave(gatling: Gatling, app: App) -> list[str]:
    """Remove the app from all places but its own; what could not be done, in words.

    The caller holds the lock. A cluster that cannot be reached keeps nothing from serving here, and
    the next recovery tries again.
    """
    problems: list[str] = []
    for place in moves.others(gatling.db, app.name):
        try:
            remove(gatling, app, place)
            moves.end(gatling.db, app.name, place)
        except GatlingError as error:
            problems.append(
                f"{moves.said(place)} still has objects of {app.name}: {text_of(error)}"
                f" `gatling recover {app.name}` tries again."
            )
    return problems


def remove(gatling: Gatling, app: App, place: str) -> None:
    """Remove all that a place runs of an app; raises GatlingError."""
    if place == moves.HERE:
        _remove_here(gatling, app)
    else:
        _remove_there(gatling, app, place)


def _remove_here(gatling: Gatling, app: App) -> None:
    gatling.router.point(app.name, None)
    workers.stop(gatling, app.name)
    for process in gatling.instances.process_slots(app.name):
        gatling.instances.discard(app.name, process)
    timeout = project_settings.parse(app.effective).instance.stop
    for slot in apps.SLOTS:
        gatling.instances.stop(app.name, slot, timeout)
    moves.end(gatling.db, app.name, moves.HERE)  # so that the proxy does not know it any more
    gatling.configure_router()


def _remove_there(gatling: Gatling, app: App, place: str) -> None:
    from gatling.deploy.cluster import objects
    from gatling.platform.kubernetes import place as places

    with places.namespace(platforms.get(gatling.db, place)) as api:
        objects.remove(api, app.name)
        deadline = time.monotonic() + WORKERS_SECONDS
        while _workers(api, app.name) and time.monotonic() < deadline:
            time.sleep(objects.POLL_SECONDS)


def _workers(api: Api, app: str) -> bool:
    """Whether a worker of an app still runs: two of it never do."""
    from gatling.deploy.cluster import objects
    from gatling.platform.kubernetes.objects import WEB

    there = objects.by_app(api, app).get(app, [])
    return any(pod.process != WEB for pod in there)
