"""HTTPS by itself on a server: a CA in the box verifies domains, and certificates are renewed."""

from __future__ import annotations

import http.client
import json
import shutil
import ssl
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from gatling.errors import Exit
from tests.ca import pebble, unpacked
from tests.conftest import Answer, until
from tests.proxy import scan
from tests.proxy.authority import ROOT, certificate
from tests.secured import wrapped
from tests.server.host import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.server import Checkout, Person, Server

KEPT = "etc/gatling/certificates/shop"
CHALLENGES = "var/lib/gatling/challenges"
FIRST, SECOND, NOWHERE = "shop.example", "www.shop.example", "nowhere.example"
DIRECTORY, MANAGEMENT = "https://127.0.0.1:14000/dir", "https://127.0.0.1:15000"
UNITS = """\
[Service]
Environment=PEBBLE_VA_NOSLEEP=1 PEBBLE_WFE_NONCEREJECT=10
ExecStart={program}
"""


@dataclass
class Ca:
    """Pebble in the box, and its DNS server, which leads every name to the box."""

    server: Server

    def install(self, place: Path) -> None:
        box = self.server.box
        found, home = pebble.programs(), box.root / "etc/pebble"
        home.mkdir()
        for name in ("pebble", "pebble-challtestsrv"):
            shutil.copy(found / name, box.root / "usr/local/bin" / name)
        config = pebble.configuration(
            place, listen="127.0.0.1:14000", management="127.0.0.1:15000", http=80
        )
        for name, key in (("pebble.pem", "certificate"), ("pebble.key", "privateKey")):
            shutil.copy(place / name, home / name)
            config["pebble"][key] = f"/etc/pebble/{name}"
        (home / "pebble.json").write_text(json.dumps(config))
        (home / "root.pem").write_text(ROOT.pem)
        dns = (f"/usr/local/bin/pebble-challtestsrv -dnsserver 127.0.0.1:8053 -defaultIPv6= -doh="
               f" -http01= -https01= -tlsalpn01= -defaultIPv4={box.ip}")  # fmt: skip
        ca = "/usr/local/bin/pebble -config /etc/pebble/pebble.json -dnsserver 127.0.0.1:8053"
        for name, program in (("dns", dns), ("ca", ca)):
            unit = box.root / f"etc/systemd/system/test-{name}.service"
            unit.write_text(UNITS.format(program=program))
        with (box.root / "etc/hosts").open("a") as hosts:
            hosts.write(f"{box.ip} {FIRST} {SECOND} {pebble.BLOCKED}\n")
        box.exec(["systemctl", "daemon-reload"])
        self.start()

    def start(self) -> None:
        self.server.box.exec(["systemctl", "restart", "test-dns", "test-ca"])
        until(lambda: self.root().startswith("-----BEGIN"), "pebble")

    def signal(self, name: str) -> None:
        self.server.box.exec(["systemctl", "kill", f"--signal={name}", "test-ca"])

    def stop(self) -> None:
        self.server.box.exec(["systemctl", "stop", "test-ca"])

    def root(self) -> str:
        return self._curl("roots/0")

    def renew_now(self, pem: str) -> None:
        window = {"start": "2020-01-01T00:00:00Z", "end": "2020-01-02T00:00:00Z"}
        body = {"certificate": pem, "ariResponse": json.dumps({"suggestedWindow": window})}
        self._curl("set-renewal-info/", "--fail", "--data", json.dumps(body))

    def _curl(self, path: str, *options: str) -> str:
        argv = ["curl", "--silent", "--insecure", *options, f"{MANAGEMENT}/{path}"]
        return self.server.box.exec(argv, check=False).stdout


@pytest.fixture(scope="module")
def ca(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Ca:
    made = Ca(server)
    made.install(tmp_path_factory.mktemp("ca"))
    return made


@pytest.fixture(scope="module")
def account(server: Server, ca: Ca) -> str:
    return server.gatling(
        "certificates", "account", "--email", "ops@shop.example", "--directory", DIRECTORY,
        "--ca-file", "/etc/pebble/root.pem",
    )  # fmt: skip


def connected(server: Server, ca: Ca, host: str) -> ssl.SSLSocket:
    raw = server.box.bed.lan.connect(server.box.ip, 443, 10)
    return wrapped(raw, ssl.create_default_context(cadata=ca.root()), host)


def ask(server: Server, ca: Ca, host: str = FIRST) -> Answer:
    connection = http.client.HTTPConnection(server.box.ip, timeout=10)
    with closing(connection):
        connection.sock = connected(server, ca, host)
        connection.request("GET", "/", headers={"Host": host})
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read().decode())


