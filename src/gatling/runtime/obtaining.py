"""Whether and when a certificate is obtained from a CA. Pure, but for the last function."""

from __future__ import annotations

import contextlib
from enum import StrEnum
from typing import TYPE_CHECKING, TypedDict

from msgspec import structs

from gatling import names
from gatling.errors import HelperFailed
from gatling.proxy.certificates import MAX_NAMES, covers
from gatling.state import issuance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatling.platform.open import Gatling
    from gatling.proxy.certificates import Certificate
    from gatling.state.database import Database
    from gatling.state.issuance import Account, Issuance

DAY = 86400
SHORT_LIVED = 10 * DAY
"""Seconds of validity below which a certificate is renewed at half of its life, not a third."""
WEEK = 7 * DAY
LEAST_SERVED = 2 * DAY
"""Seconds that a certificate serves: Let's Encrypt issues five for the same domains in a week."""
LEAST_LEFT = 2 * DAY
"""Seconds before the end of a certificate when it is renewed at the latest, at a run of the timer,
which may be 18 hours later; a third of a shorter life."""
FIRST_AT_CA, MOST_AT_CA = 900, DAY
"""Let's Encrypt allows five failed verifications of a domain in an hour."""
LOCAL = ("localhost", "invalid", "onion")
"""Top-level domains for which no CA verifies names."""
PRIVATE = ("local", "internal", "test", "arpa")
"""Top-level domains that a CA of one's own may know, and no other (RFC 6761, 6762, 8375)."""


class Means(TypedDict):
    """The ways of a server to have domains verified."""

    own_ca: bool
    """Whether the CA is one of the operator's own."""
    by_dns: bool
    """Whether the server can write records in the DNS."""


def means(db: Database) -> Means:
    """The ways of this server."""
    account = issuance.account(db)
    return Means(
        own_ca=account is not None and is_own(account), by_dns=issuance.dns(db) is not None
    )


def is_own(account: Account) -> bool:
    """Whether the CA of an account is one of the operator's own."""
    return bool(account.trusted)


def obtainable(domain: str, *, own_ca: bool = False, by_dns: bool = False) -> bool:
    """Whether a CA can verify a domain: over HTTP, or also by records in the DNS.

    Of addresses, those of the internet (RFC 8738); a CA of one's own knows private ones as well.
    """
    if names.is_address(domain):
        return _is_obtainable_address(domain, own_ca=own_ca)
    labels = domain.removeprefix("*.").split(".")
    if len(labels) < 2 or "_" in domain or (names.is_wildcard(domain) and not by_dns):
        return False
    return labels[-1] not in LOCAL and (own_ca or labels[-1] not in PRIVATE)


def _is_obtainable_address(domain: str, *, own_ca: bool) -> bool:
    import ipaddress  # for few apps

    address = ipaddress.ip_address(domain)
    if address.is_loopback or address.is_multicast or address.is_unspecified:
        return False
    return address.is_global or own_ca


def wanted(
    domains: Sequence[str],
    kept: Sequence[Certificate],
    now: float,
    *,
    own_ca: bool = False,
    by_dns: bool = False,
) -> list[str]:
    """The domains for which Gatling obtains a certificate: those that have none of their own.

    CAs refuse a domain beside a wildcard that covers it.
    """
    own = [one for one in kept if not one.obtained and one.not_after >= now]
    found = [
        domain for domain in domains
        if obtainable(domain, own_ca=own_ca, by_dns=by_dns)
        and not any(covers(one.names, domain) for one in own)
    ]  # fmt: skip
    wildcards = [one for one in found if names.is_wildcard(one)]
    return [one for one in found if names.is_wildcard(one) or not covers(wildcards, one)]


def within(domains: Sequence[str], current: Certificate | None) -> tuple[list[str], list[str]]:
    """The domains that one certificate can have, and the others. Those with HTTPS come first."""
    new = lacking(domains, current)
    ranked = [*(one for one in domains if one not in new), *new]
    return [one for one in domains if one in ranked[:MAX_NAMES]], ranked[MAX_NAMES:]


