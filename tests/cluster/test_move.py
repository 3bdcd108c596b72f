"""An app moves from this machine to a real cluster and back, under requests and `kill -9`."""

from __future__ import annotations

import functools
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.cluster.conftest import Cluster, add, expose, get, probing
from tests.conftest import Client, new_world, until
from tests.home.workers import WORKER
from tests.push.test_recovery import arm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Project, World
    from tests.images import registries

pytestmark = pytest.mark.timeout(3600)
THERE = ("write_image", "push_image", "start_elsewhere", "leave_place")
HERE = ("start_instance", "health_check", "leave_place")
POINTS = [
    *(f"{when} {step}" for step in THERE for when in ("begin", "end")), "decided", "ended",
]  # fmt: skip
POINTS_BACK = [
    *(f"{when} {step}" for step in HERE for when in ("begin", "end")), "decided", "ended",
]  # fmt: skip


@pytest.fixture(scope="module")
def mover(kubeconfig: Path, registry: registries.Running) -> Iterator[World]:
    """A home of its own that knows the cluster."""
    with new_world() as made:
        add(made, kubeconfig, registry)
        yield made


@pytest.fixture(scope="module")
def shop(mover: World) -> Iterator[Project]:
    """An app that runs on this machine, with a config of its own and a domain."""
    project = mover.load()
    mover.run("settings", "set", "shop", "health.path=/health", "instance.drain=2")
    mover.run("domains", "add", "shop", "shop.example.com")
    mover.run("config", "set", "shop", "GREETING=hello from anywhere")
    project.title("first")
    project.push()
    project.title("second")
    project.push()
    yield project
    mover.run("unload", "shop", "--confirm", "shop")


def beams(world: World) -> list[str]:
    return [line for line in world.processes() if "beam" in line]


def kinds(cluster: Cluster) -> set[str]:
    """The objects of the app that the namespace has."""
    found = cluster.get(
        "deployment,ingress,service,networkpolicy,secret,pod,job", "-l",
        "app.kubernetes.io/name=shop,app.kubernetes.io/managed-by=gatling",
    )["items"]  # fmt: skip
    return {one["kind"] for one in found if "deletionTimestamp" not in one["metadata"]}


def is_here(world: World, cluster: Cluster) -> bool:
    return len(beams(world)) == 1 and not kinds(cluster)


def is_there(world: World, cluster: Cluster) -> bool:
    return not beams(world) and {"Deployment", "Pod", "Ingress"} <= kinds(cluster)


def shown(world: World) -> tuple[str, object]:
    status = world.status()
    return status["release"], status["commit"]


def test_to_the_cluster_and_back(shop: Project, mover: World, cluster: Cluster) -> None:
    before, releases = shown(mover), len(mover.json("releases", "shop"))
    with Client(mover) as client:
        move = mover.start("move", "shop", "--to", "prod", "--finish")
        mover.at_step("start_elsewhere")
        asked = len(client.texts)
        until(lambda: len(client.texts) > asked + 20, "answers of this machine while it moves")
        assert not client.failures
        said = move.communicate()[0]
    assert move.returncode == 0, said
    assert "shop v" in said
    assert "runs on prod" in said
    assert "shop.example.com" in said
    until(lambda: is_there(mover, cluster), "the app on the cluster alone")
    expose(cluster)
    until(lambda: "second" in get("/"), "the release")
    assert "hello from anywhere" in get("/")
    assert shown(mover) == before
    assert mover.status()["instance"] == "1 of 1 ready on prod"
    assert mover.last()["cause"] == "move to prod"
    refused = mover.run("move", "shop", "--to", "prod", ok=False)
    assert "runs on prod already" in refused

    # all goes on there: the history is the same
    with probing():
        mover.run("rollback", "shop")
    until(lambda: "first" in get("/"), "the release before")
    shop.title("third")
    with probing():
        shop.push()
    until(lambda: "third" in get("/"), "the new release")
    assert len(mover.json("releases", "shop")) == releases + 1

    live = shown(mover)
    with probing():
        move = mover.start("move", "shop", "--to", "here", "--finish")
        mover.at_step("health_check")
    said = move.communicate()[0]
    assert move.returncode == 0, said
    until(lambda: is_here(mover, cluster), "the app here alone")
    assert "third" in mover.get().text
    assert shown(mover) == live
    mover.run("rollback", "shop")
    mover.run("rollback", "shop")


