"""The moments before migrations ran, as restore points in the logs of databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from gatling.state.database import Database


class RestorePoint(Struct, frozen=True):
    """The moment before the migrations of a release of an app ran for the first time."""

    database: str
    app: str
    release: int
    name: str
    """In the log of the cluster."""
    stanza: str
    """pgBackRest's name for the cluster."""
    lsn: int
    """The place in its log."""
    at: str
    counters: str = ""
    """The database's counters at that moment (deploy/migrations/written.py); empty: not known."""


def every(db: Database, database: str, app: str) -> list[RestorePoint]:
    """The restore points of an app's releases in a database, the oldest first."""
    rows = db.rows(
        "SELECT database, app, release, name, stanza, lsn, at, counters FROM restore_points"
        " WHERE database = ? AND app = ? ORDER BY at, release",
        database, app,
    )  # fmt: skip
    return [RestorePoint(*row) for row in rows]


def add(db: Database, point: RestorePoint) -> None:
    """Record a restore point, unless the migrations of that release ran in that cluster before."""
    with db.transaction(durable=True):
        db.execute(
            "INSERT OR IGNORE INTO restore_points"
            " (database, app, release, name, stanza, lsn, at, counters)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            point.database, point.app, point.release, point.name, point.stanza, point.lsn, point.at,
            point.counters,
        )  # fmt: skip
