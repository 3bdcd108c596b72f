"""Bring all pods to the live release, whatever a hot upgrade that was cut off has left in them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gatling import times
from gatling.beam.control import NodeBusy
from gatling.deploy.cluster import nodes
from gatling.deploy.cluster import objects as applied
from gatling.errors import ClusterFailed, NodeUnreachable
from gatling.platform.kubernetes.pods import DEPLOYMENT, RELEASE
from gatling.state import releases

if TYPE_CHECKING:
    from gatling.beam.control import Control
    from gatling.deploy.cluster.nodes import Pod
    from gatling.paths import AppPaths
    from gatling.platform.kubernetes.api import Api
    from gatling.platform.open import Gatling
    from gatling.state.apps import App
    from gatling.state.releases import Release

PATIENCE_SECONDS = 30.0
"""For a node that boots, or that another command is connected to."""
SWAP_ENDS_SECONDS = 60.0
"""For a swap whose command was killed: the nodes go back by themselves."""
SUSPEND_SECONDS = 10.0
REPLACED_SECONDS = 300.0


def to_release(gatling: Gatling, app: App, api: Api, live: Release) -> list[str]:
    """Let every pod run the live release, now and at its next start; the pods that were replaced.

    A pod whose node runs another one is swapped back. One where that is not possible is deleted,
    and its Deployment, whose template is of the live release, starts another. They are deleted one
    after the other.
    """
    paths = gatling.home.app(app.name)
    known = {
        f"v{number}": releases.get(gatling.db, app.name, number)
        for number in releases.kept_commits(gatling.db, app.name)
    }
    pods = {pod.name: pod for pod in nodes.found(applied.pods_of(api, app.name))}
    number = app.live_deployment or 0

    def bring(name: str, pod: Pod) -> None:
        _bring(api, paths, pod, live, known)
        _mark(api, name, live, number)

    outcome = nodes.of_all(bring, pods)
    wrong = [name for name, error in outcome.items() if error is not None]
    for name in wrong:
        _replace(api, app, name, live)
    return wrong


def _bring(
    api: Api, paths: AppPaths, pod: Pod, live: Release, known: dict[str, Release]
) -> None:  # fmt: skip
    """Let a pod run the live release; waits for one that boots."""
    for last in times.looks(PATIENCE_SECONDS, 1):
        try:
            with nodes.connected(api, paths, live, pod, PATIENCE_SECONDS) as node:
                _swap(paths, node, live, known)
                break
        except NodeBusy:
            raise
        except NodeUnreachable:
            if pod.ready or last:
                raise


def _swap(paths: AppPaths, node: Control, live: Release, known: dict[str, Release]) -> None:
    runs = _when_swapped(node)
    if runs != live.label:
        if runs not in known:
            raise NodeUnreachable(f"The node runs {runs}, which does not exist.")
        root = paths.release(live.number)
        nodes.deliver(node, root, nodes.entries(root), live.number, {runs})
        swapped = node.swap(known[runs], live, None, suspend=SUSPEND_SECONDS, insist=True)
        if swapped.failed:
            raise NodeUnreachable(f"Children: {'; '.join(swapped.failed)}.")
    nodes.point(node, live.number)


def _when_swapped(node: Control) -> str:
    deadline = time.monotonic() + SWAP_ENDS_SECONDS
    while True:
        late = time.monotonic() >= deadline
        try:
            return nodes.running(node)
        except NodeBusy as busy:
            if busy.broken or late:
                raise
            time.sleep(0.1)


def _mark(api: Api, pod: str, live: Release, deployment: int) -> None:
    change = {"labels": {RELEASE: live.label}, "annotations": {DEPLOYMENT: str(deployment)}}
    try:
        api.patch("Pod", pod, {"metadata": change})
    except ClusterFailed as error:
        if error.reason != "missing":  # it has ended
            raise


def _replace(api: Api, app: App, pod: str, live: Release) -> None:
    """Delete a pod, and wait until as many serve as before."""
    api.remove("Pod", pod)
    wanted = applied.settings_of(app, live).cluster.instances
    for _ in times.looks(REPLACED_SECONDS, applied.POLL_SECONDS):
        ready = sum(one.ready for one in nodes.found(applied.pods_of(api, app.name)))
        if ready >= wanted:
            return
