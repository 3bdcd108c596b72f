"""The databases of a home, and the apps that use them.

A database has one cluster, which its version and generation name. Another cluster takes its place
when these are changed in one statement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from gatling.errors import NotFound
from gatling.times import now

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatling.state.database import Database

MAIN = "DATABASE_URL"
"""The variable with the URL of an app's main database."""
State = Literal["creating", "ready", "removing"]
Begun = Literal["", "restoring", "forking"]
RESTORING: Begun = "restoring"
FORKING: Begun = "forking"
Access = Literal["write", "read"]


class Record(Struct, frozen=True):
    """A database."""

    name: str
    app: str | None
    """The app that it was created for; None when that was removed."""
    version: int
    generation: int
    state: State
    kept: str
    """The last copy, once the database is being removed; RESTORING or FORKING while it is being
    restored or forked."""
    created_at: str

    @property
    def begun(self) -> Begun:
        """The restore or the fork that has begun, and is not complete; empty: neither."""
        if self.state == "creating" and self.kept in (RESTORING, FORKING):
            return RESTORING if self.kept == RESTORING else FORKING
        return ""


class Attachment(Struct, frozen=True):
    """An app's use of a database."""

    database: str
    app: str
    variable: str
    """The config variable that has the URL."""
    access: Access


def every(db: Database) -> list[Record]:
    """All databases, by name."""
    return [
        Record(*row)
        for row in db.rows(
            "SELECT name, app, version, generation, state, kept, created_at"
            " FROM databases ORDER BY name"
        )
    ]


def find(db: Database, name: str) -> Record | None:
    """A database, or None."""
    return next((record for record in every(db) if record.name == name), None)


def get(db: Database, name: str) -> Record:
    """A database; raises NotFound."""
    found = find(db, name)
    if found is None:
        raise NotFound(
            f"There is no database {name}.", hint="`gatling db list` shows the databases."
        )
    return found


def add(db: Database, name: str, app: str, version: int, variable: str, *, kept: str = "") -> None:
    """Record a database that is being created, and its use by the app that it is for."""
    with db.transaction(durable=True):
        db.execute(
            "INSERT INTO databases (name, app, version, generation, state, kept, created_at)"
            " VALUES (?, ?, ?, 1, 'creating', ?, ?)",
            name, app, version, kept, now(),
        )  # fmt: skip
        db.execute(
            "INSERT INTO attachments (database, app, variable, access) VALUES (?, ?, ?, 'write')",
            name, app, variable,
        )  # fmt: skip


def mark(db: Database, name: str, state: State, kept: str = "") -> None:
    """Record the state of a database."""
    with db.transaction(durable=True):
        db.execute("UPDATE databases SET state = ?, kept = ? WHERE name = ?", state, kept, name)


def give(db: Database, name: str, app: str) -> None:
    """Make a database without an app that of an app."""
    with db.transaction(durable=True):
        db.execute("UPDATE databases SET app = ? WHERE name = ?", app, name)


def forget(db: Database, name: str) -> None:
    """Remove the record of a database, and all use of it."""
    with db.transaction(durable=True):
        db.execute("DELETE FROM databases WHERE name = ?", name)


def attachments(db: Database, *, database: str = "", app: str = "") -> list[Attachment]:
    """The use of a database, or of all databases by an app."""
    rows = db.rows(
        "SELECT database, app, variable, access FROM attachments"
        " WHERE ? IN ('', database) AND ? IN ('', app) ORDER BY database, app",
        database, app,
    )  # fmt: skip
    return [Attachment(*row) for row in rows]


def attach(db: Database, use: Attachment) -> None:
    """Record that an app uses a database, in place of an earlier record of the two."""
    with db.transaction(durable=True):
        db.execute(
            "INSERT INTO attachments (database, app, variable, access) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (database, app)"
            " DO UPDATE SET variable = excluded.variable, access = excluded.access",
            use.database, use.app, use.variable, use.access,
        )  # fmt: skip


def exchange(db: Database, use: Attachment, other: Attachment) -> None:
    """Record that an app has the URLs of two databases in each other's variable."""
    with db.transaction(durable=True):
        write_exchange(db, use, other)


def write_exchange(db: Database, use: Attachment, other: Attachment) -> None:
    """The same, in a transaction of the caller's."""
    for one, variable in ((use, ""), (other, use.variable), (use, other.variable)):
        db.execute(
            "UPDATE attachments SET variable = ? WHERE database = ? AND app = ?",
            variable, one.database, one.app,
        )  # fmt: skip


def exchange_for(
    db: Database, app: str, variable: str, url: Callable[[str], str], value: str | None
) -> tuple[Attachment, Attachment] | None:
    """The uses to exchange so that a variable is that of the database whose URL it has.

    None where it is, and where the variable has no URL of a database that the app uses.
    """
    uses = attachments(db, app=app)
    main = next((use for use in uses if use.variable == variable), None)
    for use in uses:
        if main is not None and url(use.database) == value:
            return None if use == main else (use, main)
    return None


def detach(db: Database, database: str, app: str) -> None:
    """Record that an app no longer uses a database."""
    with db.transaction(durable=True):
        db.execute("DELETE FROM attachments WHERE database = ? AND app = ?", database, app)
