"""The values that callers and platforms exchange; see platform/interface.py for the calls."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from msgspec import Struct, field

from gatling.platform.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from gatling.paths import AppPaths


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


class Status(Struct, frozen=True):
    """The status of an instance."""

    state: State
    process: str | None = None
    """Names what runs there: something else after each start. None when nothing does."""
    uptime: float = 0.0
    """Seconds since it was started."""
    pid: int | None = None
    """Its OS process, where that is one of this machine."""

    @property
    def up(self) -> bool:
        """Whether something runs there that is meant to go on."""
        return self.state in (State.STARTING, State.RUNNING) and self.process is not None


def local_status(state: State, pid: int | None, uptime: float = 0.0) -> Status:
    """The status of an instance that is a process of this machine."""
    return Status(state, str(pid) if pid else None, uptime, pid)


AUTO, OFF = "auto", "off"
"""For `Router.listen_on`: HTTPS at the usual address, and no HTTPS."""


class Address(Struct, frozen=True):
    """The address on which something accepts TCP connections."""

    host: str
    port: int
    options: tuple[tuple[int, int, bytes], ...] = ()
    """Options of setsockopt(2) without which no connection comes about."""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Prepared(Struct, frozen=True):
    """The release and the command line that the next start of a slot will run."""

    release: int
    argv: tuple[str, ...]


class Instance(Struct, frozen=True):
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
    """The resource limits of the instance, on a platform that can enforce them."""
    check: bool = False
    """Whether it never serves, and only shows that a release boots: its log lines say so."""
    ports: tuple[int, ...] = ()
    """Those of its app, the only ones that it may listen on where the platform can limit that."""
    stop_seconds: float = 30.0
    """Between SIGTERM and SIGKILL when the platform itself goes down."""


UTF_8 = {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
"""The BEAM takes the encoding of file names and of its output from these."""


class Surroundings(Struct, frozen=True):
    """The surroundings of an app's programs on a platform, apart from the needs of its release."""

    paths: AppPaths
    runtime: Mapping[str, str]
    """The variables of what runs of a release: HOME, USER, PATH, perhaps TZ."""
    build: Mapping[str, str]
    """The variables of a build."""
    cookie_in_file: bool
    """Whether other users can read command lines, so that a node's cookie must not be in one."""
    private_tmp: bool
    """Whether each instance and each one-off command has a temporary directory of its own."""
    node_host: str
    """The host part of an instance's node name, an IPv4 address where its distribution listens."""
    pinned: bool = False
    """Whether root has chosen the app's toolchain, by a link of its name."""
    node_flags: str = ""
    """Flags of the nodes besides those of `spec`."""
    without_flags: frozenset[int] = frozenset()
    """The slots whose instance runs without them, because an older Gatling has started it."""
    toolchain: str = ""
    """The directory of the programs of an installed toolchain, if the build uses one."""


Kind = Literal["build", "release", "run"]
"""The kinds of program: a step of a build; code of a release that a deployment runs; a one-off
command or a job, which is part of no deployment."""


class Task(Struct, frozen=True):
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
