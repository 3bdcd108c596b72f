"""What an app runs besides its instances: further processes, and jobs by a schedule.

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
    """A further process of the release, which runs as long as the app does."""

    command: Command = ""
    """What it runs, as for `gatling run`: `eval Shop.Worker.run()`; `start` is a second node."""
    instances: Annotated[int, Meta(ge=0, le=MAX_INSTANCES)] = 1
    """How many of it run; `gatling scale` changes it at once."""
    stop: Annotated[float, Meta(ge=1, le=3600)] = 30.0
    """Seconds that one gets to end what it is at, between SIGTERM and SIGKILL."""

    def __post_init__(self) -> None:
        """Refuse what is no command line; msgspec takes a ValueError for an error of validation."""
        check("command", self.command)


class Job(Struct, frozen=True, forbid_unknown_fields=True):
    """A command of the release that is run to its end at certain times."""

    cron: Annotated[str, Meta(max_length=200)] = ""
    """When, as crontab(5) has it, in the host's time zone: `30 3 * * mon-fri`, `*/5 * * * *`."""
    command: Command = ""
    """What is run, as for `gatling run`."""
    timeout: Annotated[float, Meta(ge=0.01, le=86400)] = 3600.0
    """Seconds that a run may take; then it is ended, and has failed."""
    overlap: Literal["skip", "wait", "allow"] = "skip"
    """When it is due while it still runs: skip this time, wait for the end, or run beside it."""

    def __post_init__(self) -> None:
        """Refuse what is no schedule, as in Process."""
        check("command", self.command)
        if self.cron:
            from gatling.project import schedule

            schedule.check(self.cron)


def words(command: str) -> tuple[str, ...]:
    """The words of a command that has been validated."""
    return tuple(shlex.split(command))


def missing(processes: Mapping[str, Process], jobs: Mapping[str, Job]) -> list[str]:
    """The keys without which something that is named cannot be."""
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
