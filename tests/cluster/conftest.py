"""A namespace of a real cluster and a registry, for `bin/test-kubernetes` alone."""

from __future__ import annotations

import base64
import contextlib
import functools
import itertools
import json
import os
import re
import subprocess
import textwrap
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from tests.conftest import ROOT, Project, World, new_world, until
from tests.images import registries
from tests.images.registries import LOGIN
from tests.proxy.authority import ROOT as AUTHORITY
from tests.push.test_recovery import arm

if TYPE_CHECKING:
    from collections.abc import Iterator

CLUSTER = os.environ.get("GATLING_CLUSTER")
"""The directory of the cluster that runs; without it these tests are not run."""
REGISTRY = "10.78.0.254:5000"
"""Here as well as on the nodes."""
NAMESPACE = "shop"

collect_ignore_glob = [] if CLUSTER else ["test_*.py"]


@dataclass
class Cluster:
    """The cluster, as its administrator reaches it."""

    run: Path

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        done = subprocess.run(
            [self.run.parent / "bin/kubectl", f"--kubeconfig={self.run}/etc/admin", *arguments],
            input=stdin, text=True, capture_output=True, check=False,
            env=os.environ | {"NO_PROXY": "*"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def get(self, *arguments: str) -> Any:
        """Objects of the apps' namespace."""
        return json.loads(self.kubectl("get", "-n", NAMESPACE, "-o", "json", *arguments))

    def pods(self, app: str = "shop") -> list[Any]:
        """The pods of an app, jobs included, without those that end."""
        found = self.get("pods", "-l", f"app.kubernetes.io/name={app}")["items"]
        return [one for one in found if "deletionTimestamp" not in one["metadata"]]


class Pods:
    """The pods of the app, each asked for itself."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def names(self) -> list[str]:
        return sorted(one["metadata"]["name"] for one in self.cluster.pods())

    def uids(self) -> set[str]:
        return {one["metadata"]["uid"] for one in self.cluster.pods()}

    def labels(self) -> set[str]:
        return {one["metadata"]["labels"]["gatling/release"] for one in self.cluster.pods()}

    def restarts(self) -> int:
        return sum(
            each["restartCount"]
            for one in self.cluster.pods()
            for each in one["status"].get("containerStatuses", ())
        )

    def ask(self, pod: str, path: str = "/") -> str:
        return self.cluster.kubectl("get", "--raw", self._address(pod, path))

    def counts(self) -> dict[str, int]:
        return {name: int(self.ask(name, "/count")) for name in self.names()}

    def all_show(self, title: str, count: int = 2) -> bool:
        try:
            pages = [self.ask(name) for name in self.names()]
        except AssertionError:  # one that ends, or boots
            return False
        return len(pages) == count and all(title in page for page in pages)

    def run(self, pod: str, *words: str) -> None:
        self.cluster.kubectl("exec", "-n", NAMESPACE, pod, "-c", "app", "--", *words)

    def _address(self, pod: str, path: str) -> str:
        return f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}:4000/proxy{path}"


def only(pods: Pods, live: str) -> bool:
    return pods.labels() == {live} and len(pods.names()) == 2


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    assert CLUSTER is not None
    return Cluster(Path(CLUSTER))


@pytest.fixture(scope="session")
def kubeconfig(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kubeconfig of a service account, made as docs/kubernetes.md says, word for word."""
    page = (ROOT / "docs/kubernetes.md").read_text()
    first, second = (
        textwrap.dedent(one) for one in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[:2]
    )
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("apply", "-f", "-", stdin=f"{first}\n---\n{second}")
    secret = until(
        lambda: cluster.get("secret", "gatling-token").get("data", {}).get("token"), "the token"
    )
    file = tmp_path_factory.mktemp("cluster") / "shop.kubeconfig"
    file.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "shop",
        "clusters": [{"name": "shop", "cluster": {
            "server": "https://10.78.0.11:6443",
            "certificate-authority-data": base64.b64encode(
                (cluster.run / "etc/ca.crt").read_bytes()).decode(),
        }}],
        "users": [{"name": "gatling", "user": {"token": base64.b64decode(secret).decode()}}],
        "contexts": [{"name": "shop", "context": {
            "cluster": "shop", "user": "gatling", "namespace": NAMESPACE,
        }}],
    }))  # fmt: skip
    return file


