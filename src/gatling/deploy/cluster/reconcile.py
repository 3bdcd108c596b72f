"""Make a cluster run what the records say of an app."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.deploy.cluster import back, boot_check, maintenance, workers
from gatling.deploy.cluster import objects as applied
from gatling.platform.kubernetes import place
from gatling.state import releases

if TYPE_CHECKING:
    from gatling.platform.open import Gatling
    from gatling.state.apps import App


def reconcile(
    gatling: Gatling, app: App, *, perhaps_upgraded: bool = False, restart: bool = False
) -> list[str]:
    """Apply the live release as it was applied when it went live; without one remove all.

    Returns the problems of its workers, and the pods that were replaced, in words.

    No pod is replaced if nothing has changed. `perhaps_upgraded`: a hot upgrade may have left pods
    with another release than their template has, so each is asked. `restart`: pods of another
    release end before those of the live one start. Raises ClusterFailed; what serves goes on.
    """
    with place.opened(gatling.db, app) as api:
        if app.live_release is None:
            applied.remove(api, app.name)
            return []
        release = releases.get(gatling.db, app.name, app.live_release)
        platform = place.of(gatling.db, app)
        runs = app.wanted == "running"
        if app.maintenance is not None:
            maintenance.follow(gatling, api, app, release, platform)
        pods = applied.apply(
            api, app, release, platform, app.live_deployment or 0, runs=runs,
            upgraded=perhaps_upgraded, restart=restart,
        )  # fmt: skip
        problems = workers.follow(gatling, api, app, release, platform)
        if perhaps_upgraded and runs:
            problems += [
                f"the pod {name} did not run {release.label}, and was replaced"
                for name in back.to_release(gatling, app, api, release)
            ]
        applied.remove(api, app.name, keep=pods)
        if perhaps_upgraded:
            boot_check.clean(api, app.name)
        return problems
