"""Whether a CA will find this server under a domain: a token of one's own is fetched through it.

The same for records in the DNS: a record of one's own is written.

So a domain that does not lead here is noticed before the CA counts a failure (its rate limits).
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import secrets
import socket
import time
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from gatling import names
from gatling.errors import CertificateFailed, GatlingError
from gatling.operations import hops
from gatling.proxy.challenges import PATH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatling.proxy.authority import Challenges
    from gatling.proxy.challenges import Challenge

SECONDS = 15.0
"""Time limit for a domain."""
ALL_SECONDS = 120.0
"""Time limit for all domains of an app."""
RECORDS_SECONDS = 600.0
"""Time limit for the records of all domains of an app, until which the last one is begun."""
AT_ONCE = 8
"""Domains that are checked at the same time."""
MAX_ADDRESSES = 4
NO_ROUTE = (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""Errors of a machine that has no IPv6 itself, which says nothing of the address."""
SKIP = "If this server only cannot reach its own address: `gatling settings set APP certificates.check=false`."  # noqa: E501


def faults(
    domains: Sequence[str], challenge: Challenge, public: str | None
) -> dict[str, CertificateFailed]:
    """Return why a CA would not find this server, for those of these domains where it would not.

    Raises OSError when no token can be written.
    """
    deadline = time.monotonic() + ALL_SECONDS
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        asked = {pool.submit(fault, one, challenge, public, deadline): one for one in domains}
        done, _ = wait(asked, max(0, deadline - time.monotonic()))
    finally:  # a look-up in the DNS cannot be called off, and is not waited for
        pool.shutdown(wait=False, cancel_futures=True)
    results = {domain: one.result() if one in done else _late(domain)
               for one, domain in asked.items()}  # fmt: skip
    return {domain: found for domain, found in results.items() if found is not None}


def _late(domain: str, seconds: float = ALL_SECONDS) -> CertificateFailed:
    return CertificateFailed(
        f"{domain} was not checked: the domains before it took {seconds:.0f} s.",
        hint="Remove domains that do not lead here. Gatling tries again by itself.",
    )


def fault(
    domain: str, challenge: Challenge, public: str | None, until: float
) -> CertificateFailed | None:
    """Return why a CA would not find this server under a domain; None when it would.

    `public` is this server's address on the internet, where that is known, and `until` the time
    of `time.monotonic` at which it is too late to begin.
    """
    now = time.monotonic()
    if now >= until:
        return _late(domain)
    deadline = min(until, now + SECONDS)
    token = secrets.token_urlsafe(32)
    answer = f"{token}.{secrets.token_urlsafe(16)}"
    challenge.present(domain, token, answer)
    try:
        return _fault(domain, f"{PATH}{token}", answer, f" to {public}" if public else " here",
                      deadline)  # fmt: skip
    finally:
        challenge.withdraw(domain, token)


def faults_of_records(
    domains: Sequence[str], challenges: Challenges
) -> dict[str, CertificateFailed]:
    """Return why no record can be written, for those of these domains where none can be."""
    deadline = time.monotonic() + RECORDS_SECONDS
    results = {
        domain: _fault_of_records(domain, challenges(domain))
        if time.monotonic() < deadline
        else _late(domain, RECORDS_SECONDS)
        for domain in domains
    }
    return {domain: found for domain, found in results.items() if found is not None}


def _fault_of_records(domain: str, challenge: Challenge) -> CertificateFailed | None:
    """Write a record of no meaning, and remove it again."""
    name, token = domain.removeprefix("*."), secrets.token_urlsafe(32)
    try:
        challenge.present(name, token, secrets.token_urlsafe(16))
    except CertificateFailed as error:
        return error
    except GatlingError as error:
        return CertificateFailed(error.what, hint=error.hint)
    finally:
        with contextlib.suppress(GatlingError):
            challenge.withdraw(name, token)
    return None


def _fault(
    domain: str, path: str, answer: str, here: str, deadline: float
) -> CertificateFailed | None:
    try:
        found = socket.getaddrinfo(domain, hops.PORT, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        said = getattr(error, "strerror", None) or "no valid name"
        return CertificateFailed(
            f"{domain} does not resolve: {said}.",
            hint=f"Add an A or AAAA record for {domain} that points{here}.",
        )
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))[:MAX_ADDRESSES]
    reached = False
    for address in addresses:
        try:
            wrong = _fault_at(address, domain, path, answer, here, deadline)
        except OSError as error:
            if error.errno in NO_ROUTE and len(addresses) > 1:
                continue
            said = error.strerror or "no answer in time"
            named = names.is_address(domain)
            shown, what = (domain, "address") if named else (f"{domain} ({address})", "DNS record")
            return CertificateFailed(
                f"{shown} cannot be reached on port {hops.PORT}: {said}.",
                hint=f"Open port {hops.PORT} to the internet, or correct the {what}. {SKIP}",
            )
        if wrong is not None:
            return wrong
        reached = True
    if reached:
        return None
    return CertificateFailed(
        f"{domain} has addresses that this server cannot reach: {', '.join(addresses)}.", hint=SKIP
    )


def _fault_at(
    address: str, domain: str, path: str, answer: str, here: str, deadline: float
) -> CertificateFailed | None:
    """Return why a CA would not find this server at one address; raises OSError."""
    all_here = f"Let all A and AAAA records of {domain} point{here}."
    if names.is_address(domain):
        all_here = "Give an address of this server, at which its nginx answers."
    if not hops.is_allowed(address) and not hops.is_loopback(address):
        return CertificateFailed(
            f"{domain} leads to {address}, which no CA can reach.", hint=f"{all_here} {SKIP}"
        )
    try:
        status, text = hops.fetched(domain, address, path, deadline)
    except hops.Refused as refused:
        what = f"{domain} cannot be verified: the server at {address} {refused}."
        return CertificateFailed(what, hint=all_here)
    except (http.client.HTTPException, ValueError):
        what = f"{domain} leads to another server: the answer of {address} is not valid HTTP."
        return CertificateFailed(what, hint=all_here)
    if text == answer:
        return None
    what = f"{domain} leads to another server: {address} answered with status {status}."
    return CertificateFailed(what, hint=all_here)
