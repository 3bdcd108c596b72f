"""The output of instances of an embedded home, which a log sink in supervisord keeps in files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling import files
from gatling.paths import exclusively
from gatling.platform import logs
from gatling.platform.embedded import configuration
from gatling.platform.embedded.supervisord import STARTUP_SECONDS
from gatling.platform.logs import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.platform.embedded.home import EmbeddedHome
    from gatling.platform.embedded.supervisord import Supervisord
    from gatling.platform.logs import Entry, Line, Wanted


class FileLogs:
    """Implements `Logs`; see there for the calls."""

    def __init__(self, home: EmbeddedHome, programs: Supervisord) -> None:
        self._home = home
        self._programs = programs

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

    def entries(self, app: str, after: str, since: str) -> Iterator[Entry]:
        """See Logs."""
        return logs.entries(self._home.app(app).instance_log, after, since)

    def forward(self, app: str, ident: int, *, wanted: bool) -> None:
        """See Logs: as a program of supervisord."""
        name = f"drain-{app}-{ident}"
        conf = self._home.supervisor / "apps" / f"_{name}.conf"
        with exclusively(self._home, "drains"):
            if wanted:
                files.write(conf, configuration.drain(self._home, name, f"{app}.{ident}"))
            else:
                self._programs.stop(name, STARTUP_SECONDS)
                conf.unlink(missing_ok=True)
            if self._programs.running():
                self._programs.update()
