"""The maintenance page of an app on a cluster: a pod of its own, to which the Service leads."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gatling.deploy import published
from gatling.deploy.cluster import objects as applied
from gatling.errors import UnhealthyRelease
from gatling.platform.kubernetes import objects, page, rollout
from gatling.platform.kubernetes.page import PAGE
from gatling.platform.kubernetes.pods import labels
from gatling.runtime import pods as spec

if TYPE_CHECKING:
    from gatling.platform.kubernetes.api import Api
    from gatling.platform.open import Gatling
    from gatling.state.apps import App
    from gatling.state.platforms import Platform
    from gatling.state.releases import Release

WAIT_SECONDS = 60.0
"""Until the page answers. The image is on a node already, unless that is lost."""


def follow(gatling: Gatling, api: Api, app: App, release: Release, platform: Platform) -> None:
    """Show the page, or serve the app, as the records say.

    Raises ClusterFailed, and UnhealthyRelease for a page that does not answer; the Service leads
    where it did then.
    """
    settings = applied.settings_of(app, release)
    pods = spec.described(app, release, settings, platform, app.live_deployment or 0)
    if app.maintenance is None:
        api.apply(objects.service(pods))
        _remove(api, app.name, keep="")
        return
    text = published.page(gatling, app, settings)
    applied.apply_login(api, platform)
    api.apply(page.secret(pods, text))
    wanted = page.deployment(pods, text)
    _wait(api, app.name, api.apply(wanted)["metadata"]["generation"])
    api.apply(objects.service(pods, PAGE))
    _remove(api, app.name, keep=page.secret_name(pods, text))


def _wait(api: Api, app: str, generation: int) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        found = api.find("Deployment", page.name(app)) or {}
        status = found.get("status") or {}
        if status.get("observedGeneration", 0) >= generation and all(
            status.get(key, 0) == 1 for key in ("replicas", "updatedReplicas", "availableReplicas")
        ):
            return
        if time.monotonic() > deadline:
            there = api.every("Pod", labels(app, PAGE))
            why = [one.what for pod in there for one in rollout.problems(pod)]
            raise UnhealthyRelease(
                f"The maintenance page of {app} does not answer on the cluster."
                f" {' '.join(why[:1])}".rstrip()
            )
        time.sleep(applied.POLL_SECONDS)


def _remove(api: Api, app: str, *, keep: str) -> None:
    """Remove what was needed for another page; all without one to keep."""
    if not keep:
        api.remove("Deployment", page.name(app))
    for one in api.every("Secret", labels(app, PAGE)):
        if one["metadata"]["name"] != keep:
            api.remove("Secret", one["metadata"]["name"])
