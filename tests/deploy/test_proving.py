"""A boot check that goes on after its deployment, and what a start of the app does meanwhile."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, cast

import pytest
from msgspec import structs

from gatling.beam.comparison import Comparison
from gatling.deploy import fallback, live_node, published, recovery
from gatling.deploy.cutover import hot, instance, way_back
from gatling.deploy.evidence import health
from gatling.errors import NodeUnreachable, UnhealthyRelease
from gatling.operations import deploys, watching
from gatling.platform import lock
from gatling.platform.restarts import End
from gatling.releases import distillery
from gatling.runtime import jobs, workers
from gatling.state import apps, audit, config, deployments, watches
from tests.deploy.stage import Node, make_live, release

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatling.beam.control import Control
    from gatling.state.watches import Watch
    from tests.deploy.stage import Stage

BOOTS = "wait until it is healthy"
CRASH = UnhealthyRelease("The new release exited at boot.", log=("** (RuntimeError) no boot",))


@pytest.fixture(autouse=True)
def _around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(watching, "HANDOVER_SECONDS", 0.05)
    for module in (workers, jobs):
        monkeypatch.setattr(module, "follow", lambda *_, **__: [])
    monkeypatch.setattr(published, "publish", lambda *_: None)
    monkeypatch.setattr(distillery, "sweep", lambda *_: None)
    monkeypatch.setattr(recovery, "_prepared", lambda *_: 7)
    monkeypatch.setattr(instance, "last_words_since", lambda *_, **__: CRASH.log)


@pytest.fixture
def watch(stage: Stage) -> Watch:
    """The watch of v8, to which a node was upgraded whose boot check was not waited for."""
    stage.faults[BOOTS] = health.StillBootsError()
    context = stage.context({"hot.boot_check": "after"})
    hot.upgrade(
        stage.gatling, context, cast("Control", Node(stage)), release(7), release(8),
        (Comparison("same"), None), before_decision=lambda: None, on_live=lambda: None,
    )  # fmt: skip
    deployments.end(stage.gatling.db, context.deployment.id, "succeeded")
    found = watches.of_app(stage.gatling.db, "shop")
    assert found is not None
    stage.done.clear()
    return found


@pytest.fixture
def undone(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    problems: list[str] = []

    def undo(_: object, watch: Watch, problem: str, **__: object) -> None:
        problems.append(problem)
        stage.do("undo")
        make_live(stage.gatling.db, "shop", release=watch.previous, slot=1, config=None)

    monkeypatch.setattr(deploys, "undo", undo)
    return problems


def attend(stage: Stage) -> None:
    watching.attend(stage.gatling, "shop", stage.progress)


def step(stage: Stage, watch: Watch) -> str:
    steps = deployments.get(stage.gatling.db, watch.deployment).steps
    return next(each.outcome for each in steps if each.name == "boot_check")


def later(stage: Stage, monkeypatch: pytest.MonkeyPatch, *then: Callable[[], None]) -> None:
    """One of these at each look at the instance; the last one lets it be healthy."""
    looks = iter(then)

    def wait_healthy(*_: object, **__: object) -> str:
        next(looks, lambda: None)()
        stage.do(BOOTS)
        return "42"

    monkeypatch.setattr(health, "wait_healthy", wait_healthy)


def still(stage: Stage) -> Callable[[], None]:
    return lambda: stage.faults.__setitem__(BOOTS, health.StillBootsError())


def healthy(stage: Stage) -> Callable[[], None]:
    return stage.faults.clear


def crashes(stage: Stage) -> Callable[[], None]:
    def crash() -> None:
        stage.running.pop(2, None)
        stage.faults[BOOTS] = CRASH

    return crash


def seen(monkeypatch: pytest.MonkeyPatch, number: int | None) -> None:
    """Let the node say that it runs this release; None: it does not answer."""

    def chain(*_: object) -> list[str]:
        if number is None:
            raise NodeUnreachable("no answer")
        return ["v5", f"v{number}"]

    monkeypatch.setattr(live_node, "seen", chain)


def test_one_that_passes_completes_the_record(
    stage: Stage, watch: Watch, undone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    later(stage, monkeypatch, still(stage), still(stage), healthy(stage))
    attend(stage)
    assert stage.done == [*[BOOTS] * 3, "stop 2", "prepare v8"], "the instance was taken over"
    assert (stage.live(), stage.running, undone) == ((8, 1), {1: 7}, [])
    assert watches.every(stage.gatling.db) == []
    assert step(stage, watch) == "succeeded"
    (entry,) = audit.latest(stage.gatling.db, "shop")
    assert entry.action == "boot check"
    assert entry.detail.startswith("v8 boots, as seen ")


def test_one_whose_instance_is_gone_begins_again(
    stage: Stage, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gatling or the instance was killed."""
    stage.running.pop(2)
    later(stage, monkeypatch, healthy(stage))
    attend(stage)
    assert stage.done == ["stop 2", "boot v8 in 2", BOOTS, "stop 2", "prepare v8"]
    assert step(stage, watch) == "succeeded"


