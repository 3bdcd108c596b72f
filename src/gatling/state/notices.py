"""Notifications that wait to be sent, and the channels that they are sent through.

An event is recorded in the transaction of the fact that it reports, so no fact is without its
notification, whatever is killed. A delivery is removed once the other side has accepted it, so
each notification is sent at least once.
"""

from __future__ import annotations

import json
import os
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

from gatling.times import now

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Mapping, Sequence

    from gatling.state.database import Database

Kind = Literal["webhook", "mail", "chat"]

EVENTS: Mapping[str, str] = MappingProxyType(
    {
        "deployment.succeeded": "A release went live.",
        "deployment.failed": "A deployment failed, or was undone.",
        "deployment.interrupted": "The process of a deployment was killed.",
        "instance.ended": "An instance crashed or was killed, and was started again.",
        "job.failed": "A run of a job failed, or took too long.",
        "certificate.failed": "A certificate could not be obtained or renewed.",
        "certificate.obtained": "A certificate that could not be obtained before was.",
        "certificate.expiring": "A certificate that Gatling does not renew expires soon.",
        "alert.started": "A number of an app is out of its range (`gatling watch`).",
        "alert.ended": "It is within its range again.",
        "backup.failed": "A database was not backed up, or its backup is not proved.",
        "backup.proved": "A backup of a database that failed before was made and proved.",
        "disk.low": "The disk of the host is nearly full.",
        "disk.ok": "The disk of the host has room again.",
    }
)
"""The events that there are, each with its meaning."""
ON_REQUEST = ("deployment.succeeded",)
"""The events that only those channels get which name them."""
ALL = "*"
"""Stands for all events of a channel but those on request, and for all its apps."""
MAX_WAITING = 1000
"""Notifications that wait for one channel; of more, the oldest are dropped and counted."""
MAX_TEXT = 4000
"""Characters of a notification's text."""


class Channel(Struct, frozen=True):
    """A receiver of notifications. `target` and `secret` are secrets."""

    name: str
    kind: Kind
    target: str
    secret: str
    """The key of the signatures of a webhook; empty for other kinds."""
    apps: tuple[str, ...]
    events: tuple[str, ...]
    created_at: str
    failures: int = 0
    """Failed attempts since the last one that was accepted."""
    retry_at: float = 0
    """Unix time of the next attempt after a failure."""
    error: str = ""
    sent_at: str | None = None
    dropped: int = 0
    """Notifications that were given up."""
    quiet: str = ""
    """The hours in which alerts wait, such as `22:00-07:00`, in the host's time; empty: none."""

    def is_quiet(self, at: float) -> bool:
        """Whether alerts wait at a Unix time."""
        return in_hours(self.quiet, at)


class Notice(Struct, frozen=True):
    """A notification."""

    id: int
    mark: str
    """Names it to the receiver, in each attempt alike."""
    at: str
    event: str
    app: str | None
    title: str
    body: str
    data: dict[str, Any]


def in_hours(hours: str, at: float) -> bool:
    """Whether a Unix time is in hours such as `22:00-07:00` of the host's time; empty: none."""
    if not hours:
        return False
    begin, end = hours.split("-")
    clock = time.strftime("%H:%M", time.localtime(at))
    return begin <= clock < end if begin < end else clock >= begin or clock < end


def add(
    db: Database,
    event: str,
    title: str,
    body: str = "",
    *,
    app: str | None = None,
    data: Mapping[str, object] | None = None,
) -> None:
    """Record an event for the channels that want it. Call it within the fact's transaction."""
    wanting = [one.name for one in every(db) if wants(one, event, app)]
    add_for(db, wanting, event, title, body, app=app, data=data)


def add_for(
    db: Database,
    channels: Sequence[str],
    event: str,
    title: str,
    body: str,
    *,
    app: str | None,
    data: Mapping[str, object] | None,
) -> None:
    """Record an event for these channels, as `add` does."""
    if not channels:
        return
    ident = db.insert(
        "INSERT INTO outbox (mark, at, event, app, title, body, data)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        f"msg_{os.urandom(12).hex()}", now(), event, app, title, body[:MAX_TEXT],
        json.dumps(dict(data or {})),
    )  # fmt: skip
    for one in channels:
        db.execute("INSERT INTO deliveries (notice, channel) VALUES (?, ?)", ident, one)
        _bound(db, one)


def wants(channel: Channel, event: str, app: str | None) -> bool:
    """Whether a channel gets an event of an app, or of the host, which has none."""
    named = event in channel.events or (ALL in channel.events and event not in ON_REQUEST)
    return named and (app is None or ALL in channel.apps or app in channel.apps)


def put(db: Database, channel: Channel) -> bool:
    """Add a channel; False when there is one of that name."""
    with db.transaction(durable=True):
        added = db.execute(
            "INSERT OR IGNORE INTO channels"
            " (name, kind, target, secret, apps, events, created_at, quiet)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            channel.name, channel.kind, channel.target, channel.secret,
            json.dumps(channel.apps), json.dumps(channel.events), channel.created_at, channel.quiet,
        )  # fmt: skip
    return bool(added)


def remove(db: Database, name: str) -> bool:
    """Remove a channel and what waits for it; False when there is none."""
    with db.transaction(durable=True):
        removed = db.execute("DELETE FROM channels WHERE name = ?", name)
        _tidy(db)
    return bool(removed)