def test_what_is_not_healthy_there_stays_here(
    shop: Project, mover: World, cluster: Cluster
) -> None:
    assert shop.app == "shop"
    mover.run("settings", "set", "shop", "health.path=/nowhere", "health.timeout=6")
    try:
        said = mover.run("move", "shop", "--to", "prod", ok=False)
    finally:
        mover.run("settings", "set", "shop", "health.path=/health")
        mover.run("settings", "unset", "shop", "health.timeout")
    assert "is not ready" in said
    assert "is still live" in said
    until(lambda: is_here(mover, cluster), "the app here alone")
    assert mover.get().status == 200


def test_both_places_serve_until_that_is_ended(
    shop: Project, mover: World, cluster: Cluster
) -> None:
    """Who still comes to this machine is served all the time. One worker runs, in one place."""
    shop.write("lib/counter/worker.ex", WORKER)
    shop.write("gatling.toml", """[processes]\nworker = "eval 'Counter.Worker.run(\\"x\\")'"\n""")
    shop.title("twice")
    shop.push()
    until(lambda: len(beams(mover)) == 2, "the worker here")

    def both(place: str) -> bool:
        """Both serve, and the worker runs in one of them."""
        there = [one["metadata"]["labels"]["app.kubernetes.io/component"] for one in cluster.pods()]
        here = place == "here"
        return len(beams(mover)) == 1 + here and sorted(there) == (
            ["web"] if here else ["web", "worker-worker"]
        )

    with Client(mover) as client:
        said = mover.run("move", "shop", "--to", "prod")
        assert "this machine serves shop as well" in said
        assert "gatling move shop --finish" in said
        until(lambda: both("prod"), "both places")
        expose(cluster)
        assert "twice" in get("/")
        assert mover.status()["also"] == "here"
        for words in (("restart",), ("rollback",), ("maintenance", "on")):
            assert "this machine still serves it" in mover.run(*words, "shop", ok=False)
        assert both("prod")
        # domains are those of both
        mover.run("domains", "add", "shop", "later.example.com")
        assert mover.get(host="later.example.com").status == 200
        hosts = [one["host"] for one in cluster.get("ingress", "shop")["spec"]["rules"]]
        assert "later.example.com" in hosts
        # what runs here is taken back as it is, and the cluster serves on
        process = beams(mover)
        with probing():
            said = mover.run("move", "shop", "--to", "here")
            assert "prod serves shop as well" in said
            until(lambda: both("here"), "both places")
            assert set(process) < set(beams(mover))
            # and there once more, killed around the decision
            for point in ("begin leave_place", "decided", "end leave_place"):
                killed_move(mover, point, "prod")
                until(lambda: both("prod"), f"both places after {point}")
                killed_move(mover, point, "here")
                until(lambda: both("here"), f"both places after {point}")
        assert mover.run("move", "shop", "--finish") == "shop is no longer served by prod.\n"
        until(lambda: len(beams(mover)) == 2 and not kinds(cluster), "the app here alone")
    assert not client.failures, client.failures[:5]
    assert mover.status()["also"] is None

    # stopped means stopped in both, and a machine that boots again serves again
    mover.run("move", "shop", "--to", "prod")
    mover.run("down")
    mover.run("up")
    until(lambda: both("prod") and mover.get().status == 200, "both places after a boot")
    mover.run("stop", "shop")
    until(lambda: not beams(mover) and not cluster.pods(), "nothing")
    mover.run("start", "shop")
    mover.run("scale", "shop", "worker=0")
    mover.run("move", "shop", "--to", "here", "--finish")
    mover.run("domains", "remove", "shop", "later.example.com")
    until(lambda: is_here(mover, cluster), "the app here alone")


