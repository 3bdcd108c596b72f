"""Migrations tried on a fork of the app's database first, with real data.

The fork is created for the rehearsal, and removed after it. A recovery removes one that was left.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from msgspec import structs

from gatling.cleanup import finally_
from gatling.deploy.migrations import locks
from gatling.errors import InvalidInput
from gatling.paths import exclusively
from gatling.state import databases, forks
from gatling.ui.output import duration, size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gatling.deploy.context import Context
    from gatling.platform.open import Gatling
    from gatling.platform.postgres.clusters import Cluster
    from gatling.platform.postgres.sites import Forked
    from gatling.state.databases import Attachment, Record
    from gatling.state.releases import Release

STEP = "rehearse_migrations"
HOW = "rehearsal"
"""The kind of a fork that a deployment has created."""
HINT = (
    "The rehearsal ran on a fork, so the database is as it was. Fix the problem and push again."
    " The setting migrate.rehearse turns rehearsals on and off."
)
SHOWN_SECONDS = 0.1
"""A lock that lasted less is not reported."""


def rehearse(
    gatling: Gatling, context: Context, target: Release, migrate: Callable[[Release], None]
) -> None:
    """Have `migrate` run the migrations of a release with the URLs of forks, and report the result.

    Raises what it raises, and what a fork raises; the databases of the app are as they were.
    """
    used = list(_used(gatling, context.app.name, target))
    if not used:
        context.progress.note(
            "the migrations were not rehearsed: the app uses no database that Gatling created"
        )
        return
    with context.journal.step(STEP), contextlib.ExitStack() as stack:
        forked, watches = {}, []
        for use, record in used:
            fork, made = stack.enter_context(_fork(gatling, context, record))
            context.progress.note(
                f"rehearsing the migrations on a fork of {record.name} ({size(made.bytes)},"
                f" made in {made.copy_seconds:.1f} s)"
            )
            forked[target.config[use.variable]] = gatling.databases.url(
                context.app.name, fork.database
            )
            watches.append((record, stack.enter_context(_watched(gatling, context, fork))))
        began = time.monotonic()
        # other variables may have the same URL, such as that of a pool
        values = {name: forked.get(value, value) for name, value in target.config.items()}
        migrate(structs.replace(target, config=values))
        took = time.monotonic() - began
        held = [(record, lock) for record, watch in watches for lock in watch.result()]
    context.progress.note(f"the rehearsed migrations took {duration(took)}")
    long = [(record, lock) for record, lock in held if lock.seconds >= SHOWN_SECONDS]
    for record, lock in long:
        where = f"{record.name}, " if len(used) > 1 else ""
        context.progress.note(f"{where}{lock.text}")
    if not long:
        context.progress.note(
            f"no lock kept the app from reading or writing for {SHOWN_SECONDS:g} s"
        )


def clean(gatling: Gatling, app: str) -> None:
    """Remove the forks that killed rehearsals of an app have left."""
    for fork in forks.every(gatling.db):
        record = databases.find(gatling.db, fork.database)
        if fork.how == HOW and record is not None and record.app == app:
            _remove(gatling, record)


def _used(gatling: Gatling, app: str, target: Release) -> Iterator[tuple[Attachment, Record]]:
    """The databases that the migrations of a release can change."""
    for use in databases.attachments(gatling.db, app=app):
        record = databases.get(gatling.db, use.database)
        url = gatling.databases.url(app, use.database)
        if use.access == "write" and record.state == "ready" and (
            target.config.get(use.variable) == url
        ):  # fmt: skip
            yield use, record


@contextlib.contextmanager
def _fork(gatling: Gatling, context: Context, source: Record) -> Iterator[tuple[Cluster, Forked]]:
    """A fork of a database, for as long as the block lasts."""
    # few apps have a database
    from gatling.platform.postgres.clusters import Cluster
    from gatling.platform.postgres.sites import ForkWish

    app, name = context.app.name, f"{source.name}-rehearsal"
    gatling.databases.check(name)
    with exclusively(gatling.home, "databases"):
        left, known = databases.find(gatling.db, name), forks.find(gatling.db, name)
        if left is not None and (known is None or known.how != HOW):
            raise InvalidInput(
                f"The rehearsal needs a fork {name}, and there is a database of that name.",
                hint="The setting migrate.rehearse turns rehearsals off.",
            )
    if left is not None:
        _remove(gatling, left)
    cluster = Cluster(name, source.version)
    variable = f"{name.replace('-', '_').upper()}_DATABASE_URL"
    with exclusively(gatling.home, "databases"):
        databases.add(gatling.db, name, app, source.version, variable, kept=databases.FORKING)
        forks.record(gatling.db, forks.Fork(name, source.name, HOW, scrubbed=False))
    with finally_(lambda: _remove(gatling, databases.get(gatling.db, name))):
        allowed = {use.app: use.access
                   for use in databases.attachments(gatling.db, database=source.name)}  # fmt: skip
        made = gatling.databases.fork(
            cluster, Cluster(source.name, source.version, source.generation), allowed,
            ForkWish(app), context.progress.record,
        )  # fmt: skip
        gatling.databases.create(cluster, {app: "write"})
        databases.mark(gatling.db, name, "ready")
        yield cluster, made


@contextlib.contextmanager
def _watched(gatling: Gatling, context: Context, fork: Cluster) -> Iterator[locks.Watch]:
    """The locks in a fork; the block of the fork ends after this one, and stops the session."""
    seconds = context.settings.migrate.timeout + 60
    task = gatling.databases.shell(
        context.app.name, fork, ["--no-psqlrc", "--quiet", "--command", locks.script(seconds)]
    )
    task = structs.replace(task, mark=context.deployment.mark)
    yield locks.Watch(gatling.tasks, task, seconds)


def _remove(gatling: Gatling, record: Record) -> None:
    from gatling.platform.postgres.clusters import Cluster  # few apps have a database

    gatling.databases.remove(Cluster(record.name, record.version, record.generation), "")
    databases.forget(gatling.db, record.name)
