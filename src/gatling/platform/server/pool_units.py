"""The unit of an app's pool of connections, and the places of its files, as text: pure."""

from __future__ import annotations

from pathlib import Path

from gatling.paths import SERVER
from gatling.platform.server import units

SOCKETS = Path("/run/gatling-pools")
"""A directory for the socket of each pool, which only the app's user can enter."""
CONFIGURATIONS = Path("/etc/gatling-pools")
"""root's: the configuration of each pool. It has no secrets."""
PROGRAM = Path("/usr/sbin/pgbouncer")
OWN_SERVICE = "pgbouncer.service"
"""The service of Debian's package, which pools for the whole machine."""
UNITS = "gatling-pool-*.service"


def unit(app: str) -> str:
    """The unit of the pool of an app."""
    return f"gatling-pool-{app}.service"


def configuration(app: str) -> Path:
    """The file with the configuration of a pool."""
    return CONFIGURATIONS / f"{app}.ini"


def sockets(app: str) -> Path:
    """The directory of the socket of a pool."""
    return SOCKETS / app


def service(app: str) -> str:
    """The unit: PgBouncer as the app's user, with no way to the network."""
    hardened = "\n".join(units.HARDENED)
    return f"""\
# Written by Gatling. A pool of connections between an app and its databases.
[Unit]
Description=Gatling: connection pool of {app}
Documentation=man:pgbouncer(1)
StartLimitIntervalSec=0

[Service]
Type=notify
User={units.user(app)}
Group={units.user(app)}
ExecStart={PROGRAM} {configuration(app)}
ExecReload=/bin/kill -HUP $MAINPID
# INT: PgBouncer waits for open transactions
KillSignal=SIGINT
TimeoutStopSec=10
Restart=always
RestartSec=1
RuntimeDirectory={SOCKETS.name}/{app}
RuntimeDirectoryMode=0700
LimitNOFILE=4096
MemoryMax=256M
TasksMax=16
PrivateNetwork=yes
InaccessiblePaths=-{SERVER} -{units.RUN} -{units.INSTANCES} -/run/dbus -/run/lock
{hardened}

[Install]
WantedBy=multi-user.target
"""
