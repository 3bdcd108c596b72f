"""The unit in which databases are backed up on a schedule: pure, and root's word only.

A timer starts it every few minutes, as long as a file of the home says that there are schedules.
The command itself knows which backups are due.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.errors import Exit
from gatling.paths import SERVER
from gatling.platform.server import recovery_units, units

if TYPE_CHECKING:
    from pathlib import Path

SERVICE, TIMER = "gatling-backups.service", "gatling-backups.timer"
DUE = "backups-due"
"""The file in the home that exists while there are schedules, with the time of the next backup."""


def service(command: Path) -> str:
    """gatling-backups.service: make the backups that are due, as gatling."""
    return f"""\
# Written by Gatling.
[Unit]
Description=Gatling: scheduled backups of databases
After=gatling-recover.service gatling-helper.socket
Requires=gatling-helper.socket
ConditionPathExists={SERVER}/home/{DUE}

[Service]
Type=oneshot
User={units.OWNER}
Group={units.OWNER}
Environment=LANG=C.UTF-8
ExecStart={command} db scheduled
TimeoutStartSec=infinity
SuccessExitStatus={int(Exit.UNHEALTHY)}
Nice=10
MemoryMax=256M
TasksMax=64
{recovery_units.RECOVERING}
"""


def timer() -> str:
    """gatling-backups.timer: every ten minutes, and after a boot."""
    return """\
# Written by Gatling.
[Unit]
Description=Gatling: scheduled backups of databases

[Timer]
OnBootSec=5min
OnCalendar=*:0/10
AccuracySec=1min

[Install]
WantedBy=timers.target
"""
