"""The certificates of an app: given to the host, proved in a handshake, and taken out of use."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.errors import InvalidInput, NotFound, ProxyRefused
from gatling.operations import changes
from gatling.proxy import certificates
from gatling.state import apps
from gatling.times import day

if TYPE_CHECKING:
    from collections.abc import Container

    from gatling.platform.base import Address
    from gatling.platform.open import Gatling
    from gatling.proxy.certificates import Certificate
    from gatling.state.apps import App

HANDSHAKE_SECONDS = 5.0
DAY = 86400
NOBODYS = "gatling-check.invalid"
"""A name that no site has (RFC 6761, section 6.4)."""


class Kept(Struct, frozen=True):
    """A certificate of an app."""

    id: str
    domains: list[str]
    """The domains of the app that are served with it."""
    names: list[str]
    """Every domain and IP address that it is for."""
    issuer: str
    not_before: str
    """The first day on which it is valid, in UTC."""
    not_after: str
    """The last one."""
    days_left: int
    """Whole days; below 0 once it has expired."""
    key: str
    self_signed: bool
    obtained: bool
    """Whether Gatling obtained it from a CA, and renews it."""


class Added(Struct, frozen=True):
    """The result of `add`."""

    app: str
    certificate: Kept
    changed: bool
    without: list[str]
    """Domains of the app that have no certificate, and so no HTTPS."""
    alone: bool
    """Whether the certificate came without that of its issuer."""


class Removed(Struct, frozen=True):
    """The result of `remove`."""

    app: str
    id: str
    without: list[str]
    """Domains of the app that have no certificate now, and so no HTTPS, but had one before."""


def of(gatling: Gatling, app: str) -> list[Kept]:
    """The certificates of an app, the one added last first; raises NotFound."""
    found = apps.get(gatling.db, app)
    kept = gatling.certificates.of(app)
    return [_shown(one, found, kept) for one in kept]


def add(gatling: Gatling, app: str, pem: str) -> Added:
    """Serve the domains of an app that a certificate is for with it; immediately, or not at all.

    `pem` has certificate, chain and private key, in any order. Of several certificates for a domain
    the one that was added last serves. Raises NotFound; InvalidInput for a text that browsers would
    not accept a site with, or that is for none of the app's domains; ProxyRefused when nginx does
    not serve it, with everything as before.
    """
    found = apps.get(gatling.db, app)
    certificate, new = gatling.certificates.add(app, pem)
    if new:
        if not _domains(certificate, found):
            withdraw(gatling, app, certificate.id)
            raise InvalidInput(
                f"The certificate is for none of {app}'s domains, but for"
                f" {', '.join(certificate.names)}.",
                hint=f"`gatling domains add {app} {certificate.names[0]}` comes first.",
            )
        changes.change(
            gatling, app, "certificates add", certificate.id,
            steps=[gatling.configure_router, lambda: prove(gatling, app)],
            take_back=lambda: gatling.certificates.retire(app, certificate.id),
        )  # fmt: skip
    kept = gatling.certificates.of(app)
    return Added(
        app,
        _shown(certificate, found, kept),
        changed=new,
        without=without(found, kept),
        alone=certificate.alone,
    )


def find(gatling: Gatling, app: str, which: str) -> Kept:
    """The certificate whose id begins so; raises NotFound, InvalidInput for more than one."""
    matching = [one for one in of(gatling, app) if one.id.startswith(which.lower())]
    if not matching:
        raise NotFound(
            f"{app} has no certificate {which}.", hint=f"See `gatling certificates list {app}`."
        )
    if len(matching) > 1:
        raise InvalidInput(f"{which} is the beginning of {len(matching)} certificates of {app}.")
    return matching[0]


def remove(gatling: Gatling, app: str, certificate: str) -> Removed:
    """Take a certificate out of use, and remove it with its key, by its id.

    Raises NotFound, and ProxyRefused with everything as before.
    """
    one = find(gatling, app, certificate)
    before = without(apps.get(gatling.db, app), gatling.certificates.of(app))
    gatling.certificates.retire(app, one.id)
    changes.change(
        gatling, app, "certificates remove", one.id,
        steps=[gatling.configure_router],
        take_back=lambda: gatling.certificates.keep(app, one.id),
    )  # fmt: skip
    gatling.certificates.remove_retired(app)
    after = without(apps.get(gatling.db, app), gatling.certificates.of(app))
    return Removed(app, one.id, without=[domain for domain in after if domain not in before])


def withdraw(gatling: Gatling, app: str, certificate: str) -> None:
    """Remove a certificate that has never served."""
    gatling.certificates.retire(app, certificate)
    gatling.certificates.remove_retired(app)


def _shown(one: Certificate, app: App, kept: list[Certificate]) -> Kept:
    serving = certificates.chosen(kept, app.domains, time.time())
    return Kept(
        id=one.id,
        domains=[domain for domain, chosen in serving.items() if chosen.id == one.id],
        names=list(one.names),
        issuer=one.issuer,
        not_before=day(one.not_before),
        not_after=day(one.not_after),
        days_left=int((one.not_after - time.time()) // DAY),
        key=one.key,
        self_signed=one.self_signed,
        obtained=one.obtained,
    )


def _domains(certificate: Certificate, app: App) -> list[str]:
    return [domain for domain in app.domains if certificates.covers(certificate.names, domain)]


def without(app: App, kept: list[Certificate]) -> list[str]:
    """The domains of an app without HTTPS, but for the one that every app has on its host."""
    serving = certificates.chosen(kept, app.domains, time.time())
    given = f"{app.name}.localhost"
    return [domain for domain in app.domains if domain not in serving and domain != given]


def prove(gatling: Gatling, app: str) -> None:
    """Shake hands for each domain: what is shown must be what was chosen. Raises ProxyRefused."""
    address = gatling.router.tls_address()
    if address is None:
        return
    found = apps.get(gatling.db, app)
    for domain, one in certificates.chosen(
        gatling.certificates.of(app), found.domains, time.time()
    ).items():
        name = _one_of(domain)
        der = _shake_hands(address, name)
        shown = certificates.identity(der) if der else ""
        if shown != one.id:
            raise ProxyRefused(
                f"nginx does not serve {name} with the certificate, but"
                f" {'with another one' if shown else 'not over TLS at all'}.",
                hint="A server block of your own for this name may come first: `nginx -T` shows all"
                " of them. `journalctl -u nginx` has its errors.",
            )


def foreign(gatling: Gatling, domain: str, known: Container[str]) -> bool:
    """Whether the proxy serves a domain with a certificate for it that is not a known one, by id.

    A site that the operator has written for the domain does so. The certificate of a site that
    answers for all unknown names may cover the domain by a `*`, and is none for it.
    """
    address, name = gatling.router.tls_address(), _one_of(domain)
    der = _shake_hands(address, name) if address else b""
    if not address or not der or certificates.identity(der) in known:
        return False
    from gatling.proxy import x509  # takes a while to load

    listed = x509.names_of(der)
    if name in listed:
        return True
    return certificates.covers(listed, name) and _shake_hands(address, NOBODYS) != der


def _one_of(domain: str) -> str:
    """A name under a domain with a `*`; another domain itself."""
    return domain.replace("*", "gatling-check")


def _shake_hands(address: Address, name: str) -> bytes:
    """The certificate (DER) that is shown for a name; empty when there is no handshake."""
    # what is wanted is the certificate itself: whether this machine trusts it says nothing
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        contextlib.suppress(OSError),
        socket.create_connection((address.host, address.port), HANDSHAKE_SECONDS) as connection,
        context.wrap_socket(connection, server_hostname=name) as secured,
    ):
        return secured.getpeercert(binary_form=True) or b""
    return b""
