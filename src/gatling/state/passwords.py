"""The users of an app's domains (basic authentication): names and hashes of passwords."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.errors import NotFound
from gatling.times import now

if TYPE_CHECKING:
    from gatling.state.database import Database


def of_app(db: Database, app: str) -> dict[str, dict[str, str]]:
    """By domain (`*`: all of the app's), users and their hashes."""
    return every(db, app).get(app, {})


def every(db: Database, app: str | None = None) -> dict[str, dict[str, dict[str, str]]]:
    """The same, by app: of all, or of one."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for row in db.rows(
        "SELECT * FROM passwords WHERE ? IS NULL OR app = ? ORDER BY domain, user", app, app
    ):
        found.setdefault(row["app"], {}).setdefault(row["domain"], {})[row["user"]] = row["hash"]
    return found


def put(db: Database, app: str, domain: str, user: str, hashed: str) -> None:
    """Add a user, or change the user's password."""
    with db.transaction():
        db.execute(
            "INSERT OR REPLACE INTO passwords (app, domain, user, hash, added_at)"
            " VALUES (?, ?, ?, ?, ?)",
            app,
            domain,
            user,
            hashed,
            now(),
        )


def remove(db: Database, app: str, domain: str, user: str) -> None:
    """Let a user in no longer; raises NotFound."""
    with db.transaction():
        gone = db.execute(
            "DELETE FROM passwords WHERE app = ? AND domain = ? AND user = ?", app, domain, user
        )
        if not gone:
            raise NotFound(
                f"{app} has no user {user} for {domain}.", hint=f"See `gatling auth list {app}`."
            )
