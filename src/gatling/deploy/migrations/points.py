"""The moment before migrations run, kept as a restore point in the app's databases."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gatling.deploy.migrations import written
from gatling.errors import GatlingError
from gatling.state import backups, databases, restore_points
from gatling.state.restore_points import RestorePoint
from gatling.times import now

if TYPE_CHECKING:
    from gatling.deploy.context import Context
    from gatling.platform.open import Gatling
    from gatling.state.databases import Record
    from gatling.state.releases import Release


def make(gatling: Gatling, context: Context, target: Release) -> None:
    """Make a restore point in each database that Gatling has made and the app may change.

    A failure is a note: a database can be restored to a time as well.
    """
    app = context.app.name
    for use in databases.attachments(gatling.db, app=app):
        record = databases.get(gatling.db, use.database)
        if use.access != "write" or record.state != "ready":
            continue
        try:
            _make(gatling, app, record, target)
        except GatlingError as error:
            context.progress.note(
                f"the database {record.name} has no restore point before {target.label}:"
                f" {error.what}"
            )
        else:
            context.progress.note(_reached(gatling, app, record, target))


def _make(gatling: Gatling, app: str, record: Record, target: Release) -> None:
    # few apps have a database
    from gatling.platform.postgres import points
    from gatling.platform.postgres.clusters import Cluster

    name = points.name(target.number, time.time_ns())
    cluster = Cluster(record.name, record.version, record.generation)
    place, at = gatling.databases.point(cluster, name), now()
    try:
        counters = written.encode(written.read(gatling, app, cluster))
    except GatlingError:  # a rollback with data then cannot say what is lost
        counters = ""
    point = RestorePoint(record.name, app, target.number, name, place.stanza, place.lsn, at,
                         counters)  # fmt: skip
    restore_points.add(gatling.db, point)


def _reached(gatling: Gatling, app: str, record: Record, target: Release) -> str:
    """The command that restores to a restore point, or that none can without a backup."""
    last = backups.every(gatling.db).get(record.name)
    named = "" if record.name == app else f" --name {record.name}"
    if last is None or last.proved_at is None:
        return (
            f"{record.name} has no backup, so it cannot be restored as it is now:"
            f" gatling db backup {app}{named}"
        )
    return (
        f"restore {record.name} as it is now: gatling db restore {app}{named} --to {target.label}"
    )
