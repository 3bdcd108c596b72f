"""The cluster that a database had before it was upgraded, which is kept."""

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
    """The time of the upgrade."""


def every(db: Database) -> dict[str, Former]:
    """The kept clusters, by database."""
    rows = db.rows("SELECT database, version, generation, at FROM former_clusters")
    return {row["database"]: Former(*row) for row in rows}


def replace(db: Database, before: Record, version: int, generation: int, *, keep: bool) -> None:
    """Record the cluster that a database stands for from now on: this is the decision.

    With `keep`, the one of before can be returned to.
    """
    with db.transaction(durable=True):
        db.execute(
            "UPDATE databases SET version = ?, generation = ? WHERE name = ?",
            version, generation, before.name,
        )  # fmt: skip
        db.execute("DELETE FROM former_clusters WHERE database = ?", before.name)
        if keep:
            db.execute(
                "INSERT INTO former_clusters (database, version, generation, at)"
                " VALUES (?, ?, ?, ?)",
                before.name, before.version, before.generation, now(),
            )  # fmt: skip
