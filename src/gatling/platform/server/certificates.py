"""Certificates on a server: root keeps them, and what is known of them is for all to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.errors import HelperFailed, InvalidInput
from gatling.platform.server.helper import client
from gatling.platform.server.helper.certificates import DIRECTORY
from gatling.proxy import certificates

if TYPE_CHECKING:
    from gatling.proxy.certificates import Certificate


class RootsCertificates:
    """Implements `Certificates`; see there for the calls."""

    def of(self, app: str) -> list[Certificate]:
        """See Certificates."""
        return certificates.stored(DIRECTORY, app)

    def add(self, app: str, pem: str) -> tuple[Certificate, bool]:
        """See Certificates: root's helper reads it, and keeps it."""
        try:
            answer = client.ask("certificate-add", app=app, pem=pem)
        except HelperFailed as error:
            if error.reason != client.INVALID:
                raise
            raise InvalidInput(error.what, hint=error.hint) from None
        return certificates.from_plain(answer["certificate"]), bool(answer["new"])

    def retire(self, app: str, certificate: str) -> None:
        """See Certificates."""
        client.ask("certificate", app=app, certificate=certificate, to="retired")

    def keep(self, app: str, certificate: str) -> None:
        """See Certificates."""
        client.ask("certificate", app=app, certificate=certificate, to="kept")

    def remove_retired(self, app: str) -> None:
        """See Certificates."""
        client.ask("certificate", app=app, to="removed")
