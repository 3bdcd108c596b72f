"""HTTP/3 by a real nginx and a real client, where this system has both (Debian 13 and later)."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from gatling.project.proxy import Options, Wishes
from gatling.proxy import certificates, features, x509
from gatling.proxy.route import point_at
from gatling.proxy.site import Site
from tests.conftest import until
from tests.proxy.authority import INTERMEDIATE, ROOT, certificate
from tests.proxy.bench import NGINX, App, Bench

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


ADDRESS = "127.0.0.5"


def output(*argv: str) -> str:
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    if not features.read(output(NGINX, "-V")).http3 or " HTTP3 " not in output("curl", "-V"):
        pytest.skip("nginx and curl with HTTP/3 are Debian 13's and later")
    root = tmp_path_factory.mktemp("nginx")
    made, app, sites = Bench(root, tls=True), App(), []
    made.http3 = True
    made.tls = (f"0.0.0.0:{made.tls_port}",)  # all addresses
    for name, host in (("shop", "shop.example"), ("blog", "blog.example"), ("wiki", ADDRESS)):
        issued = certificate(host, by=INTERMEDIATE)
        pair = x509.read((issued.both + INTERMEDIATE.pem).encode(), time.time())
        certificates.add(root / "kept", name, pair.certificate, pair.chain, pair.key)
        point_at(root / name, 1, mode=0o755)
        places = {host: root / "kept" / name / pair.certificate.id}
        wishes = Wishes(Options(http3=name != "blog", headers="X-Own: yes"))
        sites.append(Site(name, (host,), {1: app.port, 2: app.port}, root / name, wishes, places))
    (root / "root.pem").write_text(ROOT.pem)
    made.configure(sites)
    with made.running(), contextlib.closing(app):
        yield made


def ask(bench: Bench, url: str, *options: str) -> tuple[Any, str]:
    """What curl notes of a request, and the headers and text of the answer."""
    port = bench.tls_port if url.startswith("https:") else bench.port
    host = url.partition("//")[2].partition("/")[0]
    done = subprocess.run(
        ["curl", "--silent", "--include", "--max-time", "10", "--write-out", "\n%{json}",
         "--cacert", str(bench.root / "root.pem"), "--resolve", f"{host}:{port}:127.0.0.1",
         *options, url.replace(host, f"{host}:{port}", 1)],
        check=False, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    text, _, said = done.stdout.rpartition("\n")
    return json.loads(said), text


def test_a_client_finds_it_by_the_header_of_an_answer(bench: Bench, tmp_path: Path) -> None:
    known = ["--alt-svc", str(tmp_path / "known")]
    for path in ("/", "/hangup"):  # the app's answer, and nginx' own page
        said, text = ask(bench, f"https://shop.example{path}", "--http2")
        assert said["http_version"] == "2"
        assert f'alt-svc: h3=":{bench.tls_port}"; ma=3600' in text
    ask(bench, "https://shop.example/", *known)

    def by_http3() -> bool:  # the client takes TCP when QUIC is late
        said, text = ask(bench, "https://shop.example/", *known)
        assert said["response_code"] == 200
        return said["http_version"] == "3" and "X-Forwarded-Proto: https" in text

    until(by_http3, "an answer over HTTP/3")


def test_the_app_and_its_own_headers_are_reached(bench: Bench) -> None:
    said, text = ask(bench, "https://shop.example/a?b", "--http3-only")
    assert (said["http_version"], said["response_code"]) == ("3", 200)
    assert "GET /a?b HTTP/1.1" in text
    assert "Host: shop.example" in text
    assert "x-own: yes" in text


def test_an_app_is_reached_by_its_address(bench: Bench) -> None:
    for way in ("--http3-only", "--http2"):
        url = f"https://{ADDRESS}:{bench.tls_port}/"
        done = subprocess.run(
            ["curl", "--silent", "--include", "--max-time", "10", way,
             "--cacert", str(bench.root / "root.pem"), url],
            check=False, capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        assert f"Host: {ADDRESS}" in done.stdout, way


def test_a_body_reaches_the_app(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "body").write_text("x" * 200_000)
    body = ["--data-binary", f"@{tmp_path}/body"]
    said, text = ask(bench, "https://shop.example/count", "--http3-only", *body)
    assert (said["response_code"], text.split()[-1]) == (200, "200000")


@pytest.mark.parametrize("host", ["blog.example", "unknown.example"])
def test_hosts_without_it_are_shown_no_certificate(bench: Bench, host: str) -> None:
    said, _ = ask(bench, f"https://{host}/", "--http3-only", "--insecure")
    assert (said["response_code"], said["http_version"]) == (0, "0")


def test_no_other_answer_names_it(bench: Bench) -> None:
    assert "alt-svc" not in ask(bench, "https://blog.example/", "--http2")[1]
    for headers in ([], ["--header", "X-Forwarded-Proto: https"]):  # a proxy in front
        _, text = ask(bench, "http://shop.example/", *headers)
        assert "alt-svc" not in text.lower()
