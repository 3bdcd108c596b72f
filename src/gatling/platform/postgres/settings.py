"""postgresql.conf, sized to a machine, and who may connect. Pure."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from gatling.platform.postgres.clusters import PORT, READER, SUPERUSER
from gatling.platform.postgres.sql import identifier, literal

if TYPE_CHECKING:
    from collections.abc import Iterable

LOCALE = ("--encoding=UTF8", "--locale=C.UTF-8")
"""Of initdb: an order that does not change with a new C library, which would damage indexes."""
SMALL_MB = 1536
LEAST_BYTES = 256 << 20
"""Room without which no cluster is created: 40 MB of its own, and the first segments of its log."""


def machine_memory() -> int:
    """The memory of this machine, in MB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20


def configuration(sockets: str, memory: int, archive: str, pid_file: str = "") -> str:
    """The settings of a cluster on a machine with so many MB of memory, which others share.

    `archive` is the script that archives a segment of the log. Until there is one, no log is kept.
    """
    script = shlex.quote(archive).replace("%", "%%")
    values = {
        "archive_mode": "on",
        "archive_command": literal(f"test ! -e {script} || /bin/sh {script} %p"),
        "listen_addresses": "''",
        "port": str(PORT),
        "unix_socket_directories": literal(sockets),
        "unix_socket_permissions": "0777",
        "ssl": "off",
        "max_connections": "50" if memory < SMALL_MB else "100",
        "shared_buffers": f"{_between(64, memory // 8, 4096)}MB",
        "effective_cache_size": f"{max(128, memory // 2)}MB",
        "work_mem": f"{_between(4, memory // 256, 64)}MB",
        "maintenance_work_mem": f"{_between(32, memory // 16, 1024)}MB",
        "max_wal_size": "512MB" if memory < SMALL_MB else "1GB",
        "wal_compression": "on",
        "random_page_cost": "1.1",
        "jit": "off",
        "timezone": "'UTC'",
        "log_timezone": "'UTC'",
        "lc_messages": "'C'",
        "log_lock_waits": "on",
    }
    if pid_file:
        values["external_pid_file"] = literal(pid_file)
    lines = "".join(f"{name} = {value}\n" for name, value in values.items())
    return f"# Written by Gatling.\n{lines}"


def authentication(database: str, mapped: str = "") -> str:
    """pg_hba.conf: users of this machine, by the name that the kernel gives; nobody else.

    `mapped` names the map of pg_ident.conf that says which roles they may take.
    """
    peer = f"peer map={mapped}" if mapped else "peer"
    return (
        "# Written by Gatling.\n"
        f"local all {SUPERUSER} {peer}\n"
        f"local replication {SUPERUSER} {peer}\n"
        f"local {identifier(database)} {READER} peer map={mapped or READER}\n"
        f"local {identifier(database)} all {peer}\n"
    )


def identities(mapped: str, user: str, roles: Iterable[str]) -> str:
    """pg_ident.conf: a user of this machine may take these roles."""
    lines = "".join(f"{mapped} {identifier(user)} {identifier(role)}\n" for role in sorted(roles))
    return f"# Written by Gatling.\n{lines}"


def _between(least: int, value: int, most: int) -> int:
    return max(least, min(value, most))
