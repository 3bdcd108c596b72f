"""Whether an app opens more connections to its databases than those take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.errors import GatlingError
from gatling.platform.postgres.clusters import Cluster
from gatling.state import config, databases

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
    """
    uses = databases.attachments(gatling.db, app=app)
    text = config.of_app(gatling.db, app).get(POOL, "") if uses else ""
    pool = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else USUAL_POOL
    workers = sum(one.instances for one in settings.processes.values() if one.command)
    wanted = (2 + workers) * pool
    if not uses or wanted + RESERVED <= FEW:
        return ""
    for use in uses:
        record = databases.get(gatling.db, use.database)
        if record.state != "ready":
            continue
        try:
            found = gatling.databases.facts(Cluster(record.name, record.version, record.generation))
        except GatlingError:  # it does not run, which the app itself will report
            continue
        most = found.max_connections - RESERVED
        if wanted > most:
            with_workers = f" and {workers} workers" if workers else ""
            return (
                f"{POOL} {pool}: two instances{with_workers} open up to {wanted} connections during"
                f" a rolling deployment, and the database {use.database} takes {most}. Choose a"
                f" smaller pool: `gatling config set {app} {POOL}={max(1, most // (2 + workers))}`"
            )
    return ""