def test_one_that_fails_twice_undoes_the_release(
    stage: Stage, watch: Watch, undone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    later(stage, monkeypatch, crashes(stage), crashes(stage))
    attend(stage)
    assert stage.done.count(BOOTS) == 2
    assert undone == ["It does not boot: The new release exited at boot. ** (RuntimeError) no boot"]
    assert stage.live() == (7, 1)
    error = deployments.get(stage.gatling.db, watch.deployment).error
    assert error is not None
    assert error.startswith("v8 was undone. It does not boot")


def test_one_that_fails_once_does_not(
    stage: Stage, watch: Watch, undone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    later(stage, monkeypatch, crashes(stage), healthy(stage))
    attend(stage)
    assert (undone, stage.live(), step(stage, watch)) == ([], (8, 1), "succeeded")


def test_failures_while_another_deployment_uses_the_slot_do_not_count(
    stage: Stage, watch: Watch, undone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def disturbed() -> None:
        crashes(stage)()
        deployments.end(stage.gatling.db, stage.context().deployment.id, "failed")

    later(stage, monkeypatch, crashes(stage), disturbed, crashes(stage), healthy(stage))
    attend(stage)
    assert (undone, stage.live(), step(stage, watch)) == ([], (8, 1), "succeeded")


def test_what_another_deployment_has_put_in_the_slot_is_left_alone(
    stage: Stage, watch: Watch, undone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds the lock, has stopped the check's instance, and started its own."""
    deployment = contextlib.ExitStack()

    def taken() -> None:
        assert deployment.enter_context(lock.try_hold(stage.gatling.home.app("shop").lock))
        stage.running[2] = 9
        stage.faults[BOOTS] = CRASH
        stage.done.clear()

    def decided(_: float) -> None:
        make_live(stage.gatling.db, "shop", release=9, slot=2, config=None)

    later(stage, monkeypatch, still(stage), taken)
    monkeypatch.setattr(time, "sleep", decided)
    with deployment:
        attend(stage)
    assert (stage.running[2], undone) == (9, [])
    assert "stop 2" not in stage.done


def test_nothing_is_started_while_a_deployment_is_under_way(
    stage: Stage, undone: list[str], watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.running.pop(2)
    looks = iter(range(10))

    def sleep(_: float) -> None:
        if next(looks) == 5:
            make_live(stage.gatling.db, "shop", release=7, slot=2, config=None)

    monkeypatch.setattr(time, "sleep", sleep)
    with lock.try_hold(stage.gatling.home.app("shop").lock) as held:
        assert held
        attend(stage)
    assert (stage.done, undone) == ([], [])
    assert step(stage, watch) == "cancelled", "another release is live"


def test_an_undo_that_fails_leaves_the_next_boot_as_it_was(
    stage: Stage, watch: Watch, undone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    later(stage, monkeypatch, crashes(stage), crashes(stage))
    stage.faults["undo"] = UnhealthyRelease("The app is locked.")
    with pytest.raises(UnhealthyRelease, match="locked"):
        attend(stage)
    assert len(undone) == 1
    assert watches.boots(stage.gatling.db, "shop", 8) == 7
    stage.done.clear()
    attend(stage)
    assert stage.done == [], "it is not tried again"
    stage.running.clear()
    recovery.reconcile(stage.gatling, "shop")
    assert (stage.live(), stage.running) == ((7, 1), {1: 7})
    error = deployments.get(stage.gatling.db, watch.deployment).error
    assert error is not None
    assert "no boot" in error


def test_a_node_that_ended_meanwhile_runs_the_release_before(
    stage: Stage, watch: Watch, undone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor starts what is prepared, which is v7."""
    later(stage, monkeypatch, still(stage))
    stage.ends = [End(watch.switched + 2, 9, "killed by SIGKILL")]
    seen(monkeypatch, 7)
    attend(stage)
    assert (stage.live(), stage.running, undone) == ((7, 1), {1: 7}, [])
    assert step(stage, watch) == "interrupted"
    error = deployments.get(stage.gatling.db, watch.deployment).error
    assert error == "v8 was undone: its instance ended before its boot check did. v7 runs."
    assert "start v7 in 1" not in stage.done


def test_a_node_that_is_just_being_started_again_is_waited_for(
    stage: Stage, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    del stage.running[1]
    stage.ends = [End(watch.switched + 2, 9, "killed by SIGKILL")]
    seen(monkeypatch, 7)
    monkeypatch.setattr(time, "sleep", lambda _: stage.running.update({1: 7}))
    attend(stage)
    assert (stage.live(), watches.every(stage.gatling.db)) == ((7, 1), [])


def test_a_start_of_the_app_starts_the_release_before(stage: Stage, watch: Watch) -> None:
    """After a reboot, or `gatling down` and `up`."""
    stage.running.clear()
    (said,) = recovery.reconcile(stage.gatling, "shop")
    assert said == "v8 was undone: its boot check had not ended. v7 runs."
    assert (stage.live(), stage.running) == ((7, 1), {1: 7})
    assert config.of_app(stage.gatling.db, "shop") == {"A": "7"}
    assert (watches.every(stage.gatling.db), step(stage, watch)) == ([], "interrupted")


@pytest.mark.parametrize("number", [8, None], ids=["it runs it", "it does not answer"])
def test_recovery_leaves_a_node_and_its_boot_check_alone(
    stage: Stage, watch: Watch, number: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen(monkeypatch, number)
    recovery.reconcile(stage.gatling, "shop")
    assert (stage.live(), stage.running) == ((8, 1), {1: 7, 2: 8})
    assert watches.every(stage.gatling.db) == [watch]


def test_recovery_ends_another_instance_in_the_slot(
    stage: Stage, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of a second push that was killed."""
    seen(monkeypatch, 8)
    stage.running[2] = 9
    recovery.reconcile(stage.gatling, "shop")
    assert (stage.live(), stage.running) == ((8, 1), {1: 7})
    assert watches.every(stage.gatling.db) == [watch]


def test_a_node_that_cannot_be_brought_back_is_replaced_by_the_release_before(
    stage: Stage, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second push was killed in its swap."""
    seen(monkeypatch, 8)
    monkeypatch.setattr(way_back, "back_to_records", lambda *_: False)
    ident = stage.context().deployment.id
    deployments.set_target(stage.gatling.db, ident, release=8, slot=1, strategy="hot", reasons=())
    recovery.reconcile(stage.gatling, "shop")
    assert (stage.live(), stage.running) == ((7, 1), {1: 7})
    assert watches.boots(stage.gatling.db, "shop", 7) == 7
    assert watch.unproven == ""


def test_a_stopped_app_keeps_its_record(stage: Stage, watch: Watch, undone: list[str]) -> None:
    apps.want(stage.gatling.db, "shop", "stopped")
    attend(stage)
    assert (stage.done, undone) == ([], [])
    assert watches.every(stage.gatling.db) == [watch], "so that a start starts the release before"


def test_a_long_watch_goes_on_when_the_boot_check_has_passed(
    stage: Stage, watch: Watch, undone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = structs.replace(watch, until=time.time() + 0.2)
    with stage.gatling.db.transaction():
        watches.put(stage.gatling.db, longer)
    later(stage, monkeypatch, healthy(stage))
    attend(stage)
    assert time.time() >= longer.until
    assert undone == []
    assert {entry.action for entry in audit.latest(stage.gatling.db, "shop")} == {
        "boot check", "watched",
    }  # fmt: skip


def test_a_proven_release_is_what_starts_next(stage: Stage, watch: Watch) -> None:
    assert watches.boots(stage.gatling.db, "shop", 8) == 7
    assert fallback.prepared(stage.gatling, apps.get(stage.gatling.db, "shop")) == {7, 8}
    watches.prove(stage.gatling.db, watch)
    assert watches.boots(stage.gatling.db, "shop", 8) == 8
