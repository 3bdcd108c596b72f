"""nginx's configuration for TLS: certificates, challenges of a CA, redirects to HTTPS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling import names
from gatling.names import is_address, is_ipv6
from gatling.proxy.certificates import CHAIN, KEY
from gatling.proxy.parts import TLS
from gatling.proxy.site import has_http3

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gatling.proxy.parts import Limits
    from gatling.proxy.site import Listen, Site

HSTS = "Strict-Transport-Security"
ALTERNATIVE = "Alt-Svc"
ALTERNATIVE_SECONDS = 3600
"""How long browsers try HTTP/3 after the last answer that named it."""


def with_addresses(listen: Listen, sites: Sequence[Site]) -> Listen:
    """The addresses for TLS, and one for each domain that is an IP address with a certificate.

    nginx shows a client that names no host the certificate of the address's default server. Beside
    the one for all addresses it binds no such address (ngx_http_core_module, `listen`), so one that
    is not the host's own, as behind NAT, does no harm.
    """
    every = {_is_ipv6(one): one for one in listen.tls if _is_for_all(one)}
    added = (
        f"{names.host(domain)}:{_port(every[is_ipv6(domain)])}"
        for domain in _certified(sites)
        if is_ipv6(domain) in every
    )
    return listen._replace(tls=tuple(dict.fromkeys([*listen.tls, *added])))


def default_servers(listen: Listen, sites: Sequence[Site]) -> str:
    """The blocks that end TLS connections for hosts without a certificate, if there are others.

    Without them nginx would show those the certificate of another app. The versions of TLS at an
    address are those of its default server, whichever server a client asks for. A client that
    connects to an IP address names no host (RFC 6066, section 3), so that nginx can show only the
    certificate of this block: the address's own, or the first. An unknown host is shown it as well,
    and gets no answer.
    """
    certified = _certified(sites)
    groups: dict[Path | None, list[str]] = {}
    for address in listen.tls:
        host = address.rpartition(":")[0].strip("[]")
        # behind NAT an address of the host's own stands for another one, most likely of its kind
        kind = _is_ipv6(address)
        alike = [one for name, one in certified.items() if is_ipv6(name) == kind]
        place = certified.get(host) or next(iter([*alike, *certified.values()]), None)
        groups.setdefault(place, []).append(address)
    quic: list[str] = []
    if any(has_http3(site, listen) and site.certificates for site in sites):
        quic = _quic(listen)
    return "".join(_default_server(*group, quic) for group in groups.items())


def _quic(listen: Listen) -> list[str]:
    """How the default servers listen for HTTP/3.

    Each worker has a queue of its own, so that the packets of a connection come to the same one.
    With that option nginx binds an address, so one that nginx serves by another's socket lacks it.
    """
    for_all = {_is_ipv6(one) for one in listen.tls if _is_for_all(one)}
    return [
        f"{one} quic{' reuseport' if _is_for_all(one) or _is_ipv6(one) not in for_all else ''}"
        for one in listen.tls
    ]


def _default_server(certificate: Path | None, addresses: Sequence[str], quic: Sequence[str]) -> str:
    how = "        ssl_reject_handshake on;"
    if certificate is not None:
        how = f"""\
        ssl_certificate "{certificate}/{CHAIN}";
        ssl_certificate_key "{certificate}/{KEY}";
        return 444;"""
    ways = [f"{address} ssl" for address in addresses]
    ways += [one for one in quic if one.partition(" ")[0] in addresses]
    return f"""
    server {{
        {" ".join(f"listen {one} default_server;" for one in ways)}
        server_name _;
{how}
{TLS}    }}
"""


def _certified(sites: Sequence[Site]) -> dict[str, Path]:
    """The domains that are IP addresses and have a certificate, with its directory."""
    return {
        domain: place
        for site in sites
        for domain, place in site.certificates.items()
        if is_address(domain)
    }


def _is_ipv6(listen: str) -> bool:
    return listen.startswith("[")


def _is_for_all(listen: str) -> bool:
    """Whether nginx listens at all addresses of a kind there."""
    return listen.rpartition(":")[0] in ("", "*", "0.0.0.0", "[::]")  # noqa: S104 # not bound here


def _port(listen: str) -> str:
    return listen.rpartition(":")[2]


def listens(site: Site, listen: Listen, certificate: Path | None) -> str:
    """The addresses of a server block, and how TLS is spoken at those for it.

    Versions and ciphers are the intermediate profile of Mozilla's guidelines, 5.7
    (wiki.mozilla.org/Security/Server_Side_TLS), for clients of the last ten years.
    """
    plain = " ".join(f"listen {address};" for address in listen.plain)
    if certificate is None:
        return plain
    how = "ssl http2" if listen.http2 and not listen.http2_directive else "ssl"
    kinds = [how, "quic"] if has_http3(site, listen) else [how]
    tls = " ".join(f"listen {address} {kind};" for kind in kinds for address in listen.tls)
    http2 = "\n        http2 on;" if listen.http2 and listen.http2_directive else ""
    return f"""{plain} {tls}{http2}
        ssl_certificate "{certificate}/{CHAIN}";
        ssl_certificate_key "{certificate}/{KEY}";
{TLS.rstrip()}"""


def challenge(site: Site, share: Limits) -> str:
    """Answer a CA that asks for a token whose answer is there, before anything else can answer.

    That is decided for the whole server block, so that neither a redirect nor a password,
    maintenance, the app's limit of connections, or a location of the operator's own comes first.
    """
    if site.challenges is None:
        return ""
    return f"""\
        if (-f "{site.challenges}/$gatling_token") {{ rewrite ^ /.gatling/challenge last; }}
        location = /.gatling/challenge {{
            internal;
            auth_basic off;
            limit_conn gatling_clients {share.client};
            root "{site.challenges}";
            disable_symlinks on from=$document_root;
            default_type application/octet-stream;
            add_header Cache-Control no-store always;
            rewrite ^ /$gatling_token break;
        }}
