"""Upgrading the clusters of apps to another major version: as postgres, in units with limits.

The old cluster is stopped for an upgrade, and started again if that does not succeed. Afterwards it
stays, stopped: postgresql-common's start.conf says so, also at boot. After a power cut in between,
recovery starts the cluster that is used: `operations.cut_off`.
"""

import pwd
import socket
from dataclasses import asdict
from typing import Any

from gatling import files
from gatling.cleanup import finally_
from gatling.errors import InvalidInput
from gatling.platform.postgres.clusters import OWNER, Cluster
from gatling.platform.server import cluster_units as places
from gatling.platform.server.helper import backups, databases
from gatling.platform.server.helper.backups import Call
from gatling.platform.server.helper.shapes import Refused, number

ANALYZE_SECONDS = 6 * 3600.0


def upgrade(
    request: dict[str, Any], call: Call, given: list[int], connection: socket.socket
) -> dict[str, Any]:
    """Rehearse the upgrade of a cluster on a copy, or make it, into a cluster that is not there.

    As with a restored backup, `create` completes the new cluster.
    """
    old = databases.requested(request)
    new = Cluster(old.database, int(number(request, "to_version", 1, 99)),
                  int(number(request, "to_generation", 1, 999_999)))  # fmt: skip
    rehearsal = request.get("rehearsal")
    if type(rehearsal) is not bool or new.generation == old.generation:
        raise Refused("rehearsal is true or false, and the new cluster has another generation")
    for version in (old.version, new.version):
        if not (places.PROGRAMS / str(version) / "bin" / "pg_upgrade").exists():
            raise InvalidInput(f"PostgreSQL {version} is not installed on this server.")
    wanted = {"source": asdict(places.site(old)), "site": asdict(places.site(new))}
    others = [path for path in backups.others(new) if rehearsal or path != places.data(old)]
    properties = places.restore_properties(others)
    with databases.alone(old.database):
        databases.must_exist(old)
        if rehearsal:
            _allow_copies(old, call)
        else:
            databases.begin_restore(new, call)
            if places.forked(old).exists():
                files.write(places.forked(new), "")
    if rehearsal:
        unit = f"gatling-rehearse-{new.label}.service"
        return backups.work(unit, properties, wanted | {"verb": "rehearse"}, given, connection)

    def clean() -> None:
        with databases.alone(old.database):
            databases.end_restore(new, call)
            if not places.data(new).is_dir():
                start(old, call)

    with finally_(clean):
        stop(old, call)
        unit = places.restore_unit(new)
        return backups.work(unit, properties, wanted | {"verb": "upgrade"}, given, connection)


def retire(request: dict[str, Any], call: Call) -> dict[str, Any]:
    """Stop a cluster in whose place another one is used; it stays."""
    cluster = databases.requested(request)
    with databases.alone(cluster.database):
        databases.must_exist(cluster)
        stop(cluster, call)
    return {}


def analyze(request: dict[str, Any]) -> dict[str, Any]:
    """Have a cluster gather its planner's statistics, which an upgrade does not take along."""
    cluster = databases.requested(request)
    databases.must_exist(cluster)
    script = f"SET ROLE {OWNER};\nSET client_min_messages = error;\nANALYZE;\n"
    databases.query(cluster, script, cluster.database, seconds=ANALYZE_SECONDS)
    return {}


def start_at_boot(cluster: Cluster, when: str) -> None:
    """Write start.conf of a cluster."""
    file = places.configuration(cluster) / "start.conf"
    if not file.exists() or file.read_text().strip() != when:
        databases.write_as(pwd.getpwnam(places.OWNER), file, f"{when}\n", 0o644)


def _allow_copies(cluster: Cluster, call: Call) -> None:
    """Let postgres make a base backup: an earlier Gatling did not."""
    databases.authenticate(cluster)
    start(cluster, call)  # an upgrade that was killed has stopped it
    databases.query(cluster, "SELECT pg_reload_conf();\n")


def stop(cluster: Cluster, call: Call) -> None:
    """Stop a cluster, also at boot."""
    start_at_boot(cluster, places.MANUAL)
    call(["systemctl", "stop", places.unit(cluster)], timeout=300)


def start(cluster: Cluster, call: Call) -> None:
    """Start a cluster, also at boot."""
    start_at_boot(cluster, places.AUTO)
    call(["systemctl", "start", places.unit(cluster)], timeout=300)
    databases.wait(cluster)
