"""Databases that are taken to another host: dumped, proved and restored as postgres, in units.

The client hands over an open file as standard input: root never opens a file of postgres', and
postgres none of root's.
"""

import socket
from dataclasses import asdict
from typing import Any

from gatling.cleanup import finally_
from gatling.errors import InvalidInput
from gatling.platform.server import cluster_units as places
from gatling.platform.server.helper import backups, databases
from gatling.platform.server.helper.backups import Call


def make(
    request: dict[str, Any], call: Call, given: list[int], connection: socket.socket
) -> dict[str, Any]:
    """Write a dump of a database to the client's file, once it was restored and compared."""
    cluster = databases.requested(request)
    with databases.alone(cluster.database):
        databases.must_exist(cluster)
        call(["systemctl", "start", places.unit(cluster)], timeout=300)
        databases.wait(cluster)
    wanted = {"verb": "dump", "site": asdict(places.site(cluster))}
    unit = f"gatling-dump-{cluster.label}.service"
    return backups.work(unit, places.backup_properties(cluster), wanted, given, connection)


def load(
    request: dict[str, Any], call: Call, given: list[int], connection: socket.socket
) -> dict[str, Any]:
    """Restore a dump into a cluster that is not there; `create` completes it.

    As with a restored backup, a note of root's says until then that nobody has had access to it.
    """
    cluster = databases.requested(request)
    if not (places.PROGRAMS / str(cluster.version) / "bin" / "postgres").exists():
        raise InvalidInput(f"PostgreSQL {cluster.version} is not installed on this server.")
    with databases.alone(cluster.database):
        databases.begin_restore(cluster, call)
    wanted = {"verb": "load", "site": asdict(places.site(cluster))}
    properties = places.restore_properties(backups.others(cluster))

    def clean() -> None:
        with databases.alone(cluster.database):
            databases.end_restore(cluster, call)

    with finally_(clean):
        return backups.work(places.restore_unit(cluster), properties, wanted, given, connection)
