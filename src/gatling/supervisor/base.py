"""What Gatling needs of whatever keeps instances running, on either kind of home."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class State(StrEnum):
    """The state of an instance."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    """Crashed, waiting to be started again."""
    FAILED = "failed"
    """Crashed too often; not started again."""


@dataclass(frozen=True, slots=True)
class Status:
    """What an instance does; `pid` is the OS process, None when there is none."""

    state: State
    pid: int | None = None
    uptime: float = 0.0
    """Seconds since the OS process was started."""

    @property
    def up(self) -> bool:
        """Whether there is an OS process that is meant to go on."""
        return self.state in (State.STARTING, State.RUNNING) and self.pid is not None


@dataclass(frozen=True, slots=True)
class Instance:
    """Everything that is needed to start one; kept with mode 0600, since `env` holds secrets."""

    app: str
    slot: int
    release: int
    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: Path
    nice: int = 0
    """As setpriority(2) has it; for one that is not to serve."""


class Supervisor(Protocol):
    """Starts, stops and watches instances; they outlive the command that started them."""

    def ensure_running(self) -> bool:
        """Make sure that instances can be started; True when nothing was kept running before."""

    def start(self, instance: Instance) -> None:
        """Start an instance in its slot, which must be empty; returns at once.

        From then on it is restarted when it crashes, with growing pauses.
        """

    def prepare(self, instance: Instance) -> None:
        """Let the next start of its slot, after a crash say, be this; what runs is left alone."""

    def booted(self, app: str, slot: int) -> int | None:
        """The release that the OS process in a slot was started as; None when there is none."""

    def stop(self, app: str, slot: int, timeout: float) -> None:
        """End the instance in a slot; returns when its OS process is gone.

        SIGTERM first, SIGKILL after `timeout` seconds. An empty slot is fine.
        """

    def status(self, app: str, slot: int) -> Status:
        """What the instance in a slot does."""

    def statuses(self, slots: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Status]:
        """The same for at least these slots; empty when nothing keeps instances running."""

    def add(self, app: str) -> None:
        """Prepare the slots of an app."""

    def remove(self, app: str) -> None:
        """Forget the slots of an app, which must be empty."""
