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
    from gatling.platform.postgres.clusters import Cluster, Facts, Kept, Policy
    from gatling.platform.postgres.pgbackrest import Backup
    from gatling.platform.postgres.sites import Chosen, Made, Restored
    from gatling.platform.restarts import End
    from gatling.platform.toolchains.order import Order
    from gatling.platform.toolchains.store import Installed
    from gatling.platform.usage import Usage
    from gatling.process import Finished
    from gatling.proxy.certificates import Certificate
    from gatling.proxy.local_authority import Authority
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
        """Send all these instances SIGTERM, without waiting; `stop` follows for each."""

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

    def entries(self, app: str, after: str) -> Iterator[Entry]:
        """Yield the lines after a position, each with its own, then new ones; never ends.

        No line is missing, as long as the log keeps it. Without a position, new lines only.
        """

    def forward(self, app: str, ident: int, *, wanted: bool) -> None:
        """Have `gatling drains run APP.IDENT` run while it is wanted; restarted when it ends."""


class Router(Protocol):
    """Sends the requests for an app's domains to its live instance."""

    def ensure_running(self) -> None:
        """Make sure that the proxy takes requests; raises PortTaken or ProxyRefused."""

    def configure(self, apps: Sequence[App]) -> bool:
        """Make the proxy know these apps and no others; True when something changed.

        The configuration is tested before it takes effect. Raises ProxyRefused, leaving the
        previous one applied.
        """

    def check(self) -> None:
        """Test the current configuration. Raises ProxyRefused."""

    def point(self, app: str, slot: int | None) -> None:
        """Send an app's requests to the instance in a slot, at once and atomically.

        With None they are answered by the page that says the app is down.
        """

    def pointed(self, app: str) -> int | None:
        """The slot to which an app's requests are sent; None: to none."""

    def publish(self, app: str, page: str | None, trees: Sequence[Path]) -> None:
        """Serve the fingerprinted assets of these releases only, the first's before the others'.

        With `page`, all other requests are answered by that text, and status 503. Raises OSError.
        """

    def in_maintenance(self, app: str) -> bool:
        """Whether requests are answered by such a page."""

    def check_listen(self, address: str | None, tls: str | None = None) -> None:
        """Raise InvalidInput for what is no `[ADDRESS:]PORT`, or is not Gatling's to choose.

        None stands for the address that the proxy takes without being given one. Nothing is
        changed, and the home need not exist.
        """

    def listen_on(self, address: str | None, tls: str | None = None) -> None:
        """Take requests at `[ADDRESS:]PORT` from the next configuration of the proxy on.

        `tls` is the same for HTTPS, or AUTO or OFF of base.py. None changes nothing. Raises
        InvalidInput as `check_listen` does, and for a proxy without HTTPS; PortTaken.
        """

    def url(self, app: App) -> str:
        """The address at which people reach the app."""

    def probe_address(self) -> Address:
        """Return the address on which the proxy answers Gatling's own requests."""

    def tls_address(self) -> Address | None:
        """Return the TLS address of the domains that have a certificate; None: no TLS."""

    def is_public(self) -> bool:
        """Whether the proxy is meant for other machines, too."""

    def public_address(self) -> str | None:
        """The IP address at which other machines reach the proxy; None where it is not known."""

    def request_log(self) -> Path | None:
        """The log of requests, for proxy/request_log.py; None where the proxy keeps none."""

    def tidy_log(self) -> None:
        """Rotate that log if it has reached its size."""

    def offers_https(self) -> bool:
        """Whether people may reach apps over HTTPS, through this proxy or one in front of it."""

    def need_http3(self) -> None:
        """Raise InvalidInput for a proxy that does not serve HTTP/3."""


