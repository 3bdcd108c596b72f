"""What runs is made what the records say, from whatever a killed deployment has left."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest

from gatling.deploy import published, recovery
from gatling.deploy.cutover import way_back
from gatling.errors import PortTaken, ProxyRefused
from gatling.platform import lock
from gatling.releases import distillery
from gatling.runtime import jobs, workers
from gatling.state import apps, deployments, domains
from tests.deploy.stage import make_live

if TYPE_CHECKING:
    from tests.deploy.stage import Stage


@pytest.fixture(autouse=True)
def _around(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def noted(what: str, *problems: str) -> Any:
        def done(*_: object, **__: object) -> list[str]:
            stage.do(what)
            return list(problems)

        return done

    monkeypatch.setattr(workers, "stop", noted("stop workers"))
    monkeypatch.setattr(workers, "follow", noted("workers", "worker.1 does not end"))
    monkeypatch.setattr(jobs, "follow", noted("jobs", "no timer"))
    monkeypatch.setattr(published, "publish", noted("publish"))
    monkeypatch.setattr(way_back, "back_to_records", noted("the way back", "it runs"))
    monkeypatch.setattr(distillery, "sweep", lambda *_: None)
    monkeypatch.setattr(recovery, "_prepared", lambda *_: stage.running.get(1))


def killed(stage: Stage, *, slot: int = 2, strategy: str = "rolling") -> int:
    """A deployment of v8 whose process was killed."""
    ident = stage.context().deployment.id
    deployments.set_target(
        stage.gatling.db, ident, release=8, slot=slot, strategy=strategy, reasons=()
    )
    return ident


def reconcile(stage: Stage, own: int | None = None) -> list[str]:
    """What is done, without what always is."""
    problems = recovery.reconcile(stage.gatling, "shop", own=own)
    assert problems == ["worker.1 does not end", "no timer"]
    always = ("workers", "jobs", "publish", "discard builds")
    assert [each for each in stage.done if each in always] == [
        "workers", "publish", "discard builds", "jobs",
    ]  # fmt: skip
    return [each for each in stage.done if each not in always]


def outcome(stage: Stage, ident: int) -> str:
    return deployments.get(stage.gatling.db, ident).outcome


def test_an_app_that_is_whole_is_left_alone(stage: Stage) -> None:
    assert reconcile(stage) == ["point to 1", "stop 2", "point to 1"]
    assert stage.running == {1: 7}


def test_one_that_was_killed_before_its_decision_is_undone(stage: Stage) -> None:
    ident = killed(stage)
    stage.running[2] = 8
    assert reconcile(stage) == [
        "end programs", "point to 1", "stop 2", "point to 1", "configure the proxy",
    ]  # fmt: skip
    assert (stage.live(), stage.running) == ((7, 1), {1: 7})
    assert outcome(stage, ident) == "interrupted"


def test_a_lock_that_is_held_for_a_moment_only_delays_it(stage: Stage) -> None:
    ident = killed(stage)
    with contextlib.ExitStack() as stack:
        assert stack.enter_context(lock.try_hold(stage.gatling.home.app("shop").lock))
        threading.Timer(0.3, stack.close).start()
        assert recovery.recover_unfinished(stage.gatling, "shop") == []
        assert recovery.recover_killed(stage.gatling, "shop") == [recovery.Recovery("shop")]
    assert outcome(stage, ident) == "interrupted"


def test_a_deployment_under_way_is_left_alone(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "PASSING_SECONDS", 0.1)
    ident = killed(stage)
    with lock.try_hold(stage.gatling.home.app("shop").lock) as held:
        assert held
        assert recovery.recover_killed(stage.gatling, "shop") == []
    assert outcome(stage, ident) == "running"


def test_one_that_was_killed_after_its_decision_is_finished(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    ident = killed(stage)
    stage.running[2] = 8
    make_live(stage.gatling.db, "shop", release=8, slot=2, config=None)
    monkeypatch.setattr(recovery, "_prepared", lambda *_: 8)
    done = reconcile(stage)
    assert done.index("point to 2") < done.index("stop 1"), "who is there is not cut off"
    assert (stage.pointed, stage.running) == (2, {2: 8})
    assert outcome(stage, ident) == "succeeded"


def test_what_should_run_and_does_not_is_started(stage: Stage) -> None:
    stage.running = {}
    assert reconcile(stage)[-1] == "start v7 in 1"


def test_another_release_in_the_live_slot_is_replaced(stage: Stage) -> None:
    stage.running = {1: 8}
    assert reconcile(stage)[-2:] == ["stop 1", "start v7 in 1"]


def test_a_node_that_may_have_been_upgraded_is_brought_back(stage: Stage) -> None:
    killed(stage, slot=1, strategy="hot")
    stage.running = {1: 7}
    assert reconcile(stage)[-1] == "the way back"
    assert stage.running == {1: 7}


def test_an_app_that_is_stopped_stays_so(stage: Stage) -> None:
    apps.want(stage.gatling.db, "shop", "stopped")
    stage.running = {1: 7, 2: 8}
    assert reconcile(stage) == ["stop 1", "stop 2", "point to down", "stop workers"]
    assert stage.running == {}


def test_ones_own_deployment_is_ended_by_oneself(stage: Stage) -> None:
    ident = killed(stage)
    assert "configure the proxy" not in reconcile(stage, own=ident)
    assert outcome(stage, ident) == "running"


def test_a_proxy_that_refuses_keeps_nothing_from_being_recovered(stage: Stage) -> None:
    ident = killed(stage)
    stage.faults["configure the proxy"] = ProxyRefused("no")
    reconcile(stage)
    assert outcome(stage, ident) == "interrupted"


def test_neither_does_a_full_disk(stage: Stage) -> None:
    ident = killed(stage)
    stage.faults["publish"] = OSError(28, "full")
    recovery.reconcile(stage.gatling, "shop")
    assert outcome(stage, ident) == "interrupted"


def test_domains_of_an_undecided_deployment_are_taken_back(stage: Stage) -> None:
    ident = killed(stage)
    domains.add_all(
        stage.gatling.db, "shop", ("new.example",), before_its_own=False, deployment=ident
    )
    reconcile(stage)
    assert "new.example" not in apps.get(stage.gatling.db, "shop").domains


def test_a_port_that_was_taken_meanwhile_is_reported(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(*_: object) -> None:
        raise PortTaken("Port 20000 is taken.")

    stage.running = {}
    monkeypatch.setattr(stage.gatling.instances, "check_free", taken)
    with pytest.raises(PortTaken):
        recovery.reconcile(stage.gatling, "shop")
    problems, error = recovery.isolated(stage.gatling, "shop")
    assert (problems, str(error)) == ([], "Port 20000 is taken.")
