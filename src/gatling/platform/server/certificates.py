"""Certificates on a server: root keeps them, and what is known of them is for all to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.errors import HelperFailed, InvalidInput
from gatling.paths import SERVER
from gatling.platform.server.helper import client
from gatling.platform.server.helper.certificates import DIRECTORY
from gatling.proxy import certificates

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from gatling.proxy.certificates import Certificate
    from gatling.state.apps import App

CHALLENGES = SERVER / "challenges"


class RootsCertificates:
    """Implements `Certificates`; see there for the calls."""

    def of(self, app: str) -> list[Certificate]:
        """See Certificates."""
        return certificates.stored(DIRECTORY, app)

    def add(self, app: str, pem: str) -> tuple[Certificate, bool]:
        """See Certificates: root's helper reads it, and keeps it."""
        return _kept("certificate-add", app=app, pem=pem)

    def chain(self, app: str, certificate: str) -> str:
        """See Certificates."""
        return (DIRECTORY / app / certificate / certificates.CHAIN).read_text()

    def challenges(self) -> Path:
        """See Certificates."""
        return CHALLENGES

    def request(self, app: str, domains: Sequence[str]) -> str:
        """See Certificates: root's helper makes the key, and never gives it away."""
        answer = client.ask("certificate-request", app=app, domains=list(domains))
        return str(answer["request"])

    def install(self, app: str, chain: str) -> tuple[Certificate, bool]:
        """See Certificates."""
        return _kept("certificate-install", app=app, chain=chain)

    def copy(self, app: str, certificate: str, source: str) -> bool:
        """See Certificates."""
        answer = client.ask("certificate-copy", app=app, certificate=certificate, source=source)
        return bool(answer["new"])

    def obtain_later(self, app: str | None, seconds: float = 0) -> None:
        """See Certificates: in a unit of its own."""
        if app is None:
            client.ask("certificate-obtain", every=True)
            return
        client.ask("certificate-obtain", app=app, after=seconds)

    def retire(self, app: str, certificate: str) -> None:
        """See Certificates."""
        client.ask("certificate", app=app, certificate=certificate, to="retired")

    def keep(self, app: str, certificate: str) -> None:
        """See Certificates."""
        client.ask("certificate", app=app, certificate=certificate, to="kept")

    def remove_retired(self, app: str) -> None:
        """See Certificates."""
        client.ask("certificate", app=app, to="removed")

    def has_leftovers(self, app: str) -> bool:
        """See Certificates."""
        return certificates.has_leftovers(DIRECTORY, app)

    def authority(self) -> None:
        """See Certificates: CAs that browsers trust make a server's certificates."""

    def replace_authority(self, apps: Sequence[App]) -> None:  # noqa: ARG002
        """See Certificates."""
        raise InvalidInput(
            "A server has no local authority: a CA that browsers trust makes its certificates.",
            hint="`gatling certificates account` shows the account with the CA.",
        )

    def problems(self, app: App) -> list[str]:  # noqa: ARG002
        """See Certificates."""
        return []


def _kept(verb: str, **arguments: Any) -> tuple[Certificate, bool]:
    try:
        answer = client.ask(verb, **arguments)
    except HelperFailed as error:
        if error.reason != client.INVALID:
            raise
        raise InvalidInput(error.what, hint=error.hint) from None
    return certificates.from_plain(answer["certificate"]), bool(answer["new"])
