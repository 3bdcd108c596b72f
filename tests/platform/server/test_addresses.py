"""Addresses of the proxy that a server does not let its operator choose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gatling.errors import InvalidInput
from gatling.platform.server.certificates import RootsCertificates
from gatling.platform.server.home import ServerHome
from gatling.platform.server.router import SystemRouter

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


def test_no_authority_of_its_own() -> None:
    kept = RootsCertificates()
    with pytest.raises(InvalidInput, match="has no local authority"):
        kept.replace_authority([])
