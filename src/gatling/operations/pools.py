"""Pools of connections to databases: turning them on and off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.cleanup import cleaning
from gatling.deploy import pools as running
from gatling.deploy.connections import RESERVED
from gatling.errors import CommandFailed, InvalidInput, NotAllowed, NotFound
from gatling.operations import config as variables
from gatling.operations import databases, lifecycle
from gatling.paths import exclusively
from gatling.platform.postgres import pooler
from gatling.state import audit, config, pools

if TYPE_CHECKING:
    from gatling.platform.open import Gatling
    from gatling.ui.progress import Progress


class Pooled(Struct, frozen=True):
    """A database that an app uses through its pool."""

    database: str
    app: str
    variable: str
    """The config variable with the URL of the pool."""
    direct: str
    """The config variable with the URL of the database itself."""
    size: int
    """Connections that the pool opens to the database at most."""
    pgbouncer: str
    prepared: bool
    """Whether this version of PgBouncer supports named prepared statements."""
    changed: bool


def turn_on(
    gatling: Gatling, app: str, name: str | None, size: int | None, progress: Progress, *,
    may_install: bool, restart: bool = True,
) -> Pooled:  # fmt: skip
    """Let an app use a database through a pool, or change the size of its pool.

    Raises InvalidInput for a size that the database does not take and for a variable that has
    another value, NotAllowed where PgBouncer is missing and the user may not install it, and what a
    deployment raises. The app then has no new pool. A call that was killed is completed by the same
    call.
    """
    use = databases.use_of(gatling, app, name)
    record = databases.ready(gatling, app, use.database)
    gatling.pools.check(app)
    if use.database == pooler.CONSOLE:
        raise InvalidInput(f"A database of the name {use.database} can have no pool.")
    values, url = config.of_app(gatling.db, app), gatling.pools.url(app, use.database)
    variable, before = pooler.variable(use.variable), pools.size(gatling.db, app)
    if values.get(use.variable) != gatling.databases.url(app, use.database):
        raise InvalidInput(
            f"{use.variable} of {app} is not the URL of the database {use.database}.",
            hint=f"`gatling db attach {app} {record.app or use.database}` sets it.",
        )
    if values.get(variable) not in (None, url):
        raise InvalidInput(
            f"{app} has a variable {variable} with another value. Nothing was changed.",
            hint=f"`gatling config unset {app} {variable}` removes it.",
        )
    wanted = size or before or pooler.SIZE
    most = gatling.databases.facts(databases.cluster(record)).max_connections - RESERVED
    if wanted > most:
        raise InvalidInput(
            f"A pool of {wanted} connections is too large: the database {use.database} takes"
            f" {most}. Nothing was changed."
        )
    version = _installed(gatling, progress, may_install=may_install)
    lifecycle.ensure_up(gatling, progress)
    with exclusively(gatling.home, "databases"):
        pools.set_size(gatling.db, app, wanted)
        progress.phase(f"Starting a pool of {wanted} connections to {use.database} for {app}")
        try:
            running.settle(gatling, app)
        except BaseException as error:
            with cleaning(error):
                _return(gatling, app, before)
            raise
    try:
        changed = variables.change(gatling, app, {variable: url}, progress=progress,
                                   restart=restart)  # fmt: skip
    except BaseException as error:
        with cleaning(error):
            _return(gatling, app, before)
        raise
    if changed or wanted != before:
        detail = f"{use.database}, {wanted} connections"
        audit.record(gatling.db, gatling.actor, app, "db pool", detail)
    return Pooled(
        use.database, app, variable, use.variable, wanted, ".".join(map(str, version)),
        version >= pooler.PREPARED, changed or wanted != before,
    )  # fmt: skip


def notes(done: Pooled) -> list[str]:
    """Return the advice on the configuration of the app, as sentences."""
    return [] if done.prepared else [unprepared(done.pgbouncer)]


def unprepared(version: str) -> str:
    """The advice where this version of PgBouncer does not support named prepared statements."""
    return (
        f"PgBouncer {version} does not support named prepared statements. Set `prepare: :unnamed`"
        " for the repo that uses the pool."
    )


def turn_off(gatling: Gatling, app: str, name: str | None, progress: Progress) -> str:
    """Let an app use a database without its pool; the database's name.

    The pool is stopped once no release that uses it is retained. Raises NotFound for a database
    that the app does not use through a pool, and what a deployment raises.
    """
    use = databases.use_of(gatling, app, name)
    found = running.used(gatling, app, config.of_app(gatling.db, app))
    if use.database in found:
        change = {found[use.database]: None}
        variables.change(gatling, app, change, progress=progress)
    elif found or pools.size(gatling.db, app) is None:
        raise NotFound(
            f"{app} does not use the database {use.database} through a pool.",
            hint=f"`gatling db pool {app}` turns it on.",
        )
    with exclusively(gatling.home, "databases"):
        if not running.used(gatling, app, config.of_app(gatling.db, app)):
            pools.set_size(gatling.db, app, None)
        running.settle(gatling, app)
    audit.record(gatling.db, gatling.actor, app, "db pool", f"{use.database}, off")
    return use.database


def _return(gatling: Gatling, app: str, before: int | None) -> None:
    pools.set_size(gatling.db, app, before)
    running.settle(gatling, app)


def _installed(gatling: Gatling, progress: Progress, *, may_install: bool) -> tuple[int, int]:
    """The version of PgBouncer, which is installed if necessary."""
    if (found := gatling.pools.version()) is not None:
        return found
    if not may_install:
        raise NotAllowed(
            "PgBouncer is not installed on this server, and only an admin may install it.",
            hint="Ask an admin to turn on the first pool.",
        )
    progress.phase("Installing PgBouncer, which this host does not have")
    gatling.pools.install(progress.say)
    found = gatling.pools.version()
    if found is None:
        raise CommandFailed("PgBouncer is still not installed.")
    audit.record(gatling.db, gatling.actor, None, "db install",
                 f"PgBouncer {'.'.join(map(str, found))}")  # fmt: skip
    return found
