"""Gatling with an open home: records, supervisor, proxy and tasks, of either kind of home."""

from __future__ import annotations

import contextlib
import getpass
import os
import pwd
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatling.paths import SERVER, Home, exclusively, find_home, open_home, server_owner
from gatling.platform.server import units
from gatling.state import apps
from gatling.state.database import Database, empty_database, open_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gatling.platform.base import Supervisor, Tasks
    from gatling.platform.router import Router


@dataclass(frozen=True, slots=True)
class Gatling:
    """An open home. Every operation takes it as its first argument."""

    home: Home
    db: Database
    supervisor: Supervisor
    router: Router
    tasks: Tasks
    actor: str
    """Who acts, for the audit."""

    def push_address(self, app: str) -> str:
        """What git takes as the address of an app's repository."""
        if self.home.server:
            return f"{units.OWNER}@{os.uname().nodename}:{app}"
        return str(self.home.app(app).repository)

    def configure_router(self) -> bool:
        """Make the proxy, and what guards the ports, know all apps as they are recorded now."""
        with exclusively(self.home, "router"):
            every = apps.every(self.db)
            self.supervisor.guard({app.name: app.every_port for app in every})
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
    place = "" if home.server else str(home.root)
    if create or not _is_missing(home.database):
        db = open_database(open_home().database, place)
    else:
        db = empty_database(place)
    try:
        yield _server(home, db, actor) if home.server else _embedded(home, db, actor)
    finally:
        db.close()


def _is_missing(file: Path) -> bool:
    """Whether there certainly is no such file; any other trouble with it is for its opening."""
    try:
        file.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


_KEPT = re.compile(r"PATH|TERM|COLUMNS|LINES|LANG|LC_[A-Z]+|TZ|NO_COLOR|(GATLING|GIT)_[A-Z_]+")
"""What commands heed of root's environment; the rest is nothing for a process of gatling."""


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


def _server(home: Home, db: Database, actor: str) -> Gatling:
    from gatling.platform.server.router import SystemRouter
    from gatling.platform.server.systemd import SystemdSupervisor
    from gatling.platform.server.tasks import UnitTasks

    return Gatling(home, db, SystemdSupervisor(home), SystemRouter(home), UnitTasks(), actor)


def _embedded(home: Home, db: Database, actor: str) -> Gatling:
    from gatling.platform.embedded.router import EmbeddedRouter
    from gatling.platform.embedded.supervisor import EmbeddedSupervisor
    from gatling.platform.embedded.tasks import LocalTasks

    supervisor = EmbeddedSupervisor(home)
    router = EmbeddedRouter(home, db, supervisor)
    return Gatling(home, db, supervisor, router, LocalTasks(), actor)


def current_user() -> str:
    """Who runs this command: the key that came over SSH, else the user of the system."""
    actor = os.environ.get("GATLING_ACTOR")
    if actor:
        from gatling.state import keys

        if keys.is_name(actor):
            return actor
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())
