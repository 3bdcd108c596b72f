"""The units in which logs are sent to drains on a server: pure, and root's word only.

A unit runs for each drain, and is started again when it ends. After a boot, recovery starts it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.platform.server import recovery_units, units

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = "gatling-drain@.service"


def unit(app: str, ident: int) -> str:
    """The unit of a drain; names of apps have no dots."""
    return f"gatling-drain@{app}.{ident}.service"


def units_of(app: str) -> str:
    """The pattern of the units of an app's drains."""
    return f"gatling-drain@{app}.*.service"


def service(command: Path) -> str:
    """gatling-drain@.service: send a log to a drain, as gatling."""
    return f"""\
# Written by Gatling. Started by Gatling for each log drain.
[Unit]
Description=Gatling: the log drain %i
After=network.target gatling-logs.socket
StartLimitIntervalSec=0

[Service]
User={units.OWNER}
Group={units.OWNER}
Environment=LANG=C.UTF-8
ExecStart={command} drains run %i
Restart=on-failure
RestartSec=10
SuccessExitStatus=SIGTERM
Nice=5
MemoryMax=128M
TasksMax=32
{recovery_units.RECOVERING}
"""
