"""Workers and scheduled jobs, which an app runs besides its instances.

Part of the model of the settings (settings.py).
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = r"^(?!web\Z)[a-z][a-z0-9_-]{0,30}\Z"
Name = Annotated[str, Meta(pattern=NAME)]
"""Of a process or a job; web is what the app's instances are called."""
Command = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]*\Z", max_length=1024)]
MAX_NAMES = 30
MAX_INSTANCES = 30


class Process(Struct, frozen=True, forbid_unknown_fields=True):
    """A worker: an additional node of the release that runs as long as the app."""

    command: Command = ""
    """Command of the worker, as for `gatling run`: `eval Shop.Worker.run()`. `start` runs a second
    node."""
    instances: Annotated[int, Meta(ge=0, le=MAX_INSTANCES)] = 1
    """Number of instances of the worker. `gatling scale` changes it without a deployment."""
    stop: Annotated[float, Meta(ge=1, le=3600)] = 30.0
    """Time between SIGTERM and SIGKILL, in seconds."""

    def __post_init__(self) -> None:
        """Reject invalid command lines. msgspec reports a ValueError as a validation error."""
        check("command", self.command)


class Job(Struct, frozen=True, forbid_unknown_fields=True):
    """A command of the release that runs on a schedule."""

    cron: Annotated[str, Meta(max_length=200)] = ""
    """Schedule of the job, as in crontab(5), in the host's time zone: `30 3 * * mon-fri`."""
    command: Command = ""
    """Command of the job, as for `gatling run`."""
    timeout: Annotated[float, Meta(ge=0.01, le=86400)] = 3600.0
    """Time limit for a run, in seconds. A run that exceeds it is stopped and has failed."""
    overlap: Literal["skip", "wait", "allow"] = "skip"
    """Action if the previous run is still in progress: skip this run, wait for the previous run
    to end, or run both."""

    def __post_init__(self) -> None:
        """Reject invalid commands and schedules, as in Process."""
        check("command", self.command)
        if self.cron:
            from gatling.project import schedule

            schedule.check(self.cron)


def words(command: str) -> tuple[str, ...]:
    """The words of a command that has been validated."""
    return tuple(shlex.split(command))


def missing(processes: Mapping[str, Process], jobs: Mapping[str, Job]) -> list[str]:
    """The required keys that a named worker or job lacks."""
    found = [f"processes.{name}.command" for name, p in processes.items() if not p.command]
    for name, job in jobs.items():
        values = {"cron": job.cron, "command": job.command}
        found += [f"schedule.{name}.{key}" for key, value in values.items() if not value]
    return found


def check(key: str, command: str) -> None:
    """Refuse what is no command line: empty, it stands for none, but blanks are not."""
    try:
        found = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"{key}: not a command line: {error}") from None
    if command and not (found and found[0]):
        raise ValueError(f"{key}: not a command line: No command")