def every(db: Database) -> list[Channel]:
    """The channels, by name."""
    return [_channel(row) for row in db.rows("SELECT * FROM channels ORDER BY name")]


def get(db: Database, name: str) -> Channel | None:
    """The channel of that name."""
    row = db.row("SELECT * FROM channels WHERE name = ?", name)
    return None if row is None else _channel(row)


def waiting(db: Database, channel: str) -> int:
    """How many notifications wait for a channel."""
    return int(db.value("SELECT count(*) FROM deliveries WHERE channel = ?", channel))


def next_of(
    db: Database, channel: Channel, at: float, quiet: Collection[str] = ()
) -> Notice | None:
    """The notification that a channel gets next at a Unix time: the oldest that waits.

    Alerts wait in the channel's quiet hours. Those of the apps in `quiet` wait as well.
    """
    row = db.row(
        "SELECT outbox.* FROM deliveries JOIN outbox ON outbox.id = deliveries.notice"
        " WHERE channel = ? AND NOT (substr(event, 1, 6) = 'alert.'"
        " AND (? OR ifnull(app, '') IN (SELECT value FROM json_each(?))))"
        " ORDER BY notice LIMIT 1",
        channel.name, channel.is_quiet(at), json.dumps(sorted(quiet)),
    )  # fmt: skip
    return None if row is None else _notice(row)


def waiting_alerts(db: Database, channel: str, app: str, rule: str) -> list[Notice]:
    """The notifications of an alert that wait for a channel, the oldest first."""
    rows = db.rows(
        "SELECT outbox.* FROM deliveries JOIN outbox ON outbox.id = deliveries.notice"
        " WHERE channel = ? AND substr(event, 1, 6) = 'alert.' AND app = ?"
        " AND json_extract(data, '$.rule') = ? ORDER BY notice",
        channel, app, rule,
    )  # fmt: skip
    return [_notice(row) for row in rows]


def withdraw(db: Database, channel: str, idents: Sequence[int]) -> None:
    """Take back notifications that another one stands for. Call it within its transaction."""
    for ident in idents:
        db.execute("DELETE FROM deliveries WHERE channel = ? AND notice = ?", channel, ident)
    _tidy(db)


def accepted(db: Database, channel: str, ident: int) -> None:
    """Record that a channel has accepted a notification."""
    with db.transaction():
        db.execute("DELETE FROM deliveries WHERE channel = ? AND notice = ?", channel, ident)
        db.execute(
            "UPDATE channels SET failures = 0, retry_at = 0, error = '', sent_at = ?"
            " WHERE name = ?",
            now(), channel,
        )  # fmt: skip
        _tidy(db)


def refused(db: Database, channel: str, *, error: str, retry_at: float) -> None:
    """Record that a channel did not accept a notification, and when it is tried again."""
    with db.transaction():
        db.execute(
            "UPDATE channels SET failures = failures + 1, retry_at = ?, error = ? WHERE name = ?",
            retry_at, error, channel,
        )  # fmt: skip


def drop(db: Database, channel: str, ident: int) -> None:
    """Give a notification up."""
    with db.transaction():
        _drop(db, channel, [ident])
        _tidy(db)


def condition(db: Database, name: str) -> str | None:
    """Return what was last seen of a thing that is looked at from time to time."""
    value: str | None = db.value("SELECT value FROM conditions WHERE name = ?", name)
    return value


def set_condition(db: Database, name: str, value: str) -> None:
    """Remember what was seen. Call it within the transaction that records its events."""
    db.execute("INSERT OR REPLACE INTO conditions (name, value) VALUES (?, ?)", name, value)


def conditions(db: Database, beginning: str) -> dict[str, str]:
    """The things whose names begin so, with what was seen of each."""
    rows = db.rows(
        "SELECT name, value FROM conditions WHERE substr(name, 1, ?) = ? ORDER BY name",
        len(beginning), beginning,
    )  # fmt: skip
    return {row["name"]: row["value"] for row in rows}


def forget_condition(db: Database, name: str) -> None:
    """Forget what was seen. Call it within the transaction that records its events."""
    db.execute("DELETE FROM conditions WHERE name = ?", name)


def forget_conditions(db: Database, beginning: str) -> None:
    """Forget all conditions whose names begin so."""
    with db.transaction():
        db.execute("DELETE FROM conditions WHERE substr(name, 1, ?) = ?", len(beginning), beginning)


def _bound(db: Database, channel: str) -> None:
    old = db.rows(
        "SELECT notice FROM deliveries WHERE channel = ? ORDER BY notice DESC LIMIT -1 OFFSET ?",
        channel, MAX_WAITING,
    )  # fmt: skip
    _drop(db, channel, [row["notice"] for row in old])
    if old:
        _tidy(db)


def _drop(db: Database, channel: str, idents: Sequence[int]) -> None:
    for ident in idents:
        db.execute("DELETE FROM deliveries WHERE channel = ? AND notice = ?", channel, ident)
        db.execute("UPDATE channels SET dropped = dropped + 1 WHERE name = ?", channel)


def _tidy(db: Database) -> None:
    db.execute("DELETE FROM outbox WHERE id NOT IN (SELECT notice FROM deliveries)")


def _channel(row: sqlite3.Row) -> Channel:
    values = dict(row)
    for name in ("apps", "events"):
        values[name] = tuple(json.loads(values[name]))
    return Channel(**values)


def _notice(row: sqlite3.Row) -> Notice:
    values = dict(row)
    values["data"] = json.loads(values["data"])
    return Notice(**values)
