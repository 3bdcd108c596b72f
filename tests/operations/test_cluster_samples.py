"""Samples of apps on clusters, of which one may hang."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from gatling.operations import cluster_stats
from gatling.operations.cluster_samples import ClusterSampler
from gatling.operations.cluster_stats import Seen
from gatling.platform.kubernetes.rollout import Pod
from gatling.state.samples import Measured
from tests.conftest import until
from tests.operations.test_metrics import NODE

if TYPE_CHECKING:
    import pytest


def pod(name: str, *, ready: bool = True) -> Pod:
    return Pod(name, "n1", "v1", "1", "running", ready, 0, "2026-01-31T12:00:00Z", "web")


def node(spent_ms: int, memory: int) -> Any:
    numbers = SimpleNamespace(runtime_ms=spent_ms)
    return SimpleNamespace(resident=lambda: memory, numbers=lambda _: numbers)


def app(name: str, platform: str) -> Any:
    return SimpleNamespace(name=name, platform=platform)


def test_a_cluster_that_hangs_delays_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    hangs, asked = threading.Event(), []
    nodes = {"a": node(1000, 10), "b": node(5000, 30)}

    def prepared(_: object, shown: list[Any], measure: Any) -> Any:
        def answer() -> dict[str, Seen[Any]]:
            asked.append(shown[0].platform)
            if shown[0].platform == "slow":
                hangs.wait(60)
            measured = {name: measure(one, shown[0]) for name, one in nodes.items()}
            return {one.name: Seen([pod("a"), pod("b", ready=False)], {}, measured)
                    for one in shown}  # fmt: skip

        return answer

    monkeypatch.setattr(cluster_stats, "prepared", prepared)
    sampler, shown = ClusterSampler(), [app("shop", "quick"), app("yard", "slow")]

    def sample() -> Any:
        measure = lambda _: Measured(NODE.memory.total, 7, 2, 4, 1)  # noqa: E731
        return sampler.sample(cast("Any", None), shown, 10, measure)

    try:
        assert sample() == {}
        until(sampler._asked["quick"].done, "the first answer")
        nodes["a"] = node(3500, 20)
        found = sample()
        assert found.keys() == {"shop"}
        one = found["shop"]
        assert (one.seconds, one.up, one.memory, one.processes) == (10, 10, 30, 7)
        assert (one.cpu, one.run_queue, one.messages) == (0, 2, 1)
        until(sampler._asked["quick"].done, "the second answer")
        assert sample()["shop"].cpu == 2.5
        assert sampler.schedulers == {"shop": 4}
        assert asked.count("slow") == 1
        hangs.set()
        until(sampler._asked["slow"].done, "the answer of the slow one")
        assert "yard" in sample()
    finally:
        hangs.set()
        sampler._pool.shutdown()


def test_an_app_whose_cluster_does_not_answer_has_no_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    away: dict[str, Seen[Any]] = {"shop": Seen(problem="The cluster cannot be reached.")}
    monkeypatch.setattr(cluster_stats, "prepared", lambda *_: lambda: away)
    sampler = ClusterSampler()
    for _ in range(2):
        found = sampler.sample(cast("Any", None), [app("shop", "prod")], 10, cast("Any", None))
        assert found == {}
        until(sampler._asked["prod"].done, "the answer")
    sampler._pool.shutdown()
