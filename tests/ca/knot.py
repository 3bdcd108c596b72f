"""Debian's Knot, an authoritative DNS server with updates (RFC 2136), unpacked like pebble."""

from __future__ import annotations

import contextlib
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dns.exception
import dns.message
import dns.query
import dns.resolver

from tests.ca import unpacked
from tests.conftest import until
from tests.proxy.bench import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

KEY = "x5lHqRjLkEJ3IpHXn5gHbNnyWv3vK0H0qzmhNTRwJg4="
TSIG = f'key "gatling" {{\n\talgorithm hmac-sha256;\n\tsecret "{KEY}";\n}};\n'
ZONE = """\
$ORIGIN {zone}.
$TTL 60
@ SOA ns1 admin 1 3600 600 86400 60
{servers}
ns1 A 127.0.0.1
ns2 A 127.0.0.2
ns3 A 127.0.0.3
@ A 127.0.0.1
www A 127.0.0.1
blog A 127.0.0.1
_acme-challenge.alias CNAME alias.elsewhere
_acme-challenge.far CNAME far.acme.example.
_acme-challenge.round CNAME _acme-challenge.round
"""
CONFIG = """\
server:
    listen: {address}@{port}
    rundir: {place}
database:
    storage: {place}/db
log:
  - target: stderr
    any: info
key:
  - id: gatling
    algorithm: hmac-sha256
    secret: {key}
acl:
  - id: updates
    key: gatling
    action: update
template:
  - id: default
    storage: {place}
    zonefile-sync: -1
    journal-content: all
zone:
"""


@dataclass
class Knot:
    """A server that runs."""

    address: str
    port: int

    def resolver(self) -> dns.resolver.Resolver:
        made = dns.resolver.Resolver(configure=False)
        made.nameservers, made.port, made.lifetime = [self.address], self.port, 5
        return made

    def texts(self, name: str) -> list[str]:
        """The texts of a name."""
        asked = dns.message.make_query(name, "TXT")
        answer = dns.query.udp(asked, self.address, 5, self.port)
        return sorted(text.to_text().strip('"') for found in answer.answer for text in found)


@contextlib.contextmanager
def running(
    place: Path, zones: Mapping[str, tuple[str, ...]], address: str = "127.0.0.1", port: int = 0
) -> Iterator[Knot]:
    """A server of these zones, each with the names of its servers (`ns1`)."""
    knotd, environment = unpacked.program("knot", "usr/sbin/knotd")
    made = Knot(address, port or free_port())
    (place / "db").mkdir(exist_ok=True)
    config = CONFIG.format(address=address, port=made.port, place=place, key=KEY)
    for zone, servers in zones.items():
        lines = "\n".join(f"@ NS {one}" for one in servers)
        (place / f"{zone}.zone").write_text(ZONE.format(zone=zone, servers=lines))
        config += f"  - domain: {zone}\n    acl: updates\n"
    (place / "knot.conf").write_text(config)
    with (
        (place / "knot.log").open("ab") as log,
        subprocess.Popen(
            [knotd, "-c", place / "knot.conf"], stdout=log, stderr=log, env=environment,
        ) as server,
    ):  # fmt: skip
        try:
            until(lambda: _answers(made, server, next(iter(zones)), place), "Knot")
            yield made
        finally:
            server.terminate()


def _answers(made: Knot, server: subprocess.Popen[bytes], zone: str, place: Path) -> bool:
    assert server.poll() is None, (place / "knot.log").read_text()
    with contextlib.suppress(dns.exception.DNSException, OSError):
        return bool(made.resolver().resolve(zone, "SOA"))
    return False
