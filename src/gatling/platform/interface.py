"""The interface of a platform, which keeps the apps of a home running and reachable.

Each protocol is one need. Nothing here says that instances are processes of this machine, that
systemd or supervisord starts them, or that the proxy reads files: callers know apps, slots,
releases and addresses. tests/contract.py says what every platform has to fulfil.

A platform may assume that its caller keeps two rules: app names are validated, and a change to an
app is made while its lock is held (platform/lock.py).

Only annotations need this module, so that no command waits until its classes are created.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gatling.platform.logs import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import NoReturn

    from gatling.paths import AppPaths
    from gatling.platform.base import Address, Instance, Prepared, Slot, Status, Surroundings, Task
    from gatling.platform.conversation import Conversation
    from gatling.platform.logs import Entry, Line, Wanted
    from gatling.platform.restarts import End
    from gatling.platform.services import Certificates, Databases, Pools, Router, Toolchains
    from gatling.platform.usage import Usage
    from gatling.process import Finished
    from gatling.state.apps import App


class Apps(Protocol):
    """The base of an app on the platform: its user, directories and network, but no OS process."""

    def make(self, app: App) -> None:
        """Make an app's place, empty, whatever an earlier app of its name has left."""

    def prepare(self, app: App) -> None:
        """Bring the place of an app that was made up to date, after an update of Gatling say."""

    def remove(self, app: App) -> None:
        """Remove what runs an app, whose slots must be empty, and all that only it could write."""

    def clear(self, name: str) -> None:
        """Remove the files that are left of an app once no record or proxy knows it."""

    def sync(self) -> None:
        """Bring what was made to the disk, where that must outlive a power cut."""

    def may_have(self, port: int) -> bool:
        """Whether an app of this home may be given a port, which no other app of it has."""

    def guard(self, ports: Mapping[str, Sequence[int]]) -> None:
        """Let nobody reach these ports, by app, but the proxy, Gatling and the app itself.

        These apps are all that there are. A platform of a single user does nothing.
        """

    def surroundings(self, name: str) -> Surroundings:
        """Return the surroundings that the platform gives to the programs of an app."""

    def push_address(self, name: str) -> str:
        """Return the address of an app's repository, in a form that git accepts."""


class Reachable(Protocol):
    """The part of `Instances` that a health check needs."""

    def status(self, app: str, slot: Slot) -> Status:
        """Return the status of the instance in a slot."""

    def address(self, app: App, slot: int) -> Address:
        """Return the address on which the instance in a slot accepts HTTP requests."""

    def is_intruded(self, app: App, slot: int) -> bool:
        """Whether somebody else listens, too, where the instance takes HTTP requests."""

    def listening(self, app: App, slot: int) -> list[str]:
        """List the addresses on which the instance listens, without its distribution.

        For people: `127.0.0.1:4000`, `[::1]:4000`, the path of a socket. Empty when unknown.
        """


class Instances(Reachable, Protocol):
    """Starts, stops and watches instances; they outlive the command that started them."""

    def ensure_running(self) -> bool:
        """Make sure that instances can be started; True when nothing was kept running before."""

    def advice(self) -> str | None:
        """Return what the user must do to keep instances running after logout; None: nothing."""

    def start(self, instance: Instance) -> None:
        """Start an instance in its slot, which must be empty; returns at once.

        From then on it is restarted when it crashes, with growing pauses.
        """

    def prepare(self, instance: Instance) -> None:
        """Let the next start of its slot, after a crash say, be this; what runs is left alone."""

    def prepared(self, app: str, slot: Slot) -> Prepared | None:
        """Return the last start or preparation of a slot; it may still be known after a stop."""

    def started_as(self, app: str, slot: Slot) -> int | None:
        """The release that what runs in a slot was started as; None when nothing runs there."""

    def stop(self, app: str, slot: Slot, timeout: float, *, unused: bool = False) -> None:
        """End the instance in a slot; returns when it is gone, with all that it has started.

        SIGTERM first, SIGKILL after `timeout` seconds. An empty slot is fine. An `unused` one has
        never served. It may be booting, and a node that boots ignores SIGTERM, so it gets SIGTERM
        repeatedly until it listens, and once more then.
        """

    def process_slots(self, app: str) -> list[str]:
        """The slots of further processes that there are, such as `worker.1`, beside 1 and 2."""

    def discard(self, app: str, slot: str) -> None:
        """Forget the slot of a process, which must be empty."""

    def statuses(self, slots: Sequence[tuple[str, Slot]]) -> dict[tuple[str, Slot], Status]:
        """Return the status of at least these slots; empty when nothing keeps instances running."""

    def usages(self, statuses: Mapping[tuple[str, Slot], Status]) -> dict[tuple[str, Slot], Usage]:
        """Return the resources that running instances use; one that cannot be measured is left out.

        `statuses` are those of the instances.
        """

    def ends(self, app: str, slot: Slot) -> list[End]:
        """The latest ends of the instance in a slot that nobody asked for, the oldest first."""

    def node_address(self, app: App, slot: int) -> Address:
        """Return the address on which the Erlang distribution of the instance in a slot listens."""

    def ephemeral_ports(self) -> range:
        """The ports of which an instance is given one where it listens without naming a port."""

    def check_free(self, app: App, slot: int) -> None:
        """Raise PortTaken when somebody else listens where an instance in the slot must."""

    def connections(self, app: App, slot: int) -> Callable[[], int]:
        """Counts, each time, the clients of what runs in a slot now; 0 when that is gone."""

    def command_line(self, app: str, slot: Slot) -> list[str]:
        """The arguments of the OS process that runs in a slot; nothing when they are not known."""

    def begin_down(self) -> bool:
        """Start no job any more; whether anything is kept running.

        Raises InvalidInput where the system itself keeps apps running.
        """

    def begin_to_stop(self, slots: Sequence[tuple[str, Slot]]) -> None:
        """Have all these instances end as `stop` does, without waiting.

        They may go on until `stop` is called for each, or, like an instance in a slot that is used
        no more, until the next one is started there.
        """

    def shut_down(self) -> None:
        """End the proxy, and what keeps it and the instances running, which have been stopped."""


