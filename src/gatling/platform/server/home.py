"""The layout of a server: directories apart, by who may write them (docs/security.md).

/var/lib/gatling/home/              gatling's: state.db, bin/, run/, .ssh/
/var/lib/gatling/apps/APP/          gatling's, for the app's user to pass and read: releases/, git/
/var/lib/gatling/apps/APP/build/    the app's user's: source/, git/, ssh/, release/, cache/
/var/lib/gatling/apps/APP/work/     both may write: files that nodes and Gatling exchange
/var/lib/gatling/apps/APP/state/    the app's user's: HOME of its instances
/var/lib/gatling/routes/APP/        gatling's, for nginx to read
/var/lib/gatling/challenges/        gatling's, for nginx to read: answers to the challenges of a CA
/var/lib/gatling/instances/         root's: the commands that systemd starts in the slots
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.platform.local_paths import LocalHome, LocalPaths

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 (of the unit alone: PrivateTmp=)
SYSTEM_COMMAND = "/usr/local/bin/gatling"


class ServerPaths(LocalPaths):
    """Implements `AppPaths`; see there. The app has a user of its own, who may write in few."""

    __slots__ = ()

    @property
    def repository(self) -> Path:
        """See AppPaths."""
        return self.root / "git"

    @property
    def root(self) -> Path:
        """See AppPaths."""
        return self.home.parent / "apps" / self.name

    @property
    def cache(self) -> Path:
        """See AppPaths: each app's own, because one's builds must not write what another's run."""
        return self.build / "cache"

    @property
    def cache_anchor(self) -> Path:
        """See AppPaths."""
        return self.root

    @property
    def work(self) -> Path:
        """See AppPaths."""
        return self.root / "work"

    @property
    def work_mode(self) -> int:
        """See AppPaths: nobody but the two can enter the directory."""
        return 0o666

    @property
    def state(self) -> Path:
        """The directory of the app's own that outlives its instances."""
        return self.root / "state"

    @property
    def route(self) -> Path:
        """See LocalPaths."""
        return self.home.parent / "routes" / self.name

    def temporary(self, slot: int | str) -> str:  # noqa: ARG002 (each has its own there)
        """See AppPaths."""
        return PRIVATE[0]

    @property
    def temporary_once(self) -> str:
        """See AppPaths."""
        return PRIVATE[0]

    def dumps(self, slot: int | str) -> Path:  # noqa: ARG002 (there is one place for all)
        """See AppPaths."""
        return self.state

    def private(self, slot: int | str) -> tuple[str, ...]:  # noqa: ARG002 (each has its own there)
        """See AppPaths."""
        return PRIVATE

    @property
    def hook_command(self) -> str:
        """See AppPaths."""
        return SYSTEM_COMMAND


class ServerHome(LocalHome):
    """Implements `Home`; see there."""

    __slots__ = ()

    def app(self, name: str) -> ServerPaths:
        """See Home."""
        return ServerPaths(self.root, name)

    @property
    def directories(self) -> tuple[str, ...]:
        """See Home."""
        return ("bin", "run")

    @property
    def title(self) -> str:
        """See Home."""
        return ""
