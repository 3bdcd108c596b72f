"""How certificates are obtained: which way for which domain, and what a fault leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gatling.errors import InvalidInput
from gatling.operations import domains, https, issuing
from gatling.state import apps, issuance
from gatling.state import domains as recorded
from gatling.state.issuance import Dns
from tests.operations.issuer import DAY, House, serves

if TYPE_CHECKING:
    from pathlib import Path

BY_PROGRAM = Dns(program="/etc/gatling/records")
APEX, WILDCARD, WWW = "shop.example", "*.shop.example", "www.shop.example"


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return House(tmp_path, monkeypatch, APEX, WILDCARD, WWW)


def test_which_way_each_domain_is_verified(house: House) -> None:
    assert issuing.issue(house.gatling, "shop").domains == [APEX, WWW]
    assert house.ca.ways == [(APEX, "http-01"), (WWW, "http-01")]
    assert https.shown(house.gatling, "shop").unverifiable == [WILDCARD]

    issuance.put_dns(house.gatling.db, BY_PROGRAM)
    house.ca.ways.clear()
    done = issuing.renew(house.gatling, "shop")[0]
    assert (done.domains, done.error) == ([APEX, WILDCARD], "")
    assert house.ca.ways == [(APEX, "http-01"), (WILDCARD, "dns-01")]
    one = serves(house, WWW)
    assert one
    assert one == serves(house, WILDCARD)
    assert len(house.kept.of("shop")) == 1

    apps.change_settings(house.gatling.db, "shop", lambda _: {"certificates.challenge": "dns"})
    house.ca.ways.clear()
    issuing.issue(house.gatling, "shop")
    assert house.ca.ways == [(APEX, "dns-01"), (WILDCARD, "dns-01")]

    issuance.put_dns(house.gatling.db, None)
    with pytest.raises(InvalidInput, match=r"certificates\.challenge=dns needs") as caught:
        issuing.issue(house.gatling, "shop")
    assert "certificates dns" in caught.value.hint
    assert house.state().error == caught.value.what
    assert serves(house, WILDCARD), "what serves stays"


def test_a_wildcard_that_fails_keeps_no_other_domain_from_its_certificate(house: House) -> None:
    issuance.put_dns(house.gatling.db, BY_PROGRAM)
    assert issuing.issue(house.gatling, "shop").domains == [APEX, WILDCARD]
    assert house.records.there == set()
    house.records.broken = True
    house.now += DAY
    assert issuing.renew(house.gatling)[0].error == "", "nothing is due"
    house.now += 61 * DAY
    done = issuing.renew(house.gatling)[0]
    assert (done.domains, done.error) == ([APEX, WWW], "The DNS server took no update.")
    new, old = serves(house, WWW), serves(house, WILDCARD)
    assert new
    assert old
    assert new.not_after > old.not_after, "the one of before still serves what it alone is for"
    orders = len(house.ca.orders)
    for _ in range(6):
        house.now += DAY
        assert issuing.renew(house.gatling)[0].error == done.error
    assert len(house.ca.orders) == orders, "the CA is not asked for what it cannot verify"
    house.records.broken = False
    house.now += DAY
    assert issuing.renew(house.gatling)[0].domains == [APEX, WILDCARD]
    assert serves(house, WILDCARD) == serves(house, WWW)
    assert len(house.kept.of("shop")) == 1
    assert house.state().error == ""


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700:4700::1111"])
def test_an_address_is_verified_over_http_alone(house: House, address: str) -> None:
    recorded.add(house.gatling.db, "shop", address)
    apps.change_settings(house.gatling.db, "shop", lambda _: {"certificates.challenge": "dns"})
    issuance.put_dns(house.gatling.db, BY_PROGRAM)
    issuing.issue(house.gatling, "shop")
    assert dict(house.ca.ways) == {APEX: "dns-01", WILDCARD: "dns-01", address: "http-01"}
    assert serves(house, address)


@pytest.mark.parametrize("address", ["::1", "[0:0:0:0:0:0:0:1]", "127.0.0.1"])
def test_a_loopback_address_is_no_domain_where_a_public_ca_is_asked(
    house: House, address: str
) -> None:
    before = apps.get(house.gatling.db, "shop").domains
    with pytest.raises(InvalidInput, match="is a loopback address"):
        domains.add(house.gatling, "shop", address)
    assert apps.get(house.gatling.db, "shop").domains == before


def test_no_address_is_requested_that_nginx_cannot_serve(house: House) -> None:
    """A client that connects to an address names no host, so that nginx shows one certificate."""
    recorded.add(house.gatling.db, "shop", "1.1.1.1")
    issuing.issue(house.gatling, "shop")
    apps.create(house.gatling.db, "blog", lambda _: True)
    for domain in ("blog.example", "2606:4700:4700::1001"):
        recorded.add(house.gatling.db, "blog", domain)
    done = issuing.issue(house.gatling, "blog")
    assert done.domains == ["blog.example"]
    assert "one app only over HTTPS, and shop has 1.1.1.1" in done.error
    assert "gatling domains remove blog 2606:4700:4700::1001" in done.hint
    recorded.remove(house.gatling.db, "shop", "1.1.1.1")
    assert issuing.issue(house.gatling, "blog").domains == ["blog.example", "2606:4700:4700::1001"]


def test_a_wildcard_that_the_ca_refuses_is_replaced_by_the_names_it_covers(house: House) -> None:
    issuance.put_dns(house.gatling.db, BY_PROGRAM)
    house.ca.refuses = {WILDCARD}
    done = issuing.issue(house.gatling, "shop")
    assert (done.domains, WILDCARD in done.error) == ([APEX, WWW], True)
    assert len(house.ca.orders) == 1


def test_a_wildcard_alone_names_the_next_step(house: House) -> None:
    for domain in (APEX, WWW):
        recorded.remove(house.gatling.db, "shop", domain)
    with pytest.raises(InvalidInput, match=r"verifies \*\.shop\.example by records") as caught:
        issuing.issue(house.gatling, "shop")
    assert "certificates dns" in caught.value.hint
    assert "certificates add" in caught.value.hint
