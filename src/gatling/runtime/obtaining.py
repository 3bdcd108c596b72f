"""Whether and when a certificate is obtained from a CA. Pure, but for the last function."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from gatling.errors import HelperFailed
from gatling.proxy.certificates import covers
from gatling.state import issuance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatling.platform.open import Gatling
    from gatling.proxy.certificates import Certificate
    from gatling.state.issuance import Issuance

DAY = 86400
SHORT_LIVED = 10 * DAY
"""Seconds of validity below which a certificate is renewed at half of its life, not a third."""
LOCAL = ("localhost", "invalid", "onion")
"""Top-level domains for which no CA verifies names over HTTP."""


def obtainable(domain: str) -> bool:
    """Whether a CA can verify a domain over HTTP."""
    labels = domain.split(".")
    return len(labels) > 1 and labels[0] != "*" and labels[-1] not in LOCAL


def wanted(domains: Sequence[str], kept: Sequence[Certificate], now: float) -> list[str]:
    """The domains for which Gatling obtains a certificate: those that have none of their own."""
    own = [one for one in kept if not one.obtained and one.not_after >= now]
    return [
        domain for domain in domains
        if obtainable(domain) and not any(covers(one.names, domain) for one in own)
    ]  # fmt: skip


def newest(kept: Sequence[Certificate]) -> Certificate | None:
    """The certificate that was obtained last."""
    return next((one for one in kept if one.obtained), None)


def lacking(domains: Sequence[str], current: Certificate | None) -> list[str]:
    """The domains for which there is no obtained certificate."""
    return [one for one in domains if current is None or not covers(current.names, one)]


def renew_at(current: Certificate, state: Issuance) -> float:
    """When a certificate is to be renewed: when the CA says, else with a third of its life left.

    With a tenth left it is renewed, whatever the CA has said.
    """
    life = current.not_after - current.not_before
    if state.certificate == current.id and state.renew_at:
        return min(state.renew_at, current.not_after - life / 10)
    return current.not_after - life / (2 if life < SHORT_LIVED else 3)


def is_needed(
    domains: Sequence[str], current: Certificate | None, state: Issuance, now: float
) -> bool:
    """Whether a certificate for these domains has to be obtained: new, changed or renewed."""
    if not domains:
        return False
    if current is None or set(current.names) != set(domains):
        return True
    return now >= renew_at(current, state)


def pause(failures: int, *, at_the_ca: bool) -> float:
    """Seconds until the next attempt, after so many failures.

    Let's Encrypt allows five failed verifications of a domain in an hour. A domain that does not
    lead here yet is noticed before the CA is asked, so that is looked at again sooner.
    """
    first, most = (900, DAY) if at_the_ca else (60, 6 * 3600)
    return float(min(first * 2 ** min(failures - 1, 10), most))


def later(gatling: Gatling, app: str) -> bool:
    """Obtain what an app lacks in the background; whether that begins. It never fails."""
    if issuance.account(gatling.db) is None:
        return False
    with contextlib.suppress(HelperFailed):
        gatling.certificates.obtain_later(app)
        return True
    return False
