"""Channels for notifications: the typed results behind `gatling notify`."""

from __future__ import annotations

import queue
import re
import socket
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling import files, names, times
from gatling.errors import GatlingError, InvalidInput, NotFound
from gatling.operations import sending
from gatling.operations.sending import NotDelivered
from gatling.runtime import notifying
from gatling.state import audit, notices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatling.platform.open import Gatling
    from gatling.state.notices import Channel, Notice

ATTEMPT_SECONDS = 30.0
"""How long one attempt may take before it counts as failed."""
DELIVERY_SECONDS = 90.0
"""How long one delivery of what waits may take; the next one goes on."""
PAUSES = (30, 60, 300, 900, 3600, 3 * 3600)
"""Seconds before the next attempt, after each failure in a row."""
GIVE_UP_SECONDS = 3 * 86400
"""The age at which a notification that was not accepted is given up."""
_HOURS = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]", re.ASCII)
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,30}", re.ASCII)


class ChannelEntry(Struct, frozen=True):
    """A channel. Its target is shown without what may be secret."""

    name: str
    kind: notices.Kind
    target: str
    apps: list[str]
    """`*` stands for all."""
    events: list[str]
    created_at: str
    waiting: int
    """Notifications that were not accepted yet."""
    failures: int
    """Failed attempts in a row."""
    error: str
    retry_at: str | None
    sent_at: str | None
    dropped: int
    """Notifications that were given up."""
    quiet: str
    """The hours in which alerts wait, in the host's time."""


class ChannelAdded(Struct, frozen=True):
    """A channel that was added, with the key of its signatures; nothing shows it again."""

    channel: ChannelEntry
    secret: str


class Delivered(Struct, frozen=True):
    """One delivery of what waits."""

    accepted: int
    failed: int


def every(gatling: Gatling) -> list[ChannelEntry]:
    """The channels, by name."""
    return [_entry(gatling, one) for one in notices.every(gatling.db)]


def add(
    gatling: Gatling,
    name: str,
    target: str,
    apps: Sequence[str],
    events: Sequence[str],
    quiet: str = "",
) -> ChannelAdded:
    """Add a channel. Raises InvalidInput for a target, an app, an event or hours that cannot be."""
    channel = checked(name, target, apps, events, quiet)
    if not notices.put(gatling.db, channel):
        raise InvalidInput(
            f"There is a channel {name} already.",
            hint=f"Choose another name, or remove it first: gatling notify remove {name}",
        )
    gatling.schedule.notify(wanted=True)
    audit.record(gatling.db, gatling.actor, None, "notify add", f"{name}: {channel.kind}")
    return ChannelAdded(channel=_entry(gatling, channel), secret=channel.secret)


