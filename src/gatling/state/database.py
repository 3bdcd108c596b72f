"""The one state file: opening it, its schema, its transactions.

SQLite in WAL mode: a reader never waits for a writer, two writers wait for each other, and a
process that is killed leaves the last committed transaction (sqlite.org/wal.html).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from typing import TYPE_CHECKING, Any

from gatling.errors import DiskFull, GatlingError, cleaning, finally_

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUSY_SECONDS = 30.0

_SCHEMA = (
    """
    CREATE TABLE home (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE apps (
        name TEXT PRIMARY KEY,
        created_at TEXT NOT NULL,
        wanted TEXT NOT NULL DEFAULT 'running' CHECK (wanted IN ('running', 'stopped')),
        live_release INTEGER,
        live_slot INTEGER CHECK (live_slot IN (1, 2)),
        settings TEXT NOT NULL DEFAULT '{}'
    ) STRICT;
    CREATE TABLE ports (
        port INTEGER PRIMARY KEY,
        app TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
        slot INTEGER NOT NULL CHECK (slot IN (1, 2)),
        use TEXT NOT NULL CHECK (use IN ('http', 'node')),
        UNIQUE (app, slot, use)
    ) STRICT;
    CREATE TABLE domains (
        domain TEXT PRIMARY KEY,
        app TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
        added_at TEXT NOT NULL
    ) STRICT;
    CREATE TABLE config (
        app TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (app, name)
    ) STRICT;
    CREATE TABLE releases (
        app TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
        number INTEGER NOT NULL,
        origin TEXT NOT NULL CHECK (origin IN ('build', 'config')),
        base INTEGER,
        commit_id TEXT NOT NULL,
        name TEXT NOT NULL,
        version TEXT NOT NULL,
        elixir TEXT NOT NULL,
        otp TEXT NOT NULL,
        config TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        created_at TEXT NOT NULL,
        removed_at TEXT,
        PRIMARY KEY (app, number)
    ) STRICT;
    CREATE TABLE deployments (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        app TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
        cause TEXT NOT NULL,
        actor TEXT NOT NULL,
        mark TEXT NOT NULL,
        commit_id TEXT,
        release INTEGER,
        previous INTEGER,
        slot INTEGER,
        strategy TEXT,
        reasons TEXT NOT NULL DEFAULT '[]',
        outcome TEXT NOT NULL DEFAULT 'running'
            CHECK (outcome IN ('running', 'succeeded', 'failed', 'cancelled', 'interrupted')),
        error TEXT,
        started_at TEXT NOT NULL,
        seconds REAL,
        probe TEXT,
        suspended_ms REAL
    ) STRICT;
    CREATE INDEX deployments_by_app ON deployments (app, id);
    CREATE TABLE steps (
        deployment INTEGER NOT NULL REFERENCES deployments ON DELETE CASCADE,
        position INTEGER NOT NULL,
        name TEXT NOT NULL,
        started_at TEXT NOT NULL,
        seconds REAL,
        outcome TEXT NOT NULL DEFAULT 'running',
        PRIMARY KEY (deployment, position)
    ) STRICT;
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL,
        actor TEXT NOT NULL,
        app TEXT,
        action TEXT NOT NULL,
        detail TEXT NOT NULL
    ) STRICT;
    """,
    "ALTER TABLE releases ADD COLUMN manifest TEXT NOT NULL DEFAULT '{}'",
    """
    CREATE TABLE keys (
        name TEXT PRIMARY KEY,
        type TEXT NOT NULL,
        blob TEXT NOT NULL,
        fingerprint TEXT NOT NULL UNIQUE,
        role TEXT NOT NULL CHECK (role IN ('admin', 'deployer', 'reader')),
        apps TEXT NOT NULL,
        created_at TEXT NOT NULL
    ) STRICT
    """,
    """
    ALTER TABLE apps ADD COLUMN maintenance TEXT;
    CREATE TABLE passwords (
        app TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
        domain TEXT NOT NULL,
        user TEXT NOT NULL,
        hash TEXT NOT NULL,
        added_at TEXT NOT NULL,
        PRIMARY KEY (app, domain, user)
    ) STRICT
    """,
    """
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        app TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
        job TEXT NOT NULL,
        cause TEXT NOT NULL CHECK (cause IN ('schedule', 'by hand')),
        actor TEXT,
        mark TEXT NOT NULL,
        release INTEGER NOT NULL,
        outcome TEXT NOT NULL DEFAULT 'running'
            CHECK (outcome IN ('running', 'succeeded', 'failed', 'timed out', 'skipped',
                               'cancelled', 'interrupted')),
        error TEXT,
        started_at TEXT NOT NULL,
        seconds REAL
    ) STRICT;
    CREATE INDEX runs_by_job ON runs (app, job, id)
    """,
    """
    ALTER TABLE domains ADD COLUMN position INTEGER NOT NULL DEFAULT 0;
    UPDATE domains SET position = (
        SELECT count(*) FROM domains AS earlier WHERE earlier.app = domains.app
        AND (earlier.added_at, earlier.rowid) < (domains.added_at, domains.rowid)
    )
    """,
    "ALTER TABLE domains ADD COLUMN deployment INTEGER",
    """
    CREATE TABLE locks (
        app TEXT PRIMARY KEY REFERENCES apps ON DELETE CASCADE,
        actor TEXT NOT NULL,
        reason TEXT NOT NULL,
        at TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE issuance (
        app TEXT PRIMARY KEY REFERENCES apps ON DELETE CASCADE,
        certificate TEXT NOT NULL,
        renew_at REAL NOT NULL,
        ask_at REAL NOT NULL,
        failures INTEGER NOT NULL,
        error TEXT NOT NULL,
        hint TEXT NOT NULL,
        domains TEXT NOT NULL,
        retry_at REAL NOT NULL,
        blocked_until REAL NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE channels (
        name TEXT PRIMARY KEY,
        kind TEXT NOT NULL CHECK (kind IN ('webhook', 'mail', 'chat')),
        target TEXT NOT NULL,
        secret TEXT NOT NULL,
        apps TEXT NOT NULL,
        events TEXT NOT NULL,
        created_at TEXT NOT NULL,
        failures INTEGER NOT NULL DEFAULT 0,
        retry_at REAL NOT NULL DEFAULT 0,
        error TEXT NOT NULL DEFAULT '',
        sent_at TEXT,
        dropped INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        mark TEXT NOT NULL,
        at TEXT NOT NULL,
        event TEXT NOT NULL,
        app TEXT,
        title TEXT NOT NULL,
        body TEXT NOT NULL,
        data TEXT NOT NULL
    ) STRICT;
    CREATE TABLE deliveries (
        notice INTEGER NOT NULL REFERENCES outbox ON DELETE CASCADE,
        channel TEXT NOT NULL REFERENCES channels ON DELETE CASCADE,
        PRIMARY KEY (channel, notice)
    ) STRICT;
    CREATE TABLE conditions (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE platforms (
        name TEXT PRIMARY KEY,
        cluster TEXT NOT NULL,
        registry TEXT NOT NULL,
        added_at TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE databases (
        name TEXT PRIMARY KEY,
        app TEXT REFERENCES apps ON DELETE SET NULL,
        version INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('creating', 'ready', 'removing')),
        kept TEXT NOT NULL DEFAULT '',
        created_at TEXT NOT NULL
    ) STRICT;
    CREATE TABLE attachments (
        database TEXT NOT NULL REFERENCES databases ON DELETE CASCADE,
        app TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
        variable TEXT NOT NULL,
        access TEXT NOT NULL CHECK (access IN ('write', 'read')),
        PRIMARY KEY (database, app),
        UNIQUE (app, variable)
    ) STRICT
    """,
    """
    CREATE TABLE watches (
        app TEXT PRIMARY KEY REFERENCES apps ON DELETE CASCADE,
        deployment INTEGER NOT NULL,
        release INTEGER NOT NULL,
        previous INTEGER NOT NULL,
        switched REAL NOT NULL,
        until REAL NOT NULL,
        before TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE drains (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        app TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
        url TEXT NOT NULL,
        created_at TEXT NOT NULL,
        position TEXT NOT NULL DEFAULT '',
        failures INTEGER NOT NULL DEFAULT 0,
        error TEXT NOT NULL DEFAULT '',
        sent_at TEXT,
        lines INTEGER NOT NULL DEFAULT 0
    ) STRICT
    """,
    "ALTER TABLE watches ADD COLUMN previous_slot INTEGER CHECK (previous_slot IN (1, 2))",
    "ALTER TABLE issuance ADD COLUMN early_at REAL NOT NULL DEFAULT 0",
    "ALTER TABLE channels ADD COLUMN quiet TEXT NOT NULL DEFAULT ''",
    """
    CREATE TABLE backups (
        database TEXT PRIMARY KEY REFERENCES databases ON DELETE CASCADE,
        tried_at TEXT NOT NULL,
        proved_at TEXT,
        fault TEXT NOT NULL DEFAULT ''
    ) STRICT
    """,
    """
    CREATE TABLE backup_plans (
        database TEXT PRIMARY KEY REFERENCES databases ON DELETE CASCADE,
        at TEXT NOT NULL,
        count INTEGER NOT NULL,
        days INTEGER NOT NULL,
        changed_at TEXT NOT NULL
    ) STRICT
    """,
)
"""One script per schema version; `PRAGMA user_version` is the number of those that have run."""


class Database:
    """An open state file. Not to be shared between threads."""

    def __init__(self, connection: sqlite3.Connection, place: str = "") -> None:
        """`place` names the home to a person who may have meant another one."""
        self._connection = connection
        self.place = place

    @contextlib.contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[None]:
        """All or nothing. With `durable` it is on the disk when the block ends, power cut or not.

        Others are safe against a kill at once, and against a power cut with the next durable one.
        """
        if durable:
            self._run("PRAGMA synchronous = FULL")
        with finally_(lambda: durable and self._run("PRAGMA synchronous = NORMAL")):
            self._run("BEGIN IMMEDIATE")
            try:
                yield
                self._run("COMMIT")
            except BaseException as error:
                with cleaning(error):
                    if self._connection.in_transaction:
                        self._connection.rollback()
                raise

    def execute(self, sql: str, *values: object) -> int:
        """Run one changing statement; how many rows it changed."""
        return self._run(sql, *values).rowcount

    def insert(self, sql: str, *values: object) -> int:
        """Run one INSERT; the id of the new row."""
        rowid = self._run(sql, *values).lastrowid
        return rowid or 0

    def rows(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """All rows of a query."""
        with _told():
            return self._run(sql, *values).fetchall()

    def row(self, sql: str, *values: object) -> sqlite3.Row | None:
        """The first row of a query."""
        with _told():
            row: sqlite3.Row | None = self._run(sql, *values).fetchone()
        return row

    def value(self, sql: str, *values: object) -> Any:
        """The first column of the first row, or None."""
        row = self.row(sql, *values)
        return None if row is None else row[0]

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _run(self, sql: str, *values: object) -> sqlite3.Cursor:
        with _told():
            return self._connection.execute(sql, values)


def open_database(path: Path, place: str = "") -> Database:
    """Open the state file, made with mode 0600 and brought to today's schema when need be.

    Raises GatlingError when it cannot be opened or was written by a newer Gatling.
    """
    if not path.exists():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = NORMAL")
        if connection.execute("PRAGMA user_version").fetchone()[0] != len(_SCHEMA):
            _migrate(connection)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise _explained(error) from error
    except BaseException:
        connection.close()
        raise
    return Database(connection, place)


def empty_database(place: str) -> Database:
    """The state of a home that does not exist: without rows, in memory, and read-only."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    _migrate(connection)
    connection.execute("PRAGMA query_only = ON")
    return Database(connection, place)


def _use_wal(connection: sqlite3.Connection) -> None:
    """For this one statement SQLite waits for nobody who is at it too: two first commands, say."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _migrate(connection: sqlite3.Connection) -> None:
    _use_wal(connection)
    connection.execute("BEGIN IMMEDIATE")
    try:
        # asked again: another command may have migrated while this one waited
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(_SCHEMA):
            raise GatlingError(
                "The home was written by a newer Gatling.", hint="Install that version again."
            )
        for script in _SCHEMA[version:]:
            for statement in script.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(_SCHEMA)}")
        connection.execute("COMMIT")
    except BaseException as error:
        with cleaning(error):
            if connection.in_transaction:
                connection.rollback()
        raise


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Say what is wrong, in words; a conflict of rows comes from two commands at the same time."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise GatlingError(
            f"Another command changed the same thing at the same time ({error}).",
            hint="Try again.",
        ) from error
    except sqlite3.DatabaseError as error:
        raise _explained(error) from error


def _code(error: sqlite3.Error) -> int:
    """The primary result code: sqlite.org/rescode.html. Python's own errors have none."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def _is_busy(error: sqlite3.Error) -> bool:
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _explained(error: sqlite3.DatabaseError) -> GatlingError:
    text = str(error)
    code = _code(error)
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return DiskFull(f"The state could not be written: {text}.")
    if _is_busy(error):
        return GatlingError(
            f"Another command held the state for {BUSY_SECONDS:g} seconds.", hint="Try again."
        )
    damaged = code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    hint = "state.db of the home is damaged: restore it from a backup." if damaged else ""
    return GatlingError(f"The state file cannot be used: {text}.", hint=hint)
