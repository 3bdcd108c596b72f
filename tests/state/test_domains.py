"""Domains as recorded: of one app, in an order, never none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gatling.errors import InvalidInput, NotFound
from gatling.state import apps, domains

if TYPE_CHECKING:
    from gatling.state.database import Database


def free(_port: int) -> bool:
    return True


def test_a_domain_belongs_to_one_app(db: Database) -> None:
    apps.create(db, "shop", free)
    apps.create(db, "blog", free)
    assert domains.add(db, "shop", "example.com") is True
    assert domains.add(db, "shop", "example.com") is False
    with pytest.raises(InvalidInput, match=r"example\.com belongs to the app shop") as caught:
        domains.add(db, "blog", "example.com")
    assert "gatling domains remove shop example.com" in caught.value.hint
    assert apps.get(db, "shop").domains == ("shop.localhost", "example.com")
    assert apps.get(db, "blog").domains == ("blog.localhost",)


def test_a_domain_is_taken_away_by_its_owner_alone_and_never_the_last(db: Database) -> None:
    apps.create(db, "shop", free)
    apps.create(db, "blog", free)
    domains.add(db, "shop", "example.com")
    for app, domain in (("blog", "example.com"), ("shop", "other.com")):
        with pytest.raises(NotFound, match=f"{app} has no domain {domain}"):
            domains.remove(db, app, domain)
    domains.remove(db, "shop", "shop.localhost")
    with pytest.raises(InvalidInput, match="last domain of shop"):
        domains.remove(db, "shop", "example.com")
    assert apps.get(db, "shop").domains == ("example.com",)
    domains.add(db, "blog", "shop.localhost")  # free now
    assert apps.get(db, "blog").domains == ("blog.localhost", "shop.localhost")


def test_the_domain_that_stands_for_an_app_is_the_first_that_was_added(db: Database) -> None:
    apps.create(db, "shop", free)
    for wanted, expected in (
        (["shop.localhost", "blog.localhost", "shop.test"], "blog.localhost"),
        (["shop.test", "shop.localhost"], "shop.test"),
        (["shop.localhost", "*.shop.test"], "www.shop.test"),
        (["shop.localhost"], "shop.localhost"),
    ):
        for domain in (*wanted, "only.here"):
            domains.add(db, "shop", domain)
        for domain in set(apps.get(db, "shop").domains) - set(wanted):
            domains.remove(db, "shop", domain)
        for domain in wanted:  # in that order
            put_back = domains.remove(db, "shop", domain) if len(wanted) > 1 else None
            if put_back:
                domains.add(db, "shop", domain)
        assert apps.get(db, "shop").primary_domain == expected


def test_domains_stay_in_the_order_they_were_added(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(domains, "now", lambda: "2026-01-31T12:00:00.000Z")  # all in one instant
    apps.create(db, "shop", free)
    wanted = ["shop.localhost"]
    for domain in ("z.example", "a.example", "m.example"):
        domains.add(db, "shop", domain)
        wanted.append(domain)
    assert list(apps.get(db, "shop").domains) == wanted
    assert [list(app.domains) for app in apps.every(db)] == [wanted]


def test_domains_that_a_deployment_adds_leave_alone_what_others_change(db: Database) -> None:
    apps.create(db, "shop", free)
    apps.create(db, "blog", free)
    assert domains.add_all(db, "shop", ["a.test", "b.test"], before_its_own=True) == (
        "a.test", "b.test"
    )  # fmt: skip
    assert apps.get(db, "shop").domains == ("a.test", "b.test", "shop.localhost")
    # an operator's word counts from then on
    assert domains.add_all(db, "shop", ["c.test", "a.test"], before_its_own=True) == ("c.test",)
    assert apps.get(db, "shop").domains[-1] == "c.test"
    domains.add(db, "shop", "of-an-operator.test")
    put_back = domains.remove(db, "shop", "b.test")
    domains.take_back(db, "shop", ("a.test", "b.test"))
    assert apps.get(db, "shop").domains == ("shop.localhost", "c.test", "of-an-operator.test")
    put_back()
    assert apps.get(db, "shop").domains[0] == "b.test"
    domains.add(db, "blog", "taken.test")
    with pytest.raises(InvalidInput, match="belongs to the app blog"):
        domains.add_all(db, "shop", ["new.test", "taken.test"])
    assert "new.test" not in apps.get(db, "shop").domains
    domains.take_back(db, "blog", ("taken.test", "blog.localhost"))
    assert len(apps.get(db, "blog").domains) == 1


def test_a_deployment_takes_back_its_own_domains_and_no_others(db: Database) -> None:
    apps.create(db, "shop", free)
    domains.add(db, "shop", "before.test")
    named = ["before.test", "a.test", "b.test"]
    assert domains.add_all(db, "shop", named, deployment=7) == ("a.test", "b.test")
    domains.add_all(db, "shop", ["c.test"], deployment=8)
    assert not domains.add(db, "shop", "a.test")  # an operator keeps it
    assert domains.take_back_of(db, "shop", 7) == ("b.test",)
    assert domains.take_back_of(db, "shop", 7) == ()
    assert apps.get(db, "shop").domains == ("shop.localhost", "before.test", "a.test", "c.test")


def test_the_order_of_domains_does_not_depend_on_the_clock(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    apps.create(db, "shop", free)
    domains.add(db, "shop", "first.test")
    monkeypatch.setattr(domains, "now", lambda: "1999-01-01T00:00:00.000Z")
    domains.add(db, "shop", "second.test")
    assert apps.get(db, "shop").domains == ("shop.localhost", "first.test", "second.test")
    assert apps.get(db, "shop").primary_domain == "first.test"


def test_a_domain_moves_as_a_whole_and_back(db: Database) -> None:
    for name in ("shop", "store"):
        apps.create(db, name, free)
    domains.add(db, "shop", "shop.test")
    domains.add(db, "shop", "last.test")
    take_back = domains.move(db, "shop.test", "shop", "store")
    assert apps.get(db, "shop").domains == ("shop.localhost", "last.test")
    assert apps.get(db, "store").domains == ("store.localhost", "shop.test")
    take_back()
    assert apps.get(db, "shop").domains == ("shop.localhost", "shop.test", "last.test")
    assert apps.get(db, "store").domains == ("store.localhost",)
    take_back()  # the second time it finds nothing to do
    assert apps.get(db, "shop").domains == ("shop.localhost", "shop.test", "last.test")
