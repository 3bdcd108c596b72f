"""Remove an app from the places that are not its own: after a move, or one that was not decided.

One of them may serve as well for a while after a move. Workers and jobs run in the app's own alone.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gatling.cleanup import text_of
from gatling.errors import GatlingError
from gatling.project import settings as project_settings
from gatling.runtime import spec, workers
from gatling.state import apps, moves, platforms, releases

if TYPE_CHECKING:
    from gatling.platform.kubernetes.api import Api
    from gatling.platform.open import Gatling
    from gatling.state.apps import App

WORKERS_SECONDS = 60.0
"""For the workers of the place before, until those of the new one start in any case."""


def leave(gatling: Gatling, app: App) -> list[str]:
    """Remove the app from all places but its own; what could not be done, in words.

    One that serves as well goes on, without workers.

    The caller holds the lock. A cluster that cannot be reached keeps nothing from serving here, and
    the next recovery tries again.
    """
    problems: list[str] = []
    serving = moves.serving(gatling.db, app.name)
    for place in moves.others(gatling.db, app.name):
        try:
            if place == serving and app.wanted == "running":
                keep(gatling, app, place)
                continue
            remove(gatling, app, place)
            moves.end(gatling.db, app.name, place)
        except GatlingError as error:
            problems.append(
                f"{moves.said(place)} still has objects of {app.name}: {text_of(error)}"
                f" `gatling recover {app.name}` tries again."
            )
    return problems


def keep(gatling: Gatling, app: App, place: str) -> None:
    """Let a place serve as well, without workers; raises GatlingError."""
    if place == moves.HERE:
        _keep_here(gatling, app)
    else:
        _keep_there(gatling, app, place)


def _keep_here(gatling: Gatling, app: App) -> None:
    _end_workers(gatling, app)
    slot = moves.slot(gatling.db, app.name) or 1
    gatling.router.point(app.name, slot)
    if not gatling.instances.status(app.name, slot).up:
        release = releases.kept(gatling.db, app.name, app.live_release or 0)
        around = gatling.apps.surroundings(app.name)
        gatling.instances.start(spec.instance(around, app, release, slot))


def _keep_there(gatling: Gatling, app: App, place: str) -> None:
    from gatling.deploy.cluster import workers as there
    from gatling.platform.kubernetes import place as places

    with places.namespace(platforms.get(gatling.db, place)) as api:
        there.remove(api, app.name)
        _wait_for_workers(api, app.name)


def remove(gatling: Gatling, app: App, place: str) -> None:
    """Remove all that a place runs of an app; raises GatlingError."""
    if place == moves.HERE:
        _remove_here(gatling, app)
    else:
        _remove_there(gatling, app, place)


def _remove_here(gatling: Gatling, app: App) -> None:
    gatling.router.point(app.name, None)
    _end_workers(gatling, app)
    timeout = project_settings.parse(app.effective).instance.stop
    for slot in apps.SLOTS:
        gatling.instances.stop(app.name, slot, timeout)
    moves.end(gatling.db, app.name, moves.HERE)  # so that the proxy does not know it any more
    gatling.configure_router()


def _end_workers(gatling: Gatling, app: App) -> None:
    workers.stop(gatling, app.name)
    for process in gatling.instances.process_slots(app.name):
        gatling.instances.discard(app.name, process)


def _remove_there(gatling: Gatling, app: App, place: str) -> None:
    from gatling.deploy.cluster import objects
    from gatling.platform.kubernetes import place as places

    with places.namespace(platforms.get(gatling.db, place)) as api:
        objects.remove(api, app.name)
        _wait_for_workers(api, app.name)


def _wait_for_workers(api: Api, app: str) -> None:
    from gatling.deploy.cluster import objects

    deadline = time.monotonic() + WORKERS_SECONDS
    while _workers(api, app) and time.monotonic() < deadline:
        time.sleep(objects.POLL_SECONDS)


def _workers(api: Api, app: str) -> bool:
    """Whether a worker of an app still runs: two of it never do."""
    from gatling.deploy.cluster import objects
    from gatling.platform.kubernetes.objects import WEB

    there = objects.by_app(api, app).get(app, [])
    return any(pod.process != WEB for pod in there)
