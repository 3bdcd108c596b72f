"""Backups of the clusters of apps: made and proved as the user postgres, in a unit with limits.

The repository is a directory of postgres' own, which an administrator can give a disk of its own.
"""

import json
import os
import pwd
import socket
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gatling.errors import InvalidInput
from gatling.platform.postgres import answers
from gatling.platform.postgres.clusters import Cluster
from gatling.platform.server import cluster_units as places
from gatling.platform.server.helper import databases, running
from gatling.platform.server.helper.shapes import Refused, number

WORKER = Path(__file__).resolve().parents[2] / "postgres" / "worker.py"
PROGRAM = Path("/usr/bin/pgbackrest")
LIST_SECONDS = 300
MAX_KEPT = 1000
MAX_DAYS = 3650
Call = Callable[..., object]


def make(
    request: dict[str, Any], apps: Path, call: Call, given: list[int], connection: socket.socket
) -> dict[str, Any]:
    """Back a cluster up, and prove the backup; the program prints how it went."""
    cluster, allowed = databases.requested(request), databases.allowed_users(request, apps)
    count, days = number(request, "count", 1, MAX_KEPT), number(request, "days", 0, MAX_DAYS)
    full = request.get("full")
    if type(full) is not bool:
        raise Refused("full is true or false")
    if not PROGRAM.exists():
        raise InvalidInput("pgBackRest, which makes backups, is not installed on this server.")
    with databases.alone(cluster.database):
        databases.must_exist(cluster)
        _directory()
        databases.configure(cluster, list(allowed), call)
        call(["systemctl", "start", places.unit(cluster)], timeout=300)
        databases.wait(cluster)
        databases.query(cluster, "SELECT pg_reload_conf();\n")
        if databases.query(cluster, "SHOW archive_mode;\n").strip() != "on":
            os.write(given[1], b"Restarting the database once, so that it can archive its log\n")
            call(["systemctl", "restart", places.unit(cluster)], timeout=300)
            databases.wait(cluster)
    wanted = {"verb": "backup", "site": asdict(places.site(cluster)), "full": full,
              "count": int(count), "days": int(days)}  # fmt: skip
    return _run(cluster, wanted, "backup", given, connection)


def _run(
    cluster: Cluster, wanted: dict[str, Any], kind: str, given: list[int], connection: socket.socket
) -> dict[str, Any]:
    described = {
        "argv": ["/usr/bin/python3", "-I", "-S", str(WORKER), json.dumps(wanted)],
        "cwd": "/",
        "env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/"},
    }
    unit = f"gatling-{kind}-{cluster.label}-{os.urandom(8).hex()}.service"
    return running.run(unit, places.backup_properties(cluster), described, given, connection,
                       on_gone=running.STOP)  # fmt: skip


def listed(request: dict[str, Any]) -> dict[str, Any]:
    """The backups of a database."""
    cluster = databases.requested(request)
    if not PROGRAM.exists():
        return {"backups": []}
    return _listed(cluster)


def install(given: list[int], connection: socket.socket) -> dict[str, Any]:
    """Install pgBackRest from the distribution; how apt-get ended."""
    return databases.install_package("pgbackrest", given, connection)


def _listed(cluster: Cluster) -> dict[str, Any]:
    wanted = {"verb": "list", "database": cluster.database, "repository": str(places.BACKUPS)}
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-S", str(WORKER), json.dumps(wanted)], check=True,
        stdin=subprocess.DEVNULL, capture_output=True, timeout=LIST_SECONDS,
        **databases.as_postgres(),
    )  # fmt: skip
    return answers.last(done.stdout.decode())


def _directory() -> None:
    """The repository's directory, for postgres alone; it may be the root of another disk."""
    owner = pwd.getpwnam(places.OWNER)
    places.BACKUPS.mkdir(mode=0o700, exist_ok=True)
    os.chown(places.BACKUPS, owner.pw_uid, owner.pw_gid)
    places.BACKUPS.chmod(0o700)
