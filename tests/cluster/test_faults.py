"""Failures of the cluster between the phases of a hot upgrade: one release everywhere afterwards.

`GATLING_RANDOM_STEPS` is the number of random upgrades with a failure each; a few without it.
"""

from __future__ import annotations

import os
import random
import shlex
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cluster.conftest import NAMESPACE, killed_push, only
from tests.cluster.test_hot import POINTS
from tests.conftest import until

if TYPE_CHECKING:
    from tests.cluster.conftest import Pods
    from tests.conftest import Project, World

pytestmark = pytest.mark.timeout(5400)
RANDOM_STEPS = int(os.environ.get("GATLING_RANDOM_STEPS", "4"))
STANDS = ("prepared", "suspended", "switched")
"""The points at which all nodes wait for each other."""
FAULTS = ("server", "partition", "pod", "scale")
LOST_SECONDS = 100
"""A node counts as lost after 40 seconds, and its pods are started elsewhere after 30 more."""
HARM = """
import subprocess, threading
from gatling.beam import together

gate, stood, done = threading.Lock(), {{}}, []
wanted, command = {wanted!r}, {command!r}

def after(method):
    def wrapper(self):
        with gate:  # the other nodes' threads wait until it is done
            if stood.get(self) == wanted and not done:
                done.append(True)
                subprocess.run(command, shell=True, check=True)
        found = method(self)
        stood[self] = found
        return found
    return wrapper

together.Member.begin = after(together.Member.begin)
together.Member.proceed = after(together.Member.proceed)
together.Member.end = after(together.Member.end)
from gatling.__main__ import main
main()
"""


def harmed_push(shop: Project, point: str, command: str, title: str) -> str:
    """Push, and run a command when all nodes stand at a point; the release that is live then.

    No command recovers the app: that happens by itself.
    """
    world = shop.world
    before = world.status()["release"]
    script = world.root / "harm.py"
    script.write_text(HARM.format(wanted=point, command=f"touch {world.root}/harmed; {command}"))
    program = world.home / "bin/gatling"
    kept = program.read_text()
    (world.root / "harmed").unlink(missing_ok=True)
    program.write_text(
        f"#!/bin/sh\nGATLING_HOME={shlex.quote(str(world.home))}; export GATLING_HOME\n"
        f'exec {sys.executable} -I {shlex.quote(str(script))} "$@"\n'
    )
    shop.title(title)
    try:
        said = shop.start_push().communicate()[0]
    finally:
        program.write_text(kept)
    assert (world.root / "harmed").exists(), said
    world.settled()
    last, live = world.last(), world.status()["release"]
    assert live == (last["release"] if last["outcome"] == "succeeded" else before), said
    return str(live)


def command_of(fault: str, pods: Pods) -> str:
    """A command that has the cluster fail, and ends that some seconds later."""
    later = "(sleep {}; {}) >/dev/null 2>&1 &"
    if fault == "server":
        server = (pods.cluster.run / "pid/api").read_text().strip()
        return f"kill -STOP {server}; " + later.format(8, f"kill -CONT {server}")
    if fault == "partition":  # of the second node, for less long than makes it a lost one
        link = "ip -n gk-lan link set v2"
        return f"{link} down; " + later.format(8, f"{link} up")
    if fault == "node":
        link = "ip -n gk-lan link set v2"
        return f"{link} down; " + later.format(LOST_SECONDS, f"{link} up")
    run = pods.cluster.run
    kubectl = f"NO_PROXY='*' {run.parent}/bin/kubectl --kubeconfig={run}/etc/admin -n {NAMESPACE}"
    if fault == "scale":  # as an autoscaler does: a pod starts in the middle
        return f"{kubectl} scale deployment shop --replicas=3"
    return f"{kubectl} delete pod {random.choice(pods.names())} --grace-period=0 --force"


def settle(pods: Pods, world: World, titles: dict[str, str], about: str) -> None:
    """Wait until all pods run the live release, and nothing else."""
    live = world.status()["release"]
    until(lambda: only(pods, live), f"{live} alone after {about}")
    until(lambda: pods.all_show(titles[live]), f"{live} everywhere after {about}")
    until(lambda: world.status()["instance"].startswith("2 of 2 ready"), f"both after {about}")


@pytest.mark.parametrize("fault", FAULTS)
def test_the_cluster_fails_between_phases(
    shop: Project, world: World, pods: Pods, fault: str
) -> None:
    titles = {world.status()["release"]: "<title>"}
    for point in STANDS:
        title = f"{fault} at {point}!"
        live = harmed_push(shop, point, command_of(fault, pods), title)
        titles.setdefault(live, title)
        settle(pods, world, titles, title)
        assert titles[live] == title or not any(title in pods.ask(name) for name in pods.names())


def test_a_node_is_lost_in_the_middle(shop: Project, world: World, pods: Pods) -> None:
    """Its pod is started on the other node, with the release that the others run."""
    titles = {world.status()["release"]: "<title>"}
    live = harmed_push(shop, "suspended", command_of("node", pods), "a node is lost!")
    titles.setdefault(live, "a node is lost!")

    def elsewhere() -> bool:
        there = [one for one in pods.cluster.pods() if one["spec"].get("nodeName") == "gk1"]
        return len(there) == 2

    until(elsewhere, "both pods on the node that is left", LOST_SECONDS + 60)
    settle(pods, world, titles, "the loss of a node")


def test_random_upgrades_with_a_failure_each(shop: Project, world: World, pods: Pods) -> None:
    chosen = random.Random(os.environ.get("GATLING_SEED", "7"))
    titles = {world.status()["release"]: "<title>"}
    ways = [*(("kill", point) for point in POINTS),
            *((fault, point) for fault in FAULTS for point in STANDS)]  # fmt: skip
    for number in range(RANDOM_STEPS):
        fault, point = chosen.choice(ways)
        title = f"step {number}: {fault} at {point}!"
        if fault == "kill":
            _, live = killed_push(shop, point, title)
        else:
            live = harmed_push(shop, point, command_of(fault, pods), title)
        titles.setdefault(live, title)
        settle(pods, world, titles, title)
