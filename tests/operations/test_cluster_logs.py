"""The log of an app on a cluster as a drain reads it: each line once, whatever becomes of pods."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, cast

import pytest

from gatling.deploy.cluster import objects
from gatling.errors import ClusterFailed
from gatling.operations import cluster_logs
from gatling.platform.kubernetes import place

if TYPE_CHECKING:
    from collections.abc import Iterator

SINCE = "2026-01-31T12:00:00.000Z"


class Cluster:
    """Pods with their logs, of the run before as well."""

    def __init__(self) -> None:
        self.logs: dict[str, list[str]] = {}
        self.previous: dict[str, list[str]] = {}
        self.restarts: dict[str, int] = {}
        self.fails: list[ClusterFailed] = []

    def print(self, pod: str, second: int, text: str) -> None:
        self.logs.setdefault(pod, []).append(f"2026-01-31T12:00:{second:02}.123456789Z {text}")

    def restart(self, pod: str) -> None:
        self.previous[pod], self.logs[pod] = self.logs[pod], []
        self.restarts[pod] = self.restarts.get(pod, 0) + 1

    def log(
        self, pod: str, *, lines: int | None = None, since: str = "", previous: bool = False
    ) -> list[str]:
        found = self.previous.get(pod, []) if previous else self.logs.get(pod, [])
        shown = [line for line in found if line[:19] >= since[:19]]
        return shown if lines is None else shown[-lines:] if lines else []

    def pods(self, *_: object) -> list[Any]:
        if self.fails:
            raise self.fails.pop()
        labels = {"app.kubernetes.io/component": "web", "gatling/release": "v1"}
        return [
            {"metadata": {"name": name, "labels": labels},
             "status": {"containerStatuses": [
                 {"name": "app", "restartCount": self.restarts.get(name, 0)}]}}
            for name in self.logs
        ]  # fmt: skip


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()
    monkeypatch.setattr(place, "of", lambda *_: None)
    monkeypatch.setattr(place, "namespace", lambda *_: contextlib.nullcontext(made))
    monkeypatch.setattr(objects, "pods_and_workers", made.pods)
    monkeypatch.setattr(cluster_logs, "DRAIN_SECONDS", 0)
    return made


def read(after: str = "") -> Iterator[Any]:
    return cluster_logs.Logs(cast("Any", _Home), cast("Any", None)).entries("shop", after, SINCE)


class _Home:
    db = None


def test_each_line_is_read_once(cluster: Cluster) -> None:
    cluster.logs["a"] = ["2026-01-31T11:59:59.1Z before the drain"]
    cluster.print("a", 1, "one")
    cluster.print("b", 1, "two")
    source = read()
    found = [next(source) for _ in range(2)]
    cluster.print("a", 1, "in the same second")
    cluster.logs["a"][-1] = cluster.logs["a"][-1].replace(".123456789", ".2")
    found.append(next(source))
    cluster.print("a", 3, "the last words")
    cluster.restart("a")
    cluster.print("a", 4, "again")
    cluster.fails.append(ClusterFailed("It is away.", reason="unreachable"))
    found += [next(source) for _ in range(2)]
    del cluster.logs["b"]
    cluster.print("c", 2, "a new pod")
    found.append(next(source))
    assert [one.line.text for one in found] == [
        "one", "two", "in the same second", "the last words", "again", "a new pod",
    ]  # fmt: skip
    assert found[0].line.process == "a"
    assert found[0].line.time == "2026-01-31T12:00:01.123Z"
    assert '"b"' not in found[-1].position


def test_it_is_read_on_from_a_position(cluster: Cluster) -> None:
    for second in range(1, 4):
        cluster.print("a", second, f"a{second}")
        cluster.print("b", second, f"b{second}")
    source = read()
    first = [next(source) for _ in range(4)]
    rest = read(first[-1].position)
    texts = [one.line.text for one in (*first, next(rest), next(rest))]
    assert sorted(texts) == ["a1", "a2", "a3", "b1", "b2", "b3"]


def test_a_cluster_that_refuses_ends_it(cluster: Cluster) -> None:
    cluster.fails.append(ClusterFailed("No right.", reason="denied"))
    with pytest.raises(ClusterFailed, match="No right"):
        next(read())


def test_lines_of_before_a_restart_are_shown_and_none_that_is_too_old(cluster: Cluster) -> None:
    cluster.print("a", 1, "in the same second")
    cluster.logs["a"].append("2026-01-31T12:00:01.5Z last words")
    cluster.restart("a")
    cluster.print("a", 2, "again")
    cluster.print("b", 3, "another")
    source = cluster_logs.Logs(cast("Any", _Home), cast("Any", None))
    found = source.read("shop", lines=3, since="2026-01-31T12:00:01.400Z")
    assert [line.text for line in found] == ["last words", "again", "another"]
    assert found[0].time == "2026-01-31T12:00:01.500Z"
    assert [line.text for line in source.read("shop", lines=2)] == ["again", "another"]
