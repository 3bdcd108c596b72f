"""Log drains: the typed results behind `gatling drains`, and the program that drains."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.errors import GatlingError, NotFound
from gatling.state import apps, audit, drains

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.operations.cluster_logs import Logs as ClusterLogs
    from gatling.operations.log_sinks import Sink
    from gatling.platform.interface import Logs
    from gatling.platform.logs import Entry
    from gatling.platform.open import Gatling
    from gatling.state.drains import Drain

MAX_LINES, MAX_CHARACTERS = 500, 256 * 1024
"""Lines and characters of one delivery."""
GATHER_SECONDS = 0.3
"""How long a line waits for others that are sent with it."""
PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds before the next attempt, after each failure in a row."""


class DrainEntry(Struct, frozen=True):
    """A drain. Its address is shown without what may be secret."""

    id: int
    app: str
    url: str
    created_at: str
    lines: int
    """Lines that were accepted."""
    sent_at: str | None
    failures: int
    error: str


def of_app(gatling: Gatling, app: str) -> list[DrainEntry]:
    """The drains of an app, the oldest first."""
    return [_entry(one) for one in drains.of_app(gatling.db, app)]


def add(gatling: Gatling, app: str, url: str) -> DrainEntry:
    """Send the log of an app to an address from now on; raises InvalidInput."""
    from gatling.operations import log_sinks

    log_sinks.check(url)
    added = drains.add(gatling.db, app, url)
    try:
        gatling.logs.forward(app, added.id, wanted=True)
    except BaseException:
        drains.remove(gatling.db, added.id)
        raise
    audit.record(gatling.db, gatling.actor, app, "drains add", log_sinks.shown(url))
    return _entry(added)


def remove(gatling: Gatling, app: str, ident: int) -> DrainEntry:
    """Send the log of an app to a drain no longer; raises NotFound."""
    found = drains.get(gatling.db, ident)
    if found is None or found.app != app:
        raise NotFound(f"{app} has no drain {ident}.", hint=f"gatling drains list {app}")
    from gatling.operations import log_sinks

    gatling.logs.forward(app, ident, wanted=False)
    drains.remove(gatling.db, ident)
    audit.record(gatling.db, gatling.actor, app, "drains remove", log_sinks.shown(found.url))
    return _entry(found)


def follow(gatling: Gatling) -> None:
    """Have all drains run that are recorded: after a restore, say."""
    for one in drains.every(gatling.db):
        gatling.logs.forward(one.app, one.id, wanted=True)


def end(gatling: Gatling, app: str) -> None:
    """End the drains of an app that is removed."""
    for one in drains.of_app(gatling.db, app):
        gatling.logs.forward(app, one.id, wanted=False)


def drain(gatling: Gatling, ident: int) -> None:
    """Send the log of an app to a drain, until the drain is removed.

    No line is left out as long as the log keeps it. After a failure lines are sent again, so a
    receiver may get some twice.
    """
    from gatling.operations import log_sinks

    found = drains.get(gatling.db, ident)
    if found is None:
        raise NotFound(f"There is no drain {ident}.")
    apps.get(gatling.db, found.app)
    reader = _Reader(gatling, found)
    with contextlib.closing(log_sinks.opened(found.url, found.app)) as sink:
        for batch in reader.batches():
            if not _send(gatling, sink, ident, batch):
                return


def _send(gatling: Gatling, sink: Sink, ident: int, batch: list[Entry]) -> bool:
    """Send a batch until it is accepted; False when the drain was removed."""
    from gatling.operations.log_sinks import NotAccepted

    failures = 0
    while drains.get(gatling.db, ident) is not None:
        try:
            sink.send([entry.line for entry in batch])
        except NotAccepted as error:
            drains.refused(gatling.db, ident, error.what)
            time.sleep(PAUSES[min(failures, len(PAUSES) - 1)])
            failures += 1
        else:
            drains.accepted(gatling.db, ident, batch[-1].position, len(batch))
            return True
    return False


def _logs(gatling: Gatling, name: str) -> Logs | ClusterLogs:
    app = apps.get(gatling.db, name)
    if app.platform is None:
        return gatling.logs
    from gatling.operations import cluster_logs  # which loads the client of Kubernetes

    return cluster_logs.Logs(gatling, app)


class _Reader:
    """Reads a log in a thread, no further ahead than one delivery."""

    def __init__(self, gatling: Gatling, of: Drain) -> None:
        self._entries: queue.Queue[Entry | Exception] = queue.Queue(MAX_LINES)
        # until a line is accepted, the drain has no position: its program starts some moments after
        # it was added, and may be started again, as the machine may
        self._source = _logs(gatling, of.app).entries(of.app, of.position, of.created_at)
        threading.Thread(target=self._read, daemon=True).start()

    def batches(self) -> Iterator[list[Entry]]:
        """Yield entries as they come, those of one moment together; raises the reader's error."""
        while True:
            batch = [self._next(None)]
            size, until = len(batch[0].line.text), time.monotonic() + GATHER_SECONDS
            while len(batch) < MAX_LINES and size < MAX_CHARACTERS:
                try:
                    batch.append(self._next(max(0.0, until - time.monotonic())))
                except queue.Empty:
                    break
                size += len(batch[-1].line.text)
            yield batch

    def _next(self, seconds: float | None) -> Entry:
        found = self._entries.get(timeout=seconds)
        if isinstance(found, Exception):
            raise found
        return found

    def _read(self) -> None:
        try:
            for entry in self._source:
                self._entries.put(entry)
            self._entries.put(GatlingError("The log has ended."))
        except Exception as error:  # noqa: BLE001 (it is raised where it is seen)
            self._entries.put(error)


def _entry(one: Drain) -> DrainEntry:
    from gatling.operations import log_sinks

    return DrainEntry(
        id=one.id,
        app=one.app,
        url=log_sinks.shown(one.url),
        created_at=one.created_at,
        lines=one.lines,
        sent_at=one.sent_at,
        failures=one.failures,
        error=one.error,
    )
