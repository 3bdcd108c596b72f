"""Releases that are watched after their deployment has ended: one for each app at most."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from gatling.state.database import Database


class Watch(Struct, frozen=True):
    """A release that is undone if it serves worse than the one before."""

    app: str
    deployment: int
    """The deployment that made it live."""
    release: int
    previous: int
    """The release to return to."""
    switched: float
    """When requests reached it, as Unix time."""
    until: float
    before: tuple[float, int, int, int, int]
    """The figures of the release before: `deploy.evidence.judgement.Served`."""
    previous_slot: int | None = None
    """The slot in which an instance of the release before is kept running, if it is."""
    unproven: str | None = None
    """None: the release has been seen to boot. Empty: its boot check goes on. Otherwise the reason
    why it does not boot, where it could not be undone either."""

    @property
    def judges(self) -> bool:
        """Whether the release may be undone; otherwise only the instance before is to end."""
        return self.until > self.switched


def put(db: Database, watch: Watch) -> None:
    """Record a watch in the place of an earlier one. The caller has a transaction."""
    db.execute(
        "INSERT OR REPLACE INTO watches (app, deployment, release, previous, switched, until,"
        " before, previous_slot, unproven) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        watch.app, watch.deployment, watch.release, watch.previous, watch.switched, watch.until,
        json.dumps(watch.before), watch.previous_slot, watch.unproven,
    )  # fmt: skip


def of_app(db: Database, app: str) -> Watch | None:
    """The watch of an app, if its release is watched."""
    return next(iter(_watches(db, "WHERE app = ?", app)), None)


def every(db: Database) -> list[Watch]:
    """All watches, by app."""
    return _watches(db, "ORDER BY app")


def kept_slot(db: Database, app: str, live: int | None) -> int | None:
    """The slot in which the release before the live one is kept running; None: in none."""
    watch = of_app(db, app)
    return watch.previous_slot if watch is not None and watch.release == live else None


def unproven(db: Database, app: str, live: int | None) -> Watch | None:
    """The watch of a live release that has not been seen to boot; None: it has been."""
    watch = of_app(db, app)
    concerned = watch is not None and watch.release == live and watch.unproven is not None
    return watch if concerned else None


def boots(db: Database, app: str, live: int | None) -> int | None:
    """The release that the next start of an app starts: the live one, if it is known to boot."""
    watch = unproven(db, app, live)
    return watch.previous if watch is not None else live


def prove(db: Database, watch: Watch, failure: str | None = None) -> None:
    """Record that a release boots, or why it does not; unless another watch has come since."""
    with db.transaction(durable=True):
        db.execute(
            "UPDATE watches SET unproven = ? WHERE app = ? AND deployment = ?",
            failure, watch.app, watch.deployment,
        )  # fmt: skip


def replace(db: Database, app: str, watch: Watch | None) -> None:
    """Put a watch, or none, in the place of an app's watch, whose boot check nobody ends then.

    The caller has a transaction.
    """
    db.execute(
        "UPDATE steps SET outcome = 'cancelled' WHERE name = 'boot_check' AND outcome = 'running'"
        " AND deployment IN (SELECT deployment FROM watches WHERE app = ? AND unproven = '')",
        app,
    )
    db.execute("DELETE FROM watches WHERE app = ?", app)
    if watch is not None:
        put(db, watch)


def release_slot(db: Database, app: str) -> None:
    """Record that the release before is kept running no longer."""
    with db.transaction():
        db.execute("UPDATE watches SET previous_slot = NULL WHERE app = ?", app)


def end(db: Database, watch: Watch) -> bool:
    """Forget a watch, unless another one has taken its place; whether it was there."""
    with db.transaction():
        return bool(
            db.execute(
                "DELETE FROM watches WHERE app = ? AND deployment = ?", watch.app, watch.deployment
            )
        )


def _watches(db: Database, where: str, *values: object) -> list[Watch]:
    return [
        Watch(
            row["app"], row["deployment"], row["release"], row["previous"], row["switched"],
            row["until"], tuple(json.loads(row["before"])), row["previous_slot"], row["unproven"],
        )
        for row in db.rows(f"SELECT * FROM watches {where}", *values)  # noqa: S608 (no input)
    ]  # fmt: skip
