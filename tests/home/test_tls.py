"""HTTPS on an embedded home: `gatling up --tls`, by a real nginx and clients that trust it."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import stat
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from gatling.errors import Exit
from tests.conftest import new_world, until
from tests.home.secure import authority, connect, tls_port
from tests.proxy.authority import INTERMEDIATE, ROOT, certificate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import World


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A home with the apps `shop` and `blog`, to which nothing was pushed, and HTTPS."""
    with new_world() as made:
        for app in ("shop", "blog"):
            made.run("load", app)
        said = made.run("up", "--tls", f"127.0.0.1:{tls_port(made)}")
        assert "`gatling certificates authority` shows how browsers trust this home" in said
        yield made


def shown(world: World, host: str) -> list[str]:
    """The names of the certificate that is shown for a host."""
    with connect(world, host) as secured:
        der = secured.getpeercert(binary_form=True)
        assert der
    found = x509.load_der_x509_certificate(der).extensions
    names = found.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)


def test_each_app_shows_its_certificate_and_none_for_other_names(world: World) -> None:
    assert shown(world, "shop.localhost") == ["shop.localhost"]
    assert shown(world, "blog.localhost") == ["blog.localhost"]
    for unknown in ("other.localhost", "example.com"):
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
            connect(world, unknown)
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(world, "shop.localhost", ROOT.pem)


def test_curl_and_http_2(world: World) -> None:
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--cacert", str(authority(world)), "--write-out",
         "%{json}", "--output", "/dev/null", "--resolve",
         f"shop.localhost:{tls_port(world)}:127.0.0.1", f"https://shop.localhost:{tls_port(world)}/"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    said = json.loads(done.stdout)
    assert (said["http_version"], said["http_code"]) == ("2", 503)  # nothing was pushed


def test_http_is_sent_to_https_at_its_port(world: World) -> None:
    answer = world.get("/a?b=c")
    assert answer.status == 308
    assert answer.headers["Location"] == f"https://shop.localhost:{tls_port(world)}/a?b=c"
    world.run("settings", "set", "shop", "proxy.https=off")
    assert world.get().status == 503
    world.run("settings", "unset", "shop", "proxy.https")


def test_commands_show_the_address_and_the_certificate(world: World) -> None:
    url = f"https://shop.localhost:{tls_port(world)}"
    assert world.status()["url"] == url
    assert url.replace("shop", "third") in world.run("load", "third")
    world.run("unload", "third", "--confirm", "third")
    assert not (world.home / "certificates/third").exists()
    (one,) = world.json("certificates", "list", "shop")
    about = world.json("certificates", "authority")
    assert one["issuer"] == about["name"]
    assert (one["domains"], one["days_left"]) == (["shop.localhost"], 89)
    assert "\nRenewal: 20" in world.run("certificates", "show", "shop")
    assert about["domains"] == ["localhost", "test"]
    assert world.run("certificates", "authority", "--pem") == authority(world).read_text()
    said = world.run("certificates", "authority")
    for text in (str(authority(world)), about["fingerprint"], "sudo update-ca-certificates",
                 "security add-trusted-cert", "certutil -d"):  # fmt: skip
        assert text in said


def test_only_the_owner_reads_keys(world: World) -> None:
    keys = [*world.home.glob("authority/key.pem"), *world.home.glob("certificates/*/*/key.pem")]
    assert len(keys) == 3
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}


def test_a_new_domain_is_covered_or_the_command_says_why_not(world: World) -> None:
    said = world.run("domains", "add", "shop", "shop.test")
    assert "HTTP only" not in said
    assert shown(world, "shop.test") == ["shop.localhost", "shop.test"]
    said = world.run("domains", "add", "shop", "shop.example.com")
    assert "shop.example.com: served over HTTP only" in said
    assert "HTTP only" not in world.run("domains", "add", "shop", "a.test")
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        connect(world, "shop.example.com")
    for command in ("up", "certificates show shop"):
        assert "shop.example.com: served over HTTP only" in world.run(*command.split())
    assert "shop.example.com: served over HTTP only" in world.run("doctor", ok=False)
    before = authority(world).read_text()
    assert "shop.example.com" in world.run("certificates", "authority", "--new")
    assert "shop.example.com" in shown(world, "shop.example.com")
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(world, "shop.localhost", before)
    for domain in ("shop.test", "shop.example.com", "a.test"):
        world.run("domains", "remove", "shop", domain)
    assert shown(world, "shop.localhost") == ["shop.localhost"]


