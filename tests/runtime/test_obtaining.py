"""Whether and when a certificate is obtained from a CA."""

from __future__ import annotations

import pytest

from gatling.proxy.certificates import Certificate, chosen
from gatling.runtime import obtaining
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
        ("shop.invalid", False), ("xyz.onion", False),
    ],
)  # fmt: skip
def test_which_domains_a_ca_can_verify(domain: str, *, can: bool) -> None:
    assert obtaining.obtainable(domain) is can


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
        (90, 20, 20), (90, 70, 70), (90, 89, 81), (6, 2, 2),
    ],
)  # fmt: skip
def test_when_one_is_renewed(days: float, proposed: float, at: float) -> None:
    one = known("a.example", days=days)
    state = Issuance(app="shop", certificate=one.id, renew_at=proposed * DAY)
    assert obtaining.renew_at(one, state) == pytest.approx(at * DAY)
    assert not obtaining.is_needed(["a.example"], one, state, (at - 0.01) * DAY)
    assert obtaining.is_needed(["a.example"], one, state, (at + 0.01) * DAY)


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
    here = [obtaining.pause(n, at_the_ca=False) for n in range(1, 13)]
    there = [obtaining.pause(n, at_the_ca=True) for n in range(1, 13)]
    assert here[:3] == [60, 120, 240]
    assert here[-1] == 6 * 3600
    assert there[:2] == [900, 1800]
    assert there[-1] == DAY
    assert sum(1 for n in range(12) if sum(there[:n]) < 3600) <= 5
