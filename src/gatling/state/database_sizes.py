"""The sizes of databases over the last weeks, at most one an hour."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gatling.state.database import Database

KEPT_SECONDS = 35 * 86400
STEP_SECONDS = 3600


def add(db: Database, database: str, size: int, at: float) -> None:
    """Record the size of a database at a time, in place of an earlier one of the same hour."""
    hour = int(at) // STEP_SECONDS * STEP_SECONDS
    with db.transaction():
        db.execute(
            "INSERT OR REPLACE INTO database_sizes (database, at, bytes) VALUES (?, ?, ?)",
            database, hour, size,
        )  # fmt: skip
        db.execute("DELETE FROM database_sizes WHERE at < ?", hour - KEPT_SECONDS)


def near(db: Database, database: str, at: float, tolerance: float) -> int | None:
    """The recorded size that is nearest to a time, within so many seconds; None without one."""
    found = db.value(
        "SELECT bytes FROM database_sizes WHERE database = ? AND abs(at - ?) <= ?"
        " ORDER BY abs(at - ?) LIMIT 1",
        database, at, tolerance, at,
    )  # fmt: skip
    return None if found is None else int(found)
