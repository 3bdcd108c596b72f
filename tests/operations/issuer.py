# ruff: noqa: ARG002 (what stands for another takes more than it notes)
"""A server that obtains certificates: records and files are real, CA, nginx, timers and clock not.

Each effect is a word in `done`, and the one at which `left` has come to 0 meets `fault`.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from gatling import files
from gatling.errors import CertificateFailed, GatlingError
from gatling.operations import certificates as serving
from gatling.operations import https, issuing, reachability, verification
from gatling.platform.base import Address
from gatling.platform.open import Gatling
from gatling.proxy import authority, certificates, dns, requests
from gatling.state import apps, audit, domains, issuance
from gatling.state.database import open_database
from gatling.state.issuance import Account
from tests.places import embedded_home
from tests.proxy.authority import INTERMEDIATE, NOW, Issued, certificate

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from gatling.proxy.authority import Challenges
    from gatling.proxy.certificates import Certificate
    from gatling.state.apps import App

DAY = 86400
START = NOW.timestamp()


class House:
    """The server; `now` is its clock."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, *named: str) -> None:
        root.mkdir(exist_ok=True)
        self.now, self.root = START, root
        self.done: list[str] = []
        self.left = -1
        self.fault: Callable[[], None] = lambda: None
        self.ca = Ca(self)
        self.router = Router(self)
        self.kept = Kept(self, root)
        home = embedded_home(root / "home")
        db = open_database(home.database)
        apps.create(db, "shop", lambda _: True)
        for domain in named:
            domains.add(db, "shop", domain)
        issuance.put_account(
            db, Account(email="a@b.example", directory="https://ca.example", key="", uri="u")
        )
        guard: Any = SimpleNamespace(guard=lambda _: None)
        parts: Any = SimpleNamespace(apps=guard, router=self.router, certificates=self.kept)
        self.gatling = Gatling(home, db, parts, "tester")
        clock = SimpleNamespace(time=lambda: self.now)
        for module in (issuing, serving, https, verification):
            monkeypatch.setattr(module, "time", clock)
        self.records = Records(self)
        monkeypatch.setattr(dns, "challenge", lambda _: self.records)
        monkeypatch.setattr(authority, "Authority", lambda _: self.ca)
        monkeypatch.setattr(reachability, "fault", lambda *_: None)
        monkeypatch.setattr(serving, "_shake_hands", self._shake_hands)

    def do(self, effect: str) -> None:
        """Note an effect, which takes a moment and may fail: once."""
        self.now += 0.001
        self.done.append(effect)
        self.left -= 1
        if self.left == 0:
            self.fault()

    def also(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Note as well what is done to files and records."""

        def noted(module: object, name: str, effect: str) -> None:
            real = getattr(module, name)

            def call(*args: Any, **kwargs: Any) -> Any:
                self.do(effect)
                return real(*args, **kwargs)

            monkeypatch.setattr(module, name, call)

        noted(certificates, "_write", "write")
        noted(issuance, "put", "record")
        noted(audit, "record", "audit")
        syncs = SimpleNamespace(sync=files.sync)
        removes = SimpleNamespace(rmtree=shutil.rmtree)
        monkeypatch.setattr(certificates, "files", syncs)
        monkeypatch.setattr(certificates, "shutil", removes)
        noted(syncs, "sync", "sync")
        noted(removes, "rmtree", "rmtree")
        rename = Path.rename

        def renamed(path: Path, target: Path) -> Path:
            if path.is_relative_to(self.kept.root):
                self.do("rename")
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", renamed)

    def killed_at(self, left: int) -> int:
        """Renew in a process that is killed at an effect; its exit status, 9 when it was."""
        child = os.fork()
        if child == 0:
            try:
                self.left, self.fault = left, lambda: os._exit(9)
                self.gatling.db = open_database(self.gatling.home.database)
                issuing.renew(self.gatling)
            finally:
                os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def state(self) -> issuance.Issuance:
        return issuance.of_app(self.gatling.db, "shop")

    def app(self) -> App:
        return apps.get(self.gatling.db, "shop")

    def _shake_hands(self, _: Address, name: str) -> bytes:
        self.do("handshake")
        wildcard = f"*.{name.partition('.')[2]}"
        served = self.router.served
        which = served.get(name) or served.get(wildcard, "none")
        for chain in self.kept.root.glob(f"*/{which}/{certificates.CHAIN}"):
            leaf = x509.load_pem_x509_certificate(chain.read_bytes())
            return leaf.public_bytes(Encoding.DER)
        return b""


class Records:
    """Implements Challenge by DNS."""

    kind = "dns-01"

    def __init__(self, house: House) -> None:
        self._house = house
        self.there: set[tuple[str, str]] = set()
        self.broken = False

    def present(self, domain: str, token: str, answer: str) -> None:
        if self.broken:
            raise CertificateFailed("The DNS server took no update.", hint="Look at its log.")
        self.there.add((domain, token))

    def settle(self) -> None:
        pass

    def withdraw(self, domain: str, token: str) -> None:
        self.there.discard((domain, token))


class Ca:
    """Implements what `issuing` needs of Authority. A certificate is valid for `life` days."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.life = 90.0
        self.orders: list[float] = []
        """When certificates were issued."""
        self.failures: list[float] = []
        """When verifications failed."""
        self.ways: list[tuple[str, str]] = []
        """The names that were verified, and how."""
        self.proposes: Any = lambda now: (None, now + DAY)
        """What it answers to the question when to renew, and when to ask again."""
        self.refusal: BaseException | None = None
        self.refuses = set[str]()
        """Names that it refuses."""

    def certificate(self, request: str, challenges: Challenges, *, replaces: str = "") -> str:
        house = self._house
        house.do("order")
        csr = x509.load_pem_x509_csr(request.encode())
        names = requests.names_of(csr)
        self.ways += [(name, challenges(name).kind) for name in names]
        if self.refusal is not None:
            self.failures.append(house.now)
            raise self.refusal
        if bad := [one for one in names if one in self.refuses]:
            raise CertificateFailed(f"The CA refuses {bad}.", domains=bad)
        tokens = [
            (challenges(name), name, re.sub(r"[.:]", "-", f"token-of-{name}")) for name in names
        ]
        try:
            for challenge, name, token in tokens:
                house.do("present")
                challenge.present(name, token, "answer")
            house.do("verify")
        finally:
            for challenge, name, token in tokens:
                with contextlib.suppress(GatlingError, OSError):  # as Authority
                    house.do("withdraw")
                    challenge.withdraw(name, token)
        begins = (house.now - START) / DAY
        key: Any = csr.public_key()
        issued = certificate(*names, by=INTERMEDIATE, key=_Public(key),  # type: ignore[arg-type]
                             days=(begins - 1 / 24, begins + self.life))  # fmt: skip
        self.orders.append(house.now)
        house.do("download")
        return issued.pem + INTERMEDIATE.pem

    def renewal(self, pem: str) -> tuple[float | None, float]:
        self._house.do("ari")
        answer: tuple[float | None, float] = self.proposes(self._house.now)
        return answer


class _Public:
    """Stands for a private key that only its owner has."""

    def __init__(self, key: Any) -> None:
        self._key = key

    def public_key(self) -> Any:
        return self._key


class Kept:
    """Implements `Certificates` as root's helper does, without root."""

    def __init__(self, house: House, root: Path) -> None:
        self._house, self.root = house, root / "certificates"
        self._challenges = root / "challenges"
        self._challenges.mkdir()
        self.later: list[float] = []

    def of(self, app: str) -> list[Certificate]:
        return certificates.stored(self.root, app)

    def chain(self, app: str, which: str) -> str:
        return (self.root / app / which / certificates.CHAIN).read_text()

    def challenges(self) -> Path:
        return self._challenges

    def request(self, app: str, names: list[str]) -> str:
        self._house.do("request")
        key, asked = requests.new(names)
        certificates.keep_request(self.root, app, key, names)
        self._house.do("requested")
        return asked.decode()

    def install(self, app: str, chain: str) -> tuple[Certificate, bool]:
        self._house.do("install")
        asked = certificates.requested(self.root, app)
        assert asked
        try:
            pair = requests.answered(chain.encode(), *asked, self._house.now)
            new = certificates.add(self.root, app, pair.certificate, pair.chain, pair.key)
        finally:
            certificates.forget_request(self.root, app)
        self._house.do("installed")
        return pair.certificate, new

    def obtain_later(self, app: str, seconds: float = 0) -> None:
        self.later.append(self._house.now + seconds)

    def retire(self, app: str, which: str) -> None:
        self._house.do("retire")
        certificates.retire(self.root, app, which, retired=True)

    def remove_retired(self, app: str) -> None:
        self._house.do("remove")
        in_use = set(self._house.router.served.values())
        assert not [one for one in (self.root / app).iterdir()
                    if (one / certificates.RETIRED).exists() and one.name in in_use]  # fmt: skip
        certificates.remove_retired(self.root, app)

    def authority(self) -> None:
        return None

    def problems(self, app: App) -> list[str]:
        return []

    def has_leftovers(self, app: str) -> bool:
        return certificates.has_leftovers(self.root, app)


class Router:
    """Implements what `issuing` needs of Router. nginx serves what it was configured with last."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._file = house.root / "nginx.json"

    @property
    def served(self) -> dict[str, str]:
        """The id of the certificate of each domain."""
        found: dict[str, str] = json.loads(self._file.read_text()) if self._file.exists() else {}
        return found

    def configure(self, every: list[App]) -> bool:
        self._house.do("configure")
        house = self._house
        served = {
            domain: one.id
            for app in every
            for domain, one in certificates.chosen(
                house.kept.of(app.name), app.domains, house.now
            ).items()
        }
        self._file.with_suffix(".new").write_text(json.dumps(served))
        self._file.with_suffix(".new").replace(self._file)
        self._house.do("configured")
        return True

    def check(self) -> None:
        self._house.do("check")

    def public_address(self) -> None:
        return None

    def tls_address(self) -> Address:
        return Address("127.0.0.1", 443)


def serves(house: House, domain: str) -> Certificate | None:
    """The certificate that nginx shows for a domain, if its files are there and it is valid."""
    place = house.kept.root / "shop" / house.router.served.get(domain, "none")
    try:
        found = certificates.from_plain(json.loads((place / certificates.ABOUT).read_text()))
        key = (place / certificates.KEY).read_bytes()
        leaf = x509.load_pem_x509_certificate((place / certificates.CHAIN).read_bytes())
    except FileNotFoundError:
        return None
    if not found.not_before <= house.now <= found.not_after:
        return None
    assert load_pem_private_key(key, None).public_key() == leaf.public_key()
    return found


def day(stamp: float) -> str:
    return f"{dt.datetime.fromtimestamp(stamp, dt.UTC):%Y-%m-%d %H:%M}"


__all__ = ["DAY", "START", "House", "Issued", "day", "serves"]