def serves(server: Server, ca: Ca, host: str = FIRST) -> bool:
    with suppress(OSError):
        return ask(server, ca, host).status == 200
    return False


def shown(ann: Person) -> Any:
    return ann.json("certificates", "show", "shop")


def only(ann: Person) -> Any:
    (one,) = ann.json("certificates", "list", "shop")
    return one


def names(ann: Person) -> list[list[str]]:
    return [one["names"] for one in ann.json("certificates", "list", "shop")]


def is_other(ann: Person, before: str) -> bool:
    return before not in [one["id"] for one in ann.json("certificates", "list", "shop")]


def forget_pauses(server: Server) -> None:
    """As if the times until which Gatling waits were over."""
    program = (
        "import sqlite3; db = sqlite3.connect('/var/lib/gatling/home/state.db');"
        " db.execute('UPDATE issuance SET ask_at = 0, retry_at = 0, blocked_until = 0');"
        " db.commit()"
    )
    server.box.exec(["python3", "-c", program], user="gatling")


def test_without_an_account_nothing_is_asked(server: Server, ann: Person, shop: Checkout) -> None:
    assert "no account with a CA" in ann.run("certificates", "issue", "shop", status=Exit.INVALID)
    assert "being obtained" not in ann.run("domains", "add", "shop", FIRST)
    ann.run("domains", "remove", "shop", FIRST)
    assert "no account" in server.gatling("certificates", "renew", status=Exit.INVALID)
    server.box.exec(["systemctl", "start", "gatling-certificates.service"])


def test_a_domain_gets_https_by_itself(
    server: Server, ann: Person, shop: Checkout, ca: Ca, account: str
) -> None:
    assert DIRECTORY in account
    ann.run("certificates", "account", status=Exit.REFUSED)
    began = time.monotonic()
    assert "certificate for HTTPS is being obtained" in ann.run("domains", "add", "shop", FIRST)
    until(lambda: serves(server, ca), "HTTPS", 60)
    print(f"seconds from `domains add` to HTTPS: {time.monotonic() - began:.1f}")
    # workers of the configuration before may answer for a moment
    until(lambda: server.get("/a?b", host=FIRST).status == 308, "the redirect")
    answer = server.get("/a?b", host=FIRST)
    assert (answer.status, answer.headers["Location"]) == (308, f"https://{FIRST}/a?b")
    until(lambda: len(ann.json("certificates", "list", "shop")) == 1, "one certificate")
    one = only(ann)
    assert (one["domains"], one["obtained"], one["key"]) == ([FIRST], True, "ECDSA P-256")
    (key,) = (server.box.root / KEPT).rglob("key.pem")
    assert (key.stat().st_mode & 0o777, key.stat().st_uid) == (0o600, server.box.root.stat().st_uid)
    until(lambda: not list((server.box.root / CHALLENGES).iterdir()), "no token is left")
    state = shown(ann)
    assert (state["error"], state["automatic"], bool(state["renew_at"])) == ("", True, True)
    assert json.loads(ann.run("apps", "--json"))[0]["url"] == f"https://{FIRST}"


def test_a_scan_finds_mozillas_intermediate_profile(server: Server, shop: Checkout) -> None:
    program, _ = unpacked.program("sslscan", scan.PROGRAM)
    shutil.copy(program, server.box.root / "usr/local/bin/sslscan")
    said = server.box.exec(scan.arguments("/usr/local/bin/sslscan", "127.0.0.1", 443, FIRST)).stdout
    assert scan.deviations(scan.parsed(said)) == []


def test_another_domain_joins(server: Server, ann: Person, shop: Checkout, ca: Ca) -> None:
    before = only(ann)["id"]
    ann.run("domains", "add", "shop", SECOND)
    until(lambda: serves(server, ca, SECOND), "HTTPS of the second", 60)
    until(lambda: is_other(ann, before), "the first one is gone")
    assert only(ann)["domains"] == [FIRST, SECOND]
    assert ask(server, ca).status == 200
    assert len(list((server.box.root / KEPT).rglob("*.pem"))) == 2


