"""Certificates on an embedded home: it has none, because its proxy serves HTTP only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatling.proxy.certificates import Certificate


class NoCertificates:
    """Implements `Certificates`; see there for the calls."""

    def of(self, app: str) -> list[Certificate]:  # noqa: ARG002
        """See Certificates."""
        return []

    def add(self, app: str, pem: str) -> tuple[Certificate, bool]:  # noqa: ARG002
        """See Certificates."""
        raise _plain()

    def chain(self, app: str, certificate: str) -> str:  # noqa: ARG002
        """See Certificates."""
        raise FileNotFoundError(certificate)

    def challenges(self) -> None:
        """See Certificates."""

    def request(self, app: str, domains: Sequence[str]) -> str:  # noqa: ARG002
        """See Certificates."""
        raise _plain()

    def install(self, app: str, chain: str) -> tuple[Certificate, bool]:  # noqa: ARG002
        """See Certificates."""
        raise _plain()

    def copy(self, app: str, certificate: str, source: str) -> bool:  # noqa: ARG002
        """See Certificates."""
        raise _plain()

    def obtain_later(self, app: str | None, seconds: float = 0) -> None:
        """See Certificates."""

    def retire(self, app: str, certificate: str) -> None:
        """See Certificates."""

    def keep(self, app: str, certificate: str) -> None:
        """See Certificates."""

    def remove_retired(self, app: str) -> None:
        """See Certificates."""


def _plain() -> InvalidInput:
    return InvalidInput(
        "The proxy of an embedded home serves HTTP only, so it needs no certificate.",
        hint="A server serves HTTPS: `gatling server install` (docs/operations.md).",
    )
