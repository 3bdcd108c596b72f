"""Forks of the clusters of apps: made as postgres, in a unit with limits.

A note of root's says that a cluster is a fork, from before its first file is written. Only such a
cluster is removed without a last copy.
"""

import json
import socket
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gatling import files, names
from gatling.cleanup import finally_
from gatling.platform.postgres.clusters import Cluster
from gatling.platform.postgres.sites import ForkWish
from gatling.platform.server import cluster_units as places
from gatling.platform.server import units
from gatling.platform.server.helper import backups, databases
from gatling.platform.server.helper.shapes import Refused, number, text

MAX_SCRIPT = 100_000
"""Bytes of a script as JSON."""
Call = Callable[..., object]


def make(
    request: dict[str, Any], apps: Path, call: Call, given: list[int], connection: socket.socket
) -> dict[str, Any]:
    """Fork a running cluster into another one that is not there; `create` completes it."""
    cluster, allowed = databases.requested(request), databases.allowed_users(request, apps)
    source = Cluster(names.app_name(text(request, "source")), cluster.version,
                     int(number(request, "source_generation", 1, 999_999)))  # fmt: skip
    if source.database == cluster.database:
        raise Refused("a database is forked under another name")
    role, wish = _wish(request, apps)
    with databases.alone(source.database):
        databases.must_exist(source)
        backups.repository_directory()
        databases.configure(source, list(allowed), call)
        call(["systemctl", "start", places.unit(source)], timeout=300)
        databases.wait(source, "SELECT pg_reload_conf();\n")
    with databases.alone(cluster.database):
        databases.begin_restore(cluster, call)
        files.write(places.forked(cluster), "")
    wanted = {"verb": "fork", "site": asdict(places.site(cluster)),
              "source": asdict(places.site(source)), "role": role,
              "wish": asdict(wish)}  # fmt: skip
    properties = places.restore_properties(backups.others(cluster))

    def clean() -> None:
        with databases.alone(cluster.database):
            databases.end_restore(cluster, call)

    with finally_(clean):
        return backups.work(places.restore_unit(cluster), properties, wanted, given, connection)


def own(request: dict[str, Any]) -> dict[str, Any]:
    """Take a fork for a database of which a copy is kept when it is removed."""
    cluster = databases.requested(request)
    databases.must_exist(cluster)
    with databases.alone(cluster.database) as directory:
        places.forked(cluster).unlink(missing_ok=True)
        files.sync(directory)
    return {}


def _wish(request: dict[str, Any], apps: Path) -> tuple[str, ForkWish]:
    """The role of the app that a fork is for, and what the fork is to have."""
    app, only, scrub = text(request, "app"), request.get("schema_only"), request.get("scrub")
    if not (apps / names.app_name(app)).is_dir():
        raise Refused("app is not an app that is there")
    if type(only) is not bool or not isinstance(scrub, str):
        raise Refused("schema_only is true or false, and scrub a script")
    if len(json.dumps(scrub)) > MAX_SCRIPT or "\0" in scrub:
        raise Refused("scrub is too long, or not a text")
    return units.user(app), ForkWish(app, only, scrub)
