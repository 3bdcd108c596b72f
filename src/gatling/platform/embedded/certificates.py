"""Certificates of an embedded home: those of its own authority, and those that somebody gave.

HOME/authority/         see proxy/local_authority.py
HOME/certificates/APP/  see proxy/certificates.py
HOME/certificates/due   the Unix time of the next renewal, for the clock; only while TLS is on
"""

from __future__ import annotations

import getpass
import os
import socket
import time
from typing import TYPE_CHECKING

from gatling import names
from gatling.errors import InvalidInput
from gatling.paths import exclusively
from gatling.platform.embedded import clock
from gatling.platform.embedded.listening import LISTEN_TLS
from gatling.proxy import certificates, local_authority
from gatling.state import home_settings
from gatling.times import day

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gatling.platform.embedded.home import EmbeddedHome
    from gatling.proxy.certificates import Certificate
    from gatling.proxy.local_authority import Authority
    from gatling.state.apps import App
    from gatling.state.database import Database

NEW = "`gatling certificates authority --new`"


class OwnCertificates:
    """Implements `Certificates`; see there for the calls."""

    def __init__(self, home: EmbeddedHome, db: Database) -> None:
        self._home = home
        self._db = db
        self._directory = home.certificates

    def of(self, app: str) -> list[Certificate]:
        """See Certificates: none while the proxy serves HTTP only."""
        return certificates.stored(self._directory, app) if self._is_on() else []

    def add(self, app: str, pem: str) -> tuple[Certificate, bool]:
        """See Certificates."""
        if not self._is_on():
            raise InvalidInput(
                "The proxy of this home serves HTTP only, so it needs no certificate.",
                hint="`gatling up --tls` serves HTTPS as well.",
            )
        from gatling.proxy import x509  # takes a while to load

        pair = x509.read(pem.encode("utf-8", "replace"), time.time())
        new = certificates.add(self._directory, app, pair.certificate, pair.chain, pair.key)
        return pair.certificate, new

    def chain(self, app: str, certificate: str) -> str:
        """See Certificates."""
        return (self._directory / app / certificate / certificates.CHAIN).read_text()

    def challenges(self) -> None:
        """See Certificates: CAs on the internet do not reach an embedded home."""

    def has_leftovers(self, app: str) -> bool:
        """See Certificates."""
        return certificates.has_leftovers(self._directory, app)

    def request(self, app: str, domains: Sequence[str]) -> str:  # noqa: ARG002
        """See Certificates."""
        raise _no_ca()

    def install(self, app: str, chain: str) -> tuple[Certificate, bool]:  # noqa: ARG002
        """See Certificates."""
        raise _no_ca()

    def copy(self, app: str, certificate: str, source: str) -> bool:
        """See Certificates."""
        return certificates.copy(self._directory, source, app, certificate)

    def obtain_later(self, app: str | None, seconds: float = 0) -> None:
        """See Certificates: they are made whenever the proxy is configured."""

    def retire(self, app: str, certificate: str) -> None:
        """See Certificates."""
        certificates.retire(self._directory, app, certificate, retired=True)

    def keep(self, app: str, certificate: str) -> None:
        """See Certificates."""
        certificates.retire(self._directory, app, certificate, retired=False)

    def remove_retired(self, app: str) -> None:
        """See Certificates."""
        certificates.remove_retired(self._directory, app)

    def authority(self) -> tuple[Authority, Path] | None:
        """See Certificates."""
        found = local_authority.find(self._home.authority)
        return (found, self._home.authority / local_authority.CERTIFICATE) if found else None

    def replace_authority(self, apps: Sequence[App]) -> None:
        """See Certificates."""
        with exclusively(self._home, "router"):  # certificates are made under this lock
            self._create_authority(apps, time.time())

    def problems(self, app: App) -> list[str]:
        """See Certificates."""
        authority = local_authority.find(self._home.authority)
        if not self._is_on() or authority is None:
            return []
        now = time.time()
        if now < authority.not_before:
            wrong = (
                f"The clock of this machine shows {day(now)}, but its local authority was created"
            )
            cure = f"Set the clock (`timedatectl`), or create another authority with {NEW}."
            return [f"{wrong} on {day(authority.not_before)}. {cure}"]
        if now > authority.not_after:
            expired = f"The local authority expired on {day(authority.not_after)}."
            return [f"{expired} {NEW} creates another one."]
        served = certificates.chosen(self.of(app.name), app.domains, now)
        missing = [one for one in app.domains if one not in served]
        outside = [one for one in missing if not authority.may_vouch_for(one)]
        if addresses := [one for one in outside if names.is_address(one)]:
            outside = [one for one in outside if one not in addresses]
            why = "served over HTTP only, because the local authority cannot vouch for"
            found = [f"{', '.join(addresses)}: {why} addresses of other networks."]
        else:
            found = []
        if not outside:
            return found
        them = "this domain" if len(outside) == 1 else "these domains"
        why = f"served over HTTP only, because the local authority cannot vouch for {them}."
        cure = f"{NEW} creates another authority, which you have to trust again."
        return [*found, f"{', '.join(outside)}: {why} {cure}"]

    def follow(self, apps: Sequence[App], now: float) -> None:
        """Make the certificates that these apps lack, or that expire soon; raises OSError.

        None is made while the clock of the machine is wrong, or after the end of the authority:
        `problems` says so, and whatever serves goes on.
        """
        authority = local_authority.find(self._home.authority)
        if authority is None:
            authority = self._create_authority(apps, now)
        for app in apps if authority.is_valid(now) else ():
            kept = certificates.stored(self._directory, app.name)
            wanted = local_authority.due(authority, kept, app.domains, now)
            if wanted:
                from gatling.proxy import local_issuing  # takes a while to load

                made, chain, key = local_issuing.issue(self._home.authority, wanted, now)
                # the one added last serves, even if the clock was put back since the one before
                added = max([now, *(one.added + 1 for one in kept)])
                made = made._replace(added=added)
                certificates.add(self._directory, app.name, made, chain, key)

    def places(self, app: App, now: float) -> dict[str, Path]:
        """The directory of the certificate of each domain of an app that has one."""
        kept = certificates.stored(self._directory, app.name)
        chosen = certificates.chosen(kept, app.domains, now)
        return {domain: self._directory / app.name / one.id for domain, one in chosen.items()}

    def tidy(self, apps: Sequence[App], now: float) -> None:
        """Remove what no domain needs of all that was made; note when the next one expires."""
        due = []
        for app in apps:
            kept = certificates.stored(self._directory, app.name)
            serving = {one.id for one in certificates.chosen(kept, app.domains, now).values()}
            for one in kept:
                if one.obtained and one.id not in serving:
                    self.retire(app.name, one.id)
                elif one.obtained:
                    due.append(local_authority.renew_at(one))
            self.remove_retired(app.name)
        clock.renew_at(self._home, min(due, default=None))

    def _create_authority(self, apps: Sequence[App], now: float) -> Authority:
        from gatling.proxy import local_issuing  # takes a while to load

        domains = local_authority.limits(domain for app in apps for domain in app.domains)
        owner = f"{_user()}@{socket.gethostname()}"
        return local_issuing.create(self._home.authority, owner, domains, now)

    def _is_on(self) -> bool:
        return bool(home_settings.get(self._db, LISTEN_TLS))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may have no name for its user
        return str(os.getuid())


def _no_ca() -> InvalidInput:
    return InvalidInput("No CA reaches an embedded home: its local authority makes certificates.")
