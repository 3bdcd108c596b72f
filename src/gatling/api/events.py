"""Deployments as they happen, from one look at the records to the next."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from gatling import times
from gatling.api.contract import DeploymentEvent
from gatling.errors import NotFound
from gatling.operations.deployments import described
from gatling.state import deployments

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatling.state.database import Database
    from gatling.state.deployments import Deployment

LOOKED_AT = 300
"""The newest deployments of all apps, in which a stream that begins again looks for its place."""
SLACK = timedelta(seconds=2)


class Event(NamedTuple):
    """A deployment began, went on to another step, or ended."""

    id: str
    """The time of the look; the place at which a stream goes on."""
    kind: str
    app: str
    data: bytes

    def encoded(self) -> bytes:
        """The event as a stream has it. JSON has no line ends of its own."""
        head = f"id: {self.id}\nevent: {self.kind}\ndata: ".encode()
        return head + self.data + b"\n\n"


class Watcher:
    """Looks for what is new. Each event is reported at least once."""

    def __init__(self, shown: Callable[[str], bool], last: str = "") -> None:
        """`last` is the id of the last event that a client has seen."""
        self._shown = shown
        self._since = _moment(last)
        self._begun = False
        self._after = 0
        self._open: dict[int, tuple[object, ...]] = {}
        """The deployments that run, with what was last reported of each."""

    def look(self, db: Database) -> list[Event]:
        """The events since the last look."""
        at = times.stamp_of(time.time())
        found = self._fresh(db)
        self._begun = True
        events = []
        for one in found:
            self._after = max(self._after, one.id)
            seen = _seen(one)
            if self._open.get(one.id) == seen:
                continue
            kind = _kind(one, known=one.id in self._open)
            if one.outcome == "running":
                self._open[one.id] = seen
            else:
                self._open.pop(one.id, None)
            if self._shown(one.app):
                data = msgspec.json.encode(DeploymentEvent(one.app, described(one)))
                events.append(Event(at, kind, one.app, data))
        return events

    def _fresh(self, db: Database) -> list[Deployment]:
        if not self._begun:
            every = deployments.newest(db, LOOKED_AT)
            self._after = every[-1].id if every else 0
            return [one for one in every if one.outcome == "running" or self._missed(one)]
        found = []
        for ident in list(self._open):
            try:
                found.append(deployments.get(db, ident))
            except NotFound:  # its app was removed
                del self._open[ident]
        return [*found, *deployments.newest(db, LOOKED_AT, after=self._after)]

    def _missed(self, one: Deployment) -> bool:
        if self._since is None:
            return False
        ended = datetime.fromisoformat(one.started_at) + timedelta(seconds=one.seconds or 0)
        return ended >= self._since - SLACK


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text) if 0 < len(text) <= 40 else None
    except ValueError:
        return None
    try:
        return found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC) if found else None
    except OverflowError:
        return None


def _seen(one: Deployment) -> tuple[object, ...]:
    return (one.outcome, one.release, one.strategy, [(s.name, s.outcome) for s in one.steps])


def _kind(one: Deployment, *, known: bool) -> str:
    if one.outcome != "running":
        return "deployment.ended"
    return "deployment.updated" if known else "deployment.started"
