"""The services of a host around the instances of apps: proxy, certificates, toolchains, databases.

They belong to the interface of a platform; see interface.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from gatling.platform.base import Address, Task
    from gatling.platform.postgres.clusters import Cluster, Facts, Kept, Policy
    from gatling.platform.postgres.pgbackrest import Backup
    from gatling.platform.postgres.points import Place
    from gatling.platform.postgres.repository import Repository
    from gatling.platform.postgres.sites import Chosen, Forked, ForkWish, Made, Restored, Upgraded
    from gatling.platform.postgres.volume import Volume
    from gatling.platform.toolchains.order import Order
    from gatling.platform.toolchains.store import Installed
    from gatling.proxy.certificates import Certificate
    from gatling.proxy.local_authority import Authority
    from gatling.state.apps import App


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

    def need_http3(self, *, applied: bool = False) -> None:
        """Raise InvalidInput for a proxy that does not serve HTTP/3.

        With `applied`, also for one that could, but leaves it out beside another site.
        """


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

    def fork(
        self,
        cluster: Cluster,
        source: Cluster,
        apps: Mapping[str, str],
        wish: ForkWish,
        say: Callable[[str], None],
    ) -> Forked:
        """Fork a running cluster into one that is not there, or that a killed fork has left.

        `apps` are those of the source. `create` starts the fork, and `remove` removes it without a
        copy until `own` was called. Raises InvalidInput and DiskFull before anything is written,
        CommandFailed, and InvalidInput for a script that failed.
        """

    def own(self, cluster: Cluster) -> None:
        """Take a fork for a database like others, of which a copy is kept when it is removed."""

    def can_install(self, version: int) -> bool:
        """Whether `install` can install a version that is missing."""

    def upgrade(
        self, old: Cluster, new: Cluster, say: Callable[[str], None], *, rehearsal: bool
    ) -> Upgraded:
        """Upgrade a cluster into a new one, or rehearse that on a copy, which is removed again.

        `create` starts the new one. The old one is stopped, and stays, unless this is a rehearsal
        or fails. Raises InvalidInput and DiskFull before anything is changed, and CommandFailed.
        """

    def retire(self, cluster: Cluster) -> None:
        """Stop a cluster in whose place another one is used; it stays."""

    def is_left(self, cluster: Cluster) -> bool:
        """Whether an upgrade that was cut off has left this cluster, which is used, stopped.

        `create` starts it.
        """

    def analyze(self, cluster: Cluster) -> None:
        """Have a cluster gather the statistics of its planner."""

    def point(self, cluster: Cluster, name: str) -> Place:
        """Make a restore point with a name in the log of a cluster, which must be running.

        Raises InvalidInput and CommandFailed, within half a minute.
        """

    def can_back_up(self) -> bool:
        """Whether the program that makes backups is installed."""

    def install_backups(self, say: Callable[[str], None]) -> None:
        """Install that program; raises MissingProgram where only somebody else can."""

    def backups(self, database: str) -> list[Backup]:
        """All backups of a database, the oldest first; also those of its earlier clusters."""

    def repository(self) -> Repository:
        """The place of backups, without secrets."""

    def set_repository(self, wanted: Repository, *, keep: bool) -> None:
        """Keep further backups elsewhere, if that can be used; `keep` the passphrase of before.

        Raises InvalidInput with the repository of before.
        """

    def volume(self, action: str, count: int = 0, *, move: bool = False) -> Volume:
        """Show the file system of all clusters, or create or enlarge a volume: see volume.py.

        Raises InvalidInput before anything is changed.
        """

    def can_create_volume(self) -> bool:
        """Whether the programs that create a volume are installed."""

    def install_volume(self, say: Callable[[str], None]) -> None:
        """Install them."""

    def keep_former(self, cluster: Cluster, stamp: str) -> Kept:
        """Do so for a cluster that is stopped, because another one of the database is used.

        It is stopped again. The cluster that is used may be stopped as well.
        """

    def remove(self, cluster: Cluster, kept: str) -> None:
        """Remove a cluster, or what is left of it. `kept` is a last copy that has its data.

        A cluster of which others of the same database are kept is removed after these.
        """


class Pools(Protocol):
    """Pools of connections between apps and their databases: a PgBouncer for each app with one."""

    def version(self) -> tuple[int, int] | None:
        """The version of PgBouncer; None: it is not installed."""

    def install(self, say: Callable[[str], None]) -> None:
        """Install PgBouncer from the distribution, whose own service does not run then.

        Raises MissingProgram, with the command, where only somebody else can.
        """

    def check(self, app: str) -> None:
        """Raise InvalidInput where the app can have no pool."""

    def url(self, app: str, database: str) -> str:
        """The URL with which an app reaches a database through its pool."""

    def exists(self, app: str) -> bool:
        """Whether there is a pool of an app, running or not."""

    def set(self, app: str, databases: Sequence[str], size: int) -> None:
        """Have a pool of an app with so many connections to each of these databases.

        One that runs goes on with its connections. While a home is down its pools wait for `up`.
        Raises InvalidInput without PgBouncer, and CommandFailed.
        """

    def remove(self, app: str) -> None:
        """Stop the pool of an app, if there is one, and remove its files."""
