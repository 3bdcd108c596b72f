"""What a plan is made of, and what takes the place of a node that cannot be asked."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from gatling.beam.answers import Announced
from gatling.beam.channel import NodeInUse
from gatling.beam.comparison import Comparison
from gatling.beam.control import NodeBusy
from gatling.deploy import live_node
from gatling.deploy.migrations import runner
from gatling.deploy.plan import exclusive, gather, inspection
from gatling.errors import NodeUnreachable, PlannerFailed
from gatling.project import settings
from gatling.state import apps
from tests.deploy.stage import Node, release

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.deploy.plan.gather import Gathered
    from gatling.errors import GatlingError
    from tests.deploy.stage import Stage

BUSY = NodeBusy(Announced(from_label="v7", to="v8", phase="touching"))
CUT_OFF = NodeBusy(Announced(from_label="v7", to="v8", phase="broken"))


@pytest.fixture
def node(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Node:
    """The running node: `connect` and `compare` may fail."""
    node = Node(stage)

    @contextlib.contextmanager
    def connected(*_: object) -> Iterator[Node]:
        stage.do("connect")
        yield node
        stage.do("disconnect")

    @contextlib.contextmanager
    def compared(*_: object) -> Iterator[tuple[Comparison, None]]:
        stage.do("compare")
        yield Comparison("same"), None

    monkeypatch.setattr(live_node, "connected", connected)
    monkeypatch.setattr(inspection, "compared", compared)
    monkeypatch.setattr(exclusive, "reasons", lambda *_: ())
    monkeypatch.setattr(exclusive, "unasked", lambda *_: ("it may hold a lock",))
    monkeypatch.setattr(runner, "runs_any", lambda *_: False)
    return node


def gathered(
    stage: Stage, requested: str = "auto", chosen: dict[str, str] | None = None, number: int = 8,
    errors: list[GatlingError] | None = None, **more: Any,
) -> Gathered:  # fmt: skip
    app = apps.get(stage.gatling.db, "shop")
    parsed = settings.parse(chosen or {})
    target = structs.replace(release(number), config=release(7).config)
    known = gather.facts(stage.gatling, app, release(7), target, parsed, requested)
    noted = errors if errors is not None else []
    with contextlib.ExitStack() as open_node:
        return gather.with_node(stage.gatling, app, known, open_node, on_error=noted.append, **more)


def test_a_node_that_answers(stage: Stage, node: Node) -> None:
    found = gathered(stage, listens=True)
    assert stage.done == ["connect", "listen", "compare", "stop listening", "disconnect"]
    asked: object = found.node
    assert asked is node
    assert found.facts.comparison == Comparison("same")
    assert (found.facts.unknown, found.facts.alone) == ("", ())


@pytest.mark.usefixtures("node")
def test_a_restart_asks_nobody(stage: Stage) -> None:
    assert gathered(stage, "restart").node is None
    assert stage.done == []


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize(("requested", "number"), [("rolling", 8), ("auto", 7)])
def test_rolling_asks_whether_two_may_run_and_no_more(
    stage: Stage, requested: str, number: int
) -> None:
    assert gathered(stage, requested, number=number).facts.comparison is None
    assert stage.done == ["connect", "disconnect"]


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize(("word", "alone"), [("allow", 0), ("never", 1)])
def test_what_the_settings_say_of_two_instances_is_not_asked(
    stage: Stage, word: str, alone: int
) -> None:
    chosen = {"deploy.second_instance": word}
    assert len(gathered(stage, "rolling", chosen).facts.alone) == alone
    assert stage.done == []
    assert len(gathered(stage, "auto", chosen).facts.alone) == alone


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize("error", [NodeUnreachable("lost"), NodeInUse(), BUSY])
def test_a_node_that_cannot_be_reached(stage: Stage, error: GatlingError) -> None:
    stage.faults["connect"] = error
    errors: list[GatlingError] = []
    found = gathered(stage, errors=errors)
    assert errors == [error]
    assert (found.node, found.facts.comparison) == (None, None)
    assert (found.facts.unknown, found.facts.alone) == (error.what, ("it may hold a lock",))


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize("error", [NodeUnreachable("lost"), PlannerFailed("no answer")])
def test_a_comparison_that_fails(stage: Stage, error: GatlingError) -> None:
    stage.faults["compare"] = error
    found = gathered(stage)
    assert (found.node, found.facts.unknown) == (None, error.what)
    assert stage.done[-1] == "disconnect"


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize("step", ["connect", "compare"])
@pytest.mark.parametrize("error", [NodeInUse(), BUSY], ids=["used", "busy"])
def test_who_insists_is_told_that_another_command_works_with_it(
    stage: Stage, step: str, error: GatlingError
) -> None:
    stage.faults[step] = error
    with pytest.raises(type(error)) as caught:
        gathered(stage, insists=True)
    assert "gatling deployments shop --follow" in caught.value.hint


@pytest.mark.usefixtures("node")
def test_to_insist_is_in_vain_where_a_swap_was_cut_off_or_nothing_is_compared(
    stage: Stage,
) -> None:
    stage.faults["connect"] = CUT_OFF
    assert gathered(stage, insists=True).facts.unknown == CUT_OFF.what
    stage.faults["connect"] = BUSY
    assert gathered(stage, "rolling", insists=True).facts.unknown == BUSY.what
