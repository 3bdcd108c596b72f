"""Whether and when a certificate is obtained from a CA."""

from __future__ import annotations

import pytest

from gatling.proxy.certificates import Certificate, chosen
from gatling.runtime import obtaining
from gatling.runtime.obtaining import Stage
from gatling.state.issuance import Issuance

DAY = 86400


def known(
    *names: str, days: float = 90, obtained: bool = True, number: int = 0, added: float = 0
) -> Certificate:
    return Certificate(
        id=f"{number:032x}", names=names, issuer="CA", not_before=0, not_after=int(days * DAY),
        key="ECDSA P-256", self_signed=False, alone=False, added=added, obtained=obtained,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("domain", "can"),
    [
        ("shop.example", True), ("a.b.shop.example", True), ("*.shop.example", False),
        ("shop.localhost", False), ("localhost", False), ("intranet", False),
        ("shop.invalid", False), ("xyz.onion", False), ("127.0.0.1", False), ("224.0.0.1", False),
        ("1.1.1.1", True), ("::1", False), ("2606:4700:4700::1111", True),
        ("my_shop.example.org", False), ("shop.arpa.example", True),
    ],
)  # fmt: skip
def test_which_domains_a_ca_can_verify(domain: str, *, can: bool) -> None:
    assert obtaining.obtainable(domain) is can
    assert obtaining.obtainable(domain, own_ca=True) is can


@pytest.mark.parametrize(
    "domain",
    [
        "a.local", "a.internal", "a.test", "shop.home.arpa", "10.0.0.1", "192.0.2.7", "fd00::5",
        "2001:db8::5",
    ],
)  # fmt: skip
def test_private_domains_are_for_a_ca_of_ones_own(domain: str) -> None:
    assert not obtaining.obtainable(domain)
    assert obtaining.obtainable(domain, own_ca=True)
    assert obtaining.wanted([domain], [], 0) == []
    assert obtaining.wanted([domain], [], 0, own_ca=True) == [domain]


def test_a_certificate_has_a_hundred_names_those_that_have_https_first() -> None:
    every = [f"d{n}.example" for n in range(102)]
    assert obtaining.within(every, None) == (every[:100], every[100:])
    served = known(*every[50:])
    inside, others = obtaining.within(every, served)
    assert (inside, others) == ([*every[:48], *every[50:]], every[48:50])
    assert obtaining.within(every[:100], served) == (every[:100], [])


def test_times_further_ahead_than_any_is_set_do_not_count() -> None:
    near = Issuance(app="shop", ask_at=DAY, retry_at=DAY, blocked_until=7 * DAY)
    assert obtaining.trusted(near, 0) == near
    far = Issuance(app="shop", ask_at=DAY + 1, retry_at=DAY + 1, blocked_until=7 * DAY + 1,
                   early_at=1)  # fmt: skip
    assert obtaining.trusted(far, 0) == Issuance(app="shop")


@pytest.mark.parametrize(
    ("domain", "can"),
    [
        ("*.shop.example", True),
        ("shop.example", True),
        ("*.localhost", False),
        ("*.lan", False),
        ("*.my_shop.example", False),
        ("*.a.internal", False),
    ],
)
def test_which_domains_a_ca_can_verify_by_dns(domain: str, *, can: bool) -> None:
    assert obtaining.obtainable(domain, by_dns=True) is can


def test_no_domain_is_requested_beside_a_wildcard_that_covers_it() -> None:
    domains = ("shop.example", "*.shop.example", "www.shop.example", "a.b.shop.example")
    wanted = obtaining.wanted(domains, [], 0, by_dns=True)
    assert wanted == ["shop.example", "*.shop.example", "a.b.shop.example"]
    got = known(*wanted)
    assert obtaining.lacking(domains, got) == []
    assert not obtaining.is_needed(wanted, got, Issuance(app="shop"), DAY)
    assert obtaining.wanted(domains, [], 0) == [domains[0], *domains[2:]]
    own = known("*.shop.example", obtained=False)
    assert obtaining.wanted(domains, [own], 0, by_dns=True) == [domains[0], domains[3]]


def test_one_of_somebody_s_own_comes_first_while_it_is_valid() -> None:
    domains = ("a.example", "b.example", "c.localhost")
    own = known("a.example", obtained=False, days=10, number=1)
    got = known("a.example", "b.example", number=2, added=5)
    assert obtaining.wanted(domains, [got, own], 5 * DAY) == ["b.example"]
    assert obtaining.wanted(domains, [got, own], 11 * DAY) == ["a.example", "b.example"]
    assert chosen([got, own], domains, 5 * DAY) == {"a.example": own, "b.example": got}
    assert chosen([got, own], domains, 11 * DAY)["a.example"] == got
    assert obtaining.newest([own, got]) == got
    assert obtaining.lacking(["a.example", "d.example"], got) == ["d.example"]
    assert obtaining.lacking(["a.example"], None) == ["a.example"]


