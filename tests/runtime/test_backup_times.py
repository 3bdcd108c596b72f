"""When daily backups are due: pure."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from gatling.errors import InvalidInput
from gatling.runtime.backup_times import due_at, time_of_day
from gatling.state.backups import Attempts, Plan

PLAN = Plan("shop", "03:15", 2, 14, "2026-01-01T12:00:00.000Z")


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def tried(moment: str, fault: str = "") -> Attempts:
    return Attempts("shop", f"{moment}:00.000Z", None, fault)


@pytest.mark.parametrize(("last", "due"), [
    (None, "2026-01-02T03:15"),  # the first time after it was planned
    (tried("2026-01-02T03:16"), "2026-01-03T03:15"),
    (tried("2026-01-02T01:00"), "2026-01-02T03:15"),  # another one, by hand
    (tried("2026-01-02T03:15"), "2026-01-03T03:15"),
    (tried("2025-06-01T03:15"), "2026-01-02T03:15"),  # before it was planned
    (tried("2026-01-02T03:16", "full"), "2026-01-02T04:16"),  # again after a failure
    (tried("2026-01-02T02:30", "full"), "2026-01-02T03:15"),
])  # fmt: skip
def test_when_a_backup_is_due(last: Attempts | None, due: str) -> None:
    assert due_at(PLAN, last, UTC) == at(due)


def test_the_time_is_that_of_the_host() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    assert due_at(PLAN, None, berlin) == at("2026-01-02T02:15")
    # 02:30 of a night in which clocks are put forward, and of one in which they are put back
    for day, due in (("2026-03-28", "2026-03-29T01:30"), ("2026-10-24", "2026-10-25T00:30")):
        plan = Plan("shop", "02:30", 2, 14, f"{day}T12:00:00.000Z")
        assert due_at(plan, None, berlin) == at(due)


WRONG = ["3:15", "24:00", "03:60", "03:15:00", "", "03:15\n", "\u0660\u0663:15"]


@pytest.mark.parametrize("text", WRONG)
def test_no_time_of_day(text: str) -> None:
    with pytest.raises(InvalidInput):
        time_of_day(text)
