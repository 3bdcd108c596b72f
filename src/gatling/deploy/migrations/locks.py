"""The locks that a migration takes on tables, read from the database while it runs.

A session of the app looks at pg_locks 50 times a second, and reports what has changed. It holds no
transaction, for which CREATE INDEX CONCURRENTLY would wait.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from gatling.errors import GatlingError

if TYPE_CHECKING:
    from gatling.platform.base import Task
    from gatling.platform.interface import Tasks

EFFECTS = {
    "AccessExclusiveLock": "keeps the app from reading and writing",
    "ExclusiveLock": "keeps the app from writing",
    "ShareRowExclusiveLock": "keeps the app from writing",
    "ShareLock": "keeps the app from writing",
}
"""The locks that keep others waiting, the strongest first (PostgreSQL's documentation, "Explicit
Locking")."""
PAUSE_SECONDS = 0.02
READY_SECONDS = 30.0
_MARK = "gatling locks:"
_READY = "ready"


def script(seconds: float) -> str:
    """SQL of the app that reports the locks of other sessions, for so many seconds at most."""
    modes = ", ".join(f"'{mode}'" for mode in EFFECTS)
    return f"""\
DO $$
DECLARE held text[] := '{{}}'; found text[]; one text;
  deadline timestamptz := clock_timestamp() + interval '{seconds:.0f} s';
BEGIN
  RAISE NOTICE '{_MARK} {_READY}';
  WHILE clock_timestamp() < deadline LOOP
    SELECT coalesce(array_agg(DISTINCT l.mode || ' ' || c.oid::regclass), '{{}}') INTO found
      FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
      WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND l.pid <> pg_backend_pid() AND l.granted AND l.mode IN ({modes})
        AND c.relkind IN ('r', 'p', 'm') AND c.relnamespace <> 'pg_catalog'::regnamespace;
    FOREACH one IN ARRAY found LOOP
      IF one <> ALL (held) THEN
        RAISE NOTICE '{_MARK} + % %', extract(epoch FROM clock_timestamp()), one;
      END IF;
    END LOOP;
    FOREACH one IN ARRAY held LOOP
      IF one <> ALL (found) THEN
        RAISE NOTICE '{_MARK} - % %', extract(epoch FROM clock_timestamp()), one;
      END IF;
    END LOOP;
    held := found;
    COMMIT;
    PERFORM pg_sleep({PAUSE_SECONDS});
  END LOOP;
END $$"""  # noqa: S608 (all words are constants)


class Lock(Struct, frozen=True):
    """A kind of lock on a table, for as long as it was held in all."""

    table: str
    mode: str
    seconds: float

    @property
    def text(self) -> str:
        """The lock and its effect, for a person."""
        return f"{self.table}: a lock that {EFFECTS[self.mode]} for {self.seconds:.1f} s"


class Reports:
    """The reports of the session."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, str], float] = {}
        self._total: dict[tuple[str, str], float] = {}
        self.ready = threading.Event()

    def line(self, line: str) -> None:
        """Take a line of psql's."""
        _, is_report, rest = line.partition(f"{_MARK} ")
        if not is_report:
            return
        if rest == _READY:
            self.ready.set()
            return
        sign, at, mode, table = rest.split(" ", 3)
        if sign == "+":
            self._since[mode, table] = float(at)
        elif (began := self._since.pop((mode, table), None)) is not None:
            self._add(mode, table, float(at) - began)

    def _add(self, mode: str, table: str, seconds: float) -> None:
        self._total[mode, table] = self._total.get((mode, table), 0.0) + seconds

    def result(self, ended: float) -> list[Lock]:
        """The strongest lock of each table, those that lasted longest first; `ended` is a time."""
        for (mode, table), began in self._since.items():
            self._add(mode, table, max(0.0, ended - began))
        self._since.clear()
        strongest: dict[str, Lock] = {}
        for mode in reversed(EFFECTS):
            for (other, table), seconds in self._total.items():
                if other == mode:
                    strongest[table] = Lock(table, mode, seconds)
        return sorted(strongest.values(), key=lambda lock: (-lock.seconds, lock.table))


class Watch:
    """A session that reports locks, in a thread, until its database is stopped."""

    def __init__(self, tasks: Tasks, task: Task, seconds: float) -> None:
        self._reports = Reports()
        self._error: GatlingError | None = None
        self._tasks = tasks
        # nothing that the app's user has in a file or a variable may change what it prints
        self._task = structs.replace(task, env=task.env | {"LC_ALL": "C.UTF-8"})
        self._seconds = seconds
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._reports.ready.wait(READY_SECONDS)

    def _run(self) -> None:
        try:
            self._tasks.run(self._task, timeout=self._seconds + 60, on_line=self._reports.line)
        except GatlingError as error:  # its database was stopped, or it could not begin
            self._error = error
        finally:
            self._reports.ready.set()

    def end(self) -> None:
        """Wait for the end, after the database was stopped."""
        self._thread.join(READY_SECONDS)

    def result(self) -> list[Lock]:
        """The locks until now."""
        time.sleep(0)  # let the thread take the lines that have come
        return self._reports.result(time.time())
