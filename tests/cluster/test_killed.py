"""`kill -9` of a push to a cluster: the release before serves on, or the new one is live."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from tests.cluster.conftest import Cluster, get, killed_push, probing
from tests.conftest import until
from tests.push.test_recovery import arm

if TYPE_CHECKING:
    from tests.conftest import Project, World

STEPS = ("write_image", "push_image", "replace_instances")
POINTS = [
    *(f"{when} {step}" for step in STEPS for when in ("begin", "end")),
    "decided", "ended",
]  # fmt: skip


def releases(cluster: Cluster) -> set[str]:
    return {one["metadata"]["labels"]["gatling/release"] for one in cluster.pods()}


def only(cluster: Cluster, wanted: set[str]) -> bool:
    return releases(cluster) == wanted


def test_killed_at_every_step(shop: Project, cluster: Cluster) -> None:
    outcomes = {}
    with probing():
        for number, point in enumerate(POINTS):
            outcomes[point], live = killed_push(shop, point, f"edition {number}")
            until(functools.partial(only, cluster, {live}), f"{live} alone after {point}")
            until(lambda: len(cluster.pods()) == 2, "two instances")
    decided = {"decided", "ended"}
    assert {point for point in POINTS if outcomes[point] == "succeeded"} == decided, outcomes
    assert f"edition {len(POINTS) - 1}" in get("/")


def test_killed_with_the_machine(shop: Project, world: World, cluster: Cluster) -> None:
    """After a boot nobody asks for the app: `up` and `recover` bring the cluster into line."""
    for words in (("up",), ("recover",)):
        before = world.status()["release"]
        (world.root / "point").write_text("end replace_instances")
        shop.title(f"lost by {words[0]}")
        arm(world)
        shop.start_push().communicate()
        (world.root / "point").write_text("")
        assert releases(cluster) != {before}
        with probing():
            said = world.run(*words)
            until(functools.partial(only, cluster, {before}), f"{before} alone")
        if words == ("up",):
            assert f"shop: {before} serves on prod" in said
        assert world.last()["outcome"] != "running"
    world.run("stop", "shop")
    assert "shop: stopped" in world.run("up")
    world.run("start", "shop")
