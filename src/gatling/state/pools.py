"""The sizes of the connection pools of apps. The config of an app says which of them it uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gatling.state.database import Database


def size(db: Database, app: str) -> int | None:
    """The connections that the pool of an app opens to each database; None: it has no pool."""
    found = db.value("SELECT size FROM pools WHERE app = ?", app)
    return None if found is None else int(found)


def set_size(db: Database, app: str, wanted: int | None) -> None:
    """Record the size of an app's pool, or that the app has none any more."""
    with db.transaction(durable=True):
        db.execute("DELETE FROM pools WHERE app = ?", app)
        if wanted is not None:
            db.execute("INSERT INTO pools (app, size) VALUES (?, ?)", app, wanted)
