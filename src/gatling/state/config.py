"""Config: the environment variables of an app, as the next release will take them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatling.state.database import Database


def of_app(db: Database, app: str) -> dict[str, str]:
    """All variables, by name."""
    rows = db.rows("SELECT name, value FROM config WHERE app = ? ORDER BY name", app)
    return {row["name"]: row["value"] for row in rows}


def replace(db: Database, app: str, values: Mapping[str, str]) -> None:
    """Make these the app's variables, all of them."""
    with db.transaction(durable=True):
        write(db, app, values)


def write(db: Database, app: str, values: Mapping[str, str]) -> None:
    """As `replace`, inside the caller's transaction."""
    db.execute("DELETE FROM config WHERE app = ?", app)
    for name, value in sorted(values.items()):
        db.execute("INSERT INTO config VALUES (?, ?, ?)", app, name, value)
