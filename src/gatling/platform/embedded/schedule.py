"""When jobs of an embedded home are due: by the clock, a program that runs while it is needed."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from gatling import files, process
from gatling.paths import exclusively
from gatling.platform.embedded import clock, configuration
from gatling.platform.embedded.configuration import CLOCK, SAMPLER
from gatling.platform.embedded.supervisord import STARTUP_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatling.platform.embedded.home import EmbeddedHome
    from gatling.platform.embedded.supervisord import Supervisord


class ClockSchedule:
    """Implements `Schedule`; see there."""

    def __init__(self, home: EmbeddedHome, programs: Supervisord) -> None:
        self._home = home
        self._programs = programs

    def set(self, app: str, jobs: Mapping[str, str]) -> None:
        """See Schedule."""
        with exclusively(self._home, "clock"):
            clock.write(self._home, app, jobs)
            self._follow()

    def back_up_at(self, moment: float | None) -> None:
        """See Schedule."""
        with exclusively(self._home, "clock"):
            clock.back_up_at(self._home, moment)
            self._follow()

    def notify(self, *, wanted: bool) -> None:
        """See Schedule."""
        with exclusively(self._home, "clock"):
            clock.set_notify(self._home, wanted=wanted)
            self._follow()

    def deliver_soon(self) -> None:
        """See Schedule."""
        clock.deliver_soon(self._home.root)

    def sample(self, *, wanted: bool) -> None:
        """See Schedule: as a program of supervisord."""
        conf = self._home.supervisor / "apps" / f"_{SAMPLER}.conf"
        with exclusively(self._home, "sampler"):
            if wanted:
                files.write(conf, configuration.sampler(self._home))
            else:
                self._programs.stop(SAMPLER, STARTUP_SECONDS)
                conf.unlink(missing_ok=True)
            if self._programs.running():
                self._programs.update()

    def follow(self) -> None:
        """Let the clock run if it is needed, for certificates too, and not run otherwise."""
        with exclusively(self._home, "clock"):
            self._follow()

    def watch(self, app: str) -> None:
        """See Schedule: a session of its own, which ends with the machine."""
        environment = {name: value for name, value in os.environ.items()
                       if not name.startswith("GIT_") and name != "GATLING_ACTOR"}  # fmt: skip
        with open(os.devnull, "r+b") as nothing:  # noqa: PTH123 (git waits for who holds its files)
            process.start(
                [sys.executable, "-I", "-m", "gatling", "recover", app, "--watch"],
                env=environment | {"GATLING_HOME": str(self._home.root)}, cwd=self._home.root,
                stdin=nothing.fileno(), output=nothing.fileno(),
            )  # fmt: skip

    def _follow(self) -> None:
        conf = self._home.supervisor / "apps" / "_clock.conf"
        text = configuration.clock(self._home) if clock.is_needed(self._home) else None
        if text == (conf.read_text() if conf.exists() else None):
            if text is not None and self._programs.running():
                self._ensure_clock()
            return
        # what runs is not changed or removed by supervisord; what it has started goes on
        self._programs.stop(CLOCK, STARTUP_SECONDS)
        if text is None:
            conf.unlink()
        else:
            files.write(conf, text)
        if self._programs.running():
            self._programs.update()

    def _ensure_clock(self) -> None:
        """Start a clock that was ended, or that supervisord was not made to read."""
        if not self._programs.knows(CLOCK):
            self._programs.update()
        elif self._programs.has_ended(CLOCK):
            self._programs.start(CLOCK)
