"""A real cluster does what other platforms do: tests/commands_contract.py."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tests import commands_contract
from tests.commands_contract import Bench, Done, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster.conftest import Cluster
    from tests.conftest import World

PAUSE_SECONDS = 0.02


class Away:
    """An app with one instance on the cluster. See commands_contract.Place."""

    kind: Kind = "cluster"

    def __init__(self, world: World, cluster: Cluster) -> None:
        self._world, self._cluster = world, cluster
        self.run("load", "shop", "--platform", "prod")
        self.run("settings", "set", "shop", "instance.drain=3", "health.path=/health")
        self.project = world.project("shop")

    def run(self, *words: str) -> Done:
        return commands_contract.at_home(self._world, *words)

    def ask(self) -> tuple[int, str]:
        """As an ingress controller does, at the address of the app's Service."""
        address = self._cluster.get("service", "web-shop")["spec"]["clusterIP"]
        return self._get(address)

    @contextlib.contextmanager
    def load(self) -> Iterator[list[str]]:
        address = self._cluster.get("service", "web-shop")["spec"]["clusterIP"]
        failures: list[str] = []
        ended = threading.Event()

        def ask() -> None:
            while not ended.wait(PAUSE_SECONDS):
                try:
                    status, _ = self._get(address)
                except OSError as error:
                    failures.append(repr(error))
                else:
                    failures.extend([str(status)] * (status != 200))

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            yield failures
        finally:
            ended.set()
            asking.join()

    def kill(self) -> None:
        (pod,) = self._cluster.pods()
        (container,) = pod["status"]["containerStatuses"]
        socket = self._cluster.run / f"n{pod['spec']['nodeName'][2:]}" / "containerd.sock"
        ident = container["containerID"].removeprefix("containerd://")
        subprocess.run(
            ["ctr", "-a", socket, "-n", "k8s.io", "tasks", "kill", "-s", "KILL", ident],
            check=True, capture_output=True,
        )  # fmt: skip

    def _get(self, address: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{address}/", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@pytest.fixture(scope="module")
def bench(world: World, cluster: Cluster) -> Iterator[Bench]:
    yield Bench(Away(world, cluster))
    world.run("unload", "shop", "--confirm", "shop")


@pytest.mark.parametrize("check", commands_contract.CHECKS, ids=commands_contract.NAMES)
def test_commands_of_a_cluster(bench: Bench, check: Callable[[Bench], None]) -> None:
    check(bench)
