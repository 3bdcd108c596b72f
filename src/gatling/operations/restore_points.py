"""The moments before migrations to which a database can be restored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.errors import NotFound
from gatling.platform.postgres import pgbackrest
from gatling.state import databases, restore_points
from gatling.times import stamp_of

if TYPE_CHECKING:
    from gatling.platform.open import Gatling
    from gatling.platform.postgres.pgbackrest import Backup
    from gatling.state.restore_points import RestorePoint


class Before(Struct, frozen=True):
    """The moment before the migrations of a release, which a restore of a backup reaches."""

    release: int
    at: str


def reached(
    gatling: Gatling, app: str, database: str, every: list[Backup]
) -> dict[str, list[Before]]:
    """By the label of the backup that is restored for it, what each backup reaches."""
    found: dict[str, list[Before]] = {}
    for point in restore_points.every(gatling.db, database, app):
        backup = pgbackrest.at_or_before(every, point.stanza, point.lsn)
        if backup is not None:
            found.setdefault(backup.label, []).append(Before(point.release, point.at))
    return found


def find(
    gatling: Gatling, app: str, database: str, release: int, every: list[Backup]
) -> tuple[RestorePoint, Backup]:
    """The restore point before a release's migrations, and the backup to restore for it.

    Raises NotFound where that release ran no migrations on the database, and where no backup
    reaches the moment.
    """
    points = [point for point in restore_points.every(gatling.db, database, app)
              if point.release == release]  # fmt: skip
    for point in reversed(points):  # a database that was created again has another log
        backup = pgbackrest.at_or_before(every, point.stanza, point.lsn)
        if backup is not None:
            return point, backup
    hint = _hint(gatling, app, database, release, every)
    if not points:
        raise NotFound(
            f"v{release} has no restore point in {database}: it ran no migrations there, or the"
            " restore point could not be made.",
            hint=hint,
        )
    usable = [one for one in every if one.state != "refuted"]
    oldest = f"the oldest is of {stamp_of(usable[0].stopped)}" if usable else "there is none"
    raise NotFound(
        f"No backup of {database} goes back to the moment before v{release}, {points[-1].at}:"
        f" {oldest}.",
        hint=hint,
    )


def _hint(gatling: Gatling, app: str, database: str, release: int, every: list[Backup]) -> str:
    """The restore points that can be used instead."""
    each = reached(gatling, app, database, every).values()
    if found := sorted({f"v{one.release}" for points in each for one in points}, key=_number):
        return f"Restore points that can be used: {', '.join(found)}. `--to` takes a time, too."
    for use in databases.attachments(gatling.db, app=app):
        other = restore_points.every(gatling.db, use.database, app)
        if use.database != database and any(point.release == release for point in other):
            return f"The database {use.database} has one: `--name {use.database}`."
    return "No restore point can be used. `--to` takes a time, too."


def _number(label: str) -> int:
    return int(label[1:])
