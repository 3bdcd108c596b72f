"""The maintenance page of an app on a real cluster: its Service leads to a pod with the page."""

from __future__ import annotations

import os
import re
import subprocess
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tests.cluster.conftest import NAMESPACE, Cluster, get
from tests.conftest import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Project, World

Ask = tuple[int, str]


@pytest.fixture
def ask(cluster: Cluster) -> Iterator[Callable[[], Ask]]:
    """The answer of the app's Service, through the API server."""
    command = [str(cluster.run.parent / "bin/kubectl"), f"--kubeconfig={cluster.run}/etc/admin"]
    with subprocess.Popen(
        [*command, "proxy", "--port=0"], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"NO_PROXY": "*"},
    ) as proxy:  # fmt: skip
        assert proxy.stdout is not None
        found = re.search(r"serve on (\S+)", proxy.stdout.readline())
        assert found is not None
        url = f"http://{found[1]}/api/v1/namespaces/{NAMESPACE}/services/web-shop:http/proxy/"

        def asked() -> Ask:
            try:
                with urllib.request.urlopen(url, timeout=10) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode()

        try:
            yield asked
        finally:
            proxy.kill()


def test_a_page_is_shown_while_the_app_runs_on(
    shop: Project, world: World, cluster: Cluster, ask: Callable[[], Ask]
) -> None:
    until(lambda: ask()[0] == 200, "the app")
    world.run("maintenance", "on", "shop", "--message", "Back at <14:00> UTC.")
    assert world.status()["maintenance"]
    until(lambda: "Back at &lt;14:00&gt; UTC." in ask()[1], "the page")
    assert ask()[0] == 503
    assert get("/health") == "ok"  # at a port that leads to the instances

    shop.title("behind the page")
    shop.push()
    until(lambda: "behind the page" in get("/"), "the new release")
    assert "Back at" in ask()[1]
    pages = cluster.get("pods", "-l", "app.kubernetes.io/component=page")["items"]
    live = {one["spec"]["containers"][0]["image"] for one in cluster.pods()}
    there = {
        one["spec"]["containers"][0]["image"] for one in pages
        if "deletionTimestamp" not in one["metadata"]
    }  # fmt: skip
    assert there <= live  # an image that is retained

    world.run("maintenance", "on", "shop", "--message", "Later.")
    until(lambda: "Later." in ask()[1], "the other text")
    world.run("recover", "shop")
    assert "Later." in ask()[1]

    world.run("maintenance", "off", "shop")
    assert not world.status()["maintenance"]
    until(lambda: ask()[0] == 200, "the app")
    assert "behind the page" in ask()[1]
    left = cluster.get("deployments,secrets", "-l", "app.kubernetes.io/component=page")["items"]
    assert left == []
