"""Removing a database: after a last copy of it was kept and checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.cleanup import cleaning
from gatling.errors import InvalidInput
from gatling.operations import config as variables
from gatling.operations.databases import allowed, chosen, cluster
from gatling.paths import exclusively
from gatling.state import audit, config, databases
from gatling.text import counted
from gatling.times import now

if TYPE_CHECKING:
    from gatling.platform.open import Gatling
    from gatling.state.databases import Record
    from gatling.ui.progress import Progress


class Destroyed(Struct, frozen=True):
    """The result of `destroy`."""

    database: str
    kept: str
    """The file with the last copy; empty where the files of the database were gone already."""


def check(gatling: Gatling, app: str, name: str | None) -> str:
    """The name of a database that can be removed; raises InvalidInput where others use it."""
    record = chosen(gatling, app, name)
    others = [use.app for use in databases.attachments(gatling.db, database=record.name)
              if use.app != app]  # fmt: skip
    if record.app != app:
        raise InvalidInput(
            f"{record.name} was created for {record.app or 'an app that was removed'}.",
            hint=f"`gatling db detach {app}` ends its use by {app}.",
        )
    if others:
        raise InvalidInput(
            f"{', '.join(others)} uses the database {record.name}, too.",
            hint=f"`gatling db detach {others[0]} --name {record.name}` comes first.",
        )
    return record.name


def destroy(gatling: Gatling, app: str, name: str | None, progress: Progress) -> Destroyed:
    """Remove a database after a last copy of it was kept and checked.

    Raises InvalidInput, with the database as it was, where others use it, where the disk has no
    room for the copy, and where the copy is not complete.
    """
    with exclusively(gatling.home, "databases"):
        database = check(gatling, app, name)
        record = databases.get(gatling.db, database)
        kept = record.kept
        if record.state != "removing":
            kept = _kept_copy(gatling, record, progress)
            databases.mark(gatling.db, database, "removing", kept)
        progress.phase(f"Removing the database {database}")
        gatling.databases.remove(cluster(record), kept)
        for use in databases.attachments(gatling.db, database=database):
            values = config.of_app(gatling.db, use.app)
            if values.get(use.variable) == gatling.databases.url(use.app, database):
                variables.change(
                    gatling, use.app, {use.variable: None}, progress=progress, restart=False
                )
        databases.forget(gatling.db, database)
        audit.record(gatling.db, gatling.actor, app, "db destroy", database)
    return Destroyed(database, kept)


def _kept_copy(gatling: Gatling, record: Record, progress: Progress) -> str:
    """Close a database to all apps and keep a last copy; the copy's path."""
    if not gatling.databases.exists(cluster(record)):
        return ""
    progress.phase(f"Keeping a last copy of {record.name}")
    try:
        gatling.databases.allow(cluster(record), {})
        stamp = now().replace("-", "").replace(":", "").split(".")[0].rstrip("Z") + "Z"
        found = gatling.databases.keep(cluster(record), stamp)
    except BaseException as error:
        with cleaning(error):
            gatling.databases.allow(cluster(record), allowed(gatling, record.name))
        raise
    tables, rows = counted(found.tables, "table"), counted(found.rows, "row")
    progress.say(f"{tables} with {rows}, and all of them are in the copy")
    return found.path
