"""How this server writes records in the DNS, by which a CA verifies domains (DNS-01)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling import names
from gatling.errors import InvalidInput, NotFound
from gatling.state import audit, issuance
from gatling.state.issuance import Dns

if TYPE_CHECKING:
    from gatling.platform.open import Gatling

_PLACE = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]]+))(?::([0-9]{1,5}))?\Z")


class DnsShown(Struct, frozen=True):
    """How records are written, without the key itself."""

    server: str
    """The primary server of the zones; empty with a program."""
    port: int
    key: str
    """The name of the key that signs updates."""
    algorithm: str
    program: str


def shown(gatling: Gatling) -> DnsShown:
    """How records are written; raises NotFound."""
    found = issuance.dns(gatling.db)
    if found is None:
        raise NotFound(
            "This server cannot write records in the DNS.",
            hint="`gatling help certificates dns` shows both ways to let it.",
        )
    return DnsShown(found.server, found.port, found.key, found.algorithm, found.program)


def use_updates(gatling: Gatling, server: str, key: str) -> DnsShown:
    """Write records by updates (RFC 2136) on a server, signed with a key; raises InvalidInput.

    `key` is the text of its file.
    """
    from gatling.proxy import dns

    host, port = _place(server)
    name, algorithm, secret = dns.parsed_key(key)
    _use(gatling, Dns(server=host, port=port, key=name, algorithm=algorithm, secret=secret))
    audit.record(gatling.db, gatling.actor, None, "certificates dns", f"{host}:{port} {name}")
    return shown(gatling)


def use_program(gatling: Gatling, program: str) -> DnsShown:
    """Write records by a program; raises InvalidInput for one that others could change."""
    from gatling.proxy import dns

    dns.checked_program(program)
    _use(gatling, Dns(program=program))
    audit.record(gatling.db, gatling.actor, None, "certificates dns", program)
    return shown(gatling)


def use_none(gatling: Gatling) -> None:
    """Write no records any more."""
    issuance.put_dns(gatling.db, None)
    audit.record(gatling.db, gatling.actor, None, "certificates dns", "off")


def _use(gatling: Gatling, given: Dns) -> None:
    issuance.put_dns(gatling.db, given)
    issuance.wait_no_longer(gatling.db)  # attempts that failed may succeed now


def _place(text: str) -> tuple[str, int]:
    """A host name or an address, and a port: 53 unless it is given."""
    found = _PLACE.match(text.lower())
    port = int(found[3] or 53) if found else 0
    if not found or not 0 < port < 65536:
        raise InvalidInput(
            f"{text!r} is not a server.", hint="For example ns1.example.com:53 or [2001:db8::1]."
        )
    return found[1] or names.domain(found[2]), port