"""


def to_https(site: Site, listen: Listen, certificate: Path | None) -> str:
    """Send browsers to https. The name is the client's where a domain has a `*`: so it is checked.

    In locations, so that those of the operator's own (for ACME, say) are left alone.
    """
    wanted = site.wishes.options.https
    if wanted == "off" or (wanted == "auto" and certificate is None):
        return ""
    # without a certificate here, another proxy in front takes the requests, on the usual port
    suffix = listen.tls_suffix if certificate else ""
    return f"""\
            if ($host !~ "^(\\[[0-9a-f:]+]|[a-z0-9._-]+)$") {{ return 400; }}
            if ($gatling_scheme = http) {{ return 308 https://$host{suffix}$request_uri; }}
"""


def hsts(site: Site) -> str:
    """The value of the header by which browsers keep to HTTPS: only over HTTPS, as RFC 6797 has it.

    A header with an empty value is not sent.
    """
    seconds = site.wishes.options.hsts
    if not seconds:
        return ""
    return f"""\
        set $gatling_hsts "";
        if ($gatling_scheme = https) {{ set $gatling_hsts "max-age={seconds}"; }}
"""


def alternative(site: Site, listen: Listen, certificate: Path | None) -> str:
    """The value of the header by which browsers find HTTP/3 (RFC 7838), for an hour."""
    if not site.wishes.options.http3:
        return ""
    text = '        set $gatling_alternative "";\n'
    if certificate is not None and has_http3(site, listen):
        port = listen.tls[0].rpartition(":")[2]
        value = f"'h3=\":{port}\"; ma={ALTERNATIVE_SECONDS}'"
        # not for a TLS proxy in front of this one, whose clients do not reach this port
        text += f"        if ($https) {{ set $gatling_alternative {value}; }}\n"
    return text