@pytest.fixture(scope="session")
def registry(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[registries.Running]:
    """A registry with TLS and a password, which the nodes trust."""
    place = tmp_path_factory.mktemp("registry")
    (cluster.run / "registry.pem").write_text(AUTHORITY.pem)
    with registries.running(
        place, auth=registries.basic(place), tls=True, host=REGISTRY
    ) as running:
        yield running


def add(world: World, kubeconfig: Path, registry: registries.Running, name: str = "prod") -> str:
    """`gatling platform add`."""
    assert registry.trusted is not None
    password = world.root / "password"
    password.write_text(LOGIN.password)
    return world.run(
        "platform", "add", name, "--kubeconfig", str(kubeconfig),
        "--registry", f"{REGISTRY}/team", "--registry-user", LOGIN.user,
        "--registry-password", str(password), "--registry-ca", str(registry.trusted),
    )  # fmt: skip


@pytest.fixture(scope="module")
def world(kubeconfig: Path, registry: registries.Running) -> Iterator[World]:
    """A home that knows the cluster."""
    with new_world() as made:
        add(made, kubeconfig, registry)
        yield made


@pytest.fixture(scope="module")
def shop(world: World, cluster: Cluster) -> Iterator[Project]:
    """An app that was pushed to the cluster, with an instance on each node."""
    project = load(world)
    project.push()
    world.run("scale", "shop", "web=2")
    expose(cluster)
    yield project
    world.run("unload", "shop", "--confirm", "shop")


def load(world: World, app: str = "shop") -> Project:
    """An app of the example, for the cluster, whose pods are replaced by each deployment."""
    world.run("load", app, "--platform", "prod")
    world.run(
        "settings", "set", app, "instance.drain=3", "health.path=/health",
        "deploy.strategy=rolling",
    )  # fmt: skip
    return world.project(app)


def killed_push(shop: Project, point: str, title: str) -> tuple[str, str]:
    """Push, with what deploys killed at a point; the outcome, and the release that is live then.

    No command recovers the app: that happens by itself.
    """
    world = shop.world
    before = world.status()["release"]
    (world.root / "point").write_text(point)
    shop.title(title)
    arm(world)
    said = shop.start_push().communicate()[0]
    assert "is still live" not in said, said  # it was killed, and did not fail
    (world.root / "point").write_text("")
    world.settled()
    last, live = world.last(), world.status()["release"]
    assert live == (last["release"] if last["outcome"] == "succeeded" else before)
    return last["outcome"], live


def get(path: str = "/version", node: int = 1) -> str:
    """Ask the app from outside of the cluster."""
    with urllib.request.urlopen(f"http://10.78.0.1{node}:30080{path}", timeout=10) as answer:
        return str(answer.read().decode())


def expose(cluster: Cluster, app: str = "shop") -> None:
    """Let the app be reached at a port of each node, as an ingress controller would."""
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": f"outside-{app}", "namespace": NAMESPACE},
        "spec": {"type": "NodePort",
                 "selector": {"app.kubernetes.io/name": app, "app.kubernetes.io/component": "web"},
                 "ports": [{"port": 80, "targetPort": "http", "nodePort": 30080,
                            "protocol": "TCP"}]},
    }))  # fmt: skip
    for node in (1, 2):
        until(functools.partial(answers, node), "the port of the node")


def answers(node: int) -> bool:
    try:
        return get("/health", node) == "ok"
    except OSError:
        return False


@dataclass
class Prober:
    """Asks again and again, each time with a new connection."""

    failures: list[str] = field(default_factory=list)
    nodes: tuple[int, ...] = (1, 2)
    answers: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        until(lambda: self.answers or self.failures, "an answer")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        turns = itertools.cycle(self.nodes)
        while not self._stop.wait(0.02):
            try:
                get("/health", next(turns))
                self.answers += 1
            except (OSError, urllib.error.HTTPError) as error:
                self.failures.append(f"{time.strftime('%X')} {error!r}")


@contextlib.contextmanager
def probing(nodes: tuple[int, ...] = (1, 2)) -> Iterator[Prober]:
    """The app is asked at these nodes while the block runs, and answers each time."""
    with Prober(nodes=nodes) as prober:
        yield prober
    assert not prober.failures, prober.failures[:5]


@pytest.fixture(scope="module")
def hot_shop(shop: Project, world: World) -> Project:
    """The app, whose pods are upgraded in memory where the plan allows it."""
    world.run("settings", "unset", "shop", "deploy.strategy")
    return shop


@pytest.fixture
def pods(hot_shop: Project, cluster: Cluster) -> Pods:
    assert hot_shop.app == "shop"
    made = Pods(cluster)
    until(lambda: made.all_show("<title>"), "both pods")
    return made
