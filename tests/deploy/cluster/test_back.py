"""How a pod is brought to the live release by recovery; tests/cluster has real ones."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gatling.beam.comparison import Answers, Comparison
from gatling.deploy.cluster import back, nodes, planner
from gatling.errors import NodeUnreachable
from gatling.project import settings

ANSWERS = Answers(Path("/tmp/old"), Path("/tmp/new"))
LIVE, AFTER = (cast("Any", SimpleNamespace(number=number, label=f"v{number}")) for number in (1, 2))


class Pod:
    """A pod whose node runs v2, and what is done with it."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, found: Comparison, answers: Answers | None
    ) -> None:
        self.swaps: list[object] = []
        self.pointed: list[int] = []
        self.forgotten = 0
        monkeypatch.setattr(nodes, "running", lambda _: "v2")
        monkeypatch.setattr(nodes, "entries", lambda _: [])
        monkeypatch.setattr(nodes, "deliver", lambda *_: 0)
        monkeypatch.setattr(nodes, "point", lambda _, number: self.pointed.append(number))
        monkeypatch.setattr(planner, "compared", lambda *_: (found, answers))
        monkeypatch.setattr(planner, "forget", self._forget)

    def _forget(self, _: object) -> None:
        self.forgotten += 1

    def swap(
        self, before: object, live: object, answers: object, *, suspend: float, insist: bool
    ) -> Any:
        assert (before, live, insist) == (AFTER, LIVE, True)
        assert suspend
        assert not self.forgotten
        self.swaps.append(answers)
        return SimpleNamespace(failed=())

    def bring(self) -> None:
        paths = cast("Any", SimpleNamespace(release=lambda number: Path(f"/v{number}")))
        way = back._Way(cast("Any", None), paths, LIVE, {"v2": AFTER}, settings.parse({}).hot)
        back._swap(way, "shop-a", cast("Any", self))


@pytest.mark.parametrize("answers", [None, ANSWERS])
def test_config_and_children_go_back_with_the_code(
    monkeypatch: pytest.MonkeyPatch, answers: Answers | None
) -> None:
    told = Comparison("same", env=[("shop", ":limit", "delivered")])
    pod = Pod(monkeypatch, told, answers)
    pod.bring()
    assert pod.swaps == [answers]
    assert pod.pointed == [1]
    assert pod.forgotten == 1


def test_a_pod_that_cannot_go_back_in_memory_is_not_swapped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its caller replaces it: it would run the code with the config of another release."""
    boot = Comparison("same", env=[("logger", ":level", "boot_only")])
    pod = Pod(monkeypatch, boot, ANSWERS)
    with pytest.raises(NodeUnreachable, match="config of logger, :level, changes"):
        pod.bring()
    assert (pod.swaps, pod.pointed, pod.forgotten) == ([], [], 1)
