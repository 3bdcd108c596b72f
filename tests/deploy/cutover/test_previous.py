"""The previous instance, kept ready while a release is watched: to return to it is a switch."""

from __future__ import annotations

import contextlib
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from msgspec import structs

from gatling.beam.comparison import Comparison
from gatling.deploy import live_node, recovery
from gatling.deploy import watch as background
from gatling.deploy.cutover import hot, pace, previous, rolling
from gatling.errors import NodeUnreachable, UnhealthyRelease
from gatling.operations import watching
from gatling.platform import lock
from gatling.runtime import jobs, workers
from gatling.state import apps, audit, deployments, watches
from tests.deploy.stage import Node, release

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.beam.control import Control
    from gatling.beam.sight import Sight
    from gatling.deploy.context import Context
    from gatling.state.watches import Watch
    from tests.deploy.stage import Stage


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.01)


def roll(stage: Stage, number: int = 8, context: Context | None = None) -> list[str]:
    """Carry out a rolling deployment; what was done."""
    stage.done.clear()
    rolling.roll(
        stage.gatling, context or stage.context({"rolling.watch": "5m"}), release(number),
        before_decision=lambda: None, on_live=lambda: None,
    )  # fmt: skip
    return stage.done


def test_the_previous_instance_is_kept_while_it_is_watched(stage: Stage) -> None:
    done = roll(stage)
    assert not [each for each in done if each in ("stop 1", "[drain]")]
    assert (stage.live(), stage.pointed, stage.running) == ((8, 2), 2, {1: 7, 2: 8})
    watch = watches.of_app(stage.gatling.db, "shop")
    assert watch is not None
    assert (watch.release, watch.previous, watch.previous_slot) == (8, 7, 1)
    assert 290 < watch.until - time.time() <= 300
    assert background.is_ready(stage.gatling, apps.get(stage.gatling.db, "shop"), release(7))
    assert not background.is_ready(stage.gatling, apps.get(stage.gatling.db, "shop"), release(8))


def test_without_the_setting_it_is_stopped(stage: Stage) -> None:
    assert "stop 1" in roll(stage, context=stage.context())
    assert watches.every(stage.gatling.db) == []


def test_to_return_is_a_switch(stage: Stage) -> None:
    roll(stage)
    done = roll(stage, 7, stage.context())
    assert done == [
        "check the proxy", "[health_check]", "wait until it is healthy", "probe",
        "[switch_proxy]", "decide for v7 in 1", "point to 1",
        "[drain]", "[stop_previous]", "stop 2", "probed",
    ]  # fmt: skip
    assert (stage.live(), stage.pointed, stage.running) == ((7, 1), 1, {1: 7})


def test_one_that_has_crashed_is_started(stage: Stage) -> None:
    roll(stage)
    del stage.running[1]
    assert "start v7 in 1" in roll(stage, 7, stage.context())


def test_another_release_takes_its_slot_and_says_so(stage: Stage, said: Path) -> None:
    roll(stage)
    stage.clients = 3
    stage.faults["wait until it is healthy"] = UnhealthyRelease("never")
    with pytest.raises(UnhealthyRelease):
        roll(stage, 8, stage.context())
    assert stage.done[:3] == ["[start_instance]", "stop 1", "start v8 in 1"]
    assert (
        "v7 is no longer kept ready: its slot is needed, which closes 3 connections"
        in said.read_text()
    )
    watch = watches.of_app(stage.gatling.db, "shop")
    assert watch is not None, "v8 is still live, and watched"
    assert watch.previous_slot is None


def test_a_hot_upgrade_ends_it(stage: Stage) -> None:
    roll(stage)
    stage.done.clear()
    hot.upgrade(
        stage.gatling, stage.context(), cast("Control", Node(stage)), release(8), release(7),
        (Comparison("same"), None), before_decision=lambda: None, on_live=lambda: None,
    )  # fmt: skip
    at = stage.done.index("decide for v7 in 2")
    assert stage.done[at + 1] == "stop 1"
    assert stage.running == {2: 8}


def test_recovery_leaves_it_alone(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "follow", lambda *_: [])
    monkeypatch.setattr(jobs, "follow", lambda *_: [])
    monkeypatch.setattr(recovery, "start_live", lambda *_, **__: False)
    roll(stage)
    recovery.reconcile(stage.gatling, "shop")
    assert stage.running == {1: 7, 2: 8}
    watches.release_slot(stage.gatling.db, "shop")
    recovery.reconcile(stage.gatling, "shop")
    assert stage.running == {2: 8}


def test_a_stopped_app_keeps_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "follow", lambda *_: [])
    monkeypatch.setattr(workers, "stop", lambda *_: None)
    monkeypatch.setattr(jobs, "follow", lambda *_: [])
    roll(stage)
    apps.want(stage.gatling.db, "shop", "stopped")
    recovery.reconcile(stage.gatling, "shop")
    assert stage.running == {}