def test_an_app_that_must_run_alone_is_stopped_first(
    shop: Project, mover: World, cluster: Cluster
) -> None:
    assert shop.app == "shop"
    mover.run("settings", "set", "shop", "deploy.strategy=restart")
    for to, step in (("prod", "start_elsewhere"), ("here", "health_check")):
        move = mover.start("move", "shop", "--to", to)
        mover.at_step(step)
        assert not (beams(mover) if to == "prod" else cluster.pods())
        said = move.communicate()[0]
        assert move.returncode == 0, said
        assert mover.status()["also"] is None
    until(lambda: is_here(mover, cluster), "the app here alone")
    # one that does not become healthy elsewhere is started again, and after a kill as well
    for point in ("begin stop_instance", "end stop_instance"):
        killed_move(mover, point, "prod")
        until(lambda: is_here(mover, cluster) and mover.get().status == 200, "the app here")
    mover.run("settings", "set", "shop", "health.path=/nowhere", "health.timeout=6")
    said = mover.run("move", "shop", "--to", "prod", ok=False)
    mover.run("settings", "set", "shop", "health.path=/health", "deploy.strategy=rolling")
    mover.run("settings", "unset", "shop", "health.timeout")
    assert "is still live" in said
    until(lambda: is_here(mover, cluster) and mover.get().status == 200, "the app here")


def test_a_domain_moves_to_an_app_elsewhere(shop: Project, mover: World, cluster: Cluster) -> None:
    assert shop.app == "shop"
    mover.run("move", "shop", "--to", "prod", "--finish")
    mover.run("load", "other")
    mover.run("domains", "add", "other", "given.example.com")
    said = mover.run("domains", "add", "shop", "given.example.com", "--from", "other")
    assert "Let the DNS record of given.example.com lead to prod." in said

    def hosts() -> list[str]:
        return [one["host"] for one in cluster.get("ingress", "shop")["spec"]["rules"]]

    assert "given.example.com" in hosts()
    said = mover.run("domains", "add", "other", "given.example.com", "--from", "shop")
    assert "lead to this machine" in said
    assert "given.example.com" not in hosts()
    mover.run("unload", "other", "--confirm", "other")
    mover.run("move", "shop", "--to", "here", "--finish")


def killed_move(world: World, point: str, to: str, *more: str) -> None:
    """Move, killed at a point. No command recovers the app: that happens by itself."""
    (world.root / "point").write_text(point)
    arm(world)
    done = subprocess.run(
        [world.home / "bin/gatling", "move", "shop", "--to", to, *more],
        env=world.env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    (world.root / "point").write_text("")
    assert done.returncode == -9, done.stdout + done.stderr
    world.settled()


@pytest.mark.parametrize("to", ["prod", "here"])
def test_killed_at_every_step(shop: Project, mover: World, cluster: Cluster, to: str) -> None:
    """POINTS there and POINTS_BACK: one place serves afterwards."""
    assert shop.app == "shop"
    back, points = ("here", POINTS) if to == "prod" else ("prod", POINTS_BACK)
    if to == "here":
        mover.run("move", "shop", "--to", "prod", "--finish")
    arrived, left = (is_there, is_here) if to == "prod" else (is_here, is_there)
    for point in points:
        if point.endswith(("write_image", "push_image")) and to == "prod":
            shop.title(f"killed at {point}")
            shop.push()  # whose image is not there yet
        killed_move(mover, point, to, "--finish")
        decided = point in ("decided", "ended") or "leave_place" in point
        alone = functools.partial(arrived if decided else left, mover, cluster)
        until(alone, f"one place alone after {point}")
        outcome = mover.last()["outcome"]
        assert (outcome == "succeeded") == decided, (point, outcome)
        assert mover.status()["state"] == "running"
        if decided:
            mover.run("move", "shop", "--to", back, "--finish")
            until(lambda: left(mover, cluster), f"the way back after {point}")
    if to == "here":
        mover.run("move", "shop", "--to", "here", "--finish")
