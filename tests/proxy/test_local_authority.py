"""The authority of a home: what clients accept of it, what it cannot do, and when it is asked."""

from __future__ import annotations

import ssl
import stat
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from gatling.errors import InvalidInput
from gatling.proxy import certificates, local_authority, local_issuing, x509

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.proxy.certificates import Certificate
    from gatling.proxy.local_authority import Authority

NOW = time.time()
DAY = 86400


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("home") / "authority"
    domains = local_authority.limits(["shop.localhost", "*.shop.example.com"])
    local_issuing.create(directory, "anna@laptop", domains, NOW)
    return directory


def found(directory: Path) -> Authority:
    authority = local_authority.find(directory)
    assert authority is not None
    return authority


def issued(directory: Path, *domains: str, now: float = NOW) -> Certificate:
    return local_issuing.issue(directory, domains, now)[0]


def shake_hands(trusted: Path, chain: Path, key: Path, name: str) -> None:
    """A handshake in memory by the strictest rules that Python's ssl has (RFC 5280)."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain, key)
    client = ssl.create_default_context(cafile=str(trusted))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(back, there, server_hostname=name),
        server.wrap_bio(there, back, server_side=True),
    ]
    while ends:
        for end in list(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                pass


@pytest.mark.parametrize(
    ("names", "asked", "refused"),
    [
        (["shop.localhost"], "shop.localhost", ""),
        (["shop.localhost", "shop.test"], "shop.test", ""),
        (["*.shop.localhost"], "a.shop.localhost", ""),
        (["shop.example.com", "www.shop.example.com"], "www.shop.example.com", ""),
        (["shop.localhost"], "blog.localhost", "Hostname mismatch"),
        (["example.com"], "example.com", "permitted subtree violation"),
        (["blog.example.com"], "blog.example.com", "permitted subtree violation"),
        (["shop.localhost", "bank.example"], "shop.localhost", "permitted subtree violation"),
    ],
)
def test_clients_accept_the_names_within_the_limits_alone(
    directory: Path, tmp_path: Path, names: list[str], asked: str, refused: str
) -> None:
    _, chain, key = local_issuing.issue(directory, names, NOW)
    (tmp_path / "chain.pem").write_bytes(chain)
    (tmp_path / "key.pem").write_bytes(key)
    files = (directory / "certificate.pem", tmp_path / "chain.pem", tmp_path / "key.pem")
    if refused:
        with pytest.raises(ssl.SSLCertVerificationError, match=refused):
            shake_hands(*files, asked)
    else:
        shake_hands(*files, asked)


def test_what_the_certificate_of_the_authority_says(directory: Path) -> None:
    text = subprocess.run(
        ["openssl", "x509", "-noout", "-text", "-in", str(directory / "certificate.pem")],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    lines = [line.strip() for line in text.splitlines()]
    for what, said in (
        ("X509v3 Basic Constraints: critical", "CA:TRUE, pathlen:0"),
        ("X509v3 Key Usage: critical", "Certificate Sign, CRL Sign"),
        ("X509v3 Extended Key Usage:", "TLS Web Server Authentication"),
        ("X509v3 Name Constraints: critical", "Permitted:"),
    ):
        assert lines[lines.index(what) + 1] == said
    permitted = lines[lines.index("Permitted:") + 1 :][:5]
    assert permitted[:3] == ["DNS:localhost", "DNS:test", "DNS:shop.example.com"]
    assert permitted[3] == "IP:127.0.0.0/255.0.0.0"
    assert "ASN1 OID: prime256v1" in lines
    authority = found(directory)
    assert authority.not_after - authority.not_before == 3650 * DAY
    assert authority.fingerprint.replace(":", "").lower().startswith(authority.id)


def test_only_the_owner_reads_the_keys(directory: Path, tmp_path: Path) -> None:
    certificate, chain, key = local_issuing.issue(directory, ["shop.localhost"], NOW)
    certificates.add(tmp_path, "shop", certificate, chain, key)
    for file in (directory / "key.pem", tmp_path / "shop" / certificate.id / "key.pem"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_certificate_is_what_it_is_described_as(directory: Path) -> None:
    certificate, chain, key = local_issuing.issue(directory, ["shop.localhost"], NOW)
    read = x509.read(chain + key, NOW).certificate
    assert (read.id, read.names, read.key) == (certificate.id, certificate.names, certificate.key)
    assert (read.not_before, read.not_after) == (certificate.not_before, certificate.not_after)
    assert certificate.not_after - certificate.not_before == 90 * DAY


def test_limits_name_what_no_other_limit_includes() -> None:
    assert local_authority.limits([]) == ("localhost", "test")
    domains = ["a.localhost", "www.shop.de", "shop.de", "*.blog.org", "x.test", "myshop.de"]
    assert local_authority.limits(domains) == (
        "localhost", "test", "blog.org", "myshop.de", "shop.de",
    )  # fmt: skip


def test_when_a_certificate_is_due(directory: Path) -> None:
    authority = found(directory)
    domains = ["shop.localhost", "shop.example.com", "other.example"]
    wanted = domains[:2]  # the third is not the authority's to vouch for
    assert local_authority.due(authority, [], domains, NOW) == wanted
    one = issued(directory, *wanted)

    def due(kept: Certificate = one, names: list[str] = domains, days: float = 0) -> list[str]:
        return local_authority.due(authority, [kept], names, NOW + days * DAY)

    assert due() == []
    assert due(days=59) == []
    assert due(days=61) == wanted  # a third of 90 days is left
    assert due(days=-2) == wanted  # the clock was wrong when it was made
    assert due(names=["shop.localhost"]) == ["shop.localhost"]
    assert due(names=[*domains, "www.shop.test"]) == [*wanted, "www.shop.test"]
    assert due(one._replace(issuer="Gatling local authority 0")) == wanted
    own = one._replace(obtained=False, names=("shop.localhost",))
    assert local_authority.due(authority, [own], domains, NOW) == ["shop.example.com"]
    assert local_authority.due(authority, [own], domains[:1], NOW) == []
    expired = own._replace(not_after=int(NOW) - 1)
    assert local_authority.due(authority, [expired], domains[:1], NOW) == ["shop.localhost"]


def test_a_certificate_ends_with_its_authority(directory: Path) -> None:
    authority = found(directory)
    late = issued(directory, "shop.localhost", now=authority.not_after - DAY)
    assert late.not_after == authority.not_after
    early = issued(directory, "shop.localhost", now=authority.not_before)
    assert early.not_before == authority.not_before
    assert authority.is_valid(NOW)
    assert not authority.is_valid(authority.not_before - 1)
    assert not authority.is_valid(authority.not_after + 1)


def test_another_authority_takes_the_place_whole(tmp_path: Path) -> None:
    directory = tmp_path / "authority"
    assert local_authority.find(directory) is None
    first = local_issuing.create(directory, "anna@laptop", ["localhost"], NOW)
    (tmp_path / ".authority.new").mkdir()  # a command was killed
    second = local_issuing.create(directory, "anna@laptop" * 9, ["localhost", "a.de"], NOW)
    assert local_authority.find(directory) == second != first
    assert [entry.name for entry in tmp_path.iterdir()] == ["authority"]
    assert issued(directory, "a.de").issuer == second.name


@pytest.mark.parametrize("damage", ["", "-----BEGIN PRIVATE KEY-----\n", "another"])
def test_damaged_files_are_named(tmp_path: Path, damage: str) -> None:
    directory = tmp_path / "authority"
    local_issuing.create(directory, "anna@laptop", ["localhost"], NOW)
    if damage == "another":
        local_issuing.create(tmp_path / "other", "anna@laptop", ["localhost"], NOW)
        damage = (tmp_path / "other" / "key.pem").read_text()
    (directory / "key.pem").write_text(damage)
    with pytest.raises(InvalidInput, match="are damaged"):
        issued(directory, "shop.localhost")
