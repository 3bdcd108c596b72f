"""Erlang's distribution between the pods of an app over TLS."""

from __future__ import annotations

import base64
import datetime as dt
import json
import re
from typing import TYPE_CHECKING

import pytest

from gatling.platform.kubernetes import distribution
from gatling.platform.kubernetes.pods import DISTRIBUTION
from tests.cluster.conftest import NAMESPACE, Cluster, Pods, expose, load, probing
from tests.conftest import until
from tests.home.test_commands import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Project, World

pytestmark = pytest.mark.timeout(1200)
SECRET = "distribution-shop"  # noqa: S105 (the name of an object)
WITHOUT, WITH = "extra_applications: [:logger]", "extra_applications: [:logger, :ssl]"
ALONE = "-start_epmd false -erl_epmd_port 4370 -dist_listen false"


@pytest.fixture(scope="module")
def encrypted(world: World, cluster: Cluster) -> Iterator[Project]:
    """An app of two instances, without encryption yet."""
    project = load(world)
    world.run("settings", "unset", "shop", "deploy.strategy")
    project.push()
    world.run("scale", "shop", "web=2")
    expose(cluster)
    yield project
    world.run("unload", "shop", "--confirm", "shop")


def inside(cluster: Cluster, pod: str, script: str, *words: str, stdin: str | None = None) -> str:
    return cluster.kubectl(
        "exec", "-i", "-n", NAMESPACE, pod, "-c", "app", "--", "sh", "-c", script, "sh", *words,
        stdin=stdin,
    )  # fmt: skip


def connects(cluster: Cluster, one: str, other: str) -> bool:
    """Whether the node of a pod has a connection to that of another, or makes one."""
    address = cluster.get("pod", other)["status"]["podIP"]
    script = 'ERL_ZFLAGS="$ERL_ZFLAGS -dist_listen false" exec bin/counter rpc "$1"'
    said = inside(cluster, one, script, f'IO.inspect(Node.connect(:"counter@{address}"))')
    return said.strip() == "true"


def asked(cluster: Cluster, pod: str, flags: str) -> bool:
    """Whether a node with the cookie and these flags gets an answer of the node in the pod."""
    script = 'ERL_ZFLAGS="$1" timeout 60 bin/counter rpc "IO.puts(:yes)" || true'
    return "yes" in inside(cluster, pod, script, f"{ALONE} {flags}")


def keys(cluster: Cluster) -> dict[str, str]:
    data: dict[str, str] = cluster.get("secret", SECRET)["data"]
    return data


def test_an_app_without_ssl_is_refused(encrypted: Project, world: World) -> None:
    before = world.status()["release"]
    world.run("settings", "set", "shop", "cluster.tls=true")
    encrypted.title("no ssl")
    said = " ".join(encrypted.push(ok=False).split())
    assert "lacks the application ssl, which `cluster.tls` needs" in said, said
    assert "Add :ssl to extra_applications" in said
    assert world.status()["release"] == before


def test_it_is_turned_on_without_a_failed_request(
    encrypted: Project, world: World, cluster: Cluster
) -> None:
    encrypted.replace("mix.exs", WITHOUT, WITH)
    encrypted.commit("with ssl")
    with probing():
        said = " ".join(encrypted.push().split())
    assert "is live on prod (rolling" in said, said
    assert "cluster.tls has changed, and a node has it from its start" in said
    assert "nodes with and without TLS do not connect to each other" in said
    pods = Pods(cluster)
    until(lambda: len(pods.names()) == 2, "the new pods alone")
    assert connects(cluster, *pods.names())
    assert connects(cluster, *reversed(pods.names()))
    for pod in pods.names():
        modes = inside(cluster, pod, f"stat -L -c '%a %u %g %n' {DISTRIBUTION}/* && id -g")
        *files, group = modes.split("\n")[:-1]
        assert {line.split()[3].rpartition("/")[2] for line in files} == {
            "ca.crt", "tls.crt", "tls.key", "options.config",
        }, "the key of the authority is not there"  # fmt: skip
        assert {tuple(line.split()[:3]) for line in files} == {("440", "0", group)}


