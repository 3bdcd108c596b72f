"""DNS-01 with a real CA, pebble, and a real DNS server, Knot."""

from __future__ import annotations

import os
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from msgspec import structs

from gatling.errors import CertificateFailed, InvalidInput
from gatling.operations import reachability
from gatling.operations.dns import _place
from gatling.proxy import dns, requests
from gatling.proxy.authority import Authority, new_key
from gatling.proxy.challenges import HttpChallenge
from gatling.state.issuance import Account, Dns
from tests.ca import knot, pebble
from tests.ca.front import serving
from tests.proxy.authority import ROOT
from tests.proxy.bench import Bench, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gatling.proxy.challenges import Challenge
    from tests.ca.knot import Knot

ZONES = {
    "shop.example": ("ns1",),
    "acme.example": ("ns1",),
    "late.example": ("ns1", "ns2"),
    "silent.example": ("ns1", "ns3"),
}
CHALLENGE = "_acme-challenge.shop.example."


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Knot]:
    with knot.running(tmp_path_factory.mktemp("knot"), ZONES) as made:
        yield made


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with serving(tmp_path_factory.mktemp("nginx"), "www.shop.example") as bench:
        yield bench


@pytest.fixture(scope="module")
def authority(
    server: Knot, bench: Bench, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Authority]:
    names = f"127.0.0.1:{server.port}"
    with pebble.running(tmp_path_factory.mktemp("ca"), bench.port, names=names) as ca:
        made = Account(email="ops@shop.example", directory=ca.directory, key=new_key(), uri="",
                       trusted=ROOT.pem)  # fmt: skip
        yield Authority(structs.replace(made, uri=Authority(made).register(made.email)))


@pytest.fixture
def given(server: Knot) -> Dns:
    name, algorithm, secret = dns.parsed_key(knot.TSIG)
    return Dns(server="127.0.0.1", port=server.port, key=name, algorithm=algorithm, secret=secret)


@pytest.fixture
def lookup(server: Knot) -> dns.Lookup:
    return dns.Lookup(server.resolver(), server.port)


def test_a_wildcard_by_updates_beside_names_over_http(
    authority: Authority, given: Dns, lookup: dns.Lookup, server: Knot, bench: Bench
) -> None:
    by_dns = dns.DnsChallenge(dns.Updates(given), lookup)
    http = HttpChallenge(bench.root / "challenges")
    seen: list[tuple[str, list[str]]] = []

    def ways(name: str) -> Challenge:
        seen.append((name, server.texts(CHALLENGE)))
        return http if name.startswith("www.") else by_dns

    names = ("shop.example", "*.shop.example", "www.shop.example")
    dns.Updates(given).add(CHALLENGE, "of-somebody-else")
    key, request = requests.new(names)
    chain = authority.certificate(request.decode(), ways)
    pair = requests.answered(chain.encode(), key, names, time.time())
    assert set(pair.certificate.names) == set(names)
    assert {name for name, _ in seen} == set(names)
    # one name has the records of two domains, and what others wrote stays
    assert max(len(texts) for _, texts in seen) >= 2
    assert server.texts(CHALLENGE) == ["of-somebody-else"]
    assert list((bench.root / "challenges").iterdir()) == []
    dns.Updates(given).remove(CHALLENGE, "of-somebody-else")


def test_a_name_whose_records_are_elsewhere(
    authority: Authority, given: Dns, lookup: dns.Lookup, server: Knot
) -> None:
    names = ("alias.shop.example",)
    there = "alias.elsewhere.shop.example."
    assert lookup.target("_acme-challenge.alias.shop.example.") == there
    key, request = requests.new(names)
    by_dns = dns.DnsChallenge(dns.Updates(given), lookup)
    chain = authority.certificate(request.decode(), lambda _: by_dns)
    requests.answered(chain.encode(), key, names, time.time())
    assert server.texts(there) == []
    by_dns.present("far.shop.example", "t", "answer")  # in another zone; pebble has no resolver
    by_dns.settle()
    assert len(server.texts("far.acme.example.")) == 1
    by_dns.withdraw("far.shop.example", "t")
    assert server.texts("far.acme.example.") == []
    with pytest.raises(CertificateFailed, match=r"round\.shop\.example"):
        lookup.target("_acme-challenge.round.shop.example.")


PROGRAM = """\
#!{python}
import os, sys
verb, name, value = sys.argv[1:]
open({log!r}, "a").write(f"{{verb}} {{name}} {{sorted(os.environ)}} {{os.getcwd()}}\\n")
import dns.query, dns.tsig, dns.update
zone = "shop.example"
update = dns.update.UpdateMessage(zone, keyring=dns.tsig.Key("gatling", {key!r}, "hmac-sha256"))
if verb == "present":
    update.add(name, 60, "TXT", value)
elif verb == "cleanup":
    update.delete(name, "TXT", value)
assert dns.query.tcp(update, "127.0.0.1", 5, {port}).rcode() == 0
"""


