"""A release that is watched after its deployment: how long, what undoes it, and what ends it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from msgspec import structs

from gatling.deploy import watch as background
from gatling.errors import GatlingError
from gatling.operations import deploys, watching
from gatling.platform import lock
from gatling.platform.restarts import End
from gatling.state import apps, audit, deployments, notices, watches
from tests.deploy.stage import make_live

if TYPE_CHECKING:
    from gatling.deploy.context import Context
    from gatling.state.watches import Watch
    from tests.deploy.stage import Stage

SECONDS = 0.2


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(watching, "HANDOVER_SECONDS", 0.05)


@pytest.fixture
def undone(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Why releases were undone: v7 is live again after that, unless "undo" fails."""
    problems: list[str] = []

    def undo(_: object, watch: Watch, problem: str, **__: object) -> None:
        problems.append(problem)
        stage.do("undo")
        make_live(stage.gatling.db, "shop", release=watch.previous, slot=1, config=None)

    monkeypatch.setattr(deploys, "undo", undo)
    return problems


def watched(stage: Stage, seconds: float = SECONDS, context: Context | None = None) -> Watch:
    """Release 8, live in slot 1 since a moment ago and watched for so long."""
    context, switched = context or stage.context(), time.time()
    watch = background.after(stage.gatling, context, 8, switched, background.WAITED_SECONDS + 60)
    assert watch is not None
    watch = structs.replace(watch, until=switched + seconds)
    make_live(stage.gatling.db, "shop", release=8, slot=1, config=None, watch=watch)
    deployments.end(stage.gatling.db, watch.deployment, "succeeded")
    return watch


def attend(stage: Stage) -> None:
    watching.attend(stage.gatling, "shop", stage.progress)


def audited(stage: Stage) -> list[tuple[str, str]]:
    return [(entry.action, entry.detail) for entry in audit.latest(stage.gatling.db, "shop")]


def answers(stage: Stage, *statuses: int, at: float) -> None:
    """Lines of the proxy's log."""
    port = apps.get(stage.gatling.db, "shop").ports[1]
    with stage.requests.open("a") as log:
        for status in statuses:
            log.write(f"{at:.3f} shop {port} {status} 0.010 0.010\n")


def test_a_short_watch_ends_with_the_deployment(stage: Stage) -> None:
    context = stage.context()
    short = background.WAITED_SECONDS
    assert background.after(stage.gatling, context, 8, time.time(), short) is None


def test_neither_a_first_release_nor_a_return_is_watched(stage: Stage) -> None:
    switched = time.time()
    returning = deployments.begin(
        stage.gatling.db, "shop", cause=background.CAUSE, actor="a", mark="m", commit=None
    )
    context = structs.replace(stage.context(), deployment=returning)
    assert background.after(stage.gatling, context, 8, switched, 60) is None
    make_live(stage.gatling.db, "shop", release=None, slot=None, config=None)
    assert background.after(stage.gatling, stage.context(), 8, switched, 60) is None


def test_the_figures_of_before_are_kept_with_a_watch(stage: Stage) -> None:
    answers(stage, 200, 500, 200, at=time.time() - 1)
    watch = watched(stage)
    assert background.before(watch)[1:4] == (3, 1, 10)
    assert watches.of_app(stage.gatling.db, "shop") == watch
    assert (watch.release, watch.previous, watch.deployment) == (8, 7, 1)


def test_another_decision_ends_a_watch(stage: Stage) -> None:
    watched(stage)
    make_live(stage.gatling.db, "shop", release=7, slot=2, config=None)
    assert watches.every(stage.gatling.db) == []


def test_it_begins_with_the_deployment_that_decided_on_it(stage: Stage) -> None:
    context = stage.context()
    background.begin(stage.gatling, context)
    assert stage.done == []
    watched(stage, 60, context)
    background.begin(stage.gatling, stage.context())  # of a later deployment
    assert stage.done == []
    background.begin(stage.gatling, context)
    assert stage.done == ["watch in the background"]


def test_only_a_watch_whose_process_is_gone_is_begun_again(stage: Stage) -> None:
    background.resume(stage.gatling)
    assert stage.done == []
    watched(stage)
    with lock.try_hold(stage.gatling.home.app("shop").watch_lock) as held:
        assert held
        background.resume(stage.gatling)
        assert stage.done == []
    background.resume(stage.gatling)
    assert stage.done == ["watch in the background"]


def test_a_release_that_serves_well_stays(stage: Stage, undone: list[str]) -> None:
    watch = watched(stage)
    answers(stage, *[200] * 50, at=time.time())
    attend(stage)
    assert time.time() >= watch.until
    assert (undone, watches.every(stage.gatling.db), stage.live()) == ([], [], (8, 1))
    ((action, detail),) = audited(stage)
    assert action == "watched"
    assert detail.startswith("v8: traffic since the switch: 0 of 50 requests failed")


def test_without_traffic_a_release_stays_as_well(stage: Stage, undone: list[str]) -> None:
    watched(stage)
    attend(stage)
    assert undone == []
    assert audited(stage) == [("watched", "v8: too few requests to compare")]


def test_a_release_that_fails_its_requests_is_undone(stage: Stage, undone: list[str]) -> None:
    answers(stage, *[200] * 500, at=time.time() - 60)
    watch = watched(stage, 60)
    answers(stage, *[500] * 20, *[200] * 80, at=time.time())
    attend(stage)
    assert len(undone) == 1
    assert "20 of 100 requests failed (20.0 %), 0 of 500" in undone[0]
    assert watches.every(stage.gatling.db) == []
    error = deployments.get(stage.gatling.db, watch.deployment).error
    assert error == f"v8 was undone. {undone[0]}"
    ((action, detail),) = audited(stage)
    assert action == "undo"
    assert undone[0] in detail


