"""Gatling with an open home: its records, and the platform that keeps its apps running."""

from __future__ import annotations

import contextlib
import getpass
import os
import pwd
import re
from typing import TYPE_CHECKING, cast

from gatling.paths import SERVER, exclusively, server_owner
from gatling.platform.homes import find_home, is_missing, is_server, open_home
from gatling.state import apps, moves
from gatling.state.database import Database, empty_database, open_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.paths import Home
    from gatling.platform.embedded.home import EmbeddedHome
    from gatling.platform.interface import Apps, Instances, Logs, Parts, Schedule, Tasks
    from gatling.platform.server.home import ServerHome
    from gatling.platform.services import Certificates, Databases, Pools, Router, Toolchains


class Gatling:
    """An open home. Every operation takes it as its first argument.

    A part of the platform is loaded when it is used: most commands use few.
    """

    __slots__ = ("_parts", "actor", "db", "home")

    def __init__(self, home: Home, db: Database, parts: Parts, actor: str) -> None:
        self.home = home
        self.db = db
        self._parts = parts
        self.actor = actor
        """The acting user, for the audit log."""

    @property
    def apps(self) -> Apps:
        """The base of each app."""
        return self._parts.apps

    @property
    def instances(self) -> Instances:
        """The releases that run."""
        return self._parts.instances

    @property
    def schedule(self) -> Schedule:
        """The times of jobs."""
        return self._parts.schedule

    @property
    def logs(self) -> Logs:
        """The output of instances."""
        return self._parts.logs

    @property
    def tasks(self) -> Tasks:
        """Programs that end."""
        return self._parts.tasks

    @property
    def router(self) -> Router:
        """The proxy."""
        return self._parts.router

    @property
    def certificates(self) -> Certificates:
        """The certificates of domains."""
        return self._parts.certificates

    @property
    def toolchains(self) -> Toolchains:
        """Elixir and OTP for builds."""
        return self._parts.toolchains

    @property
    def databases(self) -> Databases:
        """PostgreSQL for apps."""
        return self._parts.databases

    @property
    def pools(self) -> Pools:
        """Pools of connections to databases."""
        return self._parts.pools

    def configure_router(self) -> bool:
        """Make the proxy, and what guards the ports, know all apps as they are recorded now."""
        with exclusively(self.home, "router"):
            also = moves.served_here(self.db)
            every = [
                app for app in apps.every(self.db, clusters=True)
                if app.platform is None or app.name in also
            ]  # fmt: skip
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
    return Gatling(home, db, _parts(home, db), actor)


def _parts(home: Home, db: Database) -> Parts:
    if is_server(home.root):
        from gatling.platform.server.parts import ServerParts

        return ServerParts(cast("ServerHome", home))
    from gatling.platform.embedded.parts import EmbeddedParts

    return EmbeddedParts(cast("EmbeddedHome", home), db)


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