def checked(
    name: str, target: str, apps: Sequence[str], events: Sequence[str], quiet: str = ""
) -> Channel:
    """The channel that these make; raises InvalidInput."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{name!r} cannot be the name of a channel.",
            hint="Use 1 to 31 lower-case letters, digits, hyphens and underscores.",
        )
    kind = sending.kind_of(target)
    for event in events:
        if event != notices.ALL and event not in notices.EVENTS:
            raise InvalidInput(
                f"There is no event {event!r}.", hint=f"Events: {', '.join(notices.EVENTS)}"
            )
    for app in apps:
        if app != notices.ALL:
            names.app_name(app)
    if quiet and not _hours(quiet):
        raise InvalidInput(
            f"{quiet!r} are no hours.", hint="Give two different times of day, such as 22:00-07:00."
        )
    return notices.Channel(
        name=name,
        kind=kind,
        target=target,
        secret=sending.new_secret() if kind == "webhook" else "",
        apps=tuple(apps) or (notices.ALL,),
        events=tuple(events) or (notices.ALL,),
        created_at=times.now(),
        quiet=quiet,
    )


def _hours(text: str) -> bool:
    """Whether this names two different times of day."""
    return _HOURS.fullmatch(text) is not None and text[:5] != text[6:]


def remove(gatling: Gatling, name: str) -> None:
    """Remove a channel and what waits for it; raises NotFound."""
    if notices.get(gatling.db, name) is None or not notices.remove(gatling.db, name):
        raise _unknown(gatling, name)
    gatling.schedule.notify(wanted=bool(notices.every(gatling.db)))
    audit.record(gatling.db, gatling.actor, None, "notify remove", name)


def test(gatling: Gatling, name: str) -> None:
    """Send a notification through a channel now; raises NotFound, or NotDelivered."""
    channel = notices.get(gatling.db, name)
    if channel is None:
        raise _unknown(gatling, name)
    notice = notices.Notice(
        id=0, mark=f"msg_test_{time.time_ns():x}", at=times.now(), event="test", app=None,
        title="This is a test", body=f"{gatling.actor} sent it by `gatling notify test {name}`.",
        data={},
    )  # fmt: skip
    fault = _Attempts().wait_for(channel, notice)
    if fault is not None:
        raise fault


def deliver(gatling: Gatling) -> Delivered:
    """Look at what happens unrecorded, then send what is due, to all channels at the same time.

    A channel gets its notifications in their order. Nothing is done while another delivery runs.
    """
    if not notices.every(gatling.db):
        return Delivered(0, 0)
    with files.open_lock(gatling.home.root / "notify.lock") as lock:
        if not files.try_lock(lock):
            return Delivered(0, 0)
        notifying.look(gatling)
        return _deliver(gatling)


def _deliver(gatling: Gatling) -> Delivered:
    attempts, deadline = _Attempts(), time.monotonic() + DELIVERY_SECONDS
    accepted = failed = 0
    for name in notifying.due(gatling, time.time()):
        _start(gatling, attempts, name)
    while attempts.running:
        ended = attempts.next_end()
        accepted, failed = accepted + (ended.fault is None), failed + (ended.fault is not None)
        _record(gatling, ended)
        if ended.fault is None and time.monotonic() < deadline:
            _start(gatling, attempts, ended.channel)
    return Delivered(accepted, failed)


def _start(gatling: Gatling, attempts: _Attempts, name: str) -> None:
    channel = notices.get(gatling.db, name)
    now = time.time()
    quiet = notifying.quiet_apps(gatling, now)
    if channel and (notice := notices.next_of(gatling.db, channel, now, quiet)):
        attempts.start(channel, notice)


def _record(gatling: Gatling, ended: _End) -> None:
    channel, fault = notices.get(gatling.db, ended.channel), ended.fault
    if channel is None:  # it has been removed
        return
    if fault is None:
        notices.accepted(gatling.db, channel.name, ended.notice.id)
        return
    if time.time() - _age(ended.notice) > GIVE_UP_SECONDS:
        notices.drop(gatling.db, channel.name, ended.notice.id)
    pause = PAUSES[min(channel.failures, len(PAUSES) - 1)]
    asked = min(fault.retry_after, 86400)
    said = " ".join(filter(None, (fault.what, fault.hint)))
    notices.refused(gatling.db, channel.name, error=said, retry_at=time.time() + max(pause, asked))


def _age(notice: Notice) -> float:
    return datetime.fromisoformat(notice.at).timestamp()


class _End(Struct, frozen=True):
    """An attempt that has ended."""

    channel: str
    notice: Notice
    fault: NotDelivered | None


class _Attempts:
    """Attempts that run at the same time, each in a thread that is not waited for too long."""

    def __init__(self) -> None:
        self.running: dict[str, tuple[Notice, float]] = {}
        """By channel: the notification, and the moment at which the attempt counts as failed."""
        self._ends: queue.SimpleQueue[_End] = queue.SimpleQueue()

    def start(self, channel: Channel, notice: Notice) -> None:
        """Begin to send a notification."""
        self.running[channel.name] = notice, time.monotonic() + ATTEMPT_SECONDS
        threading.Thread(target=self._attempt, args=(channel, notice), daemon=True).start()

    def next_end(self) -> _End:
        """Wait for the next attempt to end."""
        while True:
            name, (notice, limit) = min(self.running.items(), key=lambda one: one[1][1])
            try:
                ended = self._ends.get(timeout=max(0, limit - time.monotonic()))
            except queue.Empty:
                fault = NotDelivered(f"No answer within {ATTEMPT_SECONDS:g} seconds.")
                ended = _End(name, notice, fault)
            known = self.running.get(ended.channel)
            if known and known[0].id == ended.notice.id:  # else one that was given up has ended
                del self.running[ended.channel]
                return ended

    def wait_for(self, channel: Channel, notice: Notice) -> NotDelivered | None:
        """Send one notification; why it was not accepted."""
        self.start(channel, notice)
        return self.next_end().fault

    def _attempt(self, channel: Channel, notice: Notice) -> None:
        fault: NotDelivered | None = None
        try:
            sending.send(channel, notice, socket.gethostname())
        except NotDelivered as error:
            fault = error
        except Exception as error:  # noqa: BLE001 (a library's own, of which nobody knows all)
            fault = NotDelivered(f"It could not be sent: {type(error).__name__}.")
        self._ends.put(_End(channel.name, notice, fault))


def _entry(gatling: Gatling, channel: Channel) -> ChannelEntry:
    later = channel.retry_at if channel.failures else 0
    return ChannelEntry(
        name=channel.name,
        kind=channel.kind,
        target=sending.shown(channel.target),
        apps=list(channel.apps),
        events=list(channel.events),
        created_at=channel.created_at,
        waiting=notices.waiting(gatling.db, channel.name),
        failures=channel.failures,
        error=channel.error,
        retry_at=times.stamp(datetime.fromtimestamp(later, UTC)) if later else None,
        sent_at=channel.sent_at,
        dropped=channel.dropped,
        quiet=channel.quiet,
    )


def _unknown(gatling: Gatling, name: str) -> GatlingError:
    known = [one.name for one in notices.every(gatling.db)]
    hint = f"Channels: {', '.join(known)}" if known else "There are none yet: gatling notify add"
    return NotFound(f"There is no channel {name!r}.", hint=hint)