def test_an_undone_release_is_a_notification(stage: Stage) -> None:
    db, watch = stage.gatling.db, watched(stage, 60)
    channel = notices.Channel(
        "ops", "webhook", "https://hooks.example", "key", (notices.ALL,), (notices.ALL,), ""
    )
    notices.put(db, channel)
    deployments.undone(db, watch.deployment, "v8 was undone. It is slow.")
    notice = notices.next_of(db, notices.every(db)[0], 0)
    assert notice is not None
    assert (notice.event, notice.app) == ("deployment.failed", "shop")
    assert notice.body == "v8 was undone. It is slow."


def test_figures_that_only_chance_explains_undo_nothing(stage: Stage, undone: list[str]) -> None:
    """One look would undo it: in a background watch there are many."""
    answers(stage, *[200] * 500, at=time.time() - 60)
    watched(stage)
    answers(stage, *[500] * 5, *[200] * 95, at=time.time())
    attend(stage)
    assert undone == []


@pytest.mark.parametrize("what", ["crash", "health"])
def test_crashes_and_failed_health_checks_undo_it(
    stage: Stage, undone: list[str], what: str
) -> None:
    watch = watched(stage, 60)
    if what == "crash":
        stage.ends = [End(watch.switched - 1, 9, "killed by SIGTERM"),
                      End(watch.switched + 2, 2, "killed by SIGSEGV")]  # fmt: skip
    else:
        stage.faults["ask"] = GatlingError("no answer")
    attend(stage)
    said = {
        "crash": "The instance was killed by SIGSEGV 2.0 s after the switch.",
        "health": "The health check fails: GET /: no answer.",
    }
    assert undone == [said[what]]


def test_an_instance_that_has_just_been_started_may_boot(
    stage: Stage, undone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.uptime = 0
    monkeypatch.setattr(background, "HEALTH_SECONDS", 0.01)
    watched(stage)
    stage.faults["ask"] = GatlingError("no answer")
    attend(stage)
    assert undone == []


def test_nothing_is_undone_while_nothing_runs(stage: Stage, undone: list[str]) -> None:
    watched(stage, 60)
    stage.running.clear()
    stage.faults["ask"] = GatlingError("no answer")
    attend(stage)
    assert undone == []
    assert len(watches.every(stage.gatling.db)) == 1


def test_a_problem_that_passes_undoes_nothing(
    stage: Stage, undone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    problems = iter(["late", "late", "", "late"])
    monkeypatch.setattr(background, "problem", lambda *_: next(problems, ""))
    watched(stage)
    attend(stage)
    assert undone == []


def test_looks_at_the_end_of_a_watch_are_apart_as_well(
    stage: Stage, undone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the time was over before the first look, as of a process that was suspended."""
    slept: list[float] = []
    monkeypatch.setattr(background, "problem", lambda *_: "late")
    watched(stage, 0.001)
    monkeypatch.setattr(time, "sleep", slept.append)
    attend(stage)
    assert undone == ["late"]
    assert slept[0] <= 0.001
    assert slept[1:] == [watching.LOOK_SECONDS] * 2


@pytest.mark.parametrize("how", ["stopped", "another release"])
def test_a_release_that_does_not_serve_is_not_watched(
    stage: Stage, undone: list[str], how: str
) -> None:
    watched(stage, 60)
    stage.faults["ask"] = GatlingError("no answer")
    db = stage.gatling.db
    if how == "stopped":
        apps.want(db, "shop", "stopped")
    else:
        db.execute("UPDATE apps SET live_release = 7")
    attend(stage)
    assert (undone, watches.every(db), audited(stage)) == ([], [], [])


def test_while_a_deployment_is_under_way_nothing_is_undone(
    stage: Stage, undone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter(range(10))

    def problem(*_: object) -> str:
        if next(looks) == 7:  # that deployment has decided
            make_live(stage.gatling.db, "shop", release=9, slot=2, config=None)
        return "slow"

    monkeypatch.setattr(background, "problem", problem)
    watched(stage, 60)
    with lock.try_hold(stage.gatling.home.app("shop").lock) as held:
        assert held
        attend(stage)
    assert (undone, stage.live()) == ([], (9, 2))


def test_an_undo_that_fails_is_recorded_and_not_tried_again(
    stage: Stage, undone: list[str]
) -> None:
    watched(stage, 60)
    stage.faults |= {"ask": GatlingError("no answer"), "undo": GatlingError("The app is locked.")}
    with pytest.raises(GatlingError, match="locked"):
        attend(stage)
    assert watches.every(stage.gatling.db) == []
    assert [action for action, _ in audited(stage)] == ["undo failed", "undo"]
    assert len(undone) == 1


def test_one_process_watches(stage: Stage, undone: list[str]) -> None:
    watched(stage, 60)
    with lock.try_hold(stage.gatling.home.app("shop").watch_lock):
        attend(stage)
    assert undone == []
    assert len(watches.every(stage.gatling.db)) == 1


def test_without_a_watch_or_an_app_there_is_nothing_to_do(stage: Stage) -> None:
    attend(stage)
    watched(stage, 60)
    apps.delete(stage.gatling.db, "shop")
    attend(stage)
