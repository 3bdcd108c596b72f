"""A home, opened: its state, its supervisor and its proxy, as the commands work with them."""

from __future__ import annotations

import contextlib
import getpass
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatling.home import Home, exclusively, open_home
from gatling.router.embedded import EmbeddedRouter
from gatling.state import apps
from gatling.state.database import Database, open_database
from gatling.supervisor.embedded import EmbeddedSupervisor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.router.base import Router
    from gatling.supervisor.base import Supervisor


@dataclass(frozen=True, slots=True)
class Engine:
    """What commands and deployments work with."""

    home: Home
    db: Database
    supervisor: Supervisor
    router: Router
    actor: str
    """Who acts, for the audit."""

    def configure_router(self) -> bool:
        """Make the proxy know all apps, as they are recorded now."""
        with exclusively(self.home, "router"):
            return self.router.configure(apps.every(self.db))


@contextlib.contextmanager
def open_engine() -> Iterator[Engine]:
    """The engine of the home in use (`$GATLING_HOME`, `~/.gatling`)."""
    home = open_home()
    db = open_database(home.database)
    try:
        supervisor = EmbeddedSupervisor(home)
        yield Engine(home, db, supervisor, EmbeddedRouter(home, db, supervisor), current_user())
    finally:
        db.close()


def current_user() -> str:
    """Who runs this command: the key that came over SSH, else the user of the system."""
    actor = os.environ.get("GATLING_ACTOR")
    if actor:
        from gatling.state import keys  # noqa: PLC0415 (of no use to other commands)

        if keys.is_name(actor):
            return actor
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())
