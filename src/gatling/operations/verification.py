"""The domains that a CA will be able to verify, and the way for each: checked before it is asked.

A domain with a `*` is verified by records in the DNS, an address over HTTP, and the other domains
of an app as its setting certificates.challenge says.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gatling import names
from gatling.errors import CertificateFailed, InvalidInput
from gatling.operations import ca_account, certificates, reachability
from gatling.proxy.certificates import MAX_NAMES, chosen
from gatling.proxy.challenges import HttpChallenge
from gatling.runtime import obtaining
from gatling.state import apps, issuance
from gatling.text import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from gatling.platform.open import Gatling
    from gatling.project.settings import Certificates
    from gatling.proxy.authority import Challenges
    from gatling.state.apps import App

    Wanted = Callable[[Collection[str]], list[str]]
    """The domains to obtain a certificate for, without some. A domain that a wildcard covers is
    verified by itself when the wildcard is not."""

NEEDS_DNS = (
    "Let Gatling write them: `gatling help certificates dns`. Or give a certificate of your own:"
    " `gatling certificates add`."
)


def challenges(gatling: Gatling, options: Certificates) -> Challenges:
    """The way to verify each domain of an app. Raises InvalidInput."""
    http, given = HttpChallenge(ca_account.challenges(gatling)), issuance.dns(gatling.db)
    if given is None:
        if options.challenge == "dns":
            raise InvalidInput(
                "The setting certificates.challenge=dns needs a way to write records in the DNS.",
                hint="`gatling help certificates dns` shows how to give one.",
            )
        return lambda _: http
    from gatling.proxy import dns  # takes a while to load

    by_dns = dns.challenge(given)
    return lambda domain: by_dns if _by_dns(domain, options) else http


def verifiable(
    gatling: Gatling,
    app: str,
    wanted: Wanted,
    options: Certificates,
    refused: Collection[str] = (),
) -> tuple[list[str], dict[str, CertificateFailed]]:
    """The domains that a CA can verify, without those that it refused, and why not the others."""
    ways, http = challenges(gatling, options), HttpChallenge(ca_account.challenges(gatling))
    public = gatling.router.public_address()
    known = {
        kept.id for one in apps.every(gatling.db) for kept in gatling.certificates.of(one.name)
    }
    faults: dict[str, CertificateFailed] = {}
    sound = set[str]()
    while left := [one for one in wanted({*faults, *refused}) if one not in sound]:
        if options.check:
            by_http = [one for one in left if ways(one).kind == http.kind]
            faults |= reachability.faults(by_http, http, public)
            by_dns = [one for one in left if one not in by_http]
            faults |= reachability.faults_of_records(by_dns, ways)
        for one in left:
            if one not in faults and (found := _unservable(gatling, app, one, known)):
                faults[one] = found
        sound |= set(left)
    return wanted({*faults, *refused}), faults


def nothing_to_obtain(app: App) -> InvalidInput:
    """The error for an app that has no domain for which a certificate can be obtained."""
    wildcards = [one for one in app.domains
                 if names.is_wildcard(one) and obtaining.obtainable(one, by_dns=True)]  # fmt: skip
    if wildcards:
        return InvalidInput(
            f"A CA verifies {listed(wildcards)} by records in the DNS alone, which this server"
            " cannot write.",
            hint=NEEDS_DNS,
        )
    return InvalidInput(
        f"{app.name} has no domain for which a certificate can be obtained.",
        hint=f"`gatling domains add {app.name} DOMAIN` comes first.",
    )


def too_many(app: str, others: list[str]) -> list[CertificateFailed]:
    """The fault of an app with more domains than a certificate can have."""
    if not others:
        return []
    return [
        CertificateFailed(
            f"{listed(others)}: a certificate has at most {MAX_NAMES} domains.",
            hint=f"Give one for these domains: `gatling certificates add {app}`.",
        )
    ]


def _by_dns(domain: str, options: Certificates) -> bool:
    dns = options.challenge == "dns" and not names.is_address(domain)  # RFC 8738, section 4
    return dns or names.is_wildcard(domain)


def _unservable(
    gatling: Gatling, app: str, domain: str, known: Collection[str]
) -> CertificateFailed | None:
    """Return why nginx would not serve a domain with a certificate for it."""
    if certificates.foreign(gatling, domain, known):
        return CertificateFailed(
            f"A site of your own serves {domain} over HTTPS, with a certificate of its own.",
            hint="Remove the site, or let it obtain the certificate:"
            f" `gatling settings set {app} certificates.obtain=false`.",
        )
    if not names.is_address(domain):
        return None
    for other in apps.every(gatling.db):
        served = chosen(gatling.certificates.of(other.name), other.domains, time.time())
        addresses = [one for one in served if names.is_address(one)]
        if other.name != app and addresses:
            return CertificateFailed(
                f"nginx serves the IP addresses of one app only over HTTPS, and {other.name} has"
                f" {addresses[0]}.",
                hint=f"`gatling domains remove {app} {domain}`, or {addresses[0]} from"
                f" {other.name}.",
            )
    return None