class Schedule(Protocol):
    """Runs jobs at their times, and sends notifications."""

    def back_up_at(self, moment: float | None) -> None:
        """Have `gatling db scheduled` run from this Unix time on, until another is given."""

    def set(self, app: str, jobs: Mapping[str, str]) -> None:
        """Have `gatling job APP.NAME` run at the times of each job, by name; of no others.

        Times are crontab(5)'s, validated, and in the host's time zone.
        """

    def notify(self, *, wanted: bool) -> None:
        """Have `gatling notify deliver` run now and then, while notifications are wanted."""

    def deliver_soon(self) -> None:
        """Run it now, in the background. Raises HelperFailed or OSError."""

    def sample(self, *, wanted: bool) -> None:
        """Have `gatling watch run` run while it is wanted; restarted when it ends."""

    def watch(self, app: str) -> None:
        """Have `gatling recover APP --watch` run in the background; returns at once."""


class Logs(Protocol):
    """The output of instances."""

    def read(
        self, app: str, *, lines: int, since: str | None = None, wanted: Wanted = EVERYTHING
    ) -> list[Line]:
        """The last `lines` lines that the app's instances printed, not older than `since`."""

    def follow(
        self, app: str, *, lines: int = 0, since: str | None = None, wanted: Wanted = EVERYTHING
    ) -> Iterator[Line]:
        """Yield the lines that `read` yields, then new lines as they are printed; never ends."""

    def entries(self, app: str, after: str, since: str) -> Iterator[Entry]:
        """Yield the lines after a position, each with its own, then new ones; never ends.

        No line is missing, as long as the log keeps it. Without a position (empty), the lines from
        a time on, which is as `times.stamp` writes it.
        """

    def forward(self, app: str, ident: int, *, wanted: bool) -> None:
        """Have `gatling drains run APP.IDENT` run while it is wanted; restarted when it ends."""


class Tasks(Protocol):
    """Runs programs of apps, with an app's rights and no more."""

    def run(
        self, task: Task, *, timeout: float, on_line: Callable[[str], None] | None = None
    ) -> Finished:
        """Run one to its end, output line by line to `on_line`; raises CommandFailed.

        Whatever it has started is ended as well.
        """

    def talk(self, task: Task) -> Conversation:
        """Start one that is talked to, and ends with what it has started when that is over."""

    def expect(self, task: Task, commit: str, branches: Sequence[str]) -> None:
        """Know that the next push to one of the branches starts such a task, for another commit."""

    def become(self, task: Task) -> NoReturn:
        """Replace this process by the program, or do as if: terminal, signals, exit status."""

    def end(self, app: str, mark: str) -> None:
        """End what a deployment has started and left, also after it was killed itself.

        Programs of kind `run` go on.
        """

    def end_runs(self, paths: AppPaths, token: str = "") -> None:
        """Stop the remains of a run that nobody attends to any more; without a token, of all runs.

        Those, consoles among them, get SIGTERM and some seconds. A platform that stops unattended
        runs by itself does nothing.
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


class Parts(Protocol):
    """All that a platform offers."""

    @property
    def apps(self) -> Apps:
        """The base of each app."""

    @property
    def instances(self) -> Instances:
        """The releases that run."""

    @property
    def schedule(self) -> Schedule:
        """The times of jobs."""

    @property
    def logs(self) -> Logs:
        """The output of instances."""

    @property
    def tasks(self) -> Tasks:
        """Programs that end."""

    @property
    def router(self) -> Router:
        """The proxy."""

    @property
    def certificates(self) -> Certificates:
        """The certificates of domains."""

    @property
    def toolchains(self) -> Toolchains:
        """Elixir and OTP for builds."""

    @property
    def databases(self) -> Databases:
        """PostgreSQL for apps."""

    @property
    def pools(self) -> Pools:
        """Pools of connections to databases."""
