"""Clients that name no host, because they connect to an IP address, by a real nginx."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from typing import TYPE_CHECKING

import pytest

from gatling.proxy import certificates, x509
from gatling.proxy.route import point_at
from gatling.proxy.site import Site
from tests.proxy.authority import INTERMEDIATE, ROOT, certificate
from tests.proxy.bench import App, Bench, has_ipv6

if TYPE_CHECKING:
    from collections.abc import Iterator

APPS = {"shop": "127.0.0.11", "blog": "127.0.0.12", "wiki": "::1", "far": "203.0.113.7"}
"""The last is not this machine's, as that of a machine behind NAT."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    if not has_ipv6():
        pytest.skip("this machine has no IPv6")
    root = tmp_path_factory.mktemp("nginx")
    bench, app, sites = Bench(root, tls=True), App(), []
    bench.tls = (f"0.0.0.0:{bench.tls_port}", f"[::]:{bench.tls_port}")  # all addresses
    for name, address in APPS.items():
        domains = (address, f"{name}.example")
        made = certificate(*domains, by=INTERMEDIATE)
        pair = x509.read((made.both + INTERMEDIATE.pem).encode(), time.time())
        certificates.add(root / "kept", name, pair.certificate, pair.chain, pair.key)
        point_at(root / name, 1, mode=0o755)
        places = dict.fromkeys(domains, root / "kept" / name / pair.certificate.id)
        ports = {1: app.port, 2: app.port}
        sites.append(Site(name, domains, ports, root / name, certificates=places))
    bench.configure(sites)
    with bench.running(), contextlib.closing(app):
        yield bench


def ask(bench: Bench, address: str, host: str, sni: str | None = None) -> str:
    """The answer to a request of a client that trusts only a certificate of the host."""
    context = ssl.create_default_context(cadata=ROOT.pem)
    with (
        socket.create_connection((address, bench.tls_port), timeout=20) as plain,
        # Python sends no name for an address, as RFC 6066 has it
        context.wrap_socket(plain, server_hostname=sni or host) as sock,
    ):
        shown = f"[{host}]" if ":" in host else host
        sock.sendall(f"GET /a HTTP/1.1\r\nHost: {shown}\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: sock.recv(65536), b"")).decode()


@pytest.mark.parametrize("app", ["shop", "blog", "wiki"])
def test_each_app_is_reached_by_its_own_address(bench: Bench, app: str) -> None:
    text = ask(bench, APPS[app], APPS[app])
    assert text.startswith("HTTP/1.1 200 OK")
    assert "GET /a HTTP/1.1" in text


@pytest.mark.parametrize("address", APPS.values())
@pytest.mark.parametrize("app", APPS)
def test_names_are_served_at_every_address(bench: Bench, app: str, address: str) -> None:
    if address == APPS["far"]:
        address = "127.0.0.1"
    assert ask(bench, address, f"{app}.example").startswith("HTTP/1.1 200 OK")


def test_an_address_of_the_host_that_no_app_has_shows_the_first_of_its_kind(bench: Bench) -> None:
    """As behind NAT, where the host's own address is another one."""
    assert ask(bench, "127.0.0.1", APPS["shop"]).startswith("HTTP/1.1 200 OK")
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(bench, "127.0.0.1", APPS["wiki"])
