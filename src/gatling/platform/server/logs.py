"""The output of instances of a server, which is in the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.platform.logs import EVERYTHING
from gatling.platform.server import journald, slots
from gatling.platform.server.helper import client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.platform.logs import Entry, Line, Wanted
    from gatling.platform.server.home import ServerHome


class JournalLogs:
    """Implements `Logs`; see there for the calls."""

    def __init__(self, home: ServerHome) -> None:
        self._home = home

    def read(
        self, app: str, *, lines: int, since: str | None = None, wanted: Wanted = EVERYTHING
    ) -> list[Line]:
        """See Logs."""
        known = slots.histories(self._home, app)
        return journald.read(app, known, lines=lines, since=since, wanted=wanted)

    def follow(
        self, app: str, *, lines: int = 0, since: str | None = None, wanted: Wanted = EVERYTHING
    ) -> Iterator[Line]:
        """See Logs."""
        return journald.follow(
            app,
            lambda: slots.histories(self._home, app),
            lines=lines,
            since=since,
            wanted=wanted,
        )

    def entries(self, app: str, after: str, since: str) -> Iterator[Entry]:
        """See Logs."""
        return journald.entries(app, lambda: slots.histories(self._home, app), after, since)

    def forward(self, app: str, ident: int, *, wanted: bool) -> None:
        """See Logs: in a unit of its own."""
        client.ask("drain", app=app, drain=ident, to="on" if wanted else "off")
