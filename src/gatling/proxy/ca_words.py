"""Words for the errors of a CA: what to do about each kind, and what it says itself."""

from __future__ import annotations

import contextlib
import ssl
import time

from gatling import causes

MAX_DETAIL = 500
"""Characters of a CA's own words that are shown."""
MAX_RETRY_SECONDS = 7 * 86400.0
"""How long a CA is left alone at most, whatever it says."""
HINTS = {
    "rateLimited": "Gatling tries again when the CA allows it.",
    "dns": "Check the DNS records of the domain (A, AAAA, CAA) with `dig`.",
    "connection": "Open port 80 to the internet, in a firewall of the provider as well.",
    "unauthorized": "Another server answers for the domain: check its A and its AAAA record.",
    "caa": "Allow this CA in the domain's CAA record, or remove that record.",
    "rejectedIdentifier": "This CA issues no certificate for this name: use another domain.",
    "externalAccountRequired": "Get a key ID and a key (external account binding) from the CA, and"
    " give them: `gatling certificates account --email ADDRESS --eab-kid KID --eab-key-file FILE`.",
    "invalidContact": "Give another address: `gatling certificates account --email ADDRESS`.",
    "unsupportedContact": "Give another address: `gatling certificates account --email ADDRESS`.",
    "userActionRequired": "The CA has new terms. To accept them, give your address again:"
    " `gatling certificates account --email ADDRESS`.",
}


def retry_at_of(header: str | None) -> float:
    """The Unix time of a Retry-After header (RFC 9110, section 10.2.3); 0 for none."""
    if not header:
        return 0
    latest = time.time() + MAX_RETRY_SECONDS
    if header.isdecimal() and header.isascii():
        return latest if len(header) > 9 else min(time.time() + int(header), latest)
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        from email.utils import parsedate_to_datetime

        return min(parsedate_to_datetime(header).timestamp(), latest)
    return 0


def short(text: object) -> str:
    """Words of a CA on one line, cut where they become long."""
    said = " ".join(str(text).split())
    return said if len(said) <= MAX_DETAIL else f"{said[:MAX_DETAIL]}…"


def why_untrusted(error: BaseException) -> str:
    """The reason of OpenSSL, such as a missing extension, which Python 3.13 requires of any CA."""
    for one in causes.below(error):
        if isinstance(one, ssl.SSLCertVerificationError):
            return f" (OpenSSL: {one.verify_message})"
    return ""
