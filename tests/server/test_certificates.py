"""HTTPS on a server with certificates of one's own: given by ssh, kept by root, served."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import pytest

from gatling.errors import Exit
from tests.conftest import Answer, until
from tests.proxy.authority import INTERMEDIATE, ROOT, Issued, certificate
from tests.secured import wrapped

if TYPE_CHECKING:
    from tests.server.server import Checkout, Person, Server

KEPT = "etc/gatling/certificates"
NAMES = ("shop.example", "www.shop.example")
FIRST = certificate(*NAMES, by=INTERMEDIATE)
SECOND = certificate(*NAMES, by=INTERMEDIATE, days=(-1, 30))


def full(issued: Issued) -> str:
    return issued.pem + INTERMEDIATE.pem + issued.key_pem


def connected(server: Server, host: str) -> ssl.SSLSocket:
    """A connection from another machine that trusts the root, and checks the name."""
    raw = server.box.bed.lan.connect(server.box.ip, 443, 10)
    return wrapped(raw, ssl.create_default_context(cadata=ROOT.pem), host)


def shown(server: Server, host: str = "shop.example") -> bytes | None:
    with connected(server, host) as connection:
        return connection.getpeercert(binary_form=True)


def ask(server: Server, host: str = "shop.example", path: str = "/") -> Answer:
    connection = http.client.HTTPConnection(server.box.ip, timeout=10)
    with contextlib.closing(connection):
        connection.sock = connected(server, host)
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read().decode())


@dataclass
class Visitors:
    """Who asks by HTTPS, again and again, each time with a handshake of their own."""

    server: Server
    failures: list[str] = field(default_factory=list)
    count: int = 0
    _end: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=self._ask) for _ in range(2)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._end.is_set():
            try:
                status = ask(self.server).status
            except OSError as error:
                self.failures.append(repr(error))
            else:
                self.count += 1
                if status != 200:
                    self.failures.append(str(status))
            time.sleep(0.02)


@pytest.fixture(scope="module")
def shop(ann: Person) -> Checkout:
    project = ann.project("shop")
    project.push()
    for name in NAMES:
        ann.run("domains", "add", "shop", name)
    return project


def test_one_is_served_as_soon_as_it_is_given(server: Server, ann: Person, shop: Checkout) -> None:
    with pytest.raises(ConnectionRefusedError):
        shown(server)
    assert server.get(host="shop.example").status == 200
    said = ann.run("certificates", "add", "shop", stdin=full(FIRST))
    assert "shop.example, www.shop.example: served over HTTPS until" in said
    assert shown(server) == FIRST.der
    assert ask(server).status == 200
    answer = server.get("/a?b", host="shop.example")
    assert (answer.status, answer.headers["Location"]) == (308, "https://shop.example/a?b")
    assert server.get().status == 200, "shop.localhost has no certificate"
    (kept,) = ann.json("certificates", "list", "shop")
    assert (kept["domains"], kept["issuer"], kept["days_left"]) == (list(NAMES), "Test CA", 89)
    assert "has this certificate already" in ann.run(
        "certificates", "add", "shop", stdin=full(FIRST)
    )


def test_the_key_is_roots_alone(server: Server, shop: Checkout) -> None:
    (key,) = (server.box.root / KEPT).rglob("key.pem")
    inside = "/" + str(key.relative_to(server.box.root))
    assert (key.stat().st_mode & 0o777, key.stat().st_uid) == (0o600, server.box.root.stat().st_uid)
    for user in ("gatling", "gatling-shop", "www-data"):
        assert server.box.exec(["cat", inside], user=user, check=False).returncode != 0
    secret = FIRST.key_pem.splitlines()[1]
    assert secret not in server.box.exec(["journalctl", "--no-pager"]).stdout
    found = server.box.exec(
        ["grep", "-rlF", secret, "/etc", "/var/lib", "/run", "/tmp"], check=False
    )
    assert found.stdout.split() == [inside]


def test_deployments_go_on_over_https(server: Server, ann: Person, shop: Checkout) -> None:
    with Visitors(server) as visitors:
        for strategy in ("auto", "rolling"):
            shop.write("gatling.toml", f'[deploy]\nstrategy = "{strategy}"\n')
            shop.title(f"over HTTPS, {strategy}")
            text = shop.push()
            assert "https://shop.example" in text
            assert f"over HTTPS, {strategy}" in ask(server).text
    assert visitors.count
    assert visitors.failures == []
    assert json.loads(ann.run("apps", "--json"))[0]["url"] == "https://shop.example"


def test_another_one_takes_over_without_a_failed_request(
    server: Server, ann: Person, shop: Checkout
) -> None:
    with Visitors(server) as visitors:
        until(lambda: visitors.count, "a visitor")
        ann.run("certificates", "add", "shop", stdin=full(SECOND))
        assert shown(server) == SECOND.der
        count = visitors.count
        until(lambda: visitors.count > count + 5, "more visitors")
        ann.run("certificates", "remove", "shop", "--confirm", "shop",
                ann.json("certificates", "list", "shop")[0]["id"])  # fmt: skip
        assert shown(server) == FIRST.der
    assert visitors.failures == []
    assert len(list((server.box.root / KEPT).rglob("key.pem"))) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "No private key"), (FIRST.pem + SECOND.key_pem, "does not belong"),
        (certificate("other.example").both, "for none of shop's domains, but for other.example"),
        (certificate(*NAMES, days=(-9, -1)).both, "expired"),
    ],
)  # fmt: skip
def test_what_is_refused_changes_nothing(
    server: Server, ann: Person, shop: Checkout, text: str, said: str
) -> None:
    before = sorted((server.box.root / KEPT).rglob("*"))
    refused = ann.run("certificates", "add", "shop", stdin=text, status=Exit.INVALID)
    assert said in refused
    assert sorted((server.box.root / KEPT).rglob("*")) == before
    assert shown(server) == FIRST.der


def test_what_nginx_does_not_serve_is_taken_back(
    server: Server, ann: Person, shop: Checkout
) -> None:
    theirs = server.box.root / "etc/nginx/conf.d/a.conf"  # read before Gatling's
    place = server.box.exec(["sh", "-c", f"echo /{KEPT}/shop/*"]).stdout.strip()
    theirs.write_text(
        "server { listen 443 ssl; server_name shop.example;"
        f" ssl_certificate {place}/chain.pem; ssl_certificate_key {place}/key.pem; }}\n"
    )
    refused = ann.run("certificates", "add", "shop", stdin=full(SECOND), status=Exit.HOST)
    assert "does not serve shop.example with the certificate, but with another one" in refused
    theirs.unlink()
    assert [one["id"] for one in ann.json("certificates", "list", "shop")] == [place[-32:]]
    server.box.exec(["systemctl", "reload", "nginx"])
    until(lambda: shown(server) == FIRST.der, "the certificate of before")


def test_a_reader_sees_them_and_changes_none(server: Server, shop: Checkout) -> None:
    reader = server.let_in("rita", "shop", role="reader")
    (one,) = reader.json("certificates", "list", "shop")
    reader.run("certificates", "remove", "shop", one["id"], status=Exit.REFUSED)
    reader.run("certificates", "add", "shop", stdin=full(SECOND), status=Exit.REFUSED)


def test_they_outlive_a_reboot_and_go_with_the_app(
    server: Server, ann: Person, shop: Checkout
) -> None:
    server.box.reboot()
    until(lambda: ask(server).status == 200, "the app over HTTPS")
    (one,) = ann.json("certificates", "list", "shop")
    said = ann.run("certificates", "remove", "shop", one["id"][:8], "--confirm", "shop")
    assert "Served over HTTP from now on: shop.example, www.shop.example" in said
    assert server.get(host="shop.example").status == 200
    with pytest.raises(ConnectionRefusedError):  # Gatling no longer listens there
        shown(server)
    ann.run("certificates", "add", "shop", stdin=full(FIRST))
    server.gatling("unload", "shop", "--confirm", "shop")
    assert list((server.box.root / KEPT).rglob("*.pem")) == []
