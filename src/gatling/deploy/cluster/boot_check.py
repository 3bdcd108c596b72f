"""The boot check of a hot upgrade on a cluster: a spare pod with the release, which never serves.

A swap runs no `start/2` and no `init/1`, so the upgraded nodes may serve, and pods that start later
be unable to. Without room for another pod, the check is left out, and the push says so.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from gatling.cleanup import finally_
from gatling.deploy.cluster import objects as applied
from gatling.deploy.cutover.instance import CHECK_VARIABLE
from gatling.errors import ClusterFailed, UnhealthyRelease
from gatling.platform.kubernetes import objects, rollout
from gatling.platform.kubernetes.objects import CHECK
from gatling.platform.kubernetes.pods import labels, part_name
from gatling.runtime import pods as spec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.deploy.context import Context
    from gatling.platform.kubernetes.api import Api
    from gatling.platform.kubernetes.pods import Object
    from gatling.state.platforms import Platform
    from gatling.state.releases import Release

ROOM_SECONDS = 20.0
"""For a node to take the pod. A cluster that scales its nodes takes minutes."""
STAYS_SECONDS = 1.0
"""A release listens before its last child is started, and has to stay up for so long."""


class BootCheck:
    """A release that is started in a pod of its own."""

    def __init__(self, context: Context, api: Api, release: Release) -> None:
        self._context, self._api, self._release = context, api, release
        self._name = f"{CHECK}-{context.deployment.id}"

    def start(self, platform: Platform) -> None:
        """Start the pod."""
        app, settings = self._context.app, self._context.settings
        number = self._context.deployment.id
        described = spec.described(app, self._release, settings, platform, number)
        applied.apply_config(self._api, app, self._release, platform, described)
        seconds = applied.PULL_SECONDS + settings.health.timeout
        health = spec.health(app, settings)
        self._api.apply(objects.boot_check(described, health, self._name, CHECK_VARIABLE, seconds))

    def wait(self) -> bool:
        """Wait for its boot; False if there is no room for the pod. Raises UnhealthyRelease."""
        with self._context.journal.step("boot_check"):
            return self._wait()

    def _wait(self) -> bool:
        label, limit = self._release.label, self._context.settings.health.timeout
        began = time.monotonic()
        started = ready = None
        while True:
            pod, now = self._pod(), time.monotonic()
            if pod is None or not (pod.get("spec") or {}).get("nodeName"):
                if now - began > ROOM_SECONDS:
                    found = rollout.problems(pod) if pod is not None else []
                    why = found[0].what if found else "the cluster has no room for another pod."
                    self._context.progress.note(f"the boot of {label} was not checked: {why}")
                    return False
                time.sleep(applied.POLL_SECONDS)
                continue
            status = rollout.exit_status(pod)
            if status is not None:
                raise self._failed(pod, f"{label} does not boot: it ended with status {status}.")
            problems = rollout.problems(pod)
            if problems and problems[0].final:
                raise self._failed(pod, f"{label} does not boot: {problems[0].what}")
            if started is None and rollout.started(pod):
                started = now
            if rollout.shown(pod).ready:
                ready = ready or now
                if now - ready >= STAYS_SECONDS:
                    return True
            else:
                ready = None
            if now - (started or began) > (limit if started else applied.PULL_SECONDS):
                raise self._failed(pod, f"{label} was not ready within {limit:.0f} s of its boot.")
            time.sleep(applied.POLL_SECONDS)

    def _pod(self) -> Object | None:
        found = self._api.every("Pod", {"job-name": self._job})
        return found[0] if found else None

    @property
    def _job(self) -> str:
        return part_name(self._context.app.name, self._name)

    def _failed(self, pod: Object, what: str) -> UnhealthyRelease:
        lines = self._api.log(pod["metadata"]["name"], lines=applied.LOG_LINES)
        return UnhealthyRelease(
            what, log=applied.without_times(lines),
            hint="Pods that start later would not. `hot.boot_check = off` leaves this check out.",
        )  # fmt: skip

    def remove(self) -> None:
        """Remove the pod."""
        self._api.remove("Job", self._job)


@contextlib.contextmanager
def beside(
    context: Context, api: Api, release: Release, platform: Platform
) -> Iterator[BootCheck | None]:
    """A check that is begun, and ends with the block; None if the settings have none.

    Nor do they with the strategy `restart`: such an app must not run twice.
    """
    settings = context.settings
    if settings.hot.boot_check == "off" or settings.deploy.strategy == "restart":
        yield None
        return
    check = BootCheck(context, api, release)
    with finally_(check.remove):
        check.start(platform)
        yield check


def clean(api: Api, app: str) -> None:
    """Remove what a killed deployment has left."""
    with contextlib.suppress(ClusterFailed):  # its Job ends by its own time limit
        for one in api.every("Job", labels(app, CHECK)):
            api.remove("Job", one["metadata"]["name"])