def test_a_node_without_the_certificate_is_refused(encrypted: Project, cluster: Cluster) -> None:
    assert encrypted.app == "shop"
    pod = Pods(cluster).names()[0]
    own = f"-proto_dist inet_tls -ssl_dist_optfile {DISTRIBUTION}/options.config"
    assert asked(cluster, pod, own)
    assert not asked(cluster, pod, "-proto_dist inet_tcp")
    # certificates of another authority, with the same names: refused by both sides
    other = distribution.secret("shop", NAMESPACE, dt.datetime.now(dt.UTC))["data"]
    files = {name: base64.b64decode(text).decode() for name, text in other.items()}
    trusting = base64.b64decode(keys(cluster)["ca.crt"]).decode()
    for place, authority in (("strange", files["ca.crt"]), ("trusting", trusting)):
        inside(cluster, pod, 'mkdir -p "$1"', f"/tmp/{place}")
        for name, content in (files | {"ca.crt": authority}).items():
            text = content.replace(DISTRIBUTION, f"/tmp/{place}")
            inside(cluster, pod, 'cat >"$1"', f"/tmp/{place}/{name}", stdin=text)
        strange = f"-proto_dist inet_tls -ssl_dist_optfile /tmp/{place}/options.config"
        assert not asked(cluster, pod, strange), place
    assert asked(cluster, pod, own)


def test_a_hot_upgrade_and_the_way_back(encrypted: Project, world: World, cluster: Cluster) -> None:
    pods = Pods(cluster)
    kept, before = pods.uids(), world.status()["release"]
    encrypted.title("over TLS")
    with probing():
        said = encrypted.push()
        assert "is live on prod (hot upgrade" in said, said
        assert pods.all_show("over TLS")
        assert "hot upgrade" in world.run("rollback", "shop")
    assert world.status()["release"] == before
    assert pods.uids() == kept
    # pods that start later take part
    cluster.kubectl("delete", "pod", "-n", NAMESPACE, pods.names()[0])
    until(lambda: world.status()["instance"].startswith("2 of 2 ready"), "another pod")
    until(lambda: len(pods.names()) == 2, "the end of the one before")
    assert connects(cluster, *pods.names())


def test_commands_work(encrypted: Project, world: World, cluster: Cluster) -> None:
    assert encrypted.app == "shop"
    assert world.run("run", "shop", "--", "eval", "IO.puts(6 * 7)").strip() == "42"
    assert world.run("run", "shop", "--", "rpc", "IO.puts(Node.self())").startswith("counter@")
    assert len(world.json("stats", "shop")["instances"]) == 2
    for pod in Pods(cluster).names():
        assert f"[{pod}]" in world.run("logs", "shop", "-n", "10000")
    with Terminal(world, "console", "shop") as terminal:
        terminal.expect(")1>")
        terminal.type("40 + 2\r")
        terminal.expect("42")


def test_the_certificate_is_renewed_while_nodes_run(
    encrypted: Project, world: World, cluster: Cluster
) -> None:
    """By whatever applies the objects of the app; nothing is restarted for it."""
    assert encrypted.app == "shop"
    pods = Pods(cluster)
    kept = pods.uids()
    old = dt.datetime.now(dt.UTC) - dt.timedelta(days=400)
    due = distribution.secret("shop", NAMESPACE, old, cluster.get("secret", SECRET))
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(due))
    world.run("scale", "shop", "web=2")
    now = keys(cluster)
    assert now["tls.crt"] != due["data"]["tls.crt"]
    assert now["ca.crt"] == due["data"]["ca.crt"], "nodes trust each other while it changes"
    content = base64.b64decode(now["tls.crt"]).decode()

    def arrived() -> bool:
        return all(
            inside(cluster, pod, f"cat {DISTRIBUTION}/tls.crt") == content for pod in pods.names()
        )

    until(arrived, "the new files in both pods", 300)
    assert connects(cluster, *pods.names())
    assert pods.uids() == kept
    world.run("scale", "shop", "web=2")
    assert keys(cluster) == now, "it is not due any more"


def test_it_is_turned_off(encrypted: Project, world: World, cluster: Cluster) -> None:
    assert encrypted.app == "shop"
    world.run("settings", "unset", "shop", "cluster.tls")
    with probing():
        said = " ".join(world.run("restart", "shop").split())
    assert "nodes with and without TLS do not connect to each other" in said, said
    pods = Pods(cluster)
    until(lambda: len(pods.names()) == 2, "the new pods alone")
    assert connects(cluster, *pods.names())
    assert not asked(
        cluster, pods.names()[0],
        f"-proto_dist inet_tls -ssl_dist_optfile {DISTRIBUTION}/options.config",
    )  # fmt: skip
    until(lambda: len(cluster.get("pods")["items"]) == 2, "the end of the pods that need it")
    encrypted.title("plain")
    assert "hot upgrade" in encrypted.push()
    names = [one["metadata"]["name"] for one in cluster.get("secret")["items"]]
    assert not [name for name in names if re.match(SECRET, name)]
