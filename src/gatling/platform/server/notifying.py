"""The unit in which notifications are sent on a server: pure, and root's word only.

It is started when something waits: by a command that has ended a deployment, or by the timer of
recovery.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.platform.server import recovery_units, units

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = "gatling-notify.service"
SECONDS = 180
"""A time limit beyond those of the command itself."""


def service(command: Path) -> str:
    """gatling-notify.service: send what waits, as gatling."""
    return f"""\
# Written by Gatling. Started by Gatling when a notification waits.
[Unit]
Description=Gatling: sending of notifications
After=network-online.target gatling-helper.socket

[Service]
Type=oneshot
User={units.OWNER}
Group={units.OWNER}
Environment=LANG=C.UTF-8
ExecStart={command} notify deliver
TimeoutStartSec={SECONDS}
Nice=10
MemoryMax=256M
TasksMax=64
{recovery_units.RECOVERING}
"""
