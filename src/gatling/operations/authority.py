"""The certificate authority of an embedded home: how people trust it, and its replacement."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.errors import NotFound
from gatling.state import apps, audit
from gatling.times import day

if TYPE_CHECKING:
    from gatling.platform.open import Gatling


class LocalAuthority(Struct, frozen=True):
    """The authority that makes the certificates of a home."""

    name: str
    """The name that browsers show as the issuer."""
    file: str
    """The path of its certificate."""
    fingerprint: str
    """SHA-256 of its certificate, as browsers show it."""
    domains: list[str]
    """The domains that it can vouch for, each with all of its subdomains."""
    not_before: str
    """The first day on which it is valid, in UTC."""
    not_after: str
    """The last one."""
    pem: str

    @property
    def nickname(self) -> str:
        """The name under which stores of certificates keep it."""
        return f"gatling-{self.name.rpartition(' ')[2]}"


def shown(gatling: Gatling) -> LocalAuthority:
    """The authority of this home; raises NotFound."""
    found = gatling.certificates.authority()
    if found is None:
        raise NotFound(
            "There is no local authority here.",
            hint="On an embedded home, `gatling up --tls` creates one.",
        )
    authority, file = found
    return LocalAuthority(
        name=authority.name,
        file=str(file),
        fingerprint=authority.fingerprint,
        domains=list(authority.domains),
        not_before=day(authority.not_before),
        not_after=day(authority.not_after),
        pem=file.read_text(),
    )


def replace(gatling: Gatling) -> LocalAuthority:
    """Create another authority, for the domains that all apps have now, and serve with it.

    The one before serves until then. Raises InvalidInput on a server.
    """
    gatling.certificates.replace_authority(apps.every(gatling.db))
    gatling.configure_router()
    made = shown(gatling)
    audit.record(gatling.db, gatling.actor, None, "certificates authority", made.name)
    return made


def trusting(one: LocalAuthority) -> list[tuple[str, str]]:
    """The commands with which people trust an authority, each with the programs that it is for."""
    file, name = shlex.quote(one.file), one.nickname
    stored = f"/usr/local/share/ca-certificates/{name}.crt"
    keychain = "~/Library/Keychains/login.keychain-db"
    add = f"-A -t C,, -n {name} -i {file}"
    return [
        (
            "Debian, Ubuntu (curl and other programs)",
            f"sudo install -m 644 {file} {stored} && sudo update-ca-certificates",
        ),
        (
            "macOS",
            f"security add-trusted-cert -r trustRoot -p basic -p ssl -k {keychain} {file}",
        ),
        (
            "Chrome and Chromium on Linux",
            f'mkdir -p ~/.pki/nssdb && certutil -d "sql:$HOME/.pki/nssdb" {add}',
        ),
        (
            "Firefox on Linux",
            f'for db in ~/.mozilla/firefox/*/cert9.db; do certutil -d "sql:${{db%/*}}" {add}; done',
        ),
    ]
