"""Whether and when a certificate is obtained from a CA. Pure, but for the last function."""

from __future__ import annotations

import contextlib
import dataclasses
from enum import StrEnum
from typing import TYPE_CHECKING

from gatling.errors import HelperFailed
from gatling.proxy.certificates import MAX_NAMES, covers
from gatling.state import issuance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatling.platform.open import Gatling
    from gatling.proxy.certificates import Certificate
    from gatling.state.issuance import Account, Issuance

DAY = 86400
SHORT_LIVED = 10 * DAY
"""Seconds of validity below which a certificate is renewed at half of its life, not a third."""
WEEK = 7 * DAY
LOCAL = ("localhost", "invalid", "onion")
"""Top-level domains for which no CA verifies names over HTTP."""
PRIVATE = ("local", "internal", "test", "arpa")
"""Top-level domains that a CA of one's own may know, and no other (RFC 6761, 6762, 8375)."""


def obtainable(domain: str, *, own_ca: bool = False) -> bool:
    """Whether a CA can verify a domain over HTTP; `own_ca` is whether it is one of one's own."""
    labels = domain.split(".")
    if len(labels) < 2 or labels[0] == "*" or "_" in domain or labels[-1].isdecimal():
        return False
    return labels[-1] not in LOCAL and (own_ca or labels[-1] not in PRIVATE)


def is_own(account: Account | None) -> bool:
    """Whether the CA of an account is one of the operator's own."""
    return account is not None and bool(account.trusted)


def wanted(
    domains: Sequence[str], kept: Sequence[Certificate], now: float, *, own_ca: bool = False
) -> list[str]:
    """The domains for which Gatling obtains a certificate: those that have none of their own."""
    own = [one for one in kept if not one.obtained and one.not_after >= now]
    return [
        domain for domain in domains
        if obtainable(domain, own_ca=own_ca) and not any(covers(one.names, domain) for one in own)
    ]  # fmt: skip


def within(domains: Sequence[str], current: Certificate | None) -> tuple[list[str], list[str]]:
    """The domains that one certificate can have, and the others. Those with HTTPS come first."""
    new = lacking(domains, current)
    ranked = [*(one for one in domains if one not in new), *new]
    return [one for one in domains if one in ranked[:MAX_NAMES]], ranked[MAX_NAMES:]


def trusted(state: Issuance, now: float) -> Issuance:
    """The state without times that are too far ahead, which a wrong clock or CA has left."""
    return dataclasses.replace(
        state,
        ask_at=state.ask_at if state.ask_at <= now + DAY else 0,
        retry_at=state.retry_at if state.retry_at <= now + DAY else 0,
        blocked_until=state.blocked_until if state.blocked_until <= now + WEEK else 0,
    )


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


class Stage(StrEnum):
    """How far an attempt came that failed."""

    HERE = "here"
    """The CA was not asked."""
    AT_THE_CA = "at the CA"
    ISSUED = "issued"
    """The CA issued a certificate, which does not serve."""


def pause(failures: int, stage: Stage) -> float:
    """Seconds until the next attempt, after so many failures.

    Let's Encrypt allows five failed verifications of a domain in an hour. A domain that does not
    lead here yet is noticed before the CA is asked, so that is looked at again sooner. Of the same
    certificate it issues five in a week.
    """
    if stage is Stage.ISSUED and failures > 1:
        return float(DAY)
    first, most = (60, 6 * 3600) if stage is Stage.HERE else (900, DAY)
    return float(min(first * 2 ** min(failures - 1, 10), most))


def later(gatling: Gatling, app: str | None) -> bool:
    """Obtain what an app lacks (None: any app) in the background, if that begins. Never fails."""
    if issuance.account(gatling.db) is None:
        return False
    with contextlib.suppress(HelperFailed):
        gatling.certificates.obtain_later(app)
        return True
    return False
