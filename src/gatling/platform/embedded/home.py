"""The layout of an embedded home: one directory, which belongs to its user.

state.db                    apps, releases, deployments, config, audit
bin/gatling                 this installation's command line, for the git hooks
apps/APP.git                bare repository that is pushed to
apps/APP/lock               held by the deployment that is under way
apps/APP/build/             source/ (kept: deps, _build), git/, ssh/, release/ (in the making)
apps/APP/releases/vN        immutable release trees
apps/APP/slots/N/           instance.json, pid, tmp/; for a process slots/worker.1/ and so on
apps/APP/route/             a file named 1, 2 or down: where the proxy sends requests;
                            maintenance.html, while it is on; static/, fingerprinted assets
apps/APP/logs/              instances.log, deployment-ID.log and .probe, job-NAME.log
apps/APP/jobs/              locks of jobs that run; schedule.json beside it: when they are due
authority/  certificates/   of HTTPS: see certificates.py
toolchains/                 Elixir and OTP in further versions, when they are installed
databases/                  PostgreSQL clusters, when there are any (databases.py)
nginx/  supervisor/  run/   files of the home's own programs
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.platform.local_paths import LocalHome, LocalPaths

if TYPE_CHECKING:
    from pathlib import Path


class EmbeddedPaths(LocalPaths):
    """Implements `AppPaths`; see there."""

    __slots__ = ()

    @property
    def repository(self) -> Path:
        """See AppPaths."""
        return self.home / "apps" / f"{self.name}.git"

    @property
    def root(self) -> Path:
        """See AppPaths."""
        return self.home / "apps" / self.name

    @property
    def cache(self) -> Path:
        """See AppPaths: one for all apps, which are one user's."""
        return self.home / "cache"

    @property
    def cache_anchor(self) -> Path:
        """See AppPaths."""
        return self.home

    @property
    def work(self) -> Path:
        """See AppPaths."""
        return self.root

    @property
    def work_mode(self) -> int:
        """See AppPaths."""
        return 0o600

    @property
    def route(self) -> Path:
        """See LocalPaths."""
        return self.root / "route"

    @property
    def instance_log(self) -> Path:
        """The output of the instances, with time and release."""
        return self.logs / "instances.log"

    def temporary(self, slot: int | str) -> str:
        """See AppPaths."""
        return str(self.slot(slot) / "tmp")

    @property
    def temporary_once(self) -> str:
        """See AppPaths: one for all of them."""
        return str(self.root / "tmp")

    def dumps(self, slot: int | str) -> Path:
        """See AppPaths."""
        return self.slot(slot)

    def private(self, slot: int | str) -> tuple[str, ...]:
        """See AppPaths."""
        return (str(self.slot(slot)),)

    @property
    def hook_command(self) -> str:
        """See AppPaths: relative, so that the home may be moved."""
        return "../../bin/gatling"


class EmbeddedHome(LocalHome):
    """Implements `Home`; see there."""

    __slots__ = ()

    def app(self, name: str) -> EmbeddedPaths:
        """See Home."""
        return EmbeddedPaths(self.root, name)

    @property
    def directories(self) -> tuple[str, ...]:
        """See Home."""
        return ("apps", "bin", "run", "supervisor", "supervisor/apps", "nginx")

    @property
    def title(self) -> str:
        """See Home."""
        return str(self.root)

    @property
    def toolchains(self) -> Path:
        """The toolchains that were installed into this home."""
        return self.root / "toolchains"

    @property
    def authority(self) -> Path:
        """The certificate authority of this home; there is none before `gatling up --tls`."""
        return self.root / "authority"

    @property
    def certificates(self) -> Path:
        """The certificates of apps, with their keys."""
        return self.root / "certificates"

    @property
    def renewal(self) -> Path:
        """The file with the Unix time at which the next certificate is renewed."""
        return self.certificates / "due"

    @property
    def databases(self) -> Path:
        """The PostgreSQL clusters of this home."""
        return self.root / "databases"

    @property
    def supervisor(self) -> Path:
        """Configuration and log of supervisord."""
        return self.root / "supervisor"

    @property
    def supervisor_socket(self) -> Path:
        """The socket on which supervisord listens."""
        return self.run / "supervisor.sock"

    @property
    def nginx(self) -> Path:
        """Configuration, logs and temporary files of the proxy."""
        return self.root / "nginx"
