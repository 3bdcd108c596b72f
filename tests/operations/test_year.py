"""A year of renewals by a clock that is moved: never too late, and never more than a CA allows."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from gatling.errors import CertificateFailed
from gatling.operations import issuing, reachability
from tests.operations.issuer import DAY, START, House, day, serves

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOUR = 3600
YEAR = 365
DOMAIN = "shop.example"


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return House(tmp_path, monkeypatch, DOMAIN)


def pass_year(
    house: House, before: Callable[[float], None] = lambda _: None, days: int = YEAR
) -> list[float]:
    """Let the timers run for a year; the hours that certificates had left when they were renewed.

    `before` is called before each run, with the days that have passed.
    """
    chance = random.Random(7)
    ticks = [START + half * DAY / 2 + chance.uniform(0, DAY / 4) for half in range(1, 2 * days)]
    issuing.issue(house.gatling, "shop")
    left, last = [], serves(house, DOMAIN)
    while ticks or house.kept.later:
        at = min(ticks + house.kept.later)
        if at > START + days * DAY:
            break
        ticks = [one for one in ticks if one > at]
        house.kept.later = [one for one in house.kept.later if one > at]
        house.now = max(at, house.now)
        assert serves(house, DOMAIN), f"expired on {day(house.now)}: {house.state()}"
        before((house.now - START) / DAY)
        issuing.renew(house.gatling)
        found = serves(house, DOMAIN)
        if found and last and found.id != last.id:
            left.append((last.not_after - house.now) / HOUR)
        last = found
        assert len(house.kept.of("shop")) == 1, "those of before are removed"
    assert_within_limits(house)
    return left


def assert_within_limits(house: House) -> None:
    """Those of Let's Encrypt, without the exceptions that it makes for renewals."""
    assert most(house.ca.orders, 7 * DAY) <= 5, "certificates for the same domains in a week"
    assert most(house.ca.failures, HOUR) <= 5, "failed verifications in an hour"


def most(times: list[float], seconds: float) -> int:
    """The largest number of these times within so many seconds."""
    return max((sum(1 for one in times if at <= one < at + seconds) for at in times), default=0)


@pytest.mark.parametrize(
    ("life", "days", "hours", "number"), [(90, YEAR, 30 * 24, 6), (6, 60, 3 * 24, 20)]
)
def test_by_itself_each_is_renewed_in_time(
    house: House, life: float, days: int, hours: float, number: int
) -> None:
    house.ca.life = life
    left = pass_year(house, days=days)
    assert all(hours - 19 <= one <= hours + 1 for one in left), "at the next run of the timer"
    assert number * 0.8 <= len(house.ca.orders) - 1 <= number


def test_windows_of_the_ca_that_move(house: House) -> None:
    chance, revoked = random.Random(3), [100.0, 101.0, 250.0]

    def proposes(now: float) -> tuple[float, float]:
        issued = house.kept.of("shop")[0].not_before
        if any(issued < START + one * DAY <= now for one in revoked):
            return now - DAY, now + 6 * HOUR  # the window has been moved into the past
        return issued + DAY * chance.uniform(55, 65), now + 6 * HOUR

    house.ca.proposes = proposes
    pass_year(house)
    orders = [(one - START) / DAY for one in house.ca.orders]
    for one in revoked:
        assert any(one <= order <= one + 1.3 for order in orders), f"revoked on day {one}: {orders}"
    assert len(orders) <= 11


@pytest.mark.parametrize(
    ("life", "proposal"), [(90, -YEAR), (6, -YEAR), (6, 0.0), (6, 1.0), (6, 400.0)]
)
def test_a_ca_that_proposes_what_cannot_be(house: House, life: float, proposal: float) -> None:
    """Days from now: in the past, immediately, always the next day, too late."""
    house.ca.life = life
    house.ca.proposes = lambda now: (now + proposal * DAY, now + 1000 * DAY)
    pass_year(house, days=30)


def refusal(retry_at: float = 0) -> CertificateFailed:
    return CertificateFailed("The CA refuses.", retry_at=retry_at)


@pytest.mark.parametrize(
    ("life", "length", "wait"),
    [(90, 28.5, 0), (90, 28.5, YEAR * DAY), (45, 13.5, 6 * DAY), (6, 2.3, 0), (6, 2.3, 2 * HOUR),
     (6, 2.3, YEAR * DAY)],
)  # fmt: skip
def test_a_ca_that_refuses_for_long(house: House, life: float, length: float, wait: float) -> None:
    """It recovers some hours before the certificate expires."""
    house.ca.life = life
    due = life * (0.5 if life < 10 else 2 / 3)
    outages: Counter[int] = Counter()

    def before(_: float) -> None:
        one = serves(house, DOMAIN)
        assert one
        age = (house.now - one.not_before) / DAY
        refuses = due <= age < due + length
        outages[int(refuses)] += 1
        house.ca.refusal = refusal(house.now + wait if wait else 0) if refuses else None

    left = pass_year(house, before, days=int(2 * life))
    assert outages[1] > 3
    assert left
    assert min(left) > 0


def test_a_domain_that_leads_elsewhere_for_a_month(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The certificate expires a day later: it is renewed as soon as the domain leads here again."""
    away = [False]
    monkeypatch.setattr(reachability, "fault", lambda *_: refusal() if away[0] else None)

    def before(passed: float) -> None:
        away[0] = 60 <= passed < 89

    left = pass_year(house, before, days=100)
    assert 0 < min(left) < 24
    assert not house.ca.failures, "the CA was not asked"
