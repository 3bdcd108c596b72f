"""A domain that is an IPv6 address, by a real nginx over IPv6."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import time
from typing import TYPE_CHECKING

import pytest

from gatling.operations import hops, reachability
from gatling.project.proxy import Options, Wishes
from gatling.proxy import certificates, x509
from gatling.proxy.challenges import HttpChallenge
from gatling.proxy.route import point_at
from gatling.proxy.site import Site
from tests.proxy.authority import INTERMEDIATE, ROOT, certificate
from tests.proxy.bench import App, Bench, has_ipv6, over_ipv6

if TYPE_CHECKING:
    from collections.abc import Iterator

ADDRESS = "::1"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    if not has_ipv6():
        pytest.skip("this machine has no IPv6")
    root = tmp_path_factory.mktemp("nginx")
    (root / "challenges").mkdir()
    bench, app = Bench(root, tls=True), App()
    point_at(root / "shop", 1, mode=0o755)
    pair = x509.read(
        (certificate(ADDRESS, by=INTERMEDIATE).both + INTERMEDIATE.pem).encode(), time.time()
    )
    assert pair.certificate.names == (ADDRESS,)
    certificates.add(root / "kept", "shop", pair.certificate, pair.chain, pair.key)
    chosen = certificates.chosen([pair.certificate], (ADDRESS, "shop.example"), time.time())
    places = {domain: root / "kept/shop" / one.id for domain, one in chosen.items()}
    ports = {1: app.port, 2: app.port}
    site = Site("shop", (ADDRESS, "shop.example", "*.shop.example"), ports, root / "shop",
                Wishes(Options(https="redirect")), places, root / "challenges")  # fmt: skip
    bench.configure([site], over_ipv6)
    with bench.running(), contextlib.closing(app):
        yield bench


def ask(bench: Bench, host: str, path: str = "/", *, tls: bool = False) -> tuple[int, str, str]:
    """The status of an answer over IPv6, its text, and the place to which it redirects."""
    port = bench.tls_port if tls else bench.port
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=20)
    with contextlib.closing(connection):
        connection.connect()
        if tls:
            context = ssl.create_default_context(cadata=ROOT.pem)
            plain = connection.sock
            assert isinstance(plain, socket.socket)
            connection.sock = context.wrap_socket(plain, server_hostname=ADDRESS)
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.getheader("Location") or ""


def test_the_app_is_reached_over_https(bench: Bench) -> None:
    status, text, _ = ask(bench, f"[::1]:{bench.tls_port}", "/a?b", tls=True)
    assert (status, text.splitlines()[0]) == (200, "GET /a?b HTTP/1.1")
    assert f"Host: [::1]:{bench.tls_port}" in text
    assert f"X-Forwarded-Port: {bench.tls_port}" in text
    assert ask(bench, "[::1]", tls=True)[0] == 200
    for unknown in ("[2001:db8::5]", "unknown.example"):
        with pytest.raises(http.client.RemoteDisconnected):
            ask(bench, unknown, tls=True)


def test_http_is_sent_to_https(bench: Bench) -> None:
    status, _, to = ask(bench, f"[::1]:{bench.port}", "/a?b")
    assert (status, to) == (308, f"https://[::1]:{bench.tls_port}/a?b")
    # these have no certificate here: a proxy in front would take the requests
    assert ask(bench, "a.shop.example")[::2] == (308, "https://a.shop.example/")
    for odd in ("a[.shop.example", "a'.shop.example", "a,b.shop.example"):
        assert ask(bench, odd)[0] == 400


def test_a_challenge_is_answered(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hops, "PORT", bench.port)
    challenge = HttpChallenge(bench.root / "challenges")
    assert reachability.faults([ADDRESS], challenge, None) == {}
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(hops, "PORT", closed.getsockname()[1])
        found = reachability.faults([ADDRESS], challenge, None)[ADDRESS]
    assert "::1 cannot be reached on port" in found.what
    assert "correct the address" in found.hint
