"""The one state file: opening it, and its transactions.

SQLite in WAL mode: a reader never waits for a writer, two writers wait for each other, and a
process that is killed leaves the last committed transaction (sqlite.org/wal.html).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING, Any

from gatling import times
from gatling.cleanup import cleaning, finally_
from gatling.errors import DiskFull, GatlingError
from gatling.state.schema import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUSY_SECONDS = 30.0


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
        if connection.execute("PRAGMA user_version").fetchone()[0] != len(SCHEMA):
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
    for last in times.looks(BUSY_SECONDS, 0.01):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or last:
                raise
        else:
            return


def _migrate(connection: sqlite3.Connection) -> None:
    _use_wal(connection)
    connection.execute("BEGIN IMMEDIATE")
    try:
        # asked again: another command may have migrated while this one waited
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(SCHEMA):
            raise GatlingError(
                "The home was written by a newer Gatling.", hint="Install that version again."
            )
        for script in SCHEMA[version:]:
            for statement in script.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(SCHEMA)}")
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