@pytest.mark.parametrize(
    ("days", "proposed", "at"),
    [
        (90, 0, 60), (45, 0, 30), (6, 0, 3), (9.9, 0, 4.95), (10.1, 0, 10.1 * 2 / 3),
        (90, 20, 20), (90, 70, 70), (90, 89, 81), (6, 2, 2), (6, 5.9, 4), (90, 1, 1),
        (2, 0.5, 0.5), (2, 1.5, 4 / 3),
    ],
)  # fmt: skip
def test_when_one_is_renewed(days: float, proposed: float, at: float) -> None:
    one = known("a.example", days=days)
    state = Issuance(app="shop", certificate=one.id, renew_at=proposed * DAY)
    assert obtaining.renew_at(one, state) == pytest.approx(at * DAY)
    assert not obtaining.is_needed(["a.example"], one, state, (at - 0.01) * DAY)
    assert obtaining.is_needed(["a.example"], one, state, (at + 0.01) * DAY)


def test_one_certificate_a_week_is_replaced_soon_after_it_was_issued() -> None:
    one = known("a.example", added=10 * DAY)
    proposed = Issuance(app="shop", certificate=one.id, renew_at=1)
    assert obtaining.renew_at(one, proposed) == 1
    now = 10 * DAY + 60
    early = obtaining.early_at(one, proposed, now, due=True)
    assert early == now
    after = Issuance(app="shop", certificate=one.id, renew_at=1, early_at=early)
    assert obtaining.renew_at(known("a.example", added=now), after) == now + 2 * DAY
    assert obtaining.renew_at(known("a.example", added=now + 8 * DAY), after) == 1
    # no renewal at the CA's wish: another domain, or a certificate that has served
    assert obtaining.early_at(one, after, 11 * DAY, due=False) == early
    assert obtaining.early_at(one, after, 13 * DAY, due=True) == early
    assert obtaining.early_at(None, proposed, now, due=False) == 0


def test_no_pause_is_longer_than_half_of_the_time_that_is_left() -> None:
    one = known("a.example", days=6)
    assert obtaining.limited(DAY, one, 0) == DAY
    assert obtaining.limited(5 * DAY, one, 0) == 3 * DAY
    assert obtaining.limited(DAY, one, 5.5 * DAY) == DAY / 4
    assert obtaining.limited(DAY, one, 6 * DAY - 60) == 900
    assert obtaining.limited(DAY, one, 7 * DAY) == DAY, "it has expired: no hurry helps"
    assert obtaining.limited(1000 * DAY, None, 0) == 7 * DAY
    assert obtaining.limited(60, one, 0) == 60


def test_a_proposal_for_another_certificate_does_not_count() -> None:
    state = Issuance(app="shop", certificate="f" * 32, renew_at=1)
    assert obtaining.renew_at(known("a.example"), state) == 60 * DAY


def test_a_change_of_domains_needs_another_one() -> None:
    one, state = known("a.example", "b.example"), Issuance(app="shop")
    assert not obtaining.is_needed(["b.example", "a.example"], one, state, DAY)
    assert obtaining.is_needed(["a.example"], one, state, DAY)
    assert obtaining.is_needed(["a.example", "b.example", "c.example"], one, state, DAY)
    assert obtaining.is_needed(["a.example"], None, state, DAY)
    assert not obtaining.is_needed([], one, state, 100 * DAY)


def test_pauses_grow_and_stay_within_a_ca_s_limits() -> None:
    here = [obtaining.pause(n, Stage.HERE) for n in range(1, 13)]
    there = [obtaining.pause(n, Stage.AT_THE_CA) for n in range(1, 13)]
    assert here[:3] == [60, 120, 240]
    assert here[-1] == 6 * 3600
    assert there[:2] == [900, 1800]
    assert there[-1] == DAY
    assert sum(1 for n in range(12) if sum(there[:n]) < 3600) <= 5


def test_a_certificate_that_was_issued_in_vain_is_not_ordered_again_for_a_day() -> None:
    assert [obtaining.pause(n, Stage.ISSUED) for n in (1, 2, 3)] == [900, DAY, DAY]
