"""The certificates of an embedded home over months, by a clock that the test sets."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from gatling.errors import InvalidInput
from gatling.platform.base import Address
from gatling.platform.embedded import listening
from gatling.platform.embedded.certificates import OwnCertificates
from gatling.platform.embedded.router import EmbeddedRouter
from gatling.platform.embedded.supervisord import Supervisord
from gatling.proxy import features, local_authority
from gatling.state import apps, domains, home_settings
from gatling.state.database import open_database
from tests.places import embedded_home
from tests.proxy.authority import INTERMEDIATE, ROOT, certificate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gatling.platform.embedded.home import EmbeddedHome
    from gatling.state.apps import App
    from gatling.state.database import Database

DAY = 86400


class World:
    """A home with the apps `shop` and `blog`, without a proxy."""

    def __init__(self, db: Database, home: EmbeddedHome) -> None:
        self.home, self.db = home, db
        for name in ("shop", "blog"):
            apps.create(db, name, lambda _port: True)
        home_settings.put(db, listening.LISTEN_TLS, "127.0.0.1:8443")
        self.certificates = OwnCertificates(home, db)
        # not that of the import, which may be an hour ago: an authority is valid from its creation
        self.now = time.time()

    @property
    def every(self) -> list[App]:
        return apps.every(self.db)

    def configure(self, days: float = 0) -> None:
        """The part of a configuration of the proxy that concerns certificates."""
        now = self.now + days * DAY
        self.certificates.follow(self.every, now)
        self.certificates.tidy(self.every, now)

    def served(self, app: str, days: float = 0) -> dict[str, str]:
        """The id of the certificate of each domain."""
        places = self.certificates.places(apps.get(self.db, app), self.now + days * DAY)
        return {domain: place.name for domain, place in places.items()}

    def problems(self, app: str = "shop") -> str:
        return " ".join(self.certificates.problems(apps.get(self.db, app)))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    home = embedded_home(tmp_path)
    db = open_database(home.database)
    yield World(db, home)
    db.close()


def test_each_app_has_a_certificate_of_its_own_which_stays(world: World) -> None:
    world.configure()
    shop, blog = world.served("shop"), world.served("blog")
    assert shop.keys() == {"shop.localhost"}
    assert shop["shop.localhost"] != blog["blog.localhost"]
    world.configure(days=59)
    assert (world.served("shop"), world.served("blog")) == (shop, blog)
    assert world.problems() == ""


def test_it_is_renewed_before_it_expires_and_the_earlier_one_is_removed(world: World) -> None:
    world.configure()
    first = world.served("shop")
    assert 59 * DAY < float(world.home.renewal.read_text()) - world.now < 61 * DAY
    world.configure(days=61)
    second = world.served("shop", days=61)
    assert second != first
    kept = [entry.name for entry in (world.home.certificates / "shop").iterdir()]
    assert kept == list(second.values())
    assert float(world.home.renewal.read_text()) - world.now > 120 * DAY
    authority = local_authority.find(world.home.authority)
    world.configure(days=3000)
    assert local_authority.find(world.home.authority) == authority


def test_a_clock_that_was_wrong_for_a_while(world: World) -> None:
    world.configure()
    world.configure(days=61)
    wrong = world.served("shop", days=61)
    world.configure()
    assert world.served("shop") != wrong
    (one,) = world.certificates.of("shop")
    assert one.not_before < world.now
    right = world.served("shop")
    world.configure()
    assert world.served("shop") == right


def test_it_follows_the_domains(world: World) -> None:
    world.configure()
    domains.add(world.db, "shop", "*.shop.test")
    world.configure()
    served = world.served("shop")
    assert served.keys() == {"shop.localhost", "*.shop.test"}
    assert len(set(served.values())) == 1
    domains.remove(world.db, "shop", "*.shop.test")
    world.configure()
    (one,) = world.certificates.of("shop")
    assert one.names == ("shop.localhost",)


def test_a_domain_of_the_internet_needs_another_authority(world: World) -> None:
    world.configure()
    before = world.served("shop")
    domains.add(world.db, "shop", "shop.example.com")
    world.configure()
    assert world.served("shop") == before
    said = world.problems()
    assert said.startswith("shop.example.com: served over HTTP only")
    assert "`gatling certificates authority --new`" in said
    assert world.problems("blog") == ""
    world.certificates.replace_authority(world.every)
    world.configure()
    assert world.served("shop").keys() == {"shop.localhost", "shop.example.com"}
    assert world.served("shop")["shop.localhost"] != before["shop.localhost"]
    assert world.problems() == ""


def test_of_addresses_only_those_of_the_machine_are_vouched_for(world: World) -> None:
    for domain in ("::1", "2001:db8::5", "192.0.2.7"):
        domains.add(world.db, "shop", domain)
    world.configure()
    assert world.served("shop").keys() == {"shop.localhost", "::1"}
    said = world.problems()
    assert said.startswith("2001:db8::5, 192.0.2.7: served over HTTP only")
    assert "addresses of other networks" in said
    assert "--new" not in said, "another authority could not either"
    authority = local_authority.find(world.home.authority)
    assert authority is not None
    assert authority.domains == local_authority.ALWAYS


def test_an_app_that_was_there_first_is_within_the_limits(world: World) -> None:
    domains.add(world.db, "shop", "shop.example.com")
    world.configure()
    assert world.served("shop").keys() == {"shop.localhost", "shop.example.com"}


def test_a_certificate_that_somebody_gave_comes_first(world: World) -> None:
    world.configure()
    domains.add(world.db, "shop", "shop.example.com")
    given = certificate("shop.example.com", by=INTERMEDIATE)
    pem = given.both + INTERMEDIATE.pem + ROOT.pem
    one, new = world.certificates.add("shop", pem)
    assert new
    world.configure()
    served = world.served("shop")
    assert served["shop.example.com"] == one.id != served["shop.localhost"]
    assert world.certificates.chain("shop", one.id).startswith(given.pem)
    world.certificates.retire("shop", one.id)
    world.certificates.remove_retired("shop")
    world.configure()
    assert world.served("shop").keys() == {"shop.localhost"}


@pytest.mark.parametrize("days", [-400, 4000])
def test_a_wrong_clock_and_an_old_authority_make_nothing_and_remove_nothing(
    world: World, days: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.configure()
    before = world.served("shop")
    domains.add(world.db, "shop", "shop.test")
    world.configure(days)
    assert world.served("shop", days) == before
    monkeypatch.setattr(time, "time", lambda: world.now + days * DAY)
    said = world.problems()
    assert ("The clock of this machine" if days < 0 else "expired on") in said
    assert "`gatling certificates authority --new`" in said
    world.certificates.replace_authority(world.every)
    world.configure(days)
    assert world.served("shop", days).keys() == {"shop.localhost", "shop.test"}
    assert world.problems() == ""


def test_without_tls_there_is_none(world: World) -> None:
    world.configure()
    home_settings.put(world.db, listening.LISTEN_TLS, "")
    assert world.certificates.of("shop") == []
    assert world.problems() == ""
    with pytest.raises(InvalidInput, match="serves HTTP only") as refused:
        world.certificates.add("shop", "")
    assert "`gatling up --tls`" in refused.value.hint


def test_no_ca_is_asked(world: World) -> None:
    assert world.certificates.challenges() is None  # type: ignore[func-returns-value]
    for ask in (
        lambda: world.certificates.request("shop", ["a.example"]),
        lambda: world.certificates.install("shop", ""),
    ):
        with pytest.raises(InvalidInput, match="No CA"):
            ask()


def test_the_addresses_of_the_router(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATLING_LISTEN", raising=False)

    def router() -> EmbeddedRouter:
        return EmbeddedRouter(world.home, world.db, Supervisord(world.home))

    shop = apps.get(world.db, "shop")
    assert router().url(shop) == "http://shop.localhost:8080"  # it has no certificate yet
    world.configure()
    assert router().url(shop) == "https://shop.localhost:8443"
    assert router().tls_address() == Address("127.0.0.1", 8443)
    assert router().offers_https()
    assert not router().is_public()
    home_settings.put(world.db, listening.LISTEN_TLS, "*:443")
    assert router().url(shop) == "https://shop.localhost"
    assert router().is_public()
    router().listen_on(None, "off")
    assert router().url(shop) == "http://shop.localhost:8080"
    assert router().tls_address() is None
    assert not router().offers_https()


def test_an_address_that_https_cannot_have_is_not_recorded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "built", lambda: features.Features(*[False] * 4))
    proxy = EmbeddedRouter(world.home, world.db, Supervisord(world.home))
    for tls, said in (
        ("127.0.0.1:8444", "without its module for HTTPS"),
        ("127.0.0.1:8080", "cannot share"),
    ):
        with pytest.raises(InvalidInput, match=said):
            proxy.listen_on("127.0.0.1:8080", tls)
    assert home_settings.get(world.db, "listen") is None
    assert home_settings.get(world.db, listening.LISTEN_TLS) == "127.0.0.1:8443"