def test_no_app_answers_a_challenge(server: Server, shop: Checkout) -> None:
    token = "a" * 43
    for path in (f"/.well-known/acme-challenge/{token}", "/.well-known/acme-challenge/"):
        assert server.get(path, host="shop.localhost").status == 404


def test_a_reader_sees_and_issues_nothing(server: Server, shop: Checkout) -> None:
    reader = server.let_in("rita", "shop", role="reader")
    assert reader.json("certificates", "show", "shop")["app"] == "shop"
    reader.run("certificates", "issue", "shop", status=Exit.REFUSED)
    reader.run("certificates", "renew", "shop", status=Exit.REFUSED)


def test_it_is_renewed_when_the_ca_says_so(
    server: Server, ann: Person, shop: Checkout, ca: Ca
) -> None:
    timer = server.show("gatling-certificates.timer", "ActiveState", "Persistent")
    assert timer == {"ActiveState": "active", "Persistent": "yes"}
    before = only(ann)["id"]
    server.box.exec(["systemctl", "start", "gatling-certificates.service"])
    assert only(ann)["id"] == before, "it is not due"
    ca.renew_now((server.box.root / KEPT / before / "chain.pem").read_text())
    server.box.exec(["systemctl", "start", "gatling-certificates.service"])
    assert only(ann)["id"] == before, "the CA is not asked again before it wants"
    forget_pauses(server)
    with server.box.client(host="shop.localhost") as client:
        server.box.exec(["systemctl", "start", "gatling-certificates.service"])
        assert only(ann)["id"] != before
    assert client.failures == []
    assert serves(server, ca)
    assert serves(server, ca, SECOND)


def test_a_domain_that_does_not_lead_here(
    server: Server, ann: Person, shop: Checkout, ca: Ca
) -> None:
    before = only(ann)["id"]
    ann.run("domains", "add", "shop", NOWHERE)
    until(lambda: shown(ann)["error"], "an error", 60)
    state = shown(ann)
    assert f"{NOWHERE} does not resolve" in state["error"]
    assert f"record for {NOWHERE}" in state["hint"]
    assert state["retry_at"]
    assert only(ann)["id"] == before, "the CA was not asked"
    assert "does not resolve" in server.gatling("server", "check", status=Exit.HOST)
    assert server.get(host=NOWHERE).status == 200, "it is served over HTTP"
    assert serves(server, ca)
    ann.run("domains", "remove", "shop", NOWHERE)
    until(lambda: not shown(ann)["error"], "no error", 60)


def timers(server: Server) -> list[str]:
    argv = ["systemctl", "list-units", "--plain", "--no-legend", "gatling-obtain-shop.later*.timer"]
    return [line.split()[0] for line in server.box.exec(argv).stdout.splitlines()]


def test_attempts_go_on_after_each_failure(
    server: Server, ann: Person, shop: Checkout, ca: Ca
) -> None:
    ann.run("domains", "add", "shop", NOWHERE)
    until(lambda: timers(server), "a timer", 60)
    for _ in range(3):
        (timer,) = before = timers(server)
        forget_pauses(server)
        server.box.exec(["systemctl", "start", timer.replace(".timer", ".service")], check=False)
        after = timers(server)
        assert len(after) == 1, "there is another attempt"
        assert after != before
    assert server.show("gatling-certificates.slice", "MemoryMax") == {"MemoryMax": str(512 << 20)}
    ann.run("domains", "remove", "shop", NOWHERE)
    until(lambda: not shown(ann)["error"], "no error", 60)


def test_a_ca_that_refuses(server: Server, ann: Person, shop: Checkout, ca: Ca) -> None:
    before = only(ann)["id"]
    ann.run("domains", "add", "shop", pebble.BLOCKED)
    until(lambda: "refused" in shown(ann)["error"], "an error", 60)
    assert pebble.BLOCKED in shown(ann)["error"]
    assert only(ann)["id"] == before
    assert serves(server, ca)
    said = ann.run("certificates", "issue", "shop")
    assert f"{FIRST}, {SECOND}: served over HTTPS." in said, "others have one all the same"
    assert "use another domain" in said
    assert only(ann)["id"] != before
    shop.title("pushed all the same")
    assert "v2" in shop.push()
    ann.run("domains", "remove", "shop", pebble.BLOCKED)
    until(lambda: not shown(ann)["error"], "no error", 60)


