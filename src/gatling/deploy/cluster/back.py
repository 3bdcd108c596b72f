"""Bring all pods to the live release, whatever a hot upgrade that was cut off has left in them."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling import times
from gatling.beam.control import NodeBusy
from gatling.deploy.cluster import nodes, planner
from gatling.deploy.cluster import objects as applied
from gatling.deploy.plan import obstacles
from gatling.errors import ClusterFailed, NodeUnreachable
from gatling.platform.kubernetes.pods import DEPLOYMENT, RELEASE
from gatling.state import releases

if TYPE_CHECKING:
    from gatling.beam.control import Control
    from gatling.deploy.cluster.nodes import Pod
    from gatling.paths import AppPaths
    from gatling.platform.kubernetes.api import Api
    from gatling.platform.open import Gatling
    from gatling.project.settings import Hot
    from gatling.state.apps import App
    from gatling.state.releases import Release

PATIENCE_SECONDS = 30.0
"""For a node that boots, or that another command is connected to."""
SWAP_ENDS_SECONDS = 60.0
"""For a swap whose command was killed: the nodes go back by themselves."""
SUSPEND_SECONDS = 10.0
REPLACED_SECONDS = 300.0


class _Way(Struct, frozen=True):
    """The way of a pod to the live release."""

    api: Api
    paths: AppPaths
    live: Release
    known: dict[str, Release]
    """All releases that a node may run, by label."""
    hot: Hot


def to_release(gatling: Gatling, app: App, api: Api, live: Release) -> list[str]:
    """Let every pod run the live release, now and at its next start; the pods that were replaced.

    A pod whose node runs another one is swapped back. One where that is not possible is deleted,
    and its Deployment, whose template is of the live release, starts another. They are deleted one
    after the other.
    """
    known = {
        f"v{number}": releases.get(gatling.db, app.name, number)
        for number in releases.kept_commits(gatling.db, app.name)
    }
    way = _Way(
        api, gatling.home.app(app.name), live, known, applied.settings_of(app, live).hot
    )  # fmt: skip
    pods = {pod.name: pod for pod in nodes.found(applied.pods_of(api, app.name))}
    number = app.live_deployment or 0

    def bring(name: str, pod: Pod) -> None:
        _bring(way, pod)
        _mark(api, name, live, number)

    outcome = nodes.of_all(bring, pods)
    wrong = [name for name, error in outcome.items() if error is not None]
    for name in wrong:
        _replace(api, app, name, live)
    return wrong


def _bring(way: _Way, pod: Pod) -> None:
    """Let a pod run the live release; waits for one that boots."""
    for last in times.looks(PATIENCE_SECONDS, 1):
        try:
            with nodes.connected(way.api, way.paths, way.live, pod, PATIENCE_SECONDS) as node:
                _swap(way, pod.name, node)
                break
        except NodeBusy:
            raise
        except NodeUnreachable:
            if pod.ready or last:
                raise


def _swap(way: _Way, pod: str, node: Control) -> None:
    live, runs = way.live, _when_swapped(node)
    if runs != live.label:
        if runs not in way.known:
            raise NodeUnreachable(f"The node runs {runs}, which does not exist.")
        before = way.known[runs]
        root = way.paths.release(live.number)
        nodes.deliver(node, root, nodes.entries(root), live.number, {runs})
        with contextlib.ExitStack() as stack:
            planner.forget_later(node, stack)
            found, answers = planner.compared(way.api, way.paths, pod, node, before, live)
            problems = obstacles.answered(found, way.hot) if answers is not None else []
            if problems:  # such as config that is read at boot: another pod takes its place
                raise NodeUnreachable(f"{'; '.join(problems)}.")
            swapped = node.swap(before, live, answers, suspend=SUSPEND_SECONDS, insist=True)
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
