"""Rolling and restart: the order of what is done, and what is taken back when a step fails."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from msgspec import structs

from gatling.deploy.cutover import drain, instance, restart, rolling
from gatling.errors import Interrupted, PortTaken, ProxyRefused, SupervisorFailed, UnhealthyRelease
from gatling.state import apps, config
from tests.deploy.stage import make_live, release

if TYPE_CHECKING:
    from gatling.deploy.context import Context
    from gatling.deploy.evidence.prober import Proof
    from tests.deploy.stage import Stage

ROLL = [
    "[start_instance]", "stop 2", "start v8 in 2", "check the proxy",
    "[health_check]", "wait until it is healthy", "before the decision", "probe",
    "[switch_proxy]", "decide for v8 in 2", "point to 2", "it is live",
    "[drain]", "[stop_previous]", "stop 1", "probed",
]  # fmt: skip
RESTART = [
    "check the proxy", "before the decision", "probe", "point to down",
    "[drain]", "[stop_previous]", "stop 1", "[start_instance]", "stop 2", "start v8 in 2",
    "[health_check]", "wait until it is healthy",
    "[switch_proxy]", "decide for v8 in 2", "point to 2", "it is live", "probed",
]  # fmt: skip
ERRORS = [PortTaken("taken"), UnhealthyRelease("never healthy"), Interrupted("Ctrl-C"), OSError(28)]


def carry_out(stage: Stage, context: Context, how: Any = rolling.roll, number: int = 8) -> Proof:
    proof: Proof = how(
        stage.gatling, context, release(number),
        before_decision=lambda: stage.do("before the decision"),
        on_live=lambda: stage.do("it is live"),
    )  # fmt: skip
    return proof


def test_the_order_of_a_rolling_deployment(stage: Stage) -> None:
    context = stage.context()
    proof = carry_out(stage, context)
    assert stage.done == ROLL
    assert (stage.live(), stage.pointed, stage.running) == ((8, 2), 2, {2: 8})
    assert config.of_app(stage.gatling.db, "shop") == {"A": "8"}
    assert (proof.requests, proof.cut) == (9, 0)
    assert not context.interruption.armed
    assert context.result.warnings == []


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "step", ["start v8 in 2", "check the proxy", "wait until it is healthy", "before the decision"]
)
def test_what_fails_before_the_switch_leaves_the_live_release_alone(
    stage: Stage, step: str, error: BaseException
) -> None:
    context = stage.context()
    stage.faults[step] = error
    with pytest.raises(type(error)):
        carry_out(stage, context)
    assert stage.done == [*ROLL[: ROLL.index(step) + 1], "stop 2"]
    assert (stage.live(), stage.pointed, stage.running) == ((7, 1), 1, {1: 7})
    assert context.interruption.armed, "nothing was decided"


def test_a_clean_up_that_fails_does_not_hide_the_first_error(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.faults["wait until it is healthy"] = UnhealthyRelease("never healthy")

    def stuck(*_: object) -> None:
        raise SupervisorFailed("cannot be stopped")

    monkeypatch.setattr(instance, "stop_unused", stuck)
    with pytest.raises(UnhealthyRelease) as caught:
        carry_out(stage, stage.context())
    assert "cannot be stopped" in caught.value.log[-1]


def test_a_decision_that_cannot_be_recorded_tells_the_proxy_nothing(stage: Stage) -> None:
    stage.faults["decide for v8 in 2"] = OSError(28, "full")
    with pytest.raises(OSError, match="full"):
        carry_out(stage, stage.context())
    assert stage.done[-2:] == ["decide for v8 in 2", "probed"]
    assert (stage.live(), stage.pointed) == ((7, 1), 1)


def test_a_proxy_that_cannot_be_told_takes_the_decision_back(stage: Stage) -> None:
    stage.faults["point to 2"] = ProxyRefused("no")
    with pytest.raises(ProxyRefused):
        carry_out(stage, stage.context())
    assert stage.done[-3:] == ["point to 2", "decide for v7 in 1", "probed"]
    assert stage.live() == (7, 1)
    assert config.of_app(stage.gatling.db, "shop") == {"A": "7"}, "the config of before, too"
    assert stage.running == {1: 7, 2: 8}, "recovery, which follows, ends the new instance"


@pytest.mark.parametrize("step", ["it is live", "stop 1"])
def test_what_fails_after_the_decision_is_a_warning(stage: Stage, step: str) -> None:
    context = stage.context()
    stage.faults[step] = SupervisorFailed("no")
    carry_out(stage, context)
    assert stage.done == ROLL
    assert stage.live() == (8, 2)
    assert context.result.warnings == ["no"]


@pytest.mark.parametrize("how", [rolling.roll, restart.restart])
def test_the_first_release_has_none_to_end(stage: Stage, how: Any) -> None:
    make_live(stage.gatling.db, "shop", release=None, slot=None, config=None)
    stage.running, stage.pointed = {}, None
    carry_out(stage, stage.context(), how)
    assert "stop 2" not in stage.done
    assert "[drain]" not in stage.done
    assert stage.done.index("point to 1") < stage.done.index("it is live")
    assert (stage.live(), stage.running) == ((8, 1), {1: 8})


def test_an_app_that_serves_nothing_is_probed_from_its_switch_on(stage: Stage) -> None:
    stage.pointed = None
    carry_out(stage, stage.context())
    assert stage.done.index("probe") > stage.done.index("point to 2")


def test_a_release_that_is_started_again_leaves_waiting_config_alone(stage: Stage) -> None:
    make_live(stage.gatling.db, "shop", release=7, slot=1, config={"A": "for the next one"})
    carry_out(stage, stage.context(), number=7)
    assert stage.live() == (7, 2)
    assert config.of_app(stage.gatling.db, "shop") == {"A": "for the next one"}


def test_an_app_that_was_stopped_is_stopped_again_when_the_proxy_refuses(stage: Stage) -> None:
    apps.want(stage.gatling.db, "shop", "stopped")
    stage.faults["point to 2"] = ProxyRefused("no")
    with pytest.raises(ProxyRefused):
        carry_out(stage, stage.context())
    assert apps.get(stage.gatling.db, "shop").wanted == "stopped"


def test_the_order_of_a_restart(stage: Stage) -> None:
    context = stage.context()
    carry_out(stage, context, restart.restart)
    assert stage.done == RESTART
    assert (stage.live(), stage.pointed, stage.running) == ((8, 2), 2, {2: 8})


@pytest.mark.parametrize("step", ["check the proxy", "before the decision"])
def test_what_fails_before_a_restart_begins_touches_nothing(stage: Stage, step: str) -> None:
    context = stage.context()
    stage.faults[step] = ProxyRefused("no")
    with pytest.raises(ProxyRefused):
        carry_out(stage, context, restart.restart)
    assert stage.done == RESTART[: RESTART.index(step) + 1]
    assert (stage.pointed, stage.running, context.interruption.armed) == (1, {1: 7}, True)


@pytest.mark.parametrize(
    "step", ["point to down", "stop 1", "start v8 in 2", "wait until it is healthy"]
)
def test_a_restart_that_fails_ends_the_new_instance_and_decides_nothing(
    stage: Stage, step: str
) -> None:
    stage.faults[step] = SupervisorFailed("no")
    with pytest.raises(SupervisorFailed):
        carry_out(stage, stage.context(), restart.restart)
    assert stage.done == [*RESTART[: RESTART.index(step) + 1], "stop 2", "probed"]
    assert stage.live() == (7, 1), "recovery starts it again"


def test_a_boot_check_leaves_nothing_behind(stage: Stage) -> None:
    context = stage.context()
    app = structs.replace(context.app)
    with instance.throw_away(stage.gatling, app, 2, context.settings):
        instance.boot(stage.gatling, app, release(8), 2, context.settings)
    boots = ["stop 2", "boot v8 in 2", "wait until it is healthy", "stop 2"]
    assert stage.done == boots
    stage.faults["wait until it is healthy"] = UnhealthyRelease("never healthy")
    with (
        pytest.raises(UnhealthyRelease, match="never healthy"),
        instance.throw_away(stage.gatling, app, 2, context.settings),
    ):
        instance.boot(stage.gatling, app, release(8), 2, context.settings)
    assert stage.running == {1: 7}


@pytest.mark.parametrize("how", [rolling.roll, restart.restart])
def test_a_connection_that_lasts_is_counted_when_its_time_is_up(stage: Stage, how: Any) -> None:
    stage.clients = 2
    context = stage.context({"instance.drain": "0.01"})
    assert carry_out(stage, context, how).cut == 2
    assert stage.running == {2: 8}


@pytest.mark.parametrize(("seen", "left"), [([0, 1, 1], 1), ([0, 0, 0], 0), ([2, 2], 2)])
def test_a_drain_that_is_slow_looks_as_often_as_one_that_is_not(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, seen: list[int], left: int
) -> None:
    """Gatling is suspended after its first look, which came before nginx opened a connection."""
    now, looks = 0.0, iter(seen)

    def sleep(_: float) -> None:
        nonlocal now
        now += 60

    monkeypatch.setattr(drain, "time", SimpleNamespace(monotonic=lambda: now, sleep=sleep))
    monkeypatch.setattr(stage.gatling.instances, "connections", lambda *_: lambda: next(looks))
    prober = cast("Any", SimpleNamespace(slow_down=lambda: None))
    assert drain.drain(stage.gatling, stage.context(), 1.0, prober) == left


def test_a_long_drain_looks_rarely_and_quickly_once_nobody_is_connected(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, pauses = 0.0, list[float]()

    def sleep(seconds: float) -> None:
        nonlocal now
        pauses.append(seconds)
        now += seconds

    monkeypatch.setattr(drain, "DRAIN_POLL_SECONDS", 0.05)
    monkeypatch.setattr(drain, "time", SimpleNamespace(monotonic=lambda: now, sleep=sleep))
    monkeypatch.setattr(stage.gatling.instances, "connections", lambda *_: lambda: now < 60)
    prober = cast("Any", SimpleNamespace(slow_down=lambda: None))
    assert drain.drain(stage.gatling, stage.context(), 600, prober) == 0
    assert now < 60.4
    assert len(pauses) < 320
    assert pauses[:2] == pauses[-2:] == [0.05, 0.05]


@pytest.mark.parametrize(("took", "stays"), [(0.8, 0.5), (4, 2), (60, 5)])
def test_an_instance_that_boots_slowly_has_to_stay_longer(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, took: float, stays: float
) -> None:
    """A child that crashes again and again takes longer to end the node there, too."""
    moments, slept, context = iter([0, took]), list[float](), stage.context()
    clock = SimpleNamespace(monotonic=lambda: next(moments), sleep=slept.append)
    monkeypatch.setattr(instance, "time", clock)
    instance.boot(stage.gatling, context.app, release(8), 2, context.settings, 0.5)
    assert slept == [stays]
