"""The files that builds of an app keep for the next build."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.build import caches
from gatling.platform import lock
from gatling.project import settings
from gatling.state import apps, audit

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatling.platform.open import Gatling


def clean(gatling: Gatling, app: str, *, dependencies: bool, say: Callable[[str], None]) -> None:
    """Remove compiled files, and with `dependencies` fetched ones as well.

    Waits for a running deployment, which `say` reports. Raises GatlingError.
    """
    found = apps.get(gatling.db, app)
    paths = gatling.home.app(app)
    directory = settings.parse(found.effective).build.directory
    with lock.hold_app(paths, say):
        caches.clean(gatling.tasks, paths, directory, dependencies=dependencies)
    action = "build clean --dependencies" if dependencies else "build clean"
    audit.record(gatling.db, gatling.actor, app, action)