def test_a_ca_that_is_gone_and_comes_back_without_accounts(
    server: Server, ann: Person, shop: Checkout, ca: Ca
) -> None:
    root, before = ca.root(), only(ann)["id"]
    ca.stop()
    said = ann.run("certificates", "issue", "shop", status=Exit.HOST)
    assert "The CA 127.0.0.1 cannot be reached: Connection refused." in said
    context = ssl.create_default_context(cadata=root)
    raw = server.box.bed.lan.connect(server.box.ip, 443, 10)
    with context.wrap_socket(raw, server_hostname=FIRST):
        assert only(ann)["id"] == before
    ca.start()
    assert f"{FIRST}, {SECOND}: served over HTTPS." in ann.run("certificates", "issue", "shop")
    assert only(ann)["id"] != before
    assert serves(server, ca)
    assert not shown(ann)["error"]


def test_a_kill_leaves_what_serves(server: Server, ann: Person, shop: Checkout, ca: Ca) -> None:
    before = only(ann)["id"]
    ca.signal("SIGSTOP")
    server.box.exec(["systemd-run", "--quiet", "--unit=test-issue", "--uid=gatling",
                     "gatling", "certificates", "issue", "shop"])  # fmt: skip
    requested = server.box.root / KEPT / ".requested/key.pem"
    until(requested.exists, "a request", 60)
    assert requested.stat().st_mode & 0o777 == 0o600
    assert requested.parent.stat().st_mode & 0o777 == 0o700
    server.box.exec(["systemctl", "kill", "--signal=SIGKILL", "test-issue"])
    ca.signal("SIGCONT")
    assert only(ann)["id"] == before
    assert serves(server, ca)
    ann.run("certificates", "issue", "shop")
    assert only(ann)["id"] != before
    assert not requested.exists()


def test_a_wildcard_names_the_ways_to_a_certificate(
    server: Server, ann: Person, shop: Checkout, ca: Ca
) -> None:
    before = only(ann)["id"]
    assert "help certificates dns" in ann.run("domains", "add", "shop", f"*.{FIRST}")
    assert shown(ann)["unverifiable"] == [f"*.{FIRST}"]
    assert "help certificates dns" in ann.run("certificates", "show", "shop")
    program = server.box.root / "etc/gatling/records"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o777)
    said = server.gatling(
        "certificates", "dns", "--program", "/etc/gatling/records", status=Exit.INVALID
    )
    assert "can be written by users other than root" in said
    program.chmod(0o755)
    server.gatling("certificates", "dns", "--program", "/etc/gatling/records")
    ann.run("certificates", "dns", status=Exit.REFUSED)
    # the box has no name servers to ask for the zone, so that the program may not be run at all
    until(lambda: f"_acme-challenge.{FIRST}" in shown(ann)["error"], "an error", 60)
    assert only(ann)["id"] == before, "the CA was not asked"
    assert serves(server, ca)
    server.gatling("certificates", "dns", "--off")
    ann.run("domains", "remove", "shop", f"*.{FIRST}")
    until(lambda: not shown(ann)["error"], "no error", 60)


def test_an_app_may_be_left_out(server: Server, ann: Person, shop: Checkout, ca: Ca) -> None:
    before = only(ann)["id"]
    ann.run("settings", "set", "shop", "certificates.obtain=false")
    ann.run("domains", "add", "shop", NOWHERE)
    assert ann.run("certificates", "renew", "shop") == ""
    assert shown(ann)["automatic"] is False
    assert only(ann)["id"] == before
    ann.run("domains", "remove", "shop", NOWHERE)
    ann.run("settings", "unset", "shop", "certificates.obtain")


def test_the_check_may_be_left_out(server: Server, ann: Person, shop: Checkout, ca: Ca) -> None:
    ann.run("settings", "set", "shop", "certificates.check=false")
    ann.run("domains", "add", "shop", NOWHERE)  # which the CA finds, but the server does not
    until(lambda: serves(server, ca, NOWHERE), "HTTPS", 60)
    ann.run("settings", "unset", "shop", "certificates.check")
    ann.run("domains", "remove", "shop", NOWHERE)
    until(lambda: names(ann) == [[FIRST, SECOND]], "a certificate without it", 60)


