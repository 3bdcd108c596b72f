"""The values from which nginx's configuration is rendered: apps as sites, and addresses."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from gatling.project.proxy import Wishes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Site(NamedTuple):
    """The proxy's view of one app; all of it validated."""

    app: str
    domains: tuple[str, ...]
    ports: dict[int, int]
    route: Path
    wishes: Wishes = Wishes()
    certificates: Mapping[str, Path] = MappingProxyType({})
    """For each domain that has one, the directory with its certificate; see certificates.py."""
    challenges: Path | None = None
    """The directory with the answers to a CA's challenges, by their tokens (RFC 8555, 8.3)."""


class Listen(NamedTuple):
    """The addresses on which nginx listens, as `listen` of ngx_http_core_module writes them."""

    plain: tuple[str, ...]
    tls: tuple[str, ...] = ()
    """Only domains with a certificate are served there."""
    http2_directive: bool = False
    """nginx 1.25.1 and later have `http2 on;` in place of a parameter of `listen`."""
    http2: bool = True
    """Not for an nginx that was built without its module."""
    http3: bool = False
    """For apps with `http3`, at the same addresses over UDP. nginx has it as a module as well."""

    @property
    def tls_suffix(self) -> str:
        """The port of an https address as it is written after the domain: nothing for 443."""
        port = self.tls[0].rpartition(":")[2] if self.tls else "443"
        return "" if port == "443" else f":{port}"


def has_http3(site: Site, listen: Listen) -> bool:
    """Whether a site is served over HTTP/3 where it has a certificate."""
    return listen.http3 and site.wishes.options.http3
