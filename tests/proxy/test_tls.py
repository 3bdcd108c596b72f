"""HTTPS by a real nginx: which certificate is shown, what is redirected, and how TLS is spoken."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from gatling.project.proxy import Options, Wishes
from gatling.proxy import certificates, x509
from gatling.proxy.route import point_at
from gatling.proxy.site import Site
from tests.proxy import scan
from tests.proxy.authority import INTERMEDIATE, ROOT, certificate
from tests.proxy.bench import App, Bench
from tests.secured import wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator

SHOP = certificate("shop.example", "www.shop.example", "*.shop.example", by=INTERMEDIATE)
BLOG = certificate("blog.example", by=INTERMEDIATE)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    root = tmp_path_factory.mktemp("nginx")
    bench, app = Bench(root, tls=True), App()
    kept = root / "certificates"
    sites = []
    for name, domains, issued, options in (
        ("shop", ("shop.example", "www.shop.example", "*.shop.example", "plain.example"), SHOP,
         Options(redirect_www="to-apex", hsts=600)),
        ("blog", ("blog.example",), BLOG, Options(https="off")),
    ):  # fmt: skip
        pair = x509.read((issued.both + INTERMEDIATE.pem).encode(), time.time())
        certificates.add(kept, name, pair.certificate, pair.chain, pair.key)
        point_at(root / name, 1, mode=0o755)
        chosen = certificates.chosen([pair.certificate], domains, time.time())
        places = {domain: kept / name / one.id for domain, one in chosen.items()}
        ports = {1: app.port, 2: app.port}
        sites.append(Site(name, domains, ports, root / name, Wishes(options), places))
    bench.configure(sites)
    with bench.running(), contextlib.closing(app):
        yield bench


def trusting(**kwargs: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=ROOT.pem)
    for name, version in kwargs.items():
        setattr(context, name, version)
    return context


def connect(bench: Bench, host: str, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", bench.tls_port), timeout=10)
    return wrapped(raw, context or trusting(), host)


def ask(bench: Bench, host: str, path: str = "/", *, tls: bool = True) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", bench.port, timeout=10)
    if tls:
        connection.sock = connect(bench, host)
    connection.request("GET", path, headers={"Host": host, "Connection": "close"})
    answer = connection.getresponse()
    answer.msg.set_payload(answer.read().decode())
    return answer


def test_each_domain_has_its_certificate_with_its_chain(bench: Bench) -> None:
    for host, issued in (("shop.example", SHOP), ("a.shop.example", SHOP), ("blog.example", BLOG)):
        with connect(bench, host) as secured:  # trusts the root alone, and checks the name
            assert secured.getpeercert(binary_form=True) == issued.der


@pytest.mark.parametrize("host", ["plain.example", "unknown.example"])
def test_who_has_no_certificate_is_shown_none_of_another(bench: Bench, host: str) -> None:
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        connect(bench, host)


def test_the_app_is_told_the_scheme_and_the_port(bench: Bench) -> None:
    head = str(ask(bench, "shop.example").msg.get_payload())
    assert "X-Forwarded-Proto: https" in head
    assert "X-Forwarded-Port: 443" in head
    assert "Host: shop.example" in head


def test_http_is_sent_to_https_where_there_is_a_certificate(bench: Bench) -> None:
    answer = ask(bench, "shop.example", "/a?b=c", tls=False)
    assert answer.status == 308
    assert answer.headers["Location"] == f"https://shop.example:{bench.tls_port}/a?b=c"
    assert ask(bench, "plain.example", tls=False).status == 200
    assert ask(bench, "blog.example", tls=False).status == 200, "https = off"
    assert ask(bench, "blog.example").status == 200


def test_www_goes_to_the_apex_by_https(bench: Bench) -> None:
    for tls in (True, False):
        answer = ask(bench, "www.shop.example", "/a", tls=tls)
        assert answer.status == 308
        assert answer.headers["Location"] == f"https://shop.example:{bench.tls_port}/a"


def test_hsts_is_said_over_https_only_and_where_it_is_asked_for(bench: Bench) -> None:
    header = "Strict-Transport-Security"
    for path in ("/", "/hangup"):  # the app's answer, and nginx' own page
        assert ask(bench, "shop.example", path).headers[header] == "max-age=600"
    assert ask(bench, "www.shop.example").headers[header] == "max-age=600"
    assert ask(bench, "plain.example", tls=False).headers[header] is None
    assert ask(bench, "blog.example").headers[header] is None


def test_a_websocket(bench: Bench) -> None:
    with connect(bench, "shop.example") as secured:
        secured.sendall(
            b"GET /upgrade HTTP/1.1\r\nHost: shop.example:8443\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nOrigin: https://shop.example:8443\r\n\r\n"
        )
        answer = b""
        while piece := secured.recv(4096):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert answer.endswith(b"hello")


def test_http_2(bench: Bench) -> None:
    done = subprocess.run(
        ["curl", "--silent", "--insecure", "--http2", "--write-out", "%{json}", "--output",
         "/dev/null", "--connect-to", f"shop.example:443:127.0.0.1:{bench.tls_port}",
         "https://shop.example/"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    said = json.loads(done.stdout)
    assert (said["http_version"], said["http_code"]) == ("2", 200)


def test_old_versions_and_ciphers_are_refused(bench: Bench) -> None:
    with connect(bench, "shop.example") as secured:
        assert secured.version() == "TLSv1.3"
    two = trusting(maximum_version=ssl.TLSVersion.TLSv1_2)
    with connect(bench, "shop.example", two) as secured:
        cipher = secured.cipher()
        assert cipher
        assert cipher[0].startswith("ECDHE-ECDSA-")
    two.set_ciphers("AES128-SHA:ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        connect(bench, "shop.example", two)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        one = trusting(
            minimum_version=ssl.TLSVersion.TLSv1_1, maximum_version=ssl.TLSVersion.TLSv1_1
        )
    one.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        connect(bench, "shop.example", one)


@pytest.mark.parametrize("host", ["shop.example", "blog.example"])
def test_a_scan_finds_mozillas_intermediate_profile(bench: Bench, host: str) -> None:
    found = scan.scanned("127.0.0.1", bench.tls_port, host)
    assert scan.deviations(found) == []
    assert len(list(found.iter("cipher"))) >= 6


def test_deviations_from_the_profile_are_found() -> None:
    found = scan.parsed(
        """<document><ssltest>
        <protocol type="tls" version="1.1" enabled="1"/>
        <protocol type="tls" version="1.3" enabled="1"/>
        <renegotiation supported="1"/><compression supported="0"/>
        <cipher cipher="ECDHE-ECDSA-AES128-SHA"/><cipher cipher="TLS_AES_128_GCM_SHA256"/>
        <group name="x25519"/><group name="secp521r1 (NIST P-521)"/>
        </ssltest></document>"""
    )
    assert scan.deviations(found) == [
        "protocol TLSv1.1", "protocol TLSv1.2", "cipher ECDHE-ECDSA-AES128-SHA",
        "group secp521r1 (NIST P-521)", "renegotiation",
    ]  # fmt: skip
