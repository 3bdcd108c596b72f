"""Where the prober of an app asks, and which answers count as the proxy's own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs

from gatling.deploy.evidence import probing
from gatling.project import settings
from gatling.proxy.certificates import Certificate
from tests.places import local
from tests.runtime.test_spec import APP


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a prober is made with, for an app of which some facts are changed."""
    away: set[str] = set()
    router = SimpleNamespace(probe_address=lambda: local(80), in_maintenance=away.__contains__)

    def make(*kept: Certificate, **changes: Any) -> SimpleNamespace:
        app = structs.replace(APP, **changes)
        chosen = settings.parse({"health.path": "/up"})
        gatling: Any = SimpleNamespace(
            router=router, certificates=SimpleNamespace(of=lambda _: kept)
        )
        return probing.prober(gatling, app, chosen)  # type: ignore[return-value]

    def noted(address: object, host: str, path: str, **more: Any) -> SimpleNamespace:
        return SimpleNamespace(address=address, host=host, path=path, away=away, **more)

    monkeypatch.setattr(probing, "Prober", noted)
    return make


def test_it_asks_the_proxy_for_the_path_of_the_health_check(made: Any) -> None:
    prober = made()
    assert (prober.address, prober.host, prober.path) == (
        local(80), "shop.example.com", "/up",
    )  # fmt: skip
    assert prober.headers == {}
    assert [prober.answered_by(status) for status in (200, 401, 503)] == ["", "", ""]


def test_it_asks_under_the_domain_to_which_others_are_redirected(made: Any) -> None:
    domains = ("shop.example.com", "www.shop.example.com")
    prober = made(domains=domains, settings={"proxy.redirect_www": "to-www"})
    assert prober.host == "www.shop.example.com"


def test_it_asks_as_by_https_where_http_is_redirected(made: Any) -> None:
    prober = made(settings={"proxy.https": "redirect"})
    assert prober.headers == {"X-Forwarded-Proto": "https"}


@pytest.mark.parametrize(
    ("https", "domain", "asked"),
    [("auto", "shop.example.com", True), ("auto", "www.example.com", False),
     ("off", "shop.example.com", False), ("redirect", "www.example.com", True)],
)  # fmt: skip
def test_a_certificate_redirects_http_as_well(
    made: Any, https: str, domain: str, *, asked: bool
) -> None:
    kept = Certificate(
        id="a" * 32, names=(domain,), issuer="CA", not_before=0, not_after=1 << 40, added=0,
        key="RSA 2048", self_signed=False, alone=False,
    )  # fmt: skip
    prober = made(kept, settings={"proxy.https": https})
    assert bool(prober.headers) is asked


@pytest.mark.parametrize(
    ("passwords", "locked"),
    [({"*": {"ann": "x"}}, True), ({"shop.example.com": {"ann": "x"}}, True),
     ({"other.example.com": {"ann": "x"}}, False)],
)  # fmt: skip
def test_a_request_for_a_password_is_the_proxys_own(
    made: Any, passwords: dict[str, dict[str, str]], locked: bool
) -> None:
    prober = made(passwords=passwords)
    assert bool(prober.answered_by(401)) == locked
    assert prober.answered_by(503) == ""


def test_so_is_the_maintenance_page(made: Any) -> None:
    prober = made()
    prober.away.add("shop")
    assert "maintenance" in prober.answered_by(503)
    assert prober.answered_by(502) == ""