class Certificates(Protocol):
    """Keeps the certificates with which the proxy serves the domains of apps over HTTPS."""

    def of(self, app: str) -> list[Certificate]:
        """The certificates of an app, the one added last first."""

    def add(self, app: str, pem: str) -> tuple[Certificate, bool]:
        """Keep a certificate, from a text with chain and key; whether it is new.

        It is served once the proxy has been configured again. Raises InvalidInput for what
        browsers would not accept, and for a platform without HTTPS of its own.
        """

    def chain(self, app: str, certificate: str) -> str:
        """A certificate with its chain, as PEM; raises OSError."""

    def challenges(self) -> Path | None:
        """The directory of the answers to a CA's challenges; None where no CA can ask for them."""

    def request(self, app: str, domains: Sequence[str]) -> str:
        """Make a key for a certificate, and keep it: the request for a CA, as PEM."""

    def install(self, app: str, chain: str) -> tuple[Certificate, bool]:
        """Keep the certificate that a CA issued for the last request; whether it is new.

        Like `add`. The key of the request is removed when the chain is refused.
        """

    def copy(self, app: str, certificate: str, source: str) -> bool:
        """Keep a certificate of the app `source` for another app as well; whether it is new."""

    def obtain_later(self, app: str | None, seconds: float = 0) -> None:
        """Obtain the certificates that an app lacks in the background, after so many seconds.

        None stands for all apps, immediately.
        """

    def retire(self, app: str, certificate: str) -> None:
        """Let the next configuration of the proxy not serve with a certificate."""

    def keep(self, app: str, certificate: str) -> None:
        """Take that back."""

    def remove_retired(self, app: str) -> None:
        """Remove the retired ones of an app, with their keys, and what killed commands left."""

    def has_leftovers(self, app: str) -> bool:
        """Whether there is something that `remove_retired` would remove."""

    def authority(self) -> tuple[Authority, Path] | None:
        """The authority of the home itself, with the file of its certificate; None: it has none."""

    def replace_authority(self, apps: Sequence[App]) -> None:
        """Create another authority, which may vouch for the domains of these apps as well.

        Its certificates serve once the proxy has been configured again. Raises InvalidInput where
        only CAs make certificates.
        """

    def problems(self, app: App) -> list[str]:
        """Why the home's own authority makes no certificate for domains of an app, in words."""


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


class Toolchains(Protocol):
    """Elixir and OTP in versions that the host itself does not have, for builds of its apps."""

    def installed(self) -> list[Installed]:
        """The installed toolchains, the newest first."""

    def programs(self, name: str) -> Path:
        """The directory of an installed toolchain's programs."""

    def install(self, order: Order, say: Callable[[str], None]) -> Installed:
        """Install a toolchain, or find that it is installed.

        It waits a while for another installation.
        `say` gets lines about the progress. Raises InvalidInput for archives that are not what they
        should be, NotFound, DiskFull, CommandFailed; nothing is installed then.
        """

    def remove(self, name: str) -> None:
        """Remove an installed toolchain; raises NotFound."""


class Databases(Protocol):
    """PostgreSQL clusters of apps, one for each database.

    Apps connect over a socket whose path, like the URL, is that of the database, not of the cluster
    that it stands for. `apps` says who may use a database, `write` or `read`, and is complete.
    """

    def versions(self) -> list[int]:
        """The installed major versions of PostgreSQL, the newest first."""

    def offered(self) -> int | None:
        """The version that the distribution offers and that is not installed; None: unknown."""

    def install(self, version: int | None, say: Callable[[str], None]) -> None:
        """Install PostgreSQL, in the distribution's version unless one is given.

        Raises MissingProgram, with the command, where only somebody else can.
        """

    def check(self, database: str) -> None:
        """Raise InvalidInput where no database of this name can be created."""

    def exists(self, cluster: Cluster) -> bool:
        """Whether a cluster is there, running or not."""

    def create(self, cluster: Cluster, apps: Mapping[str, str]) -> None:
        """Create and start a cluster with its database, or complete a creation that was killed.

        Raises InvalidInput without that version, DiskFull or InvalidInput on a full disk.
        """

    def allow(self, cluster: Cluster, apps: Mapping[str, str]) -> None:
        """Let these apps use the database. Sessions of those that may do less are ended."""

    def url(self, app: str, database: str) -> str:
        """The value of DATABASE_URL with which an app reaches a database."""

    def facts(self, cluster: Cluster) -> Facts:
        """The state of a cluster, which must be running."""

    def shell(self, app: str, cluster: Cluster, words: Sequence[str]) -> Task:
        """psql in the database, with the rights of an app that may use it."""

    def keep(self, cluster: Cluster, stamp: str) -> Kept:
        """Write a last copy, and compare it with the database, which no app may use any more.

        Raises InvalidInput for a disk without room and for a copy that is not complete.
        """

    def backup(
        self, cluster: Cluster, apps: Mapping[str, str], policy: Policy, say: Callable[[str], None]
    ) -> Made:
        """Make a backup, and prove it by a restore that is compared with the database.

        Raises InvalidInput, DiskFull and MissingProgram before anything was written, and
        CommandFailed for a backup that was not made. One that was made may be unproved.
        """

    def restore(
        self, cluster: Cluster, source: Cluster, chosen: Chosen, say: Callable[[str], None]
    ) -> Restored:
        """Restore a backup into a cluster that is not there, or that a killed restore has left.

        `create` starts it. Raises InvalidInput and DiskFull before anything is written, and
        CommandFailed.
        """

    def can_back_up(self) -> bool:
        """Whether the program that makes backups is installed."""

    def install_backups(self, say: Callable[[str], None]) -> None:
        """Install that program; raises MissingProgram where only somebody else can."""

    def backups(self, database: str) -> list[Backup]:
        """All backups of a database, the oldest first; also those of its earlier clusters."""

    def remove(self, cluster: Cluster, kept: str) -> None:
        """Remove a cluster of which that copy was kept, or what is left of it."""


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
