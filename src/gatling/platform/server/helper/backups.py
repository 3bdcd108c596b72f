"""Backups of the clusters of apps: made, proved and restored as postgres, in units with limits.

The repository is a directory of postgres' own, which an administrator can give a disk of its own.
"""

import json
import os
import pwd
import re
import socket
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gatling import files, names
from gatling.cleanup import finally_
from gatling.errors import CommandFailed, InvalidInput
from gatling.platform.postgres import answers, pgbackrest, points
from gatling.platform.postgres import repository as repositories
from gatling.platform.postgres.clusters import Cluster
from gatling.platform.postgres.sites import Chosen
from gatling.platform.server import cluster_units as places
from gatling.platform.server.helper import database_packages, databases, running
from gatling.platform.server.helper.shapes import Refused, number, text

WORKER = Path(__file__).resolve().parents[2] / "postgres" / "worker.py"
PROGRAM = Path("/usr/bin/pgbackrest")
LIST_SECONDS = 300
MAX_KEPT = 1000
MAX_DAYS = 3650
MAX_BYTES = 1 << 50
LABEL = re.compile(r"[0-9]{8}-[0-9]{6}F(_[0-9]{8}-[0-9]{6}[DI])?")
TARGET = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}\+00)?")
DATA = re.compile(r"[A-Za-z0-9._-]+")
"""Names of data directories that mean nothing more to systemd."""
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
        repository_directory()
        databases.configure(cluster, list(allowed), call)
        call(["systemctl", "start", places.unit(cluster)], timeout=300)
        said = databases.wait(cluster, "SELECT pg_reload_conf();\nSHOW archive_mode;\n")
        if said.split()[-1] != "on":
            os.write(given[1], b"Restarting the database once, so that it can archive its log\n")
            call(["systemctl", "restart", places.unit(cluster)], timeout=300)
            databases.wait(cluster)
    wanted = {"verb": "backup", "site": asdict(places.site(cluster)), "full": full,
              "count": int(count), "days": int(days)}  # fmt: skip
    unit = f"gatling-backup-{cluster.label}-{os.urandom(8).hex()}.service"
    return work(unit, places.backup_properties(cluster), wanted, given, connection)


def restore(
    request: dict[str, Any], call: Call, given: list[int], connection: socket.socket
) -> dict[str, Any]:
    """Restore a backup of a cluster into another one that is not there; `create` completes it.

    A note of root's says that the new cluster is incomplete, from before its first file is written
    until apps get access to it.
    """
    cluster = databases.requested(request)
    source = Cluster(names.app_name(text(request, "source")), cluster.version,
                     int(number(request, "source_generation", 1, 999_999)))  # fmt: skip
    chosen = _chosen(request, source)
    if source.database == cluster.database:
        raise Refused("a database is restored under another name")
    if not PROGRAM.exists():
        raise InvalidInput("pgBackRest, which restores backups, is not installed on this server.")
    with databases.alone(cluster.database):
        databases.must_exist(source)
        databases.begin_restore(cluster, call)
    wanted = {"verb": "restore", "site": asdict(places.site(cluster)),
              "source": asdict(places.site(source)), "chosen": asdict(chosen)}  # fmt: skip
    properties = places.restore_properties(others(cluster))

    def clean() -> None:
        with databases.alone(cluster.database):
            databases.end_restore(cluster, call)

    with finally_(clean):
        return work(places.restore_unit(cluster), properties, wanted, given, connection)


def _chosen(request: dict[str, Any], source: Cluster) -> Chosen:
    keys = ("stanza", "label", "target", "point")
    stanza, label, target, point = (text(request, key) for key in keys)
    if not pgbackrest.is_of(stanza, source.label):
        raise Refused("stanza is not of the cluster that is restored")
    if not LABEL.fullmatch(label) or not TARGET.fullmatch(target):
        raise Refused("label is not a backup, or target is not a time")
    if point and (target or not points.NAME.fullmatch(point)):
        raise Refused("point is not that of a restore point, or there is a time, too")
    size = int(number(request, "bytes", 0, MAX_BYTES))
    return Chosen(stanza, label, source.database, size, target, point)


