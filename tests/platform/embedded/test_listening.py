"""The addresses of HTTP and HTTPS, and the features of an nginx."""

from __future__ import annotations

import pytest

from gatling.errors import InvalidInput
from gatling.platform.base import AUTO, OFF
from gatling.platform.embedded import listening
from gatling.proxy import features


@pytest.mark.parametrize(
    ("plain", "before", "wanted", "chosen"),
    [
        ("127.0.0.1:8080", "", AUTO, "127.0.0.1:8443"),
        ("127.0.0.1:8081", "", AUTO, "127.0.0.1:8444"),
        ("0.0.0.0:80", "", AUTO, "0.0.0.0:443"),
        ("8080", "", AUTO, "*:8443"),
        ("127.0.0.1:8080", "127.0.0.1:4443", AUTO, "127.0.0.1:4443"),
        ("127.0.0.1:8080", "127.0.0.1:4443", None, "127.0.0.1:4443"),
        ("127.0.0.1:8080", "", None, ""),
        ("127.0.0.1:8080", "127.0.0.1:4443", OFF, ""),
        ("127.0.0.1:8080", "127.0.0.1:4443", "4444", "4444"),
    ],
)
def test_where_https_is(plain: str, before: str, wanted: str | None, chosen: str) -> None:
    assert listening.tls_address(plain, before, wanted) == chosen


@pytest.mark.parametrize(
    ("plain", "wanted", "said"),
    [
        ("127.0.0.1:8080", "127.0.0.1:8080", "cannot share port 8080"),
        ("127.0.0.1:8080", "*:8080", "cannot share port 8080"),
        ("127.0.0.1:8080", "localhost:8443", "not an address to listen on"),
        ("127.0.0.1:8080", "", "not an address to listen on"),
        ("127.0.0.1:65500", AUTO, "'127.0.0.1:65863' is not an address"),
    ],
)
def test_where_https_cannot_be(plain: str, wanted: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        listening.tls_address(plain, "", wanted)


def test_urls() -> None:
    assert listening.url("https", "a.test", "127.0.0.1:443") == "https://a.test"
    assert listening.url("https", "a.test", "8443") == "https://a.test:8443"
    assert listening.url("https", "a.test", "*:80") == "https://a.test:80"
    assert listening.url("http", "a.test", "*:80") == "http://a.test"


@pytest.mark.parametrize(
    ("version", "modules", "built"),
    [
        ("1.22.1", "--with-http_ssl_module --with-http_v2_module", (True, True, False, False)),
        (
            "1.26.3 (Debian)",
            "--with-http_ssl_module --with-http_v2_module --with-http_v3_module",
            (True, True, True, True),
        ),
        ("1.25.1", "--with-http_ssl_module", (True, False, True, False)),
        ("1.23.4", "--with-http_ssl_module --with-http_v3_module", (True, False, False, False)),
        ("1.22.1", "--with-mail_ssl_module --with-stream_ssl_module", (False,) * 4),
    ],
)
def test_what_an_nginx_can_do(version: str, modules: str, built: tuple[bool, ...]) -> None:
    text = f"nginx version: nginx/{version}\nconfigure arguments: --prefix=/usr {modules}"
    assert features.read(text) == built


def test_an_nginx_without_https_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert listening.built().tls
    listening.need_tls()
    monkeypatch.setattr(listening, "built", lambda: features.Features(*[False] * 4))
    with pytest.raises(InvalidInput, match="without its module for HTTPS"):
        listening.need_tls()