def trusted(state: Issuance, now: float) -> Issuance:
    """The state without times that are too far ahead, which a wrong clock or CA has left."""
    return structs.replace(
        state,
        ask_at=state.ask_at if state.ask_at <= now + DAY else 0,
        retry_at=state.retry_at if state.retry_at <= now + DAY else 0,
        blocked_until=state.blocked_until if state.blocked_until <= now + WEEK else 0,
        early_at=state.early_at if state.early_at <= now else 0,
    )


def newest(kept: Sequence[Certificate]) -> Certificate | None:
    """The certificate that was obtained last."""
    return next((one for one in kept if one.obtained), None)


def lacking(domains: Sequence[str], current: Certificate | None) -> list[str]:
    """The domains for which there is no obtained certificate."""
    return [one for one in domains if current is None or not covers(current.names, one)]


def renew_at(current: Certificate, state: Issuance) -> float:
    """When a certificate is to be renewed: when the CA says, else with a third of its life left.

    With a tenth left, or two days, it is renewed, whatever the CA has said. One certificate a week
    may be replaced as soon as it has been issued, because the CA will revoke it; others serve for a
    while first, so that a CA that is never content does not count one after the other.
    """
    life = current.not_after - current.not_before
    if state.certificate == current.id and state.renew_at:
        again = state.early_at and current.added - state.early_at < WEEK
        earliest = current.added + min(LEAST_SERVED, life / 2) if again else 0
        latest = current.not_after - max(life / 10, min(LEAST_LEFT, life / 3))
        return min(max(state.renew_at, earliest), latest)
    return current.not_after - life / (2 if life < SHORT_LIVED else 3)


def early_at(current: Certificate | None, state: Issuance, now: float, *, due: bool) -> float:
    """`Issuance.early_at` once another certificate has been obtained at `now`."""
    soon = due and current is not None and now < current.added + LEAST_SERVED
    return now if soon else state.early_at


def is_needed(
    domains: Sequence[str], current: Certificate | None, state: Issuance, now: float
) -> bool:
    """Whether a certificate for these domains has to be obtained: new, changed or renewed."""
    if not domains:
        return False
    if current is None or set(current.names) != set(domains):
        return True
    return now >= renew_at(current, state)


class Stage(StrEnum):
    """How far an attempt came that failed."""

    HERE = "here"
    """The CA was not asked."""
    AT_THE_CA = "at the CA"
    ISSUED = "issued"
    """The CA issued a certificate, which does not serve."""


def pause(failures: int, stage: Stage) -> float:
    """Seconds until the next attempt, after so many failures.

    A domain that does not lead here yet is noticed before the CA is asked, so that is looked at
    again sooner. Of the same certificate, Let's Encrypt issues five in a week.
    """
    if stage is Stage.ISSUED and failures > 1:
        return float(DAY)
    first, most = (60, 6 * 3600) if stage is Stage.HERE else (FIRST_AT_CA, MOST_AT_CA)
    return float(min(first * 2 ** min(failures - 1, 10), most))


def limited(seconds: float, current: Certificate | None, now: float) -> float:
    """The seconds to wait, but no more than half of those that a valid certificate has left.

    So attempts become more frequent towards its end, whatever pause is asked for, down to the
    shortest one.
    """
    if current is not None and current.not_after > now:
        seconds = min(seconds, max((current.not_after - now) / 2, FIRST_AT_CA))
    return min(seconds, WEEK)


def later(gatling: Gatling, app: str | None) -> bool:
    """Obtain what an app lacks (None: any app) in the background, if that begins. Never fails."""
    if issuance.account(gatling.db) is None:
        return False
    with contextlib.suppress(HelperFailed):
        gatling.certificates.obtain_later(app)
        return True
    return False
