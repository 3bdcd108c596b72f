"""Going back to an earlier release with the data of its time.

The data is restored into a new database, and the release is deployed with the URL of that one. So
release and database change in one decision, that of the deployment, and the database of before
stays as it is: a rollback to the release of before uses it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct, structs

from gatling.deploy import new_release, pools
from gatling.deploy.go_live import go_live
from gatling.deploy.migrations import written
from gatling.deploy.run import attempt
from gatling.deploy.wish import NO_WISH, Wish
from gatling.errors import GatlingError, InvalidInput, NotFound
from gatling.operations import backups, databases, deploys, lifecycle, restore_points, restoring
from gatling.operations import config as variables
from gatling.releases import store
from gatling.state import apps, audit, config, releases
from gatling.state import databases as records
from gatling.state import restore_points as points
from gatling.times import now

if TYPE_CHECKING:
    from gatling.deploy.context import Context
    from gatling.deploy.migrations.written import Lost
    from gatling.platform.open import Gatling
    from gatling.state.databases import Attachment
    from gatling.ui.progress import Progress


class Rewind(Struct, frozen=True):
    """A return to a release and its data, that can be made."""

    app: str
    release: int
    live: int
    database: str
    """The database that the app uses now."""
    before: int
    """The release before whose migrations the data was like that."""
    at: str
    """When that was."""
    lost: Lost | None
    """The changes since then; None where they are not known."""


class Rewound(Struct, frozen=True):
    """A return that was made."""

    release: int
    """The number under which the earlier release is live."""
    database: str
    kept: str
    """The database of before."""
    live_before: int


def plan(gatling: Gatling, app: str, wish: int | None) -> Rewind:
    """The effects of a return to a release, or to the one that was live before.

    Raises NotFound where no restore point is left, and where none of the later releases ran
    migrations, and InvalidInput for a release that is not earlier.
    """
    number = deploys.rollback_target(gatling, app, wish)
    live = apps.get(gatling.db, app).live_release or 0
    if number > live:
        raise InvalidInput(
            f"v{number} is later than v{live}, which is live: there is no data to go back to.",
            hint=f"`gatling rollback {app} v{number}` deploys it.",
        )
    record = databases.ready(gatling, app, restoring.main(gatling, app).database)
    later = [one.release for one in points.every(gatling.db, record.name, app)
             if one.release > number]  # fmt: skip
    if not later:
        raise NotFound(
            f"No release after v{number} ran migrations on {record.name}, so there is no restore"
            " point to go back to.",
            hint=f"`gatling rollback {app} v{number}` leaves the data as it is, and"
            f" `gatling db restore {app} --to TIME` restores that of a time.",
        )
    every = gatling.databases.backups(record.name)
    point, _ = restore_points.find(gatling, app, record.name, min(later), every)
    try:
        counters = written.read(gatling, app, databases.cluster(record))
        lost = written.since(written.decode(point.counters), counters)
    except GatlingError:  # the database does not run, or takes no more connections
        lost = None
    return Rewind(app, number, live, record.name, min(later), point.at, lost)


def rewind(gatling: Gatling, found: Rewind, progress: Progress, *, wish: Wish = NO_WISH) -> Rewound:
    """Restore the data into a new database, and deploy the release on it.

    Raises as a restore and a deployment do. The release and the database of before are live then,
    and the restored one stays.
    """
    app, main = found.app, restoring.main(gatling, found.app)
    if main.database != found.database:
        raise InvalidInput(f"{app} uses another database now: {main.database}.", hint="Try again.")
    releases.kept(gatling.db, app, found.release)
    lifecycle.ensure_up(gatling, progress)
    new = _name(gatling, found)
    restoring.restore(gatling, app, found.database, found.before, new, progress, with_url=False)
    cause = f"rollback to v{found.release} with data"
    with attempt(gatling, app, cause=cause, commit=None, progress=progress) as context:
        if context.app.live_release != found.live:
            raise InvalidInput(
                f"Another deployment came first: v{found.live} of {app} is not live any more.",
                hint=f"The restored data is the database {new}.",
            )
        number = _deploy(gatling, context, found, main, new, wish)
    backups.follow(gatling, found.database, new)
    audit.record(gatling.db, gatling.actor, app, "rollback",
                 f"v{found.release} with the data of {found.at}, as {new}")  # fmt: skip
    return Rewound(number, new, found.database, found.live)


def _deploy(
    gatling: Gatling, context: Context, found: Rewind, main: Attachment, new: str, wish: Wish
) -> int:
    """Make the release live with the URL of the restored database; its new number."""
    app = found.app
    old = releases.kept(gatling.db, app, found.release)
    (use,) = records.attachments(gatling.db, database=new, app=app)
    urls: dict[str, str | None] = {
        main.variable: gatling.databases.url(app, new),
        use.variable: gatling.databases.url(app, found.database),
    }
    values = variables.changed(old.config, pools.follow(gatling, app, urls, old.config))
    number, _ = new_release.next_number(gatling, app)
    context.journal.phase(f"Storing v{number}: {old.label} with the restored database")
    with context.journal.step("store_release"):
        store.copy(gatling.home.app(app), old.number, number)
        release = structs.replace(
            old, number=number, origin="config", base=old.number, config=values, bytes=0,
            created_at=now(),
        )  # fmt: skip
        releases.add(gatling.db, release)
    dropped = config.pending(gatling.db, app)
    go_live(gatling, context, release, wish=wish)
    if dropped:
        context.progress.note(
            f"{release.label} has the config of {old.label}: changes that were stored for the next"
            f" deployment are dropped ({', '.join(dropped)})"
        )
    return number


def _name(gatling: Gatling, found: Rewind) -> str:
    """A name for the restored database, which no other has; that of one that was killed again."""
    base, count = f"{found.database}-v{found.release}", 1
    while True:
        name = base if count == 1 else f"{base}-{count}"
        record = records.find(gatling.db, name)
        if record is None or record.begun == records.RESTORING:
            return name
        count += 1
