"""Gatling with an open home: its records, and the platform that keeps its apps running."""

from __future__ import annotations

import contextlib
import getpass
import os
import pwd
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatling.paths import SERVER, exclusively, server_owner
from gatling.platform.embedded.home import EmbeddedHome
from gatling.platform.homes import find_home, is_missing, open_home
from gatling.platform.server.home import ServerHome
from gatling.state import apps
from gatling.state.database import Database, empty_database, open_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.paths import Home
    from gatling.platform.base import Apps, Certificates, Instances, Logs, Router, Schedule, Tasks


@dataclass(frozen=True, slots=True)
class Gatling:
    """An open home. Every operation takes it as its first argument."""

    home: Home
    db: Database
    apps: Apps
    instances: Instances
    schedule: Schedule
    logs: Logs
    tasks: Tasks
    router: Router
    certificates: Certificates
    actor: str
    """The acting user, for the audit log."""

    def configure_router(self) -> bool:
        """Make the proxy, and what guards the ports, know all apps as they are recorded now."""
        with exclusively(self.home, "router"):
            every = apps.every(self.db)
            self.apps.guard({app.name: app.every_port for app in every})
            return self.router.configure(every)


@contextlib.contextmanager
def open_gatling(*, create: bool = True) -> Iterator[Gatling]:
    """Gatling with the home in use: `$GATLING_HOME`, the server's, or `~/.gatling`.

    With `create` False a home that does not exist is not created: it is an empty one, which only
    commands that change nothing can work with.
    """
    actor = current_user()
    step_down()
    home = find_home()
    if create or not is_missing(home):
        db = open_database(open_home().database, home.title)
    else:
        db = empty_database(home.title)
    try:
        yield opened(home, db, actor)
    finally:
        db.close()


_KEPT = re.compile(r"PATH|TERM|COLUMNS|LINES|LANG|LC_[A-Z]+|TZ|NO_COLOR|(GATLING|GIT)_[A-Z_]+")
"""The variables of root's environment that commands use; gatling's processes get no others."""


def step_down() -> None:
    """On a server root's commands go on as gatling, for good: nothing of apps is root's to do."""
    owner = server_owner()
    if os.geteuid() != 0 or not owner or os.environ.get("GATLING_HOME"):
        return
    user = pwd.getpwuid(owner)
    os.initgroups(user.pw_name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    os.chdir(SERVER)
    kept = {name: value for name, value in os.environ.items() if _KEPT.fullmatch(name)}
    os.environ.clear()
    os.environ.update(kept)
    os.environ.update(HOME=user.pw_dir, USER=user.pw_name, LOGNAME=user.pw_name)


def opened(home: Home, db: Database, actor: str) -> Gatling:
    """Gatling with the platform of a home; only that one's modules are loaded."""
    if isinstance(home, ServerHome):
        return _on_server(home, db, actor)
    if isinstance(home, EmbeddedHome):
        return _embedded(home, db, actor)
    raise TypeError(f"no platform for {home!r}")


def _on_server(home: ServerHome, db: Database, actor: str) -> Gatling:
    from gatling.platform.server.apps import ServerApps
    from gatling.platform.server.certificates import RootsCertificates
    from gatling.platform.server.instances import UnitInstances
    from gatling.platform.server.logs import JournalLogs
    from gatling.platform.server.router import SystemRouter
    from gatling.platform.server.schedule import TimerSchedule
    from gatling.platform.server.tasks import UnitTasks

    return Gatling(
        home,
        db,
        apps=ServerApps(home),
        instances=UnitInstances(home),
        schedule=TimerSchedule(home),
        logs=JournalLogs(home),
        tasks=UnitTasks(),
        router=SystemRouter(home),
        certificates=RootsCertificates(),
        actor=actor,
    )


def _embedded(home: EmbeddedHome, db: Database, actor: str) -> Gatling:
    from gatling.platform.embedded.apps import EmbeddedApps
    from gatling.platform.embedded.certificates import NoCertificates
    from gatling.platform.embedded.instances import EmbeddedInstances
    from gatling.platform.embedded.logs import FileLogs
    from gatling.platform.embedded.router import EmbeddedRouter
    from gatling.platform.embedded.schedule import ClockSchedule
    from gatling.platform.embedded.supervisord import Supervisord
    from gatling.platform.embedded.tasks import LocalTasks

    programs = Supervisord(home)
    return Gatling(
        home,
        db,
        apps=EmbeddedApps(home, programs),
        instances=EmbeddedInstances(home, programs),
        schedule=ClockSchedule(home, programs),
        logs=FileLogs(home),
        tasks=LocalTasks(),
        router=EmbeddedRouter(home, db, programs),
        certificates=NoCertificates(),
        actor=actor,
    )


def current_user() -> str:
    """Return the name of the user of this command: that of the SSH key, else the system user."""
    actor = os.environ.get("GATLING_ACTOR")
    if actor:
        from gatling.state import keys

        if keys.is_name(actor):
            return actor
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())
