"""Pools of connections of a server: a unit for each app, written by root's helper."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling import process
from gatling.errors import CommandFailed
from gatling.platform.postgres import clusters, pooler
from gatling.platform.server import pool_units, units
from gatling.platform.server.databases import asked
from gatling.platform.server.helper import client
from gatling.platform.server.tasks import attend

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class UnitPools:
    """Implements `Pools`; see there for the calls."""

    def version(self) -> tuple[int, int] | None:
        """See Pools."""
        if not pool_units.PROGRAM.exists():
            return None
        words = [str(pool_units.PROGRAM), "--version"]
        return pooler.version(process.run(words, timeout=30, check=False).text)

    def install(self, say: Callable[[str], None]) -> None:
        """See Pools: by root's helper."""
        answer, tail, _ = asked(lambda: attend("pool-install", {}, say))
        if answer.get("status") != 0:
            raise CommandFailed("PgBouncer was not installed.", log=tail)

    def check(self, app: str) -> None:
        """See Pools."""

    def url(self, app: str, database: str) -> str:
        """See Pools."""
        return clusters.url(units.user(app), database, str(pool_units.sockets(app)))

    def exists(self, app: str) -> bool:
        """See Pools."""
        return pool_units.configuration(app).exists()

    def set(self, app: str, databases: Sequence[str], size: int) -> None:
        """See Pools."""
        asked(lambda: client.ask("pool", app=app, databases=sorted(databases), size=size))

    def remove(self, app: str) -> None:
        """See Pools."""
        asked(lambda: client.ask("pool-remove", app=app))
