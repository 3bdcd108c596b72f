"""The dashboard's pages of an app on a real cluster; those without one are in tests/dashboard."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from tests.conftest import until
from tests.dashboard.opened import opened
from tests.dashboard.test_nodes import card
from tests.dashboard.test_pages import OF_APP

if TYPE_CHECKING:
    from tests.cluster.conftest import Cluster
    from tests.conftest import Project, World
    from tests.dashboard.opened import Opened


def read(here: Opened, path: str) -> str:
    """The text of a page, without tags."""
    found = here.get(path)
    assert found.status == 200, (path, found.text)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", found.text)).split())


def test_pages_of_an_app(shop: Project, world: World, cluster: Cluster) -> None:
    shop.title("Winter")
    shop.push()
    world.run("rollback", "shop", "v1")
    pods = {one["metadata"]["name"]: one["spec"]["nodeName"] for one in cluster.pods()}
    # old pods count as well while new ones are placed, so both may be on one node
    assert len(pods) == 2
    assert {*pods.values()} <= {"gk1", "gk2"}
    with opened(world.env) as here:
        assert here.enter().status < 400
        for path in OF_APP:
            text = read(here, f"/apps/shop{path}")
            assert "where this does not work yet" not in text, path

        until(lambda: "running" in card(here.get("/").text, "shop"), "the state in the overview")
        assert "on prod" in read(here, "/")

        until(lambda: "Instances ready 2 of 2" in read(here, "/apps/shop"), "the instances")
        text = read(here, "/apps/shop")
        assert "shop running on prod" in text
        for pod, machine in pods.items():
            assert re.search(rf"{pod} running v1 {machine} .*? [\d.]+ MB \d+ \d+", text), text
        assert re.search(r"Memory of all instances [\d.]+ MB", text), text
        assert re.search(r"v1 .*? live", text)
        assert re.search(r"v2 Winter .*? Roll back", text), text
        # the plan of the release that is newer than the live one
        planned = text.partition("Next deployment")[2].partition("Latest deployments")[0]
        assert "v2 Winter" in planned
        assert "Counter.Page" in planned, planned
        assert "rollback to v1" in text.partition("Latest deployments")[2]

        for pod in pods:
            node = read(here, f"/apps/shop?instance={pod}").partition(f"Node of {pod}")[2]
            assert re.search(r"Processes \d+ Sockets \d+ Run queue \d+", node), node
            # whether one of the app's own is among these differs
            assert re.search(r"most memory .*<0\.\d+\.0> .*kB", node), node

        log = read(here, "/apps/shop/logs")
        assert all(f"v1[{pod}]" in log for pod in pods), log
        assert "listens on port 4000" in log
        (first, *_) = pods
        alone = read(here, f"/apps/shop/logs?process={first}").partition("lines Follow")[2]
        assert f"v1[{first}]" in alone
        assert "rolling" in read(here, "/apps/shop/deployments/2")

        world.run("stop", "shop")
        try:
            until(lambda: "The app does not run." in read(here, "/apps/shop"), "the end")
        finally:
            world.run("start", "shop")