def others(cluster: Cluster) -> list[Path]:
    """The data directories of all other clusters."""
    own = {places.data(cluster), *places.unfinished(cluster)}
    return [path for path in sorted(places.CLUSTERS.glob("[0-9]*/*"))
            if path not in own and DATA.fullmatch(path.name)]  # fmt: skip


def work(
    unit: str, properties: list[str], wanted: dict[str, Any], given: list[int],
    connection: socket.socket,
) -> dict[str, Any]:  # fmt: skip
    """Have the program that works on clusters answer a request, in a unit; it prints the answer."""
    described = {
        "argv": ["/usr/bin/python3", "-I", "-S", str(WORKER), json.dumps(wanted)],
        "cwd": "/",
        "env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/"},
    }
    return running.run(unit, properties, described, given, connection, on_gone=running.STOP)


def listed(request: dict[str, Any]) -> dict[str, Any]:
    """The backups of a database."""
    cluster = databases.requested(request)
    if not PROGRAM.exists():
        return {"backups": []}
    return _listed(cluster)


def repository(request: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    """The place of backups, without secrets."""
    return asdict(repositories.load(str(places.REPOSITORY)).public)


def set_repository(request: dict[str, Any]) -> dict[str, Any]:
    """Keep further backups elsewhere, once postgres could use it; secrets stay with root."""
    given, keep = request.get("repository"), request.get("keep")
    if not isinstance(given, dict) or type(keep) is not bool:
        raise Refused("repository is not a list of settings")
    file = places.REPOSITORY
    if keep:
        given = given | {"passphrase": repositories.load(str(file)).passphrase}
    wanted = repositories.parse(given)
    if wanted.is_usual:
        file.unlink(missing_ok=True)
        return {}
    if not PROGRAM.exists():
        raise InvalidInput("pgBackRest, which makes backups, is not installed on this server.")
    group = pwd.getpwnam(places.OWNER).pw_gid
    file.parent.mkdir(mode=0o750, exist_ok=True)
    os.chown(file.parent, 0, group)
    repository_directory()
    new = file.with_name("repository.new")
    files.write(new, repositories.text(wanted), mode=0o600)
    os.chown(new, 0, group)
    new.chmod(0o640)
    with finally_(lambda: new.unlink(missing_ok=True)):
        _work({"verb": "check", "settings": str(new), "repository": str(places.BACKUPS)})
        new.rename(file)
        files.sync(file.parent)
    return {}


def install(given: list[int], connection: socket.socket) -> dict[str, Any]:
    """Install pgBackRest from the distribution; how apt-get ended."""
    return database_packages.install_package("pgbackrest", given, connection)


def _listed(cluster: Cluster) -> dict[str, Any]:
    places_of_all = {"repository": str(places.BACKUPS), "settings": str(places.REPOSITORY)}
    return _work({"verb": "list", "database": cluster.database} | places_of_all)


def _work(wanted: dict[str, Any]) -> dict[str, Any]:
    """The answer of the program that lists backups, as postgres."""
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-S", str(WORKER), json.dumps(wanted)], check=True,
        stdin=subprocess.DEVNULL, capture_output=True, timeout=LIST_SECONDS,
        **databases.as_postgres(),
    )  # fmt: skip
    try:
        return answers.last(done.stdout.decode())
    except CommandFailed as error:  # the repository is on another machine
        raise InvalidInput(error.what, hint=error.hint) from None


def repository_directory() -> None:
    """The repository's directory, for postgres alone; it may be the root of another disk."""
    owner = pwd.getpwnam(places.OWNER)
    places.BACKUPS.mkdir(mode=0o700, exist_ok=True)
    os.chown(places.BACKUPS, owner.pw_uid, owner.pw_gid)
    places.BACKUPS.chmod(0o700)
