"""A cluster that fails while an app is deployed, or serves: registry, quota, API server, a node."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING

from tests.cluster.conftest import NAMESPACE, Cluster, answers, probing
from tests.conftest import output_of, suspend, until

if TYPE_CHECKING:
    from tests.conftest import Project, World


def nodes(cluster: Cluster) -> list[str]:
    """The nodes of the pods that serve."""
    return [
        one["spec"]["nodeName"] for one in cluster.pods()
        if any(each["ready"] for each in one["status"].get("containerStatuses", ()))
    ]  # fmt: skip


def test_an_image_that_nodes_cannot_pull(shop: Project, world: World, cluster: Cluster) -> None:
    before = world.status()["release"]
    trusted = cluster.run / "registry.pem"
    kept = trusted.read_text()
    trusted.write_text((cluster.run / "etc/ca.crt").read_text())
    shop.title("not to be pulled")
    try:
        with probing():
            said = " ".join(shop.push(ok=False).split())
    finally:
        trusted.write_text(kept)
    assert "cannot pull the image of the pod shop-" in said
    assert "certificate" in said
    assert f"{before} is still live" in said
    assert world.status()["release"] == before


def test_a_quota_that_leaves_no_room(shop: Project, world: World, cluster: Cluster) -> None:
    before = world.status()["release"]
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "full", "namespace": NAMESPACE}, "spec": {"hard": {"pods": "2"}},
    }))  # fmt: skip

    def counted() -> bool:
        used = cluster.get("resourcequota", "full").get("status", {}).get("used", {})
        return bool(used.get("pods") == "2")

    until(counted, "the quota")
    shop.title("no room")
    try:
        with probing():
            said = " ".join(shop.push(ok=False).split())
    finally:
        cluster.kubectl("delete", "-n", NAMESPACE, "resourcequota", "full")
    assert "exceeded quota: full" in said
    assert "room for one more pod" in said
    assert world.status()["release"] == before


def test_an_api_server_that_is_away_for_a_while(
    shop: Project, world: World, cluster: Cluster
) -> None:
    server = int((cluster.run / "pid/api").read_text())
    shop.title("while it was away")
    push = shop.start_push()
    world.at_step("replace_instances")
    suspend(server)
    try:
        # the registry and the instances go on; the push waits
        with probing() as prober:
            until(lambda: prober.answers > 100, "answers while it is away")
        assert push.poll() is None
    finally:
        os.kill(server, signal.SIGCONT)
    assert "is live on prod" in output_of(push)


def test_the_instances_of_a_lost_node_run_elsewhere(
    shop: Project, world: World, cluster: Cluster
) -> None:
    assert shop.app == "shop"
    until(lambda: sorted(nodes(cluster)) == ["gk1", "gk2"], "an instance on each node")

    def link(state: str) -> None:
        subprocess.run(["ip", "-n", "gk-lan", "link", "set", "v2", state], check=True)

    link("down")
    try:
        until(lambda: nodes(cluster).count("gk1") == 2, "both instances on the node that is left")
        until(lambda: answers(1), "an answer")
        assert world.status()["state"] == "running"
        with probing(nodes=(1,)):
            world.run("config", "set", "shop", "GREETING=one node is enough")
    finally:
        link("up")
    until(lambda: len(cluster.pods()) == 2, "the end of the pods of the lost node")