def test_a_certificate_of_ones_own(world: World) -> None:
    issued = certificate("shop.localhost", by=INTERMEDIATE)
    pem = issued.both + INTERMEDIATE.pem
    world.run("certificates", "add", "shop", stdin=pem)
    with connect(world, "shop.localhost", ROOT.pem) as secured:
        assert secured.getpeercert(binary_form=True) == issued.der
    (one,) = (each for each in world.json("certificates", "list", "shop") if not each["obtained"])
    world.run("certificates", "remove", "shop", one["id"], "--confirm", "shop")
    assert shown(world, "shop.localhost") == ["shop.localhost"]


def test_a_certificate_of_ones_own_goes_along_with_a_domain(world: World) -> None:
    issued = certificate("moved.test", by=INTERMEDIATE)
    world.run("domains", "add", "shop", "moved.test")
    world.run("certificates", "add", "shop", stdin=issued.both + INTERMEDIATE.pem)
    world.run("domains", "add", "blog", "moved.test", "--from", "shop")
    with connect(world, "moved.test", ROOT.pem) as secured:
        assert secured.getpeercert(binary_form=True) == issued.der
    assert shown(world, "blog.localhost") == ["blog.localhost"]
    world.run("domains", "remove", "blog", "moved.test")
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        connect(world, "moved.test")


def test_the_doctor_looks_at_it(world: World) -> None:
    findings = {one["name"]: one for one in json.loads(world.try_run("doctor", "--json").stdout)}
    assert findings["https"]["ok"]
    assert findings["https"]["what"] == f"nginx listens on 127.0.0.1:{tls_port(world)}"


def test_renewal_by_command_replaces_no_certificate_that_is_good(world: World) -> None:
    before = world.json("certificates", "list", "shop")
    assert world.json("certificates", "renew") == []
    assert world.json("certificates", "list", "shop") == before
    assert "No CA reaches" in world.run("certificates", "issue", "shop", ok=False)


def test_no_request_fails_while_certificates_change(world: World) -> None:
    anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    seen: set[bytes | None] = set()
    failures: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            raw = socket.create_connection(("127.0.0.1", tls_port(world)), timeout=10)
            try:
                with anyone.wrap_socket(raw, server_hostname="shop.localhost") as secured:
                    seen.add(secured.getpeercert(binary_form=True))
                    secured.sendall(b"GET / HTTP/1.1\r\nHost: shop.localhost\r\n\r\n")
                    if not secured.recv(4096).startswith(b"HTTP/1.1 503"):
                        failures.append("another answer")
            except OSError as error:
                failures.append(repr(error))

    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: seen, "a request")
    world.run("certificates", "authority", "--new")
    until(lambda: len(seen) == 2, "another certificate")
    stop.set()
    asking.join()
    assert failures == []


def test_a_port_that_another_program_has_changes_nothing(world: World) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        done = world.try_run("up", "--tls", f"127.0.0.1:{port}")
    assert done.returncode == Exit.HOST
    assert f"The proxy cannot listen on 127.0.0.1:{port}" in done.stdout
    assert "`gatling up --tls 127.0.0.1:8444`" in done.stdout
    assert world.run("up", "--tls", str(world.port), ok=False).count("cannot share port") == 1
    assert world.try_run("up", "--tls", "--no-tls").returncode == Exit.USAGE
    assert shown(world, "shop.localhost") == ["shop.localhost"]


def test_down_and_up_keep_it_and_no_tls_ends_it(world: World) -> None:
    before = world.json("certificates", "list", "shop")
    world.run("down")
    world.run("up")
    assert world.json("certificates", "list", "shop") == before
    assert shown(world, "shop.localhost") == ["shop.localhost"]
    clock = world.home / "supervisor/apps/_clock.conf"
    assert clock.exists(), "it renews the certificates"
    world.run("up", "--no-tls")
    assert world.get().status == 503
    with pytest.raises(ConnectionRefusedError):
        connect(world, "shop.localhost")
    assert world.status()["url"] == f"http://shop.localhost:{world.port}"
    assert world.json("certificates", "list", "shop") == []
    assert not clock.exists()
    world.run("up", "--tls", f"127.0.0.1:{tls_port(world)}")
    assert world.json("certificates", "list", "shop") == before
    connection = http.client.HTTPConnection("127.0.0.1", tls_port(world), timeout=10)
    connection.sock = connect(world, "shop.localhost")
    with contextlib.closing(connection):
        connection.request("GET", "/", headers={"Host": "shop.localhost"})
        assert connection.getresponse().status == 503
