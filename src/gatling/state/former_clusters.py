"""The clusters that a database had before upgrades and after undone ones, which are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.times import now

if TYPE_CHECKING:
    from gatling.state.database import Database
    from gatling.state.databases import Record


class Former(Struct, frozen=True):
    """A cluster that is stopped and kept."""

    database: str
    version: int
    generation: int
    at: str
    """The time from which on another cluster was used."""
    undone: bool
    """Whether it was used until its upgrade was undone: then only it has what was written to it."""
    kept: str
    """Its last copy, once the database is being removed; empty: none was needed."""


def of(db: Database, database: str) -> list[Former]:
    """The kept clusters of a database, the one that was used last first."""
    rows = db.rows(
        "SELECT database, version, generation, at, undone, kept FROM former_clusters"
        " WHERE database = ? ORDER BY at DESC, generation DESC",
        database,
    )
    return [
        Former(row["database"], row["version"], row["generation"], row["at"], bool(row["undone"]),
               row["kept"])
        for row in rows
    ]  # fmt: skip


def before(db: Database, database: str) -> Former | None:
    """The cluster that the last upgrade which was not undone has replaced."""
    return next((one for one in of(db, database) if not one.undone), None)


def upgraded(db: Database, record: Record, version: int, generation: int) -> None:
    """Record the cluster that a database stands for from now on, and keep the one of before.

    This is the decision of an upgrade.
    """
    with db.transaction(durable=True):
        _use(db, record, version, generation)
        _keep(db, record, undone=False)


def undone(db: Database, record: Record, former: Former) -> None:
    """Record that a database stands for a former cluster again, and keep the one of now."""
    with db.transaction(durable=True):
        _use(db, record, former.version, former.generation)
        _keep(db, record, undone=True)


def failed(db: Database, record: Record) -> None:
    """Record that a database stands for the cluster of before: the new one was never used."""
    with db.transaction(durable=True):
        _use(db, record, record.version, record.generation)


def copied(db: Database, former: Former, kept: str) -> None:
    """Record the last copy of a cluster."""
    with db.transaction(durable=True):
        db.execute(
            "UPDATE former_clusters SET kept = ?"
            " WHERE database = ? AND version = ? AND generation = ?",
            kept, former.database, former.version, former.generation,
        )  # fmt: skip


def _use(db: Database, record: Record, version: int, generation: int) -> None:
    db.execute(
        "UPDATE databases SET version = ?, generation = ? WHERE name = ?",
        version, generation, record.name,
    )  # fmt: skip
    db.execute(
        "DELETE FROM former_clusters WHERE database = ? AND version = ? AND generation = ?",
        record.name, version, generation,
    )  # fmt: skip


def _keep(db: Database, record: Record, *, undone: bool) -> None:
    db.execute(
        "INSERT INTO former_clusters (database, version, generation, at, undone)"
        " VALUES (?, ?, ?, ?, ?)",
        record.name, record.version, record.generation, now(), undone,
    )  # fmt: skip
