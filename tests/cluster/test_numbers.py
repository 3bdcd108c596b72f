"""The numbers of an app on a real cluster: each pod's node is measured through the API server."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from tests.cluster.conftest import NAMESPACE, get
from tests.conftest import until
from tests.operations.sinks import http_sink
from tests.operations.test_metrics import parsed

if TYPE_CHECKING:
    import pytest

    from tests.cluster.conftest import Cluster
    from tests.conftest import Project, World


def names(cluster: Cluster) -> list[str]:
    return sorted(one["metadata"]["name"] for one in cluster.pods())


def test_stats_are_those_of_each_instance(shop: Project, world: World, cluster: Cluster) -> None:
    assert shop.app == "shop"
    get()
    found = world.json("stats", "shop")
    assert [one["name"] for one in found["instances"]] == names(cluster)
    assert {one["host"] for one in found["instances"]} == {"gk1", "gk2"}
    for one in found["instances"]:
        assert one["node_unknown"] is None, one
        assert one["node"]["numbers"]["limits"]["process"][0] > 20
        assert one["memory"] > 10_000_000
        assert one["cpu_seconds"] > 0
        assert one["node"]["processes"]
    assert found["memory"] == sum(one["memory"] for one in found["instances"])
    assert found["node"] is None
    assert "clients" in found["requests_unknown"]

    said = world.run("stats", "shop")
    assert all(name in said for name in names(cluster))
    assert "gk1" in said
    alone = world.run("stats", "shop", "--instance", names(cluster)[1])
    assert "Processes with the most memory" in alone
    assert names(cluster)[0] not in alone
    missing = world.run("stats", "shop", "--instance", "other", ok=False)
    assert names(cluster)[0] in missing


def test_metrics_have_a_label_for_the_pod(shop: Project, world: World, cluster: Cluster) -> None:
    assert shop.app == "shop"
    found = parsed(world.run("metrics"))
    assert found["gatling_app_up", 'app="shop"'] == 1
    for name in names(cluster):
        own = f'app="shop",pod="{name}"'
        assert found["gatling_app_node_reachable", own] == 1
        assert found["erlang_vm_process_count", own] > 20
        assert found["gatling_instance_memory_bytes", own] > 10_000_000


def test_watch_samples_the_instances(shop: Project, world: World) -> None:
    assert shop.app == "shop"
    world.run("watch", "on")
    try:
        until(lambda: world.json("watch", "show", "shop")["points"], "a sample")
        (point, *_) = world.json("watch", "show", "shop")["points"]
        assert point["up"] > 0
        assert point["memory"] > 10_000_000
        assert point["processes"] > 20
    finally:
        world.run("watch", "off")


def test_a_drain_gets_the_lines_of_all_instances(
    shop: Project, world: World, cluster: Cluster, request: pytest.FixtureRequest
) -> None:
    assert shop.app == "shop"
    sink = http_sink(request.addfinalizer)
    world.run("drains", "add", "shop", sink.url)
    (drain,) = world.json("drains", "list", "shop")

    def senders() -> set[str]:
        lines = [json.loads(line) for got in sink.got for line in got.body.splitlines()]
        return {one["process"] for one in lines if "said by" in one["text"]}

    try:
        for name in names(cluster):
            cluster.kubectl("exec", "-n", NAMESPACE, name, "-c", "app", "--", "sh", "-c",
                            f"echo said by {name} >/proc/1/fd/1")  # fmt: skip
        until(lambda: senders() == set(names(cluster)), "a line of each instance")
    finally:
        world.run("drains", "remove", "shop", str(drain["id"]))


def test_top_shows_an_instance(shop: Project, world: World, cluster: Cluster) -> None:
    assert shop.app == "shop"
    master, terminal = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "gatling", "top", "shop"],
        stdin=terminal, stdout=terminal, stderr=terminal,
        env=world.env | {"TERM": "xterm", "LINES": "40", "COLUMNS": "140"},
    )  # fmt: skip
    os.close(terminal)
    output = ""
    try:
        deadline = time.monotonic() + 60
        while "i next instance" not in output and time.monotonic() < deadline:
            if select.select([master], [], [], 1)[0]:
                output += os.read(master, 65536).decode(errors="replace")
        assert f"{names(cluster)[0]} on gk" in output, output
        assert "(1 of 2)" in output
        # what follows is drawn where it differs only; cli/test_top.py has the pictures
        os.write(master, b"iq")
        assert child.wait(timeout=60) == 0
    finally:
        child.kill()
        child.wait()
        os.close(master)
