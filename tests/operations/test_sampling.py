"""From counters to samples, and from samples to alerts."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from gatling.operations import sampling, timeline
from gatling.proxy.request_totals import Totals
from gatling.state import audit, notices, samples
from gatling.state.database import open_database
from gatling.state.samples import Sample
from gatling.times import now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gatling.platform.open import Gatling

NOON = 1_800_000_000 // 600 * 600


def totals(requests: int, failed: int = 0, websockets: int = 0) -> Totals:
    every = {200: requests, 500: failed, 101: websockets}
    return Totals(every, [0, requests] + [requests + failed] * 10, 0)


def test_counters_that_grow() -> None:
    found = sampling.gained({"shop": totals(10)}, {"shop": totals(15, 2, 7), "new": totals(3)})
    assert found["shop"].classes == [0, 5, 0, 0, 2]
    assert found["shop"].ranges == [0, 5, 2] + [0] * 9
    assert found["new"].classes == [0, 3, 0, 0, 0]


def test_counters_that_began_anew() -> None:
    found = sampling.gained({"shop": totals(100)}, {"shop": totals(3)})
    assert found["shop"].classes == [0, 3, 0, 0, 0]
    assert found["shop"].ranges == [0, 3] + [0] * 10


@pytest.mark.parametrize(
    ("setting", "size"),
    [("", None), ("512", 512), ("4K", 4096), ("512M", 512 << 20), ("2G", 2 << 30)],
)
def test_the_limit_of_memory(setting: str, size: int | None) -> None:
    assert sampling.limit_in_bytes(setting) == size


def test_a_share_of_the_memory_of_the_machine() -> None:
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert sampling.limit_in_bytes("50%") == whole // 2


def test_steps_in_which_the_machine_slept_are_not_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "time", lambda: float(NOON))
    clock = [NOON + 4.0, NOON + 14.0, NOON + 24.0, NOON + 44.0, NOON + 9000.0]
    assert list(sampling.moments(clock)) == [
        (NOON + 4, 4), (NOON + 14, 10), (NOON + 24, 10), (NOON + 44, 10), (NOON + 9000, 10),
    ]  # fmt: skip


@pytest.fixture
def gatling(tmp_path: Path) -> Iterator[Gatling]:
    db = open_database(tmp_path / "state.db")
    with db.transaction():
        db.execute("INSERT INTO apps (name, created_at) VALUES ('shop', ?)", now())
    made = SimpleNamespace(
        db=db,
        actor="ann",
        home=SimpleNamespace(root=tmp_path, database=tmp_path / "state.db"),
        schedule=SimpleNamespace(sample=lambda **_: None),
        instances=SimpleNamespace(process_slots=lambda _: [], ends=lambda *_: []),
    )
    yield cast("Gatling", made)
    db.close()


def minutes(gatling: Gatling, begin: int, failed: list[int]) -> None:
    """Some minutes of 100 requests each, of which so many failed; alerts are judged after each."""
    with samples.opened(sampling.file_of(gatling)) as store:
        for minute, number in enumerate(failed):
            for step in range(6):
                good = Sample(seconds=10, up=10, ranges=[100] + [0] * 11,
                              classes=[0, 100 - number, 0, 0, number])  # fmt: skip
                store.add(begin + 60 * minute + 10 * step, {"shop": good})
            sampling.judge(gatling, store, {}, begin + 60 * (minute + 1))


def events(gatling: Gatling) -> list[tuple[str, str]]:
    return [(row["event"], row["title"]) for row in gatling.db.rows("SELECT * FROM outbox")]


def sent(gatling: Gatling) -> None:
    """Everything that waits is accepted."""
    for row in gatling.db.rows("SELECT * FROM deliveries"):
        notices.accepted(gatling.db, row["channel"], row["notice"])


def test_an_alert_is_reported_once_and_once_more_when_it_is_over(gatling: Gatling) -> None:
    notices.put(gatling.db, notices.Channel(
        "ops", "webhook", "https://ops.example.com", "", ("*",), ("*",), now()))  # fmt: skip
    minutes(gatling, NOON, [0, 30, 30, 30, 30, 0, 0])
    assert [event for event, _ in events(gatling)] == ["alert.started"]
    assert events(gatling)[0][1].startswith("shop: 180 of 1200 requests failed (15.0 %)")
    (found,) = timeline.status(gatling, ["shop"]).alerts
    assert (found.rule, found.app) == ("errors", "shop")
    sent(gatling)
    minutes(gatling, NOON + 420, [0, 0, 0, 0, 0])
    assert [event for event, _ in events(gatling)] == ["alert.ended"]
    assert timeline.status(gatling, ["shop"]).alerts == []
    assert [one.action for one in audit.latest(gatling.db)] == ["alert ended", "alert started"]


def test_it_is_reported_once_over_a_restart(gatling: Gatling) -> None:
    minutes(gatling, NOON, [30, 30])
    minutes(gatling, NOON + 120, [30, 30])
    assert [one.action for one in audit.latest(gatling.db)] == ["alert started"]


def test_a_bound_that_is_set_and_then_turned_off(gatling: Gatling) -> None:
    notices.put(gatling.db, notices.Channel(
        "ops", "webhook", "https://ops.example.com", "", ("*",), ("*",), now()))  # fmt: skip

    def set_to(value: str) -> None:
        gatling.db.execute("UPDATE apps SET settings = json_object('alerts.errors', ?)", value)

    set_to("40")
    minutes(gatling, NOON, [30, 30])
    assert events(gatling) == []
    set_to("10.5")
    minutes(gatling, NOON + 120, [30, 30])
    assert [event for event, _ in events(gatling)] == ["alert.started"]
    sent(gatling)
    set_to("0")
    minutes(gatling, NOON + 240, [30, 30])
    assert events(gatling) == [
        ("alert.ended", "shop: the alert errors was turned off (alerts.errors is 0)")
    ]


def test_the_marks_of_a_time(gatling: Gatling) -> None:
    """What the audit has of backups and certificates, with those that failed."""
    for action, detail in (
        ("db backup", "shop 20260101-031500F"), ("db backup failed", "shop"),
        ("certificates issue", "1 shop.example.com"), ("certificates failed", "shop.example.com"),
        ("db psql", "shop"), ("settings", "health.path"),
    ):  # fmt: skip
        audit.record(gatling.db, "gatling", "shop", action, detail)
    found = timeline.of_app(gatling, "shop", time.time() - 60, time.time() + 60).marks
    assert sorted((one.kind, one.text) for one in found) == [
        ("backup", "db backup failed: shop"), ("backup", "db backup: shop 20260101-031500F"),
        ("certificate", "certificates failed: shop.example.com"),
        ("certificate", "certificates issue: 1 shop.example.com"),
    ]  # fmt: skip


def test_what_is_switched_off_has_no_alerts(gatling: Gatling) -> None:
    timeline.switch(gatling, on=True)
    minutes(gatling, NOON, [30, 30])
    assert timeline.status(gatling, ["shop"]).on
    timeline.switch(gatling, on=False)
    found = timeline.status(gatling, ["shop"])
    assert (found.on, found.alerts) == (False, [])


def test_the_numbers_of_a_time_in_as_many_points_as_are_wanted(
    gatling: Gatling, monkeypatch: pytest.MonkeyPatch
) -> None:
    minutes(gatling, NOON, [0, 0, 10, 0])
    monkeypatch.setattr(time, "time", lambda: NOON + 240.0)
    found = timeline.of_app(gatling, "shop", NOON, points=4)
    assert (found.step, [each.failed for each in found.points]) == (60, [0, 0, 60, 0])
    assert [each.requests for each in found.points] == [600] * 4
    assert found.points[0].per_second == 10
    assert found.points[0].p95_ms == 4.8
    assert found.points[0].memory is None
    (whole,) = timeline.of_app(gatling, "shop", NOON, points=1).points
    assert (whole.requests, whole.seconds) == (2400, 240)
