"""Log drains: where the logs of apps are sent, and how far each has come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.times import now

if TYPE_CHECKING:
    import sqlite3

    from gatling.state.database import Database


class Drain(Struct, frozen=True):
    """A receiver of an app's log. `url` is a secret."""

    id: int
    app: str
    url: str
    created_at: str
    position: str
    """The position in the log behind the last line that was accepted; empty: none was yet."""
    failures: int
    """Failed attempts since the last one that was accepted."""
    error: str
    sent_at: str | None
    lines: int
    """Lines that were accepted."""


def add(db: Database, app: str, url: str) -> Drain:
    """Add a drain."""
    with db.transaction(durable=True):
        ident = db.insert(
            "INSERT INTO drains (app, url, created_at) VALUES (?, ?, ?)", app, url, now()
        )
    (row,) = db.rows("SELECT * FROM drains WHERE id = ?", ident)
    return _drain(row)


def get(db: Database, ident: int) -> Drain | None:
    """The drain of that id."""
    row = db.row("SELECT * FROM drains WHERE id = ?", ident)
    return None if row is None else _drain(row)


def every(db: Database) -> list[Drain]:
    """The drains of all apps, the oldest first."""
    return [_drain(row) for row in db.rows("SELECT * FROM drains ORDER BY id")]


def of_app(db: Database, app: str) -> list[Drain]:
    """The drains of an app, the oldest first."""
    return [one for one in every(db) if one.app == app]


def remove(db: Database, ident: int) -> None:
    """Remove a drain."""
    with db.transaction(durable=True):
        db.execute("DELETE FROM drains WHERE id = ?", ident)


def accepted(db: Database, ident: int, position: str, lines: int) -> None:
    """Record that lines were accepted, up to a position in the log.

    Not durable: after a power cut the last lines are sent again.
    """
    with db.transaction():
        db.execute(
            "UPDATE drains SET position = ?, lines = lines + ?, sent_at = ?, failures = 0,"
            " error = '' WHERE id = ?",
            position, lines, now(), ident,
        )  # fmt: skip


def refused(db: Database, ident: int, error: str) -> None:
    """Record that lines were not accepted."""
    with db.transaction():
        db.execute(
            "UPDATE drains SET failures = failures + 1, error = ? WHERE id = ?", error, ident
        )


def _drain(row: sqlite3.Row) -> Drain:
    return Drain(**dict(row))