def test_it_ends_with_the_watch(stage: Stage) -> None:
    roll(stage, context=stage.context({"rolling.watch": "0.2"}))
    stage.clients = 2
    watching.attend(stage.gatling, "shop", stage.progress)
    assert (stage.running, watches.every(stage.gatling.db)) == ({2: 8}, [])
    (entry,) = audit.latest(stage.gatling.db, "shop")
    assert entry.detail == "v8: too few requests to compare; 2 connections to v7 closed"


def test_while_a_deployment_is_under_way_it_is_not_stopped(stage: Stage) -> None:
    roll(stage)
    watch = watches.of_app(stage.gatling.db, "shop")
    assert watch is not None
    with lock.try_hold(stage.gatling.home.app("shop").lock) as held:
        assert held
        assert previous.let_go(stage.gatling, watch) is None
    assert stage.running == {1: 7, 2: 8}
    assert previous.let_go(stage.gatling, watch) == 0
    assert previous.let_go(stage.gatling, watch) is None, "another process has done it"
    assert stage.running == {2: 8}


@pytest.fixture
def draining(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """v8 was deployed while three sockets were open, which do not end by themselves."""
    monkeypatch.setattr(rolling, "HELD_SECONDS", 0.01)
    stage.clients = 3
    context = stage.context({"instance.drain": "0.3"})
    roll(stage, context=context)
    deployments.end(stage.gatling.db, context.deployment.id, "succeeded", probe={"requests": 9})
    watch = watches.of_app(stage.gatling.db, "shop")
    assert watch is not None
    return watch


def test_a_drain_does_not_hold_up_the_deployment(stage: Stage, draining: Watch, said: Path) -> None:
    assert "[drain]" in stage.done
    assert "stop 1" not in stage.done
    assert (stage.live(), stage.running) == ((8, 2), {1: 7, 2: 8})
    assert not draining.judges
    assert "3 connections remain at the previous instance, which ends in the background" in (
        said.read_text()
    )


def test_its_end_completes_the_record(stage: Stage, draining: Watch) -> None:
    apps.change_settings(stage.gatling.db, "shop", lambda _: {"instance.drain": "0.3"})
    stage.faults["ask"] = UnhealthyRelease("nothing is judged")
    watching.attend(stage.gatling, "shop", stage.progress)
    assert time.time() >= draining.until + 0.3
    assert (stage.running, watches.every(stage.gatling.db)) == ({2: 8}, [])
    done = deployments.get(stage.gatling.db, draining.deployment)
    assert done.probe == {"requests": 9, "cut": 3}
    assert audit.latest(stage.gatling.db, "shop") == []


def test_it_ends_early_when_the_last_connection_does(stage: Stage, draining: Watch) -> None:
    apps.change_settings(stage.gatling.db, "shop", lambda _: {"instance.drain": "3600"})
    stage.clients = 0
    watching.attend(stage.gatling, "shop", stage.progress)
    assert stage.running == {2: 8}
    assert deployments.get(stage.gatling.db, draining.deployment).probe == {"requests": 9}


@pytest.mark.usefixtures("draining")
def test_no_release_returns_to_an_instance_that_drains(stage: Stage) -> None:
    assert not background.is_ready(stage.gatling, apps.get(stage.gatling.db, "shop"), release(7))
    assert "start v7 in 1" in roll(stage, 7, stage.context())


def test_a_long_drain_that_was_forgotten_is_short(stage: Stage, draining: Watch) -> None:
    """After a reboot, say: its time is over."""
    long_ago = structs.replace(
        draining, switched=draining.switched - 9e6, until=draining.until - 9e6
    )
    with stage.gatling.db.transaction():
        watches.put(stage.gatling.db, long_ago)
    apps.change_settings(stage.gatling.db, "shop", lambda _: {"instance.drain": "3600"})
    watching.attend(stage.gatling, "shop", stage.progress)
    assert stage.running == {2: 8}


class Clock:
    """A clock that goes on by 20 ms when it is looked at, on a busy machine, too."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 0.02
        return self.now


class Phoenix:
    """A node with sockets that reconnect when they are asked to."""

    def __init__(self, stage: Stage, sockets: int) -> None:
        self._stage = stage
        stage.clients = sockets
        self.batches: list[int] = []
        self.gone = False
        self.clock = Clock()

    def reconnect(self, most: int) -> tuple[int, int] | None:
        if self.gone:
            raise NodeUnreachable("It has ended.")
        there = self._stage.clients
        self._stage.clients -= min(most, there)
        self.batches.append(most)
        return there, min(most, there)


@pytest.fixture
def phoenix(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Phoenix:
    """The previous instance is one of Phoenix, with ten sockets."""
    node = Phoenix(stage, 10)
    monkeypatch.setattr(pace, "time", node.clock)
    monkeypatch.setattr(rolling, "HELD_SECONDS", 0.01)
    monkeypatch.setattr(pace, "BATCH_SECONDS", 0.01)
    monkeypatch.setattr(previous, "POLL_SECONDS", 0.005)
    monkeypatch.setattr(previous, "LEAVING_SECONDS", 0.1)
    monkeypatch.setattr(live_node, "observed", lambda *_: contextlib.nullcontext(node))
    return node


def left(stage: Stage, **settings: str) -> Watch:
    """Deploy v8 with settings of the drain; what is left to do."""
    given = {f"instance.{name}": value for name, value in settings.items()}
    apps.change_settings(stage.gatling.db, "shop", lambda _: given)
    context = stage.context(given)
    roll(stage, context=context)
    deployments.end(stage.gatling.db, context.deployment.id, "succeeded", probe={"requests": 9})
    watch = watches.of_app(stage.gatling.db, "shop")
    assert watch is not None
    return watch


def test_sockets_are_asked_at_a_pace(stage: Stage, phoenix: Phoenix, said: Path) -> None:
    watch = left(stage, drain="0", drain_rate="100")
    assert phoenix.batches == [0], "the push only counts them"
    assert "v7 will reconnect 10 sockets over 100 ms, and then ends in the background" in (
        said.read_text()
    )
    begun = phoenix.clock.now
    watching.attend(stage.gatling, "shop", stage.progress)
    assert phoenix.clock.now - begun >= 0.1
    asked = [most for most in phoenix.batches if most][:5]
    assert sum(asked) == 10
    assert max(asked) <= 3, "20 ms allow two, and what was rounded off before"
    assert stage.running == {2: 8}
    report = deployments.get(stage.gatling.db, watch.deployment).probe
    assert report == {"requests": 9, "cut": 0, "reconnected": 10}


def test_sockets_that_stay_are_closed_when_their_time_is_over(
    stage: Stage, phoenix: Phoenix, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phoenix, "reconnect", lambda most: (10, most))
    watch = left(stage, drain="0", drain_rate="100")
    watching.attend(stage.gatling, "shop", stage.progress)
    assert stage.running == {2: 8}
    report = deployments.get(stage.gatling.db, watch.deployment).probe
    assert report is not None
    assert report["cut"] == 10


def test_without_phoenix_the_drain_is_as_long_as_set(
    stage: Stage, phoenix: Phoenix, monkeypatch: pytest.MonkeyPatch, said: Path
) -> None:
    monkeypatch.setattr(phoenix, "reconnect", lambda _: None)
    left(stage, drain="0.2", drain_rate="100")
    assert "10 connections remain at the previous instance" in said.read_text()
    begun = time.monotonic()
    watching.attend(stage.gatling, "shop", stage.progress)
    assert time.monotonic() - begun < 5
    assert stage.running == {2: 8}


def test_a_node_that_does_not_answer_ends_with_its_drain(stage: Stage, phoenix: Phoenix) -> None:
    left(stage, drain="0.2", drain_rate="100")
    phoenix.gone = True
    watching.attend(stage.gatling, "shop", stage.progress)
    assert stage.running == {2: 8}
    assert stage.clients == 10


@pytest.mark.usefixtures("draining")
def test_a_deployment_that_needs_the_slot_ends_the_drain(stage: Stage, said: Path) -> None:
    first = watches.of_app(stage.gatling.db, "shop")
    assert first is not None
    roll(stage, 8, stage.context({"instance.drain": "0"}))
    assert "v7 drains no longer: its slot is needed, which closes 3 connections" in said.read_text()
    assert deployments.get(stage.gatling.db, first.deployment).probe == {"requests": 9, "cut": 3}


def test_a_drain_ends_with_the_deployment_that_takes_its_slot(
    stage: Stage, phoenix: Phoenix, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its report has the sockets that were asked before, and those that were closed."""
    watch = left(stage, drain="600", drain_rate="100")
    db = stage.gatling.db

    def reconnect(most: int) -> tuple[int, int] | None:
        found = Phoenix.reconnect(phoenix, most)
        if 0 < phoenix.batches.count(0) < len(phoenix.batches):  # some have been asked
            deployments.closed(db, watch.deployment, stage.clients)
            watches.release_slot(db, "shop")
        return found

    monkeypatch.setattr(phoenix, "reconnect", reconnect)
    assert previous.let_go(stage.gatling, watch) is None
    report = deployments.get(db, watch.deployment).probe
    assert report == {"requests": 9, "cut": stage.clients, "reconnected": 10 - stage.clients}
    assert 0 < stage.clients < 10


def test_a_slow_look_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    node = Phoenix(cast("Stage", SimpleNamespace()), 1000)
    asking = pace.Pace(cast("Sight", node), 100)
    for moment in (0.05, 0.375, 0.75, 60, 60.25):
        now[0] = moment
        asking.step()
    assert node.batches == [0, 37, 38, 200, 25]
