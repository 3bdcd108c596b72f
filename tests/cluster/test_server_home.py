"""A server with systemd, in a box, whose apps run on a real cluster.

What the cluster does is tested from the home of a user. Here it is what differs on a server: root
adds the cluster, `gatling` connects to it, people come over SSH, and the machine boots again.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.conftest import NAMESPACE, REGISTRY, expose, get, probing
from tests.conftest import until
from tests.images.registries import LOGIN
from tests.server.bed import Bed
from tests.server.conftest import _installed
from tests.server.host import in_network, run, why_not
from tests.server.network import PREFIX
from tests.server.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.conftest import Cluster
    from tests.images import registries
    from tests.server.box import Box

pytestmark = pytest.mark.timeout(3600)
END = f"{PREFIX}250"
"""The address of the cluster's end of the cable to the boxes."""


@pytest.fixture(scope="module")
def server(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Gatling host with a way to the cluster."""
    if reason := why_not():
        pytest.skip(reason)
    bed = Bed()
    try:
        # this process is in the network of the cluster, which leads nowhere else
        with in_network(Path(f"/proc/{os.getppid()}/ns/net")):
            image = _installed(bed)
        box = bed.box(image=image)
        box.up()
        wire(bed, box)
        yield Server(box, tmp_path_factory.mktemp("server"))
    finally:
        bed.close()


def wire(bed: Bed, box: Box) -> None:
    """Join the network of the boxes and that of the cluster, whose nodes have a way back."""
    lan = bed.lan
    run("ip", "-n", "gk-lan", "link", "add", "boxes", "type", "veth", "peer", "name", "cluster",
        "netns", lan.name)  # fmt: skip
    lan.ip("link", "set", "cluster", "master", "br0", "up")
    run("ip", "-n", "gk-lan", "addr", "add", f"{END}/24", "dev", "boxes")
    run("ip", "-n", "gk-lan", "link", "set", "boxes", "up")
    run("ip", "netns", "exec", "gk-lan", "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    run("ip", "-n", lan.namespace(box.number), "route", "add", "10.78.0.0/24", "via", END)


def test_a_server_deploys_to_a_cluster(
    server: Server, cluster: Cluster, kubeconfig: Path, registry: registries.Running
) -> None:
    assert registry.trusted is not None
    password = kubeconfig.with_name("password")
    password.write_text(LOGIN.password)
    # as an administrator has them: only root can read them
    for file in (kubeconfig, password, registry.trusted):
        server.box.put(file, "/root")
        server.box.exec(["chmod", "600", f"/root/{file.name}"])
    said = server.gatling(
        "platform", "add", "prod", "--kubeconfig", f"/root/{kubeconfig.name}",
        "--registry", f"{REGISTRY}/team", "--registry-user", LOGIN.user,
        "--registry-password", f"/root/{password.name}",
        "--registry-ca", f"/root/{registry.trusted.name}",
    )  # fmt: skip
    assert "The platform prod was added" in said
    ann = server.admin("ann")
    assert [one["name"] for one in ann.json("platform", "list")] == ["prod"]
    states = {
        one["name"]: one["state"] for one in ann.json("platform", "check", "prod")["findings"]
    }
    assert {states[name] for name in ("cluster", "rights", "namespace", "registry")} == {"ok"}
    # over SSH the kubeconfig is what comes in, and others may not add any
    said = ann.run("platform", "add", "second", stdin=kubeconfig.read_text())
    assert "The platform second was added" in said
    ann.run("platform", "remove", "second")
    server.let_in("bob", "shop").run("platform", "list", status=5)

    ann.run("load", "shop", "--platform", "prod")
    ann.run("settings", "set", "shop", "instance.drain=1", "health.path=/health")
    shop = ann.project()
    shop.push()
    expose(cluster)
    until(
        lambda: ann.json("status", "shop")["instance"] == "1 of 1 ready on prod",
        "the end of the pods of an app that was there before",
    )
    shop.title("second")
    with probing():
        assert "is live on prod (hot" in shop.push()
        assert "second" in get("/")
        ann.run("rollback", "shop")
    assert "second" not in get("/")
    assert "1" in ann.run("run", "shop", "--", "rpc", "IO.puts(1)")
    assert ann.run("logs", "shop")

    # the machine loses its power in a deployment, and the cluster serves on
    live = ann.json("status", "shop")["release"]
    ann.run("settings", "set", "shop", "deploy.strategy=rolling")
    shop.title("third")
    with probing(), server.until_step("replace_instances"):
        push = shop.start_push()
    server.box.crash()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(push.pid, signal.SIGKILL)
    push.communicate(timeout=60)
    server.box.start()
    until(lambda: server.last()["outcome"] == "interrupted", "the recovery at boot")
    assert server.status()["release"] == live

    def only() -> bool:
        pods = cluster.pods()
        return {one["metadata"]["labels"]["gatling/release"] for one in pods} == {live}

    until(only, "the pods of the live release")

    # to the server itself, and back
    ann.run("move", "shop", "--to", "here", "--finish")
    until(lambda: server.serves(""), "the app on the server")
    ann.run("domains", "add", "shop", "shop.example.com")
    assert "this machine serves shop as well" in ann.run("move", "shop", "--to", "prod")
    assert server.get(host="shop.example.com").status == 200
    server.box.reboot()
    until(lambda: server.get(host="shop.example.com").status == 200, "both places after a boot")
    expose(cluster)
    ann.run("move", "shop", "--finish")
    assert server.get(host="shop.example.com").status != 200
    assert server.processes("gatling-shop") == []
    ann.run("unload", "shop", "--confirm", "shop")
    assert cluster.get("deployments")["items"] == [], NAMESPACE
