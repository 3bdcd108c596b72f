"""Figures of deployments on a cluster: hot, rolling, and a plain `kubectl rollout` of the image.

    bin/test-kubernetes -s tests/cluster/figures.py

Each changes one line of the app and is repeated, `GATLING_ROUNDS` times each. The times are those
from the command until both nodes of the cluster answer with the new page alone, and until the
command ends. `kubectl` builds nothing. So a push has a second time, which begins when the image is
ready and the instances begin to change.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import statistics
import threading
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.conftest import NAMESPACE, Cluster
from tests.conftest import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Project, World

pytestmark = pytest.mark.timeout(3600)
ROUNDS = int(os.environ.get("GATLING_ROUNDS", "5"))
PORTS = {"shop": 30080, "plain": 30081}
BEFORE = ("replace_instances", "reach_nodes")
"""The first step in which the cluster does something, of a rolling and of a hot deployment."""


class Watch:
    """Asks both nodes for the page, each time with a new connection."""

    def __init__(self, port: int) -> None:
        self._port, self._stop = port, threading.Event()
        self.failed = self.asked = 0
        self.seen: dict[int, list[tuple[float, str]]] = {1: [], 2: []}
        self._threads = [threading.Thread(target=self._run, args=(node,)) for node in (1, 2)]

    def _run(self, node: int) -> None:
        while not self._stop.wait(0.02):
            self.asked += 1
            try:
                url = f"http://10.78.0.1{node}:{self._port}/"
                with urllib.request.urlopen(url, timeout=10) as answer:
                    page = answer.read().decode()
            except OSError:
                self.failed += 1
            else:
                self.seen[node].append((time.monotonic(), page))

    def __enter__(self) -> Watch:  # noqa: PYI034
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(1)  # for the last answers of what has been replaced
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def alone(self, title: str) -> float:
        """The time from which on all answers have had this title."""
        old = [at for seen in self.seen.values() for at, page in seen if title not in page]
        new = [at for seen in self.seen.values() for at, page in seen if title in page]
        return min(at for at in new if at > max(old, default=0.0))


def measured(port: int, change: Callable[[], str], title: str) -> dict[str, Any]:
    with Watch(port) as watch:
        until(lambda: watch.asked > 20, "requests")
        began = time.monotonic()
        said = change()
        ended = time.monotonic()
    return {"said": said, "live": watch.alone(title) - began, "ended": ended - began,
            "failed": watch.failed, "asked": watch.asked}  # fmt: skip


def shown(name: str, rounds: list[dict[str, Any]]) -> None:
    def middle(key: str) -> str:
        values = [one[key] for one in rounds if key in one]
        if not values:
            return "-"
        return f"{statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f})"

    failed, asked = (sum(one[key] for one in rounds) for key in ("failed", "asked"))
    print(
        f"{name:22} live after {middle('live')} s, command {middle('ended')} s, of which the"
        f" cluster {middle('there')} s; apart {middle('apart')} ms; {failed} of {asked} failed"
    )


def pushed(shop: Project, world: World, title: str) -> dict[str, Any]:
    shop.title(title)
    found = measured(PORTS["shop"], shop.push, title)
    steps = world.last()["steps"]
    at = next(i for i, one in enumerate(steps) if one["name"] in BEFORE)
    found["there"] = sum(one["seconds"] or 0 for one in steps[at:])
    if apart := re.search(r"side by side for at most (\d+) ms", " ".join(found["said"].split())):
        found["apart"] = float(apart[1])
    return found


@contextlib.contextmanager
def plain(cluster: Cluster) -> Iterator[None]:
    """A Deployment as somebody may write it: the same pods, with neither preStop nor a label."""
    there = cluster.get("deployment", "shop")["spec"]
    template = there["template"]
    template["metadata"] = {"labels": {"plain": "yes"}}
    for container in template["spec"]["containers"]:
        container.pop("lifecycle", None)
    template["spec"].pop("terminationGracePeriodSeconds", None)
    for one in (
        {"apiVersion": "apps/v1", "kind": "Deployment",
         "metadata": {"name": "plain", "namespace": NAMESPACE},
         "spec": {"replicas": 2, "selector": {"matchLabels": {"plain": "yes"}},
                  "template": template}},
        {"apiVersion": "v1", "kind": "Service",
         "metadata": {"name": "plain", "namespace": NAMESPACE},
         "spec": {"type": "NodePort", "selector": {"plain": "yes"},
                  "ports": [{"port": 80, "targetPort": "http", "nodePort": PORTS["plain"],
                             "protocol": "TCP"}]}},
    ):  # fmt: skip
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps(one))
    try:
        cluster.kubectl("rollout", "status", "-n", NAMESPACE, "deployment/plain")
        yield
    finally:
        cluster.kubectl("delete", "-n", NAMESPACE, "deployment/plain", "service/plain")


def rolled_out(cluster: Cluster, images: dict[str, str]) -> str:
    """Set the images of the containers, and wait."""
    pairs = [f"{name}={image}" for name, image in images.items()]
    cluster.kubectl("set", "image", "-n", NAMESPACE, "deployment/plain", *pairs)
    return cluster.kubectl("rollout", "status", "-n", NAMESPACE, "deployment/plain")


def images(cluster: Cluster) -> dict[str, str]:
    spec = cluster.get("deployment", "shop")["spec"]["template"]["spec"]
    return {
        one["name"]: one["image"]
        for one in (*spec["containers"], *spec.get("initContainers", ()))
    }  # fmt: skip


def test_figures(shop: Project, world: World, cluster: Cluster) -> None:
    rolling, rollout, known = [], [], {}
    for number in range(ROUNDS):
        title = f"rolling {number}!"
        rolling.append(pushed(shop, world, title))
        known[title] = images(cluster)
    world.run("settings", "unset", "shop", "deploy.strategy")
    hot = [pushed(shop, world, f"hot {number}!") for number in range(ROUNDS)]
    with plain(cluster):
        for title, of in known.items():
            change = functools.partial(rolled_out, cluster, of)
            found = measured(PORTS["plain"], change, title)
            rollout.append(found | {"there": found["ended"]})
    print()
    shown("push, hot", hot)
    shown("push, rolling", rolling)
    shown("kubectl rollout", rollout)
    for said in (hot[-1]["said"], rolling[-1]["said"]):
        print("\n".join(line for line in said.splitlines() if "image" in line or "sent" in line))
    assert not sum(one["failed"] for one in (*hot, *rolling))
