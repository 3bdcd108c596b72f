"""Pods that differ from the others are replaced before a hot upgrade, so that it takes in all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling import times
from gatling.deploy.cluster import nodes
from gatling.deploy.cluster import objects as applied

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from gatling.deploy.cluster.nodes import Pod
    from gatling.platform.kubernetes.api import Api
    from gatling.project.settings import Settings
    from gatling.state.apps import App
    from gatling.state.releases import Release

START_SECONDS = 60.0
"""For a node to take a pod and start its app; `health.timeout` comes on top."""


class NotReplaced(Exception):
    """Why a pod was not replaced, in words."""


def too_many(differ: Mapping[str, str], serving: Collection[str]) -> str:
    """Why these pods are not replaced before the others are upgraded; empty if they can be. Pure.

    A rolling deployment has a new pod ready before an old one ends. A deleted pod is missed, so as
    many must serve as differ. If most differ, a rolling deployment is done sooner.
    """
    if len(differ) <= len(serving):
        return ""
    name, why = next(iter(differ.items()))
    others = f" (one of {len(differ)} pods that differ)" if len(differ) > 1 else ""
    return f"the pod {name} {why}{others}"


def replace(
    api: Api, app: App, live: Release, differ: Collection[str], settings: Settings
) -> list[str]:
    """Replace these pods one after the other; each new one is ready before the next one ends.

    A pod that is starting with the live release has `health.timeout` to become ready, and is kept
    then. Returns the pods that were replaced. Raises NotReplaced if another does not become ready.
    """
    limit = START_SECONDS + settings.health.timeout
    first = _pods(api, app)
    starting = {
        name for name in differ
        if name in first and not first[name].ready and first[name].release == live.label
    }  # fmt: skip
    if starting:
        _wait(api, app, starting, settings.health.timeout)
    replaced: list[str] = []
    # those that do not serve come first: none that does is missed for them
    for name in sorted(differ, key=lambda one: one in first and first[one].ready):
        now = _pods(api, app)
        pod = now.get(name)
        if pod is None or (name in starting and pod.ready):
            continue
        count = len(now)
        api.remove("Pod", name)
        replaced.append(name)
        for last in times.looks(limit, applied.POLL_SECONDS):
            there = {one: each for one, each in _pods(api, app).items() if one != name}
            new = [each for one, each in there.items() if one not in now]
            waits = [each for each in new if not (each.ready and each.release == live.label)]
            if len(there) >= count and not waits:
                break
            if last:
                other = f"{waits[0].name} did not serve" if waits else "no other pod started"
                raise NotReplaced(f"the pod {name} was deleted, and {other} within {limit:.0f} s")
    return replaced


def _pods(api: Api, app: App) -> dict[str, Pod]:
    return {pod.name: pod for pod in nodes.found(applied.pods_of(api, app.name))}


def _wait(api: Api, app: App, names: Collection[str], seconds: float) -> None:
    for _ in times.looks(seconds, applied.POLL_SECONDS):
        there = _pods(api, app)
        if all(there[name].ready for name in names if name in there):
            return
