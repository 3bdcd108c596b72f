"""How an attempt is recorded, and who cleans up, however it ends."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from gatling.deploy import recovery, run
from gatling.errors import (
    DiskFull,
    GatlingError,
    Interrupted,
    Locked,
    SupervisorFailed,
    UnhealthyRelease,
)
from gatling.platform import lock
from gatling.state import audit, deployments, locks
from tests.deploy.stage import make_live

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.deploy.context import Context
    from gatling.state.apps import App
    from gatling.state.deployments import Deployment
    from tests.deploy.stage import Stage


@pytest.fixture(autouse=True)
def _around(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    class Watcher:
        def __init__(self, *_: object) -> None:
            stage.do("watcher")

        def end(self, *, recovered: bool) -> None:
            stage.do("watcher ends" if recovered else "watcher recovers")

    def reconcile(_: object, name: str, *, own: int | None = None) -> list[str]:
        stage.do("reconcile" if own else "reconcile what was killed")
        for each in deployments.running(stage.gatling.db, name):
            if each.id != own:
                deployments.end(stage.gatling.db, each.id, "interrupted")
        return []

    monkeypatch.setattr(run, "Watcher", Watcher)
    monkeypatch.setattr(recovery, "reconcile", reconcile)


def attempt(stage: Stage, error: BaseException | None = None, *, decided: bool = False) -> Context:
    """One whose block decides, or not, and then raises, or not."""
    with run.attempt(
        stage.gatling, "shop", cause="push", commit="b" * 40, progress=stage.progress
    ) as context:
        stage.do("work")
        ident = context.deployment.id
        deployments.set_target(
            stage.gatling.db, ident, release=8, slot=2, strategy="rolling", reasons=()
        )
        if decided:
            make_live(stage.gatling.db, "shop", release=8, slot=2, config=None)
        if error is not None:
            raise error
    return context


def newest(stage: Stage) -> Deployment:
    return deployments.of_app(stage.gatling.db, "shop", 1)[0]


def test_one_that_succeeds(stage: Stage) -> None:
    context = attempt(stage, decided=True)
    assert stage.done == ["watcher", "work", "watcher ends"]
    assert (newest(stage).outcome, newest(stage).error) == ("succeeded", None)
    assert not context.interruption.armed
    assert [each.action for each in audit.latest(stage.gatling.db, "shop")] == ["deploy"]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (UnhealthyRelease("v8 was never healthy.", log=["its last words"]), "failed"),
        (Interrupted("Ctrl-C before the cut-over."), "cancelled"),
        (KeyboardInterrupt(), "cancelled"),
        (ValueError("a defect"), "failed"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else value,
)
def test_one_that_fails_is_cleaned_up_recorded_and_raised(
    stage: Stage, error: BaseException, outcome: str
) -> None:
    with pytest.raises(type(error)) as caught:
        attempt(stage, error)
    assert caught.value is error
    assert stage.done == ["watcher", "work", "reconcile", "watcher ends"]
    assert newest(stage).outcome == outcome
    assert audit.latest(stage.gatling.db, "shop") == []


def test_what_still_serves_is_told_with_an_interruption(stage: Stage) -> None:
    with pytest.raises(Interrupted) as caught:
        attempt(stage, Interrupted("Ctrl-C."))
    assert caught.value.what == "Ctrl-C. v7 is still live."


def test_what_still_serves_is_told_with_a_failure(stage: Stage) -> None:
    with pytest.raises(UnhealthyRelease) as caught:
        attempt(stage, UnhealthyRelease("v8 was never healthy.", hint="Read the log."))
    assert caught.value.hint == "Read the log.\nv7 is still live."


def test_a_full_disk_is_named(stage: Stage) -> None:
    with pytest.raises(DiskFull, match="/srv/x"):
        attempt(stage, OSError(errno.ENOSPC, "full", "/srv/x"))


@pytest.mark.parametrize("error", [SupervisorFailed("v7 does not end."), OSError(28, "full")])
def test_a_failure_after_the_decision_is_a_success_with_a_warning(
    stage: Stage, error: Exception, said: Path
) -> None:
    attempt(stage, error, decided=True)
    assert stage.done == ["watcher", "work", "reconcile", "watcher ends"]
    assert newest(stage).outcome == "succeeded"
    assert (newest(stage).error or "").startswith("v8 is live, but: ")
    assert "live, but: " in said.read_text()


@pytest.mark.parametrize("decided", [False, True])
def test_a_clean_up_that_fails_does_not_hide_the_first_error(
    stage: Stage, decided: bool, said: Path
) -> None:
    stage.faults["reconcile"] = SupervisorFailed("cannot be stopped")
    error = GatlingError("the first")
    if decided:
        attempt(stage, error, decided=True)
        assert newest(stage).error == "v8 is live, but: the first; cannot be stopped"
        assert stage.done[-1] == "watcher ends"
    else:
        with pytest.raises(GatlingError, match="the first"):
            attempt(stage, error)
        assert "cleanup did not finish: cannot be stopped" in said.read_text()
        assert newest(stage).outcome == "running"
        assert stage.done[-1] == "watcher recovers", "what is not recorded is recovered"


def test_what_comes_first_has_the_lock_and_no_record(stage: Stage) -> None:
    seen: list[tuple[str, bool, int]] = []

    def first(app: App, mark: str) -> None:
        with lock.try_hold(stage.gatling.home.app(app.name).lock) as free:
            seen.append((mark, free, len(deployments.of_app(stage.gatling.db, app.name, 9))))

    before = len(deployments.of_app(stage.gatling.db, "shop", 9))
    with run.attempt(
        stage.gatling, "shop", cause="push", commit=None, progress=stage.progress, first=first
    ) as context:
        assert seen == [(context.deployment.mark, False, before)]


def test_an_error_of_what_comes_first_leaves_no_record(stage: Stage) -> None:
    def first(_app: App, _mark: str) -> None:
        raise GatlingError("nginx does not start.")

    before = deployments.of_app(stage.gatling.db, "shop", 9)
    with (
        pytest.raises(GatlingError, match="nginx"),
        run.attempt(
            stage.gatling, "shop", cause="push", commit=None, progress=stage.progress, first=first
        ),
    ):
        stage.do("work")
    assert deployments.of_app(stage.gatling.db, "shop", 9) == before
    assert stage.done == []


def test_nothing_comes_first_for_a_locked_app(stage: Stage) -> None:
    locks.put(stage.gatling.db, "shop", "tester", "a sale")
    with (
        pytest.raises(Locked),
        run.attempt(
            stage.gatling, "shop", cause="push", commit=None, progress=stage.progress,
            first=lambda _app, _mark: stage.do("first"),
        ),
    ):  # fmt: skip
        pass
    assert stage.done == []


def test_what_was_killed_before_is_recovered_first(stage: Stage) -> None:
    deployments.begin(stage.gatling.db, "shop", cause="push", actor="t", mark="m", commit=None)
    attempt(stage, decided=True)
    assert stage.done == ["reconcile what was killed", "watcher", "work", "watcher ends"]
    assert deployments.get(stage.gatling.db, 1).outcome == "interrupted"


def test_records_that_cannot_be_read_decide_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = stage.context()
    make_live(stage.gatling.db, "shop", release=8, slot=2, config=None)
    deployments.set_target(
        stage.gatling.db, context.deployment.id, release=8, slot=2, strategy="rolling", reasons=()
    )
    assert run.is_decided(stage.gatling, context)

    def unreadable(*_: object) -> None:
        raise DiskFull("no")

    monkeypatch.setattr(deployments, "get", unreadable)
    assert not run.is_decided(stage.gatling, context)
