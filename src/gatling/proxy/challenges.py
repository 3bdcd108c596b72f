"""How a CA is shown that a domain leads to this server: by HTTP-01 (RFC 8555, section 8.3).

dns.py has the way by DNS-01.
"""

from __future__ import annotations

import contextlib
import re
import time
from typing import TYPE_CHECKING, Protocol

from gatling import files
from gatling.errors import CertificateFailed

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = re.compile(r"[A-Za-z0-9_-]{16,128}\Z")
"""base64url, as nginx knows it too (parts.py)."""
PATH = "/.well-known/acme-challenge/"
STALE_SECONDS = 86400


class Challenge(Protocol):
    """A way to show it."""

    kind: str
    """As ACME names it: `http-01` or `dns-01`."""

    def present(self, domain: str, token: str, answer: str) -> None:
        """Have the answer to a token found. Raises CertificateFailed for no valid token."""

    def settle(self) -> None:
        """Wait until a CA finds all that was presented. Raises CertificateFailed."""

    def withdraw(self, domain: str, token: str) -> None:
        """Take it back."""


class HttpChallenge:
    """Implements `Challenge` by files that nginx serves."""

    kind = "http-01"

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def present(self, domain: str, token: str, answer: str) -> None:
        """See Challenge."""
        file = self._file(domain, token)
        self._remove_stale()
        files.write(file, answer, mode=0o644)

    def settle(self) -> None:
        """See Challenge: nginx has a file immediately."""

    def withdraw(self, domain: str, token: str) -> None:
        """See Challenge."""
        self._file(domain, token).unlink(missing_ok=True)

    def _file(self, domain: str, token: str) -> Path:
        if not TOKEN.match(token):
            raise CertificateFailed(
                f"The CA asks for {domain} with a token that is none of ACME's.",
                hint="Is the URL that of a CA? `gatling certificates account` shows it.",
            )
        return self._directory / token

    def _remove_stale(self) -> None:
        """Remove what commands left that were killed."""
        before = time.time() - STALE_SECONDS
        for file in self._directory.iterdir():
            with contextlib.suppress(OSError):
                if file.lstat().st_mtime < before:
                    file.unlink()
