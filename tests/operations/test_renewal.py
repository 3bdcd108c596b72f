"""When certificates are ordered, of which domains, and what a failure leaves."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from msgspec import structs

from gatling.errors import CertificateFailed, HelperFailed, InvalidInput, NotFound, ProxyRefused
from gatling.operations import ca_account, certificates, domains, issuing, reachability
from gatling.paths import exclusively
from gatling.platform.base import Address
from gatling.proxy.certificates import Certificate, chosen, identity
from gatling.runtime.obtaining import DAY, WEEK
from gatling.state import apps, issuance
from gatling.state import domains as recorded
from gatling.state.database import open_database
from gatling.state.issuance import Account, Issuance
from tests.proxy.authority import certificate
from tests.proxy.bench import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gatling.platform.open import Gatling
    from gatling.state.apps import App
    from gatling.state.database import Database
    from tests.proxy.authority import Issued


def known(number: int, *names: str, days: float = 90, obtained: bool = True) -> Certificate:
    now = int(time.time())
    return Certificate(
        id=f"{number:032x}", names=names, issuer="CA", not_before=now,
        not_after=now + int(days * DAY), key="ECDSA P-256", self_signed=False, alone=False,
        added=now + number, obtained=obtained,
    )  # fmt: skip


@dataclass
class Store:
    """Certificates of apps; what is asked of it is kept."""

    directory: Path
    kept: dict[str, list[Certificate]] = field(default_factory=dict)
    retired: list[tuple[str, str]] = field(default_factory=list)
    later: list[tuple[str | None, float]] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)

    def of(self, app: str) -> list[Certificate]:
        return [one for one in self.kept.get(app, []) if (app, one.id) not in self.retired]

    def chain(self, app: str, certificate: str) -> str:
        return f"{app} {certificate}"

    def challenges(self) -> Path:
        return self.directory

    def request(self, app: str, names: list[str]) -> str:
        assert app
        self.requested = list(names)
        return " ".join(names)

    def install(self, app: str, chain: str) -> tuple[Certificate, bool]:
        assert chain
        made = known(100 + sum(map(len, self.kept.values())), *self.requested)
        self.kept.setdefault(app, []).insert(0, made)
        return made, True

    def copy(self, app: str, certificate: str, source: str) -> bool:
        (one,) = (one for one in self.of(source) if one.id == certificate)
        self.kept.setdefault(app, []).insert(0, one)
        return True

    def retire(self, app: str, certificate: str) -> None:
        self.retired.append((app, certificate))

    def remove_retired(self, app: str) -> None:
        self.kept[app] = self.of(app)

    def has_leftovers(self, app: str) -> bool:
        return any(name == app for name, _ in self.retired)

    def obtain_later(self, app: str | None, seconds: float = 0) -> None:
        self.later.append((app, seconds))

    def authority(self) -> None:
        """None: a CA makes them."""

    def problems(self, app: App) -> list[str]:
        assert app
        return []


@dataclass
class Router:
    broken: bool = False

    def check(self) -> None:
        if self.broken:
            raise ProxyRefused("nginx refuses the configuration.")

    def public_address(self) -> str:
        return "192.0.2.7"


@dataclass
class Ca:
    """What a CA answers; errors come first, one for each order."""

    errors: list[Exception] = field(default_factory=list)
    orders: list[str] = field(default_factory=list)
    refuses: set[str] = field(default_factory=set)

    def certificate(self, request: str, challenge: object, *, replaces: str = "") -> str:
        assert challenge
        self.orders.append(request)
        if self.errors:
            raise self.errors.pop(0)
        bad = [one for one in request.split() if one in self.refuses]
        if bad:
            raise CertificateFailed(f"The CA refused: {bad}.", hint="Use APP.", domains=bad)
        return f"chain {replaces}"

    def renewal(self, certificate: str) -> tuple[float | None, float]:
        assert certificate
        return None, time.time() + 3600


@dataclass
class Home:
    root: Path

    @property
    def run(self) -> Path:
        return self.root


@dataclass
class Fake:
    """An open home whose platform is made of the above."""

    home: Home
    db: Database
    certificates: Store
    router: Router = field(default_factory=Router)
    ca: Ca = field(default_factory=Ca)
    faults: dict[str, Exception] = field(default_factory=dict)
    foreign: set[str] = field(default_factory=set)
    served: list[str] = field(default_factory=list)
    actor: str = "ann"
    refuses: bool = False

    def configure_router(self) -> bool:
        self.served.append("configured")
        if self.refuses:
            raise ProxyRefused("nginx refuses it.")
        return True

    @property
    def gatling(self) -> Gatling:
        return cast("Gatling", self)

    def app(self, name: str, *names: str) -> None:
        apps.create(self.db, name, lambda _: True)
        for one in names:
            recorded.add(self.db, name, one)

    def renew(self, app: str | None = None) -> dict[str, issuing.Obtained]:
        return {one.app: one for one in issuing.renew(self.gatling, app)}

    def state(self, app: str = "shop") -> Issuance:
        return issuance.of_app(self.db, app)

    def forget_pauses(self, app: str = "shop") -> None:
        issuance.put(self.db, structs.replace(self.state(app), retry_at=0, blocked_until=0))


ACCOUNT = Account(email="a@shop.example", directory="https://ca.example/dir", key="k", uri="u")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    with contextlib.closing(open_database(tmp_path / "state.db")) as db:
        made = Fake(Home(tmp_path), db, Store(tmp_path))
        issuance.put_account(db, ACCOUNT)
        monkeypatch.setattr(issuing, "_authority", lambda _: (ACCOUNT, made.ca))

        def faults(names: list[str], *_: Any) -> dict[str, Exception]:
            for one in names:
                if isinstance(made.faults.get(one), OSError):
                    raise made.faults[one]
            return {one: made.faults[one] for one in names if one in made.faults}

        monkeypatch.setattr(reachability, "faults", faults)
        monkeypatch.setattr(certificates, "prove", lambda *_: None)
        monkeypatch.setattr(certificates, "foreign", lambda _, name, __: name in made.foreign)
        yield made


def test_no_failure_of_one_app_keeps_another_from_being_renewed(fake: Fake) -> None:
    fake.app("bad", "bad.example")
    fake.app("full", "full.example")
    fake.app("shop", "shop.example")
    fake.faults["full.example"] = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    fake.ca.errors = [OverflowError("date value out of range")]
    done = fake.renew()
    assert done["shop"].domains == ["shop.example"]
    assert "A defect in Gatling" in done["bad"].error
    assert done["full"].error.startswith("No space is left on the disk")
    for app in ("bad", "full"):
        assert fake.state(app).error == done[app].error
        assert fake.state(app).retry_at > time.time()
        assert app in [one for one, _ in fake.certificates.later]


def test_an_app_that_is_busy_is_left_out_of_all(fake: Fake) -> None:
    fake.app("busy", "busy.example")
    fake.app("shop", "shop.example")
    with exclusively(fake.home, "certificates-busy"):  # type: ignore[arg-type]
        assert set(fake.renew()) == {"shop"}
    assert fake.state("busy") == Issuance(app="busy")
    assert set(fake.renew()) == {"busy", "shop"}


def test_the_apps_that_fail_most_come_last(fake: Fake) -> None:
    for name in ("a", "b", "c"):
        fake.app(name, f"{name}.example")
    issuance.put(fake.db, Issuance(app="a", failures=3, domains="a.example"))
    assert list(fake.renew()) == ["b", "c", "a"]


def test_a_name_without_an_app_or_an_account_is_an_error(fake: Fake) -> None:
    with pytest.raises(NotFound):
        issuing.renew(fake.gatling, "typo")
    fake.db.execute("DELETE FROM home")
    with pytest.raises(InvalidInput, match="no account"):
        issuing.renew(fake.gatling)
    assert issuing.renew(fake.gatling, scheduled=True) == []


@pytest.mark.parametrize("what", ["nginx", "disk", "site"])
def test_what_is_wrong_here_costs_no_order(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    fake.app("shop", "shop.example")
    fake.router.broken = what == "nginx"
    fake.foreign = {"shop.example"} if what == "site" else set()
    if what == "disk":
        monkeypatch.setattr(issuing, "LEAST_BYTES", 1 << 60)
    done = fake.renew()["shop"]
    said = {"nginx": "nginx refuses", "disk": "needs room", "site": "A site of your own serves"}
    assert said[what] in done.error
    assert what != "site" or "settings set shop certificates.obtain=false" in done.hint
    assert (fake.ca.orders, fake.certificates.requested) == ([], [])


def test_a_certificate_that_does_not_serve_is_not_ordered_again_soon(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.app("shop", "shop.example")

    def refuse(*_: object) -> None:
        raise ProxyRefused("nginx does not serve it.")

    monkeypatch.setattr(certificates, "prove", refuse)
    for failures, pause in ((1, 900), (2, DAY), (3, DAY)):
        fake.renew()
        assert fake.state().failures == failures
        assert fake.state().retry_at == pytest.approx(time.time() + pause, abs=30)
        assert fake.renew()["shop"].error == "nginx does not serve it."
        assert len(fake.ca.orders) == failures
        fake.forget_pauses()


def test_domains_that_the_ca_refuses_block_no_others(fake: Fake) -> None:
    fake.app("shop", "a.example", "b.example", "c.example")
    fake.ca.refuses = {"b.example"}
    done = fake.renew()["shop"]
    assert fake.ca.orders == ["a.example b.example c.example", "a.example c.example"]
    assert done.domains == ["a.example", "c.example"]
    assert "b.example" in done.error
    assert fake.state().error == done.error
    assert fake.state().retry_at == pytest.approx(time.time() + 900, abs=30)
    fake.forget_pauses()
    assert fake.renew()["shop"].domains == [], "nothing is due: the others have one"
    assert len(fake.ca.orders) == 3
    (one,) = fake.certificates.of("shop")
    fake.certificates.kept["shop"] = [one._replace(not_before=0)]
    fake.forget_pauses()
    assert fake.renew()["shop"].domains == ["a.example", "c.example"], "it is due"


def test_a_rate_limit_is_no_reason_to_order_again(fake: Fake) -> None:
    fake.app("shop", "a.example", "b.example")
    until = time.time() + 100 * DAY
    fake.ca.errors = [CertificateFailed("limited", retry_at=until, domains=["a.example"])]
    assert fake.renew()["shop"].error == "limited"
    assert len(fake.ca.orders) == 1
    assert fake.state().blocked_until <= time.time() + WEEK
    assert fake.state().retry_at <= time.time() + DAY


def test_more_domains_than_a_certificate_can_have(fake: Fake) -> None:
    every = [f"d{n}.example" for n in range(103)]
    fake.app("shop", *every)
    fake.certificates.kept["shop"] = [known(1, *every[50:100])]
    done = fake.renew()["shop"]
    assert set(done.domains) == {*every[:50], *every[50:100]}
    assert (
        "d100.example, d101.example and d102.example: a certificate has at most 100" in done.error
    )
    fake.forget_pauses()
    assert fake.renew()["shop"].error == done.error, "it is still shown"
    assert len(fake.ca.orders) == 1
    recorded.remove(fake.db, "shop", "d0.example")
    fake.renew()
    assert len(fake.ca.orders) == 2
    assert "d100.example" in fake.ca.orders[1]


def test_times_of_a_wrong_clock_do_not_count(fake: Fake) -> None:
    fake.app("shop", "shop.example")
    far = time.time() + 400 * DAY
    state = Issuance(app="shop", domains="shop.example", error="old", retry_at=far,
                     blocked_until=far, ask_at=far)  # fmt: skip
    issuance.put(fake.db, state)
    assert fake.renew()["shop"].domains == ["shop.example"]


def test_an_app_that_is_left_out_shows_no_error(fake: Fake) -> None:
    fake.app("shop", "shop.example")
    fake.faults["shop.example"] = CertificateFailed("nowhere")
    fake.renew()
    assert fake.state().error == "nowhere"
    apps.change_settings(fake.db, "shop", lambda _: {"certificates.obtain": "false"})
    assert fake.renew()["shop"].error == ""
    assert fake.state().error == ""


@pytest.mark.parametrize("directory", ["https://other.example/dir", ACCOUNT.directory])
def test_another_ca_replaces_all_certificates(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, directory: str
) -> None:
    from gatling.proxy import authority

    fake.app("shop", "shop.example")
    fake.certificates.kept["shop"] = [known(1, "shop.example")]
    now = time.time()
    blocked = Issuance(app="shop", domains="shop.example", failures=7, error="x",
                       retry_at=now + DAY / 2, blocked_until=now + DAY)  # fmt: skip
    issuance.put(fake.db, blocked)
    monkeypatch.setattr(authority.Authority, "__init__", lambda *_: None)
    monkeypatch.setattr(authority.Authority, "register", lambda *_: "uri")
    monkeypatch.setattr(authority.Authority, "check_profile", lambda *_: None)
    ca_account.use(fake.gatling, "b@shop.example", directory, "")
    if directory == ACCOUNT.directory:
        assert fake.state() == structs.replace(blocked, retry_at=0)
        for new_key in (False, True):
            ca_account.use(fake.gatling, "b@shop.example", directory, "", new_key=new_key)
            account = issuance.account(fake.db)
            assert account is not None
            assert (account.key != ACCOUNT.key) is new_key
        return
    assert fake.renew()["shop"].domains == ["shop.example"]
    assert fake.renew()["shop"].domains == [], "once is enough"
    assert len(fake.ca.orders) == 1


@pytest.mark.parametrize(
    ("kid", "key", "said"),
    [("", "A" * 32, "name of a key"), ("a\nb", "A" * 32, "name of a key"),
     ("k", "secret!" * 9, "not in base64url"), ("k", "short", "not in base64url"),
     ("k", "A" * 33, "not in base64url"), ("k", "A" * 2000, "not in base64url")],
)  # fmt: skip
def test_a_customers_key_is_checked_and_never_shown(
    fake: Fake, kid: str, key: str, said: str
) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        ca_account.use(fake.gatling, "b@shop.example", "", "", binding=(kid, key))
    assert key not in f"{caught.value.what}{caught.value.hint}"


def test_a_customers_key_is_given_to_the_ca_and_not_kept(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gatling.proxy import authority

    given = []

    def register(_: object, email: str, binding: object) -> str:
        given.append((email, binding))
        return "uri"

    monkeypatch.setattr(authority.Authority, "__init__", lambda *_: None)
    monkeypatch.setattr(authority.Authority, "register", register)
    monkeypatch.setattr(authority.Authority, "check_profile", lambda *_: None)
    ca_account.use(fake.gatling, "b@shop.example", "", "", binding=("k1", f"  {'+/' * 11}==\n"))
    assert given == [("b@shop.example", ("k1", "-_" * 11))]
    kept = b"".join(file.read_bytes() for file in fake.home.root.glob("state.db*"))
    assert b"k1" not in kept
    assert b"-_-_" not in kept


def test_https_goes_along_with_a_domain(fake: Fake) -> None:
    fake.app("old", "a.example", "b.example")
    fake.app("new", "new.example")
    fake.certificates.kept["old"] = [known(1, "a.example", "b.example")]
    fake.certificates.kept["new"] = [known(9, "new.example")]
    fake.ca.errors = [CertificateFailed("down"), CertificateFailed("down")]

    def serving(app: str) -> set[str]:
        found = apps.get(fake.db, app)
        return set(chosen(fake.certificates.of(app), found.domains, time.time()))

    domains.move(fake.gatling, "new", "a.example", "old")
    assert serving("new") == {"new.example", "a.example"}
    fake.renew("new")
    assert serving("new") == {"new.example", "a.example"}, "also when none can be obtained"
    fake.forget_pauses("new")
    fake.ca.errors = []
    fake.renew("new")
    (one,) = fake.certificates.of("new")
    assert set(one.names) == {"new.example", "a.example"}
    assert serving("old") == {"b.example"}


def test_a_move_that_fails_or_cannot_bring_the_certificate(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.app("old", "a.example", "b.example")
    fake.app("new", "new.example")
    fake.certificates.kept["old"] = [known(1, "a.example", "b.example")]
    fake.refuses = True
    with pytest.raises(ProxyRefused):
        domains.move(fake.gatling, "new", "a.example", "old")
    assert fake.certificates.of("new") == []
    fake.refuses, fake.certificates.retired = False, []

    def fail(*_: object) -> bool:
        raise HelperFailed("no")

    monkeypatch.setattr(fake.certificates, "copy", fail)
    assert domains.move(fake.gatling, "new", "a.example", "old").changed


def test_nothing_is_tidied_while_another_command_obtains(fake: Fake) -> None:
    fake.app("shop", "shop.example")
    useless = known(1, "gone.example")
    fake.certificates.kept["shop"] = [useless]
    with exclusively(fake.home, "certificates-shop"):  # type: ignore[arg-type]
        issuing.tidy(fake.gatling, "shop")
    assert fake.certificates.of("shop") == [useless]
    fake.faults["shop.example"] = CertificateFailed("nowhere")
    fake.renew()
    assert fake.certificates.of("shop") == [], "the next command does it, whatever comes of it"


@contextlib.contextmanager
def tls(shown: Issued, directory: Path, other: Issued | None = None) -> Iterator[Address]:
    """A server on this machine that shows a certificate, and another one for unknown names."""
    (directory / "shown.pem").write_text(shown.both)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(directory / "shown.pem")
    if other:
        (directory / "other.pem").write_text(other.both)
        others = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        others.load_cert_chain(directory / "other.pem")

        def choose(connection: ssl.SSLObject, name: str, _: ssl.SSLContext) -> None:
            if name == certificates.NOBODYS:
                connection.context = others

        context.sni_callback = choose
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with context.wrap_socket(connection, server_side=True):
                        pass

        threading.Thread(target=serve, daemon=True).start()
        yield Address("127.0.0.1", listening.getsockname()[1])


def test_a_site_of_the_operators_own_is_noticed(tmp_path: Path) -> None:
    shown = certificate("shop.example", "*.shop.example")
    own = identity(shown.der)
    with tls(shown, tmp_path) as address:
        router = SimpleNamespace(tls_address=lambda: address)
        gatling = cast("Gatling", SimpleNamespace(router=router))
        assert certificates.foreign(gatling, "shop.example", {"0f"})
        assert not certificates.foreign(gatling, "www.shop.example", {"0f"}), "it answers for all"
        assert not certificates.foreign(gatling, "shop.example", {own}), "it is Gatling's"
        assert not certificates.foreign(gatling, "blog.example", {"0f"}), "a site of another name"
    with tls(shown, tmp_path, certificate("other.example")) as address:
        router.tls_address = lambda: address
        assert certificates.foreign(gatling, "www.shop.example", {"0f"})
    router.tls_address = lambda: Address("127.0.0.1", free_port())
    assert not certificates.foreign(gatling, "shop.example", {"0f"}), "nobody listens"
