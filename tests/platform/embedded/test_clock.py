"""The embedded home's clock: which minutes it takes, and what is due in them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from gatling.platform.embedded import clock
from gatling.platform.embedded.home import EmbeddedHome

if TYPE_CHECKING:
    from pathlib import Path

T = 60 * 30_000_000


def test_a_minute_is_taken_once_and_none_is_caught_up() -> None:
    minutes = clock.Minutes(T + 30)
    assert minutes.take(T + 59.9) is None  # it had begun already
    assert minutes.take(T + 60) == T // 60 + 1
    assert minutes.take(T + 61) is None
    assert minutes.take(T + 119.99) is None
    assert minutes.take(T + 120) == T // 60 + 2
    assert minutes.take(T + 7230) == T // 60 + 120  # the machine has slept
    assert minutes.take(T + 7230 - 600) is None  # the clock was put back a little
    assert minutes.take(T + 7260) == T // 60 + 121
    assert minutes.take(T - 86400) == T // 60 - 1440  # … or was wrong before
    assert minutes.take(T - 86340) == T // 60 - 1439


@pytest.fixture
def home(tmp_path: Path) -> EmbeddedHome:
    for app in ("shop", "blog", "broken"):
        (tmp_path / "apps" / app).mkdir(parents=True)
    return EmbeddedHome(tmp_path)


def test_what_is_due(home: EmbeddedHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    clock.write(home, "shop", {"noon": "0 12 * * *", "often": "*/5 * * * *"})
    clock.write(home, "blog", {"noon": "0 12 * * mon"})
    (home.root / "apps/broken/schedule.json").write_text("{")

    def at(moment: datetime) -> list[str]:
        return sorted(clock.due(home.root, int(moment.timestamp()) // 60))

    assert at(datetime(2026, 7, 1, 10, 0, tzinfo=UTC)) == ["shop.noon", "shop.often"]
    assert at(datetime(2026, 7, 1, 10, 5, tzinfo=UTC)) == ["shop.often"]
    assert at(datetime(2026, 7, 6, 10, 0, tzinfo=UTC)) == ["blog.noon", "shop.noon", "shop.often"]
    assert at(datetime(2026, 7, 1, 10, 1, tzinfo=UTC)) == []


def test_it_is_needed_while_there_are_jobs(home: EmbeddedHome) -> None:
    assert not clock.is_needed(home)
    clock.write(home, "shop", {"a": "* * * * *"})
    assert clock.is_needed(home)
    file = home.root / "apps/shop/schedule.json"
    assert json.loads(file.read_text()) == {"a": "* * * * *"}
    clock.write(home, "shop", {})
    clock.write(home, "blog", {})
    assert not clock.is_needed(home)


def test_renewals_are_started_when_they_are_due_and_once_an_hour(home: EmbeddedHome) -> None:
    renewals = clock.Renewals(home.renewal)
    assert not renewals.due(T)
    assert not clock.is_needed(home)
    clock.renew_at(home, None)  # no app has a certificate
    assert clock.is_needed(home)
    assert not renewals.due(T)
    clock.renew_at(home, T + 60)
    assert not renewals.due(T + 59)
    assert renewals.due(T + 61)
    assert not renewals.due(T + 121)  # it may still run, or has failed
    assert renewals.due(T + 3662)
    clock.renew_at(home, T + 86400)
    assert not renewals.due(T + 7300)
    assert renewals.due(T + 900_000)  # the machine has slept
    assert renewals.due(T + 90_000)  # the clock was put back
