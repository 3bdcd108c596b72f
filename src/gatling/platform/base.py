"""What Gatling needs of whatever keeps instances running, on either kind of home."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, Protocol

from gatling.platform.limits import Limits
from gatling.platform.logs import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import NoReturn

    from gatling.paths import AppPaths
    from gatling.platform.conversation import Conversation
    from gatling.platform.logs import Line, Wanted
    from gatling.platform.restarts import End
    from gatling.process import Finished


Slot = int | str
"""1 and 2 are the app's own; `worker.1` is the first of its process worker."""


class State(StrEnum):
    """The state of an instance."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    """Crashed, waiting to be started again."""
    FAILED = "failed"
    """The same, after it has crashed soon after each of many starts."""


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
    slot: Slot
    release: int
    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: Path
    nice: int = 0
    """As setpriority(2) has it; for one that is not to serve."""
    limits: Limits = field(default_factory=Limits)
    """What it may take of the machine (server only)."""
    check: bool = False
    """Whether it never serves, and only shows that a release boots: its log lines say so."""
    ports: tuple[int, ...] = ()
    """Those of its app that it may listen on (server only)."""
    stop_seconds: float = 30.0
    """Between SIGTERM and SIGKILL when the machine goes down."""


class Supervisor(Protocol):
    """Starts, stops and watches instances; they outlive the command that started them."""

    def ensure_running(self) -> bool:
        """Make sure that instances can be started; True when nothing was kept running before."""

    def advice(self) -> str | None:
        """What a user has to do so that instances go on after the user logs out; None: nothing."""

    def start(self, instance: Instance) -> None:
        """Start an instance in its slot, which must be empty; returns at once.

        From then on it is restarted when it crashes, with growing pauses.
        """

    def prepare(self, instance: Instance) -> None:
        """Let the next start of its slot, after a crash say, be this; what runs is left alone."""

    def booted(self, app: str, slot: Slot) -> int | None:
        """The release that the OS process in a slot was started as; None when there is none."""

    def stop(self, app: str, slot: Slot, timeout: float) -> None:
        """End the instance in a slot; returns when its OS process is gone.

        SIGTERM first, SIGKILL after `timeout` seconds. An empty slot is fine.
        """

    def status(self, app: str, slot: Slot) -> Status:
        """What the instance in a slot does."""

    def statuses(self, slots: Sequence[tuple[str, Slot]]) -> dict[tuple[str, Slot], Status]:
        """The same for at least these slots; empty when nothing keeps instances running."""

    def ends(self, app: str, slot: Slot) -> list[End]:
        """The latest ends of the instance in a slot that nobody asked for, the oldest first."""

    def add(self, app: str) -> None:
        """Prepare the slots of an app."""

    def discard(self, app: str, slot: str) -> None:
        """Forget the slot of a process, which must be empty."""

    def remove(self, app: str) -> None:
        """Forget the slots of an app, which must be empty."""

    def guard(self, ports: Mapping[str, Sequence[int]]) -> None:
        """Let nobody reach these ports, by app, but the proxy, Gatling and the app itself.

        These apps are all that there are. On the embedded home everything is one user's.
        """

    def schedule(self, app: str, jobs: Mapping[str, str]) -> None:
        """Have `gatling job APP.NAME` run at the times of each job, by name; of no others.

        Times are crontab(5)'s, validated, and in the host's time zone.
        """

    def log(
        self, app: str, *, lines: int, since: str | None = None, wanted: Wanted = EVERYTHING
    ) -> list[Line]:
        """The last `lines` lines that the app's instances printed, not older than `since`."""

    def follow_log(
        self, app: str, *, lines: int = 0, since: str | None = None, wanted: Wanted = EVERYTHING
    ) -> Iterator[Line]:
        """What `log` gives, and then lines as they are printed, for ever; none is missing."""


Kind = Literal["build", "release", "run"]
"""What a program is: a step of a build; code of a release that a deployment runs; a one-off command
or a job, which is part of no deployment."""


@dataclass(frozen=True, slots=True)
class Task:
    """A program of an app that is run once and ends."""

    paths: AppPaths
    kind: Kind
    argv: Sequence[str]
    env: dict[str, str]
    cwd: Path
    mark: str = ""
    """Names the deployment that it is part of, or the run (`run_mark`)."""
    nice: int = 0
    limits: Limits = field(default_factory=Limits)


def run_mark(paths: AppPaths, token: str) -> str:
    """The mark of a program of kind `run`; without a token what all of the app's begin with."""
    return f"{paths.home}:run:{paths.name}:{token}"


class Tasks(Protocol):
    """Runs programs of apps, with an app's rights and no more, on either kind of home."""

    def run(
        self, task: Task, *, timeout: float, on_line: Callable[[str], None] | None = None
    ) -> Finished:
        """Run one to its end, output line by line to `on_line`; raises CommandFailed.

        Whatever it has started is ended as well.
        """

    def talk(self, task: Task) -> Conversation:
        """Start one that is talked to, and ends with what it has started when that is over."""

    def become(self, task: Task) -> NoReturn:
        """Replace this process by the program, or do as if: terminal, signals, exit status."""

    def end(self, app: str, mark: str) -> None:
        """End what a deployment has started and left, also after it was killed itself.

        Programs of kind `run` go on.
        """

    def end_runs(self, paths: AppPaths, token: str = "") -> None:
        """End what a run that nobody attends to any more has left; without a token all runs.

        Those, consoles among them, get SIGTERM and some seconds. On a server nothing is left to be
        done: root's helper ends what nobody attends to.
        """

    def discard(self, paths: AppPaths, directory: Path) -> None:
        """Remove a directory that builds have made, as far as that is possible."""

    def staged(self, paths: AppPaths, previous: Path | None) -> Path:
        """The release that a build has made, where it can be read and nobody changes it.

        `previous` is a tree that may share files with it. Raises BuildFailed.
        """

    def export(
        self, paths: AppPaths, commit: str, directory: str, on_line: Callable[[str], None]
    ) -> None:
        """Bring the build directory to a commit; as project.source.export, which see."""
