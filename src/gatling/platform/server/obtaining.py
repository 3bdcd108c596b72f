"""The units in which certificates are obtained and renewed on a server: pure, and root's word only.

A timer renews the certificates of all apps twice a day. A change of an app's domains starts a unit
of its own, which is not waited for, and a failure a timer for another attempt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.errors import Exit
from gatling.platform.server import recovery_units, units

if TYPE_CHECKING:
    from pathlib import Path

SERVICE, TIMER = "gatling-certificates.service", "gatling-certificates.timer"
SLICE = "gatling-certificates.slice"

APP_SECONDS, ALL_SECONDS = 1800, 6 * 3600
"""Time limits for one app, which may wait for another attempt, and for all apps in turn."""

PROPERTIES = (
    "Type=oneshot", f"Slice={SLICE}", "Nice=10", "MemoryMax=256M", "TasksMax=32",
    "StandardOutput=journal", "StandardError=journal", *recovery_units.RECOVERING.splitlines(),
)  # fmt: skip
"""Properties of the units in which certificates are obtained and renewed."""

LATER = "gatling-obtain-*.timer"
"""The timers of attempts that are made again after a failure."""


def prefix(app: str) -> str:
    """The beginning of the names of the units that obtain certificates for an app.

    Names of apps have no dots, so it is the beginning of no other app's units.
    """
    return f"gatling-obtain-{app}."


def later(app: str) -> str:
    """The beginning of the names of the units that try again for an app, and for no other."""
    return f"{prefix(app)}later"


def all_together() -> str:
    """gatling-certificates.slice: the units that obtain certificates, however many there are."""
    return """\
# Written by Gatling.
[Unit]
Description=Gatling: units that obtain certificates

[Slice]
MemoryMax=512M
TasksMax=128
"""


def service(command: Path) -> str:
    """gatling-certificates.service: renew the certificates that are due, of all apps."""
    lines = "\n".join(PROPERTIES)
    return f"""\
# Written by Gatling.
[Unit]
Description=Gatling: renewal of certificates
After=network-online.target gatling-recover.service gatling-helper.socket
Wants=network-online.target
Requires=gatling-helper.socket

[Service]
User={units.OWNER}
Group={units.OWNER}
Environment=LANG=C.UTF-8
ExecStart={command} certificates renew --scheduled
TimeoutStartSec={ALL_SECONDS}
SuccessExitStatus={int(Exit.HOST)}
{lines}
"""


def timer() -> str:
    """gatling-certificates.timer: twice a day, at a time of this machine's own."""
    return """\
# Written by Gatling.
[Unit]
Description=Gatling: renewal of certificates

[Timer]
OnCalendar=*-*-* 00,12:00:00
RandomizedDelaySec=6h
Persistent=true

[Install]
WantedBy=timers.target
"""
