"""Locks: which apps take no deployment, since when, why, and who locked them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.errors import InvalidInput, NotFound
from gatling.times import now

if TYPE_CHECKING:
    from gatling.state.database import Database


class Lock(Struct, frozen=True):
    """Why an app takes no deployment."""

    actor: str
    reason: str
    """Empty when none was given."""
    at: str


def of_app(db: Database, app: str) -> Lock | None:
    """The lock of an app; None while it takes deployments."""
    row = db.row("SELECT actor, reason, at FROM locks WHERE app = ?", app)
    return Lock(row["actor"], row["reason"], row["at"]) if row else None


def put(db: Database, app: str, actor: str, reason: str) -> Lock:
    """Lock an app; raises InvalidInput when it is locked already."""
    with db.transaction(durable=True):
        held = of_app(db, app)
        if held is not None:
            raise InvalidInput(
                f"{app} was locked by {held.actor} at {held.at}{_because(held)}.",
                hint=f"`gatling unlock {app}` removes that lock.",
            )
        lock = Lock(actor, reason, now())
        db.execute(
            "INSERT INTO locks (app, actor, reason, at) VALUES (?, ?, ?, ?)",
            app, lock.actor, lock.reason, lock.at,
        )  # fmt: skip
    return lock


def remove(db: Database, app: str) -> Lock:
    """Unlock an app; the lock it had. Raises NotFound when it has none."""
    with db.transaction(durable=True):
        held = of_app(db, app)
        if held is None:
            raise NotFound(f"{app} is not locked.")
        db.execute("DELETE FROM locks WHERE app = ?", app)
    return held


def describe(lock: Lock) -> str:
    """`locked by ann at 2026-11-28T12:00:00.000Z: Release freeze`."""
    return f"locked by {lock.actor} at {lock.at}{_because(lock)}"


def _because(lock: Lock) -> str:
    return f": {lock.reason}" if lock.reason else ""
