"""The outcome of a deployment follows from the records, whatever ended it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec import structs

from gatling.deploy.outcome import outcome_of
from gatling.errors import Interrupted, MigrationFailed
from gatling.state.deployments import Deployment, Step
from tests.runtime.test_spec import APP

if TYPE_CHECKING:
    from gatling.state.apps import App

DEPLOYMENT = Deployment(
    id=1, app="shop", cause="push", actor="t", mark="m", commit="a" * 40, release=8, previous=7,
    slot=2, strategy="rolling", reasons=(), outcome="running", error=None, started_at="",
    seconds=None, probe=None, suspended_ms=None, steps=(),
)  # fmt: skip
LIVE = structs.replace(APP, live_release=8, live_slot=2)


def after(*steps: tuple[str, str]) -> Deployment:
    return structs.replace(
        DEPLOYMENT, steps=tuple(Step(name, "", None, outcome) for name, outcome in steps)
    )


@pytest.mark.parametrize("error", [None, OSError(5, "EIO"), Interrupted("Ctrl-C"), KeyError("x")])
def test_a_release_that_is_recorded_as_live_has_succeeded(error: Exception | None) -> None:
    ended = outcome_of(DEPLOYMENT, LIVE, error)
    assert ended.outcome == "succeeded"
    assert (ended.text or "").startswith("v8 is live, but: ")


@pytest.mark.parametrize(
    ("deployment", "app"),
    [
        (DEPLOYMENT, APP),
        # a rolling start of the same release was not decided while its old slot is recorded
        (structs.replace(DEPLOYMENT, release=7), APP),
        # no target was recorded yet, and nothing was ever live
        (structs.replace(DEPLOYMENT, release=None, slot=None),
         structs.replace(APP, live_release=None, live_slot=None)),
    ],
)  # fmt: skip
def test_everything_else_has_not(deployment: Deployment, app: App) -> None:
    assert outcome_of(deployment, app).outcome == "interrupted"
    assert outcome_of(deployment, app, Interrupted("Ctrl-C.")).outcome == "cancelled"
    failed = outcome_of(deployment, app, MigrationFailed("The migrations failed."))
    assert (failed.outcome, failed.text) == ("failed", "The migrations failed.")


def test_on_a_cluster_the_deployment_itself_is_recorded() -> None:
    """A restart there has the release, and the slot, of the one before."""
    there = structs.replace(LIVE, platform="prod", live_deployment=9)
    assert outcome_of(DEPLOYMENT, there).outcome == "interrupted"
    mine = structs.replace(there, live_deployment=1)
    assert outcome_of(DEPLOYMENT, mine).outcome == "succeeded"


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ((), "Ctrl-C. v7 is still live."),
        ((("migrate", "succeeded"), ("start_instance", "running")),
         "Ctrl-C. v7 is still live. The migrations of the new release have run and stay applied."),
        ((("migrate", "running"),),
         ("Ctrl-C. v7 is still live."
         " The migrations of the new release were running: some may stay applied.")),
    ],
)  # fmt: skip
def test_an_interruption_reports_what_it_left_behind(
    steps: tuple[tuple[str, str], ...], text: str
) -> None:
    assert outcome_of(after(*steps), APP, Interrupted("Ctrl-C.")).text == text


def test_a_kill_reports_the_step_and_what_serves() -> None:
    killed = outcome_of(after(("migrate", "succeeded"), ("health_check", "running")), APP)
    assert killed.text == (
        "The deploying process was killed during health check. v7 is still live."
        " The migrations of the new release have run and stay applied."
    )
    stopped = structs.replace(APP, wanted="stopped")
    assert "the app is stopped" in (outcome_of(DEPLOYMENT, stopped).text or "")
    nothing = structs.replace(APP, live_release=None, live_slot=None)
    assert "Nothing is live." in (outcome_of(DEPLOYMENT, nothing).text or "")
