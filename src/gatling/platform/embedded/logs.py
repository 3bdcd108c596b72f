"""The output of instances of an embedded home, which a log sink in supervisord keeps in files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.platform import logs
from gatling.platform.logs import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.platform.embedded.home import EmbeddedHome
    from gatling.platform.logs import Line, Wanted


class FileLogs:
    """Implements `Logs`; see there for the calls."""

    def __init__(self, home: EmbeddedHome) -> None:
        self._home = home

    def read(
        self, app: str, *, lines: int, since: str | None = None, wanted: Wanted = EVERYTHING
    ) -> list[Line]:
        """See Logs."""
        log = self._home.app(app).instance_log
        return logs.read(log, lines=lines, since=since, wanted=wanted)

    def follow(
        self, app: str, *, lines: int = 0, since: str | None = None, wanted: Wanted = EVERYTHING
    ) -> Iterator[Line]:
        """See Logs."""
        log = self._home.app(app).instance_log
        return logs.follow(log, lines=lines, since=since, wanted=wanted)
