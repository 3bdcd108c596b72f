"""The numbers of apps over the last 30 days, in a file of their own whose size is bounded.

Each sample is added to three series at once, from fine to coarse: steps of ten seconds for two
hours, of a minute for two days, of ten minutes for 30 days. So nothing has to be condensed later,
whatever is killed. Nothing but `gatling watch` depends on the file: one that is
damaged is replaced by an empty one.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec import Struct, field

from gatling import decoding
from gatling.errors import DiskFull, GatlingError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

FILE = "samples.db"
"""Its name in the home."""
BUSY_SECONDS = 10.0
RANGES = 12
"""Ranges of latencies: those of proxy.figures.BOUNDS, and what is longer."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS samples (
    app TEXT NOT NULL, step INTEGER NOT NULL, at INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (app, step, at)
) WITHOUT ROWID
"""


class Series(NamedTuple):
    """Samples of one length, and for how long they are kept; both in seconds."""

    step: int
    kept: int


SERIES = (Series(10, 2 * 3600), Series(60, 2 * 86400), Series(600, 30 * 86400))


class Measured(NamedTuple):
    """The numbers of a node."""

    memory: int
    processes: int
    run_queue: int
    schedulers: int
    messages: int


class Sample(Struct, array_like=True):
    """The numbers of an app within a stretch of time."""

    seconds: float = 0
    """How much of it was measured."""
    up: float = 0
    """For how many of these seconds the app ran."""
    classes: list[int] = field(default_factory=lambda: [0] * 5)
    """Responses with a status of 1xx, 2xx …"""
    ranges: list[int] = field(default_factory=lambda: [0] * RANGES)
    """How many requests took up to each bound and longer than the range before."""
    cpu: float = 0
    """Seconds of processor time."""
    memory: int = 0
    """Bytes that the instance had in memory, at most."""
    node_memory: int = 0
    """Bytes that the emulator had allocated, at most."""
    processes: int = 0
    """Processes of the node, at most."""
    run_queue: int = -1
    """Processes that were ready to run and did not, at most; -1: not measured."""
    messages: int = -1
    """Messages in the longest queue of a process, at most; -1: not looked at."""

    @property
    def requests(self) -> int:
        """The requests that ended."""
        return sum(self.classes)

    @property
    def failed(self) -> int:
        """Responses of status 500 and above."""
        return self.classes[4]

    def add(self, other: Sample) -> None:
        """Cover the time of another sample as well."""
        self.seconds += other.seconds
        self.up += other.up
        self.cpu += other.cpu
        self.classes = [a + b for a, b in zip(self.classes, other.classes, strict=True)]
        self.ranges = [a + b for a, b in zip(self.ranges, other.ranges, strict=True)]
        for name in ("memory", "node_memory", "processes", "run_queue", "messages"):
            setattr(self, name, max(getattr(self, name), getattr(other, name)))


def series_for(seconds: float) -> Series:
    """The finest series that reaches back so far."""
    return next((one for one in SERIES if one.kept >= seconds), SERIES[-1])


class Samples:
    """The open file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def add(self, at: float, found: dict[str, Sample]) -> None:
        """Add a sample of each app, which ends at a Unix time. Raises DiskFull."""
        with _explained(), self._connection:
            for app, sample in found.items():
                for step, _ in SERIES:
                    self._merge(app, step, int(at) // step * step, sample)

    def of_app(self, app: str, step: int, since: float, until: float) -> list[tuple[int, Sample]]:
        """The samples of a series that begin between two Unix times, with their beginnings."""
        with _explained():
            rows = self._connection.execute(
                "SELECT at, data FROM samples WHERE app = ? AND step = ? AND at >= ? AND at < ?"
                " ORDER BY at",
                (app, step, since, until),
            ).fetchall()
        return [(at, sample) for at, data in rows if (sample := _decoded(data)) is not None]

    def newest(self) -> int | None:
        """The Unix time at which the newest sample begins."""
        newest: list[int] = []
        with _explained():
            for app in self._apps():
                newest += (
                    self._connection.execute(
                        "SELECT at FROM samples WHERE app = ? AND step = ?"
                        " ORDER BY at DESC LIMIT 1",
                        (app, SERIES[0].step),
                    ).fetchone()
                    or ()
                )
        return max(newest, default=None)

    def tidy(self, now: float, known: Collection[str]) -> None:
        """Remove what is older than its series keeps, and apps that are no longer there."""
        with _explained(), self._connection:
            for app in self._apps():
                if app not in known:
                    self._connection.execute("DELETE FROM samples WHERE app = ?", (app,))
                for step, kept in SERIES:
                    self._connection.execute(
                        "DELETE FROM samples WHERE app = ? AND step = ? AND at < ?",
                        (app, step, now - kept),
                    )

    def forget(self, app: str) -> None:
        """Remove the samples of an app."""
        with _explained(), self._connection:
            self._connection.execute("DELETE FROM samples WHERE app = ?", (app,))

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _apps(self) -> list[str]:
        """The apps that have samples; of each, one row is looked at."""
        rows = self._connection.execute(
            "WITH RECURSIVE found (app) AS (SELECT min(app) FROM samples UNION ALL"
            " SELECT (SELECT min(app) FROM samples WHERE app > found.app) FROM found"
            " WHERE found.app IS NOT NULL) SELECT app FROM found WHERE app IS NOT NULL"
        )
        return [row[0] for row in rows]

    def _merge(self, app: str, step: int, at: int, sample: Sample) -> None:
        key = (app, step, at)
        row = self._connection.execute(
            "SELECT data FROM samples WHERE app = ? AND step = ? AND at = ?", key
        ).fetchone()
        merged = (_decoded(row[0]) if row else None) or Sample()
        merged.add(sample)
        self._connection.execute(
            "INSERT OR REPLACE INTO samples (app, step, at, data) VALUES (?, ?, ?, ?)",
            (*key, msgspec.msgpack.encode(merged)),
        )


@contextlib.contextmanager
def opened(file: Path, *, replace: bool = False) -> Iterator[Samples]:
    """Open the file, made with mode 0600. With `replace` one that is damaged is removed first.

    Only then the whole file is looked at, which takes a third of a second with 50 apps. Raises
    GatlingError for one that cannot be used.
    """
    try:
        samples = _open(file, check=replace)
    except sqlite3.DatabaseError as error:
        if not replace or not _is_damaged(error):
            raise _told(error) from error
        for name in (file.name, f"{file.name}-wal", f"{file.name}-shm"):
            file.with_name(name).unlink(missing_ok=True)
        samples = _open(file, check=True)
    with contextlib.closing(samples):
        yield samples


def forget(home: Path, app: str) -> None:
    """Remove the samples of an app that is removed. It never fails."""
    file = home / FILE
    if file.exists():
        with contextlib.suppress(GatlingError, OSError), opened(file) as samples:
            samples.forget(app)


def _open(file: Path, *, check: bool) -> Samples:
    os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(file, timeout=BUSY_SECONDS)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        if check:
            connection.execute("PRAGMA quick_check(1)")
        connection.execute(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    return Samples(connection)


def _decoded(data: bytes) -> Sample | None:
    """A sample; None for one that another version of Gatling wrote in another form."""
    try:
        sample = decoding.from_msgpack(data, Sample)
    except msgspec.DecodeError:
        return None
    sound = len(sample.classes) == 5 and len(sample.ranges) == RANGES
    return sample if sound else None


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _told(error) from error


def _is_damaged(error: sqlite3.DatabaseError) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _told(error: sqlite3.DatabaseError) -> GatlingError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return DiskFull(f"The samples could not be written: {error}.")
    hint = ""
    if _is_damaged(error):
        hint = f"Remove {FILE} of the home: only the history of numbers is lost."
    return GatlingError(f"The file of samples cannot be used: {error}.", hint=hint)
