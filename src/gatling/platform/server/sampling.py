"""The unit in which the numbers of apps are sampled on a server: pure, and root's word only.

It is there from the installation on, and enabled while `gatling watch` is on, so also after a boot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.platform.server import recovery_units, units

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = "gatling-sampler.service"


def service(command: Path) -> str:
    """gatling-sampler.service: sample the numbers of all apps, as gatling."""
    return f"""\
# Written by Gatling. `gatling watch on` enables it.
[Unit]
Description=Gatling: numbers of all apps, sampled every ten seconds
After=gatling-helper.socket
StartLimitIntervalSec=0

[Service]
User={units.OWNER}
Group={units.OWNER}
Environment=LANG=C.UTF-8
ExecStart={command} watch run
Restart=always
RestartSec=10
SuccessExitStatus=SIGTERM
Nice=5
MemoryMax=128M
TasksMax=64
{recovery_units.RECOVERING}

[Install]
WantedBy=multi-user.target
"""
