"""Config: the environment variables of an app, as the next release will take them."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gatling.state.database import Database


def of_app(db: Database, app: str) -> dict[str, str]:
    """All variables, by name."""
    rows = db.rows("SELECT name, value FROM config WHERE app = ? ORDER BY name", app)
    return {row["name"]: row["value"] for row in rows}


def read(database: Path, app: str) -> dict[str, str]:
    """The same from the records of a home that is not opened. Raises sqlite3.Error."""
    import sqlite3

    uri = f"{database.as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=1)) as db:
        return dict(db.execute("SELECT name, value FROM config WHERE app = ?", (app,)))


def replace(db: Database, app: str, values: Mapping[str, str]) -> None:
    """Make these the app's variables, all of them."""
    with db.transaction(durable=True):
        write(db, app, values)


def write(db: Database, app: str, values: Mapping[str, str]) -> None:
    """As `replace`, inside the caller's transaction."""
    db.execute("DELETE FROM config WHERE app = ?", app)
    for name, value in sorted(values.items()):
        db.execute("INSERT INTO config (app, name, value) VALUES (?, ?, ?)", app, name, value)


def pending(db: Database, app: str) -> list[str]:
    """Variables that are stored for the next deployment, and are others in the live release."""
    live = db.value(
        "SELECT releases.config FROM apps JOIN releases ON releases.app = apps.name"
        " AND releases.number = apps.live_release WHERE apps.name = ?",
        app,
    )
    if live is None:
        return []
    stored, applied = of_app(db, app), json.loads(live)
    return sorted(name for name in {*stored, *applied} if stored.get(name) != applied.get(name))
