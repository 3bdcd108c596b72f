"""Debian's pebble, a CA for tests, with the DNS server that it asks.

That of forky knows ARI, profiles and the rest of today's ACME, and runs on Debian 12 as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import subprocess
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.conftest import until
from tests.fetched import unpacked
from tests.proxy.authority import ROOT, certificate
from tests.proxy.bench import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUITE = "forky"
BLOCKED = "blocked.example"


def programs() -> Path:
    """The directory of `pebble` and `pebble-challtestsrv`; skips the test without Debian's apt."""
    return unpacked("pebble", SUITE) / "usr/bin"


@dataclass
class Pebble:
    """A CA that runs."""

    directory: str
    management: str

    def root(self) -> str:
        """The certificate that its own are signed with in the end, as PEM."""
        return self._ask("roots/0")

    def renew_now(self, certificate: str) -> None:
        """Propose to renew a certificate (PEM) immediately."""
        window = {"start": "2020-01-01T00:00:00Z", "end": "2020-01-02T00:00:00Z"}
        self._ask("set-renewal-info/", {
            "certificate": certificate, "ariResponse": json.dumps({"suggestedWindow": window}),
        })  # fmt: skip

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> str:
        context = ssl.create_default_context(cadata=ROOT.pem)
        data = json.dumps(body).encode() if body else None
        asked = urllib.request.Request(f"{self.management}/{path}", data)
        with urllib.request.urlopen(asked, timeout=10, context=context) as answer:
            text: str = answer.read().decode()
            return text


def configuration(place: Path, *, listen: str, management: str, http: int) -> dict[str, Any]:
    """What pebble reads; the certificate that it shows is written beside it."""
    shown = certificate("127.0.0.1", "ca.example", by=ROOT, days=(-1, 3650))
    (place / "pebble.pem").write_text(shown.pem)
    (place / "pebble.key").write_text(shown.key_pem)
    return {
        "pebble": {
            "listenAddress": listen,
            "managementListenAddress": management,
            "certificate": str(place / "pebble.pem"),
            "privateKey": str(place / "pebble.key"),
            "httpPort": http,
            "tlsPort": 5001,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": False,
            "domainBlocklist": [BLOCKED],
            "retryAfter": {"authz": 1, "order": 1},
            "profiles": {"default": {"description": "90 days", "validityPeriod": 7776000}},
        }
    }


CUSTOMERS = {"customer-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"}
"""The keys, by their names, with which accounts are opened where `customers` is set."""
SHORT = {"shortlived": {"description": "6 days", "validityPeriod": 518400}}
"""Another profile. Without a wish pebble takes any of its profiles."""


@contextlib.contextmanager
def running(
    place: Path, http: int, *, refused_nonces: int = 0, names: str = "", customers: bool = False
) -> Iterator[Pebble]:
    """A CA that asks for challenges at this port of 127.0.0.1, for whatever domain.

    `names` is the DNS server that it asks; without one, every name has that address.
    """
    found = programs()
    listen, management = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    dns, control = names or f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    config = place / "pebble.json"
    given = configuration(place, listen=listen, management=management, http=http)
    given["pebble"]["profiles"] |= SHORT
    if customers:
        given["pebble"] |= {
            "externalAccountBindingRequired": True, "externalAccountMACKeys": CUSTOMERS,
        }  # fmt: skip
    config.write_text(json.dumps(given))
    environment = os.environ | {
        "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": str(refused_nonces),
    }  # fmt: skip
    log = (place / "pebble.log").open("ab")
    servers = [
        [str(found / "pebble-challtestsrv"), "-dnsserver", dns, "-management", control,
         "-defaultIPv6", "", "-doh", "", "-http01", "", "-https01", "", "-tlsalpn01", ""],
        [str(found / "pebble"), "-config", str(config), "-dnsserver", dns, "-strict"],
    ]  # fmt: skip
    if names:
        del servers[0]
    with contextlib.ExitStack() as stack:
        stack.enter_context(log)
        started = []
        for argv in servers:
            process = stack.enter_context(
                subprocess.Popen(argv, env=environment, stdout=log, stderr=log)
            )
            stack.callback(process.terminate)
            started.append(process)
        made = Pebble(f"https://{listen}/dir", f"https://{management}")

        def ready() -> bool:
            assert not any(one.poll() is not None for one in started), (
                place / "pebble.log"
            ).read_text()
            with contextlib.suppress(OSError):
                return bool(made.root())
            return False

        until(ready, "pebble")
        yield made
