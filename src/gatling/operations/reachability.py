"""Whether a CA will find this server under a domain: a token of one's own is fetched through it.

So a domain that does not lead here is noticed before the CA counts a failure (its rate limits).
"""

from __future__ import annotations

import errno
import http.client
import secrets
import socket
import ssl
import urllib.request
from typing import TYPE_CHECKING

from gatling.errors import CertificateFailed
from gatling.proxy.challenges import PATH

if TYPE_CHECKING:
    from gatling.proxy.challenges import Challenge

SECONDS = 8.0
PORT = 80
MAX_ADDRESSES = 4
REDIRECTS = (301, 302, 303, 307, 308)
NO_ROUTE = (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""Errors of a machine that has no IPv6 itself, which says nothing of the address."""
SKIP = "If this server only cannot reach its own address: `gatling settings set APP certificates.check=false`."  # noqa: E501


def fault(domain: str, challenge: Challenge, public: str | None) -> CertificateFailed | None:
    """Return why a CA would not find this server under a domain; None when it would.

    `public` is this server's address on the internet, where that is known.
    """
    token = secrets.token_urlsafe(32)
    answer = f"{token}.{secrets.token_urlsafe(16)}"
    challenge.present(domain, token, answer)
    try:
        return _fault(domain, f"{PATH}{token}", answer, f" to {public}" if public else " here")
    finally:
        challenge.withdraw(domain, token)


def _fault(domain: str, path: str, answer: str, here: str) -> CertificateFailed | None:
    try:
        found = socket.getaddrinfo(domain, PORT, type=socket.SOCK_STREAM)
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
            status, text = _answer(domain, address, path)
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) in NO_ROUTE and len(addresses) > 1:
                continue
            said = getattr(error, "strerror", None) or "no answer in time"
            return CertificateFailed(
                f"{domain} ({address}) cannot be reached on port {PORT}: {said}.",
                hint=f"Open port {PORT} to the internet, or correct the DNS record. {SKIP}",
            )
        if text != answer:
            return CertificateFailed(
                f"{domain} leads to another server: {address} answered with status {status}.",
                hint=f"Let all A and AAAA records of {domain} point{here}.",
            )
        reached = True
    if reached:
        return None
    return CertificateFailed(
        f"{domain} has addresses that this server cannot reach: {', '.join(addresses)}.", hint=SKIP
    )


def _answer(domain: str, address: str, path: str) -> tuple[int, str]:
    """The status and the text of an answer from one address; redirects are followed, as CAs do."""
    connection = http.client.HTTPConnection(address, PORT, timeout=SECONDS)
    try:
        connection.request("GET", path, headers={"Host": domain, "Connection": "close"})
        got = connection.getresponse()
        if got.status not in REDIRECTS:
            return got.status, got.read(1024).decode("latin-1")
    finally:
        connection.close()
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # a CA does not check it either (RFC 8555, section 8.3)
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    with opener.open(f"http://{domain}{path}", timeout=SECONDS) as answer:
        text: str = answer.read(1024).decode("latin-1")
        return answer.status, text
