"""The parts of a server's platform, each loaded when it is first used."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gatling.platform.interface import Apps, Instances, Logs, Schedule, Tasks
    from gatling.platform.server.home import ServerHome
    from gatling.platform.services import Certificates, Databases, Pools, Router, Toolchains


class ServerParts:
    """Implements `Parts`; see there."""

    def __init__(self, home: ServerHome) -> None:
        self._home = home

    @functools.cached_property
    def apps(self) -> Apps:
        """See Parts."""
        from gatling.platform.server.apps import ServerApps

        return ServerApps(self._home)

    @functools.cached_property
    def instances(self) -> Instances:
        """See Parts."""
        from gatling.platform.server.instances import UnitInstances

        return UnitInstances(self._home)

    @functools.cached_property
    def schedule(self) -> Schedule:
        """See Parts."""
        from gatling.platform.server.schedule import TimerSchedule

        return TimerSchedule(self._home)

    @functools.cached_property
    def logs(self) -> Logs:
        """See Parts."""
        from gatling.platform.server.logs import JournalLogs

        return JournalLogs(self._home)

    @functools.cached_property
    def tasks(self) -> Tasks:
        """See Parts."""
        from gatling.platform.server.tasks import UnitTasks

        return UnitTasks()

    @functools.cached_property
    def router(self) -> Router:
        """See Parts."""
        from gatling.platform.server.router import SystemRouter

        return SystemRouter(self._home)

    @functools.cached_property
    def certificates(self) -> Certificates:
        """See Parts."""
        from gatling.platform.server.certificates import RootsCertificates

        return RootsCertificates()

    @functools.cached_property
    def toolchains(self) -> Toolchains:
        """See Parts."""
        from gatling.platform.server.toolchains import RootsToolchains

        return RootsToolchains()

    @functools.cached_property
    def databases(self) -> Databases:
        """See Parts."""
        from gatling.platform.server.databases import UnitDatabases

        return UnitDatabases(self._home)

    @functools.cached_property
    def pools(self) -> Pools:
        """See Parts."""
        from gatling.platform.server.pools import UnitPools

        return UnitPools()
