"""The databases in a server's backup: proved dumps, and the clusters made of them. As root.

A database is dumped while the locks of all apps that use it are held, so that no deployment, and no
migration, is between the dump and the copies of these apps.
"""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from gatling import times
from gatling.errors import HelperFailed, InvalidInput
from gatling.platform.postgres import dumps
from gatling.platform.postgres.answers import Answer
from gatling.platform.postgres.clusters import Cluster
from gatling.platform.server.databases import UnitDatabases
from gatling.platform.server.helper import client
from gatling.platform.server.pools import UnitPools
from gatling.platform.server.tasks import attend
from gatling.state.database import open_database
from gatling.text import counted
from gatling.ui.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gatling.platform.server.home import ServerHome
    from gatling.state.database import Database


class Used(NamedTuple):
    """A database, and the apps that use it, with what they may do."""

    cluster: Cluster
    apps: dict[str, str]

    @property
    def named(self) -> dict[str, Any]:
        """The arguments of the helper's verbs that name it."""
        return {"database": self.cluster.database, "version": self.cluster.version,
                "generation": self.cluster.generation}  # fmt: skip


class Found(NamedTuple):
    """The databases that records know."""

    ready: list[Used]
    others: list[str]
    """The names of those that are not complete, or are being removed."""


def recorded(records: bytes) -> Found:
    """The databases in a copy of the records."""
    ready, others = [], []
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.deserialize(records)
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'attachments'").fetchone():
            return Found([], [])
        used: dict[str, dict[str, str]] = {}
        for database, app, access in db.execute("SELECT database, app, access FROM attachments"):
            used.setdefault(database, {})[app] = access
        every = db.execute("SELECT name, version, generation, state FROM databases ORDER BY name")
        for name, version, generation, state in every:
            if state == "ready":
                ready.append(Used(Cluster(name, version, generation), used.get(name, {})))
            else:
                others.append(name)
    return Found(ready, others)


def dump(used: Used, target: IO[bytes], say: Callable[[str], None]) -> str:
    """Write the proved dump of a database to an open file; a message about it.

    Raises a GatlingError, and then the dump is worth nothing.
    """
    found = _attended("database-dump", used, target, say)
    tables, rows = counted(found["tables"], "table"), counted(found["rows"], "row")
    return f"database {used.cluster.database}: {tables} with {rows}, restored and compared"


class Host:
    """The host that databases are brought to."""

    def __init__(self, home: ServerHome) -> None:
        self._host = UnitDatabases(home)

    def version(self, wanted: int, database: str) -> int:
        """The version of PostgreSQL for a dump: the same, or a later one; installed if necessary.

        Raises InvalidInput where only an older one can be had.
        """
        host, say = self._host, Progress().say
        offered = host.offered() or 0
        if wanted in host.versions():
            return wanted
        if host.can_install(wanted):
            say(f"Installing PostgreSQL {wanted}, which the database {database} needs")
            host.install(wanted, say)
        elif offered > wanted and not host.versions():
            say(f"Installing PostgreSQL {offered} for the database {database}")
            host.install(None, say)
        later = [one for one in host.versions() if one >= wanted]
        if not later:
            raise InvalidInput(
                f"The database {database} needs PostgreSQL {wanted} or later, which this host does"
                " not have, and its package lists do not offer. Nothing was changed.",
                hint="Use a later release of Debian, or add the packages of postgresql.org:"
                " `/usr/share/postgresql-common/pgdg/apt.postgresql.org.sh`",
            )
        return min(later)

    def load(self, used: Used, file: IO[bytes]) -> None:
        """Restore a dump into a cluster that is not there; nobody has access to it yet."""
        _attended("database-load", used, file, Progress().say)

    def install_backups(self, db: Database) -> None:
        """Install what scheduled backups need, if there are any."""
        if db.value("SELECT count(*) FROM backup_plans WHERE at <> ''"):
            if self._host.can_back_up():
                return
            Progress().say("Installing pgBackRest, which scheduled backups need")
            self._host.install_backups(Progress().say)

    def install_pooler(self, db: Database) -> None:
        """Install what the pools of apps need, if there are any."""
        host = UnitPools()
        if db.value("SELECT count(*) FROM pools") and host.version() is None:
            Progress().say("Installing PgBouncer, which the pools of apps need")
            host.install(Progress().say)


class Brought(NamedTuple):
    """The databases that a backup brings."""

    found: list[Used]
    missing: list[str]
    """The names of those that it knows, and does not have."""


def brought(listed: list[str], staging: Path, records: bytes, host: Host) -> Brought:
    """The databases of an unpacked backup, with the versions that they get on this host.

    The backup's records then name these versions. Raises InvalidInput.
    """
    known, found = recorded(records).ready, []
    if unknown := set(listed) - {used.cluster.database for used in known}:
        raise InvalidInput(f"The backup's records know no database {min(unknown)}.")
    for used in known:
        name = used.cluster.database
        if name not in listed:
            continue
        try:
            with (staging / "databases" / name).open("rb") as file:
                head = dumps.read_head(file)
        except FileNotFoundError:
            raise InvalidInput(f"The backup lacks the database {name}.") from None
        version = host.version(head.version, name)
        found.append(used._replace(cluster=replace(used.cluster, version=version)))
    with contextlib.closing(open_database(staging / "state.db")) as db:
        for used in found:
            db.execute("UPDATE databases SET version = ? WHERE name = ?", used.cluster.version,
                       used.cluster.database)  # fmt: skip
        # this host has no backup yet, and the first one is due when the plan says so
        db.execute("DELETE FROM backups")
        db.execute("DELETE FROM former_clusters")  # they stay on the host of before
        db.execute("UPDATE backup_plans SET changed_at = ?", times.now())
        if found:
            host.install_backups(db)
            host.install_pooler(db)
    return Brought(found, [one.cluster.database for one in known
                           if one.cluster.database not in listed])  # fmt: skip


def _attended(verb: str, used: Used, file: IO[bytes], say: Callable[[str], None]) -> dict[str, Any]:
    answer = Answer(say)
    try:
        _, tail, _ = attend(verb, used.named, answer.take, file.fileno())
    except HelperFailed as error:
        if error.reason == client.INVALID:
            raise InvalidInput(error.what, hint=error.hint) from None
        raise
    return answer.result(tail)
