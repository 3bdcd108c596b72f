"""Pods that differ from the others are replaced before a hot upgrade: which, and in which order."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from gatling.deploy.cluster import nodes, replacing
from gatling.deploy.cluster import objects as applied
from gatling.deploy.cluster.nodes import Pod
from gatling.project import settings

if TYPE_CHECKING:
    from collections.abc import Callable

LIVE = cast("Any", SimpleNamespace(label="v2"))
APP = cast("Any", SimpleNamespace(name="shop"))
SETTINGS = settings.parse({"health.timeout": "0.05"})


def pod(name: str, *, release: str = "v2", ready: bool = True) -> Pod:
    return Pod(name, "10.0.0.1", release, ready)


class Cluster:
    """Pods, in whose place others start when they are deleted."""

    def __init__(self, *pods: Pod, starts: Callable[[str], Pod | None]) -> None:
        self.pods = {one.name: one for one in pods}
        self.events: list[str] = []
        self._starts = starts

    def remove(self, kind: str, name: str) -> None:
        assert kind == "Pod"
        others = [one.name for one in self.pods.values() if one.ready and one.name != name]
        self.events.append(f"{name} with {len(others)}")
        del self.pods[name]
        if new := self._starts(name):
            self.pods[new.name] = new


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applied, "pods_of", lambda api, _: api)
    monkeypatch.setattr(nodes, "found", lambda api: list(api.pods.values()))
    monkeypatch.setattr(applied, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(replacing, "START_SECONDS", 0.0)


def replaced(there: Cluster, *differ: str) -> list[str]:
    return replacing.replace(cast("Any", there), APP, LIVE, differ, SETTINGS)


def test_those_that_do_not_serve_come_first_and_all_others_serve() -> None:
    there = Cluster(
        pod("a"), pod("b", release="v1"), pod("c", release="v1", ready=False), pod("d"),
        starts=lambda name: pod(f"{name}2"),
    )  # fmt: skip
    assert replaced(there, "b", "c") == ["c", "b"]
    assert there.events == ["c with 3", "b with 3"]
    assert there.pods.keys() == {"a", "d", "b2", "c2"}


def test_a_pod_that_was_only_starting_is_kept() -> None:
    there = Cluster(pod("a"), pod("b", ready=False), starts=lambda _: None)
    looks = iter(range(5))

    def look(api: Any) -> list[Pod]:
        if next(looks, None) is None:
            there.pods["b"] = pod("b")
        return list(api.pods.values())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nodes, "found", look)
        patch.setattr(applied, "POLL_SECONDS", 0.0)
        assert replaced(there, "b") == []
    assert there.events == []


@pytest.mark.parametrize(
    ("starts", "why"),
    [
        (lambda _: None, "no other pod started"),
        (lambda _: pod("new", ready=False), "new did not serve"),
        (lambda _: pod("new", release="v1"), "new did not serve"),
    ],
)
def test_a_pod_in_whose_place_none_serves_ends_the_replacement(
    starts: Callable[[str], Pod | None], why: str
) -> None:
    there = Cluster(pod("a"), pod("b", release="v1"), pod("c", release="v1"), starts=starts)
    with pytest.raises(replacing.NotReplaced, match=f"the pod b was deleted, and {why}"):
        replaced(there, "b", "c")
    assert "c" in there.pods


def test_at_most_half_of_the_pods_are_replaced() -> None:
    assert replacing.too_many({"a": "differs"}, ["b"]) == ""
    assert replacing.too_many({}, []) == ""
    assert replacing.too_many({"a": "does not serve v2"}, []) == "the pod a does not serve v2"
    found = replacing.too_many({"a": "does not serve v2", "b": "differs"}, ["c"])
    assert found == "the pod a does not serve v2 (one of 2 pods that differ)"
