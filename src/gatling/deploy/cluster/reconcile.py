"""Make a cluster run what the records say of an app."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.deploy.cluster import objects as applied
from gatling.platform.kubernetes import place
from gatling.state import releases

if TYPE_CHECKING:
    from gatling.platform.open import Gatling
    from gatling.state.apps import App


def reconcile(gatling: Gatling, app: App) -> None:
    """Apply the live release as it was applied when it went live; without one remove all.

    No pod is replaced if nothing has changed. Raises ClusterFailed; what serves goes on.
    """
    with place.opened(gatling.db, app) as api:
        if app.live_release is None:
            applied.remove(api, app.name)
            return
        release = releases.get(gatling.db, app.name, app.live_release)
        pods = applied.apply(
            api, app, release, place.of(gatling.db, app), app.live_deployment or 0,
            runs=app.wanted == "running",
        )  # fmt: skip
        applied.remove(api, app.name, keep=pods)
