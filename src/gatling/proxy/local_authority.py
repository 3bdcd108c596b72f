"""The certificate authority of one home: what it may vouch for, and which certificates are due.

Only people who trust its certificate trust the sites of the home. The certificate itself limits the
names that it can vouch for (name constraints, RFC 5280, section 4.2.1.10), so that a stolen key is
of no use for other sites. The limits cannot change later: other limits are another authority, which
people have to trust again. The module that makes certificates (local_issuing.py) is loaded only
when one is due.

    authority/certificate.pem   for people, who have to trust it
    authority/key.pem           mode 0600
    authority/about.json        the same facts for programs; see Authority
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, NamedTuple

from gatling import files
from gatling.names import is_address
from gatling.proxy.certificates import covers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from gatling.proxy.certificates import Certificate

CERTIFICATE, KEY, ABOUT = "certificate.pem", "key.pem", "about.json"
ALWAYS = ("localhost", "test")
"""Top-level domains that belong to nobody on the internet (RFC 6761)."""
NETWORKS = ("127.0.0.0/8", "::1/128")
"""The only IP addresses that an authority may vouch for: those of the machine itself."""


class Authority(NamedTuple):
    """An authority as people need it. Its key stays in the home."""

    id: str
    """The first half of its SHA-256 fingerprint, in hexadecimal digits."""
    name: str
    """The name that browsers show as the issuer."""
    fingerprint: str
    """SHA-256, as browsers show it."""
    domains: tuple[str, ...]
    """The domains that it may vouch for, each with all of its subdomains."""
    not_before: int
    """Unix time, in seconds."""
    not_after: int
    """Unix time, in seconds; the last second of its validity."""

    def may_vouch_for(self, domain: str) -> bool:
        """Whether a domain, also one with a `*`, is within the limits."""
        if is_address(domain):
            return _is_own(domain)
        bare = domain.removeprefix("*.")
        return any(bare == one or bare.endswith(f".{one}") for one in self.domains)

    def is_valid(self, now: float) -> bool:
        """Whether clients accept it at a Unix time."""
        return self.not_before <= now <= self.not_after


def limits(domains: Iterable[str]) -> tuple[str, ...]:
    """The domains that a new authority has to vouch for, without those that others include.

    The addresses are always NETWORKS.
    """
    found = list(ALWAYS)
    bare = {domain.removeprefix("*.") for domain in domains if not is_address(domain)}
    for domain in sorted(bare, key=lambda one: (one.count("."), one)):
        if not any(domain == one or domain.endswith(f".{one}") for one in found):
            found.append(domain)
    return tuple(found)


def _is_own(address: str) -> bool:
    import ipaddress  # for few apps

    found = ipaddress.ip_address(address)
    return any(found in ipaddress.ip_network(one) for one in NETWORKS)


def find(directory: Path) -> Authority | None:
    """The authority in a directory; raises OSError."""
    try:
        data = json.loads((directory / ABOUT).read_text())
    except FileNotFoundError:
        return None
    return Authority(**(data | {"domains": tuple(data["domains"])}))


def put(directory: Path, authority: Authority, certificate: str, key: str) -> None:
    """Keep an authority in the place of an earlier one, on the disk when this returns.

    Raises OSError.
    """
    making, earlier = (directory.with_name(f".{directory.name}.{how}") for how in ("new", "old"))
    for left in (making, earlier):  # of a command that was killed
        shutil.rmtree(left, ignore_errors=True)
    making.mkdir(mode=0o700)
    files.write(making / KEY, key, mode=0o600)
    files.write(making / CERTIFICATE, certificate, mode=0o644)
    files.write(making / ABOUT, json.dumps(authority._asdict()), mode=0o644)
    if directory.exists():
        directory.rename(earlier)
    making.rename(directory)
    files.sync(directory.parent)
    shutil.rmtree(earlier, ignore_errors=True)


def due(
    authority: Authority, kept: Sequence[Certificate], domains: Sequence[str], now: float
) -> list[str]:
    """The domains for which an app needs another certificate of the authority, if it needs one.

    `kept` are the app's certificates. Domains that a person gave a certificate for are left out.
    """
    wanted = vouched(authority, kept, domains, now)
    current = next((one for one in kept if one.obtained), None)
    if wanted and current is not None and set(current.names) == set(wanted):
        usable = current.issuer == authority.name and current.not_before <= now
        if usable and now < renew_at(current):
            return []
    return wanted


def vouched(
    authority: Authority, kept: Sequence[Certificate], domains: Sequence[str], now: float
) -> list[str]:
    """The domains within its limits for which a person gave no certificate."""
    given = [one for one in kept if not one.obtained and one.not_after >= now]
    return [
        domain for domain in domains
        if authority.may_vouch_for(domain) and not any(covers(one.names, domain) for one in given)
    ]  # fmt: skip


def renew_at(certificate: Certificate) -> int:
    """When a certificate of the authority is replaced: with a third of its validity left."""
    return certificate.not_after - (certificate.not_after - certificate.not_before) // 3
