"""The last attempt to back each database up, and the last success.

The backups themselves, and whether they are proved, are in their repository.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.times import now

if TYPE_CHECKING:
    from gatling.state.database import Database


class Attempts(Struct, frozen=True):
    """The attempts to back a database up, and their results."""

    database: str
    tried_at: str
    proved_at: str | None
    """The last time that a backup was made and proved."""
    fault: str
    """The fault of the last attempt; empty after a success."""


class Plan(Struct, frozen=True):
    """The daily backup of a database."""

    database: str
    at: str
    """The time of day, `HH:MM`, in the host's time zone; empty without a schedule."""
    count: int
    """Full backups that stay."""
    days: int
    """The age, in days, up to which all full backups stay."""
    changed_at: str


def plans(db: Database) -> dict[str, Plan]:
    """The plans, by database."""
    rows = db.rows("SELECT database, at, count, days, changed_at FROM backup_plans")
    return {row["database"]: Plan(*row) for row in rows}


def plan(db: Database, wanted: Plan) -> None:
    """Record a plan, in the place of an earlier one."""
    with db.transaction(durable=True):
        db.execute(
            "INSERT OR REPLACE INTO backup_plans (database, at, count, days, changed_at)"
            " VALUES (?, ?, ?, ?, ?)",
            wanted.database, wanted.at, wanted.count, wanted.days, wanted.changed_at,
        )  # fmt: skip


def every(db: Database) -> dict[str, Attempts]:
    """The attempts, by database."""
    rows = db.rows("SELECT database, tried_at, proved_at, fault FROM backups")
    return {row["database"]: Attempts(*row) for row in rows}


def record(db: Database, database: str, fault: str) -> None:
    """Record how an attempt ended; call it within the transaction of its notification."""
    moment = now()
    db.execute(
        "INSERT INTO backups (database, tried_at, proved_at, fault) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (database) DO UPDATE SET"
        " tried_at = excluded.tried_at, proved_at = coalesce(excluded.proved_at, proved_at),"
        " fault = excluded.fault",
        database, moment, None if fault else moment, fault,
    )  # fmt: skip
