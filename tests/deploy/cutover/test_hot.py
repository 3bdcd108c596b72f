"""A hot upgrade: the order of what is done, what refuses it, and what takes it back."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from gatling.beam.answers import Announced
from gatling.beam.comparison import AddedApp, Answers, Comparison
from gatling.beam.control import Control, Logged, NodeBusy, SwapFailed, Watched
from gatling.deploy import watch as background
from gatling.deploy.cutover import hot, rehearsal
from gatling.deploy.evidence import health
from gatling.errors import Interrupted, NodeUnreachable, SupervisorFailed, SwapUndone
from gatling.state import deployments, watches
from tests.deploy.stage import Node, release

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatling.deploy.context import Context
    from gatling.deploy.evidence.prober import Proof
    from gatling.state.watches import Watch
    from tests.deploy.stage import Stage

SAME, STARTS = Comparison("same"), Comparison("same", apps_added=[AddedApp("extra", runtime=False)])
SWAP = ["before the decision", "probe", "[hot_swap]", "swap v7 → v8"]
PROVE = [*SWAP, "it runs", "ask", "[watch]", "watch", "ask"]
DECIDE = ["decide for v8 in 1", "prepare v8", "keep"]
UNDO = ["[swap_back]", "swap v8 → v7 at any rate", "restore crashed processes", "probed"]
REPLACE = [
    "[start_instance]", "stop 2", "start v7 in 2", "check the proxy",
    "[health_check]", "wait until it is healthy", "probe",
    "[switch_proxy]", "decide for v7 in 2", "point to 2",
    "[drain]", "[stop_previous]", "stop 1", "probed", "probed",
]  # fmt: skip
CHECK = [
    *SWAP, "it runs", "ask", "stop 2", "boot v8 in 2", "[watch]", "watch", "ask",
    "wait until it is healthy",
]  # fmt: skip
CHECKED = {"hot.boot_check": "after"}
BOOT = ["[boot_check]", "stop 2", "boot v8 in 2", "wait until it is healthy", "stop 2"]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hot, "STAYS_SECONDS", 0.001)


@pytest.fixture
def node(stage: Stage) -> Node:
    return Node(stage)


def upgrade(
    stage: Stage, context: Context, node: Node, found: Comparison = SAME, answers: object = None
) -> Proof:
    return hot.upgrade(
        stage.gatling, context, cast("Control", node), release(7), release(8),
        (found, cast("Answers | None", answers)),
        before_decision=lambda: stage.do("before the decision"),
        on_live=lambda: stage.do("it runs"),
    )  # fmt: skip


def untouched(stage: Stage) -> bool:
    """Whether nothing but the node's own code may have changed."""
    return (stage.live(), stage.pointed, stage.running) == ((7, 1), 1, {1: 7})


def test_the_order(stage: Stage, node: Node) -> None:
    context = stage.context()
    proof = upgrade(stage, context, node)
    assert stage.done == [*PROVE, *DECIDE, "probed"]
    assert stage.live() == (8, 1)
    assert (proof.processes, proof.suspended_ms, proof.connections, proof.kept) == (3, 1.5, 1, 1)
    assert not context.interruption.armed


def test_it_boots_elsewhere_beside_the_watch(stage: Stage, node: Node) -> None:
    upgrade(stage, stage.context(CHECKED), node)
    assert stage.done == [*CHECK, "begin to stop 2", *DECIDE, "probed"]
    assert watches.every(stage.gatling.db) == []


@pytest.mark.parametrize("setting", ["before", "after"])
def test_new_children_run_elsewhere_before_they_are_started(
    stage: Stage, node: Node, setting: str
) -> None:
    upgrade(stage, stage.context({"hot.boot_check": setting}), node, STARTS)
    stays = [*BOOT[:-1], BOOT[-2], BOOT[-1]]  # and is healthy still a moment later
    assert stage.done == [*stays, *PROVE, *DECIDE, "probed"]


@pytest.mark.parametrize("more", [{"hot.boot_check": "before"}, {"hot.rehearse": "true"}])
def test_where_no_second_instance_may_run_none_does(
    stage: Stage, node: Node, more: dict[str, str]
) -> None:
    upgrade(stage, stage.context(more, alone=("it holds a lock",)), node, STARTS)
    assert stage.done == [*PROVE, *DECIDE, "probed"]