def test_a_program_writes_the_records(
    authority: Authority, lookup: dns.Lookup, server: Knot, tmp_path: Path
) -> None:
    log, program = tmp_path / "log", tmp_path / "records"
    program.write_text(
        PROGRAM.format(python=sys.executable, log=str(log), key=knot.KEY, port=server.port)
    )
    program.chmod(0o755)
    names = ("*.blog.shop.example",)
    key, request = requests.new(names)
    by_dns = dns.DnsChallenge(dns.Program(str(program)), lookup)
    chain = authority.certificate(request.decode(), lambda _: by_dns)
    requests.answered(chain.encode(), key, names, time.time())
    name = "_acme-challenge.blog.shop.example."
    said = log.read_text().splitlines()
    assert [line.split()[:2] for line in said] == [["present", name], ["cleanup", name]]
    assert all("'HOME', 'LANG'" in line and line.endswith(" /") for line in said)
    assert "GATLING" not in log.read_text()
    assert server.texts(name) == []


def test_a_program_that_fails_is_named_with_what_it_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "records"
    program.write_text("#!/bin/sh\necho no such token >&2\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(CertificateFailed, match=r"status 3\. It printed: no such token") as caught:
        dns.Program(str(program)).add("_acme-challenge.a.example.", "x")
    assert "present _acme-challenge.a.example. test" in caught.value.hint
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(dns, "PROGRAM_SECONDS", 0.3)
    with pytest.raises(CertificateFailed, match="did not end within"):
        dns.Program(str(program)).remove("_acme-challenge.a.example.", "x")


def test_a_program_that_others_can_change_is_not_run(tmp_path: Path) -> None:
    program = tmp_path / "records"
    program.write_text("#!/bin/sh\n")
    with pytest.raises(InvalidInput, match="not an executable"):
        dns.checked_program(str(program))
    program.chmod(0o775)
    with pytest.raises(InvalidInput, match="can be written by users other than root"):
        dns.checked_program(str(program))
    program.chmod(0o755)
    assert dns.checked_program(str(program)) == str(program)
    tmp_path.chmod(0o777)
    with pytest.raises(InvalidInput, match="can be written by users other than root"):
        dns.checked_program(str(program))
    tmp_path.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(program, 65534, 65534)
        with pytest.raises(InvalidInput, match="can be written"):
            dns.checked_program(str(program))
    for wrong in ("records", "", str(tmp_path / "none"), "/dev/null", str(tmp_path), "a\0b"):
        with pytest.raises(InvalidInput):
            dns.checked_program(wrong)


@pytest.mark.parametrize(
    ("changed", "name", "said", "hint"),
    [
        ({"secret": "AAAAAAAAAAAAAAAAAAAAAAAA"}, CHALLENGE, "key gatling is not", "key again"),
        ({"key": "other"}, CHALLENGE, "key other is not", "key again"),
        ({}, "_acme-challenge.other.example.", "did not have the zone", "primary server"),
        ({"server": "ns.invalid"}, CHALLENGE, "took no update: ", "TCP"),
    ],
)  # fmt: skip
def test_an_update_that_is_refused_says_why(
    given: Dns, changed: dict[str, str], name: str, said: str, hint: str
) -> None:
    with pytest.raises(CertificateFailed, match=said) as caught:
        dns.Updates(structs.replace(given, **changed)).add(name, "x")
    assert hint in caught.value.hint
    assert given.secret not in f"{caught.value.what}{caught.value.hint}"


def test_whether_records_can_be_written_is_known_before_the_ca_is_asked(
    given: Dns, lookup: dns.Lookup, server: Knot
) -> None:
    good = dns.DnsChallenge(dns.Updates(given), lookup)
    wrong = dns.DnsChallenge(dns.Updates(structs.replace(given, key="other")), lookup)
    missing = dns.DnsChallenge(dns.Program("/etc/gatling/none"), lookup)
    ways = {"*.shop.example": good, "shop.example": wrong, "www.shop.example": missing}
    found = reachability.faults_of_records(list(ways), ways.__getitem__)
    assert set(found) == {"shop.example", "www.shop.example"}
    assert server.texts(CHALLENGE) == []
    assert "key other is not" in found["shop.example"].what
    assert "There is no program" in found["www.shop.example"].what


def test_silent_servers_take_no_longer_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a hostile zone: a deployer may choose any domain."""
    lookup, asked, now = dns.Lookup(), [], 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    def silent(_: object, address: str, *__: object) -> None:
        asked.append(address)
        sleep(0.02)
        raise TimeoutError

    monkeypatch.setattr(dns, "time", SimpleNamespace(monotonic=lambda: now, sleep=sleep))

    many = {f"ns{n}.example": ["192.0.2.1", "192.0.2.2"] for n in range(16)}
    monkeypatch.setattr(lookup, "_servers", lambda _: many)
    monkeypatch.setattr("dns.query.udp_with_fallback", silent)
    records = [(f"_acme-challenge.d{n}.example.", "x") for n in range(100)]
    with pytest.raises(CertificateFailed, match="did not have it"):
        lookup.wait(records, seconds=0.2)
    assert now < 0.3
    assert len(asked) < 12

    def slowly(_: str) -> dict[str, list[str]]:
        sleep(0.1)
        return many

    monkeypatch.setattr(lookup, "_servers", slowly)
    with pytest.raises(CertificateFailed, match=r"name servers of .* no answer in time"):
        lookup.wait(records, seconds=0.2)


def test_records_that_take_too_long_are_not_all_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(reachability, "RECORDS_SECONDS", 0.05)
    monkeypatch.setattr(reachability, "time", SimpleNamespace(monotonic=lambda: now))

    class Slow:
        kind = "dns-01"

        def present(self, *_: str) -> None:
            nonlocal now
            now += 0.1

        settle = withdraw = lambda *_: None

    found = reachability.faults_of_records(["a.example", "b.example"], lambda _: Slow())
    assert set(found) == {"b.example"}
    assert "was not checked" in found["b.example"].what


def test_a_server_that_is_off(given: Dns) -> None:
    with pytest.raises(CertificateFailed, match="Connection refused"):
        dns.Updates(structs.replace(given, port=free_port())).add(CHALLENGE, "x")


def test_all_servers_of_the_zone_need_the_record(
    server: Knot, given: Dns, lookup: dns.Lookup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns, "PAUSE_SECONDS", 0.2)
    name, updates = "_acme-challenge.late.example.", dns.Updates(given)
    updates.add(name, "here")
    late = {"late.example": ("ns1", "ns2")}
    with knot.running(tmp_path, late, "127.0.0.2", server.port) as second:
        with pytest.raises(CertificateFailed, match=r"but ns2\.late\.example did not") as caught:
            lookup.wait([(name, "here")], seconds=2)
        assert "dig TXT" in caught.value.hint
        dns.Updates(structs.replace(given, server=second.address)).add(name, "here")
        lookup.wait([(name, "here")], seconds=20)
    updates.remove(name, "here")


def test_a_server_that_never_answers_does_not_count(
    given: Dns, lookup: dns.Lookup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns, "PAUSE_SECONDS", 0.2)
    name = "_acme-challenge.silent.example."
    dns.Updates(given).add(name, "here")
    lookup.wait([(name, "here")], seconds=2)
    with pytest.raises(CertificateFailed, match=r"ns1\.silent\.example"):
        lookup.wait([(name, "other")], seconds=0.5)


def test_no_resolver_answers(server: Knot) -> None:
    resolver = server.resolver()
    resolver.port, resolver.lifetime = free_port(), 0.5
    with pytest.raises(CertificateFailed, match=r"of _acme-challenge\.a\.example cannot be found"):
        dns.Lookup(resolver).target("_acme-challenge.a.example.")


@pytest.mark.parametrize(
    "text",
    [
        knot.TSIG,
        f"# made by hand\nkey gatling. {{ algorithm HMAC-SHA256; secret {knot.KEY}; }};",
        f"key:\n  - id: gatling\n    algorithm: hmac-sha256\n    secret: {knot.KEY}\n",
    ],
)
def test_keys_of_both_servers_are_read(text: str) -> None:
    assert dns.parsed_key(text) == ("gatling", "hmac-sha256", knot.KEY)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no key"),
        (knot.TSIG.replace("hmac-sha256", "hmac-md5"), "algorithm is not"),
        (knot.TSIG.replace(knot.KEY, "c2hvcnQ="), "128 bits"),
        (knot.TSIG.replace(knot.KEY, "YQ=A"), "128 bits"),
        (knot.TSIG.replace('"gatling"', "../x"), "damaged"),
    ],
)
def test_a_text_that_is_no_key(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        dns.parsed_key(text)
    assert knot.KEY not in f"{caught.value.what}{caught.value.hint}"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("ns1.example.com", ("ns1.example.com", 53)), ("192.0.2.1:5353", ("192.0.2.1", 5353)),
        ("[2001:db8::1]", ("2001:db8::1", 53)), ("[::1]:54", ("::1", 54)),
    ],
)  # fmt: skip
def test_where_a_server_is(text: str, place: tuple[str, int]) -> None:
    assert _place(text) == place


@pytest.mark.parametrize("text", ["", ":53", "a b", "ns1:0", "ns1:70000", "http://x", "[]", "-x"])
def test_what_is_no_server(text: str) -> None:
    with pytest.raises(InvalidInput):
        _place(text)
