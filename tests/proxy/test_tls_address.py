"""An app that is served over HTTPS at an IP address, which clients do not name in TLS."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import time
from typing import TYPE_CHECKING

import pytest

from gatling.proxy import certificates, x509
from gatling.proxy.route import point_at
from gatling.proxy.site import Site
from tests.proxy.authority import INTERMEDIATE, ROOT, certificate
from tests.proxy.bench import App, Bench

if TYPE_CHECKING:
    from collections.abc import Iterator

ADDRESS = "127.0.0.1"
SHOP = certificate("shop.example", by=INTERMEDIATE)
AT_ADDRESS = certificate(ADDRESS, by=INTERMEDIATE)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    root = tmp_path_factory.mktemp("nginx")
    bench, app = Bench(root, tls=True), App()
    places = {}
    for domain, issued in (("shop.example", SHOP), (ADDRESS, AT_ADDRESS)):
        pair = x509.read((issued.both + INTERMEDIATE.pem).encode(), time.time())
        certificates.add(root / "kept", "shop", pair.certificate, pair.chain, pair.key)
        places[domain] = root / "kept/shop" / pair.certificate.id
    point_at(root / "shop", 1, mode=0o755)
    ports = {1: app.port, 2: app.port}
    bench.configure([Site("shop", tuple(places), ports, root / "shop", certificates=places)])
    with bench.running(), contextlib.closing(app):
        yield bench


def answer(bench: Bench, name: str, host: str) -> tuple[bytes | None, http.client.HTTPResponse]:
    """The certificate that is shown, and the answer; certificates of any name are trusted."""
    context = ssl.create_default_context(cadata=ROOT.pem)
    context.check_hostname = name == host
    raw = socket.create_connection((ADDRESS, bench.tls_port), timeout=10)
    connection = http.client.HTTPConnection(host, bench.tls_port, timeout=10)
    connection.sock = secured = context.wrap_socket(raw, server_hostname=name)
    shown = secured.getpeercert(binary_form=True)
    with contextlib.closing(connection):
        connection.request("GET", "/", headers={"Host": host, "Connection": "close"})
        got = connection.getresponse()
        got.msg.set_payload(got.read().decode())
        return shown, got


@pytest.mark.parametrize(("host", "issued"), [(ADDRESS, AT_ADDRESS), ("shop.example", SHOP)])
def test_address_and_name_have_a_certificate_each(bench: Bench, host: str, issued: object) -> None:
    shown, got = answer(bench, host, host)
    assert shown == issued.der  # type: ignore[attr-defined]
    assert (got.status, "X-Forwarded-Proto: https" in str(got.msg.get_payload())) == (200, True)


def test_an_unknown_host_gets_no_answer(bench: Bench) -> None:
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError, ssl.SSLError)):
        answer(bench, "unknown.example", "unknown.example")
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        answer(bench, ADDRESS, "unknown.example")


def test_http_is_sent_to_https_at_the_address(bench: Bench) -> None:
    connection = http.client.HTTPConnection(ADDRESS, bench.port, timeout=10)
    connection.request("GET", "/a", headers={"Host": ADDRESS})
    with contextlib.closing(connection):
        got = connection.getresponse()
    assert (got.status, got.headers["Location"]) == (308, f"https://{ADDRESS}:{bench.tls_port}/a")