def test_a_boot_check_that_fails_before_it_touches_nothing(stage: Stage, node: Node) -> None:
    context = stage.context({"hot.boot_check": "before"})
    stage.faults["wait until it is healthy"] = SupervisorFailed("never healthy")
    with pytest.raises(SupervisorFailed):
        upgrade(stage, context, node)
    assert not [each for each in stage.done if each.startswith("swap")]
    assert untouched(stage)
    assert context.interruption.armed


def requests(stage: Stage, node: Node, errors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let clients have 999 good answers before the switch, and 100 answers after it."""
    port = stage.context().app.ports[1]

    def write(since: float, statuses: Sequence[int]) -> None:
        with stage.requests.open("a") as log:
            for status in statuses:
                log.write(f"{since:.3f} shop {port} {status} 0.010 0.010\n")

    def watch(_: object, seconds: float) -> Watched:
        write(time.time(), [500] * errors + [200] * (100 - errors))
        time.sleep(0.002)
        return node.watched

    write(time.time() - 60, [200] * 999)
    monkeypatch.setattr(node, "watch", watch)


def test_a_release_that_fails_one_request_in_twenty_is_taken_back(
    stage: Stage, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests(stage, node, 5, monkeypatch)
    with pytest.raises(SwapUndone, match=r"5 of 100 requests failed .*, 0 of 999"):
        upgrade(stage, stage.context(), node)
    assert stage.done[-len(UNDO) :] == UNDO
    assert untouched(stage)


@pytest.mark.parametrize("wanted", ["note", "off"])
def test_figures_are_only_reported_where_a_setting_says_so(
    stage: Stage, node: Node, wanted: str, said: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests(stage, node, 5, monkeypatch)
    upgrade(stage, stage.context({"deploy.figures": wanted}), node)
    assert stage.live() == (8, 1)
    assert ("5 of 100 requests failed" in said.read_text()) == (wanted == "note")


def test_a_long_watch_goes_on_after_the_upgrade(
    stage: Stage, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    def watch_(_: object, seconds: float) -> Watched:
        waited.append(seconds)
        return node.watched

    monkeypatch.setattr(node, "watch", watch_)
    context, begun = stage.context({"hot.watch": "5m"}), time.time()
    upgrade(stage, context, node)
    assert waited == [5.0]
    watch = watches.of_app(stage.gatling.db, "shop")
    assert watch is not None
    assert (watch.deployment, watch.release, watch.previous) == (context.deployment.id, 8, 7)
    assert begun + 300 <= watch.until <= time.time() + 300


def test_a_rehearsal_does_not_last_as_long_as_a_long_watch(
    stage: Stage, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    def watch_(_: object, seconds: float) -> Watched:
        waited.append(seconds)
        return node.watched

    monkeypatch.setattr(node, "watch", watch_)
    monkeypatch.setattr(rehearsal, "control", lambda *_: contextlib.nullcontext(node))
    context = stage.context({"hot.watch": "5m", "hot.rehearse": "true"})
    upgrade(stage, context, node)
    assert waited == [5.0, 5.0]


def test_a_boot_check_that_fails_after_it_takes_it_back(stage: Stage, node: Node) -> None:
    stage.faults["wait until it is healthy"] = SupervisorFailed("never healthy")
    with pytest.raises(SupervisorFailed, match="never healthy"):
        upgrade(stage, stage.context(CHECKED), node)
    assert stage.done[-len(UNDO) :] == UNDO
    assert untouched(stage)
    assert (
        "swap v8 → v7 at any rate" not in stage.done[: stage.done.index("wait until it is healthy")]
    )


def slow_boot(stage: Stage) -> None:
    stage.faults["wait until it is healthy"] = health.StillBootsError()


def pending(stage: Stage) -> Watch:
    """The watch of v8, whose boot check goes on."""
    (watch,) = watches.every(stage.gatling.db)
    assert (watch.release, watch.previous, watch.unproven, watch.judges) == (8, 7, "", False)
    return watch


def test_a_slow_boot_is_not_waited_for_and_the_next_boot_stays_that_of_before(
    stage: Stage, node: Node, said: Path
) -> None:
    slow_boot(stage)
    context = stage.context(CHECKED)
    upgrade(stage, context, node)
    assert stage.done == [*CHECK, "decide for v8 in 1", "prepare v7", "keep", "probed"]
    assert stage.running == {1: 7, 2: 8}, "the instance goes on booting"
    assert pending(stage).deployment == context.deployment.id
    deployments.end(stage.gatling.db, context.deployment.id, "succeeded")
    steps = deployments.get(stage.gatling.db, context.deployment.id).steps
    assert [step.outcome for step in steps if step.name == "boot_check"] == ["running"]
    background.begin(stage.gatling, context)
    assert stage.done[-1] == "watch in the background"
    assert "If v8 does not boot, v7 returns" in background.unproven(stage.gatling, context)
    assert "is watched for" not in said.read_text()


def test_a_long_watch_has_the_boot_check_too(stage: Stage, node: Node) -> None:
    slow_boot(stage)
    upgrade(stage, stage.context(CHECKED | {"hot.watch": "5m"}), node)
    (watch,) = watches.every(stage.gatling.db)
    assert (watch.judges, watch.unproven) == (True, "")


def test_a_failed_watch_ends_the_boot_check(stage: Stage, node: Node) -> None:
    node.watched = Watched(["Shop: badkey"], [], [])
    with pytest.raises(SwapUndone):
        upgrade(stage, stage.context(CHECKED), node)
    assert stage.done.index("stop 2", -len(UNDO) - 1) < stage.done.index(UNDO[0])
    assert untouched(stage)


def test_the_release_that_boots_next_anyway_is_not_checked(stage: Stage, node: Node) -> None:
    """A rollback while the boot check of the live release goes on."""
    slow_boot(stage)
    upgrade(stage, stage.context(CHECKED), node)
    superseded, stage.done[:] = pending(stage), []
    hot.upgrade(
        stage.gatling, stage.context(CHECKED), cast("Control", node), release(8), release(7),
        (SAME, None), before_decision=lambda: None, on_live=lambda: None,
    )  # fmt: skip
    assert "boot v7 in 2" not in stage.done
    assert (stage.live(), stage.running) == ((7, 1), {1: 7})
    assert watches.every(stage.gatling.db) == []
    (step,) = [
        step for step in deployments.get(stage.gatling.db, superseded.deployment).steps
        if step.name == "boot_check"
    ]  # fmt: skip
    assert step.outcome == "cancelled"


def test_an_unproven_release_is_none_to_return_to(stage: Stage, node: Node) -> None:
    """A second push while the boot check of the first goes on."""
    slow_boot(stage)
    upgrade(stage, stage.context(CHECKED), node)
    stage.release(9)
    hot.upgrade(
        stage.gatling, stage.context(CHECKED), cast("Control", node), release(8), release(9),
        (SAME, None), before_decision=lambda: None, on_live=lambda: None,
    )  # fmt: skip
    assert stage.running == {1: 7, 2: 9}
    (watch,) = watches.every(stage.gatling.db)
    assert (watch.release, watch.previous, watch.unproven) == (9, 7, "")
    assert stage.done[-3:-1] == ["prepare v7", "keep"]


def test_who_is_interrupted_before_it_has_touched_nothing(stage: Stage, node: Node) -> None:
    stage.faults["before the decision"] = Interrupted("Ctrl-C")
    context = stage.context()
    with pytest.raises(Interrupted):
        upgrade(stage, context, node)
    assert stage.done == ["before the decision"]
    assert context.interruption.armed


@pytest.mark.parametrize(
    "error",
    [
        SwapFailed("suspend", "one does not answer", "untouched"),
        NodeBusy(Announced(from_label="v6", to="v7", phase="checking")),
    ],
    ids=["suspend", "busy"],
)
def test_a_node_that_refuses_is_as_it_was(stage: Stage, node: Node, error: Exception) -> None:
    stage.faults["swap v7 → v8"] = error
    with pytest.raises(hot.NotPossible):
        upgrade(stage, stage.context(), node)
    assert stage.done == [*SWAP, "probed"]
    assert untouched(stage)


def test_a_swap_that_was_taken_back_in_the_node_fails_the_push(stage: Stage, node: Node) -> None:
    stage.faults["swap v7 → v8"] = SwapFailed("code_change", "Shop: bad state", "restored")
    context = stage.context()
    with pytest.raises(SwapUndone, match="code_change: Shop: bad state") as caught:
        upgrade(stage, context, node)
    assert "code_change/3 must accept every state" in caught.value.hint
    assert stage.done == [*SWAP, "probed"]
    assert untouched(stage)
    assert context.result.proof is not None, "what clients saw is recorded with the failure"


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (SwapFailed("load", "half of it", "broken"), SwapUndone),
        (NodeUnreachable("the connection is lost"), NodeUnreachable),
    ],
    ids=["broken", "lost"],
)
@pytest.mark.parametrize("alone", [(), ("it holds a lock",)])
def test_a_node_of_unknown_state_is_replaced(
    stage: Stage, node: Node, error: Exception, raised: type[Exception], alone: tuple[str, ...]
) -> None:
    stage.faults["swap v7 → v8"] = error
    with pytest.raises(raised) as caught:
        upgrade(stage, stage.context(alone=alone), node)
    assert "replaced by a new instance of v7" in getattr(caught.value, "hint", "")
    if alone:
        assert stage.done.index("stop 1") < stage.done.index("start v7 in 2"), "never two at once"
    else:
        assert stage.done == [*SWAP, *REPLACE]
    assert (stage.live(), stage.running) == ((7, 2), {2: 7})


def test_children_that_do_not_start_take_it_back(stage: Stage, node: Node) -> None:
    node.failed = ("Extra did not start",)
    with pytest.raises(SwapUndone, match="Extra did not start"):
        upgrade(stage, stage.context(), node)
    assert stage.done == [*SWAP, "it runs", *UNDO]
    assert untouched(stage)


@pytest.mark.parametrize(
    ("watched", "why"),
    [
        (Watched(["Shop: badkey"], [], []), "1 converted process crashed"),
        (Watched([], [], [Logged("KeyError", 1, True)]), "the app logged errors: 1 × KeyError"),
    ],
    ids=["crashed", "logged"],
)
def test_what_the_watch_finds_takes_it_back(
    stage: Stage, node: Node, watched: Watched, why: str
) -> None:
    node.watched = watched
    with pytest.raises(SwapUndone, match=why):
        upgrade(stage, stage.context(), node)
    assert stage.done == [*PROVE[:-1], *UNDO]
    assert untouched(stage)


def test_an_app_that_is_unhealthy_after_it_takes_it_back_at_once(stage: Stage, node: Node) -> None:
    stage.faults["ask"] = OSError("refused")
    with pytest.raises(SwapUndone, match="v8 failed its health check after the switch"):
        upgrade(stage, stage.context(), node)
    assert stage.done == [*PROVE[:-1], *UNDO], "the watch gives crashed processes their states back"
    assert untouched(stage)


def test_answers_are_given_the_other_way_round_for_the_way_back(
    stage: Stage, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[object] = []
    swap = node.swap

    def noted(live: object, target: object, answers: object, **more: object) -> object:
        given.append(answers)
        return swap(live, target, answers, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(node, "swap", noted)
    node.failed = ("Extra did not start",)
    there = Answers(Path("old"), Path("new"))
    with pytest.raises(SwapUndone):
        upgrade(stage, stage.context(), node, answers=there)
    assert given == [there, Answers(there.new, there.old)]


@pytest.mark.parametrize(
    "second",
    [SwapFailed("load", "no way", "broken"), NodeUnreachable("lost")],
    ids=["broken", "lost"],
)
def test_where_there_is_no_way_back_the_node_is_replaced(
    stage: Stage, node: Node, second: Exception
) -> None:
    node.failed = ("Extra did not start",)
    stage.faults["swap v8 → v7 at any rate"] = second
    with pytest.raises(SwapUndone, match="Extra did not start") as caught:
        upgrade(stage, stage.context(), node)
    assert stage.done == [*SWAP, "it runs", *UNDO[:2], *REPLACE]
    assert "replaced by a new instance of v7" in caught.value.hint
    assert (stage.live(), stage.running) == ((7, 2), {2: 7})


def test_a_decision_that_cannot_be_recorded_is_raised(stage: Stage, node: Node) -> None:
    stage.faults["decide for v8 in 1"] = OSError(28, "full")
    with pytest.raises(OSError, match="full"):
        upgrade(stage, stage.context(), node)
    assert stage.done == [*PROVE, "decide for v8 in 1", "probed"]
    assert untouched(stage), "recovery finds the node upgraded and swaps it back"


@pytest.mark.parametrize(
    ("step", "error", "warnings"),
    [
        ("prepare v8", SupervisorFailed("full"), ["full"]),
        ("keep", NodeUnreachable("lost"), []),
        ("keep", ValueError("odd"), ["ValueError: odd"]),
    ],
)
def test_what_fails_after_the_decision_takes_nothing_back(
    stage: Stage, node: Node, step: str, error: Exception, warnings: list[str]
) -> None:
    stage.faults[step] = error
    context = stage.context()
    upgrade(stage, context, node)
    assert stage.done == [*PROVE, *DECIDE, "probed"]
    assert stage.live() == (8, 1)
    assert context.result.warnings == warnings
