"""Audit: who did what, when. Never a value of a variable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.times import now

if TYPE_CHECKING:
    from gatling.state.database import Database


class Entry(Struct, frozen=True):
    """One line of the audit."""

    at: str
    actor: str
    app: str | None
    action: str
    detail: str


def record(db: Database, actor: str, app: str | None, action: str, detail: str = "") -> None:
    """Add a line."""
    with db.transaction():
        db.execute(
            "INSERT INTO audit (at, actor, app, action, detail) VALUES (?, ?, ?, ?, ?)",
            now(),
            actor,
            app,
            action,
            detail,
        )


def latest(db: Database, app: str | None = None, limit: int = 100) -> list[Entry]:
    """The newest lines first."""
    rows = db.rows(
        "SELECT * FROM audit WHERE ? IS NULL OR app = ? ORDER BY id DESC LIMIT ?", app, app, limit
    )
    return [Entry(r["at"], r["actor"], r["app"], r["action"], r["detail"]) for r in rows]
