"""From a stored release to the live one: what is carried out, and what takes its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from msgspec import structs

from gatling.beam.comparison import Comparison
from gatling.deploy import go_live, published, settle
from gatling.deploy.cutover import hot, restart, rolling
from gatling.deploy.evidence.prober import Proof
from gatling.deploy.migrations import runner
from gatling.deploy.plan import gather
from gatling.deploy.plan.gather import Gathered
from gatling.deploy.wish import Wish
from gatling.errors import InvalidInput, MigrationFailed, NodeUnreachable, PushRefused
from gatling.project import refs
from gatling.state import deployments
from tests.deploy.stage import Node, make_live, release

if TYPE_CHECKING:
    from gatling.beam.control import Control
    from gatling.deploy.context import Context
    from gatling.deploy.plan.plan import Facts
    from tests.deploy.stage import Stage

TARGET = structs.replace(release(8), config=release(7).config)
"""The release that goes live; a hot upgrade needs the config of the one before."""
PROOF = Proof(requests=1, failed=0, longest_ms=1.0)


@pytest.fixture
def found(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the running node adds to the facts; everything around the plan is noted."""
    found: dict[str, Any] = {"comparison": Comparison("same")}

    def noted(what: str) -> Any:
        return lambda *_: stage.do(what)

    def with_node(_: object, __: object, known: Facts, *___: object, **____: object) -> Gathered:
        stage.do("ask the node")
        compares = known.requested in ("auto", "hot") and known.live is not None
        facts = structs.replace(known, **(found if compares else {}))
        if facts.comparison is None:
            return Gathered(facts)
        return Gathered(facts, cast("Control", Node(stage)), (facts.comparison, None))

    def carry_out(what: str) -> Any:
        def done(*given: Any, **more: Any) -> Proof:
            stage.do(what)
            more["before_decision"]()
            stage.do("decided")
            slot = 1 if what == "hot" else 2
            make_live(stage.gatling.db, "shop", release=8, slot=slot, config=None)
            more["on_live"]()
            return PROOF

        return done

    monkeypatch.setattr(runner, "run", noted("migrate"))
    monkeypatch.setattr(published, "prepare", noted("publish"))
    monkeypatch.setattr(settle, "settle", noted("settle"))
    monkeypatch.setattr(gather, "with_node", with_node)
    monkeypatch.setattr(refs, "check_still", noted("check the refs"))
    monkeypatch.setattr(hot, "upgrade", carry_out("hot"))
    monkeypatch.setattr(rolling, "roll", carry_out("rolling"))
    monkeypatch.setattr(restart, "restart", carry_out("restart"))
    return found


def go(stage: Stage, strategy: str | None = None) -> Context:
    context = stage.context()
    go_live.go_live(
        stage.gatling, context, TARGET, wish=Wish(strategy=strategy)
    )  # fmt: skip
    return context


def recorded(stage: Stage) -> tuple[object, ...]:
    """What is recorded of the newest deployment's aim."""
    newest = deployments.get(stage.gatling.db, 1)
    return newest.strategy, newest.release, newest.slot


@pytest.mark.parametrize(
    ("wish", "strategy", "slot"),
    [(None, "hot", 1), ("hot", "hot", 1), ("rolling", "rolling", 2), ("restart", "restart", 2)],
)
@pytest.mark.usefixtures("found")
def test_the_order(stage: Stage, wish: str | None, strategy: str, slot: int) -> None:
    context = go(stage, wish)
    assert stage.done == [
        "migrate", "publish", "ask the node", strategy, "check the refs", "decided", "settle",
    ]  # fmt: skip
    assert recorded(stage) == (strategy, 8, slot)
    assert context.result.proof == PROOF
    assert context.result.warnings == []


@pytest.mark.usefixtures("found")
def test_the_first_release_is_started(stage: Stage) -> None:
    make_live(stage.gatling.db, "shop", release=None, slot=None, config=None)
    go(stage)
    assert recorded(stage) == ("start", 8, 1)
    assert "rolling" in stage.done


def test_a_node_that_cannot_be_asked_is_replaced(stage: Stage, found: dict[str, Any]) -> None:
    found |= {"comparison": None, "unknown": "The node is lost."}
    go(stage)
    assert recorded(stage) == ("rolling", 8, 2)
    with pytest.raises(InvalidInput):
        go(stage, "hot")


@pytest.mark.parametrize(
    "refusal", [hot.NotPossible("suspend: no answer"), NodeUnreachable("lost", log=["its log"])]
)
@pytest.mark.usefixtures("found")
def test_a_refused_hot_upgrade_is_carried_out_by_rolling(stage: Stage, refusal: Exception) -> None:
    stage.faults["hot"] = refusal
    go(stage)
    assert stage.done[2:] == [
        "ask the node", "hot", "rolling", "check the refs", "decided", "settle",
    ]  # fmt: skip
    assert recorded(stage) == ("rolling", 8, 2)
    assert deployments.get(stage.gatling.db, 1).reasons == (
        "suspend: no answer" if isinstance(refusal, hot.NotPossible) else "lost",
    )


def test_where_no_two_may_run_a_refused_upgrade_becomes_a_restart(
    stage: Stage, found: dict[str, Any]
) -> None:
    found["alone"] = ("it holds a lock",)
    stage.faults["hot"] = hot.NotPossible("suspend: no answer")
    go(stage)
    assert recorded(stage) == ("restart", 8, 2)


@pytest.mark.usefixtures("found")
def test_a_refused_upgrade_that_was_asked_for_fails(stage: Stage) -> None:
    stage.faults["hot"] = hot.NotPossible("suspend: no answer")
    with pytest.raises(InvalidInput, match="no answer"):
        go(stage, "hot")
    assert stage.done[-1] == "hot"
    assert stage.live() == (7, 1)


@pytest.mark.usefixtures("found")
def test_a_node_that_is_lost_during_the_swap_is_not_replaced_twice(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(_: object, context: Context, *__: object, **___: object) -> Proof:
        context.interruption.shield()
        raise NodeUnreachable("lost in the midst")

    monkeypatch.setattr(hot, "upgrade", lost)
    with pytest.raises(NodeUnreachable, match="in the midst"):
        go(stage)
    assert "rolling" not in stage.done
    assert "settle" not in stage.done


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("migrate", MigrationFailed("no")),
        ("rolling", OSError(28)),
        ("check the refs", PushRefused("moved")),
    ],
)
@pytest.mark.usefixtures("found")
def test_what_fails_before_the_decision_is_raised(
    stage: Stage, step: str, error: Exception
) -> None:
    stage.faults[step] = error
    with pytest.raises(type(error)):
        go(stage, "rolling")
    assert stage.done[-1] == step
    assert stage.live() == (7, 1)


@pytest.mark.usefixtures("found")
def test_what_fails_after_the_decision_is_a_warning_and_the_rest_follows(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decided(*_: object, **__: object) -> Proof:
        begun = deployments.running(stage.gatling.db, "shop")[-1]
        assert begun.slot == 2
        make_live(stage.gatling.db, "shop", release=8, slot=2, config=None)
        raise OSError(5, "odd")

    monkeypatch.setattr(rolling, "roll", decided)
    context = go(stage, "rolling")
    assert stage.done[-1] == "settle"
    assert context.result.warnings == ["OSError: [Errno 5] odd"]
