"""Pages of an app on a cluster: one that answers, one that is away, one that hangs."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import TYPE_CHECKING, Any

import pytest

from gatling.dashboard import clusters
from gatling.dashboard.application import Dashboard
from gatling.dashboard.door import Door
from gatling.operations import cluster_stats, stats
from gatling.operations import clusters as operations
from gatling.operations.stats import Event, Events, NodeStats
from gatling.platform.open import open_gatling
from gatling.ssh.policy import Grant
from gatling.state import apps, platforms
from gatling.state.platforms import Connection, Store
from tests.api.served import record
from tests.dashboard.test_nodes import card, page
from tests.dashboard.test_pages import OF_APP
from tests.operations.test_metrics import NODE
from tests.platform.kubernetes.test_check import TOKEN
from tests.proxy.bench import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gatling.platform.open import Gatling


class Pages:
    """The dashboard of a home with the app `far` on the cluster `prod`."""

    def __init__(self, gatling: Gatling) -> None:
        home, self.gatling = gatling.home, gatling
        self.door = Door(1)
        grant = Grant("ann", "admin", frozenset({"*"}))
        self.made = Dashboard(home.database, home.root, self.door, lambda _: grant)
        self.application = self.made.application()
        self.cookie = self.door.enter(self.door.path.rpartition("/")[2]).partition(";")[0]

    def read(
        self, path: str, enough: Callable[[str], bool] = lambda _: True, status: int = 200
    ) -> tuple[str, float]:
        """The text of a page and its seconds; loaded again until it is enough."""

        async def load() -> tuple[str, float]:
            while True:
                text, took = await page(self.application, self.door, self.cookie, path, status)
                if enough(text):
                    return text, took
                await asyncio.sleep(0.1)

        return asyncio.run(asyncio.wait_for(load(), 30))


@pytest.fixture
def gatling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gatling]:
    monkeypatch.setenv("GATLING_HOME", str(tmp_path / "home"))
    cluster = Connection(server=f"http://127.0.0.1:{free_port()}", namespace="shop", token=TOKEN)
    with open_gatling() as opened:
        platforms.add(opened.db, "prod", cluster, Store(place="registry.example.com/team"))
        apps.create(opened.db, "far", lambda _: True, "prod")
        record(opened, "far")
        with opened.db.transaction():
            opened.db.execute("UPDATE apps SET live_release = 2 WHERE name = 'far'")
        yield opened


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_every_page_shows_what_is_known_of_an_app_whose_cluster_is_away(gatling: Gatling) -> None:
    pages = Pages(gatling)
    for path in OF_APP:
        text, _ = pages.read(f"/apps/far{path}")
        assert "where this does not work yet" not in text, path
    shown, _ = pages.read("/apps/far", lambda text: "cannot be reached" in text)
    assert ">unknown</span>" in shown
    assert "The page shows what Gatling has on record." in shown
    assert "No instance is known." in shown
    assert "/apps/far/maintenance" in shown
    assert "cannot be reached" in pages.read("/apps/far/logs")[0]
    overview, _ = pages.read("/", lambda text: "unknown" in card(text, "far"))
    assert "on prod" in card(overview, "far")
    assert "The app keeps running" in pages.read("/apps/far/maintenance")[0]
    for path in ("rewind", "pool"):
        refused, _ = pages.read(f"/apps/far/{path}", status=422)
        assert "far runs on the cluster prod, where this does not work yet" in refused


def test_a_cluster_that_hangs_holds_up_no_page(
    gatling: Gatling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "SILENT_SECONDS", 0.3)
    monkeypatch.setattr(operations, "LOOK_SECONDS", 30.0)
    monkeypatch.setattr(cluster_stats, "PATIENCE_SECONDS", 30.0)
    address = platforms.get(gatling.db, "prod").cluster.server.removeprefix("http://")
    host, _, port = address.partition(":")
    with socket.create_server((host, int(port))):  # accepts nothing
        pages = Pages(gatling)
        text, took = pages.read("/")
        assert "being asked" in card(text, "far")
        assert took < 10  # and not the 30 s
        text, took = pages.read("/apps/far", lambda text: "cluster does not answer" in text)
        assert took < 10  # and not the 30 s


def test_the_instances_of_an_app_have_their_numbers(
    gatling: Gatling, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = NodeStats(
        numbers=NODE, sockets=7, processes=[], processes_seen=1, queues=[], busy=[], tables=[],
        tables_seen=1,
    )  # fmt: skip
    route = Event(name="GET /posts/:id", count=41, failed=0, mean_ms=3.0, p95_ms=9.0, queue_ms=0.0)
    events = Events(since="2026-01-01T00:00:00.000Z", routes=[route], live=[], queries=[], jobs=[])
    made = [
        instance("far-a", "gk1", "running", node),
        instance("far-b", "gk2", "pulling <b>its image</b>", None),
    ]
    known: Any = stats.AppStats(
        app="far", state="running", release="v2", uptime=None, memory=90_000_000, memory_limit="",
        cpu=None, cpu_seconds=61.0, restarts=[], requests=None, requests_unknown="no",
        node=None, node_unknown="there are 2 instances", events=events, instances=made,
    )  # fmt: skip
    monkeypatch.setattr(stats, "of_app", lambda *_, **__: known)
    pages = Pages(gatling)
    html, _ = pages.read("/apps/far", lambda text: "far-a" in text)
    text = text_of(html)
    assert "far running on prod" in text
    assert "Instances ready 1 of 2" in text
    assert "90.0 MB" in text
    assert "gk2" in text
    assert "GET /posts/:id 41" in text
    assert "the pod is new" in text
    assert "&lt;b&gt;its image" in html
    chosen = text_of(pages.read("/apps/far?instance=far-a")[0])
    assert "Node of far-a" in chosen
    assert "Sockets 7" in chosen
    gone = text_of(pages.read("/apps/far?instance=gone")[0])
    assert "A click on a pod" in gone


def instance(name: str, host: str, state: str, node: NodeStats | None) -> stats.InstanceStats:
    return stats.InstanceStats(
        name=name, host=host, release="v2", state=state, uptime=60.0, restarts=0,
        memory=90_000_000 if node else None, cpu_seconds=61.0 if node else None, node=node,
        node_unknown=None if node else "the pod is new", events=None,
    )  # fmt: skip
