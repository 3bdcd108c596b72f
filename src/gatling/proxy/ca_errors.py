"""The errors of a CA, and of the way to it, in Gatling's words."""

from __future__ import annotations

import re
import time
from typing import NamedTuple

import requests
from acme import errors as acme_errors
from acme import messages

from gatling import causes
from gatling.errors import CertificateFailed
from gatling.proxy.ca_words import HINTS, retry_at_of, short, why_untrusted

ORDER_SECONDS = 120.0
"""How long a CA may take for an order, from the last answer to a challenge."""
RETRY_SECONDS = 6 * 3600.0
"""How long a CA is left alone that says `rateLimited` and not until when."""
ABOUT_DOMAINS = ("rejectedIdentifier", "caa", "dns")
"""Errors about domains that are in the order."""


class Asked(NamedTuple):
    """The request to which an error belongs."""

    ca: str
    """The name of the CA's host."""
    domains: list[str]
    """The domains of the order, in its order."""
    retry_after: str | None
    """The header Retry-After of the last answer, if that was an error."""


def explained(error: BaseException, asked: Asked) -> CertificateFailed:
    """The error for whatever the library raised."""
    if isinstance(error, requests.exceptions.SSLError):
        return CertificateFailed(
            f"{asked.ca} shows a certificate that this machine does not trust"
            f"{why_untrusted(error)}.",
            hint="For a CA of your own: `gatling certificates account --ca-file FILE …`.",
        )
    if isinstance(error, (requests.ConnectionError, requests.Timeout)):
        why = causes.of_connection(error, timed_out=isinstance(error, requests.Timeout))
        return CertificateFailed(
            f"The CA {asked.ca} cannot be reached: {why}.",
            hint="Gatling tries again by itself.",
        )
    if isinstance(error, acme_errors.TimeoutError):
        return CertificateFailed(
            f"The CA {asked.ca} did not finish within {ORDER_SECONDS:.0f} s.",
            hint="Gatling tries again by itself.",
        )
    if isinstance(error, acme_errors.ValidationError):
        return _not_verified(error, asked.ca)
    if isinstance(error, acme_errors.IssuanceError):
        error = error.error
    if isinstance(error, messages.Error):
        return refused(error, asked)
    return CertificateFailed(
        f"The CA {asked.ca} gave an answer that is not ACME's"
        f" ({type(error).__name__}: {short(error)}).",
        hint="Is the directory's URL that of a CA? `gatling certificates account` shows it.",
    )


def refused(error: messages.Error, asked: Asked) -> CertificateFailed:
    """The error for a request that the CA refused."""
    code = error.code or ""
    parts = [error, *(error.subproblems or ())]
    said = "; ".join(short(one.detail) for one in parts if one.detail) or code or error.typ
    retry_at = retry_at_of(asked.retry_after)
    if code == "rateLimited":
        retry_at = retry_at or time.time() + RETRY_SECONDS
    return CertificateFailed(
        f"The CA {asked.ca} refused: {said.rstrip('.')}.",
        hint=HINTS.get(code, ""),
        retry_at=retry_at,
        forgotten=code == "accountDoesNotExist",
        domains=_refused_domains(error, asked.domains),
    )


def domain_of(authorization: messages.AuthorizationResource) -> str:
    """The domain that is to be verified, with its `*.`."""
    domain = str(authorization.body.identifier.value)
    return f"*.{domain}" if authorization.body.wildcard else domain


def _refused_domains(error: messages.Error, ordered: list[str]) -> list[str]:
    """The domains of the order that an error is about."""
    parts = [error, *(error.subproblems or ())]
    found = {str(one.identifier.value) for one in parts if one.identifier}
    if not found and error.code in ABOUT_DOMAINS:
        # of a single one, CAs name it in their words only
        said = set(re.findall(r"[a-z0-9*][a-z0-9._-]*[a-z0-9]", str(error.detail).lower()))
        found = said & set(ordered)
    # once it has been verified, CAs name a wildcard by its domain
    return [one for one in ordered if one in found or one.removeprefix("*.") in found]


def _not_verified(error: acme_errors.ValidationError, ca: str) -> CertificateFailed:
    said, hints = [], []
    for one in error.failed_authzrs:
        for challenge in one.body.challenges:
            if challenge.error is not None:
                domain, why = domain_of(one), challenge.error
                said.append(f"{domain}: {short(why.detail or why.typ).rstrip('.')}")
                hints.append(HINTS.get(why.code or "", ""))
    return CertificateFailed(
        f"The CA {ca} could not verify {'; '.join(said)}.",
        hint=next(filter(None, hints), ""),
        domains=[domain_of(one) for one in error.failed_authzrs],
    )
