"""Addresses of the proxy that a server does not let its operator choose."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from gatling.errors import InvalidInput
from gatling.platform.server import router as subject
from gatling.platform.server.certificates import RootsCertificates
from gatling.platform.server.helper import nginx as written
from gatling.platform.server.home import ServerHome
from gatling.platform.server.router import SystemRouter
from gatling.proxy import parts

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("listen", "tls", "said"),
    [
        ("8080", None, "listens on port 80"),
        (None, "auto", "serves HTTPS on port 443 by itself"),
        (None, "off", "serves HTTPS on port 443 by itself"),
    ],
)
def test_the_addresses_are_the_operator_s(
    tmp_path: Path, listen: str | None, tls: str | None, said: str
) -> None:
    router = SystemRouter(ServerHome(tmp_path))
    router.check_listen(None)
    for refuse in (router.check_listen, router.listen_on):
        with pytest.raises(InvalidInput, match=said):
            refuse(listen, tls)


def test_http_3_is_refused_where_nginx_lacks_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nginx = tmp_path / "nginx"
    monkeypatch.setattr(subject, "NGINX", str(nginx))
    needing = SystemRouter(ServerHome(tmp_path)).need_http3
    for version, fits in (("1.22.1", False), ("1.26.3", True)):
        nginx.write_text(f"#!/bin/sh\necho nginx/{version} --with-http_v3_module >&2\n")
        nginx.chmod(0o755)
        with nullcontext() if fits else pytest.raises(InvalidInput, match="without HTTP/3"):
            needing()


def test_http_3_that_another_site_keeps_out_is_said_once_it_is_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nginx = tmp_path / "nginx"
    nginx.write_text("#!/bin/sh\necho nginx/1.26.3 --with-http_v3_module >&2\n")
    nginx.chmod(0o755)
    monkeypatch.setattr(subject, "NGINX", str(nginx))
    monkeypatch.setattr(written, "DIRECTORY", tmp_path)
    router = SystemRouter(ServerHome(tmp_path))
    router.need_http3(applied=True)  # nothing has been applied yet
    for without in ({parts.HTTP3}, {parts.TLS_DEFAULT_SERVER, "client_body_timeout"}):
        text = written.render([], ipv6=False, without=frozenset(without))
        (tmp_path / written.SITES).write_text(text)
        router.need_http3()
        with pytest.raises(InvalidInput, match="Another site of this server's nginx has port 443"):
            router.need_http3(applied=True)
    for other in (frozenset[str](), frozenset({parts.DEFAULT_SERVER})):
        (tmp_path / written.SITES).write_text(written.render([], ipv6=False, without=other))
        router.need_http3(applied=True)


def test_no_authority_of_its_own() -> None:
    kept = RootsCertificates()
    with pytest.raises(InvalidInput, match="has no local authority"):
        kept.replace_authority([])
