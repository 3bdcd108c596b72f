"""The requests before a switch and since, as the proxy's log has them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from gatling.deploy.evidence import traffic
from gatling.state import apps, deployments

if TYPE_CHECKING:
    from tests.deploy.stage import Stage


def log(stage: Stage, *lines: tuple[float, int, int]) -> None:
    """Lines with time, slot and status."""
    ports = apps.get(stage.gatling.db, "shop").ports
    with stage.requests.open("a") as file:
        for at, slot, status in lines:
            file.write(f"{at:.3f} shop {ports[slot]} {status} 0.010 0.010\n")


def test_each_request_counts_on_one_side(stage: Stage) -> None:
    app, switched = apps.get(stage.gatling.db, "shop"), time.time() - 10
    log(
        stage, (switched - 400, 1, 500), (switched - 20, 1, 200), (switched - 10, 1, 500),
        (switched + 1, 1, 500), (switched + 2, 2, 200), (switched + 3, 2, 200),
    )  # fmt: skip
    before = traffic.before(stage.gatling, app, switched)
    assert (before.requests, before.errors) == (2, 1)
    after = traffic.since(stage.gatling, app, 2, switched)
    assert (after.requests, after.failed) == (2, 0), "not those of the previous instance"


def test_the_time_before_begins_with_the_live_release(stage: Stage) -> None:
    app, db = apps.get(stage.gatling.db, "shop"), stage.gatling.db
    log(stage, (time.time() - 60, 1, 500))
    one = deployments.begin(db, "shop", cause="push", actor="a", mark="m", commit=None)
    deployments.end(db, one.id, "succeeded", seconds=0.0)
    switched = time.time() + 5
    log(stage, (switched - 1, 1, 200))
    before = traffic.before(stage.gatling, app, switched)
    assert (before.requests, before.errors) == (1, 0)
    assert 4 < before.seconds < 7


@pytest.mark.parametrize(("step", "requests"), [("hot_swap", 1), ("switch_proxy", 1), ("plan", 2)])
def test_requests_of_a_release_that_was_undone_are_not_of_the_one_before(
    stage: Stage, step: str, requests: int
) -> None:
    app, db = apps.get(stage.gatling.db, "shop"), stage.gatling.db
    log(stage, (time.time() - 60, 1, 500))
    failed = deployments.begin(db, "shop", cause="push", actor="a", mark="m", commit=None)
    deployments.begin_step(db, failed.id, 1, step)
    deployments.end_step(db, failed.id, 1, "failed", 0.0)
    deployments.end(db, failed.id, "failed", seconds=0.0)
    under_way = deployments.begin(db, "shop", cause="push", actor="a", mark="n", commit=None)
    deployments.begin_step(db, under_way.id, 1, "hot_swap")
    switched = time.time() + 5
    log(stage, (switched - 1, 1, 200))
    before = traffic.before(stage.gatling, app, switched)
    assert (before.requests, before.errors) == (requests, requests - 1)


def test_nothing_counts_in_maintenance(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    app, switched = apps.get(stage.gatling.db, "shop"), time.time() - 10
    log(stage, (switched + 1, 1, 503))
    assert traffic.since(stage.gatling, app, 1, switched).failed == 1
    monkeypatch.setattr(stage.gatling.router, "in_maintenance", lambda _: True)
    assert traffic.since(stage.gatling, app, 1, switched).requests == 0


def test_a_log_that_cannot_be_read_fails_no_deployment(stage: Stage) -> None:
    stage.requests.mkdir()
    app = apps.get(stage.gatling.db, "shop")
    assert traffic.before(stage.gatling, app, time.time()).requests == 0
    assert traffic.since(stage.gatling, app, 1, time.time() - 9).requests == 0
