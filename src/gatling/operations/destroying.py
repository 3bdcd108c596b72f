"""Removing a database with all its clusters: after a last copy of it was kept and checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.cleanup import cleaning
from gatling.deploy import pools
from gatling.errors import InvalidInput
from gatling.operations import config as variables
from gatling.operations.databases import allowed, chosen, cluster
from gatling.paths import exclusively
from gatling.platform.postgres.clusters import Cluster
from gatling.state import audit, config, databases, former_clusters
from gatling.text import counted
from gatling.times import now

if TYPE_CHECKING:
    from gatling.platform.open import Gatling
    from gatling.platform.postgres.clusters import Kept
    from gatling.state.databases import Record
    from gatling.state.former_clusters import Former
    from gatling.ui.progress import Progress


class Destroyed(Struct, frozen=True):
    """The result of `destroy`."""

    database: str
    kept: str
    """The file with the last copy; empty where the files of the database were gone already."""
    earlier: list[Former] = []
    """The clusters that upgrades had kept, which were removed as well."""


def check(gatling: Gatling, app: str, name: str | None) -> str:
    """The name of a database that can be removed; raises InvalidInput where others use it."""
    record = chosen(gatling, app, name)
    others = [use.app for use in databases.attachments(gatling.db, database=record.name)
              if use.app != app]  # fmt: skip
    if record.app != app:
        raise InvalidInput(
            f"{record.name} was created for {record.app or 'an app that was removed'}.",
            hint=f"`gatling db detach {app}` ends its use by {app}.",
        )
    if others:
        raise InvalidInput(
            f"{', '.join(others)} uses the database {record.name}, too.",
            hint=f"`gatling db detach {others[0]} --name {record.name}` comes first.",
        )
    return record.name


def destroy(gatling: Gatling, app: str, name: str | None, progress: Progress) -> Destroyed:
    """Remove a database after a last copy of it was kept and checked.

    Raises InvalidInput, with the database as it was, where others use it, where the disk has no
    room for the copy, and where the copy is not complete.
    """
    database = check(gatling, app, name)
    # an upgrade of it ends first
    with exclusively(gatling.home, f"upgrade-{database}"), exclusively(gatling.home, "databases"):
        database = check(gatling, app, name)
        record = databases.get(gatling.db, database)
        kept = record.kept
        if record.state != "removing":
            kept = _kept_copies(gatling, record, progress)
            databases.mark(gatling.db, database, "removing", kept)
        progress.phase(f"Removing the database {database}")
        earlier = remove_earlier(gatling, database, kept, progress)
        gatling.databases.remove(cluster(record), kept)
        for use in databases.attachments(gatling.db, database=database):
            values = config.of_app(gatling.db, use.app)
            if values.get(use.variable) == gatling.databases.url(use.app, database):
                variables.change(
                    gatling, use.app, {use.variable: None}, progress=progress, restart=False
                )
        databases.forget(gatling.db, database)
        for problem in pools.settled(gatling, app):
            progress.say(problem)
        audit.record(gatling.db, gatling.actor, app, "db destroy", database)
    return Destroyed(database, kept, earlier)


def remove_earlier(gatling: Gatling, database: str, kept: str, progress: Progress) -> list[Former]:
    """Remove the clusters of a database that upgrades have kept; `kept` is its last copy."""
    found = former_clusters.of(gatling.db, database)
    for one in found:
        progress.say(f"Removing its cluster with PostgreSQL {one.version}, which was kept")
        gatling.databases.remove(_of(one), one.kept or kept)
    return found


def _kept_copies(gatling: Gatling, record: Record, progress: Progress) -> str:
    """Close a database to all apps, and keep last copies; the path of its own.

    A cluster that an upgrade has replaced has nothing that the database lacks. One whose upgrade
    was undone does, and so does each of them when the cluster of the database is gone.
    """
    there = gatling.databases.exists(cluster(record))
    progress.phase(f"Keeping a last copy of {record.name}")
    stamp = now().replace("-", "").replace(":", "").split(".")[0].rstrip("Z") + "Z"
    path = ""
    try:
        if there:
            gatling.databases.allow(cluster(record), {})
            path = _said(gatling.databases.keep(cluster(record), stamp), progress)
        for one in former_clusters.of(gatling.db, record.name):
            if (one.undone or not there) and gatling.databases.exists(_of(one)):
                progress.say(f"Keeping a copy of its cluster with PostgreSQL {one.version}, too")
                found = gatling.databases.keep_former(_of(one), stamp)
                former_clusters.copied(gatling.db, one, _said(found, progress))
    except BaseException as error:
        with cleaning(error):
            if there:
                gatling.databases.allow(cluster(record), allowed(gatling, record.name))
        raise
    return path


def _said(found: Kept, progress: Progress) -> str:
    """Report the numbers of a last copy; its path."""
    tables, rows = counted(found.tables, "table"), counted(found.rows, "row")
    progress.say(f"{tables} with {rows}, and all of them are in the copy")
    return found.path


def _of(former: Former) -> Cluster:
    return Cluster(former.database, former.version, former.generation)
