"""The units of recovery as text and properties: at boot, by a timer, and after a push."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.platform.server.units import FENCE, OWNER

if TYPE_CHECKING:
    from pathlib import Path

RECOVERING = """\
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths=/var/lib/gatling
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictSUIDSGID=yes
CapabilityBoundingSet="""
"""The sandbox of recovery, at boot and later."""


def recover_service(command: Path) -> str:
    """gatling-recover.service: at boot, before any instance starts."""
    return f"""\
# Written by Gatling. Makes what systemd starts what the records say, after a power cut as well.
[Unit]
Description=Gatling: recovery of deployments that a shutdown cut off
After=local-fs.target network.target gatling-helper.socket {FENCE}
Requires=gatling-helper.socket

[Service]
Type=oneshot
RemainAfterExit=yes
User={OWNER}
Group={OWNER}
Environment=LANG=C.UTF-8
ExecStart={command} recover
TimeoutStartSec=300
{RECOVERING}

[Install]
WantedBy=multi-user.target
"""


def recover_after(script: Path, command: Path, app: str) -> list[str]:
    """Properties of a push's unit: however its main process ends, its deployment is recovered."""
    return [
        f"ExecStopPost=/usr/bin/python3 -I -S {script} {command} {app}",
        "TimeoutStopSec=300",
    ]


def recovery_service(command: Path) -> str:
    """gatling-recovery.service: recover what a killed command left that no unit watches."""
    return f"""\
# Written by Gatling.
[Unit]
Description=Gatling: recovery of deployments whose process was killed
After=gatling-recover.service
Requires=gatling-helper.socket

[Service]
Type=oneshot
User={OWNER}
Group={OWNER}
Environment=LANG=C.UTF-8
ExecStart={command} recover --unfinished
TimeoutStartSec=300
{RECOVERING}
"""


def recovery_timer() -> str:
    """gatling-recovery.timer: twice a minute."""
    return """\
# Written by Gatling.
[Unit]
Description=Gatling: recovery of deployments whose process was killed

[Timer]
OnBootSec=60
OnUnitInactiveSec=30
AccuracySec=1

[Install]
WantedBy=timers.target
"""
