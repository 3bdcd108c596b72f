"""Restoring a backup of a database into a new one, and using that in its place."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling import names
from gatling.errors import InvalidInput, NotFound
from gatling.operations import backups, databases, forks, new_clusters, restore_points
from gatling.operations import config as variables
from gatling.paths import exclusively
from gatling.platform.postgres.sites import Chosen
from gatling.project.schedule import here
from gatling.state import audit
from gatling.state import databases as records
from gatling.times import stamp_of

if TYPE_CHECKING:
    from gatling.platform.open import Gatling
    from gatling.platform.postgres.clusters import Cluster
    from gatling.platform.postgres.pgbackrest import Backup
    from gatling.platform.postgres.sites import Restored
    from gatling.state.databases import Attachment, Record
    from gatling.ui.progress import Progress


_RELEASE = re.compile(r"v([1-9][0-9]{0,8})")


class Done(Struct, frozen=True):
    """A database that was restored from a backup of another one."""

    database: str
    source: str
    app: str
    variable: str
    """The config variable with its URL."""
    backup: str
    proved: bool
    """Whether that backup is proved."""
    tables: int
    rows: int
    last: str
    """The time of its last transaction; empty when that is not known."""


class Promoted(Struct, frozen=True):
    """A database that an app uses in the place of another one."""

    database: str
    variable: str
    before: str
    """The database that the variable was for; it stays."""
    before_variable: str


def moment(text: str) -> datetime | int:
    """A time in the past, in the host's time zone unless it names one, or the release of `v12`.

    Raises InvalidInput.
    """
    if release := _RELEASE.fullmatch(text):
        return int(release[1])
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(
            f"{text!r} is not a time, and not a release.",
            hint='Use a form such as "2026-01-31 14:05:00", or v12.',
        ) from None
    found = (found if found.tzinfo else found.replace(tzinfo=here())).astimezone(UTC)
    if found > datetime.now(UTC):
        raise InvalidInput(f"{text} is in the future.")
    return found


def restore(
    gatling: Gatling,
    app: str,
    name: str | None,
    to: datetime | int | None,
    new: str | None,
    progress: Progress,
    *,
    with_url: bool = True,
) -> Done:
    """Restore a database of an app, as it was at a time or is in its backups, as a new one.

    The number of a release stands for the moment before its migrations ran for the first time.
    Raises NotFound without a backup from before that time, InvalidInput for a name that is taken,
    and as the platform does. A restore that was killed is done again by the same call.
    """
    source = databases.ready(gatling, app, name)
    want = databases.wanted(app, new or f"{source.name}-restored", None)
    gatling.databases.check(want.name)
    every, target, point = gatling.databases.backups(source.name), "", ""
    if isinstance(to, int):
        found_point, backup = restore_points.find(gatling, app, source.name, to, every)
        point = found_point.name
    else:
        backup = _backup(every, source, to)
        target = to.strftime("%Y-%m-%d %H:%M:%S.%f+00") if to else ""
    chosen = Chosen(backup.stanza, backup.label, source.name, backup.bytes, target, point)
    with exclusively(gatling.home, f"restore-{want.name}"):
        found = _restore(gatling, want, source, chosen, progress)
    audit.record(gatling.db, gatling.actor, app, "db restore",
                 f"{want.name} from {backup.label} to {point or target or 'the end'}")  # fmt: skip
    if with_url:
        url = gatling.databases.url(app, want.name)
        variables.change(gatling, app, {want.variable: url}, progress=progress, restart=False)
    return _done(want, source, backup, found)


def _restore(
    gatling: Gatling, want: databases.Wanted, source: Record, chosen: Chosen, progress: Progress
) -> Restored:
    def fill(cluster: Cluster) -> Restored:
        progress.phase(f"Restoring {source.name} as the database {want.name}")
        return gatling.databases.restore(cluster, databases.cluster(source), chosen, progress.say)

    return new_clusters.make(gatling, want, source, records.RESTORING, fill)


def promote(
    gatling: Gatling, app: str, name: str | None, progress: Progress, *, restart: bool = True
) -> Promoted:
    """Use a restored database in the place of the main one, whose variable gets the other's URL.

    The other database stays. The same call with its name goes back. Raises NotFound and
    InvalidInput, and as a deployment does; the app keeps its main database then. The switch of a
    deployment records the exchange together with the config, so that a kill leaves both or none.
    """
    with exclusively(gatling.home, "databases"):
        record = databases.ready(gatling, app, name or f"{main(gatling, app).database}-restored")
        use, now = _use(gatling, app, record.name), main(gatling, app)
        if use.database == now.database:
            raise InvalidInput(f"{app} uses {use.database} as {now.variable} already.")
        for one in (use, now):
            if one.access != "write":
                raise InvalidInput(f"{app} may only read {one.database}.")
        forks.own(gatling, record)
    values: dict[str, str | None] = {
        now.variable: gatling.databases.url(app, use.database),
        use.variable: gatling.databases.url(app, now.database),
    }
    variables.change(gatling, app, values, progress=progress, restart=restart)
    with exclusively(gatling.home, "databases"):
        stored = records.exchange_for(
            gatling.db, app, now.variable, lambda name: gatling.databases.url(app, name),
            values[now.variable],
        )  # fmt: skip
        if stored is not None:  # for the next deployment, or nothing is live
            records.exchange(gatling.db, *stored)
        backups.follow(gatling, now.database, use.database)
        audit.record(gatling.db, gatling.actor, app, "db promote",
                     f"{use.database} as {now.variable}, before {now.database}")  # fmt: skip
    return Promoted(use.database, now.variable, now.database, use.variable)


def main(gatling: Gatling, app: str) -> Attachment:
    """The use of a database whose URL is in DATABASE_URL."""
    for use in records.attachments(gatling.db, app=app):
        if use.variable == databases.VARIABLE:
            return use
    raise NotFound(f"{app} has no database of Gatling as {databases.VARIABLE}.")


def _use(gatling: Gatling, app: str, database: str) -> Attachment:
    for use in records.attachments(gatling.db, app=app, database=database):
        return use
    raise NotFound(f"{app} does not use the database {database}.")


def _backup(every: list[Backup], source: Record, to: datetime | None) -> Backup:
    """The newest backup from before a time: a proved one, if there is one; raises NotFound."""
    fitting = [
        one for one in every
        if one.state != "refuted" and one.generation == source.generation
        and (to is None or one.stopped <= to.timestamp())
    ]  # fmt: skip
    proved = [one for one in fitting if one.state == "proved"]
    if fitting:
        return (proved or fitting)[-1]
    usable = [one for one in every if one.state != "refuted"]
    raise NotFound(
        f"There is no backup of {source.name}" + (" from before that time." if usable else "."),
        hint=f"The first one is of {stamp_of(usable[0].stopped)}." if usable else "",
    )


def _done(want: databases.Wanted, source: Record, backup: Backup, found: Restored) -> Done:
    return Done(
        names.app_name(want.name), source.name, want.app, want.variable, backup.label,
        backup.state == "proved", found.tables, found.rows, found.last,
    )  # fmt: skip
