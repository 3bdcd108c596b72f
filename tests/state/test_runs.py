"""Runs of jobs: what is recorded, and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gatling.state import apps, runs

if TYPE_CHECKING:
    from gatling.state.database import Database
    from gatling.state.runs import Run


@pytest.fixture(autouse=True)
def shop(db: Database) -> None:
    apps.create(db, "shop", lambda _port: True)


def begin(db: Database, job: str = "report") -> Run:
    return runs.begin(db, "shop", job, cause="schedule", actor=None, mark="ab12", release=3)


def test_a_run_is_recorded_with_its_end(db: Database) -> None:
    one = begin(db)
    assert (one.outcome, one.release, one.seconds, one.cause) == ("running", 3, None, "schedule")
    assert runs.running(db, "shop") == [one]
    ended = runs.end(db, one.id, "timed out", seconds=1.5, error="why")
    assert ended == runs.get(db, one.id)
    assert (ended.outcome, ended.seconds, ended.error) == ("timed out", 1.5, "why")
    assert runs.running(db, "shop") == []
    assert runs.end(db, one.id, "interrupted") == ended  # what is known is not changed


def test_a_hundred_of_each_job_are_kept(db: Database) -> None:
    first, other = begin(db), begin(db, "other")
    runs.end(db, other.id, "succeeded")
    for _ in range(runs.KEPT + 20):
        runs.end(db, begin(db).id, "succeeded")
    kept = runs.of_app(db, "shop", "report")
    assert len(kept) == runs.KEPT + 1
    assert kept[-1] == first  # which has not ended yet
    assert [one.id for one in kept[:-1]] == sorted((one.id for one in kept[:-1]), reverse=True)
    assert len(runs.of_app(db, "shop")) == runs.KEPT + 2
    assert runs.latest(db, "shop").keys() == {"report", "other"}
    assert runs.latest(db, "shop")["report"] == kept[0]
    runs.end(db, first.id, "cancelled")
    runs.end(db, begin(db).id, "succeeded")
    assert len(runs.of_app(db, "shop", "report")) == runs.KEPT


def test_they_are_gone_with_the_app(db: Database) -> None:
    one = begin(db)
    apps.delete(db, "shop")
    assert runs.end(db, one.id, "cancelled") is None
    assert runs.of_app(db, "shop") == []