def test_one_of_your_own_comes_first(server: Server, ann: Person, shop: Checkout, ca: Ca) -> None:
    own = certificate(FIRST)
    ann.run("certificates", "add", "shop", stdin=own.both)
    ann.run("certificates", "issue", "shop")
    kept = {tuple(one["domains"]): one for one in ann.json("certificates", "list", "shop")}
    assert kept[(FIRST,)]["obtained"] is False
    assert kept[(SECOND,)]["obtained"] is True
    ann.run("certificates", "remove", "shop", kept[(FIRST,)]["id"], "--confirm", "shop")
    ann.run("certificates", "renew", "shop")
    until(lambda: serves(server, ca), "HTTPS")
    assert only(ann)["domains"] == [FIRST, SECOND]


def test_https_goes_along_with_a_domain(
    server: Server, ann: Person, shop: Checkout, ca: Ca
) -> None:
    def spare() -> list[list[str]]:
        listed = json.loads(server.gatling("certificates", "list", "spare", "--json"))
        return [one["names"] for one in listed]

    server.gatling("load", "spare")
    server.gatling("domains", "add", "spare", SECOND, "--from", "shop")
    connected(server, ca, SECOND).close()
    until(lambda: spare() == [[SECOND]] and names(ann) == [[FIRST]], "one for each", 60)
    connected(server, ca, SECOND).close()
    server.gatling("domains", "add", "shop", SECOND, "--from", "spare")
    connected(server, ca, SECOND).close()
    until(lambda: names(ann) == [[FIRST, SECOND]] and spare() == [], "one for both", 60)
    assert serves(server, ca, SECOND)
    server.gatling("unload", "spare", "--confirm", "spare")
    assert not (server.box.root / KEPT).with_name("spare").exists()


def test_an_address_gets_https_as_well(server: Server, ann: Person, shop: Checkout, ca: Ca) -> None:
    """The network of the boxes is none of the internet's, but the CA is the operator's own."""
    address = server.box.ip
    assert "is being obtained" in ann.run("domains", "add", "shop", address)
    until(lambda: serves(server, ca, address), "HTTPS of the address", 60)
    assert serves(server, ca, SECOND)
    ann.run("domains", "remove", "shop", address)
    until(lambda: names(ann) == [[FIRST, SECOND]], "a certificate without it", 60)
    with pytest.raises(OSError, match="unrecognized name"):
        connected(server, ca, address)


def test_an_ipv6_address_gets_https_as_well(
    server: Server, ann: Person, shop: Checkout, ca: Ca
) -> None:
    address = "fd00:67:61::5"  # of a private network (RFC 4193); CA and client are in the box
    box = server.box
    run("ip", "-n", box.bed.lan.namespace(box.number),
        "addr", "add", f"{address}/64", "dev", "host0", "nodad")  # fmt: skip
    assert "is being obtained" in ann.run("domains", "add", "shop", f"[{address.upper()}]")
    (box.root / "etc/pebble/issuer.pem").write_text(ca.root())

    def asked() -> str:
        argv = ["curl", "--silent", "--show-error", "--cacert", "/etc/pebble/issuer.pem",
                "--write-out", "%{http_code}", "--output", "/dev/null"]  # fmt: skip
        return box.exec([*argv, f"https://[{address}]/"], check=False).stdout

    until(lambda: asked() == "200", "HTTPS of the address", 60)
    redirected = box.exec(["curl", "--silent", "--head", f"http://[{address}]/a"]).stdout
    assert f"https://[{address}]/a" in redirected
    assert serves(server, ca, SECOND)
    ann.run("domains", "remove", "shop", address)
    until(lambda: names(ann) == [[FIRST, SECOND]], "a certificate without it", 60)


def test_it_goes_with_its_domains(server: Server, ann: Person, shop: Checkout, ca: Ca) -> None:
    ann.run("domains", "remove", "shop", SECOND)
    until(lambda: names(ann) == [[FIRST]], "a certificate without it", 60)
    ann.run("domains", "remove", "shop", FIRST)
    # the command that obtained the last one may be about to end
    until(lambda: ann.json("certificates", "list", "shop") == [], "no certificate", 60)
    assert list((server.box.root / KEPT).rglob("*.pem")) == []
    server.gatling("unload", "shop", "--confirm", "shop")
    assert not (server.box.root / KEPT).exists()
