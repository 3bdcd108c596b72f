"""The databases that are forks of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from gatling.state.database import Database


class Fork(Struct, frozen=True):
    """A database that is a fork."""

    database: str
    source: str
    """The name of the database that it was forked from, which may be gone."""
    how: str
    """`clone`, `copy` or `schema`; empty while it is being made."""
    scrubbed: bool
    """Whether a script ran in it before anybody could connect to it."""


def every(db: Database) -> list[Fork]:
    """All forks, by name."""
    rows = db.rows("SELECT database, source, how, scrubbed FROM forks ORDER BY database")
    return [Fork(database, source, how, bool(scrubbed)) for database, source, how, scrubbed in rows]


def find(db: Database, database: str) -> Fork | None:
    """The fork of a name, or None."""
    return next((fork for fork in every(db) if fork.database == database), None)


def record(db: Database, fork: Fork) -> None:
    """Record that a database is a fork, in place of an earlier record of it."""
    with db.transaction(durable=True):
        db.execute(
            "INSERT INTO forks (database, source, how, scrubbed) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (database) DO UPDATE SET source = excluded.source, how = excluded.how,"
            " scrubbed = excluded.scrubbed",
            fork.database, fork.source, fork.how, int(fork.scrubbed),
        )  # fmt: skip


def forget(db: Database, database: str) -> None:
    """Record that a database is one like others."""
    with db.transaction(durable=True):
        db.execute("DELETE FROM forks WHERE database = ?", database)
