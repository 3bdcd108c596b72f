"""Whether a domain leads to this server: found out before a CA is asked."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from gatling.operations import reachability
from gatling.proxy.challenges import HttpChallenge
from gatling.proxy.nginx import Site
from gatling.proxy.route import point_at
from tests.proxy.bench import App, Bench, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    root = tmp_path_factory.mktemp("nginx")
    (root / "challenges").mkdir()
    bench, app = Bench(root), App()
    ports = {1: app.port, 2: app.port}
    point_at(root / "shop", 1, mode=0o755)
    point_at(root / "other", 1, mode=0o755)
    bench.configure([
        Site("shop", ("localhost",), ports, root / "shop", challenges=root / "challenges"),
        Site("other", ("other.localhost",), ports, root / "other"),
    ])  # fmt: skip
    with bench.running():
        yield bench
    app.close()


@pytest.fixture
def resolved(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """The addresses of names, which no DNS has."""
    known = {"localhost": ["127.0.0.1"], "other.localhost": ["127.0.0.1"]}

    def addresses(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        if host not in known:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in known[host]]

    monkeypatch.setattr(socket, "getaddrinfo", addresses)
    monkeypatch.setattr(reachability, "PORT", bench.port)
    known["127.0.0.1"] = ["127.0.0.1"]
    known["127.0.0.9"] = ["127.0.0.9"]
    return known


def fault(bench: Bench, domain: str) -> tuple[str, str]:
    found = reachability.fault(domain, HttpChallenge(bench.root / "challenges"), "192.0.2.7")
    assert list((bench.root / "challenges").iterdir()) == []
    return (found.what, found.hint) if found else ("", "")


def test_one_that_leads_here(bench: Bench, resolved: dict[str, list[str]]) -> None:
    assert fault(bench, "localhost") == ("", "")


def test_one_that_does_not_resolve(bench: Bench, resolved: dict[str, list[str]]) -> None:
    what, hint = fault(bench, "gone.example")
    assert what == "gone.example does not resolve: Name or service not known."
    assert hint == "Add an A or AAAA record for gone.example that points to 192.0.2.7."


def test_one_that_leads_elsewhere(bench: Bench, resolved: dict[str, list[str]]) -> None:
    what, hint = fault(bench, "other.localhost")
    assert "leads to another server: 127.0.0.1 answered with status 200" in what
    assert "point to 192.0.2.7" in hint


def test_all_addresses_have_to_lead_here(bench: Bench, resolved: dict[str, list[str]]) -> None:
    resolved["localhost"] = ["127.0.0.1", "127.0.0.9"]
    what, hint = fault(bench, "localhost")
    assert "localhost (127.0.0.9) cannot be reached on port" in what
    assert "Connection refused" in what
    assert "certificates.check=false" in hint


def test_a_closed_port(
    bench: Bench, resolved: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reachability, "PORT", free_port())
    what, hint = fault(bench, "localhost")
    assert "Connection refused" in what
    assert "to the internet" in hint
