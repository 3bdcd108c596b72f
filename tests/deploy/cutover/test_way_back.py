"""What recovery makes of a node that may run another release than the records say."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from gatling.beam.answers import Announced
from gatling.beam.comparison import Beam, Comparison
from gatling.beam.control import NodeBusy, SwapFailed
from gatling.deploy import live_node
from gatling.deploy.cutover import way_back
from gatling.deploy.plan import inspection
from gatling.errors import NodeUnreachable
from gatling.state import apps
from tests.deploy.stage import Node, make_live

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.deploy.stage import Stage

BACK = ["ask what it runs", "swap v8 → v7 at any rate", "render pages", "prepare v7"]
BUSY = NodeBusy(Announced(from_label="v7", to="v8", phase="touching"))
CUT_OFF = NodeBusy(Announced(from_label="v7", to="v8", phase="broken"))


@pytest.fixture
def runs(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> list[int | NodeBusy]:
    """What the node answers when it is asked which release it runs, one after another."""
    answers: list[int | NodeBusy] = []
    node = Node(stage)
    stage.node = node

    @contextlib.contextmanager
    def connected(*_: object) -> Iterator[Node]:
        yield node

    @contextlib.contextmanager
    def compared(*_: object) -> Iterator[tuple[Comparison, None]]:
        yield Comparison("same", changed=[Beam("Elixir.Shop.Page", app="shop")]), None

    def running(*_: object) -> int:
        stage.do("ask what it runs")
        answer = answers.pop(0)
        if isinstance(answer, NodeBusy):
            raise answer
        return answer

    monkeypatch.setattr(live_node, "connected", connected)
    monkeypatch.setattr(live_node, "running", running)
    monkeypatch.setattr(inspection, "compared", compared)
    return answers


def back(stage: Stage) -> bool:
    return way_back.back_to_records(stage.gatling, apps.get(stage.gatling.db, "shop"))


def test_one_that_runs_what_is_recorded_is_left_alone(
    stage: Stage, runs: list[int | NodeBusy]
) -> None:
    runs.append(7)
    assert back(stage)
    assert stage.done == ["ask what it runs", "prepare v7"]


def test_one_that_was_upgraded_is_swapped_back(stage: Stage, runs: list[int | NodeBusy]) -> None:
    runs.append(8)
    assert back(stage)
    assert stage.done == BACK


def test_open_pages_may_stay_as_they_are(stage: Stage, runs: list[int | NodeBusy]) -> None:
    apps.change_settings(stage.gatling.db, "shop", lambda _: {"hot.rerender": "false"})
    runs.append(8)
    assert back(stage)
    assert "render pages" not in stage.done


def test_pages_that_cannot_render_call_for_no_other_node(
    stage: Stage, runs: list[int | NodeBusy]
) -> None:
    runs.append(8)
    stage.faults["render pages"] = NodeUnreachable("lost")
    assert back(stage)


def test_a_swap_under_way_is_waited_for(stage: Stage, runs: list[int | NodeBusy]) -> None:
    runs += [BUSY, BUSY, 8]
    assert back(stage)
    assert stage.done == [BACK[0], BACK[0], *BACK]


def test_a_swap_that_was_cut_off_is_not_waited_for(
    stage: Stage, runs: list[int | NodeBusy]
) -> None:
    runs.append(CUT_OFF)
    assert not back(stage)
    assert stage.done == ["ask what it runs"]


def test_a_swap_that_never_ends_is_not_waited_for_without_end(
    stage: Stage, runs: list[int | NodeBusy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(way_back, "SWAP_ENDS_SECONDS", 0)
    runs += [BUSY, BUSY]
    assert not back(stage)


@pytest.mark.parametrize(
    "error",
    [SwapFailed("suspend", "no", "untouched"), NodeUnreachable("lost"), OSError("gone")],
    ids=["refused", "lost", "gone"],
)
def test_a_way_back_that_fails_calls_for_another_node(
    stage: Stage, runs: list[int | NodeBusy], error: Exception
) -> None:
    runs.append(8)
    stage.faults[BACK[1]] = error
    assert not back(stage)
    assert stage.done == BACK[:2], "the next start is not prepared"


def test_children_that_do_not_start_call_for_another_node(
    stage: Stage, runs: list[int | NodeBusy]
) -> None:
    runs.append(8)
    assert stage.node is not None
    stage.node.failed = ("Extra did not start",)
    assert not back(stage)


def test_nothing_that_runs_has_no_way_back(stage: Stage, runs: list[int | NodeBusy]) -> None:
    stage.running = {}
    assert not back(stage)
    make_live(stage.gatling.db, "shop", release=None, slot=None, config=None)
    assert not back(stage)
    assert stage.done == []


def test_one_that_runs_a_release_without_a_record_is_replaced(
    stage: Stage, runs: list[int | NodeBusy]
) -> None:
    runs.append(4711)
    assert not back(stage)
