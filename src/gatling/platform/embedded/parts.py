"""The parts of an embedded home's platform, each loaded when it is first used."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gatling.platform.embedded.home import EmbeddedHome
    from gatling.platform.embedded.supervisord import Supervisord
    from gatling.platform.interface import Apps, Instances, Logs, Schedule, Tasks
    from gatling.platform.services import Certificates, Databases, Pools, Router, Toolchains
    from gatling.state.database import Database


class EmbeddedParts:
    """Implements `Parts`; see there."""

    def __init__(self, home: EmbeddedHome, db: Database) -> None:
        self._home = home
        self._db = db

    @functools.cached_property
    def _programs(self) -> Supervisord:
        """The supervisor, which several parts use."""
        from gatling.platform.embedded.supervisord import Supervisord

        return Supervisord(self._home)

    @functools.cached_property
    def apps(self) -> Apps:
        """See Parts."""
        from gatling.platform.embedded.apps import EmbeddedApps

        return EmbeddedApps(self._home, self._programs)

    @functools.cached_property
    def instances(self) -> Instances:
        """See Parts."""
        from gatling.platform.embedded.instances import EmbeddedInstances

        return EmbeddedInstances(self._home, self._programs)

    @functools.cached_property
    def schedule(self) -> Schedule:
        """See Parts."""
        from gatling.platform.embedded.schedule import ClockSchedule

        return ClockSchedule(self._home, self._programs)

    @functools.cached_property
    def logs(self) -> Logs:
        """See Parts."""
        from gatling.platform.embedded.logs import FileLogs

        return FileLogs(self._home, self._programs)

    @functools.cached_property
    def tasks(self) -> Tasks:
        """See Parts."""
        from gatling.platform.embedded.tasks import LocalTasks

        return LocalTasks()

    @functools.cached_property
    def router(self) -> Router:
        """See Parts."""
        from gatling.platform.embedded.router import EmbeddedRouter

        return EmbeddedRouter(self._home, self._db, self._programs)

    @functools.cached_property
    def certificates(self) -> Certificates:
        """See Parts."""
        from gatling.platform.embedded.certificates import OwnCertificates

        return OwnCertificates(self._home, self._db)

    @functools.cached_property
    def toolchains(self) -> Toolchains:
        """See Parts."""
        from gatling.platform.embedded.toolchains import OwnToolchains

        return OwnToolchains(self._home)

    @functools.cached_property
    def databases(self) -> Databases:
        """See Parts."""
        from gatling.platform.embedded.databases import OwnDatabases

        return OwnDatabases(self._home, self._programs)

    @functools.cached_property
    def pools(self) -> Pools:
        """See Parts."""
        from gatling.platform.embedded.pools import OwnPools

        return OwnPools(self._home, self._programs)
