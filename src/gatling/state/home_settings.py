"""Settings of the home itself, such as where the proxy listens."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gatling.state.database import Database


def get(db: Database, key: str) -> str | None:
    """A setting, or None when it was never made."""
    value: str | None = db.value("SELECT value FROM home WHERE key = ?", key)
    return value


def put(db: Database, key: str, value: str) -> None:
    """Make a setting."""
    with db.transaction(durable=True):
        db.execute("INSERT OR REPLACE INTO home (key, value) VALUES (?, ?)", key, value)
