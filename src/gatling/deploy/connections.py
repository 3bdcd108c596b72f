"""Whether an app opens more connections to its databases than those take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.deploy import pools
from gatling.errors import GatlingError
from gatling.platform.postgres import pooler
from gatling.state import config, databases
from gatling.state import pools as sizes

if TYPE_CHECKING:
    from gatling.platform.open import Gatling
    from gatling.project.settings import Settings

POOL = "POOL_SIZE"
"""The variable by which a generated Phoenix project chooses the size of its pool."""
USUAL_POOL = 10
"""Of a generated project, and of Ecto."""
RESERVED = 3
"""Connections that PostgreSQL keeps for superusers (superuser_reserved_connections)."""
FEW = 50
"""Connections that each database takes, also on a small machine: postgres/settings.py."""


def too_many(gatling: Gatling, app: str, settings: Settings) -> str:
    """A warning for an app whose nodes may be refused by a database; empty for any other.

    Counted are both instances of a rolling deployment and all workers, each with a pool of its own.
    A database that the app uses through a PgBouncer of its own gets the connections of that one.
    """
    uses = databases.attachments(gatling.db, app=app)
    if not uses:
        return ""
    values = config.of_app(gatling.db, app)
    text = values.get(POOL, "")
    pool = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else USUAL_POOL
    workers = sum(one.instances for one in settings.processes.values() if one.command)
    shared, size = pools.used(gatling, app, values), sizes.size(gatling.db, app) or pooler.SIZE
    for use in uses:
        is_shared = use.database in shared
        wanted = size if is_shared else (2 + workers) * pool
        most = _takes(gatling, use.database) if wanted + RESERVED > FEW else None
        if most is None or wanted <= most:
            continue
        if is_shared:
            return (
                f"the pool of {app} opens up to {wanted} connections, and the database"
                f" {use.database} takes {most}. Choose a smaller size:"
                f" `gatling db pool {app} --name {use.database} --size {most}`"
            )
        with_workers = f" and {workers} workers" if workers else ""
        return (
            f"{POOL} {pool}: two instances{with_workers} open up to {wanted} connections during"
            f" a rolling deployment, and the database {use.database} takes {most}. Choose a"
            f" smaller pool: `gatling config set {app} {POOL}={max(1, most // (2 + workers))}`,"
            f" or share connections: `gatling db pool {app} --name {use.database}`"
        )
    return ""


def _takes(gatling: Gatling, database: str) -> int | None:
    """The connections that a database takes from apps; None where that is not known."""
    record = databases.get(gatling.db, database)
    if record.state != "ready":
        return None
    from gatling.platform.postgres.clusters import Cluster  # few apps have a database

    try:
        found = gatling.databases.facts(Cluster(record.name, record.version, record.generation))
    except GatlingError:  # it does not run, which the app itself will report
        return None
    return found.max_connections - RESERVED
