"""Places that may have something of an app besides its own: one that it moves to, or has left.

A place is the name of a cluster, or HERE. Recovery removes the app from all of these places.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.state import watches

if TYPE_CHECKING:
    from gatling.state.database import Database

HERE = ""
"""This machine."""
HERE_NAME = "here"
"""The name of this machine in commands; no cluster has it."""


def said(place: str) -> str:
    """A place in words."""
    return place or "this machine"


def others(db: Database, app: str) -> list[str]:
    """The places that may have something of an app besides its own."""
    rows = db.rows("SELECT platform FROM moves WHERE app = ? ORDER BY platform", app)
    return [row["platform"] for row in rows]


def coming_here(db: Database) -> set[str]:
    """The apps on clusters that are about to run on this machine."""
    rows = db.rows("SELECT app FROM moves WHERE platform = ? AND stage = 'coming'", HERE)
    return {row["app"] for row in rows}


def begin(db: Database, app: str, place: str) -> None:
    """Record that something of an app is about to be in a place. On the disk at once."""
    with db.transaction(durable=True):
        db.execute(
            "INSERT OR REPLACE INTO moves (app, platform, stage) VALUES (?, ?, 'coming')",
            app,
            place,
        )


def decide(db: Database, app: str, place: str, *, slot: int | None, deployment: int | None) -> None:
    """Decide: from now on this is the place of the app. On the disk at once.

    `slot` and `deployment` are what is live there. Nothing else of the app changes, but nothing
    watches its release any more. Recovery removes the app from the place that it has left.
    """
    with db.transaction(durable=True):
        before = db.value("SELECT platform FROM apps WHERE name = ?", app) or HERE
        db.execute(
            "UPDATE apps SET platform = ?, live_slot = ?, live_deployment = ? WHERE name = ?",
            place or None, slot, deployment, app,
        )  # fmt: skip
        db.execute("DELETE FROM moves WHERE app = ? AND platform = ?", app, place)
        db.execute(
            "INSERT OR REPLACE INTO moves (app, platform, stage) VALUES (?, ?, 'left')", app, before
        )
        watches.replace(db, app, None)


def end(db: Database, app: str, place: str) -> None:
    """Record that a place has nothing of an app any more."""
    with db.transaction(durable=True):
        db.execute("DELETE FROM moves WHERE app = ? AND platform = ?", app, place)
