"""Make a cluster run what the records say of an app."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.deploy.cluster import objects as applied
from gatling.deploy.cluster import workers
from gatling.platform.kubernetes import place
from gatling.state import releases

if TYPE_CHECKING:
    from gatling.platform.open import Gatling
    from gatling.state.apps import App


def reconcile(gatling: Gatling, app: App) -> list[str]:
    """Apply the live release as it was applied when it went live; without one remove all.

    Returns the problems of its workers, in words.

    No pod is replaced if nothing has changed. Raises ClusterFailed; what serves goes on.
    """
    with place.opened(gatling.db, app) as api:
        if app.live_release is None:
            applied.remove(api, app.name)
            return []
        release = releases.get(gatling.db, app.name, app.live_release)
        platform = place.of(gatling.db, app)
        pods = applied.apply(
            api, app, release, platform, app.live_deployment or 0, runs=app.wanted == "running"
        )
        problems = workers.follow(gatling, api, app, release, platform)
        applied.remove(api, app.name, keep=pods)
        return problems
