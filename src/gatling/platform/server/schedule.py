"""When jobs of a server are due: by timers of systemd."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gatling import files
from gatling.platform.server import backing_up
from gatling.platform.server.helper import client

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatling.platform.server.home import ServerHome


class TimerSchedule:
    """Implements `Schedule`; see there."""

    def __init__(self, home: ServerHome) -> None:
        self._home = home

    def set(self, app: str, jobs: Mapping[str, str]) -> None:
        """See Schedule."""
        known = self._home.app(app).root / "slots" / "schedule.json"
        if not jobs and not known.exists():
            return
        from gatling.project.schedule import calendars

        wanted = [{"name": name, "calendars": calendars(cron)} for name, cron in jobs.items()]
        files.write(known, json.dumps(dict(jobs)))  # before, so that no timer is unknown
        client.ask("schedule", app=app, jobs=wanted)
        if not jobs:
            known.unlink()

    def back_up_at(self, moment: float | None) -> None:
        """See Schedule: a timer looks for the file every few minutes."""
        file = self._home.root / backing_up.DUE
        if moment is None:
            file.unlink(missing_ok=True)
        else:
            files.write(file, str(int(moment)))

    def notify(self, *, wanted: bool) -> None:
        """See Schedule: the timer of recovery, which always runs, looks for it."""

    def deliver_soon(self) -> None:
        """See Schedule: in a unit of its own."""
        client.ask("notify")

    def sample(self, *, wanted: bool) -> None:
        """See Schedule: a unit of its own, which is enabled and started."""
        client.ask("sample", to="on" if wanted else "off")

    def watch(self, app: str) -> None:
        """See Schedule: a unit of its own."""
        client.ask("watch", app=app)
