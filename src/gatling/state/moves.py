"""Places that may have something of an app besides its own: one that it moves to, or has left.

A place is the name of a cluster, or HERE. Recovery removes the app from all of these places but
one: that which serves as well until `gatling move APP --finish`, for clients whose DNS still leads
there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.errors import InvalidInput
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


def served_here(db: Database) -> set[str]:
    """The apps on clusters that this machine serves as well, or is about to."""
    rows = db.rows(
        "SELECT app FROM moves WHERE platform = ? AND stage IN ('coming', 'serving')", HERE
    )
    return {row["app"] for row in rows}


def serving(db: Database, app: str) -> str | None:
    """The place that serves an app as well since it was moved; None if there is none."""
    row = db.row("SELECT platform FROM moves WHERE app = ? AND stage = 'serving'", app)
    return str(row["platform"]) if row else None


def serving_name(db: Database, app: str) -> str | None:
    """The same as commands have it."""
    place = serving(db, app)
    return place if place is None else place or HERE_NAME


def slot(db: Database, app: str) -> int | None:
    """The slot of this machine that serves an app as well."""
    found: int | None = db.value(
        "SELECT slot FROM moves WHERE app = ? AND platform = ? AND stage = 'serving'", app, HERE
    )
    return found


def need_one(db: Database, app: str) -> None:
    """Raise InvalidInput while two places serve an app: a change would reach one of them alone."""
    place = serving(db, app)
    if place is not None:
        raise InvalidInput(
            f"{app} was moved, and {said(place)} still serves it as well: this change would not"
            " take effect there. Nothing was changed.",
            hint=f"`gatling move {app} --finish` stops {app} on {said(place)}. Do so once the DNS"
            " records of its domains have changed everywhere.",
        )


def leave(db: Database, app: str) -> str | None:
    """Record that a place is not to serve an app any more; which one, if there was one."""
    with db.transaction(durable=True):
        place = serving(db, app)
        db.execute("UPDATE moves SET stage = 'left' WHERE app = ? AND stage = 'serving'", app)
    return place


def begin(db: Database, app: str, place: str) -> None:
    """Record that something of an app is about to be in a place. On the disk at once."""
    with db.transaction(durable=True):
        db.execute(
            "INSERT OR REPLACE INTO moves (app, platform, stage) VALUES (?, ?, 'coming')",
            app,
            place,
        )


def decide(
    db: Database,
    app: str,
    place: str,
    *,
    slot: int | None,
    deployment: int | None,
    serves: bool = False,
) -> None:
    """Decide: from now on this is the place of the app. On the disk at once.

    `slot` and `deployment` are what is live there. Nothing else of the app changes, but nothing
    watches its release any more. Recovery removes the app from the place that it has left, unless
    that one `serves` as well.
    """
    with db.transaction(durable=True):
        before = db.row("SELECT platform, live_slot FROM apps WHERE name = ?", app)
        left, there = (before["platform"] or HERE, before["live_slot"]) if before else (HERE, None)
        db.execute(
            "UPDATE apps SET platform = ?, live_slot = ?, live_deployment = ? WHERE name = ?",
            place or None, slot, deployment, app,
        )  # fmt: skip
        db.execute("DELETE FROM moves WHERE app = ? AND platform = ?", app, place)
        db.execute(
            "INSERT OR REPLACE INTO moves (app, platform, stage, slot) VALUES (?, ?, ?, ?)",
            app, left, "serving" if serves else "left", there,
        )  # fmt: skip
        watches.replace(db, app, None)


def end(db: Database, app: str, place: str) -> None:
    """Record that a place has nothing of an app any more."""
    with db.transaction(durable=True):
        db.execute("DELETE FROM moves WHERE app = ? AND platform = ?", app, place)
